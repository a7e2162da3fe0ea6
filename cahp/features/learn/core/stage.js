// The stage of a step of Learn as a Streamlit component: a sentence with its arcs, the board, and bars. What a guess is
// about moves when its answer comes, and not before.
import { make } from "../../../board/core/elements.js";
import { arcs } from "./sentence.js";
import { fill } from "./texts.js";

const WORD_MS = 350; // a word of the sentence
const HEAD_MS = 180; // a head that leaves
const stages = new WeakMap();
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export default function ({ data, parentElement }) {
  if (!data) return;
  const { answered, off, bars, ...scene } = data;
  const drawn = JSON.stringify(scene), said = JSON.stringify([answered, off, bars]);
  let stage = stages.get(parentElement);
  if (stage?.drawn !== drawn) {
    stage?.picture?.remove();
    stage?.root.remove();
    clearInterval(stage?.timer);
    stage = { drawn, root: make("div", "stage", parentElement), answered: null };
    stages.set(parentElement, stage);
    build(stage, data);
  }
  if (stage.said === said) return;
  // An answer that was there before does not move again.
  answer(stage, data, stage.answered === false && answered && !still());
  Object.assign(stage, { said, answered });
}

function build(stage, data) {
  const { root } = stage;
  if (data.words) {
    stage.picture = arcs(root, data);
    if (data.step === "head") play(stage, data);
    else stage.picture.show(data.words.length);
  }
  const row = make("div", data.words ? "row small" : "row", root);
  stage.cells = board(row, data);
  stage.bars = make("div", "bars", row);
}

// Draw the arcs word by word; a slider and a button show any part again.
function play(stage, { words, texts }) {
  const total = words.length;
  const row = make("div", "reading", stage.root);
  const slider = make("input", "", row);
  Object.assign(slider, { type: "range", min: 1, max: total, value: total });
  slider.setAttribute("aria-label", texts.reading);
  const again = make("button", "again", row, texts.again);
  again.type = "button";
  const show = (count) => {
    slider.value = count;
    slider.setAttribute("aria-valuetext", words[count - 1]);
    stage.picture.show(count);
  };
  const start = () => {
    clearInterval(stage.timer);
    if (still()) return show(total);
    let count = 1;
    show(count);
    stage.timer = setInterval(() => {
      if (++count > total || !stage.root.isConnected) return clearInterval(stage.timer);
      show(count);
    }, WORD_MS);
  };
  slider.oninput = () => {
    clearInterval(stage.timer);
    show(Number(slider.value));
  };
  again.onclick = start;
  start();
}

function board(parent, { layers, heads, fills, inks, names, striped }) {
  const grid = make("div", "grid", parent);
  const turned = layers > 2 * heads;
  grid.classList.toggle("turned", turned);
  grid.style.setProperty("--across", turned ? layers : heads);
  grid.style.setProperty("--down", turned ? heads : layers);
  grid.setAttribute("role", "img");
  return fills.map((fill, head) => {
    const cell = make("i", fill ? "cell on" : "cell", grid, names[head]);
    if (!fill) return cell;
    cell.style.setProperty("--hue", fill);
    cell.style.setProperty("--ink", inks[head]);
    cell.classList.toggle("striped", striped[head]);
    return cell;
  });
}

function answer(stage, data, moves) {
  if (data.drops) data.answered ? stage.picture.drop() : stage.picture.show(data.words.length);
  stage.root.querySelector(".grid").setAttribute("aria-label", fill(data.texts.board, { ...data, removed: data.off.length }));
  const off = new Set(data.off);
  stage.cells.forEach((cell, head) => {
    cell.style.transitionDelay = moves && off.has(head) ? `${Math.min(HEAD_MS * data.off.indexOf(head), 2500)}ms` : "";
    cell.classList.toggle("off", off.has(head));
  });
  const { bars } = stage;
  bars.replaceChildren();
  // A refit climbs from what it was before.
  const from = data.bars[data.step === "refit" ? 2 : 0]?.value;
  data.bars.forEach((bar, index) => {
    const row = make("div", `bar ${["full", "now"][index] ?? "beside"}`, bars);
    make("span", "label", row, bar.label);
    const track = make("span", "track", row);
    const filled = make("span", "fill", track);
    filled.style.width = `${100 * (moves && from !== undefined ? from : bar.value)}%`;
    if (bar.ends && index) {
      const spread = make("span", "spread", track);
      spread.style.left = `${100 * bar.ends[0]}%`;
      spread.style.width = `${100 * (bar.ends[1] - bar.ends[0])}%`;
    }
    make("span", "value", row, bar.text);
    // The browser draws the old width first.
    if (moves) setTimeout(() => (filled.style.width = `${100 * bar.value}%`), 60);
  });
  if (!data.bars.length) return;
  const ends = make("div", "ends", make("div", "bar scale", bars));
  for (const share of [0, 50, 100]) make("span", "", ends, `${share} %`);
}
