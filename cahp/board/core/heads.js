// The heads as a grid, layers by heads: kept heads are solid, pruned ones light; the letter shows the cluster, colour and
// stripes its family, the same at every budget. Arrow keys move, Enter or a click presses a head; the key i, Shift or the button below the grid
// asks for its card, or where the host has no cards for its replacement head. Hovering lights a cluster, and the host hears of it by `pointing`; the cluster of the head that was asked about stays outlined, with the replacement head in a card beside it.

import { make, unpacked } from "./elements.js";

const has = (packed, head) => (packed[head >> 3] >> (7 - (head & 7))) & 1;
const PRUNED = 0, KEPT = 1, BACK = 2, UNKNOWN = 3;
const WORDS = ["pruned", "kept", "kept so that no layer is empty"];
const CLASSES = ["cell", "cell kept", "cell kept back"];
const LETTERED = 17; // px: letters in smaller cells are not readable
const WORDED = 30; // px: room for a sign of more than two letters
const CLUSTERS = "Letter: cluster · colour, stripes: family";
const CARD = 230; // px: the width in board.css

export class Heads {
  // `pressed(head, asked)` is called for each press; `hint` tells what Enter does. `places` are the layers' indices in
  // the model, if layers between them have no heads. A cell is a `unit`: a head, or a group of heads. With `cards` the
  // host has a card of each.
  constructor(parent, { layers, heads, places, unit, cards }, hint, pressed) {
    this.heads = heads;
    this.cards = cards;
    this.unit = unit;
    this.places = places;
    this.sizes = parent.style;
    this.pressed = pressed;
    this.focus = 0;
    // The card is open from a press until the pointer or the focus leaves the board.
    this.dismissed = true;
    this.frame = make("div", "frame", parent);
    this.grid = make("div", "grid", this.frame);
    this.card = make("div", "card", this.frame);
    // A screen reader reads the same text below the grid.
    this.card.setAttribute("aria-hidden", "true");
    this.card.hidden = true;
    this.grid.setAttribute("role", "grid");
    this.grid.setAttribute("aria-label", `${layers} layers of ${heads} ${unit}s${hint}`);
    // A model of many layers with few heads lies on its side: its rows stand beside each other.
    this.turned = layers > 2 * heads;
    this.grid.classList.toggle("turned", this.turned);
    const axis = make("div", "row", this.grid);
    axis.setAttribute("aria-hidden", "true");
    make("span", "corner", axis, "layer");
    for (let index = 0; index < heads; index++) make("span", "axis", axis, `${this.turned ? `${unit} ` : ""}${numbered(index, index, heads)}`);
    this.cells = [];
    for (let layer = 0; layer < layers; layer++) this.row(layer, layers);
    this.cells[0].tabIndex = 0;
    this.drawn = new Uint8Array(this.cells.length).fill(UNKNOWN);
    this.grid.onclick = (event) => {
      const cell = event.target.closest(".cell");
      if (cell) this.press(Number(cell.dataset.head), event.shiftKey);
    };
    this.grid.onkeydown = (event) => this.pressKey(event);
    const point = (event) => {
      const cell = event.target.closest(".cell");
      if (cell) this.pointed = Number(cell.dataset.head);
      if (this.pointed === this.selected) this.dismissed = false;
      this.light(cell ? this.groups?.[this.pointed] : undefined);
      this.pointing?.(cell ? this.pointed : undefined);
      this.say();
    };
    for (const name of ["mouseover", "focusin"]) this.grid.addEventListener(name, point);
    for (const name of ["mouseleave", "focusout"]) this.grid.addEventListener(name, () => this.dismiss());
  }

  // Add the words below the grid.
  describe(parent) {
    [this.key, this.versus] = legend(make("p", "legend", parent));
    const line = make("p", "say", parent);
    this.said = make("span", "", line);
    this.opener = make("button", "open-card", line, "Open its card (i)");
    this.opener.type = "button";
    this.opener.hidden = true;
    this.opener.onclick = () => this.press(this.pointed ?? this.selected, true);
  }

