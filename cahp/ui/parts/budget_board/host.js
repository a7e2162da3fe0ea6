// The board as a Streamlit component, which is called again with new data for the same element.
import { mount } from "../../../board/core/board.js";

const boards = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  if (!data) return;
  const known = boards.get(parentElement);
  if (known) {
    known.trigger = setTriggerValue;
    known.finding = data.finding;
    known.board.update(data);
    return known.leave;
  }
  const made = { trigger: setTriggerValue, finding: data.finding };
  boards.set(parentElement, made);
  // Streamlit reports changed values only: the time makes two equal presses differ.
  const tell = (what) => {
    made.asked = what.kind === "ask";
    made.trigger("event", { ...what, turn: Date.now() });
  };
  made.board = mount(parentElement, data, tell, (...words) => title(made.finding, ...words), true);
  const closed = () => focusAgain(made, parentElement);
  document.addEventListener("cahp-card-closed", closed);
  // Streamlit also calls it for a call that a later one has overtaken.
  made.leave = () => {
    if (parentElement.isConnected) return;
    document.removeEventListener("cahp-card-closed", closed);
    boards.delete(parentElement);
    made.board.unmount();
  };
  return made.leave;
}

// Give the focus back to the board that opened a dialog, once the page behind the dialog takes it again. On a slow machine
// the dialog may come back with another head, and the page may still lose the focus, so it looks three times.
function focusAgain(made, parent, tries = 100, seen = 0) {
  if (!made.asked || !parent.isConnected || !tries) return;
  if (seen === 3) {
    made.asked = false;
    return;
  }
  if (document.querySelector("[role=dialog]")) seen = 0;
  else {
    if (!seen || document.activeElement === document.body) made.board.focus();
    seen += 1;
  }
  setTimeout(focusAgain, 100, made, parent, tries - 1, seen);
}

// Write the finding into the page above the board. The board does not move while the slider does, nor while a mask is
// measured: the finding is as high as the longest of its words so far. It stands in a container of its own for each board,
// as the board of another model may write once more when it leaves the page.
function title(finding, text, dragging) {
  const line = document.querySelector(`.st-key-${finding} :is(h1, h2, h3)`);
  // The words are one text, which Streamlit writes again.
  const words = line && document.createTreeWalker(line, NodeFilter.SHOW_TEXT).nextNode();
  if (!words) return;
  line.style.height = dragging ? line.style.height || `${line.offsetHeight}px` : "";
  line.style.overflow = dragging ? "hidden" : "";
  words.data = text;
  const width = `${line.offsetWidth}`;
  if (line.dataset.width !== width) line.style.minHeight = "";
  line.dataset.width = width;
  if (!dragging) line.style.minHeight = `${line.offsetHeight}px`;
}
