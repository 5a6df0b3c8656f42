// Each held-out sample and what became of it over the evals: learned, forgotten, never learned.

import { fill, footnote, h, numeric, scrollTable } from "../dom.js";
import { integer, nats, notMeasured, shown } from "../format.js";
import { select } from "../panel.js";
import { at, move, numberAt } from "../place.js";
import { sign } from "../signs.js";

const PAGE = 25;

/** @type {[string, string][]} */
const HISTORIES = [["", "all"], ["learned", "learned"], ["forgotten", "forgotten"], ["never", "never learned"], ["flipping", "flip-flopping"], ["always", "always right"]];

/** @type {import("../panel.js").PanelSpec} */
export const samples = {
  id: "samples",
  title: "Samples",
  wide: true,
  mount(context) {
    const query = () => ({ step: numberAt("eval"), pattern: at("pattern"), length: at("length"), history: at("history"), limit: PAGE, offset: PAGE * (numberAt("page") ?? 0) });
    /** @type {any} */
    let [matrix, last] = [null, null];
    const draw = () => last && fill(context.body, render(last, matrix?.steps ?? []));
    const load = context.watch("samples", (data) => {
      last = data;
      draw();
    }, query);
    const tools = context.watch("patterns", (data) => {
      matrix = data;
      fill(context.tools, filters(data));
      draw();
    }, () => ({ step: numberAt("eval") }));
    context.onMove(["eval", "pattern", "length", "history", "page"], () => {
      load();
      tools();
    });
  },
};

/** @param {any} matrix */
function filters(matrix) {
  const choice = (/** @type {string} */ label, /** @type {string} */ key, /** @type {[string, string][]} */ options) => {
    const chosen = at(key) ?? "";
    const known = options.some(([value]) => value === chosen) ? options : [...options, /** @type {[string, string]} */ ([chosen, chosen])];
    return select(label, known, chosen, (value) => move({ [key]: value || null, page: null }));
  };
  const names = (matrix?.patterns ?? []).map((/** @type {any} */ cell) => [cell.pattern, cell.pattern]);
  const lengths = (matrix?.lengths ?? []).map((/** @type {string} */ text) => [text, text]);
  return [choice("History", "history", HISTORIES), choice("Pattern", "pattern", [["", "all"], ...names]), choice("Tokens", "length", [["", "all"], ...lengths])];
}

/** @param {any} data @param {number[]} steps */
function render(data, steps) {
  if (!data.samples?.length) return footnote(data.total || at("history") || at("pattern") || at("length") ? "No sample fits." : "Not measured: no fixed eval with per-sample results.");
  const page = numberAt("page") ?? 0;
  const pages = Math.ceil(data.total / PAGE);
  const turn = (/** @type {number} */ to) => move({ page: to || null });
  return [
    scrollTable("Table of samples", ["Sample", "Pattern", numeric("Tokens"), numeric("CE"), "At this eval", "History", "Right at each eval"], data.samples.map((/** @type {any} */ row) => line(row, steps)), { tall: false }),
    h("div", { class: "pager" }, h("span", { class: "footnote", text: `${integer(page * PAGE + 1)} to ${integer(page * PAGE + data.samples.length)} of ${integer(data.total)}` }), h("button", { type: "button", text: "Back", disabled: page === 0, onclick: () => turn(page - 1) }), h("button", { type: "button", text: "Next", disabled: page + 1 >= pages, onclick: () => turn(page + 1) })),
  ];
}

/** @param {any} row @param {number[]} steps */
function line(row, steps) {
  const right = new Set(row.right_at ?? []);
  const strip = steps.length ? h("span", { class: "strip", role: "img", "aria-label": `right at ${right.size} of ${steps.length} evals` }, steps.map((step) => h("i", { class: right.has(step) ? "right" : "wrong", title: `step ${step}: ${right.has(step) ? "right" : "wrong"}` }))) : notMeasured(true);
  const now = row.exact_match === null || row.exact_match === undefined ? notMeasured(true) : row.exact_match ? [sign("check"), " right"] : [sign("cross"), " wrong"];
  return h(
    "tr",
    {},
    h("th", { scope: "row", class: "mono nowrap", text: row.sample_id }),
    h("td", { text: row.pattern || "other" }),
    h("td", { class: "number" }, shown(row.tokens, integer, true)),
    h("td", { class: "number" }, shown(row.cross_entropy, nats, true)),
    h("td", { class: "nowrap" }, now),
    h("td", { class: "nowrap", text: HISTORIES.find(([value]) => value === row.history)?.[1] ?? row.history ?? "" }),
    h("td", {}, strip),
  );
}
