// The map of what heads do with a person's words. A node is the attention map of a head; heads that attend alike stand
// together, in groups that a person joins with a slider, from one for each head to one of all. A group has the name of what
// its heads do more than all heads of the model, and its arcs stand beside the map.
//
// `merges` say which two clusters are joined, the most alike first; heads are the first clusters. `maps` are the attention
// between the first tokens as bytes, each head on its own scale up to its `tops`. Shares of attention are measured on them.

import { addArc, placeArc } from "../../board/core/arcs.js";
import { draw, make, unpacked } from "../../board/core/elements.js";

const KINDS = [
  ["Rest", "at the start"],
  ["Look", "at the word before"],
  ["Look", "at the next word"],
  ["Look", "at the word itself"],
  ["Find", "the same word"],
  ["Look", "at full stops"],
  ["Look", "everywhere"],
];
const START = 0, EVERYWHERE = 6;
// Kinds that a pair of words explains, and the pairs that do.
const PAIRED = { 1: ([query, key]) => key === query - 1, 2: ([query, key]) => key === query + 1, 4: ([, , , same]) => same };
// What a group does that does nothing more than all heads, by the largest share of its attention.
const PARTS = [[0.6, "Mostly"], [0.4, "Half"], [0.3, "Partly"]];
const LIFT = 1.5; // of a name: how much more than all heads
const CHANCE = 1.2; // and than attention that is spread evenly
const LEAST = 0.06; // the least attention of an arc
const ARCS = 16;
const PLAY_MS = 6000;
const NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
const inWords = (count) => NUMBERS[count] ?? String(count);
const capital = (text) => text[0].toUpperCase() + text.slice(1);
const percent = (share) => `${Math.round(100 * share)} %`;
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
const listed = (names) => (names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0]);
// A token between brackets begins or ends a text, and others without letters are marks.
const isSpecial = (token) => /^(\[.*\]|<.*>)$/.test(token);
const isWord = (token) => !isSpecial(token) && /[\p{L}\p{N}]/u.test(token);

// The convex hull of points, anticlockwise (Andrew's monotone chain).
function hull(points) {
  const sorted = points.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const half = (list) => {
    const found = [];
    for (const [x, y] of list) {
      while (found.length > 1) {
        const [[ax, ay], [bx, by]] = found.slice(-2);
        if ((bx - ax) * (y - ay) > (by - ay) * (x - ax)) break;
        found.pop();
      }
      found.push([x, y]);
    }
    return found.slice(0, -1);
  };
  return [...half(sorted), ...half(sorted.reverse())];
}

// What is known of one text: its groups at every number, their names and strongest pairs. It draws nothing.
export class Text {
  constructor(data) {
    Object.assign(this, data);
    this.links = data.edges.map(([one, other], index) => [one, other, data.weights[index]]);
    this.count = data.places.length;
    this.side = data.tokens.length;
    this.bytes = unpacked(data.maps);
    const visible = (query, key) => (this.causal ? key <= query : true);
    this.causal = !this.places.some((_, head) => this.tokens.some((_, query) => this.at(head, query, this.side - 1) && query < this.side - 1));
    this.looks = this.places.map((_, head) => this.measure((query, key) => this.at(head, query, key)));
    // Attention that is spread evenly over the tokens that a word sees.
    this.chance = this.measure((query, key) => visible(query, key) / (this.causal ? query + 1 : this.side));
    this.base = KINDS.map((_, kind) => mean(this.looks.map((row) => row[kind])));
    this.known = new Map();
    // The numbers of groups that can be chosen: all small ones, then ever fewer.
    const levels = new Set([data.suggested, this.count]);
    for (let level = 1; level < this.count; level = Math.max(level + 1, level < 12 ? 0 : Math.round(level * 1.2))) levels.add(level);
    this.levels = [...levels].sort((a, b) => a - b);
  }

  // The groups when there are so many of them, the largest first.
  cut(count) {
    if (this.known.has(count)) return this.known.get(count);
    const clusters = this.places.map((_, head) => [head]), gone = new Set();
    for (const [one, other] of this.merges.slice(0, this.count - count)) {
      clusters.push([...clusters[one], ...clusters[other]]);
      gone.add(one).add(other);
    }
    const groups = clusters.filter((_, cluster) => !gone.has(cluster)).map((members) => members.sort((a, b) => a - b));
    groups.sort((a, b) => b.length - a.length || a[0] - b[0]);
    this.known.set(count, groups);
    return groups;
  }

