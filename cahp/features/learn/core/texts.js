// A text of the page with its values: those in braces.

export const fill = (text, words) => text.replace(/\{(\w+)\}/g, (_, name) => words[name]);
