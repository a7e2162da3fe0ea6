// Runs in the graph's frame. The frame sends each click to the page around it, and the page sends the chosen head, whose
// community gets thick outlines. While the mouse is on a head, the other communities are dim.
const drawn = new Map(nodes.get().map((node) => [node.id, node]));
const light = (group) => nodes.update([...drawn.values()].map(({ id, community }) =>
  ({ id, opacity: group === undefined || community === group ? 1 : 0.2 })));
const outline = (group) => nodes.update([...drawn.values()].map(({ id, community, borderWidth }) =>
  ({ id, borderWidth: community === group ? borderWidth + 3 : borderWidth })));
// Each community's number beside it: there are only eight colours, and not everybody sees them.
network.on("afterDrawing", (context) => {
  const { color, backgroundColor } = getComputedStyle(document.body);
  Object.assign(context, { font: "bold 22px system-ui", textAlign: "center", textBaseline: "middle" });
  Object.assign(context, { lineJoin: "round", lineWidth: 5, strokeStyle: backgroundColor, fillStyle: color });
  for (const [sign, x, y] of SIGNS) {
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
  outline(drawn.get(data.cahpChosen).community);
  network.selectNodes([data.cahpChosen]);
});
parent.postMessage({ cahpReady: true }, "*");
