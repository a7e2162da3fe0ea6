// Three figures of a mask: heads kept, accuracy and time, each as [name, value, tag, lines].
// Estimated values are tagged as such, and a dash stands for a value that is not measured.

import { make } from "./elements.js";

export const percent = (share, digits = 1) => `${(share * 100).toFixed(digits)} %`;
const points = (pp) => `${pp > 0 ? "+" : ""}${pp.toFixed(1)}`.replace("-", "−");

// `alone`: nothing more will be measured.
export function figures(state, data, alone) {
  const total = data.layers * data.heads;
  const yet = alone ? "" : " yet";
  return [keptHeads(state, total), accuracy(state, data, total, yet), time(state, total, yet)];
}

export function written([name, value, tag, lines]) {
  const block = make("div", "figure");
  make("div", "name", block, name);
  const line = make("div", /^[a-z]/.test(value) ? "value words" : "value", block, value);
  if (tag) make("span", "tag", line, tag);
  for (const text of lines) make("div", "line", block, text);
  return block;
}

function keptHeads(state, total) {
  const why = { auto: "CAHP's choice", hand: "made by hand", budget: "by budget" }[state.origin] ?? state.origin;
  return ["Heads kept", `${state.budget} of ${total}`, "", [`${percent(state.budget / total, 0)}, ${why}`]];
}

function accuracy(state, data, total, yet) {
  // Where a note is about a recovery, the name tells that this figure is of the model without one.
  const plain = state.note ? "Accuracy as pruned" : "Accuracy";
  const name = data.recovered ? `Accuracy after ${data.recovered}` : plain;
  if (state.low == null) {
    if (state.accuracy == null) return [name, "–", "", [data.status || data.unmeasured || `not measured${yet}`]];
    const basis = state.glimpsed ? `from the first ${state.glimpsed} texts` : "between measured budgets";
    return [name, `≈ ${percent(state.accuracy)}`, "estimated", data.status ? [basis, data.status] : [basis]];
  }
  const lines = [`95 % interval ${(state.low * 100).toFixed(1)} to ${percent(state.high)}, n = ${state.n}`];
  if (data.full && state.budget < total) {
    const calm = state.ppLow <= 0 && state.ppHigh >= 0;
    lines.push(
      calm
        ? `no measurable change from the full model (${points(state.pp)} points)`
        : `${points(state.pp)} points from the full model (${points(state.ppLow)} to ${points(state.ppHigh)})`,
    );
  }
  lines.push(...state.others);
  if (state.note) lines.push(state.note);
  return [name, percent(state.accuracy), "", lines];
}

function time(state, total, yet) {
  const name = "Time per batch";
  if (state.budget === total) return [name, "1.00 ×", "", ["full model"]];
  if (state.uncuttable) return [name, "–", "", ["a layer without heads cannot be cut out"]];
  if (state.ratioLow == null) {
    if (state.ratio == null) return [name, "–", "", [`not timed${yet}`]];
    return [name, `≈ ${state.ratio.toFixed(2)} ×`, "estimated", ["between timed budgets"]];
  }
  const calm = state.ratioLow <= 1 && state.ratioHigh >= 1;
  const rounds = state.rounds ? `, n = ${state.rounds} rounds` : "";
  const interval = `95 % interval ${state.ratioLow.toFixed(2)} to ${state.ratioHigh.toFixed(2)}${rounds}`;
  const both = `${state.ms.toFixed(1)} ms, full model ${state.fullMs.toFixed(1)} ms (median)`;
  const ratio = `${state.ratio.toFixed(2)} ×`;
  const busy = state.busy ? ["unreliable: the machine was busy; measure again when idle"] : [];
  // A ratio whose interval includes 1 is not shown as a saving.
  if (calm) return [name, "no measurable change", "", [both, `${ratio}, ${interval}`, ...busy]];
  const change = `${Math.abs(Math.round((1 - state.ratio) * 100))} % ${state.ratio < 1 ? "less" : "more"}`;
  return [name, ratio, "", [`${change}: ${both}`, interval, ...busy]];
}