  row(layer, layers) {
    const row = make("div", "row", this.grid);
    row.setAttribute("role", "row");
    make("span", "axis", row, numbered(layer, this.called(layer), layers)).setAttribute("aria-hidden", "true");
    for (let index = 0; index < this.heads; index++) {
      const cell = make("button", "cell", row);
      cell.type = "button";
      cell.setAttribute("role", "gridcell");
      cell.tabIndex = -1;
      cell.dataset.head = this.cells.push(cell) - 1;
    }
  }

  // Set the number of columns and the size of cells in pixels; small ones have no letters.
  fit(columns, cell) {
    this.sizes.setProperty("--columns", columns);
    this.sizes.setProperty("--cell", `${cell}px`);
    this.grid.classList.toggle("small", cell < 20);
    // A touch target needs 24 px: narrow cells get the room between them.
    this.grid.classList.toggle("tight", cell < 28);
    this.size = cell;
    if (this.labels) this.letter();
  }

  press(head, asked) {
    this.dismissed = false;
    this.move(head);
    this.pressed(head, asked);
  }

  move(head) {
    this.cells[this.focus].tabIndex = -1;
    this.focus = head;
    this.cells[head].tabIndex = 0;
  }

  pressKey(event) {
    const [across, down] = this.turned ? [this.heads, 1] : [1, this.heads];
    const moves = { ArrowLeft: -across, ArrowRight: across, ArrowUp: -down, ArrowDown: down };
    if (event.key in moves) {
      const next = this.focus + moves[event.key];
      if (next < 0 || next >= this.cells.length) return;
      this.move(next);
      this.cells[next].focus();
      event.preventDefault();
    } else if (event.key === "i") {
      this.press(this.focus, true);
    } else if (event.key === "Escape") {
      this.dismiss();
    }
  }

  // Close the card, and highlight no cluster.
  dismiss() {
    this.dismissed = true;
    this.light();
    this.pointing?.();
    this.say();
  }

  // Draw colours and names of the clusters, or another `colouring`. They change on release, not while dragging, so that
  // nothing flickers. `pinned` are the bits of another mask, A; heads that only one of the two keeps are marked.
  paint({ labels, names, selected, striped, ...clusters }, pinned, colouring) {
    Object.assign(this, { labels, names, selected, pinned });
    this.groups = colouring?.groups ?? labels;
    this.signs = colouring?.signs ?? names;
    this.words = colouring?.words ?? names.map((name) => `cluster ${name}`);
    // Groups of a colouring have a colour each.
    const { tints, colours, inks } = colouring?.groups ? { ...colouring, tints: colouring.groups } : clusters;
    this.explain(colouring, colours);
    this.picture(colouring);
    this.versus.hidden = !pinned;
    this.striped = (head) => tints === clusters.tints && tints[head] >= striped;
    this.cells.forEach((cell, head) => {
      const ink = inks[tints[head]];
      cell.style.setProperty("--hue", colours[tints[head]]);
      cell.style.setProperty("--ink", ink);
      // Stripes contrast with the letter, so that it stays readable.
      cell.style.setProperty("--away", ink === "#000000" ? "#ffffff" : "#000000");
    });
    this.letter();
    this.drawn.fill(UNKNOWN);
  }

  // Give each cell its picture of a colouring that has some; the style sheet fades those of pruned heads.
  picture({ pictures, size } = {}) {
    this.grid.classList.toggle("pictured", Boolean(pictures));
    if (pictures === this.pictures) return;
    this.pictures = pictures;
    if (!pictures) return;
    const bytes = unpacked(pictures), canvas = document.createElement("canvas");
    canvas.width = canvas.height = size;
    const context = canvas.getContext("2d"), image = context.createImageData(size, size);
    this.cells.forEach((cell, head) => {
      // The picture is a mask over the colour of the text, which follows the theme.
      for (let at = 0; at < size * size; at++) image.data[4 * at + 3] = bytes[head * size * size + at];
      context.putImageData(image, 0, 0);
      cell.style.setProperty("--picture", `url(${canvas.toDataURL()})`);
    });
  }

