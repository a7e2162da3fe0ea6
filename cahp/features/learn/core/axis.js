// The axis of an answer as a Streamlit component: what was measured above it, and the own guess and those of a class below.

import { make } from "../../../board/core/elements.js";

export default function ({ data, parentElement }) {
  if (!data) return;
  parentElement.querySelector(".axis")?.remove();
  const { begin, end, unit, value, low, high, guess, guesses, label } = data;
  const root = make("div", "axis", parentElement);
  const amount = (number) => (unit === "per cent" ? `${number} %` : `${number} ${number === 1 ? unit.replace(/s$/, "") : unit}`);
  root.setAttribute("role", "img");
  root.setAttribute("aria-label", label);
  const share = (number) => (100 * (number - begin)) / Math.max(1e-9, end - begin);
  const put = (className, number, text) => {
    const mark = make("span", className, root, text);
    mark.style.left = `${share(number)}%`;
    // Words never reach beyond the ends of the axis.
    if (text) mark.style.transform = `translateX(-${share(number)}%)`;
    return mark;
  };
  make("span", "base", root);
  for (const tick of [begin, (begin + end) / 2, end]) put("tick", tick, `${Math.round(tick)}`);
  if (high > low) put("band", low).style.width = `${share(high) - share(low)}%`;
  put("measured", value);
  put("measured-words", value, `measured: ${amount(value)}`);
  for (const other of guesses) put("other", other);
  if (guesses.length) make("span", "class-words", root, "grey: guesses of the class");
  if (guess == null) return;
  put("own", guess);
  put("own-words", guess, `you: ${amount(guess)}`);
}
