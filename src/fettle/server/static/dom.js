// Elements without HTML strings: every text from a run becomes a text node, never markup.

/**
 * Make an element. A key that starts with "on" is a listener, "class" and "text" are what they say,
 * true sets an empty attribute, false, null and undefined set none; the rest are attributes.
 * @param {string} tag
 * @param {Record<string, any>} [props]
 * @param {...(Node | string | number | null | undefined | false | any[])} children
 * @returns {any}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") element.textContent = String(value);
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...nodes(children));
  return element;
}

/** @param {any[]} children @returns {(Node | string)[]} */
function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child)));
}

/** Put new children in place of the old ones. @param {Element} element @param {...any} children */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/** A remark below what it is about. @param {...any} children */
export function footnote(...children) {
  return h("p", { class: "footnote" }, children);
}

/** The heading of a column of numbers. @param {string} text */
export function numeric(text) {
  return h("th", { scope: "col", class: "number", text });
}

/**
 * A table that scrolls by itself.
 * @param {string} label @param {any[]} heads texts of column headings, or the headings themselves
 * @param {any[]} rows @param {{class?: string, hidden?: boolean, tall?: boolean}} [options] hidden: only for screen readers
 */
export function scrollTable(label, heads, rows, { class: kind, hidden, tall = true } = {}) {
  const head = h("tr", {}, heads.map((text) => (text instanceof Node ? text : h("th", { scope: "col", text }))));
  const table = h("table", { class: kind }, h("thead", { class: hidden && "hidden" }, head), h("tbody", {}, rows));
  return h("div", { class: tall ? "scroll tall" : "scroll", tabindex: 0, role: "region", "aria-label": label }, table);
}

const SVG = "http://www.w3.org/2000/svg";

/** One of the page's icons: a path in a 16 × 16 box. @param {string} path @param {string} [name] */
export function icon(path, name = "") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", `icon ${name}`);
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS(SVG, "path");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

/** A line for screen readers and for a moment on the screen. @param {string} text */
export function announce(text) {
  const toast = /** @type {HTMLElement} */ (document.getElementById("toast"));
  toast.textContent = text;
  toast.classList.add("shown");
  clearTimeout(Number(toast.dataset.timer));
  toast.dataset.timer = String(setTimeout(() => toast.classList.remove("shown"), 4000));
}

/** Copy text, and say so. @param {string} text @param {string} what */
export async function copyText(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    announce(`${what} copied`);
  } catch {
    announce(`The browser does not let the page copy. ${what}: ${text}`);
  }
}