  letter() {
    if (this.pictures) return this.cells.forEach((cell) => cell.replaceChildren(make("span", "picture")));
    this.cells.forEach((cell, head) => {
      const sign = this.signs[this.groups[head]];
      cell.textContent = this.size >= (sign.length > 2 ? WORDED : LETTERED) ? sign : "";
    });
  }

  // Tell what the colours mean: a spot and the number of heads of each group, unless the groups are clusters.
  explain(colouring, colours) {
    this.key.replaceChildren();
    this.chips?.replaceChildren();
    this.counted = [];
    if (!colouring) return this.key.append(CLUSTERS);
    colouring.words?.forEach((words, group) => {
      const head = this.groups.indexOf(group);
      if (head < 0) return;
      if (this.chips) return this.chip(words.replace(/ head$/, ""), group, colours[group]);
      const count = this.groups.filter((other) => other === group).length;
      item(this.key, "mark kept", `${words} (${count})`).style.background = colours[group];
    });
    this.key.append(colouring.legend);
  }

  // A chip of a group: its colour, its name, and how many of its heads are kept.
  chip(words, group, colour) {
    const chip = make("span", "chip", this.chips);
    make("span", "mark kept", chip).style.background = colour;
    chip.append(words, " ");
    const heads = this.groups.flatMap((other, head) => (other === group ? [head] : []));
    const count = make("b", "", chip), unseen = make("span", "unseen", chip);
    // A screen reader reads the whole sentence in its place.
    count.setAttribute("aria-hidden", "true");
    this.counted.push({ chip, count, unseen, heads, named: Boolean(this.signs[group]) });
  }

  // Count the kept heads of each group; the number stands where a quarter or more are pruned, and while dragging. A group
  // of which half or fewer are kept is marked.
  count(bits, dragging) {
    for (const { chip, count, unseen, heads, named } of this.counted ?? []) {
      const all = heads.length, kept = heads.filter((head) => has(bits, head)).length;
      chip.style.setProperty("--share", kept / all);
      chip.title = unseen.textContent = `${kept} of ${all} kept`;
      chip.classList.toggle("low", named && kept * 2 <= all);
      count.textContent = !named ? "" : dragging ? `${all} → ${kept}` : kept <= 0.75 * all ? `${kept}` : "";
    }
  }

  // Highlight the cells of a cluster and dim the others; undefined: none.
  light(label) {
    if (this.lit === label) return;
    this.lit = label;
    this.glow(label === undefined ? undefined : (head) => this.groups[head] === label);
  }

  // Highlight the heads for which `glows(head)` holds; undefined: none.
  glow(glows) {
    this.glows = glows;
    this.grid.classList.toggle("lighting", glows !== undefined);
    this.cells.forEach((cell, head) => cell.classList.toggle("lit", glows !== undefined && glows(head)));
  }

  // Show which heads are kept; only cells that change are touched.
  show(state, dragging) {
    const back = new Set(state.rescued ?? []);
    this.count(state.bits, dragging);
    // While dragging, replacement heads are unknown.
    this.covers = state.covers;
    for (let head = 0; head < this.cells.length; head++) {
      const now = has(state.bits, head) ? (back.has(head) ? BACK : KEPT) : PRUNED;
      if (now === this.drawn[head]) continue;
      this.drawn[head] = now;
      const cell = this.cells[head], only = this.only(head, now !== PRUNED);
      cell.className = CLASSES[now];
      if (only) cell.classList.add(`only-${only}`);
      if (this.striped(head)) cell.classList.add("striped");
      if (head === this.selected) cell.classList.add("selected");
      else if (this.selected != null && this.groups[head] === this.groups[this.selected]) cell.classList.add("member");
      if (this.glows?.(head)) cell.classList.add("lit");
      cell.setAttribute("aria-selected", now === PRUNED ? "false" : "true");
      const alone = only ? `, kept by ${only.toUpperCase()} only` : "";
      cell.setAttribute("aria-label", `${this.place(head)}: ${WORDS[now]}, ${this.words[this.groups[head]]}${alone}`);
    }
    this.say();
  }

