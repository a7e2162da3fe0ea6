// What a mask costs and saves, as at most three large figures: [value, unit, words, about]. An estimated one has a ≈ and
// is `about`; one that may as well be 0 is in words.

import { make } from "./elements.js";

const signed = (value, digits) => `${value > 0 ? "+" : ""}${value.toFixed(digits)}`.replace("-", "−").replace(/^[+−](?=0(\.0)?$)/, "");
const change = (ratio) => signed((ratio - 1) * 100, 0);
const calm = (low, high, none) => low != null && low <= none && high >= none;

export function gains(state, data) {
  const full = state.budget === data.layers * data.heads;
  const found = data.cache ? [["%", "memory per token", change(state.cache / data.cache)]] : [];
  const mebi = state.memory / 2 ** 20;
  if (mebi) found.push(["MiB", `cache at ${data.context.toLocaleString("en")} tokens`, mebi < 10 ? mebi.toPrecision(2) : mebi.toFixed(0)]);
  const accuracy = state.values.accuracy, before = data.outcomes.find(({ name }) => name === "accuracy")?.full;
  if (accuracy && before != null) {
    const quality = (value, about) => found.unshift(["points", "of accuracy", value, about]);
    const [pp, low, high] = state.values.accuracy_change ?? [];
    if (full) quality("0");
    else if (calm(low, high, 0)) quality("too close", false);
    else if (pp != null) quality(signed(pp, 1));
    else quality(signed((accuracy[0] - before) * 100, 1), true);
  } else if (state.values.agreement) {
    const [share, low] = state.values.agreement;
    found.push(["%", `of ${data.first.answers} unchanged`, `${Math.round(share * 100)}`, !full && low == null]);
  }
  if (!data.cache && state.ratio != null && !state.speed?.busy) {
    const { ratio, speed } = state, [low, high] = speed?.ratio.ci95 ?? [];
    found.push(["%", "time", full ? "0" : calm(low, high, 1) ? "too close" : change(ratio), !full && !speed]);
  }
  if (state.size != null) found.push(["%", "size", change(state.size)]);
  return found.map(([unit, words, value, about]) => [value, unit, words, about]);
}

export function grown([value, unit, words, about]) {
  const block = make("div", "gain"), plain = value === "too close";
  block.classList.toggle("about", Boolean(about));
  const figure = make("div", plain ? "amount words" : "amount", block, about ? `≈ ${value}` : value);
  if (!plain) figure.append(" ", make("span", "unit", null, unit));
  make("div", "what", block, plain ? `to call: ${words.replace("of ", "")}` : words);
  return block;
}