  // How much more the links are inside of groups than they would be at random.
  modularity(groups) {
    const of = [], degree = groups.map(() => 0);
    groups.forEach((members, group) => members.forEach((head) => (of[head] = group)));
    let all = 0, inside = 0;
    for (const [one, other, weight] of this.links) {
      all += weight;
      if (of[one] === of[other]) inside += weight;
      degree[of[one]] += weight;
      degree[of[other]] += weight;
    }
    return all ? inside / all - degree.reduce((sum, value) => sum + (value / 2 / all) ** 2, 0) : 0;
  }

  at(head, query, key) {
    return (this.bytes[(head * this.side + query) * this.side + key] * this.tops[head]) / 255;
  }

  // What a map does with the words, in the order of KINDS: the mean shares of attention to each kind of token, over the
  // words that have such a token, and the number of tokens that share it evenly, the exponential of the entropy.
  measure(map) {
    const { tokens } = this, same = tokens.map((token) => token.toLowerCase());
    const words = tokens.flatMap((token, place) => (place > 1 && !isSpecial(token) ? [place] : []));
    const kinds = [
      (_, key) => key === 0,
      (query, key) => key === query - 1,
      (query, key) => key === query + 1,
      (query, key) => key === query,
      (query, key) => key !== query && same[key] === same[query],
      (_, key) => key > 0 && !isWord(tokens[key]),
    ];
    const places = tokens.map((_, place) => place);
    const shares = kinds.map((is) => {
      const rows = words.map((query) => places.filter((key) => is(query, key)).map((key) => map(query, key))).filter((row) => row.length);
      return mean(rows.map((row) => row.reduce((sum, value) => sum + value, 0)));
    });
    const entropy = (query) => places.reduce((sum, key) => sum - map(query, key) * Math.log(map(query, key) || 1), 0);
    return [...shares, mean(words.map((query) => Math.exp(entropy(query))))];
  }

  // The mean attention of some heads from one token to another.
  weight(members, query, key) {
    return mean(members.map((head) => this.at(head, query, key)));
  }

  // The pairs of different words with most attention of some heads, the strongest first.
  pairs(members) {
    const words = this.tokens.flatMap((token, place) => (isWord(token) ? [place] : [])), found = [];
    const same = (one, other) => this.tokens[one].toLowerCase() === this.tokens[other].toLowerCase();
    for (const query of words) for (const key of words) if (query !== key) found.push([query, key, this.weight(members, query, key), same(query, key)]);
    return found.sort((a, b) => b[2] - a[2]);
  }

  // What a group does, in words: by the largest lift over all heads, if attention is not just spread evenly.
  name(members) {
    const own = KINDS.map((_, kind) => mean(members.map((head) => this.looks[head][kind])));
    const lifts = own.map((value, kind) => (value > CHANCE * this.chance[kind] || kind === EVERYWHERE) && this.base[kind] ? value / this.base[kind] : 0);
    const lift = Math.max(...lifts), kind = lifts.indexOf(lift);
    if (lift < LIFT) {
      const shares = own.slice(0, EVERYWHERE), most = shares.indexOf(Math.max(...shares));
      const [, rest] = KINDS[most], amount = PARTS.find(([least]) => shares[most] >= least)?.[1];
      return amount ? { name: `${amount} ${rest}`, detail: percent(shares[most]) } : { name: "Mixed", detail: `${percent(shares[most])} ${rest}` };
    }
    const [verb, rest] = KINDS[kind], pair = PAIRED[kind] && this.pairs(members).find(PAIRED[kind]);
    const does = members.length > 1 ? verb : `${verb}s`;
    let detail = kind === EVERYWHERE ? `${Math.round(own[kind])} of ${this.length} tokens each` : percent(own[kind]);
    if (pair) detail += `, ${this.tokens[pair[0]]} → ${this.tokens[pair[1]]}`;
    return { name: `${does} ${rest}`, detail, kind };
  }

  // The map of a head as a picture in the colours of the theme; weak attention is stretched.
  picture(head) {
    const canvas = document.createElement("canvas"), { side, scale } = this;
    canvas.width = canvas.height = side;
    const context = canvas.getContext("2d"), image = context.createImageData(side, side);
    for (let at = 0; at < side * side; at++) {
      const value = Math.sqrt(this.bytes[head * side * side + at] / 255), above = Math.max(1, scale.findIndex(([stop]) => stop >= value));
      const [[low, from], [high, to]] = [scale[above - 1], scale[above]], share = (value - low) / (high - low);
      const mixed = [1, 3, 5].map((start) => parseInt(from.slice(start, start + 2), 16) * (1 - share) + parseInt(to.slice(start, start + 2), 16) * share);
      image.data.set([...mixed, 255], 4 * at);
    }
    context.putImageData(image, 0, 0);
    return canvas.toDataURL();
  }
}

