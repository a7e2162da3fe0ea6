// The report as a host of the board, and of two assumptions that a reader may change.
const board = document.getElementById("board");
mount(board, JSON.parse(document.getElementById("board-data").textContent));
// Two assumptions turn time into energy and money; whoever reads may have others.
const world = document.getElementById("world");
if (world) {
  // Of all heads, pruned, and both ends of the interval of the latter.
  const kwh = JSON.parse(world.dataset.kwh);
  const cells = [...world.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll("td")]);
  const short = (value) => {
    const three = value.toPrecision(3);
    return value < 1000 ? three : Number(three).toLocaleString("en");
  };
  const line = (times, unit) => {
    const [full, pruned, low, high] = kwh.map((value) => short(value * times));
    return [full + unit, pruned + unit, `${low} to ${high}`];
  };
  const asked = document.createElement("p");
  world.before(asked);
  const field = (words, value) => {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "number", min: 0, step: "any", value });
    label.append(words, input);
    asked.append(label);
    input.oninput = write;
    return input;
  };
  const watts = field("Watts: ", world.dataset.watts), price = field("Price of a kWh: ", world.dataset.price);
  asked.className = "assumed";
  function write() {
    const [power, cost] = [watts, price].map((input) => Number(input.value));
    if (!(power > 0 && cost > 0)) return;
    line(power, " kWh").forEach((text, index) => (cells[1][index].textContent = text));
    line(power * cost, "").forEach((text, index) => (cells[2][index].textContent = text));
  }
}
