// The budget board: grid, figures, slider and curves drawn from one table of all budgets, without any request on a drag.
//
//   const board = mount(element, data, tell, title, page);   // draws into element
//   board.update(data);                         // the same board, other data
//   board.focus();                             // the focus goes to the head that was selected last
//   board.unmount();
//
// `tell` receives the events {kind: "budget", budget} of a released slider, {kind: "toggle", head} of a head that is removed
// or restored, {kind: "ask", head} of a head whose card is asked for, {kind: "colour", name} of a colouring that is not
// measured yet, {kind: "recover", name} of another recovery, and {kind: "undo"} and {kind: "suggested"} of the ways back;
// the host then measures and updates. It hears nothing of a head that is selected. Without `tell` nothing is measured: the
// board shows the released budget by itself.
// `title` receives the finding of the shown budget, and whether the slider is being dragged. On a `page` that the board rules,
// its keys count wherever the focus is; else within the board.
// The host sets colours with the variables at the top of board.css.

import { choose, make, unpacked } from "./elements.js";
import { figures, origin, percent, titled, written } from "./figures.js";
import { gains, grown } from "./gains.js";
import { Heads, has } from "./heads.js";
import { Curves } from "./curves.js";
import { Strip } from "./strip.js";
import { Answers, Flips, Sentence } from "./sentence.js";
import { Inspector } from "./inspector.js";
import { Keys } from "./keys.js";

const NARROW = 720; // px: below, the figures stand under the grid
const TIGHT = 400; // px: below, the ways back stand under the number of heads
const BESIDE = 390; // px: what figures and curves need beside the grid
const PLAYED = 8000; // ms: all budgets, one after the other
const MOST = 0.7; // the share of predictions that a mask has to keep to be offered
const TOUCH = 26; // px: a touch target of 24, and the room around it
// By board (of the first screen or not), whether a person left the details open; lasts as long as the browser's page.
const leftOpen = new Map();
let boards = 0;

export function mount(element, data, tell, title, page) {
  const board = new Board(element, tell, title, page);
  board.update(data);
  const focus = () => board.heads.cells[board.heads.focus].focus();
  return { update: (other) => board.update(other), focus, unmount: () => board.unmount() };
}

// Whether the host has sent what a colouring shows.
const known = (colouring) => colouring?.groups || colouring?.pictures;
const numbers = (text) => new Uint16Array(unpacked(text).buffer);

class Board {
  constructor(element, tell, title, page) {
    this.root = make("div", "cahp-board", element);
    this.tell = tell;
    this.title = title;
    this.page = page;
    this.dragging = false;
    this.observer = new ResizeObserver(() => this.data && this.fit());
    this.observer.observe(this.root);
    // A touch leaves a head only for another place.
    this.away = (event) => !event.composedPath().includes(this.heads?.frame) && this.heads?.point();
    document.addEventListener("pointerdown", this.away);
  }

  unmount() {
    clearTimeout(this.waiting);
    clearInterval(this.playing);
    this.observer.disconnect();
    document.removeEventListener("pointerdown", this.away);
    this.keys.unmount();
    this.curves.goal.unmount();
    this.root.remove();
  }

  update(data) {
    const offered = data.colourings.map(({ name }) => name);
    const parts = [data.details == null, Boolean(data.first), Boolean(data.first?.sentence), ...Object.keys(data.first?.recoveries ?? {})];
    const shape = `${data.layers}x${data.heads} ${data.unit}:${data.budgets.length}:${offered}:${parts}`;
    const before = this.data;
    this.data = this.given = data;
    this.kept = before?.kept === data.kept ? this.kept : data.kept.map(unpacked);
    // What a person selected stays until the host selects another head than the one that it was told of last.
    const selects = data.selected !== before?.selected && data.selected !== this.told;
    const other = before?.layers !== data.layers || before.heads !== data.heads;
    if (other || selects) this.selected = data.selected;
    if (this.shape !== shape) {
      this.shape = shape;
      this.build();
    }
    this.settle();
  }