// Islands that do not overlap: heads are packed inside of each group, then groups with their names are pushed apart at the
// largest scale at which all have room. Where that is small, small groups have no names. `named` returns a name with widths.
export function arrange(text, groups, { size, wide, high, named }) {
  const islands = groups.map((members) => pack(text, members, size)), names = groups.map(named);
  for (let scale = 1.2; ; scale *= 0.93) {
    const fewest = scale > 0.8 ? 1 : scale > 0.7 ? 2 : scale > 0.55 ? 3 : scale > 0.4 ? 8 : Infinity;
    const room = [wide / scale, high / scale], middles = [0, 1].map((axis) => spread(islands.map(({ members }) => mean(members.map((head) => text.places[head][axis])))));
    islands.forEach((island, group) => {
      island.name = island.members.length >= fewest ? names[group] : undefined;
      island.label = island.name ? 36 / scale : 0;
      island.span = [Math.max(island.width, ...(island.name ?? []).map(([, width]) => width / scale)) + 6, island.height + island.label + 6];
      island.at = [0, 1].map((axis) => (middles[axis][group] * Math.max(0, room[axis] - island.span[axis])) / 2);
    });
    if (separate(islands, room) || scale < 0.15) return { islands, scale };
  }
}

// Values between -1 and 1: half way to their ranks, so that they use all of the room.
function spread(values) {
  const low = Math.min(...values), width = Math.max(...values) - low, order = [...values].sort((a, b) => a - b);
  if (!width) return values.map(() => 0);
  return values.map((value) => (value - low) / width + order.indexOf(value) / (values.length - 1) - 1);
}

function pack(text, members, size) {
  const apart = size + 7, middle = [0, 1].map((axis) => mean(members.map((head) => text.places[head][axis])));
  const points = members.map((head) => [0, 1].map((axis) => (text.places[head][axis] - middle[axis]) * 5 * apart));
  const turns = Math.round(Math.min(140, Math.max(24, 6e6 / members.length ** 2)));
  for (let turn = 0; turn < turns; turn++) {
    if (turn < turns - 20) for (const point of points) for (const axis of [0, 1]) point[axis] *= 0.95;
    points.forEach((one, index) => {
      for (const other of points.slice(0, index)) {
        const [x, y] = [one[0] - other[0], one[1] - other[1]], distance = Math.hypot(x, y);
        if (distance >= apart) continue;
        const share = distance ? (apart - distance) / 2 / distance : 1, [right, down] = distance ? [x, y] : [index % 2 || -1, 1];
        one[0] += share * right;
        one[1] += share * down;
        other[0] -= share * right;
        other[1] -= share * down;
      }
    });
  }
  const low = [0, 1].map((axis) => Math.min(...points.map((point) => point[axis])) - size / 2 - 9);
  const top = [0, 1].map((axis) => Math.max(...points.map((point) => point[axis])) + size / 2 + 9);
  const centre = [(low[0] + top[0]) / 2, (low[1] + top[1]) / 2];
  return { members, offsets: points.map(([x, y]) => [x - centre[0], y - centre[1]]), width: top[0] - low[0], height: top[1] - low[1] };
}

// Push islands apart inside of a room around the origin; returns whether all have a place.
function separate(islands, room) {
  const turns = islands.length > 200 ? 80 : 250;
  for (let turn = 0; turn < turns; turn++) {
    let most = 0;
    islands.forEach((one, index) => {
      for (const other of islands.slice(0, index)) {
        const apart = [0, 1].map((axis) => one.at[axis] - other.at[axis]);
        const gaps = apart.map((value, axis) => (one.span[axis] + other.span[axis]) / 2 - Math.abs(value));
        if (Math.min(...gaps) <= 0) continue;
        most = Math.max(most, Math.min(...gaps));
        const axis = gaps[0] / room[0] < gaps[1] / room[1] ? 0 : 1, sign = Math.sign(apart[axis]) || 1;
        const lighter = other.members.length / (one.members.length + other.members.length);
        one.at[axis] += sign * (gaps[axis] + 0.1) * lighter;
        other.at[axis] -= sign * (gaps[axis] + 0.1) * (1 - lighter);
      }
    });
    for (const { at, span } of islands) {
      for (const axis of [0, 1]) {
        const reach = Math.max(0, (room[axis] - span[axis]) / 2);
        at[axis] = Math.max(-reach, Math.min(reach, at[axis]));
      }
    }
    if (most < 0.5) return islands.every(({ span }) => span[0] <= room[0] && span[1] <= room[1]);
  }
  return false;
}

