// Arcs from words to the words that a head attends to: the width tells the weight, and a dot marks the attended word.
//
// Places are [x, y] in px. `away` is the vector from both ends to where the arc is pulled.

import { draw } from "./elements.js";

// Add an arc of this colour as a group of a path and a dot, which `placeArc` places.
export function addArc(parent, { weight, colour, radius, ...attributes }) {
  const group = draw("g", attributes, parent);
  draw("path", { stroke: colour, fill: "none", "stroke-width": (1.6 + 2.2 * weight).toFixed(2), "stroke-linecap": "round" }, group);
  draw("circle", { r: radius, fill: colour, stroke: "none" }, group);
  return group;
}

export function placeArc(group, from, to, away) {
  const pulled = ([x, y]) => [x + away[0], y + away[1]];
  group.firstChild.setAttribute("d", `M${from}C${pulled(from)} ${pulled(to)} ${to}`);
  group.lastChild.setAttribute("cx", to[0]);
  group.lastChild.setAttribute("cy", to[1]);
}
