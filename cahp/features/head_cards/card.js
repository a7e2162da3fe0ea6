// The parts of a head's card. Words and names are set as text, never as markup.

import { addArc, placeArc } from "../../board/core/arcs.js";
import { draw, make, unpacked } from "../../board/core/elements.js";

const button = (className, parent, text, press) => {
  const made = make("button", className, parent, text);
  made.type = "button";
  made.onclick = press;
  return made;
};

// A map of attention: the strength is the opacity of the accent, which follows the theme.
function picture(parent, bytes) {
  const canvas = make("canvas", "", parent), values = unpacked(bytes), size = Math.sqrt(values.length);
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d"), image = context.createImageData(size, size);
  const [red, green, blue] = getComputedStyle(canvas).color.match(/[\d.]+/g).map(Number);
  values.forEach((value, at) => image.data.set([red, green, blue, value], 4 * at));
  context.putImageData(image, 0, 0);
  return canvas;
}

function drawHead(root, { sign, colour, ink, line, family }, open) {
  root.style.setProperty("--hue", colour);
  root.style.setProperty("--ink", ink);
  const top = make("div", "top", root), mark = make("span", "sign", top, sign);
  Object.assign(mark.style, { background: colour, color: ink });
  make("span", "line", top, line);
  const members = make("div", "family", top);
  members.setAttribute("role", "group");
  members.setAttribute("aria-label", "Its family");
  for (const { head, name, words, kept, chosen } of family) {
    const member = button(kept ? "member kept" : "member", members, name, () => open(head));
    member.setAttribute("aria-label", `${words}, ${kept ? "kept" : "pruned"}`);
    if (chosen) member.setAttribute("aria-current", "true");
  }
}

function drawSentences(root, { title, about, colour, rows, map, legend, own }) {
  const looks = make("div", "looks", root);
  if (map) {
    const figure = make("figure", "", looks);
    make("figcaption", "", figure, legend);
    const drawn = picture(figure, map);
    drawn.setAttribute("role", "img");
    drawn.setAttribute("aria-label", legend);
  }
  if (!rows.length && !own) return;
  const texts = make("div", "texts", looks), sentences = [];
  if (own) {
    make("h4", "", texts, "Your sentence");
    if (!own.arcs.length) make("p", "about", texts, "It attends to no other word of it enough for an arc.");
    sentences.push(drawSentence(texts, own));
  }
  if (rows.length) {
    make("h4", "", texts, title);
    make("p", "about", texts, about);
    sentences.push(...rows.map((row) => drawSentence(texts, row)));
  }
  // Arcs follow the words when lines break elsewhere.
  const observer = new ResizeObserver(() => sentences.forEach(([words, arcs]) => drawArcs(words, arcs, colour)));
  observer.observe(texts);
}

function drawSentence(parent, { words, share, arcs }) {
  const row = make("div", "sentence", parent), line = make("p", "words", row);
  const named = new Set(arcs.flatMap(([source, target]) => [source, target]));
  words.forEach((word, place) => {
    make("span", named.has(place) ? "word named" : "word", line, word);
    line.append(" ");
  });
  make("span", "unseen", row, arcs.map(([source, target]) => `${words[source]} attends to ${words[target]}`).join("; "));
  make("span", "share", row, share);
  return [line, arcs];
}

function drawArcs(line, arcs, colour) {
  line.querySelector("svg")?.remove();
  const words = line.querySelectorAll(".word"), box = line.getBoundingClientRect();
  const svg = draw("svg", { "aria-hidden": "true" }, line);
  const place = (word) => {
    const { left, width, top } = word.getBoundingClientRect();
    return [left - box.left + width / 2, top - box.top];
  };
  for (const [source, target, weight] of arcs) {
    const from = place(words[source]), to = place(words[target]);
    const group = addArc(svg, { weight, colour, radius: 3.5 });
    group.firstChild.setAttribute("opacity", 0.55 + 0.45 * weight);
    placeArc(group, from, to, [0, -Math.min(26, 8 + Math.abs(to[0] - from[0]) / 9)]);
  }
}

function drawNearest(root, { title, about, rows }, open) {
  const near = make("div", "near", root);
  make("h4", "", near, title);
  make("p", "about", near, about);
  const list = make("ul", "", near);
  for (const { head, name, words, kept, distance, map } of rows) {
    const other = button("", make("li", "", list), undefined, () => open(head));
    other.setAttribute("aria-label", `${words}, ${kept ? "kept" : "pruned"}, distance ${distance}`);
    if (map) picture(other, map);
    const text = make("span", "", other);
    make("b", "", text, name);
    make("br", "", text);
    text.append(distance);
  }
}

// The link opens the card over the first page.
function drawLink(root, { head }) {
  const copy = button("copy", root, "Copy link", async () => {
    const url = new URL("./", location.href);
    url.search = location.search;
    for (const own of ["view", "panel"]) url.searchParams.delete(own);
    url.searchParams.set("head", head);
    try {
      await navigator.clipboard.writeText(url.href);
      copy.textContent = "Copied";
    } catch {
      // Browsers give the clipboard to secure pages only.
      const field = make("input", "copy", root);
      Object.assign(field, { value: url.href, readOnly: true, ariaLabel: "Link to this card" });
      field.select();
      copy.remove();
    }
  });
}

const PARTS = { head: drawHead, sentences: drawSentences, nearest: drawNearest, link: drawLink };

export default function ({ data, parentElement, setTriggerValue }) {
  const text = JSON.stringify(data);
  let root = parentElement.querySelector(".head-card-part");
  if (!root) root = make("div", "head-card-part", parentElement);
  if (root.cahpText !== text) {
    root.cahpText = text;
    root.replaceChildren();
    for (const [name, part] of Object.entries(data)) PARTS[name](root, part, (head) => setTriggerValue("head", head));
  }
  // The board that opened the card takes the focus back.
  return () => setTimeout(() => {
    if (!document.querySelector(".head-card-part")) document.dispatchEvent(new Event("cahp-card-closed"));
  }, 50);
}
