// The heads as a grid, layers by heads: solid stays, hollow goes, colour and letter name the cluster.
// Arrow keys move, Enter or a click presses a head, i or Shift asks about it.

import { make } from "./elements.js";

const has = (packed, head) => (packed[head >> 3] >> (7 - (head & 7))) & 1;
const PRUNED = 0, KEPT = 1, BACK = 2, UNKNOWN = 3;
const WORDS = ["pruned", "kept", "kept so that its layer is not empty"];
const CLASSES = ["cell", "cell kept", "cell kept back"];

export class Heads {
  // `pressed(head, asked)` is told of a press; `hint` says what Enter does. `places` are the layers' indices in the model,
  // where others between them have no heads.
  constructor(parent, { layers, heads, places }, hint, pressed) {
    this.heads = heads;
    this.places = places;
    this.pressed = pressed;
    this.focus = 0;
    this.grid = make("div", "grid", parent);
    this.grid.setAttribute("role", "grid");
    this.grid.setAttribute("aria-label", `${layers} layers of ${heads} heads${hint}`);
    this.grid.style.setProperty("--heads", heads);
    const axis = make("div", "row", this.grid);
    axis.setAttribute("aria-hidden", "true");
    make("span", "corner", axis, "layer");
    const step = heads <= 16 ? 1 : heads <= 32 ? 4 : 8;
    for (let index = 0; index < heads; index++) make("span", "axis", axis, index % step ? "" : String(index));
    this.cells = [];
    for (let layer = 0; layer < layers; layer++) this.layer(layer, layers);
    this.cells[0].tabIndex = 0;
    this.drawn = new Uint8Array(this.cells.length).fill(UNKNOWN);
    this.grid.onclick = (event) => {
      const cell = event.target.closest(".cell");
      if (cell) this.press(Number(cell.dataset.head), event.shiftKey);
    };
    this.grid.onkeydown = (event) => this.key(event);
    this.grid.onmouseover = this.grid.onfocusin = (event) => {
      const cell = event.target.closest(".cell");
      if (cell) this.pointed = Number(cell.dataset.head);
      this.say();
    };
    this.said = make("p", "say", parent, "");
    this.versus = legend(make("p", "legend", parent));
  }

  layer(layer, layers) {
    const row = make("div", "row", this.grid);
    row.setAttribute("role", "row");
    make("span", "axis", row, layers <= 16 || layer % 4 === 0 ? String(this.called(layer)) : "").setAttribute("aria-hidden", "true");
    for (let index = 0; index < this.heads; index++) {
      const cell = make("button", "cell", row);
      cell.type = "button";
      cell.setAttribute("role", "gridcell");
      cell.tabIndex = -1;
      cell.dataset.head = this.cells.length;
      this.cells.push(cell);
    }
  }

  // Cells of so many pixels; letters need room.
  fit(cell) {
    this.grid.style.setProperty("--cell", `${cell}px`);
    this.grid.classList.toggle("small", cell < 20);
  }

  press(head, asked) {
    this.move(head);
    this.pressed(head, asked);
  }

  move(head) {
    this.cells[this.focus].tabIndex = -1;
    this.focus = head;
    this.cells[head].tabIndex = 0;
  }

  key(event) {
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.heads, ArrowDown: this.heads };
    if (event.key in moves) {
      const next = this.focus + moves[event.key];
      if (next < 0 || next >= this.cells.length) return;
      this.move(next);
      this.cells[next].focus();
      event.preventDefault();
    } else if (event.key === "i") {
      this.press(this.focus, true);
    }
  }

  // Clusters: their colours and names. They change on release, not while dragging, so that nothing flickers.
  // `pinned` are the bits of another mask, A: what only one of the two keeps is marked.
  paint({ labels, tints, colours, inks, names, selected, still }, covers, pinned) {
    Object.assign(this, { labels, names, selected, covers, pinned });
    this.versus.hidden = !pinned;
    const small = this.grid.classList.contains("small");
    this.cells.forEach((cell, head) => {
      cell.style.setProperty("--hue", colours[tints[head]]);
      cell.style.setProperty("--ink", inks[tints[head]]);
      cell.textContent = small ? "" : names[labels[head]];
      if (still) cell.setAttribute("aria-disabled", "true");
    });
    this.drawn.fill(UNKNOWN);
  }

  // Which heads stay; only those that change are touched.
  show(state) {
    const back = new Set(state.rescued ?? []);
    for (let head = 0; head < this.cells.length; head++) {
      const now = has(state.bits, head) ? (back.has(head) ? BACK : KEPT) : PRUNED;
      if (now === this.drawn[head]) continue;
      this.drawn[head] = now;
      const cell = this.cells[head], only = this.only(head, now !== PRUNED);
      cell.className = `${CLASSES[now]}${head === this.selected ? " selected" : ""}${only ? ` only-${only}` : ""}`;
      cell.setAttribute("aria-selected", now === PRUNED ? "false" : "true");
      const alone = only ? `, ${only.toUpperCase()} alone keeps it` : "";
      cell.setAttribute("aria-label", `${this.place(head)}: ${WORDS[now]}, cluster ${this.names[this.labels[head]]}${alone}`);
    }
    this.say();
  }

  // Which of A, that was pinned, and B, that is shown, keeps a head that the other does not.
  only(head, kept) {
    if (!this.pinned || Boolean(has(this.pinned, head)) === kept) return "";
    return kept ? "b" : "a";
  }

  place(head) {
    return `Layer ${this.called(Math.floor(head / this.heads))}, head ${head % this.heads}`;
  }

  called(layer) {
    return this.places ? this.places[layer] : layer;
  }

  // What is pointed at, or asked about, in words; and who covers for it, where that is told.
  say() {
    const head = this.pointed ?? this.selected;
    if (head == null) return;
    const cover = this.covers?.[head];
    const shared = cover !== undefined && this.labels[cover] === this.labels[head];
    const other = cover === undefined ? "" : this.place(cover).toLowerCase();
    const who = shared ? `its nearest survivor is ${other}` : `no other head of its cluster stays, the nearest survivor is ${other}`;
    this.said.textContent = `${this.cells[head].getAttribute("aria-label")}${cover === undefined ? "" : `; ${who}`}`;
  }
}

function legend(parent) {
  make("span", "mark kept", parent);
  parent.append("kept ");
  make("span", "mark", parent);
  parent.append("pruned ");
  make("span", "mark kept back", parent);
  parent.append("kept so that no layer is empty · one letter, one cluster of heads that do the same");
  const versus = make("span", "versus", parent, " ");
  make("span", "mark only-a", versus);
  versus.append("A alone keeps it ");
  make("span", "mark only-b", versus);
  versus.append("B alone keeps it");
  return versus;
}
