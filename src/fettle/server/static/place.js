// Where the reader is: run, window, filters. It lives in the address, so that a link restores the view.

/** @type {Set<(changed: Set<string>) => void>} */
const listeners = new Set();
let current = new URLSearchParams(location.hash.slice(1));

/** @param {string} key @returns {string | null} */
export function at(key) {
  return current.get(key);
}

/** A number in the address; null where there is none. @param {string} key */
export function numberAt(key) {
  const text = current.get(key);
  const value = text === null || text === "" ? NaN : Number(text);
  return Number.isFinite(value) ? value : null;
}

/** The address with some values changed; null removes one. @param {Record<string, string | number | null>} changes */
function addressWith(changes, base = current) {
  const next = new URLSearchParams(base);
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === "") next.delete(key);
    else next.set(key, String(value));
  }
  return `#${next}`;
}

/** An address of its own, without what the present one holds. @param {Record<string, string | number | null>} values */
export function address(values) {
  return addressWith(values, new URLSearchParams());
}

/** Go to a changed address without leaving the page. @param {Record<string, string | number | null>} changes */
export function move(changes) {
  const next = addressWith(changes);
  if (next.slice(1) === String(current)) return;
  history.replaceState(null, "", next === "#" ? location.pathname + location.search : next);
  read();
}

function read() {
  const next = new URLSearchParams(location.hash.slice(1));
  const keys = new Set([...current.keys(), ...next.keys()]);
  const changed = new Set([...keys].filter((key) => current.get(key) !== next.get(key)));
  current = next;
  if (changed.size) for (const listener of [...listeners]) listener(changed);
}

/** Hear of changes; returns how to stop. @param {(changed: Set<string>) => void} listener */
export function onMove(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

addEventListener("hashchange", read);
