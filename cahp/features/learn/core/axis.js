// The axis of an answer as a Streamlit component: what was measured and a histogram of the guesses of a class above it,
// and the own guess below.

import { make } from "../../../board/core/elements.js";
import { fill } from "./texts.js";

const BINS = 36; // of the histogram, where guesses have no fewer values
const TALL = 58; // px of its highest column

export default function ({ data, parentElement }) {
  if (!data) return;
  parentElement.querySelector(".axis")?.remove();
  const { begin, end, value, low, high, guess, guesses, unit, units, texts } = data;
  const root = make("div", guesses.length ? "axis crowd" : "axis", parentElement);
  const say = (text, number) => fill(text, { amount: `${number} ${number === 1 ? unit : units}`, count: guesses.length });
  const measured = say(texts.measured, value), said = [measured];
  root.setAttribute("role", "img");
  const share = (number) => (100 * (number - begin)) / Math.max(1e-9, end - begin);
  const put = (className, number, text) => {
    const mark = make("span", className, root, text);
    mark.style.left = `${share(number)}%`;
    // Words never reach beyond the ends of the axis.
    if (text) mark.style.transform = `translateX(-${share(number)}%)`;
    return mark;
  };
  const counts = new Map();
  const bins = Math.min(BINS, Math.ceil(end - begin) + 1);
  for (const other of guesses) {
    const bin = Math.min(bins - 1, Math.floor((bins * (other - begin)) / (end - begin)));
    counts.set(bin, (counts.get(bin) ?? 0) + 1);
  }
  const most = Math.max(4, ...counts.values());
  for (const [bin, count] of counts) {
    const column = make("span", "others", root);
    Object.assign(column.style, { left: `${(100 * bin) / bins}%`, width: `${100 / bins}%`, height: `${(TALL * count) / most}px` });
  }
  make("span", "base", root);
  for (const tick of [begin, (begin + end) / 2, end]) put("tick", tick, `${Math.round(tick)}`);
  if (high > low) put("band", low).style.width = `${share(high) - share(low)}%`;
  put("measured", value);
  put("measured-words", value, measured);
  if (guesses.length) {
    // They are sorted.
    const middle = (guesses[Math.floor((guesses.length - 1) / 2)] + guesses[Math.floor(guesses.length / 2)]) / 2;
    said.push(say(texts.class, middle));
    make("span", "class-words", root, said.at(-1));
  }
  if (guess != null) {
    said.push(say(texts.you, guess));
    put("own", guess);
    put("own-words", guess, said.at(-1));
  }
  root.setAttribute("aria-label", said.join(". "));
}
