// The heads as a grid, layers by heads: kept heads are solid, pruned ones light; the letter shows the cluster, colour and
// stripes its family, the same at every budget. A click selects a head, or releases the selected one; arrow keys select the
// next one, Escape releases it. Space or a double-click removes or restores a head; Enter, the key i or Shift with a click
// opens its card. Hovering lights a cluster, and the host hears of it by `pointing`. The cluster of the selected head is
// outlined, and so is its replacement head.

import { make, maskOf, unpacked } from "./elements.js";

export const has = (packed, head) => (packed[head >> 3] >> (7 - (head & 7))) & 1;
const PRUNED = 0, KEPT = 1, BACK = 2, UNKNOWN = 3;
const WORDS = ["pruned", "kept", "kept so that no layer is empty"];
const CLASSES = ["cell", "cell kept", "cell kept back"];
const LETTERED = 17; // px: letters in smaller cells are not readable
const WORDED = 30; // px: room for a sign of more than two letters
const CLUSTERS = "Letter: cluster · colour, stripes: family";

export class Heads {
  // `acts` are what a person does with a head: `look` selects or releases it, `select` selects it, `toggle` removes or
  // restores it, and `open` opens its card. `hint` tells what keys do. `places` are the layers' indices in the model, if
  // layers between them have no heads. A cell is a `unit`: a head, or a group of heads.
  constructor(parent, { layers, heads, places, unit }, hint, acts) {
    this.heads = heads;
    this.unit = unit;
    this.places = places;
    this.sizes = parent.style;
    this.acts = acts;
    this.focus = 0;
    this.frame = make("div", "frame", parent);
    this.grid = make("div", "grid", this.frame);
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
    const headOf = (event) => {
      const cell = event.target.closest(".cell");
      return cell ? Number(cell.dataset.head) : undefined;
    };
    this.grid.onclick = (event) => {
      const head = headOf(event);
      if (head === undefined) return;
      this.move(head);
      // Safari gives the focus to no button that is clicked.
      this.cells[head].focus({ preventScroll: true });
      if (event.shiftKey) acts.open(head);
      // The second click of a double-click releases nothing.
      else if (event.detail < 2) acts.look(head);
    };
    this.grid.ondblclick = (event) => {
      const head = headOf(event);
      if (head !== undefined && !event.shiftKey) acts.toggle(head);
    };
    this.grid.onkeydown = (event) => this.pressKey(event);
    // A button takes the space bar when it is let go.
    this.grid.onkeyup = (event) => {
      if (event.key === " ") event.preventDefault();
    };
    for (const name of ["mouseover", "focusin"]) this.grid.addEventListener(name, (event) => this.point(headOf(event)));
    for (const name of ["mouseleave", "focusout"]) this.grid.addEventListener(name, () => this.point());
  }

  // Add the words below the grid, and at their end a button.
  describe(parent, words, press) {
    const line = make("p", "legend", parent);
    [this.back, this.key, this.versus] = legend(line);
    const button = make("button", "step keyed", line, words);
    button.type = "button";
    button.onclick = press;
  }

  row(layer, layers) {
    const row = make("div", "row", this.grid);
    row.setAttribute("role", "row");
    row.setAttribute("aria-label", `Layer ${this.called(layer)}`);
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

  move(head) {
    this.cells[this.focus].tabIndex = -1;
    this.focus = head;
    this.cells[head].tabIndex = 0;
  }

  pressKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [across, down] = this.turned ? [this.heads, 1] : [1, this.heads];
    const moves = { ArrowLeft: -across, ArrowRight: across, ArrowUp: -down, ArrowDown: down };
    const acts = { " ": this.acts.toggle, Enter: this.acts.open, i: this.acts.open };
    if (event.key in moves) {
      const next = this.focus + moves[event.key];
      if (next < 0 || next >= this.cells.length) return;
      this.move(next);
      this.cells[next].focus();
      this.acts.select(next);
    } else if (!(event.key in acts)) return;
    else if (!event.repeat) acts[event.key](this.focus);
    event.preventDefault();
  }

  // Point at a head, or at none: its cluster lights up unless a head is selected, which the board then shows.
  point(head) {
    this.light(head === undefined || this.selected != null ? undefined : this.groups?.[head]);
    this.pointing?.(head);
  }

  // Outline a head, its cluster and its replacement head; null: none.
  select(head) {
    this.selected = head;
    this.light();
    this.cells.forEach((_, other) => this.outline(other));
    this.outlineCover();
  }

