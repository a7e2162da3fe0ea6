// A person's sentence: its words with arcs of what the kept heads attend to, in the colours of their families, the answers
// with all heads and with the kept ones, and marks at the budgets whose answer is another one.
//
// Pointing at a word lights the heads that attend to it, pointing at a head leaves only its arcs. Nothing moves where a
// person asked for less motion.

import { addArc, placeArc } from "./arcs.js";
import { draw, make } from "./elements.js";

const SKY = 112, RISE = 100; // px: the room above the words, and the highest arc
const LARGEST = 21, SMALLEST = 13; // px: the size of words
const FALL = 250; // ms
const LOOKS = 41; // of 255: a head with less attention on a word does not light up
const kept = (bits, head) => (bits[head >> 3] >> (7 - (head & 7))) & 1;
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export class Sentence {
  // `light(heads)` lights heads on the board, or none.
  constructor(parent, light) {
    this.place = make("div", "sentence", parent);
    this.light = light;
    this.svg = draw("svg", { class: "arcs", height: SKY, "aria-hidden": "true" }, this.place);
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
    this.looks = looks;
    this.ends = new Map();
    this.svg.replaceChildren();
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

  // Choose the largest size at which all words fit; on a narrow board they scroll.
  fit() {
    if (!this.words?.length) return;
    const narrow = this.place.clientWidth < 720;
    const sized = (size) => this.row.style.setProperty("--size", `${size}px`);
    this.words.forEach((word) => (word.hidden = false));
    let size = narrow ? 16 : LARGEST;
    sized(size);
    const over = () => !narrow && this.row.scrollWidth > this.row.clientWidth + 1;
    while (size > SMALLEST && over()) sized(--size);
    let shown = this.words.length;
    while (shown > 1 && over()) this.words[--shown].hidden = true;
    this.shown = shown;
    this.note.textContent = shown < this.sentence.maps.length ? `first ${shown} words shown` : "";
    this.svg.setAttribute("width", this.row.scrollWidth);
    if (this.state) this.show(this.state, true);
  }

  // The arcs of the kept heads, or those of what is pointed at; of equal pairs the strongest one.
  visible() {
    const { arcs } = this.sentence.maps, { bits } = this.state, found = [];
    arcs.forEach((own, head) => {
      if (this.head === undefined ? kept(bits, head) : head === this.head) {
        for (const [query, key, weight] of own) if (query < this.shown && key < this.shown) found.push({ head, query, key, weight });
      }
    });
    found.sort((one, other) => other.weight - one.weight);
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
    for (const arc of arcs) {
      const name = `${arc.head} ${arc.query} ${arc.key}`;
      now.add(name);
      const group = this.ends.get(name) ?? this.add(name, arc);
      const [from, to] = places.get(arc);
      const rise = Math.min(RISE, 16 + 0.14 * Math.abs(to - from)) * 1.333;
      placeArc(group, [from, SKY - 4], [to, SKY - 4], [0, -rise]);
    }
    for (const [name, group] of this.ends) {
      if (now.has(name)) continue;
      this.ends.delete(name);
      if (once || this.head !== undefined || still()) group.remove();
      else {
        group.classList.add("falling");
        setTimeout(() => group.remove(), FALL);
      }
    }
    this.mark();
  }

  add(name, { head, query, key, weight }) {
    const { tints, colours, striped } = this.data, tint = tints[head];
    const place = { "data-head": head, "data-query": query, "data-key": key, class: tint >= striped ? "striped" : "" };
    const group = addArc(this.svg, { weight, colour: colours[tint], radius: 3.4, ...place });
    this.ends.set(name, group);
    return group;
  }

  // The places of both ends of each arc: those at one word stand side by side, in the order of their other ends.
  spread(arcs) {
    const middles = this.words.map((word) => word.offsetLeft + word.offsetWidth / 2), at = this.words.map(() => []);
    for (const arc of arcs) {
      at[arc.query].push({ arc, end: 0, other: arc.key });
      at[arc.key].push({ arc, end: 1, other: arc.query });
    }
    const places = new Map(arcs.map((arc) => [arc, [0, 0]]));
    at.forEach((ends, word) => {
      // Ends to the left come first; of those, the one of the nearest word is innermost.
      ends.sort((one, two) => (one.other < word) - (two.other < word) ? (two.other < word) - (one.other < word) : two.other - one.other);
      const step = Math.min(9, Math.max(2, (this.words[word].offsetWidth - 4) / Math.max(1, ends.length)));
      ends.forEach(({ arc, end }, index) => (places.get(arc)[end] = Math.max(4, middles[word] + (index - (ends.length - 1) / 2) * step)));
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

  // Leave only the arcs of a head; undefined: those of the kept ones.
  pointHead(head) {
    if (head === this.head) return;
    this.head = head;
    if (this.state && this.words?.length) this.show(this.state, true);
  }

  // Fade the arcs that do not end at the word that is pointed at.
  mark() {
    for (const group of this.ends.values()) {
      group.classList.toggle("away", this.word !== undefined && Number(group.dataset.key) !== this.word);
    }
  }

  pressKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const next = step && this.words[this.words.indexOf(event.target) + step];
    if (!next || next.hidden) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
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
    make("p", "hint", this.place, "Point at a word: the heads that attend to it light up. Point at a head: only its arcs stay.");
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
