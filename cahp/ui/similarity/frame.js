// Runs in the graph's frame. The frame sends each click to the page around it. The page sends the chosen head, which gets
// thick outlines with its neighbours, and the graph: at another threshold, heads move to their new places. While the
// mouse is on a head, the other communities are dim.
const LEAST = 10 / 13; // the scale at which the names of heads, of 13, are 10 px high
const RADIUS = 27; // of the area around a head
const APART = 32; // between two heads
const BESIDE = 28; // from a head to the number of its community
const MOVE_MS = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 450;
let drawn = new Map(nodes.get().map((node) => [node.id, node]));
// The graph that was sent last, as text, and the share of the way to it that its heads have moved.
let sent = "";
let moved = 1;
// The communities, with their areas and the places of their numbers where the heads are now (none: heads have moved). A
// graph has all three anew: areas of other communities cannot be drawn.
let drawing = { communities: COMMUNITIES };
const light = (group) => nodes.update([...drawn.values()].map(({ id, community }) =>
  ({ id, opacity: group === undefined || community === group ? 1 : 0.2 })));
const outline = (heads) => nodes.update([...drawn.values()].map(({ id, color, borderWidth }) =>
  heads.includes(id) ? { id, color: { ...color, border: ACCENT }, borderWidth: 3 } : { id, color, borderWidth }));

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

// How much the graph's width and height shrink so that it fits a small frame, and how far numbers lie from its middle.
let squeeze, within;
function fit() {
  const { clientWidth, clientHeight } = document.getElementById("mynetwork");
  const sides = [[clientWidth, ACROSS], [clientHeight, DOWN]];
  const scale = Math.max(LEAST, Math.min(1, ...sides.map(([size, reach]) => size / 2 / (reach + RADIUS))));
  squeeze = sides.map(([size, reach]) => Math.min(1, Math.max(0, size / 2 / scale - RADIUS) / reach));
  within = sides.map(([size]) => size / 2 / scale - 13);
  network.moveTo({ position: { x: 0, y: 0 }, scale });
}

// The places of heads in this frame. Where it is small, heads are pushed away from each other.
function placed(heads) {
  const [across, down] = squeeze, places = heads.map(({ x, y }) => [x * across, y * down]);
  const gap = Math.min(APART, 1.2 * Math.sqrt((ACROSS * across * DOWN * down) / heads.length));
  const free = (value, reach) => Math.max(-reach, Math.min(reach, value));
  for (let turn = 0, near = across < 1; near && turn < 60; turn++) {
    near = false;
    places.forEach((one, index) => {
      for (const other of places.slice(0, index)) {
        const [x, y] = [one[0] - other[0], one[1] - other[1]], distance = Math.hypot(x, y);
        if (distance >= gap - 0.1) continue;
        near = true;
        const share = distance ? (gap - distance) / 2 / distance : 1;
        for (const [place, sign] of [[one, share], [other, -share]]) {
          place[0] = free(place[0] + sign * (x || 1), ACROSS * across);
          place[1] = free(place[1] + sign * y, DOWN * down);
        }
      }
    });
  }
  // The library takes whole numbers.
  return heads.map(({ id }, index) => ({ id, x: Math.round(places[index][0]), y: Math.round(places[index][1]) }));
}

// The number of each community beside one of its heads, where there is most room.
function placeSigns(places) {
  const taken = Object.values(places);
  return drawing.communities.map((_, group) => {
    const members = [...drawn.values()].filter(({ community }) => community === group).map(({ id }) => places[id]);
    const around = members.flatMap(({ x, y }) => [[0, -BESIDE], [0, BESIDE], [-BESIDE, 0], [BESIDE, 0]].map(([a, b]) => ({ x: x + a, y: y + b })));
    const room = ({ x, y }) => Math.min(...taken.map((other) => Math.hypot(other.x - x, other.y - y)));
    const inside = around.filter(({ x, y }) => Math.abs(x) <= within[0] && Math.abs(y) <= within[1]);
    const best = (inside.length ? inside : around).map((place) => [room(place), place]).reduce((a, b) => (b[0] > a[0] ? b : a))[1];
    taken.push(best);
    return best;
  });
}

