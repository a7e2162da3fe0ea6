// Runs in the graph's frame. The frame sends each click to the page around it, and the page sends the chosen head, which
// gets thick outlines with its neighbours. While the mouse is on a head, the other communities are dim.
const drawn = new Map(nodes.get().map((node) => [node.id, node]));
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
const AREAS = COMMUNITIES.map(([, , , colour], group) => {
  const members = [...drawn.values()].filter(({ community }) => community === group);
  const around = members.flatMap(({ x, y }) => TURNS.map(([across, down]) => [x + across, y + down]));
  return [members.length > 1 ? hull(around) : [], colour];
});
network.on("beforeDrawing", (context) => {
  for (const [corners, colour] of AREAS) {
    context.beginPath();
    corners.forEach(([x, y]) => context.lineTo(x, y));
    context.closePath();
    Object.assign(context, { fillStyle: colour, strokeStyle: colour, lineWidth: 1, globalAlpha: 0.1 });
    context.fill();
    context.globalAlpha = 0.5;
    context.stroke();
  }
  context.globalAlpha = 1;
});
// Each community's number beside it: there are only eight colours, and not everybody sees them.
network.on("afterDrawing", (context) => {
  const { color, backgroundColor } = getComputedStyle(document.body);
  Object.assign(context, { font: "bold 22px system-ui", textAlign: "center", textBaseline: "middle" });
  Object.assign(context, { lineJoin: "round", lineWidth: 5, strokeStyle: backgroundColor, fillStyle: color });
  for (const [sign, x, y] of COMMUNITIES) {
    context.strokeText(sign, x, y);
    context.fillText(sign, x, y);
  }
});
network.redraw();
network.on("click", (event) => {
  if (event.nodes.length) parent.postMessage({ cahpHead: event.nodes[0] }, "*");
});
network.on("hoverNode", ({ node }) => light(drawn.get(node).community));
network.on("blurNode", () => light());
addEventListener("message", ({ data }) => {
  if (!data || !Number.isInteger(data.cahpChosen) || !drawn.has(data.cahpChosen)) return;
  outline(network.getConnectedNodes(data.cahpChosen));
  network.selectNodes([data.cahpChosen], false);
});
parent.postMessage({ cahpReady: true }, "*");
