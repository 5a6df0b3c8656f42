// Light and dark: what the system says, unless the reader chose.

import { recall, remember } from "./preferences.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
/** @type {Map<string, string>} */
const colours = new Map();
/** @type {Set<() => void>} */
const listeners = new Set();

function isDark() {
  const chosen = recall("theme");
  return chosen ? chosen === "dark" : dark.matches;
}

export function applyTheme() {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  colours.clear();
  for (const listener of listeners) listener();
}

export function toggleTheme() {
  remember("theme", isDark() ? "light" : "dark");
  applyTheme();
}

/** A colour of the style sheet, for canvases. @param {string} name such as "--ink" */
export function colour(name) {
  let value = colours.get(name);
  if (value === undefined) {
    value = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    colours.set(name, value);
  }
  return value;
}

/** @param {() => void} listener */
export function onTheme(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

dark.addEventListener("change", applyTheme);