// Each community's area below its heads: the hull of circles around them.
const TURNS = Array.from({ length: 12 }, (_, turn) => [RADIUS * Math.cos((turn * Math.PI) / 6), RADIUS * Math.sin((turn * Math.PI) / 6)]);
function area(group, places) {
  const members = [...drawn.values()].filter(({ community }) => community === group);
  const around = ({ id }) => TURNS.map(([across, down]) => [places[id].x + across, places[id].y + down]);
  return members.length > 1 ? hull(members.flatMap(around)) : [];
}
network.on("beforeDrawing", (context) => {
  const places = network.getPositions();
  drawing.areas ??= drawing.communities.map((_, group) => area(group, places));
  drawing.signs ??= placeSigns(places);
  drawing.communities.forEach(([, colour], group) => {
    context.beginPath();
    drawing.areas[group].forEach(([x, y]) => context.lineTo(x, y));
    context.closePath();
    Object.assign(context, { fillStyle: colour, strokeStyle: colour, lineWidth: 1, globalAlpha: 0.1 });
    context.fill();
    context.globalAlpha = 0.5;
    context.stroke();
  });
  context.globalAlpha = 1;
});
// Each community's number beside it: there are only eight colours, and not everybody sees them.
network.on("afterDrawing", (context) => {
  const { color, backgroundColor } = getComputedStyle(document.body);
  Object.assign(context, { font: "bold 22px system-ui", textAlign: "center", textBaseline: "middle" });
  Object.assign(context, { lineJoin: "round", lineWidth: 5, strokeStyle: backgroundColor, fillStyle: color });
  context.globalAlpha = moved;
  drawing.communities.forEach(([name], group) => {
    const { x, y } = drawing.signs[group];
    context.strokeText(name, x, y);
    context.fillText(name, x, y);
  });
  context.globalAlpha = 1;
});
const move = (heads) => {
  nodes.update(heads);
  drawing = { communities: drawing.communities };
};
const settle = () => {
  fit();
  move(placed([...drawn.values()]));
};
settle();
network.on("resize", settle);
network.on("click", (event) => {
  if (event.nodes.length) parent.postMessage({ cahpHead: event.nodes[0] }, "*");
});
// A tap never leaves its head, so it dims nothing. A fast mouse may leave the frame without leaving its head.
network.on("hoverNode", ({ node }) => matchMedia("(hover: hover)").matches && light(drawn.get(node).community));
network.on("blurNode", () => light());
document.documentElement.addEventListener("mouseleave", () => light());

// Draw another graph of the same heads: its colours and links at once, while heads move to their places.
function show(graph) {
  const text = JSON.stringify(graph);
  if (text === sent) return;
  // The frame opens with a graph in place.
  const duration = sent ? MOVE_MS : 0;
  const from = network.getPositions();
  const start = performance.now();
  sent = text;
  drawn = new Map(graph.nodes.map((node) => [node.id, node]));
  drawing = { communities: graph.communities };
  nodes.update(graph.nodes.map((node) => ({ ...node, ...from[node.id] })));
  edges.clear();
  edges.add(graph.edges);
  const places = placed(graph.nodes);
  const step = (now) => {
    // A newer graph has its own steps.
    if (text !== sent) return;
    moved = duration ? Math.min(1, Math.max(0, (now - start) / duration)) : 1;
    const share = moved * moved * (3 - 2 * moved);
    const between = (a, b) => a * (1 - share) + b * share;
    move(places.map(({ id, x, y }) => ({ id, x: between(from[id].x, x), y: between(from[id].y, y) })));
    if (moved < 1) requestAnimationFrame(step);
  };
  step(start);
}

addEventListener("message", ({ data, source }) => {
  if (source !== parent || !data || !drawn.has(data.cahpChosen)) return;
  show(data.cahpGraph);
  light();
  outline(network.getConnectedNodes(data.cahpChosen));
  network.selectNodes([data.cahpChosen], false);
});
parent.postMessage({ cahpReady: true }, "*");
