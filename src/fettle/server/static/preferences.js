// What this browser remembers: collapsed panels, theme, the list of runs. Works without storage, too.

const PREFIX = "fettle.";

/** @param {string} key @param {string} [otherwise] @returns {string | undefined} */
export function recall(key, otherwise) {
  try {
    return localStorage.getItem(PREFIX + key) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** @param {string} key @param {string} value */
export function remember(key, value) {
  try {
    localStorage.setItem(PREFIX + key, value);
  } catch {
    // Private windows may refuse; the page then forgets at reload.
  }
}