  outline(head) {
    const cell = this.cells[head], selected = head === this.selected;
    cell.classList.toggle("selected", selected);
    cell.classList.toggle("member", !selected && this.selected != null && this.groups[head] === this.groups[this.selected]);
    if (selected) cell.setAttribute("aria-current", "true");
    else cell.removeAttribute("aria-current");
  }

  outlineCover() {
    this.grid.classList.toggle("holding", this.selected != null);
    const head = this.selected, cover = head == null ? undefined : this.covers?.[head];
    this.covering?.classList.remove("cover");
    this.covering = cover === undefined || cover === head ? null : this.cells[cover];
    this.covering?.classList.add("cover");
  }

  // Draw colours and names of the clusters, or another `colouring`. They change on release, not while dragging, so that
  // nothing flickers. `pinned` are the bits of another mask, A; heads that only one of the two keeps are marked.
  paint({ labels, names, striped, ...clusters }, pinned, colouring) {
    Object.assign(this, { labels, pinned });
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
  picture({ pictures } = {}) {
    this.grid.classList.toggle("pictured", Boolean(pictures));
    if (pictures === this.pictures) return;
    this.pictures = pictures;
    if (!pictures) return;
    const all = unpacked(pictures), one = all.length / this.cells.length;
    this.cells.forEach((cell, head) => cell.style.setProperty("--picture", maskOf(all.subarray(head * one, (head + 1) * one))));
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
      if (this.chips) return this.chip(words.replace(/ head$/, ""), group, colours[group], colouring.name);
      const count = this.groups.filter((other) => other === group).length;
      item(this.key, "mark kept", `${words} (${count})`).style.background = colours[group];
    });
    this.key.append(colouring.legend);
  }

  // A chip of a group: its colour, its name, and how many of its heads are kept.
  chip(words, group, colour, colouring) {
    const chip = make("span", "chip", this.chips);
    make("span", "mark kept", chip).style.background = colour;
    chip.append(words, " ");
    const heads = this.groups.flatMap((other, head) => (other === group ? [head] : []));
    const count = make("b", "", chip), unseen = make("span", "unseen", chip);
    // A screen reader reads the whole sentence in its place.
    count.setAttribute("aria-hidden", "true");
    this.counted.push({ chip, count, unseen, heads, named: Boolean(this.signs[group]), marked: colouring === "roles" });
  }

  // Count the kept heads of each group; the number stands where a quarter or more are pruned, and while dragging. A role
  // of which half or fewer are kept is marked.
  count(bits, dragging) {
    for (const { chip, count, unseen, heads, named, marked } of this.counted ?? []) {
      const all = heads.length, kept = heads.filter((head) => has(bits, head)).length;
      chip.style.setProperty("--share", kept / all);
      chip.title = unseen.textContent = `${kept} of ${all} kept`;
      chip.classList.toggle("low", marked && named && kept * 2 <= all);
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
    this.back.hidden = !back.size;
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
      this.outline(head);
      if (this.glows?.(head)) cell.classList.add("lit");
      cell.setAttribute("aria-selected", now === PRUNED ? "false" : "true");
      const alone = only ? `, kept by ${only.toUpperCase()} only` : "";
      cell.setAttribute("aria-label", `${this.place(head)}: ${WORDS[now]}, ${this.words[this.groups[head]]}${alone}`);
    }
    this.outlineCover();
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

  // The short name of a head, as 2.0.
  named(head) {
    return `${this.called(Math.floor(head / this.heads))}.${head % this.heads}`;
  }

  // Describe the replacement head of a head, in a few words and in full; empty if it is unknown.
  cover(head) {
    const cover = this.covers?.[head];
    if (cover === undefined) return ["", ""];
    if (cover === head) return [`no other ${this.unit} is kept`, ""];
    const far = this.labels[cover] === this.labels[head] ? "" : ", as no other of its cluster is kept";
    return [`replacement ${this.named(cover)}`, `Its replacement ${this.unit} is ${this.place(cover).toLowerCase()}${far}`];
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
  const back = item(parent, "mark kept back", "kept so that no layer is empty").parentElement;
  const key = make("span", "key", parent);
  const versus = make("span", "versus", parent, " ");
  item(versus, "mark only-a", "kept by A only");
  item(versus, "mark only-b", "kept by B only");
  return [back, key, versus];
}
