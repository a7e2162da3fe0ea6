// An outcome, time (or the cache) and the clusters' silhouette over all budgets: solid lines join measured values, dashed ones estimates.
// Buttons choose the outcome among those that were measured.

import { SVG, choose, draw, make } from "./elements.js";
import { Goal } from "./goal.js";
import { titled } from "./figures.js";

// px: the room for the numbers of an axis, and the height of a line of words; a large screen is read from further away.
const LARGE = matchMedia("(min-width: 1600px)").matches;
const LEFT = LARGE ? 52 : 42;
const LINE = LARGE ? 19 : 15;

export class Curves {
  // `acts` are those of a goal, whose line lies across the first curve.
  constructor(parent, acts) {
    this.goal = new Goal(acts);
    this.panels = [];
    this.columns = 1;
    const row = make("div", "choices", parent);
    this.choices = make("div", "", row);
    const take = make("p", "take", row, "Save ");
    this.plots = make("div", "plots", parent);
    for (const format of ["svg", "png"]) make("button", "", take, format.toUpperCase()).onclick = () => this.save(format);
  }

  draw(data) {
    this.data = data;
    const { budgets, rows, ks, mss, knee } = data;
    const width = Math.max(240, ((this.plots.clientWidth || 800) - 32 * (this.columns - 1)) / this.columns);
    const total = budgets.at(-1), tall = width > 600 && innerHeight >= 1000 ? 1.4 : 1;
    // The thumb's middle travels from 9 px to 9 px before the end: so do the curves.
    this.x = (budget) => LEFT + 9 + ((budget - budgets[0]) / Math.max(1, total - budgets[0])) * (width - LEFT - 18);
    const outcome = this.choose(data), share = outcome.unit === "share";
    // Perplexity grows a hundredfold from many heads to few.
    const log = outcome.unit === "number", unit = share ? "%" : log ? "logarithmic" : `nats per ${data.per ?? "text"}`;
    const n = outcome.n ? `n = ${outcome.n}${data.per === "token" ? ` ${data.units}` : ""}, ` : "";
    // The baseline is far below most curves: it is drawn where it is within the axis, and else in the title.
    const guess = outcome.chance == null ? "" : `majority-class baseline ${Math.round(outcome.chance * 100)} %`;
    const panels = [
      {
        title: `${titled(outcome.label)}${data.recovered ? ` after ${data.recovered}` : ""} (${unit})`, log, about: `${n}95 % interval`, guess, height: 120 * tall,
        xs: budgets, scale: share ? (value) => `${Math.round(value * 100)}` : log ? (value) => value.toLocaleString("en") : String,
        least: log ? Infinity : 0, most: share ? 1 : log ? -Infinity : Infinity,
        read: ({ values, glimpsed }) => (values[outcome.name] ?? []).slice(0, glimpsed ? 1 : 3),
        other: ({ other }) => other?.[outcome.name]?.[0], otherName: data.other,
        line: outcome.full, lineName: "full model", floor: outcome.chance, floorName: guess, outcome,
      },
      data.cache ? {
        title: "KV cache per token (× the full model's)", about: "counted", height: 80 * tall,
        xs: budgets, scale: (value) => value.toFixed(2), least: 0, most: 1, within: [0.9, 1],
        read: ({ cache }) => [cache / data.cache, cache / data.cache, cache / data.cache], line: 1, lineName: "",
      } : {
        title: "Time per batch (× the full model's)", about: "95 % interval", height: 80 * tall,
        xs: budgets, scale: (value) => value.toFixed(2), least: 0, most: 2, within: [0.9, 1],
        read: ({ ratio, speed }) => [ratio, ...(speed?.ratio.ci95 ?? [])], line: 1, lineName: "",
      },
      {
        // A host that draws the curve of the rule elsewhere leaves it out.
        title: "Silhouette of the clusters (−1 to 1)", about: knee ? `knee at ${knee} clusters` : "no knee found", height: 110,
        xs: ks, scale: (value) => value.toFixed(1), least: 0, most: 1, within: mss,
        values: mss, low: [], high: [], sure: mss.map(() => true), knee,
      },
    ].filter(({ xs }) => xs.length);
    panels.at(-1).bottom = true;
    for (const panel of panels) {
      const points = panel.read ? rows.map(panel.read) : [];
      if (panel.read) {
        [panel.values, panel.low, panel.high] = [0, 1, 2].map((place) => points.map((point) => point[place]));
        panel.sure = panel.low.map((low) => low != null);
        points.push(panel.read(data.current));
        panel.others = panel.otherName ? rows.map(panel.other) : [];
        points.push(panel.others);
      }
      const within = [...points.flat(), ...(panel.within ?? []), ...(panel.log ? [panel.line] : [])].filter((value) => value != null);
      panel.place = panel.log ? Math.log10 : (value) => value;
      panel.span = span(within.map(panel.place), panel.least, panel.most);
    }
    const focused = this.goal.group?.matches(":focus");
    this.panels = panels.map((panel) => this.panel(panel, width));
    this.plots.replaceChildren(...this.panels.map((panel) => panel.svg));
    if (focused) this.goal.group.focus();
    if (this.state) this.mark(this.state);
  }