export class HeadMap {
  // `tell(event)` reports what a person does.
  constructor(root, tell) {
    this.tell = tell;
    // Its width, not that of the window, decides how it is laid out.
    this.root = make("div", "head-map", make("div", "head-map-place", root));
    this.root.tabIndex = -1;
    const left = make("div", "left", this.root);
    this.svg = draw("svg", { class: "map", role: "group" }, left);
    this.view = draw("g", {}, this.svg);
    const path = (className) => draw("path", { class: className }, this.view);
    this.hulls = draw("g", {}, this.view);
    this.between = path("link");
    this.within = path("link within");
    this.labels = draw("g", { class: "labels" }, this.view);
    this.nodes = draw("g", {}, this.view);
    this.makeSlider(left);
    this.says = make("p", "says", left);
    this.says.setAttribute("aria-live", "polite");
    this.panel = make("section", "panel", this.root);
    this.panel.setAttribute("aria-live", "polite");
    this.zoom = { scale: 1, x: 0, y: 0 };
    this.listen();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.root);
  }

  makeSlider(parent) {
    const row = make("div", "slider", parent);
    this.play = make("button", "play", row);
    this.play.type = "button";
    this.play.onclick = () => (this.playing ? this.stop() : this.start());
    const middle = make("div", "range", row);
    this.about = make("label", "", middle, "");
    this.range = make("input", "", middle);
    Object.assign(this.range, { type: "range", min: 0, step: 1, id: "groups" });
    this.about.htmlFor = "groups";
    this.range.oninput = () => {
      this.stop();
      this.wanted = this.text.levels[this.range.value];
      this.show(this.wanted);
    };
    this.range.onchange = () => this.tell({ kind: "groups" });
    this.ticks = make("div", "ticks", middle);
    this.ticks.setAttribute("aria-hidden", "true");
    this.number = make("output", "number", row);
  }

  listen() {
    const { svg } = this, headOf = (event) => event.target.closest("[data-head]")?.dataset.head;
    const groupOf = (event) => event.target.closest("[data-group]")?.dataset.group;
    svg.onclick = (event) => {
      if (this.dragged) return;
      const head = headOf(event), group = groupOf(event);
      if (head !== undefined) this.choose(Number(head));
      else if (group !== undefined) this.choose(this.typical(this.groups[group]));
    };
    svg.onmousemove = (event) => {
      // A tap never leaves its head, so it dims nothing.
      if (!matchMedia("(hover: hover)").matches) return;
      const head = headOf(event), group = groupOf(event);
      this.point(head === undefined ? undefined : Number(head), group === undefined ? undefined : Number(group));
    };
    svg.onmouseleave = () => this.point();
    svg.addEventListener("wheel", (event) => {
      // At the smallest size the page scrolls.
      if (event.deltaY > 0 && this.zoom.scale === 1) return;
      event.preventDefault();
      // The keys of the map are for whoever uses it.
      if (!this.root.matches(":focus-within")) this.root.focus({ preventScroll: true });
      const { left, top } = svg.getBoundingClientRect();
      this.zoomAt(event.clientX - left, event.clientY - top, Math.exp(-event.deltaY / 400));
    }, { passive: false });
    svg.onpointerdown = (event) => {
      this.grip = [event.clientX, event.clientY, this.zoom.x, this.zoom.y];
      this.dragged = false;
    };
    svg.onpointermove = (event) => {
      if (!this.grip || !event.buttons || this.zoom.scale === 1) return;
      const [x, y, left, top] = this.grip, moved = [event.clientX - x, event.clientY - y];
      this.dragged ||= Math.hypot(...moved) > 4;
      this.pan(left + moved[0], top + moved[1]);
    };
    svg.onpointerup = svg.onpointercancel = () => (this.grip = undefined);
    this.root.onkeydown = (event) => {
      if (event.target === this.range && event.key !== "Escape") return;
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], node = event.target.closest?.(".head");
      if (event.key === "Escape" && this.playing) this.stop(true);
      else if (["0", "Escape"].includes(event.key)) this.fit();
      else if (node && step) {
        event.preventDefault();
        this.heads[(Number(node.dataset.head) + step + this.heads.length) % this.heads.length].node.focus();
      } else if (node && ["Enter", " "].includes(event.key)) {
        event.preventDefault();
        this.choose(Number(node.dataset.head));
      }
    };
    this.root.onfocusin = (event) => {
      const head = event.target.closest(".head")?.dataset.head;
      if (head !== undefined) this.point(Number(head));
    };
  }

  // New data: of another text, of another mask, or with another head chosen.
  update(data) {
    const other = data.number !== this.data?.number || data.scale.join() !== this.data.scale.join();
    this.data = data;
    data.names = data.places.map((_, head) => `${Math.floor(head / data.layer)}.${head % data.layer}`);
    // Groups of heads have another name where a head is a group itself.
    data.sets = data.unit === "group" ? "sets" : "groups";
    if (other) this.read(data);
    this.heads.forEach(({ frame, node }, head) => {
      frame.setAttribute("stroke", data.colours[head]);
      node.classList.toggle("kept", data.kept[head]);
      node.setAttribute("aria-label", this.describe(head));
    });
    this.chosen = data.head;
    const levels = this.text.levels, groups = Math.min(data.groups, this.text.count);
    const nearest = levels.reduce((best, level) => (Math.abs(level - groups) < Math.abs(best - groups) ? level : best));
    // What a person has set stays until the server has heard of it.
    if (other || nearest === this.wanted) this.wanted = undefined;
    const shown = this.wanted ?? nearest;
    if (this.playing) this.before = shown;
    else if (other || shown !== this.groups?.length) this.show(shown, other);
    else this.mark();
  }

  // Make the nodes of another text.
  read(data) {
    this.stop();
    this.text = new Text(data);
    const { count, levels } = this.text;
    this.size = count > 400 ? 12 : count > 150 ? 18 : 28;
    this.nodes.replaceChildren();
    this.heads = Array.from({ length: count }, (_, head) => {
      const node = draw("g", { class: "head", "data-head": head, role: "button", tabindex: -1 }, this.nodes), half = this.size / 2;
      const place = { x: -half, y: -half, width: this.size, height: this.size };
      const picture = this.text.picture(head);
      draw("image", { ...place, href: picture }, node);
      const frame = draw("rect", { ...place, rx: this.size / 6, fill: "none" }, node);
      return { node, frame, picture, x: 0, y: 0 };
    });
    this.svg.setAttribute("aria-label", `Map of ${count} ${data.unit}s by what they attend to`);
    this.range.max = levels.length - 1;
    this.about.textContent = `${capital(data.sets)}: ${data.unit}s that attend most alike are joined first`;
    this.layouts = new Map();
    this.fit();
    this.resize();
  }

  resize() {
    const wide = Math.round(this.svg.clientWidth), high = Math.round(this.svg.clientHeight);
    if (!wide || !this.text || (wide === this.wide && high === this.high && this.layouts.size)) return;
    Object.assign(this, { wide, high });
    this.svg.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    this.layouts.clear();
    this.drawTicks();
    if (this.groups) this.show(this.groups.length, true);
  }

  drawTicks() {
    const { levels } = this.text, width = this.range.clientWidth - 18;
    let last = -Infinity;
    const all = levels.map((level, index) => [level, 9 + (index / Math.max(1, levels.length - 1)) * width]);
    this.ticks.replaceChildren();
    for (const [level, left] of all) {
      if (left - last < 30 || (level !== levels.at(-1) && width + 9 - left < 30)) continue;
      last = left;
      make("span", "", this.ticks, level).style.left = `${left}px`;
    }
  }

  // How wide words are, in px.
  measure(words, weight) {
    this.ruler ??= document.createElement("canvas").getContext("2d");
    this.ruler.font = `${weight} 13px ${getComputedStyle(this.root).fontFamily}`;
    return this.ruler.measureText(words).width;
  }

  // The name of a group and its second line, with their widths.
  sign(members) {
    const { name, detail } = this.text.name(members), kept = members.filter((head) => this.data.kept[head]).length;
    const size = members.length > 1 ? `${members.length} ${this.data.unit}s` : this.data.names[members[0]];
    const second = [size, ...(this.wide < 480 ? [] : [detail]), ...(kept ? [] : ["none kept"])].join(" · ");
    return [[name, this.measure(name, 600)], [second, this.measure(second, 400)]];
  }

  // Show so many groups; `once`: nothing moves.
  show(count, once) {
    const { text } = this, groups = text.cut(count);
    this.groups = groups;
    this.of = [];
    groups.forEach((members, group) => members.forEach((head) => (this.of[head] = group)));
    if (!this.wide) return;
    if (!this.layouts.has(count)) this.layouts.set(count, arrange(text, groups, { size: this.size, wide: this.wide, high: this.high, named: (members) => this.sign(members) }));
    const { islands, scale } = this.layouts.get(count);
    for (const { members, offsets, at, label } of islands) {
      members.forEach((head, index) => {
        const [x, y] = offsets[index];
        this.heads[head].to = [x + at[0], y + at[1] + label / 2];
      });
    }
    this.goal = [scale, this.wide / 2, this.high / 2];
    this.range.value = text.levels.indexOf(count);
    this.range.style.setProperty("--done", this.range.value / Math.max(1, text.levels.length - 1));
    this.range.setAttribute("aria-valuetext", `${count} ${this.data.sets}`);
    this.number.replaceChildren(make("b", "", null, count), ` ${this.data.sets.slice(0, count === 1 ? -1 : undefined)}`);
    this.number.append(make("span", "", null, `modularity ${text.modularity(groups).toFixed(2)}`));
    this.write(islands, scale);
    this.drawHulls();
    this.mark();
    if (once || still() || !this.at) {
      this.at = [...this.goal];
      for (const head of this.heads) [head.x, head.y] = head.to;
      this.place();
    } else this.move();
  }

  write(islands, scale) {
    this.labels.replaceChildren();
    islands.forEach(({ name: lines, at, span }, group) => {
      if (!lines) return;
      const top = at[1] - span[1] / 2, place = { x: at[0], "text-anchor": "middle", "data-group": group, "font-size": 13 / scale };
      draw("text", { ...place, y: top + 15 / scale, class: "name" }, this.labels, lines[0][0]);
      draw("text", { ...place, y: top + 31 / scale }, this.labels, lines[1][0]);
    });
  }

  drawHulls() {
    this.hulls.replaceChildren();
    this.outlines = this.groups.map((members, group) => draw("path", { class: "hull", "data-group": group }, this.hulls));
  }

  // Heads run after their places until they are there.
  move() {
    if (this.moving) return;
    let last = performance.now();
    this.labels.classList.add("waits");
    const step = (now) => {
      const share = 1 - Math.exp(-Math.max(0, now - last) / 90);
      last = now;
      let far = 0;
      for (const head of this.heads) {
        const [x, y] = [head.to[0] - head.x, head.to[1] - head.y];
        far = Math.max(far, Math.abs(x), Math.abs(y));
        head.x += share * x;
        head.y += share * y;
      }
      this.at = this.at.map((value, index) => value + share * (this.goal[index] - value));
      this.moving = far > 0.4 && this.svg.isConnected;
      if (!this.moving) {
        this.at = [...this.goal];
        for (const head of this.heads) [head.x, head.y] = head.to;
        this.labels.classList.remove("waits");
      }
      this.place();
      if (this.moving) requestAnimationFrame(step);
    };
    this.moving = true;
    requestAnimationFrame(step);
  }

  // Draw everything where the heads are now.
  place() {
    const [scale, left, top] = this.at, { zoom } = this;
    this.view.setAttribute("transform", `translate(${zoom.x} ${zoom.y}) scale(${zoom.scale}) translate(${left} ${top}) scale(${scale})`);
    for (const { node, x, y } of this.heads) node.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
    const reach = this.size / 2 + 8, turns = Array.from({ length: 12 }, (_, turn) => [reach * 1.15 * Math.cos((turn * Math.PI) / 6), reach * 1.15 * Math.sin((turn * Math.PI) / 6)]);
    this.groups.forEach((members, group) => {
      const points = members.length > 1 ? hull(members.flatMap((head) => turns.map(([x, y]) => [this.heads[head].x + x, this.heads[head].y + y]))) : [];
      this.outlines[group].setAttribute("d", points.length ? `M${points.map((point) => point.map((value) => value.toFixed(1))).join("L")}Z` : "");
    });
    const lines = [[], []];
    for (const [one, other] of this.text.links) {
      const [from, to] = [this.heads[one], this.heads[other]];
      lines[Number(this.of[one] === this.of[other])].push(`M${from.x.toFixed(1)},${from.y.toFixed(1)}L${to.x.toFixed(1)},${to.y.toFixed(1)}`);
    }
    this.between.setAttribute("d", lines[0].join(""));
    this.within.setAttribute("d", lines[1].join(""));
  }

  zoomAt(x, y, factor) {
    const { zoom } = this, scale = Math.min(6, Math.max(1, zoom.scale * factor)), ratio = scale / zoom.scale;
    Object.assign(zoom, { scale, x: x - ratio * (x - zoom.x), y: y - ratio * (y - zoom.y) });
    this.pan(zoom.x, zoom.y);
  }

  // Move what is shown, never beyond its edge.
  pan(x, y) {
    const { zoom } = this, within = (value, size) => Math.min(0, Math.max(size * (1 - zoom.scale), value));
    Object.assign(zoom, { x: within(x, this.wide), y: within(y, this.high) });
    this.svg.classList.toggle("zoomed", zoom.scale > 1);
    this.place();
  }

  fit() {
    this.zoom = { scale: 1, x: 0, y: 0 };
    this.svg.classList.remove("zoomed");
    if (this.at) this.place();
  }

  // From one group for each head to one of all, in a few seconds; then back to what was shown.
  start() {
    const { levels } = this.text, pause = PLAY_MS / levels.length;
    let next = levels.length - 1;
    this.before = this.groups.length;
    const step = () => {
      if (next < 0 || !this.svg.isConnected) return this.stop(true);
      this.show(levels[next--]);
      this.playing = setTimeout(step, next < 0 ? 4 * pause : pause);
    };
    this.playing = 1;
    this.play.classList.add("on");
    this.play.setAttribute("aria-label", "Stop");
    step();
  }

  stop(back) {
    clearTimeout(this.playing);
    this.playing = undefined;
    this.play.classList.remove("on");
    this.play.setAttribute("aria-label", "Play: join heads from one group for each to one of all");
    if (back) this.show(this.before);
  }

  // The head that does most what its group does, a kept one if there is one.
  typical(members) {
    const { kind } = this.text.name(members), kept = members.filter((head) => this.data.kept[head]);
    const worth = (head) => (kind === undefined ? 0 : this.text.looks[head][kind]);
    return (kept.length ? kept : members).reduce((best, head) => (worth(head) > worth(best) ? head : best));
  }

  choose(head) {
    this.chosen = head;
    this.mark();
    this.tell({ kind: "head" });
  }

  describe(head) {
    const { names, kept, facts, unit } = this.data, { name, detail } = this.text.name([head]), [role, does] = facts.roles?.[head] ?? ["none"];
    const often = role === "none" ? "" : ` Over many texts it ${does[0].toLowerCase()}${does.slice(1)}.`;
    return `${capital(unit)} ${names[head]}, ${kept[head] ? "kept" : "pruned"}. Here: ${name.toLowerCase()}, ${detail}.${often}`;
  }

  // Tell about the head that is pointed at, and dim other groups.
  point(head, group = head === undefined ? undefined : this.of[head]) {
    if (head === this.pointed && group === this.lit) return;
    this.pointed = head;
    this.lit = group;
    this.says.textContent = head === undefined ? this.hint() : this.describe(head);
    this.shade();
  }

  hint() {
    const { unit } = this.data;
    const first = this.text.side < this.text.length ? `the first ${this.text.side} tokens` : "your words";
    return `Picture: what a ${unit} does with ${first}. Frame: its family; thick: kept. Wheel: zoom, 0: all.`;
  }

  shade() {
    const dim = (group) => this.lit !== undefined && group !== this.lit;
    this.heads.forEach(({ node }, head) => node.classList.toggle("dim", dim(this.of[head])));
    this.outlines.forEach((outline, group) => {
      outline.classList.toggle("dim", dim(group));
      outline.classList.toggle("chosen", group === this.of[this.chosen]);
    });
    for (const label of this.labels.children) {
      label.classList.toggle("dim", dim(Number(label.dataset.group)));
      label.classList.toggle("chosen", Number(label.dataset.group) === this.of[this.chosen]);
    }
  }

  // Mark the chosen head, and show its group beside the map.
  mark() {
    this.heads.forEach(({ node }, head) => {
      node.classList.toggle("chosen", head === this.chosen);
      node.setAttribute("tabindex", head === this.chosen ? 0 : -1);
    });
    this.pointed = this.lit = undefined;
    this.says.textContent = this.hint();
    this.shade();
    this.drawPanel();
  }

  drawPanel() {
    const { panel, data, text, chosen } = this, { unit, names, kept } = data;
    const members = this.groups[this.of[chosen]], many = members.length > 1;
    const key = JSON.stringify([members, chosen, data.number, data.scale, data.kept, data.cards, panel.clientWidth]);
    if (key === this.drawn) return;
    this.drawn = key;
    panel.replaceChildren();
    const { name, detail } = text.name(members);
    make("p", "eyebrow", panel, many ? `${capital(inWords(members.length))} ${unit}s · ${detail}` : `${capital(unit)} ${names[chosen]} · ${detail}`);
    make("h3", "", panel, name);
    this.drawArcs(members, many);
    make("p", "eyebrow", panel, many ? `Its ${unit}s` : `Its map`);
    const list = make("div", members.length > 12 ? "members small" : "members", panel);
    for (const head of members) {
      const button = make("button", kept[head] ? "member kept" : "member", list);
      button.type = "button";
      button.title = this.describe(head);
      button.setAttribute("aria-label", button.title);
      if (head === chosen) button.setAttribute("aria-current", "true");
      button.onclick = () => this.choose(head);
      const picture = make("img", "", button);
      Object.assign(picture, { src: this.heads[head].picture, alt: "" });
      picture.style.borderColor = data.colours[head];
      make("span", "", button, names[head]);
    }
    const own = members.filter((head) => kept[head]).map((head) => names[head]);
    const lines = make("p", "lost", panel, own.length ? `Kept: ${own.length === members.length && many ? "all of them" : listed(own)}.` : "None of them is kept.");
    const alone = members.flatMap((head) => data.facts.removals?.[head] ?? []).sort((one, other) => other.value - one.value);
    if (alone.length) {
      // Each text has one answer.
      const counted = data.items === "texts";
      const amount = ({ value, n }) => (counted ? Math.round((1 - value) * n) : `${(100 * (1 - value)).toFixed(1)} %`);
      const range = [...new Set([alone[0], alone.at(-1)].map(amount))].join(" to ");
      lines.append(` Without ${many ? "one of them" : "it"} alone, ${range} of ${counted ? alone[0].n : "all"} ${data.answers} change.`);
    }
    const deeds = make("div", "deeds", panel);
    const deed = (words, act) => {
      const button = make("button", "", deeds, words);
      button.type = "button";
      button.onclick = act;
    };
    if (data.cards) {
      deed(`Open card of ${names[chosen]}`, () => this.tell({ kind: "card" }));
      const all = members.length === text.count;
      if (!all) deed(`${own.length ? "Remove" : "Restore"} ${many ? `all ${inWords(members.length)}` : names[chosen]}`, () => this.tell({ kind: "group" }));
    }
    deed("Save picture", () => this.save());
  }

  // The words, with arcs of the group's mean attention.
  drawArcs(members, many) {
    const { text, panel } = this, arcs = text.pairs(members).slice(0, ARCS).filter(([, , weight]) => weight > LEAST);
    const about = arcs.length ? `${many ? "Their mean" : "Its attention"} on your words. Thicker: more attention.` : `No arcs: ${percent(mean(members.map((head) => text.looks[head][START])))} of ${many ? "their" : "its"} attention is at the start, and no pair of words has more than ${percent(LEAST)}.`;
    make("p", "eyebrow", panel, about);
    const place = make("div", "sentence", panel), sky = 58;
    const svg = draw("svg", { height: sky, "aria-hidden": "true" }, place), row = make("p", "words", place), spans = new Map();
    text.tokens.forEach((token, index) => {
      if (isSpecial(token)) return;
      const piece = token.replace(/^##/, "");
      spans.set(index, make("span", spans.size && (piece !== token || !isWord(token)) ? "piece" : "", row, piece));
    });
    const room = place.clientWidth;
    let size = 16;
    do row.style.fontSize = `${size}px`;
    while (row.scrollWidth > room && --size >= 12);
    // A sentence that is too long for a line stands upright.
    const upright = row.scrollWidth > room;
    place.classList.toggle("upright", upright);
    make("span", "unseen", place, arcs.slice(0, 4).map(([query, key, weight]) => `${text.tokens[query]} attends to ${text.tokens[key]}, ${percent(weight)}`).join("; "));
    svg.setAttribute("width", upright ? 80 : room);
    svg.setAttribute("height", upright ? row.offsetHeight : sky);
    const middle = (index) => {
      const { offsetLeft, offsetTop, offsetWidth, offsetHeight } = spans.get(index);
      return upright ? [6, offsetTop + offsetHeight / 2] : [offsetLeft + offsetWidth / 2, sky - 4];
    };
    const most = arcs[0]?.[2] ?? 1;
    for (const [query, key, weight] of arcs.reverse()) {
      const [from, to] = [middle(query), middle(key)], bow = 1.333 * Math.min(upright ? 68 : sky - 10, 12 + 0.2 * Math.hypot(to[0] - from[0], to[1] - from[1]));
      const group = addArc(svg, { weight, colour: "currentColor", radius: 3, opacity: (0.35 + (0.65 * weight) / most).toFixed(2) });
      placeArc(group, from, to, upright ? [bow, 0] : [0, -bow]);
    }
  }

  // Save the map as a picture, with its styles, which a file does not inherit.
  save() {
    const copy = this.svg.cloneNode(true), own = [this.svg, ...this.svg.querySelectorAll("*")];
    [copy, ...copy.querySelectorAll("*")].forEach((element, index) => {
      const style = getComputedStyle(own[index]);
      for (const name of ["fill", "stroke", "stroke-width", "opacity", "font-family", "font-weight", "image-rendering", "paint-order"]) element.style.setProperty(name, style.getPropertyValue(name));
    });
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.style.background = getComputedStyle(this.root).getPropertyValue("--st-background-color");
    const file = new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }), link = make("a");
    Object.assign(link, { href: URL.createObjectURL(file), download: "heads-on-my-text.svg" });
    link.click();
    URL.revokeObjectURL(link.href);
  }
}

const maps = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  if (!data) return;
  const known = maps.get(parentElement) ?? {};
  // Streamlit reports changed values only: the time makes two equal presses differ.
  known.tell = (event) => setTriggerValue("event", { head: known.map.chosen, groups: known.map.groups.length, ...event, turn: Date.now() });
  if (!known.map) {
    known.map = new HeadMap(parentElement, (event) => known.tell(event));
    maps.set(parentElement, known);
  }
  known.map.update(data);
}
