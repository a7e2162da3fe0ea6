// The board as a Streamlit component, which is called again with new data for the same element.
import { mount } from "../../../board/core/board.js";

const boards = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  if (!data) return;
  const known = boards.get(parentElement);
  if (known) {
    known.trigger = setTriggerValue;
    return known.board.update(data);
  }
  const made = { trigger: setTriggerValue };
  boards.set(parentElement, made);
  // Streamlit reports changed values only: the time makes two equal presses differ.
  const tell = (what) => {
    made.asked = what.kind === "ask";
    made.trigger("event", { ...what, turn: Date.now() });
  };
  made.board = mount(parentElement, data, tell, title);
  document.addEventListener("cahp-card-closed", () => focusAgain(made, parentElement));
}

// Give the focus back to the board that opened a dialog, once the page behind the dialog takes it again.
function focusAgain(made, parent, tries = 40) {
  if (!made.asked || !parent.isConnected || !tries) return;
  if (document.querySelector("[role=dialog]")) return setTimeout(focusAgain, 50, made, parent, tries - 1);
  made.asked = false;
  setTimeout(() => made.board.focus(), 100);
}

// Write the finding into the heading above the board. The board below it does not move while the slider does, nor while a
// mask is measured: the heading is as high as the longest finding so far.
function title(text, dragging) {
  const heading = document.querySelector(".st-key-heading-budgets :is(h1, h2, h3)");
  // The words are one text, which Streamlit writes again.
  const words = heading && document.createTreeWalker(heading, NodeFilter.SHOW_TEXT).nextNode();
  if (!words) return;
  heading.style.height = dragging ? heading.style.height || `${heading.offsetHeight}px` : "";
  heading.style.overflow = dragging ? "hidden" : "";
  words.data = text;
  const width = `${heading.offsetWidth}`;
  if (heading.dataset.width !== width) heading.style.minHeight = "";
  heading.dataset.width = width;
  if (!dragging) heading.style.minHeight = `${heading.offsetHeight}px`;
}
