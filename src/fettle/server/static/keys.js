// Keyboard shortcuts, and the dialog that names them.

import { fill, footnote, h } from "./dom.js";

/** @type {[string, string][]} */
const NAMES = [
  ["?", "this list"],
  ["/", "search runs"],
  ["P", "pause or resume the run"],
  ["C", "stop the run"],
  ["S", "save a checkpoint now"],
  ["L", "go to the log"],
  ["E", "export"],
  ["N", "launch a training"],
  ["Esc", "close a dialog"],
  ["← →", "in a chart: read values"],
  ["+ − 0", "in a chart: zoom in, zoom out, show all"],
];

/**
 * @param {{help: HTMLElement, opener: HTMLElement, run: () => import("./views/run-view.js").RunView | null,
 *   export: () => void, launch: () => void, search: () => void}} page
 */
export function listenForKeys(page) {
  const help = /** @type {HTMLDialogElement} */ (page.help);
  fillHelp(help);
  const openHelp = () => help.showModal();
  page.opener.addEventListener("click", openHelp);
  /** @type {Record<string, () => void>} */
  const actions = {
    "?": openHelp,
    "/": page.search,
    p: () => page.run()?.ask("pause"),
    c: () => page.run()?.ask("stop"),
    s: () => page.run()?.ask("checkpoint"),
    l: () => page.run()?.show("log"),
    e: page.export,
    n: page.launch,
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isTyping(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const action = actions[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

/** @param {EventTarget | null} target */
function isTyping(target) {
  return target instanceof HTMLElement && (target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName)) && /** @type {HTMLInputElement} */ (target).type !== "checkbox";
}

/** @param {HTMLDialogElement} dialog */
function fillHelp(dialog) {
  const rows = NAMES.map(([key, text]) => [h("dt", {}, key.split(" ").map((k) => h("kbd", { text: k }))), h("dd", { text })]);
  fill(
    dialog,
    h("h2", { id: "help-title", text: "Keyboard shortcuts" }),
    h("dl", { class: "keys" }, rows),
    footnote("Drag in a chart to zoom all charts; double-click shows all steps. The address keeps the view: copy it to share what you see."),
    h("form", { method: "dialog" }, h("button", { type: "submit", text: "Close" })),
  );
}
