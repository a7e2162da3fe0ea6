// The budget board: grid, figures, slider and curves drawn from one table of all budgets, which Python sends once.
// Dragging asks nobody; a release or a click on a head is told to Python, which answers with new data.

const SVG = "http://www.w3.org/2000/svg";
const boards = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  if (!data) return;
  let board = boards.get(parentElement);
  if (!board) boards.set(parentElement, (board = new Board(parentElement)));
  board.tell = (what) => setTriggerValue("event", { ...what, turn: Date.now() });
  board.update(data);
}

const make = (tag, className, parent, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
};

const draw = (tag, attributes, parent, text) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
};

const minus = (text) => text.replace("-", "−");
const percent = (share, digits = 1) => `${(share * 100).toFixed(digits)} %`;
const points = (pp) => minus(`${pp > 0 ? "+" : ""}${pp.toFixed(1)}`);
const bits = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
const has = (packed, head) => (packed[head >> 3] >> (7 - (head & 7))) & 1;

class Board {
  constructor(root) {
    this.root = make("div", "board", root);
    this.shown = null;
    this.dragging = false;
    this.focus = 0;
    this.observer = new ResizeObserver(() => this.data && this.fit());
    this.observer.observe(this.root);
  }

  update(data) {
    const shape = `${data.layers}x${data.heads}:${data.budgets.length}`;
    const before = this.data;
    this.data = data;
    this.kept = before && before.kept === data.kept ? this.kept : data.kept.map(bits);
    if (this.shape !== shape) {
      this.shape = shape;
      this.build();
    }
    this.paint();
    this.curves();
    if (!this.dragging) {
      if (this.slider) this.slider.value = data.current.budget;
      this.show(this.current());
    }
  }

  current() {
    const now = this.data.current;
    return { ...now, bits: bits(now.kept) };
  }

  row(index) {
    const { budgets, rows } = this.data;
    return { ...rows[index], budget: budgets[index], bits: this.kept[index], origin: "budget" };
  }

  // Building, once for a shape --------------------------------------------------------------------------------

  build() {
    const { layers, heads, budgets } = this.data;
    this.root.replaceChildren();
    const top = make("div", "top", this.root);
    const left = make("div", "left", top);
    this.grid = make("div", "grid", left);
    this.grid.setAttribute("role", "grid");
    this.grid.setAttribute("aria-label", `${layers} layers of ${heads} heads; Enter or Space drops or brings back a head`);
    this.grid.style.setProperty("--heads", heads);
    const head = make("div", "row", this.grid);
    make("span", "corner", head, "layer");
    const step = heads <= 16 ? 1 : heads <= 32 ? 4 : 8;
    for (let index = 0; index < heads; index++) make("span", "axis", head, index % step ? "" : String(index));
    head.setAttribute("aria-hidden", "true");
    this.cells = [];
    for (let layer = 0; layer < layers; layer++) {
      const row = make("div", "row", this.grid);
      row.setAttribute("role", "row");
      make("span", "axis", row, layers <= 16 || layer % 4 === 0 ? String(layer) : "").setAttribute("aria-hidden", "true");
      for (let index = 0; index < heads; index++) {
        const cell = make("button", "cell", row);
        cell.type = "button";
        cell.setAttribute("role", "gridcell");
        cell.tabIndex = this.cells.length === this.focus ? 0 : -1;
        cell.dataset.head = this.cells.length;
        this.cells.push(cell);
      }
    }
    this.drawn = new Uint8Array(layers * heads).fill(2);
    this.grid.onclick = (event) => {
      const cell = event.target.closest(".cell");
      if (cell) this.press(Number(cell.dataset.head), event.shiftKey);
    };
    this.grid.onkeydown = (event) => this.key(event);
    this.grid.onmouseover = this.grid.onfocusin = (event) => {
      const cell = event.target.closest(".cell");
      if (cell) this.told = Number(cell.dataset.head);
      this.tellHead();
    };
    this.say = make("p", "say", left, "");
    this.legend = make("p", "legend", left);
    this.figures = make("div", "figures", top);
    if (this.data.still) return this.fit();

    const dial = make("div", "dial", this.root);
    const label = make("label", "", dial, "Heads to keep");
    this.output = make("output", "", dial);
    this.slider = make("input", "slider", dial);
    Object.assign(this.slider, { type: "range", min: budgets[0], max: budgets.at(-1), step: 1, id: "budget-slider" });
    label.htmlFor = "budget-slider";
    this.slider.oninput = () => {
      this.dragging = true;
      const began = performance.now();
      this.show(this.row(this.slider.value - this.data.budgets[0]));
      this.root.dataset.step = (performance.now() - began).toFixed(2);
    };
    let waiting;
    this.slider.onchange = () => {
      clearTimeout(waiting);
      // Arrow keys change it many times: only where they stop is told.
      waiting = setTimeout(() => {
        this.dragging = false;
        this.tell({ kind: "budget", budget: Number(this.slider.value) });
      }, 120);
    };
    this.plots = make("div", "plots", this.root);
    const take = make("p", "take", this.root, "Curves as ");
    for (const format of ["svg", "png"]) make("button", "", take, format.toUpperCase()).onclick = () => this.save(format);
    this.fit();
  }

