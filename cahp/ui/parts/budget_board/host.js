// The board as a component of Streamlit, which calls this again with new data for the same element.
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
  // Streamlit tells only what changed: a turn makes the same press twice two.
  made.board = mount(parentElement, data, (what) => made.trigger("event", { ...what, turn: Date.now() }));
}
