// Keys of a board: / finds a head by its name, ? lists the keys, Ctrl+Z undoes, and Escape releases the selected head.
// They count wherever the focus is within `place`, but not in a box of text, which has keys of its own, nor while a dialog
// of the host is open.

import { make } from "./elements.js";

const OTHER = "input:not([type=range]), textarea, select, [contenteditable=true]";

export class Keys {
  // `acts`: `select(head)` selects a head (null: none), and `undo()` undoes if there is something to undo; the others are
  // those of `Heads`.
  constructor(parent, place, heads, { unit, cards, steps }, acts) {
    this.place = place;
    this.heads = heads;
    this.acts = acts;
    this.pressed = (event) => this.press(event);
    place.addEventListener("keydown", this.pressed);
    this.search(heads.frame, unit);
    this.list(parent, [
      ["/", `Find a ${unit}: type its layer and number, as 2.0`],
      ["← ↑ → ↓", `Select the next ${unit}`],
      ...(acts.toggle ? [["Space", `Remove or restore the selected ${unit}`]] : []),
      ...(cards ? [["Enter", "Open its card"]] : []),
      ["Esc", "Release it, or close this list"],
      ...(steps ? [["Ctrl Z", "Undo the last change of the mask"]] : []),
      ["?", "This list"],
    ]);
  }

  unmount() {
    this.place.removeEventListener("keydown", this.pressed);
  }

  press(event) {
    const target = event.composedPath()[0];
    if (event.defaultPrevented || event.altKey || !this.finder.isConnected || document.querySelector("[role=dialog]")) return;
    if (target === this.box || target.matches?.(OTHER) || this.keys.open) return;
    const { key } = event, command = event.ctrlKey || event.metaKey;
    if (command && (key !== "z" || event.shiftKey)) return;
    if (command) this.acts.undo();
    else if (key === "/") this.open();
    else if (key === "?") this.show();
    else if (key === "Escape") this.acts.select(null);
    else return;
    event.preventDefault();
  }

  show() {
    this.keys.showModal();
  }

  // Finding a head ------------------------------------------------------------------------------------------------

  search(parent, unit) {
    this.finder = make("div", "finder", parent);
    this.finder.hidden = true;
    const label = make("label", "", this.finder, `Find a ${unit}`);
    this.box = make("input", "", label);
    Object.assign(this.box, { type: "text", size: 6, placeholder: "2.0", autocomplete: "off", spellcheck: false });
    this.found = make("span", "", this.finder);
    this.found.setAttribute("role", "status");
    this.box.oninput = () => this.find();
    this.box.onblur = () => this.close();
    this.box.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      this.close();
      if (event.key === "Escape") this.acts.select(null);
      this.heads.cells[this.heads.focus].focus({ preventScroll: true });
    };
  }

  open() {
    this.finder.hidden = false;
    this.box.value = this.found.textContent = "";
    this.box.focus();
  }

  close() {
    this.finder.hidden = true;
    this.heads.glow();
  }

  // Select the head whose name was typed; until it is whole, the heads of its layer light up.
  find() {
    const { heads } = this, name = this.box.value.trim().replace(/\D+/g, "."), all = heads.cells.map((_, head) => heads.named(head));
    const head = all.indexOf(name), layer = (head) => all[head].split(".")[0] === name.split(".")[0];
    const some = all.some((_, other) => layer(other));
    this.found.textContent = head >= 0 || !name ? "" : some && !/\.\d/.test(name) ? `${all.filter((_, other) => layer(other)).at(-1)} is the last of this layer` : `There is no ${name}; the last one is ${all.at(-1)}`;
    heads.glow(head < 0 && some ? layer : undefined);
    if (head < 0) return;
    heads.move(head);
    this.acts.select(head);
  }

  // The list of keys ----------------------------------------------------------------------------------------------

  list(parent, rows) {
    this.keys = make("dialog", "keys-list", parent);
    this.keys.setAttribute("aria-label", "Keys");
    const table = make("dl", "", this.keys);
    for (const [key, words] of rows) {
      const row = make("div", "", table);
      make("dt", "", row, key);
      make("dd", "", row, words);
    }
    // A click beside the list closes it.
    this.keys.onclick = (event) => event.target === this.keys && this.keys.close();
    const close = make("button", "deed", this.keys, "Close");
    close.type = "button";
    close.onclick = () => this.keys.close();
  }
}
