// The main outcome over all budgets directly above the slider, on whose axis it lies: after the recovery and as pruned,
// without numbers. A line between values that were not measured is dashed.

import { draw, make } from "./elements.js";

const HEIGHT = 36, TOP = 6, FOOT = 4; // px

export class Strip {
  constructor(parent) {
    this.place = make("div", "strip", parent);
    this.legend = make("span", "key");
  }

  draw(data) {
    this.data = data;
    const { budgets, rows, outcomes } = data;
    const width = Math.max(120, this.place.clientWidth || 500), total = budgets.at(-1);
    const outcome = outcomes.find(({ unit }) => unit === "share") ?? outcomes[0];
    this.name = outcome.name;
    // The middle of the slider's thumb travels from 9 px to 9 px before the end.
    this.x = (budget) => 9 + ((budget - budgets[0]) / Math.max(1, total - budgets[0])) * (width - 18);
    const own = rows.map(({ values }) => values[this.name]?.[0]), sure = rows.map(({ values }) => values[this.name]?.length > 1);
    const others = data.other ? rows.map(({ other }) => other?.[this.name]?.[0]) : [];
    const known = [...own, ...others].filter((value) => value != null);
    const low = Math.min(...known), high = Math.max(...known);
    this.y = (value) => TOP + (1 - (value - low) / Math.max(1e-9, high - low)) * (HEIGHT - TOP - FOOT);
    const svg = draw("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" });
    const state = data.recovered ? ["after", "pruned"] : ["pruned", "after"];
    this.line(svg, others, others.map(() => true), state[1]);
    this.line(svg, own, sure, state[0]);
    const names = [`${outcome.label.replace(/ (from|with) the full model$/, "")} ${data.recovered ? `after ${data.recovered}` : "as pruned"}`];
    if (data.other) names.push(data.other);
    this.legend.replaceChildren(...names.map((name, index) => make("span", `name-${state[index]}`, null, `— ${name} `)));
    this.marker = draw("line", { y1: 0, y2: HEIGHT, class: "marker" }, svg);
    this.spot = draw("circle", { r: 4.5, class: `spot strip-${state[0]}` }, svg);
    this.place.replaceChildren(svg, this.legend);
    if (this.state) this.mark(this.state);
  }

  line(svg, values, sure, state) {
    const at = (index) => `${this.x(this.data.budgets[index]).toFixed(1)},${this.y(values[index]).toFixed(1)}`;
    for (const measured of [true, false]) {
      let path = "";
      for (let index = 1; index < values.length; index++) {
        if (values[index] == null || values[index - 1] == null || (sure[index] && sure[index - 1]) !== measured) continue;
        path += `${path.endsWith(at(index - 1)) ? "" : `M${at(index - 1)}`}L${at(index)}`;
      }
      if (path) draw("path", { d: path, class: `strip-line strip-${state}${measured ? "" : " dashed"}` }, svg);
    }
  }

  mark(state) {
    this.state = state;
    const x = this.x(state.budget), value = state.values[this.name]?.[0];
    this.marker.setAttribute("x1", x);
    this.marker.setAttribute("x2", x);
    // The words never lie on the marker.
    this.legend.classList.toggle("early", 2 * x > this.place.clientWidth);
    this.spot.setAttribute("visibility", value == null ? "hidden" : "visible");
    if (value == null) return;
    this.spot.setAttribute("cx", x);
    this.spot.setAttribute("cy", Math.min(HEIGHT - FOOT, Math.max(TOP, this.y(value))));
  }
}