  // Show the current mask, unless the slider is being dragged.
  settle() {
    const { current } = this.data;
    this.root.classList.toggle("recovered", Boolean(this.data.recovered));
    this.root.classList.toggle("trained", this.data.trained);
    const colouring = this.data.colourings.find(({ name }) => name === this.colouring);
    this.heads.paint(this.data, this.data.pinned && unpacked(this.data.pinned), known(colouring) ? colouring : undefined);
    if (this.heads.selected !== this.selected) this.heads.select(this.selected);
    if (colouring?.waits) this.heads.key.textContent = colouring.waits;
    this.curves.draw(this.data);
    this.strip?.draw(this.data);
    this.flips?.draw(this.data);
    this.sentence?.update(this.data);
    if (this.dragging) return;
    this.slider.value = current.budget;
    this.offerSteps();
    this.world?.(this.data.first.recovery);
    if (this.again) this.again.hidden = current === this.given.current;
    const near = Object.keys(current.values).length ? {} : this.estimate(current.budget);
    this.show({ ...current, ...near, ratio: current.ratio, title: this.data.titles[0], bits: unpacked(current.kept) });
  }

  build() {
    this.stop(false);
    this.dragging = false;
    this.keys?.unmount();
    this.curves?.goal.unmount();
    this.root.replaceChildren();
    this.again = this.strip = this.gains = this.disclosed = this.sentence = this.answers = this.flips = this.world = this.worlds = null;
    if (this.data.first?.sentence) {
      const acts = { peek: (head) => this.inspect(head), look: (head) => this.select(head), named: (head) => this.heads.named(head) };
      this.sentence = new Sentence(this.root, (heads) => this.heads.glow(heads), acts);
    }
    const left = make("div", "left", this.root), right = make("div", "right", this.root);
    const { unit, first, details } = this.data, does = this.tell ? `, Space removes or restores it` : "";
    const card = this.data.cards ? `, Enter opens its card` : "";
    this.colouring ??= first?.colouring;
    const select = (head) => this.select(head);
    const acts = {
      select,
      look: (head) => select(head === this.selected ? null : head),
      toggle: (head) => this.toggle(head),
      open: (head) => this.open(head),
    };
    this.heads = new Heads(left, this.data, `; arrow keys select a ${unit}${does}${card}`, acts);
    this.root.classList.toggle("first", Boolean(first));
    this.heads.pointing = (head) => this.inspect(head, true);
    if (first) this.heads.chips = make("div", "chips", left);
    this.dial(left, this.data.budgets);
    // A screen reader reads the finding of a released budget, not those passed on the way.
    this.finding = make("p", "unseen", left);
    this.finding.setAttribute("aria-live", "polite");
    if (first) this.gains = make("div", "gains", right);
    if (this.sentence) this.answers = new Answers(right);
    const below = first ? right : left;
    this.inspector = new Inspector(below, this.heads, acts, this.data, Boolean(this.tell));
    this.choices(make("div", "switches", below));
    this.heads.describe(this.heads.turned ? below : left, "? keys", () => this.keys.show());
    const toggle = this.tell && acts.toggle;
    this.keys = new Keys(this.root, this.page ? document : this.root, this.heads, this.data, { select, toggle, undo: () => this.undo() });
    const shown = details == null ? right : this.disclose(right);
    this.figures = make("div", "figures", shown);
    this.curves = new Curves(shown, { to: (budget) => this.try(budget), end: (budget) => this.settleAt(budget) });
    this.fit();
  }

  // Figures with their intervals, and curves, behind one click.
  disclose(parent) {
    this.disclosed = make("details", "", parent);
    make("summary", "", this.disclosed, "Details: intervals, agreement, curves");
    const place = Boolean(this.data.first);
    this.disclosed.open = leftOpen.get(place) ?? this.data.details;
    this.disclosed.ontoggle = () => {
      leftOpen.set(place, this.disclosed.open);
      this.curves.draw(this.data);
    };
    return this.disclosed;
  }

