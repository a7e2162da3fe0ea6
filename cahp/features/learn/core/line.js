// The outcome step by step, as a Streamlit component: a dot for each step, and a line as far as the person has guessed.

import { draw, make } from "../../../board/core/elements.js";
import { fill } from "./texts.js";

const HIGH = 74, TOP = 12;
const LOWEST = 0.6; // of the axis, unless an outcome is below

export default function ({ data, parentElement }) {
  if (!data) return;
  parentElement.querySelector(".line")?.remove();
  const { at, median } = data;
  // Of random selections, the ends of their range are drawn, too.
  const points = data.points.map((point) => {
    if (point.step !== "random" || !point.ends) return point;
    return { ...point, low: point.ends[0], high: point.ends[1], text: fill(median, { amount: point.text }) };
  });
  const lowest = Math.min(LOWEST, ...points.map(({ low, value }) => low ?? value ?? 1));
  const label = points.filter(({ text }) => text).map(({ short, text }) => `${short}: ${text}`).join("; ");
  const count = points.length;
  const root = make("div", "line", parentElement);
  const width = 100 * count;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${HIGH + 14}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, root);
  const x = (index) => 50 + 100 * index;
  const y = (value) => TOP + (HIGH - TOP) * (1 - Math.max(0, (value - lowest) / (1 - lowest)));
  const known = points.map((point, index) => ({ ...point, index })).filter((point) => point.value !== undefined);
  const path = known.map(({ value, index }) => `${x(index)},${y(value)}`).join(" ");
  draw("polyline", { points: path, class: "path" }, svg);
  for (const { low, high, index } of known) {
    if (low !== undefined) draw("line", { x1: x(index), x2: x(index), y1: y(low), y2: y(high), class: "whisker" }, svg);
  }
  points.forEach((point, index) => {
    const seen = point.value !== undefined;
    const dot = make("span", `dot${seen ? " seen" : ""}${index === at ? " now" : ""}`, root);
    dot.style.left = `${(100 * (index + 0.5)) / count}%`;
    dot.style.top = `${seen ? y(point.value) : HIGH / 2}px`;
    if (!seen) return;
    const words = make("span", "figure", root, point.text);
    words.style.left = dot.style.left;
    words.style.top = `${Math.min(y(point.value) + 8, HIGH - 4)}px`;
  });
}
