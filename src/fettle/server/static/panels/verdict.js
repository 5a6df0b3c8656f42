// What to do with the run, with which checkpoint, and why: the first thing a reader sees.

import { copyText, fill, footnote, h } from "../dom.js";
import { integer, margin, measured, nats, notMeasured, percent, words } from "../format.js";
import { sign } from "../signs.js";

/** @type {Record<string, [Parameters<typeof sign>[0], string, string]>} */
const ACTIONS = {
  stop: ["square", "Stop", "notice"],
  continue: ["play", "Continue", "good"],
  investigate: ["octagon", "Investigate", "critical"],
  insufficient: ["question", "Insufficient evidence", "calm"],
};
const TRENDS = { improving: "↗", plateau: "→", regressing: "↘", insufficient: "?" };
const REASONS_SHOWN = 3;

/** @type {import("../panel.js").PanelSpec} */
export const verdict = {
  id: "verdict",
  title: "Verdict",
  wide: true,
  mount(context) {
    context.watch("verdict", (data) => fill(context.body, render(data)));
  },
};

/** @param {any} data */
function render(data) {
  const [name, title, tone] = ACTIONS[data.action] ?? ["question", words(data.action), "calm"];
  return h(
    "div",
    { class: `verdict tone-${tone}` },
    h("div", { class: "verdict-what" }, h("p", { class: "verdict-action" }, sign(name), title), h("p", { class: "verdict-advice", text: data.recommendation })),
    tiles(data),
    h("div", { class: "verdict-why" }, reasons(data), warnings(data.warnings ?? []), missing(data.not_measured ?? [])),
  );
}

/** @param {string[]} texts */
function warnings(texts) {
  return texts.length ? h("ul", { class: "warnings" }, texts.map((text) => h("li", {}, sign("warning"), h("span", { text })))) : null;
}

/** @param {string[]} names */
function missing(names) {
  return names.length ? footnote(h("b", { text: "Not measured: " }), names.join(", ")) : null;
}

/** @param {any} data */
function tiles(data) {
  const numbers = data.evidence?.judged_eval ?? {};
  const trends = data.evidence?.trend ?? {};
  const points = (/** @type {number} */ value) => (100 * value).toFixed(1);
  const list = h(
    "dl",
    { class: "tiles" },
    tile("Exact match", numbers.exact_match, percent, margin(numbers.exact_match_low, numbers.exact_match_high, points), trendLine(trends.exact_match)),
    tile("Cross-entropy", numbers.cross_entropy, nats, margin(numbers.cross_entropy_low, numbers.cross_entropy_high, nats), trendLine(trends.cross_entropy)),
    tile("Calibration error", numbers.expected_calibration_error, nats, "", measured(numbers.samples) ? `ECE, ${integer(numbers.samples)} samples` : "ECE"),
    checkpointTile(data.checkpoint, data.evidence?.choice),
  );
  return h("div", { class: "verdict-numbers" }, list, measured(numbers.step) ? footnote(`Numbers of the fixed eval at step ${integer(numbers.step)}.`) : null);
}

/** @param {string} label @param {any} value @param {(v: number) => string} format @param {string} range @param {any} below */
function tile(label, value, format, range, below) {
  const number = measured(value) ? h("span", { class: "tile-number", text: format(value) }) : notMeasured();
  return h("div", { class: "tile" }, h("dt", { text: label }), h("dd", {}, number, measured(value) && range ? h("span", { class: "tile-range", text: ` ${range}` }) : null, below ? h("span", { class: "tile-below" }, below) : null));
}

/** @param {any} trend */
function trendLine(trend) {
  if (!trend?.evals) return "";
  const state = /** @type {keyof typeof TRENDS} */ (trend.state);
  const text = state === "insufficient" ? (trend.tested ? "undecided" : "not tested") : state;
  const since = measured(trend.since_step) ? ` since step ${integer(trend.since_step)}` : "";
  return [h("span", { "aria-hidden": "true", text: `${TRENDS[state] ?? "?"} ` }), text + since];
}

/** @param {any} checkpoint @param {any} choice */
function checkpointTile(checkpoint, choice) {
  if (!checkpoint) return h("div", { class: "tile" }, h("dt", { text: "Checkpoint to use" }), h("dd", {}, h("span", { class: "missing", text: "none on disk" })));
  const copy = h("button", { type: "button", class: "quiet", onclick: () => copyText(checkpoint.path, "Path"), title: checkpoint.path }, sign("copy"), "Copy path");
  const tied = choice?.tied_steps?.length > 1 ? `tied with ${choice.tied_steps.length - 1} other${choice.tied_steps.length > 2 ? "s" : ""}` : "";
  return h("div", { class: "tile" }, h("dt", { text: "Checkpoint to use" }), h("dd", {}, h("span", { class: "tile-number", text: integer(checkpoint.step) }), h("span", { class: "tile-below" }, tied ? `${tied}  ` : "", copy)));
}

/** @param {any} data */
function reasons(data) {
  const all = (data.reasons ?? []).map((/** @type {string} */ text) => h("li", { text }));
  const rest = all.splice(REASONS_SHOWN);
  if (!rest.length) return h("ol", { class: "reasons" }, all);
  return [h("ol", { class: "reasons" }, all), h("details", { class: "more" }, h("summary", { text: `${rest.length} more reason${rest.length > 1 ? "s" : ""}` }), h("ol", { class: "reasons", start: REASONS_SHOWN + 1 }, rest))];
}
