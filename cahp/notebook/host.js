// The board as a widget: it sends events to the kernel, which measures and sends new data.
import { mount } from "../board/core/board.js";

function render({ model, el }) {
  const place = document.createElement("div");
  const line = document.createElement("p");
  line.className = "cahp-doing";
  el.append(place, line);
  // Keys pressed in a board stay there: JupyterLab would move between cells on arrows and interrupt the kernel on i.
  el.dataset.lmSuppressShortcuts = "true";
  el.onkeydown = (event) => event.stopPropagation();
  const board = mount(place, model.get("data"), (what) => model.send(what));

  const button = (text, kind) => {
    const made = document.createElement("button");
    made.textContent = text;
    made.onclick = () => model.send({ kind });
    return made;
  };
  const stop = button("Stop", "stop");
  const sweep = button("Measure all budgets", "sweep");
  const undo = button("Undo", "undo");
  const bar = document.createElement("progress");
  const words = document.createElement("span");
  words.setAttribute("role", "status");
  line.append(bar, words, stop, undo, sweep);

  const doing = () => {
    const { stage, done, total, error } = model.get("doing");
    const running = Boolean(stage);
    bar.hidden = stop.hidden = !running;
    undo.hidden = sweep.hidden = running;
    undo.disabled = !model.get("data").undo;
    if (total > 1) Object.assign(bar, { max: total, value: done });
    else bar.removeAttribute("value");
    words.textContent = running ? (total > 1 ? `${stage}: ${done} of ${total}` : `${stage}…`) : (error ?? "");
  };
  const update = () => {
    board.update(model.get("data"));
    doing();
  };
  doing();
  model.on("change:data", update);
  model.on("change:doing", doing);
  return () => {
    model.off("change:data", update);
    model.off("change:doing", doing);
    board.unmount();
  };
}

export default { render };
