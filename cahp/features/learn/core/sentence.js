// The words of a sentence, and arcs from each word to the one that a head looks at.
//
//   const picture = arcs(parent, { words, arcs, colour, dashed });   // arcs: [looking, looked at, weight]
//   picture.show(count);   // the arcs of the first `count` words
//   picture.drop();        // the arcs vanish
//
// Words stand in a line, or below each other where a line is too narrow. Width: 1.6 + 2.2 x weight; the dot marks the word
// that is looked at. Hovering a word shows its arcs alone.

import { addArc, placeArc } from "../../../board/core/arcs.js";
import { draw, make } from "../../../board/core/elements.js";

const LARGEST = 25, SMALLEST = 15; // px of a word
const TALL = 190; // px of the highest arc

export function arcs(parent, { words, arcs: pairs, colour, dashed }) {
  const root = make("div", "arcs", parent);
  const svg = draw("svg", { "aria-hidden": "true" }, root);
  const line = make("p", "words", root);
  const spans = words.map((word) => {
    const span = make("span", "", line, word);
    line.append(" ");
    return span;
  });
  let shown = 0, gone = false, drawn = [];

  const place = () => {
    const room = root.clientWidth;
    if (!room) return;
    root.classList.remove("down");
    let size = LARGEST;
    for (; size >= SMALLEST; size--) {
      line.style.fontSize = `${size}px`;
      const taken = spans.reduce((sum, span) => sum + span.offsetWidth, 0);
      if (taken <= room) break;
    }
    const down = size < SMALLEST;
    root.classList.toggle("down", down);
    if (down) line.style.fontSize = "";
    svg.replaceChildren();
    const frame = root.getBoundingClientRect();
    const centres = spans.map((span) => {
      const box = span.getBoundingClientRect();
      return down ? box.top - frame.top + box.height / 2 : box.left - frame.left + box.width / 2;
    });
    const widest = Math.max(...spans.map((span) => span.offsetWidth)) + 8;
    const farthest = Math.max(1, ...pairs.map(([from, to]) => Math.abs(centres[from] - centres[to])));
    const reach = down ? Math.min(room - widest - 12, 200) : TALL;
    const high = ([from, to]) => 24 + (reach - 30) * (Math.abs(centres[from] - centres[to]) / farthest);
    const at = (along) => (down ? [widest, along] : [along, TALL + 8]);
    svg.setAttribute("width", room);
    svg.setAttribute("height", down ? line.offsetHeight : TALL + 12);
    drawn = pairs.map((pair) => {
      const [from, to, weight] = pair;
      // Arcs to and from a word do not start at one point.
      const side = Math.sign(centres[to] - centres[from]) * 4;
      const start = centres[from] + side, end = centres[to] - side, away = high(pair) * 1.33;
      const group = addArc(svg, { weight, colour, radius: 4.5, class: `arc from-${from}` });
      placeArc(group, at(start), at(end), down ? [away, 0] : [0, -away]);
      if (dashed) group.firstChild.setAttribute("stroke-dasharray", "6 4");
      else group.firstChild.setAttribute("pathLength", "1");
      group.classList.toggle("dashed", Boolean(dashed));
      return { from, to, group };
    });
    paint();
  };

  const paint = (alone = null) => {
    root.classList.toggle("gone", gone);
    for (const { from, to, group } of drawn) {
      group.classList.toggle("seen", !gone && from < shown && (alone === null || alone === from || alone === to));
    }
    spans.forEach((span, index) => {
      span.classList.toggle("now", !gone && shown < words.length && index === shown - 1);
      span.classList.toggle("later", !gone && index >= shown);
    });
  };

  spans.forEach((span, index) => {
    span.onpointerenter = () => shown === words.length && paint(index);
    span.onpointerleave = () => paint();
  });
  const observer = new ResizeObserver(place);
  observer.observe(root);
  place();
  return {
    show(count) { gone = false; shown = count; paint(); },
    drop() { gone = true; shown = words.length; paint(); },
    remove() { observer.disconnect(); root.remove(); },
  };
}
