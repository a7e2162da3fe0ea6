// The inspector of a head: what is known of the head that a person selected, or else points at, and what can be done with
// it. It computes nothing: what is not measured is left out. Its place is as large without a head, so that nothing moves.
//
// `facts` of the host are optional: `roles` by head [its role, what it does, its target, the share of its attention], the
// `maps` of attention as bytes with their `legend`, and by head `removals`, the agreement of the model without it.

import { make, maskOf, unpacked } from "./elements.js";
import { percent, titled } from "./figures.js";
import { has } from "./heads.js";
import { whyNone } from "./sentence.js";

const NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
const inWords = (count) => NUMBERS[count] ?? String(count);

export class Inspector {
  // `acts` are those of `Heads`; without `toggles` nothing can be removed, and with `cards` the host has a card of each head.
  constructor(parent, heads, acts, { unit, cards, first }, toggles) {
    this.heads = heads;
    this.place = make("section", "inspector", parent);
    this.place.setAttribute("aria-label", `The selected ${unit}`);
    const hint = make("div", "hint", this.place);
    const keys = [...(toggles ? ["Space removes it"] : []), ...(cards ? ["Enter opens its card"] : [])];
    make("p", "", hint, `Select a ${unit}: what it attends to, what goes without it.`);
    if (first?.sentence) make("p", "", hint, `${matchMedia("(hover: none)").matches ? "Tap" : "Point at"} a word: the ${unit}s that attend to it light up.`);
    make("p", "", hint, [...keys, "Esc releases it"].join(" · "));
    const who = make("p", "who", this.place);
    this.name = make("b", "", who);
    this.standing = make("span", "", who);
    this.map = make("div", "map", this.place);
    this.map.setAttribute("role", "img");
    const lines = make("div", "lines", this.place);
    this.said = make("div", "told", lines);
    this.said.setAttribute("aria-live", "polite");
    const does = make("p", "does", this.said);
    this.does = make("b", "", does);
    this.share = make("span", "", does);
    this.pairs = make("p", "", this.said);
    this.without = make("p", "", this.said);
    this.near = make("p", "near", lines);
    this.deeds = make("p", "deeds", lines);
    const deed = (act) => {
      const button = make("button", "deed", this.deeds);
      button.type = "button";
      button.onclick = () => act(this.head);
      return button;
    };
    if (toggles) this.remove = deed(acts.toggle);
    if (cards) deed(acts.open).textContent = "Open card";
    if (keys.length) make("span", "keys", this.deeds, `or ${keys.map((words) => words.split(" ")[0]).join(", ")}`);
    this.select = acts.select;
  }

  // Show a head under the mask of `state`; undefined: none. What can be done with it appears once it is `held`. With
  // `fewer` it is the head that goes with this smaller budget.
  show(head, held, state, data, fewer) {
    this.place.classList.toggle("empty", head == null);
    this.place.classList.toggle("held", Boolean(held));
    this.place.classList.toggle("goes", Boolean(fewer));
    // It changes while a person drags.
    this.said.setAttribute("aria-live", fewer ? "off" : "polite");
    this.place.classList.toggle("bare", !Object.keys(data.facts).length);
    if (head == null) return;
    const { heads } = this, { facts } = data, [role, does, target, share] = facts.roles?.[head] ?? [];
    write(this.name, heads.place(head));
    write(this.standing, fewer ? `goes next, with ${fewer} ${data.unit}s` : standing(head, state, data));
    if (this.remove) write(this.remove, has(state.bits, head) ? "Remove" : "Restore");
    const none = role === "none";
    write(this.does, none ? "No single role" : does ?? titled(heads.words[heads.groups[head]]));
    const measured = share === undefined ? "" : percent(share, 0);
    write(this.share, none ? `${measured} to ${target}` : measured);
    this.share.title = measured && `${none ? "At most " : ""}${measured} of its attention to ${target}`;
    write(this.pairs, pairs(head, data));
    write(this.without, without(facts.removals?.[head], data));
    if (this.head !== head || this.data !== data) this.lead(head, data);
    const [cover, inFull] = heads.cover(head);
    write(this.after, cover && `· ${cover}`);
    this.after.title = inFull;
    this.head = head;
    this.data = data;
  }

  // Draw the map of a head on the person's sentence, or else its mean map, and lead to the heads that are nearest to it.
  lead(head, { facts, nearest, first }) {
    const own = first?.sentence?.maps?.pictures, packed = own || facts.maps;
    this.map.hidden = !packed;
    if (packed) {
      if (this.packed !== packed) this.maps = unpacked((this.packed = packed));
      const size = this.maps.length / this.heads.cells.length;
      this.map.style.setProperty("--picture", maskOf(this.maps.subarray(head * size, (head + 1) * size)));
      this.map.title = own ? "Your sentence, word by word: rows attend to columns, the first of which is the start and all marks" : facts.legend;
      this.map.setAttribute("aria-label", this.map.title);
    }
    this.near.replaceChildren("Nearest");
    for (const other of nearest[head].filter((one) => one !== head).slice(0, 3)) {
      const button = make("button", "other", this.near, this.heads.named(other));
      button.type = "button";
      button.setAttribute("aria-label", this.heads.place(other));
      button.onclick = () => this.select(other);
    }
    this.after = make("span", "", this.near);
  }
}

// Unchanged words are not read out again.
function write(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

// Whether a head is kept, and which of its family are.
function standing(head, state, { families }) {
  const others = families.flatMap((family, other) => (family === families[head] && other !== head ? [other] : []));
  const kept = others.filter((other) => has(state.bits, other)).length;
  const family = `its family of ${inWords(others.length + 1)}`;
  if (state.rescued?.includes(head)) return "kept so that no layer is empty";
  const word = has(state.bits, head) ? "kept" : "pruned";
  if (!others.length) return `${word}, a family of its own`;
  if (word === "kept") return kept ? `kept, with ${inWords(kept)} more of ${family}` : `kept, for ${family}`;
  return kept ? `pruned; ${inWords(kept)} of ${family} ${kept === 1 ? "stays" : "stay"}` : `pruned, with all of ${family}`;
}

// The strongest pairs of words, or why there are none.
function pairs(head, data) {
  const maps = data.first?.sentence?.maps;
  if (!maps) return "";
  const found = maps.arcs[head].map(([query, key, weight]) => `${maps.words[query]} → ${maps.words[key]} ${percent(weight, 0)}`);
  return found.join(", ") || whyNone(head, data).short;
}

// What the removal of this head alone changes, where it was measured.
function without(agreement, { first, per }) {
  if (!agreement) return "";
  const { value, n } = agreement, answers = first?.answers ?? "predictions";
  const changed = per === "text" ? `${Math.round((1 - value) * n)} of ${n}` : `${percent(1 - value)} of`;
  return `Without it, ${changed} ${answers} change`;
}
