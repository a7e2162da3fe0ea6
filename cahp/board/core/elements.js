// Make elements of HTML with their text, and of SVG with their attributes. Text is never read as markup.

export const SVG = "http://www.w3.org/2000/svg";

export const make = (tag, className, parent, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
};

// Bytes from base64.
export const unpacked = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));

// A map of attention, of as many rows as columns, as a mask over a colour that follows the theme.
export function maskOf(bytes) {
  const canvas = document.createElement("canvas"), size = Math.sqrt(bytes.length);
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d"), image = context.createImageData(size, size);
  bytes.forEach((byte, at) => (image.data[4 * at + 3] = byte));
  context.putImageData(image, 0, 0);
  return `url(${canvas.toDataURL()})`;
}

// A row of buttons, of which one is pressed. `choices` are pairs of words and a value; `chosen(value)` is called for a
// press. Returns a function that marks a value.
export function choose(parent, name, choices, chosen) {
  const row = make("div", "mode", parent);
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", name);
  make("span", "", row, `${name}: `);
  const buttons = choices.map(([words, value]) => {
    const button = make("button", "", row, words);
    button.type = "button";
    button.onclick = () => {
      mark(value);
      chosen(value);
    };
    return button;
  });
  const mark = (value) => buttons.forEach((button, index) => button.setAttribute("aria-pressed", choices[index][1] === value));
  return mark;
}

export const draw = (tag, attributes, parent, text) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
};