  // A switch of what colours and letters say. What is not measured yet is asked of the host.
  choices(parent) {
    const { colourings } = this.data;
    if (!colourings.length) return;
    const choices = [["clusters", ""], ...colourings.map(({ name, label }) => [label, name])];
    choose(parent, "Show", choices, (name) => {
      this.colouring = name;
      if (this.data.colourings.some((row) => row.name === name && !known(row))) this.tell({ kind: "colour", name });
      this.settle();
    })(this.colouring ?? "");
  }

  dial(parent, budgets) {
    const dial = make("div", "dial", parent);
    const label = make("label", "", dial, `${titled(this.data.unit)}s to keep`);
    if (this.tell) this.step(dial);
    this.output = make("output", "figure", dial);
    if (this.data.first) this.strip = new Strip(dial);
    this.slider = make("input", "slider", dial);
    // A page may hold several boards.
    const id = `budget-slider-${++boards}`;
    Object.assign(this.slider, { type: "range", min: budgets[0], max: budgets.at(-1), step: budgets.length > 1 ? budgets[1] - budgets[0] : 1, id });
    label.htmlFor = id;
    const below = make("div", "below", dial);
    if (this.sentence) this.flips = new Flips(below);
    if (Object.keys(this.data.first?.recoveries ?? {}).length > 1) {
      const choices = Object.entries(this.data.first.recoveries).map(([name, words]) => [words, name]);
      this.world = choose(below, "Figures", choices, (name) => this.tell({ kind: "recover", name }));
      this.worlds = { below, row: below.lastElementChild };
    }
    this.slider.oninput = () => {
      this.stop(false);
      this.dragging = true;
      const began = performance.now();
      this.show(this.row(this.data.budgets.indexOf(Number(this.slider.value))));
      this.root.dataset.step = (performance.now() - began).toFixed(2);
    };
    this.slider.onchange = () => {
      clearTimeout(this.waiting);
      // Arrow keys change it many times: only the last value is sent.
      this.waiting = setTimeout(() => {
        this.dragging = false;
        this.release(Number(this.slider.value));
      }, 120);
    };
    // A slider that is released where it was pressed changes nothing, and tells nothing. It may stand beside a mask made by
    // hand, of which no step has the number of heads.
    this.slider.onpointerdown = () => {
      this.stop();
      if (!this.dragging) this.held = this.slider.value;
    };
    this.slider.onpointerup = () => {
      if (!this.dragging || this.slider.value !== this.held) return;
      clearTimeout(this.waiting);
      this.dragging = false;
      this.settle();
    };
    if (this.tell) return;
    this.again = make("button", "again", dial, `Back to ${this.data.current.budget} ${this.data.unit}s, as at the start`);
    this.again.onclick = () => this.update(this.given);
  }

  // Ways back: one that leads nowhere keeps its place.
  step(dial) {
    this.steps = make("div", "steps", dial);
    for (const kind of ["undo", "suggested"]) {
      const button = make("button", `step ${kind}`, this.steps);
      button.type = "button";
      button.onclick = () => this.tell({ kind });
    }
    if (!this.data.first) return;
    this.player = make("button", "step play", this.steps, "▶ Play");
    this.player.type = "button";
    this.player.title = `From all ${this.data.unit}s to the fewest`;
    this.player.onclick = () => (this.playing ? this.stop() : this.play());
  }

  // Show all budgets one after the other, the largest first, and then the mask that was there; nothing is measured.
  play() {
    const { budgets } = this.data, still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    let at = budgets.length - 1;
    const pace = still ? Math.ceil(budgets.length / 8) : 1;
    const step = () => {
      if (at < 0 || !this.root.isConnected) return this.stop();
      this.slider.value = budgets[at];
      this.show(this.row(at));
      at -= pace;
    };
    this.dragging = true;
    this.player.textContent = "■ Stop";
    this.playing = setInterval(step, (pace * PLAYED) / budgets.length);
    step();
  }

  stop(settles = true) {
    if (!this.playing) return;
    clearInterval(this.playing);
    this.playing = null;
    this.player.textContent = "▶ Play";
    this.dragging = !settles;
    if (settles) this.settle();
  }