  // Return the only mask that keeps a head: a, the pinned one, or b, the shown one.
  only(head, kept) {
    if (!this.pinned || Boolean(has(this.pinned, head)) === kept) return "";
    return kept ? "b" : "a";
  }

  place(head) {
    return `Layer ${this.called(Math.floor(head / this.heads))}, ${this.unit} ${head % this.heads}`;
  }

  called(layer) {
    return this.places ? this.places[layer] : layer;
  }

  // Describe the head under the pointer, or the one asked about, with its replacement head if it is known.
  say() {
    const head = this.pointed ?? this.selected;
    this.beside();
    this.opener.hidden = !this.cards || head == null;
    if (head == null) return;
    const who = this.cover(head);
    this.said.textContent = `${this.cells[head].getAttribute("aria-label")}${who && `; ${who}`}`;
  }

  // Describe the replacement head of a head; empty if it is unknown.
  cover(head) {
    const cover = this.covers?.[head];
    if (cover === undefined) return "";
    const other = this.place(cover).toLowerCase();
    if (cover === head) return `no other ${this.unit} is kept`;
    return this.labels[cover] === this.labels[head]
      ? `its replacement ${this.unit} is ${other}`
      : `no other ${this.unit} of its cluster is kept; its replacement ${this.unit} is ${other}`;
  }

  // Show a card beside the head that was asked about, unless another cluster is highlighted.
  beside() {
    const head = this.selected, cover = head == null ? undefined : this.covers?.[head];
    this.covering?.classList.remove("cover");
    const away = this.lit !== undefined && this.pointed !== head;
    this.card.hidden = cover === undefined || this.dismissed || away;
    this.covering = cover === undefined || cover === head ? null : this.cells[cover];
    this.covering?.classList.add("cover");
    if (this.card.hidden) return;
    const cell = this.cells[head];
    this.card.replaceChildren();
    const [own, its] = [head, cover].map((one) => this.names[this.labels[one]]);
    make("div", "what", this.card, `${this.place(head)} (${own})`);
    const far = own === its ? "" : ` (${its}; no other of ${own} is kept)`;
    make("div", "", this.card, cover === head ? `No other ${this.unit} is kept` : `Replacement ${this.unit}: ${this.place(cover).toLowerCase()}${far}`);
    this.lay(cell);
  }

  // Place the card beside, below or above the head, inside the board and not over the replacement head.
  lay(cell) {
    const { offsetLeft: x, offsetTop: y, offsetWidth: size } = cell, tall = this.card.offsetHeight;
    const inside = Math.max(0, Math.min(x, this.frame.clientWidth - CARD));
    const places = [[x + size + 8, y], [x - CARD - 8, y], [inside, y + size + 8], [inside, y - tall - 8]];
    const free = ([left, top]) => {
      const other = this.covering;
      if (left < 0 || left + CARD > this.frame.clientWidth) return false;
      if (!other) return true;
      const { offsetLeft, offsetTop, offsetWidth } = other;
      const apart = offsetLeft > left + CARD || offsetLeft + offsetWidth < left;
      return apart || offsetTop > top + tall || offsetTop + offsetWidth < top;
    };
    const [left, top] = places.find(free) ?? places[2];
    Object.assign(this.card.style, { left: `${left}px`, top: `${top}px` });
  }
}

// The name of a layer or a head on an axis of `count`, or nothing where all would be too many.
function numbered(index, name, count) {
  const step = count <= 16 ? 1 : count <= 32 ? 4 : 8;
  return index % step ? "" : String(name);
}

// A mark and its words, between which no line breaks.
function item(parent, look, words) {
  const whole = make("span", "item", parent);
  const mark = make("span", look, whole);
  whole.append(words);
  parent.append(" ");
  return mark;
}

function legend(parent) {
  item(parent, "mark kept", "kept");
  item(parent, "mark", "pruned");
  item(parent, "mark kept back", "per-layer minimum ·");
  const key = make("span", "key", parent);
  const versus = make("span", "versus", parent, " ");
  item(versus, "mark only-a", "kept by A only");
  item(versus, "mark only-b", "kept by B only");
  return [key, versus];
}
