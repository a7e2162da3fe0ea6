// A goal as a line across the curve of an outcome: a person drags it, and the board shows the fewest heads that reach it.
//
// As with `--goal`, a budget reaches a goal if the limit of its 95 % interval does, and only measured budgets count.

import { draw } from "./elements.js";
import { percent } from "./figures.js";

// The steps of a goal, by outcome; other shares and numbers have their own.
const STEPS = { accuracy: 0.005, agreement: 0.01, kl: 0.01 };
const HIT = 18; // px: what takes the pointer around the line
const SENT = 400; // ms: arrow keys change it many times, and only the last budget is sent

export class Goal {
  // `acts` are `to(budget)`, which shows a budget, and `end(budget)`, which asks for it.
  constructor(acts) {
    this.acts = acts;
    this.levels = new Map();
    this.move = (event) => this.drag(event);
    this.up = () => this.drop();
  }

  unmount() {
    this.drop(false);
    clearTimeout(this.waiting);
  }

  // Draw the line into a chart, whose axis `place` and `value` lead from a value to pixels and back.
  draw(svg, outcome, data, { place, value, left, right, top, bottom }) {
    Object.assign(this, { svg, outcome, data, place, value, top, bottom });
    const group = draw("g", { class: "goal", role: "slider", tabindex: 0, "aria-label": `Goal for the ${outcome.label}`, "aria-orientation": "vertical" }, svg);
    group.onkeydown = (event) => this.press(event);
    group.onpointerdown = (event) => {
      event.preventDefault();
      document.addEventListener("pointermove", this.move);
      document.addEventListener("pointerup", this.up);
      document.addEventListener("pointercancel", this.up);
    };
    draw("title", {}, group, `Drag it: the fewest ${data.unit}s whose 95 % interval reaches the goal, of the measured budgets`);
    this.line = draw("line", { x1: left, x2: right, class: "goal-line" }, group);
    this.hit = draw("rect", { x: left, width: right - left, height: HIT, class: "goal-hit" }, group);
    this.grip = draw("path", { class: "goal-grip" }, group);
    // The curves leave room below or above them at the right.
    this.words = draw("text", { x: right - 4, y: this.rises ? bottom - 6 : top + 12, class: "tick end over" }, group);
    this.right = right;
    this.group = group;
    this.show();
  }

  get step() {
    return STEPS[this.outcome.name] ?? (this.outcome.unit === "share" ? 0.01 : this.outcome.unit === "number" ? 0.5 : 0.01);
  }

  get rises() {
    return this.outcome.unit === "share";
  }

  get level() {
    return this.levels.get(this.outcome.name) ?? this.outcome.full;
  }

  // The limit of a budget's interval that counts (undefined: not measured).
  limit({ values }) {
    const { name, full } = this.outcome, own = values[name] ?? [], change = values.accuracy_change;
    if (name === "accuracy" && change?.length > 1) return full + change[1] / 100;
    return own.length > 1 ? own[this.rises ? 1 : 2] : undefined;
  }

  // Return the fewest heads that reach the line, if any do.
  reach() {
    const { budgets, rows } = this.data, level = this.level;
    const reaches = (limit) => limit !== undefined && (this.rises ? limit >= level - 1e-9 : limit <= level + 1e-9);
    // All heads lose nothing.
    return budgets.find((budget, index) => budget === this.data.layers * this.data.heads || reaches(this.limit(rows[index])));
  }

  describe() {
    const { name, full, unit } = this.outcome, level = this.level;
    if (name === "accuracy") return `lose at most ${(100 * (full - level)).toFixed(1)} points`;
    if (this.rises) return `keep at least ${percent(level, 0)}`;
    return `at most ${level.toFixed(unit === "number" ? 1 : 2)}`;
  }

  show() {
    const y = this.place(this.level), set = this.levels.has(this.outcome.name);
    this.line.setAttribute("y1", y);
    this.line.setAttribute("y2", y);
    this.hit.setAttribute("y", y - HIT / 2);
    // Two triangles that point up and down.
    this.grip.setAttribute("d", `M${this.right - 16},${y - 2}h14l-7,-7zM${this.right - 16},${y + 2}h14l-7,7z`);
    const budget = this.reach(), found = budget === undefined ? "no measured budget" : `${budget} ${this.data.unit}s`;
    const words = `${this.describe()}: ${found}`;
    this.words.textContent = set ? words : "goal: drag the arrows";
    this.group.classList.toggle("set", set);
    this.group.setAttribute("aria-valuemin", 0);
    this.group.setAttribute("aria-valuemax", this.rises ? 1 : 100);
    this.group.setAttribute("aria-valuenow", this.level);
    this.group.setAttribute("aria-valuetext", words);
    return budget;
  }

  // Put the line at a level within the axis, which is rounded to whole steps from the full model's value.
  set(wanted) {
    const { full, name } = this.outcome, { step } = this;
    const level = Math.max(this.value(this.bottom), Math.min(this.value(this.top), wanted));
    const steps = Math.round((level - full) / step);
    this.levels.set(name, full + (this.rises ? Math.min(0, steps) : Math.max(0, steps)) * step);
    this.budget = this.show();
    if (this.budget !== undefined) this.acts.to(this.budget);
  }

  drag(event) {
    // The chart may have been drawn anew.
    const box = this.svg.getBoundingClientRect();
    this.held = true;
    this.set(this.value(event.clientY - box.top));
  }

  drop(sends = true) {
    for (const name of ["pointerup", "pointercancel"]) document.removeEventListener(name, this.up);
    document.removeEventListener("pointermove", this.move);
    if (!this.held) return;
    this.held = false;
    if (sends) this.acts.end(this.budget);
  }

  press(event) {
    const way = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[event.key];
    if (!way) return;
    event.preventDefault();
    event.stopPropagation();
    this.held = true;
    this.set(this.level + way * this.step);
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.drop(), SENT);
  }
}
