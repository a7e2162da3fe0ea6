// Runs in the graph's frame. The frame sends each click to the page around it. The page sends the chosen head, which gets
// thick outlines with its neighbours, and the graph: at another threshold, heads move to their new places. While the
// mouse is on a head, the other communities are dim.
const MOVE_MS = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 450;
let drawn = new Map(nodes.get().map((node) => [node.id, node]));
let communities = COMMUNITIES;
// The graph that was sent last, as text, and the share of the way to it that its heads have moved.
let sent = "";
let moved = 1;
// The areas of the communities where the heads are now (undefined: heads have moved).
let areas;
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

// Each community's area below its heads: the hull of circles around them.
const TURNS = Array.from({ length: 12 }, (_, turn) => [27 * Math.cos((turn * Math.PI) / 6), 27 * Math.sin((turn * Math.PI) / 6)]);
function area(group, places) {
  const members = [...drawn.values()].filter(({ community }) => community === group);
  const around = ({ id }) => TURNS.map(([across, down]) => [places[id].x + across, places[id].y + down]);
  return members.length > 1 ? hull(members.flatMap(around)) : [];
}
network.on("beforeDrawing", (context) => {
  const places = network.getPositions();
  areas ??= communities.map((_, group) => area(group, places));
  communities.forEach(([, , , colour], group) => {
    context.beginPath();
    areas[group].forEach(([x, y]) => context.lineTo(x, y));
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
  for (const [sign, x, y] of communities) {
    context.strokeText(sign, x, y);
    context.fillText(sign, x, y);
  }
  context.globalAlpha = 1;
});
network.redraw();
network.on("click", (event) => {
  if (event.nodes.length) parent.postMessage({ cahpHead: event.nodes[0] }, "*");
});
network.on("hoverNode", ({ node }) => light(drawn.get(node).community));
network.on("blurNode", () => light());

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
  communities = graph.communities;
  nodes.update(graph.nodes.map((node) => ({ ...node, ...from[node.id] })));
  edges.clear();
  edges.add(graph.edges);
  const step = (now) => {
    // A newer graph has its own steps.
    if (text !== sent) return;
    moved = duration ? Math.min(1, Math.max(0, (now - start) / duration)) : 1;
    const share = moved * moved * (3 - 2 * moved);
    const between = (a, b) => a + (b - a) * share;
    nodes.update(graph.nodes.map(({ id, x, y }) => ({ id, x: between(from[id].x, x), y: between(from[id].y, y) })));
    areas = undefined;
    if (moved < 1) requestAnimationFrame(step);
  };
  step(start);
}

addEventListener("message", ({ data, source }) => {
  if (source !== parent || !data || !drawn.has(data.cahpChosen)) return;
  show(data.cahpGraph);
  outline(network.getConnectedNodes(data.cahpChosen));
  network.selectNodes([data.cahpChosen], false);
});
parent.postMessage({ cahpReady: true }, "*");