  // Show a budget while a person drags a goal, and ask for it at the end (undefined: none reaches it).
  try(budget) {
    this.stop(false);
    this.dragging = true;
    this.slider.value = budget;
    this.show(this.row(this.data.budgets.indexOf(budget)));
  }

  settleAt(budget) {
    this.dragging = false;
    if (budget === undefined || budget === this.data.current.budget) this.settle();
    else this.release(budget);
  }

  offerSteps() {
    const { steps } = this.data;
    if (!this.steps) return;
    this.steps.hidden = !steps;
    if (!steps) return;
    const [undo, suggested] = this.steps.children;
    undo.textContent = "Undo";
    undo.style.visibility = steps.undo ? "visible" : "hidden";
    suggested.textContent = `CAHP's choice: ${steps.suggested ?? ""}`;
    suggested.style.visibility = this.isOffered(steps.suggested) ? "visible" : "hidden";
  }

  // A choice is offered unless fewer than so many predictions are known to stay with it.
  isOffered(budget) {
    if (budget == null) return false;
    const { budgets, rows } = this.data, share = rows[budgets.indexOf(budget)]?.values.agreement?.[0];
    return !(share < MOST);
  }

  fit() {
    const { layers, heads } = this.data;
    const width = this.root.clientWidth || 800;
    const { turned } = this.heads;
    const narrow = width < NARROW, wide = !narrow && turned;
    const room = (narrow || wide ? width : width - BESIDE) - 44;
    // On a phone, layers that stand beside each other have several lines, so that a tap hits one cell.
    const lines = narrow && turned ? Math.ceil(layers / Math.max(1, Math.floor(room / TOUCH))) : 1;
    const [rows, columns] = turned ? [heads, Math.ceil(layers / lines)] : [layers, heads];
    const largest = width > 1200 ? 60 : 44;
    const cell = Math.max(7, Math.min(largest, Math.floor(room / columns), Math.floor(480 / rows)));
    this.heads.fit(columns, cell);
    this.root.classList.toggle("narrow", narrow);
    // On a phone the slider stays in sight, and takes little room.
    const home = narrow ? this.root.querySelector(".switches") : this.worlds?.below;
    if (this.worlds && this.worlds.row.parentElement !== home) home.append(this.worlds.row);
    this.root.classList.toggle("wide", wide);
    this.root.classList.toggle("tight", room < TIGHT);
    this.root.classList.toggle("row-of-figures", !narrow && width - (wide ? 0 : columns * cell + 70) > 620);
    this.curves.columns = wide && width > 832 ? 2 : 1;
    this.curves.draw(this.data);
    this.strip?.draw(this.data);
    this.flips?.draw(this.data);
    this.sentence?.fit();
  }

  row(index) {
    const { budgets, rows, kept, titles } = this.data;
    return { ...rows[index], title: titles[index + 1], budget: budgets[index], kept: kept[index], bits: this.kept[index], origin: "budget" };
  }

  show(state) {
    const total = this.data.layers * this.data.heads;
    const found = figures(state, this.data, !this.tell);
    this.state = state;
    this.heads.show(state, this.dragging);
    this.inspect(this.pointed, true);
    this.figures.replaceChildren(...found.map(written));
    this.figures.classList.toggle("about", Boolean(state.about));
    if (this.gains) this.showGains(gains(state, this.data));
    this.curves.mark(state);
    this.strip?.mark(state);
    this.sentence?.show(state);
    this.answers?.show(state, this.data);
    const title = state.title ?? "";
    if (title) this.title?.(title, this.dragging);
    if (!this.dragging) this.finding.textContent = title;
    const count = this.data.first ? `${state.budget}` : `${state.budget} of ${total}`;
    const share = this.data.first ? "" : `${percent(state.budget / total, 0)}, `;
    this.output.replaceChildren(make("b", "value", null, count), ` · ${share}${origin(state)}`);
    this.slider.setAttribute("aria-valuetext", `${state.budget} of ${total} ${this.data.unit}s, ${found[0][1]} ${this.data.outcomes[0].label}`);
  }

