// Figures of a mask: each outcome (accuracy, KL divergence, agreement, perplexity), and time or the size of the cache, as
// [name, value, lines].
// Ranges are 95 % intervals. Estimated values are called so, and a dash stands for a value that is not measured.

import { make } from "./elements.js";

export const percent = (share, digits = 1) => `${(share * 100).toFixed(digits)} %`;
// A value of an outcome: shares in per cent, nats with at least two significant digits, as many as `like` has.
const digits = (nats) => (nats > 0 && nats < 0.01 ? Math.min(9, 1 - Math.floor(Math.log10(nats))) : 3);
const shown = (value, { unit }, like = value) => {
  if (unit === "share") return percent(value);
  return unit === "number" ? value.toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 }) : value.toFixed(digits(like));
};
// Agreement and KL divergence are with the full model, as the legend of the page tells.
export const titled = (label) => `${label[0].toUpperCase()}${label.slice(1).replace(/ (from|with) the full model$/, "")}`;
const points = (pp) => `${pp > 0 ? "+" : ""}${pp.toFixed(1)}`.replace("-", "−");

// `alone`: nothing more will be measured.
export function figures(state, data, alone) {
  const total = data.layers * data.heads;
  const yet = alone ? "" : " yet";
  const quality = data.outcomes.map((outcome, index) => figure(outcome, state, data, total, yet, index === 0));
  return [...quality, data.cache ? cache(state, data, total) : time(state, total, yet)];
}

export function written([name, value, lines]) {
  const block = make("div", "figure");
  make("div", "name", block, name);
  make("div", /^[a-z]/.test(value) ? "value words" : "value", block, value);
  for (const text of lines) make("div", "line", block, text);
  return block;
}

// How the heads were chosen.
export function origin(state) {
  const hand = state.method ? `by ${state.method}` : "made by hand";
  return { auto: "by the published rule", hand, budget: "by budget" }[state.origin] ?? state.origin;
}

// Words about the whole mask stand at the `first` outcome.
function figure(outcome, state, data, total, yet, first) {
  const [value, low, high, n] = state.values[outcome.name] ?? [];
  const beside = another(outcome, state, data);
  // The first title tells which model all figures are of.
  const unit = ["share", "number"].includes(outcome.unit) ? "" : ` (${outcome.unit})`;
  const how = !first ? "" : state.how ? ` ${state.how}` : data.recovered ? ` after ${data.recovered}` : state.note || beside ? " as pruned" : "";
  const name = `${titled(outcome.label)}${how}${unit}`;
  const status = first && data.status ? [data.status] : [];
  if (value == null) return [name, "–", beside ? [beside, ...status] : first && !data.status ? [data.unmeasured || `not measured${yet}`] : status];
  const text = shown(value, outcome);
  const ends = low == null ? [] : [low, high].map((end) => shown(end, outcome, value));
  const lines = low == null ? [] : [`${ends[0].replace(" %", "")} to ${ends[1]}, n = ${n}${data.per === "token" ? ` ${data.units}` : ""}`];
  if (low == null || state.glimpsed) {
    const some = state.about === 1 ? `1 ${data.unit} has` : `${state.about} ${data.unit}s have`;
    const from = state.about ? `: ${some} it` : state.glimpsed ? `from the first ${state.glimpsed} ${data.units}` : "between measured budgets";
    lines.push(state.about ? `about${from}` : `estimated ${from}`, ...status);
    return [name, `≈ ${text}`, beside ? [...lines, beside] : lines];
  }
  const [pp, ppLow, ppHigh] = state.values.accuracy_change ?? [];
  if (outcome.name === "accuracy" && pp != null && state.budget < total) {
    const calm = ppLow <= 0 && ppHigh >= 0;
    lines.push(calm ? `too close to call with ${n} texts` : `${points(pp)} points (${points(ppLow)} to ${points(ppHigh)})`);
  }
  if (beside) lines.push(beside);
  if (first && state.note) lines.push(state.note);
  return [name, text, lines];
}

// An outcome after another recovery, in a line; undefined where it was not measured.
function another(outcome, state, data) {
  const [value, low, high] = state.other?.[outcome.name] ?? [];
  if (value == null) return undefined;
  const ends = low == null ? "" : ` (${shown(low, outcome, value).replace(" %", "")} to ${shown(high, outcome, value).replace(" %", "")})`;
  return `${state.beside ?? data.other} ${shown(value, outcome)}${ends}`;
}

// The cache of a causal language model is counted, so it has no interval and is never estimated.
function cache(state, data, total) {
  const bytes = (count) => count.toLocaleString("en");
  const against = `${(state.cache / data.cache).toFixed(2)} × the full model's ${bytes(data.cache)}`;
  return ["KV cache per token (bytes)", bytes(state.cache), [state.budget === total ? "full model" : against]];
}

function time(state, total, yet) {
  const name = "Time per batch";
  if (state.budget === total) return [name, "1.00 ×", ["full model"]];
  const { speed } = state;
  if (!speed) {
    if (state.ratio == null) return [name, "–", [`not timed${yet}`]];
    return [name, `≈ ${state.ratio.toFixed(2)} ×`, ["estimated between timed budgets"]];
  }
  const { n, ci95 } = speed.ratio, [low, high] = ci95 ?? [state.ratio, state.ratio];
  const calm = low <= 1 && high >= 1;
  const interval = `${low.toFixed(2)} to ${high.toFixed(2)}, n = ${n} rounds`;
  const both = `${speed.pruned_ms.toFixed(1)} ms, full model ${speed.full_ms.toFixed(1)} ms`;
  const ratio = `${state.ratio.toFixed(2)} ×`;
  if (speed.busy) return [name, "unreliable", [both, `${ratio}, ${interval}`, "the machine was busy: measure again when idle"]];
  // A ratio whose interval includes 1 is not shown as a saving.
  if (calm) return [name, "no measurable change", [both, `${ratio}, ${interval}`]];
  const change = `${Math.abs(Math.round((1 - state.ratio) * 100))} % ${state.ratio < 1 ? "less" : "more"}`;
  return [`${name}, ${change}`, ratio, [interval, both]];
}
