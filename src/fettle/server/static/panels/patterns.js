// Exact match by kind of prompt and length of the answer; a cell leads to its samples.

import { fill, footnote, h } from "../dom.js";
import { integer, measured, nats, percent } from "../format.js";
import { select } from "../panel.js";
import { at, move, numberAt } from "../place.js";

const ENOUGH = 20;

/** @type {import("../panel.js").PanelSpec} */
export const patterns = {
  id: "patterns",
  title: "Pattern × length",
  mount(context) {
    const step = () => ({ step: numberAt("eval") });
    const load = context.watch("patterns", (data) => render(context, data), step);
    context.watch("evals", ({ evals }) => fill(context.tools, stepChoice(evals)));
    context.onMove(["eval"], load);
    context.onMove(["pattern", "length"], load);
  },
};

/** The eval that is looked at, here and in the samples. @param {any[]} evals */
function stepChoice(evals) {
  const steps = evals.map((row) => row.step).filter(measured).reverse();
  if (steps.length < 2) return null;
  const options = steps.map((value, i) => /** @type {[string, string]} */ ([i ? String(value) : "", i ? `step ${integer(value)}` : `step ${integer(value)}, latest`]));
  return select("Eval", options, at("eval") ?? "", (value) => move({ eval: value || null }));
}

/** @param {import("../panel.js").Context} context @param {any} data */
function render(context, data) {
  if (!data.cells?.length) {
    fill(context.body, footnote("Not measured: no fixed eval with per-sample results."));
    return;
  }
  const names = data.patterns.map((/** @type {any} */ cell) => cell.pattern);
  const find = (/** @type {any} */ list, /** @type {string | null} */ pattern, /** @type {string | null} */ length) => list.find((/** @type {any} */ c) => (c.pattern ?? null) === pattern && (c.length ?? null) === length);
  const weakest = data.weakest?.[0];
  const isWeakest = (/** @type {any} */ cell) => weakest && cell.pattern === weakest.pattern && cell.length === (weakest.length ?? null);
  const head = h("tr", {}, h("th", { scope: "col", text: "tokens" }), h("th", { scope: "col", class: "number", text: "all" }), data.lengths.map((/** @type {string} */ text) => h("th", { scope: "col", text: short(text) })));
  const rows = names.map((/** @type {string} */ name) =>
    h("tr", {}, h("th", { scope: "row", title: name, text: name }), h("td", { class: "heat-all" }, box(find(data.patterns, name, null), name, null, false)), data.lengths.map((/** @type {string} */ length) => {
      const cell = find(data.cells, name, length);
      return h("td", {}, box(cell, name, length, cell && isWeakest(cell)));
    })),
  );
  const foot = h("tr", {}, h("th", { scope: "row", text: "all" }), h("td"), data.lengths.map((/** @type {string} */ length) => h("td", {}, box(find(data.columns ?? [], null, length), null, length, false))));
  fill(
    context.body,
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Exact match by pattern and length" }, h("table", { class: "heat" }, h("thead", {}, head), h("tbody", {}, rows, foot))),
    footnote(`Exact match in % by tokens of the answer, the number of samples below; hatched: fewer than ${ENOUGH}, too few to judge; –: none seen.`, weakest ? ` Weakest with enough samples: ${weakest.pattern}${weakest.length ? `, ${weakest.length} tokens` : ""} (▼).` : "", " A cell leads to its samples."),
  );
}

/** 1000-2000 as 1k–2k. @param {string} label */
function short(label) {
  return label.replace(/000\b/g, "k").replace("-", "–");
}

/** @param {any} cell @param {string | null} pattern @param {string | null} length @param {boolean} weak */
function box(cell, pattern, length, weak) {
  if (!cell?.seen) return h("span", { class: "heat-none" }, h("span", { "aria-hidden": "true", text: "–" }), h("span", { class: "hidden", text: "none seen" }));
  const where = [pattern, length && `${length} tokens`].filter(Boolean).join(", ");
  const range = measured(cell.low) && measured(cell.high) ? ` (95 %: ${percent(cell.low, 0)} to ${percent(cell.high, 0)})` : "";
  const share = measured(cell.train_share) ? `, ${percent(cell.train_share)} of the training data` : "";
  const title = `${where}: EM ${percent(cell.exact_match)}${range}, ${integer(cell.correct)} of ${integer(cell.seen)}${measured(cell.cross_entropy) ? `, CE ${nats(cell.cross_entropy)}` : ""}${share}`;
  const chosen = at("pattern") === pattern && at("length") === length;
  const button = h(
    "button",
    { type: "button", class: `heat-cell${cell.seen < ENOUGH ? " few" : ""}${weak ? " weakest" : ""}`, title, "aria-label": `${title}. Show samples`, "aria-pressed": String(chosen), onclick: () => showSamples(pattern, length) },
    h("span", { class: "heat-value", text: `${weak ? "▼ " : ""}${(100 * cell.exact_match).toFixed(0)}` }),
    h("span", { class: "heat-seen", text: integer(cell.seen) }),
  );
  button.style.setProperty("--share", `${100 * cell.exact_match}%`);
  return button;
}

/** @param {string | null} pattern @param {string | null} length */
function showSamples(pattern, length) {
  move({ pattern, length, page: null });
  document.dispatchEvent(new CustomEvent("show-panel", { detail: "samples" }));
}