  fit() {
    const { layers, heads } = this.data;
    const width = this.root.clientWidth || 800;
    const room = width < 720 ? width : width - 320;
    const cell = Math.max(7, Math.min(40, Math.floor((room - 44) / heads), Math.floor(460 / layers)));
    this.grid.style.setProperty("--cell", `${cell}px`);
    this.grid.classList.toggle("small", cell < 20);
    this.root.classList.toggle("narrow", width < 720);
    if (this.slider) this.curves();
  }

  tellHead() {
    if (this.told !== undefined) this.say.textContent = this.cells[this.told].getAttribute("aria-label");
  }

  // Heads -----------------------------------------------------------------------------------------------------

  press(head, ask) {
    this.cells[this.focus].tabIndex = -1;
    this.focus = head;
    this.cells[head].tabIndex = 0;
    if (!this.data.still) this.tell({ kind: ask ? "ask" : "toggle", head });
  }

  key(event) {
    const { heads } = this.data;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -heads, ArrowDown: heads };
    if (event.key in moves) {
      const next = this.focus + moves[event.key];
      if (next < 0 || next >= this.cells.length) return;
      this.cells[this.focus].tabIndex = -1;
      this.focus = next;
      this.cells[next].tabIndex = 0;
      this.cells[next].focus();
      event.preventDefault();
    } else if (event.key === "i") {
      this.press(this.focus, true);
    }
  }

  // Colours and names of the clusters: they change on release, not while dragging, so that nothing flickers.
  paint() {
    const { labels, colours, inks, names, selected, still } = this.data;
    const small = this.grid.classList.contains("small");
    this.cells.forEach((cell, head) => {
      const cluster = labels[head];
      cell.style.setProperty("--hue", colours[cluster]);
      cell.style.setProperty("--ink", inks[cluster]);
      cell.textContent = small ? "" : names[cluster];
      cell.classList.toggle("selected", head === selected);
      if (still) cell.setAttribute("aria-disabled", "true");
    });
    this.drawn.fill(2);
    this.legend.replaceChildren();
    make("span", "mark kept", this.legend);
    this.legend.append("kept ");
    make("span", "mark", this.legend);
    this.legend.append("pruned ");
    make("span", "mark kept back", this.legend);
    this.legend.append("kept so that no layer is empty · one letter, one cluster of heads that do the same");
  }

  show(state) {
    const { names, labels, heads, layers } = this.data;
    const back = new Set(state.rescued ?? []);
    for (let head = 0; head < this.cells.length; head++) {
      const kept = has(state.bits, head) ? (back.has(head) ? 3 : 1) : 0;
      if (kept === this.drawn[head]) continue;
      this.drawn[head] = kept;
      const cell = this.cells[head];
      cell.className = `cell${kept ? " kept" : ""}${kept === 3 ? " back" : ""}${head === this.data.selected ? " selected" : ""}`;
      cell.setAttribute("aria-selected", kept ? "true" : "false");
      const what = kept ? (kept === 3 ? "kept so that its layer is not empty" : "kept") : "pruned";
      cell.setAttribute(
        "aria-label",
        `Layer ${Math.floor(head / heads)}, head ${head % heads}: ${what}, cluster ${names[labels[head]]}`,
      );
    }
    this.tellHead();
    this.write(state, layers * heads);
    this.mark(state);
  }

  // Figures ---------------------------------------------------------------------------------------------------

  write(state, total) {
    const full = this.data.full;
    const blocks = [this.heads(state, total), this.accuracy(state, full), this.time(state)];
    this.figures.replaceChildren(
      ...blocks.map(([label, value, tag, lines]) => {
        const block = make("div", "figure");
        make("div", "name", block, label);
        const line = make("div", "value", block, value);
        if (tag) make("span", "tag", line, tag);
        for (const text of lines) make("div", "line", block, text);
        return block;
      }),
    );
    if (this.output) {
      this.output.textContent = `${state.budget} of ${total}`;
      this.slider.setAttribute("aria-valuetext", `${state.budget} of ${total} heads, ${blocks[1][1]} accuracy`);
    }
  }

  heads(state, total) {
    const why = { auto: "CAHP's own choice", hand: "made by hand", budget: "by budget" }[state.origin];
    return ["Heads kept", `${state.budget} of ${total}`, "", [`${percent(state.budget / total, 0)}, ${why}`]];
  }

  accuracy(state, full) {
    const name = this.data.recovered ? "Accuracy after refit" : "Accuracy";
    if (state.low === undefined || state.low === null) {
      const known = state.accuracy !== null && state.accuracy !== undefined;
      const waiting = this.data.status || "not measured yet";
      return [name, known ? `≈ ${percent(state.accuracy)}` : "–", known ? "estimated" : "", [known ? "between the budgets that were measured" : waiting]];
    }
    const lines = [`95 % interval ${(state.low * 100).toFixed(1)} to ${percent(state.high)}, n = ${state.n}`];
    if (full && state.budget < this.cells.length) {
      const calm = state.ppLow <= 0 && state.ppHigh >= 0;
      lines.push(
        calm
          ? `no measurable change against all heads (${points(state.pp)} pp)`
          : `${points(state.pp)} pp against all heads (${points(state.ppLow)} to ${points(state.ppHigh)})`,
      );
    }
    let more = `macro-F1 ${percent(state.f1)}`;
    if (state.agreement !== null) more += `, same answer on ${percent(state.agreement)}`;
    lines.push(more);
    if (state.note) lines.push(state.note);
    return [name, percent(state.accuracy), "", lines];
  }

  time(state) {
    const name = "Time of a batch";
    if (state.budget === this.cells.length) return [name, "1.00 ×", "", ["the full model"]];
    if (state.uncuttable) return [name, "–", "", ["a layer without heads cannot be cut out: a mask only"]];
    if (state.ratioLow === undefined || state.ratioLow === null) {
      const known = state.ratio !== null && state.ratio !== undefined;
      return [name, known ? `≈ ${state.ratio.toFixed(2)} ×` : "–", known ? "estimated" : "", [known ? "between the budgets that were timed" : "not timed yet"]];
    }
    const calm = state.ratioLow <= 1 && state.ratioHigh >= 1;
    return [
      name,
      `${state.ratio.toFixed(2)} ×`,
      "",
      [
        `${state.ms.toFixed(1)} instead of ${state.fullMs.toFixed(1)} ms (median)`,
        calm ? "no measurable change" : `95 % interval ${state.ratioLow.toFixed(2)} to ${state.ratioHigh.toFixed(2)}`,
      ],
    ];
  }

  // Curves ----------------------------------------------------------------------------------------------------

  curves() {
    if (!this.plots) return;
    const { budgets, rows, ks, mss, smooth, knee, full, recovered } = this.data;
    const width = Math.max(320, this.plots.clientWidth || 800);
    const total = budgets.at(-1);
    // The thumb's middle travels from 9 px to 9 px before the end: so do the curves.
    this.x = (budget) => 56 + 9 + ((budget - budgets[0]) / Math.max(1, total - budgets[0])) * (width - 56 - 18);
    const n = full ? `, n = ${full.n}` : "";
    const all = [...rows, this.data.current];
    const accuracies = all.flatMap((row) => [row.low, row.high, row.accuracy]).filter((value) => value != null);
    const ratios = all.flatMap((row) => [row.ratioLow, row.ratioHigh, row.ratio]).filter((value) => value != null);
    const panels = [
      {
        of: "accuracy", from: "low", title: `Accuracy${recovered ? " after refit" : ""} (%)${n}, with 95 % interval`,
        height: 170, xs: budgets, span: span(accuracies, 0, 1), scale: (value) => `${Math.round(value * 100)}`,
        values: rows.map((row) => row.accuracy), low: rows.map((row) => row.low), high: rows.map((row) => row.high),
        sure: rows.map((row) => row.low != null), line: full?.accuracy, lineName: "all heads",
      },
      {
        of: "ratio", from: "ratioLow", title: "Time of a batch (× the full model's), with 95 % interval",
        height: 110, xs: budgets, span: span([...ratios, 0.9, 1], 0, 2), scale: (value) => value.toFixed(2),
        values: rows.map((row) => row.ratio), low: rows.map((row) => row.ratioLow), high: rows.map((row) => row.ratioHigh),
        sure: rows.map((row) => row.ratioLow != null), line: 1, lineName: "",
      },
      {
        title: `Silhouette of the clusters (−1 to 1)${knee ? `, knee at ${knee} clusters` : ", no knee found"}`,
        height: 110, xs: ks, smooth, span: span([...mss, ...(smooth?.values ?? [])], 0, 1), scale: (value) => value.toFixed(1),
        values: mss, low: [], high: [], sure: mss.map(() => true), knee, bottom: true, plain: true,
      },
    ];
    this.panels = panels.map((panel) => this.panel(panel, width));
    this.plots.replaceChildren(...this.panels.map((panel) => panel.svg));
    if (this.lastState) this.mark(this.lastState);
  }

  panel(panel, width) {
    const { xs, values, low, high, sure } = panel;
    const [bottom, ceiling] = panel.span;
    const foot = panel.bottom ? 38 : 8;
    const top = 26;
    const height = panel.height + (panel.bottom ? 30 : 0);
    const y = (value) => top + (1 - (value - bottom) / (ceiling - bottom)) * (height - top - foot);
    const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
    svg.setAttribute("aria-label", `${panel.title}, over the heads kept`);
    draw("text", { x: 56, y: 14, class: "title" }, svg, panel.title);
    for (const tick of ticks(bottom, ceiling)) {
      draw("line", { x1: 56, x2: width - 4, y1: y(tick), y2: y(tick), class: "rule" }, svg);
      draw("text", { x: 48, y: y(tick) + 4, class: "tick", "text-anchor": "end" }, svg, panel.scale(tick));
    }
    const inside = xs.map((x) => x >= this.data.budgets[0] && x <= this.data.budgets.at(-1));
    const at = (index, value) => `${this.x(xs[index]).toFixed(1)},${y(value).toFixed(1)}`;
    const known = xs.map((_, index) => index).filter((index) => inside[index] && values[index] != null);
    // A band joins neighbours that were both measured; between others it would claim what nobody knows.
    const runs = [];
    for (const index of known.filter((one) => low[one] != null)) {
      if (runs.length && runs.at(-1).at(-1) === index - 1) runs.at(-1).push(index);
      else runs.push([index]);
    }
    for (const run of runs) {
      const outline = [...run.map((one) => at(one, high[one])), ...run.map((one) => at(one, low[one])).reverse()];
      draw("path", { d: `M${outline.join("L")}Z`, class: run.length > 1 ? "band" : "bar" }, svg);
    }
    if (panel.line != null) {
      draw("line", { x1: 56, x2: width - 4, y1: y(panel.line), y2: y(panel.line), class: "reference" }, svg);
      if (panel.lineName) draw("text", { x: width - 6, y: y(panel.line) - 5, class: "tick", "text-anchor": "end" }, svg, panel.lineName);
    }
    // A stretch is solid only between two neighbours that were both measured. Stretches of one kind are one line: each
    // begun anew would begin its dashes anew, and where budgets are dense nothing of them would be left.
    let solid = "", dashed = "", before;
    for (let i = 1; i < known.length; i++) {
      const both = sure[known[i - 1]] && sure[known[i]];
      const stretch = `${both === before ? "" : `M${at(known[i - 1], values[known[i - 1]])}`}L${at(known[i], values[known[i]])}`;
      if (both) solid += stretch;
      else dashed += stretch;
      before = both;
    }
    if (dashed) draw("path", { d: dashed, class: "curve dashed" }, svg);
    if (solid) draw("path", { d: solid, class: "curve" }, svg);
    if (!panel.plain) {
      // Where points would touch, the estimated ones are left to the dashed line.
      const dense = (width - 74) / xs.length < 7;
      const r = dense ? 1.6 : 2.5;
      const dot = (index) => `M${(this.x(xs[index]) - r).toFixed(1)},${y(values[index]).toFixed(1)}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 -${2 * r},0`;
      const unsure = known.filter((index) => !sure[index]);
      if (!dense) draw("path", { d: unsure.map(dot).join(""), class: "dots hollow" }, svg);
      draw("path", { d: known.filter((index) => sure[index]).map(dot).join(""), class: "dots" }, svg);
      if (unsure.length) draw("text", { x: width - 6, y: 14, class: "tick", "text-anchor": "end" }, svg, dense ? "dashed: estimated" : "hollow, dashed: estimated");
    }
    if (!known.length) draw("text", { x: (width + 56) / 2, y: height / 2 + 12, class: "tick", "text-anchor": "middle" }, svg, "not measured yet");
    if (panel.smooth) {
      const line = panel.smooth.values.map((value, index) => (inside[index] ? at(index, value) : null)).filter(Boolean);
      draw("path", { d: `M${line.join("L")}`, class: "smooth" }, svg);
      draw("text", { x: width - 6, y: 14, class: "tick", "text-anchor": "end" }, svg, `dotted: the polynomial of degree ${panel.smooth.degree} whose knee it is`);
    }
    if (panel.knee) {
      const x = this.x(Math.max(panel.knee, this.data.budgets[0]));
      draw("line", { x1: x, x2: x, y1: top, y2: height - foot, class: "knee" }, svg);
    }
    if (panel.bottom) {
      for (const tick of ticks(this.data.budgets[0], this.data.budgets.at(-1), 8)) {
        draw("text", { x: this.x(tick), y: height - 20, class: "tick", "text-anchor": "middle" }, svg, String(tick));
      }
      draw("text", { x: (width + 56) / 2, y: height - 3, class: "tick", "text-anchor": "middle" }, svg, "heads kept (clusters, for the silhouette)");
    }
    const marker = draw("line", { y1: top, y2: height - foot, class: "marker" }, svg);
    const spot = draw("circle", { r: 5, class: "spot" }, svg);
    return { svg, marker, spot, y, panel };
  }

  // The three curves as one picture, with the colours that they have on screen.
  save(format) {
    const width = Number(this.panels[0].svg.getAttribute("width"));
    const heights = this.panels.map(({ svg }) => Number(svg.getAttribute("height")));
    const height = heights.reduce((sum, one) => sum + one, 0);
    const all = draw("svg", { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}` });
    const ground = getComputedStyle(this.root).getPropertyValue("--st-background-color") || "white";
    draw("rect", { width, height, fill: ground }, all);
    let top = 0;
    this.panels.forEach(({ svg }, index) => {
      const group = draw("g", { transform: `translate(0 ${top})` }, all);
      for (const shape of svg.children) {
        const copy = shape.cloneNode(true);
        const style = getComputedStyle(shape);
        for (const name of ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-size", "font-weight", "font-family", "visibility"]) {
          copy.setAttribute(name, style.getPropertyValue(name));
        }
        group.append(copy);
      }
      top += heights[index];
    });
    const source = new Blob([new XMLSerializer().serializeToString(all)], { type: "image/svg+xml" });
    if (format === "svg") return keep(source, "budgets.svg");
    const image = new Image();
    image.onload = () => {
      const canvas = Object.assign(document.createElement("canvas"), { width: width * 2, height: height * 2 });
      canvas.getContext("2d").drawImage(image, 0, 0, width * 2, height * 2);
      canvas.toBlob((blob) => keep(blob, "budgets.png"), "image/png");
    };
    image.src = URL.createObjectURL(source);
  }

  mark(state) {
    this.lastState = state;
    for (const { marker, spot, y, panel } of this.panels ?? []) {
      const x = this.x(state.budget);
      marker.setAttribute("x1", x);
      marker.setAttribute("x2", x);
      const place = panel.xs.indexOf(state.budget);
      const value = panel.plain ? panel.values[place] : state[panel.of];
      const sure = panel.plain || state[panel.from] != null;
      spot.setAttribute("visibility", value == null || (panel.plain && state.origin === "hand") ? "hidden" : "visible");
      spot.classList.toggle("hollow", !sure);
      if (value == null) continue;
      spot.setAttribute("cx", x);
      spot.setAttribute("cy", y(Math.min(Math.max(value, panel.span[0]), panel.span[1])));
    }
  }
}

function keep(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Room around the values, within what is possible.
function span(values, least, most) {
  if (!values.length) return [least, most];
  const low = Math.min(...values), high = Math.max(...values);
  const room = Math.max(0.02, (high - low) * 0.06);
  return [Math.max(Math.min(least, low), low - room), Math.min(Math.max(most, high), high + room)];
}

function ticks(low, high, count = 4) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + 1e-9; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}