  // A large figure that changed comes from below, unless a person drags.
  showGains(found) {
    const before = [...this.gains.children].map((gain) => gain.textContent);
    this.gains.replaceChildren(...found.map(grown));
    if (this.dragging) return;
    [...this.gains.children].forEach((gain, index) => gain.classList.toggle("rolls", index in before && gain.textContent !== before[index]));
  }

  // What a person does ----------------------------------------------------------------------------------------

  // Select a head, whose arcs then stand out and which the inspector shows; null: none.
  select(head) {
    this.selected = head;
    this.heads.select(head);
    this.inspect(undefined, true);
  }

  // Show the selected head, or else the one that is pointed at; with `arcs`, its arcs stand out.
  inspect(pointed, arcs) {
    const head = this.selected ?? pointed;
    if (arcs) {
      this.pointed = pointed;
      this.sentence?.emphasise(head);
    }
    const next = head ?? this.pointed;
    if (next == null) this.inspector.show(...this.next());
    else this.inspector.show(next, this.selected != null, this.state, this.data);
  }

  // What the inspector shows where nothing is selected: the head that the next smaller budget removes, if one does. On the
  // first screen it says how to begin.
  next() {
    const { budgets, first } = this.data, { bits, budget, origin } = this.state, index = budgets.indexOf(budget) - 1;
    const none = [undefined, false, this.state, this.data];
    if (first || index < 0 || origin === "hand") return none;
    const head = this.heads.cells.findIndex((_, one) => has(bits, one) && !has(this.kept[index], one));
    return head < 0 ? none : [head, false, this.state, this.data, budgets[index]];
  }

  toggle(head) {
    this.select(head);
    if (!this.tell) return;
    this.expect(head);
    this.told = head;
    this.tell({ kind: "toggle", head });
  }

  // Nothing happens while there is nothing to undo.
  undo() {
    if (this.data.steps?.undo) this.tell({ kind: "undo" });
  }

  open(head) {
    this.select(head);
    if (!this.data.cards) return;
    this.told = head;
    this.tell({ kind: "ask", head });
  }

  // Show a toggled head at once, with the figures of the nearest measured budget, until the host has its own.
  expect(head) {
    const { current, budgets, rows, cache, layers, heads } = this.data;
    const bits = unpacked(current.kept);
    bits[head >> 3] ^= 128 >> (head & 7);
    const budget = current.budget + (bits[head >> 3] & (128 >> (head & 7)) ? 1 : -1);
    const near = budget ? this.estimate(budget) : {};
    // All heads of a model have as large a cache.
    if (near.about) this.show({ ...near, budget, bits, rescued: [], origin: "hand", size: rows[budgets.indexOf(budget)]?.size, cache: cache && (cache * budget) / (layers * heads), memory: cache && (rows.at(-1).memory * budget) / (layers * heads) });
  }

  // The values of the nearest measured budget, of two the smaller one, without those of all heads; {} if there is none.
  estimate(budget) {
    const { budgets, rows, layers, heads } = this.data;
    const measured = budgets.map((_, index) => index).filter((index) => budgets[index] < layers * heads && Object.values(rows[index].values).some((value) => value.length > 1));
    if (!measured.length) return {};
    const near = measured.reduce((best, index) => (Math.abs(budgets[index] - budget) < Math.abs(budgets[best] - budget) ? index : best));
    const { accuracy_change, ...values } = rows[near].values;
    const about = Object.fromEntries(Object.entries(values).map(([name, [value]]) => [name, [value]]));
    return { values: about, ratio: rows[near].ratio, about: budgets[near] };
  }

  release(budget) {
    if (this.tell) return this.tell({ kind: "budget", budget });
    // Without a host, `readings` have the clusters and replacement heads of every budget.
    const index = this.data.budgets.indexOf(budget);
    const reading = this.data.readings?.[index];
    const current = { ...this.data.rows[index], budget, kept: this.data.kept[index], origin: "budget" };
    if (reading) current.covers = numbers(reading.covers);
    const clusters = reading && { labels: numbers(reading.labels), names: reading.names };
    this.data = { ...this.data, ...clusters, current };
    this.settle();
  }
}