  // Return the outcome of the curve; the buttons are made again only where other outcomes were measured.
  choose({ outcomes, rows }) {
    const offered = outcomes.filter(({ name }) => rows.some(({ values }) => values[name]));
    const chosen = offered.find(({ name }) => name === this.chosen) ?? offered[0] ?? outcomes[0];
    const names = offered.map(({ label }) => titled(label));
    if (this.offered !== names.join()) {
      this.offered = names.join();
      this.choices.replaceChildren();
      const choices = offered.map(({ name }, index) => [names[index], name]);
      const again = (name) => {
        this.chosen = name;
        this.draw(this.data);
      };
      if (offered.length > 1) choose(this.choices, "Curve", choices, again)(chosen.name);
    }
    return chosen;
  }

  mark(state) {
    this.state = state;
    for (const { marker, spot, second, y, panel } of this.panels) {
      const x = this.x(state.budget);
      marker.setAttribute("x1", x);
      marker.setAttribute("x2", x);
      const [value, sure] = panel.read ? panel.read(state) : [panel.values[panel.xs.indexOf(state.budget)], true];
      spot.classList.toggle("hollow", sure == null);
      const back = panel.log ? (place) => 10 ** place : (place) => place;
      const place = (circle, at) => {
        circle.setAttribute("visibility", at == null ? "hidden" : "visible");
        if (at == null) return;
        circle.setAttribute("cx", x);
        circle.setAttribute("cy", y(Math.min(Math.max(at, back(panel.span[0])), back(panel.span[1]))));
      };
      place(spot, !panel.read && state.origin === "hand" ? null : value);
      place(second, panel.otherName && panel.other(state));
    }
  }

