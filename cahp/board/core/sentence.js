// A person's sentence: its words with arcs of what the kept heads attend to, in the colours of their families, the answers
// with all heads and with the kept ones, and marks at the budgets whose answer is another one.
//
// Pointing at a word lights the heads that attend to it. The arcs of the selected head stand out with their shares; a head
// without arcs says why. An arc that is pointed at tells its head, and a click selects it. On a narrow board the words stand
// below each other, with their arcs at the right. Nothing moves where a person asked for less motion.

import { addArc, placeArc } from "./arcs.js";
import { draw, make } from "./elements.js";
import { percent } from "./figures.js";

const SKY = 112, RISE = 100; // px: the room above the words, and the highest arc
const LARGEST = 21, SMALLEST = 13; // px: the size of words
const FALL = 250; // ms
const ONE_LINE = 720, LISTED = 20; // px: below, words stand below each other; the number of those that are then shown
const LOOKS = 41; // of 255: a head with less attention on a word does not light up
const kept = (bits, head) => (bits[head >> 3] >> (7 - (head & 7))) & 1;
const whole = (share) => percent(share, 0);
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export class Sentence {
  // `light(heads)` lights heads on the board, or none. `acts` are what a person does with the head of an arc: `peek` is
  // called as one is pointed at or left, `look` for a click; `named(head)` is its short name.
  constructor(parent, light, acts) {
    this.place = make("div", "sentence", parent);
    this.light = light;
    this.acts = acts;
    this.svg = draw("svg", { class: "arcs", height: SKY, "aria-hidden": "true" }, this.place);
    this.notes = draw("g", { class: "notes" });
    const arcOf = (event) => event.target.closest("[data-head]") ?? undefined;
    this.svg.onmouseover = (event) => this.pointArc(arcOf(event));
    this.svg.onmouseleave = () => this.pointArc();
    this.svg.onclick = (event) => {
      const arc = arcOf(event);
      if (arc) acts.look(Number(arc.dataset.head));
    };
    this.row = make("div", "words", this.place);
    this.row.setAttribute("role", "toolbar");
    this.row.setAttribute("aria-label", "Words of your sentence: arrow keys move, the heads that attend to a word light up");
    this.note = make("p", "note", this.place);
    this.row.onkeydown = (event) => this.pressKey(event);
    for (const name of ["mouseover", "focusin"]) this.row.addEventListener(name, (event) => this.pointWord(event.target.closest(".word")));
    for (const name of ["mouseleave", "focusout"]) this.row.addEventListener(name, () => this.pointWord(null));
  }

  update(data) {
    const { sentence } = data.first;
    this.data = data;
    const { words = [], looks } = sentence.maps ?? {};
    const text = sentence.maps ? `${words.join(" ")} ${looks}` : "";
    const other = text !== this.text;
    this.sentence = sentence;
    if (!other) return;
    this.text = text;
    this.pointWord(null);
    this.arc = undefined;
    this.looks = looks;
    this.ends = new Map();
    this.svg.replaceChildren(this.notes);
    this.row.replaceChildren();
    this.words = words.map((word) => {
      const button = make("button", "word", this.row, word);
      button.type = "button";
      button.tabIndex = -1;
      return button;
    });
    if (this.words.length) this.words[0].tabIndex = 0;
    this.place.style.setProperty("--count", this.words.length);
    this.svg.classList.remove("drawing");
    this.fit();
    // Reading a style makes the animation begin anew.
    void this.svg.getBoundingClientRect();
    this.svg.classList.add("drawing");
  }

  // Choose the largest size at which all words fit in a line; on a narrow board they stand below each other.
  fit() {
    if (!this.words?.length) return;
    const down = this.place.clientWidth < ONE_LINE;
    this.down = down;
    this.place.classList.toggle("down", down);
    const sized = (size) => this.row.style.setProperty("--size", `${size}px`);
    this.words.forEach((word, index) => (word.hidden = down && index >= LISTED));
    let size = down ? 16 : LARGEST;
    sized(size);
    const over = () => !down && this.row.scrollWidth > this.row.clientWidth + 1;
    while (size > SMALLEST && over()) sized(--size);
    let shown = down ? Math.min(LISTED, this.words.length) : this.words.length;
    while (shown > 1 && over()) this.words[--shown].hidden = true;
    this.shown = shown;
    this.note.textContent = shown < this.sentence.maps.length ? `first ${shown} words shown` : "";
    this.width = down ? this.place.clientWidth : this.row.scrollWidth;
    // Arcs begin where the longest word ends.
    this.edge = down ? Math.max(...this.words.map((word) => word.offsetWidth)) + 8 : 0;
    this.svg.setAttribute("width", this.width);
    this.svg.setAttribute("height", down ? this.row.offsetHeight : SKY);
    if (this.state) this.show(this.state, true);
  }

  // Return the point so far along the words, and so far away from them.
  at(along, away) {
    return this.down ? [this.edge + away, along] : [along, SKY - 4 - away];
  }

  // Return the middle of a word, and how much of the line it takes.
  extent(word) {
    if (this.down) return [word.offsetTop + word.offsetHeight / 2, word.offsetHeight];
    return [word.offsetLeft + word.offsetWidth / 2, word.offsetWidth];
  }

  // The arcs of the kept heads and of the one that stands out; of equal pairs its own one, or else the strongest.
  visible() {
    const { arcs } = this.sentence.maps, { bits } = this.state, found = [];
    arcs.forEach((own, head) => {
      if (!kept(bits, head) && head !== this.head) return;
      for (const [query, key, weight] of own) if (query < this.shown && key < this.shown) found.push({ head, query, key, weight });
    });
    const own = ({ head }) => head === this.head;
    found.sort((one, other) => own(other) - own(one) || other.weight - one.weight);
    const pairs = new Set();
    return found.filter(({ query, key }) => {
      const pair = `${query} ${key}`;
      return !pairs.has(pair) && pairs.add(pair);
    });
  }

  // `once`: nothing moves.
  show(state, once) {
    this.state = state;
    if (!this.words?.length) return;
    const arcs = this.visible(), places = this.spread(arcs), now = new Set();
    const most = this.down ? this.width - this.edge - 40 : RISE;
    for (const arc of arcs) {
      const name = `${arc.head} ${arc.query} ${arc.key}`;
      now.add(name);
      const group = this.ends.get(name) ?? this.add(name, arc);
      const [from, to] = places.get(arc);
      const rise = Math.min(most, 16 + (this.down ? 0.6 : 0.14) * Math.abs(to - from));
      placeArc(group, this.at(from, 0), this.at(to, 0), this.down ? [1.333 * rise, 0] : [0, -1.333 * rise]);
      group.children[1].setAttribute("d", group.firstChild.getAttribute("d"));
      group.top = this.at((from + to) / 2, rise + 5);
      group.classList.toggle("strong", arc.head === this.head);
      if (arc.head === this.head) this.svg.append(group);
    }
    for (const [name, group] of this.ends) {
      if (now.has(name)) continue;
      this.ends.delete(name);
      if (once || still()) group.remove();
      else {
        group.classList.add("falling");
        setTimeout(() => group.remove(), FALL);
      }
    }
    this.mark();
  }

  add(name, { head, query, key, weight }) {
    const { tints, colours, striped } = this.data, tint = tints[head];
    const place = { "data-head": head, "data-query": query, "data-key": key, "data-weight": weight, class: tint >= striped ? "striped" : "" };
    const group = addArc(this.svg, { weight, colour: colours[tint], radius: 3.4, ...place });
    // A line is too thin to point at.
    group.lastChild.before(draw("path", { class: "hit" }));
    this.ends.set(name, group);
    return group;
  }

  // The places of both ends of each arc: those at one word stand side by side, in the order of their other ends.
  spread(arcs) {
    const extents = this.words.map((word) => this.extent(word)), at = this.words.map(() => []);
    for (const arc of arcs) {
      at[arc.query].push({ arc, end: 0, other: arc.key });
      at[arc.key].push({ arc, end: 1, other: arc.query });
    }
    const places = new Map(arcs.map((arc) => [arc, [0, 0]]));
    at.forEach((ends, word) => {
      // Ends to the left come first; of those, the one of the nearest word is innermost.
      ends.sort((one, two) => (one.other < word) - (two.other < word) ? (two.other < word) - (one.other < word) : two.other - one.other);
      const [middle, room] = extents[word], step = Math.min(9, Math.max(2, (room - 4) / Math.max(1, ends.length)));
      ends.forEach(({ arc, end }, index) => (places.get(arc)[end] = Math.max(4, middle + (index - (ends.length - 1) / 2) * step)));
    });
    return places;
  }

  pointWord(word) {
    const index = word ? this.words.indexOf(word) : undefined;
    if (index === this.word) return;
    this.word = index;
    this.light(index === undefined ? undefined : (head) => this.looks[head][index] > LOOKS);
    this.mark();
  }

  // Let the arcs of a head stand out; undefined: those of none.
  emphasise(head) {
    if (head === this.head) return;
    this.head = head;
    if (this.state && this.words?.length) this.show(this.state, true);
  }

  // Tell the head and the share of an arc, and light its head; undefined: of none.
  pointArc(group) {
    const head = group && Number(group.dataset.head);
    const arc = group && `${head} ${group.dataset.query} ${group.dataset.key}`;
    if (arc === this.arc) return;
    this.arc = arc;
    this.light(group && ((other) => other === head));
    this.acts.peek(head);
    this.mark();
  }

  // Fade the arcs that do not end at the word that is pointed at, and write the shares of those that stand out.
  mark() {
    this.svg.classList.toggle("pale", this.head !== undefined);
    this.svg.append(this.notes);
    this.notes.replaceChildren();
    const taken = [];
    let own = 0;
    for (const [name, group] of this.ends) {
      const { head, key, weight } = group.dataset, pointed = name === this.arc, strong = Number(head) === this.head;
      group.classList.toggle("away", this.word !== undefined && Number(key) !== this.word);
      group.classList.toggle("pointed", pointed);
      own += strong;
      if (!pointed && !strong) continue;
      const words = `${pointed ? `${this.acts.named(Number(head))} · ` : ""}${whole(weight)}`;
      let [x, y] = group.top;
      while (taken.some(([left, top]) => Math.abs(left - x) < 44 && Math.abs(top - y) < 14)) y += 14;
      taken.push([x, y]);
      if (this.down) this.write(words, Math.min(x, this.width), y + 4, x > this.width - 110 ? "end" : "start");
      else this.write(words, x, Math.max(11, y));
    }
    if (this.head !== undefined && !own && this.sentence.maps) this.explain();
  }

  write(words, x, y, anchor = "middle") {
    return draw("text", { x, y, "text-anchor": anchor }, this.notes, words);
  }

  // Say why a head has no arcs; of one that rests on the first token, its one arc leads to the start.
  explain() {
    const { reason, start } = whyNone(this.head, this.data), { tints, colours } = this.data;
    const words = `${this.acts.named(this.head)} ${reason}`;
    if (start) {
      const [last] = this.extent(this.words[this.shown - 1]), from = Math.max(60, last);
      const arc = addArc(this.notes, { weight: start, colour: colours[tints[this.head]], radius: 3.4, class: "strong" });
      placeArc(arc, this.at(from, 0), this.at(22, 18), this.down ? [0.4 * this.width, 0] : [0, -0.9 * RISE]);
      if (this.down) this.write("[start]", this.edge, 14, "start");
      else this.write("[start]", 0, SKY - 6, "start");
    }
    if (!this.down) return this.write(words, this.width / 2, SKY / 2);
    // A narrow board has room for a few words in a line.
    const [why, what] = words.split(": ");
    [why, what].forEach((line, index) => line && this.write(line, this.width, 34 + 18 * index, "end"));
  }

  pressKey(event) {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    const next = step && this.words[this.words.indexOf(event.target) + step];
    if (!next || next.hidden) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}

// Why a head has no arcs, by what is known, and in short: it rests on the first token, in this share (`start`), or on no word
// enough.
export function whyNone(head, { facts, first }) {
  const [role, , , share] = facts.roles?.[head] ?? [], { arcs, looks } = first.sentence.maps;
  if (arcs[head].length) return { reason: "attends to words that are not shown", short: "" };
  if (role === "first") return { reason: `rests on the first token (${whole(share)}): nothing to draw`, short: "Nothing to draw in this sentence", start: share };
  const most = whole(Math.max(...looks[head]) / 255);
  return { reason: `attends to no other word by more than ${most}: nothing to draw`, short: `No word here gets more than ${most}` };
}

// The answer under the shown mask: as it was measured, or that of the nearest budget, which is `about` the same.
export function answerOf(state, { current, first }) {
  const { kept: own, state: how, budgets, answers, over } = first.sentence;
  if (state.kept === current.kept && own) return { answer: own, how };
  if (!budgets.length) return { how };
  const nearest = budgets.reduce((best, budget) => (Math.abs(budget - state.budget) < Math.abs(best - state.budget) ? budget : best));
  const about = nearest !== state.budget || state.origin === "hand";
  return { answer: answers[budgets.indexOf(nearest)], how: over, about };
}

// Both answers as bars.
export class Answers {
  constructor(parent) {
    this.place = make("div", "answers", parent);
    make("p", "what", this.place, "Your sentence");
    this.title = make("p", "finding", this.place);
    this.rows = ["all", "kept"].map((name) => {
      const row = make("div", `answer ${name}`, this.place);
      return { row, label: make("span", "label", row), bar: make("span", "fill", make("span", "track", row)), share: make("b", "", row) };
    });
    this.waits = make("p", "waits", this.place);
  }

  show(state, data) {
    const { full, waits } = data.first.sentence, { answer, how, about } = answerOf(state, data);
    const all = state.budget === data.layers * data.heads;
    this.title.textContent = !full || !answer ? "…" : answer[0] === full[0] ? `Same answer: ${answer[0]}` : `${full[0]} becomes ${answer[0]}`;
    if (!full) this.title.textContent = "Reading…";
    this.write(0, `All ${data.unit}s`, full);
    this.write(1, all ? `All ${data.unit}s` : `Kept, ${how}`, answer, about);
    this.rows[1].row.classList.toggle("lost", Boolean(full && answer && answer[0] !== full[0]));
    this.waits.textContent = waits;
  }

  write(index, label, answer, about) {
    const { row, ...parts } = this.rows[index];
    row.classList.toggle("about", Boolean(about));
    parts.label.textContent = label;
    parts.bar.style.width = `${100 * (answer?.[1] ?? 0)}%`;
    parts.share.textContent = answer ? `${about ? "≈ " : ""}${Math.round(answer[1] * 100)} %` : "";
  }
}

// Marks below the slider at the budgets whose answer is another one, the largest of which is named.
export class Flips {
  constructor(parent) {
    this.place = make("div", "flips", parent);
  }

  draw(data) {
    const { budgets } = data, { answers, full, budgets: measured, over } = data.first.sentence;
    const changed = measured.filter((_, index) => full && answers[index][0] !== full[0]);
    const width = this.place.clientWidth || 500, total = budgets.at(-1), beside = this.place.nextElementSibling?.offsetWidth ?? 0;
    const room = width - (beside && beside + 12);
    const x = (budget) => 9 + ((budget - budgets[0]) / Math.max(1, total - budgets[0])) * (width - 18);
    const svg = draw("svg", { width, height: 22, viewBox: `0 0 ${width} 22` });
    for (const budget of changed) draw("line", { x1: x(budget), x2: x(budget), y1: 0, y2: 5, class: "tick-flip" }, svg);
    this.place.replaceChildren(svg);
    if (!changed.length) return;
    const flip = Math.max(...changed), at = x(flip);
    draw("path", { d: `M${at},1l5,8h-10z`, class: "flip" }, svg);
    const words = `at ${flip} your answer becomes ${answers[measured.indexOf(flip)][0]}, ${over}`;
    const label = draw("text", { y: 21, class: "flip" }, svg, words);
    // Beside the mark, on the side with more room, and never beyond the edge of the board.
    const length = Math.min(label.getComputedTextLength(), room);
    label.setAttribute("textLength", length);
    label.setAttribute("lengthAdjust", "spacingAndGlyphs");
    const start = at > width / 2 ? at - 9 - length : at + 9;
    label.setAttribute("x", Math.max(0, Math.min(start, room - length)));
  }
}