  panel(panel, width) {
    const { xs, values, low, high, sure } = panel;
    const inside = xs.map((x) => x >= this.data.budgets[0] && x <= this.data.budgets.at(-1));
    const known = xs.map((_, index) => index).filter((index) => inside[index] && values[index] != null);
    const unsure = known.filter((index) => !sure[index]);
    // Where points would touch, the estimated ones are left to the dashed line.
    const dense = (width - LEFT - 18) / xs.length < 7;
    const note = unsure.length ? (dense ? "dashed: estimated" : "hollow, dashed: estimated") : "";
    // One line of words, or one below the other where there is no room.
    const narrow = width < 760;
    const [bottom, ceiling] = panel.span;
    const floored = panel.floor != null && panel.floor >= bottom, guess = floored ? "" : panel.guess;
    const lines = narrow ? [panel.title, [panel.about, guess, note].filter(Boolean).join(" · ")] : [`${panel.title}, ${panel.about}`, guess];
    const words = lines.filter(Boolean);
    const foot = panel.bottom ? 8 + 2 * LINE : 8;
    const top = 12 + LINE * words.length;
    const height = panel.height + 14 * words.length - 14 + (panel.bottom ? 30 : 0);
    const y = (value) => top + (1 - (panel.place(value) - bottom) / (ceiling - bottom)) * (height - top - foot);
    const svg = draw("svg", { class: panel.otherName ? "outcome" : "", width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
    svg.setAttribute("aria-label", `${[panel.title, panel.about, panel.guess].filter(Boolean).join(", ")}, over the ${this.data.unit}s kept`);
    words.forEach((line, index) => {
      draw("text", { x: narrow ? 0 : LEFT, y: LINE * (1 + index), class: index ? "tick" : "title" }, svg, line);
    });
    // The colour of the line names it.
    if (panel.otherName) draw("text", { x: width - 4, y: narrow ? LINE : 2 * LINE, class: "tick end name-other" }, svg, `— ${panel.otherName}`);
    if (note && !narrow) draw("text", { x: width - 6, y: LINE, class: "tick end" }, svg, note);
    for (const tick of panel.log ? decades(bottom, ceiling) : ticks(bottom, ceiling)) {
      draw("line", { x1: LEFT, x2: width - 4, y1: y(tick), y2: y(tick), class: "rule" }, svg);
      draw("text", { x: LEFT - 8, y: y(tick) + 4, class: "tick end" }, svg, panel.scale(tick));
    }
    const r = dense ? 1.6 : 2.5;
    const dot = (index, of = values) =>
      `M${(this.x(xs[index]) - r).toFixed(1)},${y(of[index]).toFixed(1)}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 -${2 * r},0`;
    const at = (index, value) => `${this.x(xs[index]).toFixed(1)},${y(value).toFixed(1)}`;
    // A band joins measured neighbours only: between others the interval is unknown.
    const runs = [];
    for (const index of known.filter((one) => low[one] != null)) {
      if (runs.length && runs.at(-1).at(-1) === index - 1) runs.at(-1).push(index);
      else runs.push([index]);
    }
    for (const run of runs) {
      const outline = [...run.map((one) => at(one, high[one])), ...run.map((one) => at(one, low[one])).reverse()];
      draw("path", { d: `M${outline.join("L")}Z`, class: run.length > 1 ? "band" : "bar" }, svg);
    }
    if (panel.line != null) {
      draw("line", { x1: LEFT, x2: width - 4, y1: y(panel.line), y2: y(panel.line), class: "reference" }, svg);
    }
    if (floored) {
      draw("line", { x1: LEFT, x2: width - 4, y1: y(panel.floor), y2: y(panel.floor), class: "reference" }, svg);
      // Where the two lines are close, the full model's name is above its line and this name below.
      const near = panel.lineName && panel.line != null && Math.abs(y(panel.floor) - y(panel.line)) < LINE;
      const beside = near ? Math.max(y(panel.floor), y(panel.line)) + LINE - 1 : y(panel.floor) - 5;
      draw("text", { x: width - 6, y: beside, class: "tick end" }, svg, panel.floorName);
    }
    // The line is solid between two measured neighbours only. Adjacent pieces of one kind are one path: a new path would
    // restart the dashes, and dense budgets would show none.
    let solid = "", dashed = "", before;
    for (let i = 1; i < known.length; i++) {
      // No line across budgets without a value.
      if (known[i] !== known[i - 1] + 1) {
        before = undefined;
        continue;
      }
      const both = sure[known[i - 1]] && sure[known[i]];
      const stretch = `${both === before ? "" : `M${at(known[i - 1], values[known[i - 1]])}`}L${at(known[i], values[known[i]])}`;
      if (both) solid += stretch;
      else dashed += stretch;
      before = both;
    }
    if (panel.otherName) {
      const there = xs.map((_, index) => index).filter((index) => panel.others[index] != null);
      // Dashed where budgets between measured ones are missing.
      const line = (joined) =>
        there.map((index, place) => `${place && (index - 1 === there[place - 1]) === joined ? "L" : "M"}${at(index, panel.others[index])}`);
      draw("path", { d: line(true).join(""), class: "other" }, svg);
      draw("path", { d: line(false).join(""), class: "other dashed" }, svg);
      draw("path", { d: there.map((index) => dot(index, panel.others)).join(""), class: "dots others" }, svg);
    }
    if (dashed) draw("path", { d: dashed, class: "curve dashed" }, svg);
    if (solid) draw("path", { d: solid, class: "curve" }, svg);
    if (panel.read) {
      if (!dense) draw("path", { d: unsure.map((index) => dot(index)).join(""), class: "dots hollow" }, svg);
      draw("path", { d: known.filter((index) => sure[index]).map((index) => dot(index)).join(""), class: "dots" }, svg);
    }
    if (!known.length) draw("text", { x: (width + LEFT) / 2, y: height / 2 + 12, class: "tick middle" }, svg, "not measured");
    if (panel.knee) {
      const x = this.x(Math.max(panel.knee, this.data.budgets[0]));
      draw("line", { x1: x, x2: x, y1: top, y2: height - foot, class: "knee" }, svg);
    }
    if (panel.bottom) {
      for (const tick of ticks(this.data.budgets[0], this.data.budgets.at(-1), 8)) {
        draw("text", { x: this.x(tick), y: height - 4 - LINE, class: "tick middle" }, svg, String(tick));
      }
      draw("text", { x: (width + LEFT) / 2, y: height - 3, class: "tick middle" }, svg, `${this.data.unit}s kept${panel.xs === this.data.ks ? " (clusters, for the silhouette)" : ""}`);
    }
    const marker = draw("line", { y1: top, y2: height - foot, class: "marker" }, svg);
    if (panel.outcome?.full != null) {
      const back = panel.log ? (value) => 10 ** value : (value) => value;
      const value = (at) => back(bottom + (1 - (at - top) / (height - top - foot)) * (ceiling - bottom));
      this.goal.draw(svg, panel.outcome, this.data, { place: y, value, left: LEFT, right: width - 4, top, bottom: height - foot });
    }
    // What was recovered has a mark of its own, as the model as pruned has.
    const marks = ["spot", "spot ring"].map((look) => draw("circle", { r: 5, class: look }, svg));
    if (panel.other && this.data.recovered) marks.reverse();
    // The curves meet the line at the right. The name is legible where the marker passes it.
    if (panel.line != null && panel.lineName) {
      draw("text", { x: LEFT + 4, y: y(panel.line) - 5, class: "tick over" }, svg, panel.lineName);
    }
    return { svg, marker, spot: marks[0], second: marks[1], y, panel };
  }

  // Save the three curves as one picture, with their colours on screen.
  save(format) {
    const width = Number(this.panels[0].svg.getAttribute("width"));
    const heights = this.panels.map(({ svg }) => Number(svg.getAttribute("height")));
    const height = heights.reduce((sum, one) => sum + one, 0);
    const all = draw("svg", { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}` });
    // Read the background colour from the page, as hosts name their colours differently.
    const ground = draw("rect", { class: "ground", width, height }, this.panels[0].svg);
    draw("rect", { width, height, fill: getComputedStyle(ground).fill }, all);
    ground.remove();
    let top = 0;
    this.panels.forEach(({ svg }, index) => {
      const group = draw("g", { transform: `translate(0 ${top})` }, all);
      for (const shape of svg.children) {
        const copy = shape.cloneNode(true);
        const style = getComputedStyle(shape);
        for (const name of ["fill", "stroke", "stroke-width", "stroke-dasharray", "paint-order", "opacity", "font-size", "font-weight", "font-family", "text-anchor", "visibility"]) {
          copy.setAttribute(name, style.getPropertyValue(name));
        }
        group.append(copy);
      }
      top += heights[index];
    });
    const source = new Blob([new XMLSerializer().serializeToString(all)], { type: "image/svg+xml" });
    if (format === "svg") return keep(source, "budgets.svg");
    const image = new Image();
    image.onload = () => {
      const canvas = Object.assign(document.createElement("canvas"), { width: width * 2, height: height * 2 });
      canvas.getContext("2d").drawImage(image, 0, 0, width * 2, height * 2);
      canvas.toBlob((blob) => keep(blob, "budgets.png"), "image/png");
    };
    image.src = URL.createObjectURL(source);
  }
}

function keep(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Return the axis range: the values with some room, within the possible range.
function span(values, least, most) {
  if (!values.length) return [0, 1];
  const low = Math.min(...values), high = Math.max(...values);
  const room = Math.max(0.02, (high - low) * 0.06);
  return [Math.max(Math.min(least, low), low - room), Math.min(Math.max(most, high), high + room)];
}

// 10, 30, 100, ... in a range of logarithms.
function decades(low, high) {
  const found = [];
  for (let power = Math.floor(low); power <= high; power++) found.push(10 ** power, 3 * 10 ** power);
  return found.filter((tick) => Math.log10(tick) >= low && Math.log10(tick) <= high);
}

function ticks(low, high, count = 4) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + 1e-9; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}
