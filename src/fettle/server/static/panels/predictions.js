// Fixed prompts and what the model answered over time, word by word against the truth.

import { wordDiff } from "../diff.js";
import { fill, footnote, h } from "../dom.js";
import { integer, measured, notMeasured, percent, shown } from "../format.js";
import { select } from "../panel.js";
import { at, move, numberAt } from "../place.js";
import { isFinished } from "../run.js";
import { sign } from "../signs.js";

const POLL_MS = 15_000;

/** @type {import("../panel.js").PanelSpec} */
export const predictions = {
  id: "predictions",
  title: "Predictions over time",
  wide: true,
  mount(context) {
    /** @type {any} */
    let last = null;
    const draw = () => last && render(context, last);
    context.watch("predictions", (data) => {
      last = data;
      draw();
    });
    context.onMove(["prompt", "said"], draw);
    // Answers are written a while after the eval that they belong to.
    context.every(POLL_MS, () => !isFinished(context.run.row?.state) && context.run.outdate("predictions"));
  },
};

/** @param {import("../panel.js").Context} context @param {any} data */
function render(context, data) {
  if (!data.prompts?.length) {
    fill(context.tools);
    fill(context.body, footnote("Not measured: no prompts were answered in this run."));
    return;
  }
  const prompt = data.prompts.find((/** @type {any} */ p) => p.prompt_id === at("prompt")) ?? data.prompts[0];
  const rows = prompt.predictions;
  const asked = numberAt("said");
  const index = asked === null ? rows.length - 1 : Math.max(0, rows.findLastIndex((/** @type {any} */ row) => row.step <= asked));
  const options = data.prompts.map((/** @type {any} */ p) => [p.prompt_id, title(p)]);
  const focused = context.body.querySelector(":focus")?.getAttribute("type") === "range";
  fill(context.tools, select("Prompt", options, prompt.prompt_id, (value) => move({ prompt: value, said: null })));
  fill(context.body, timeline(rows, index), texts(prompt, rows[index]));
  if (focused) /** @type {HTMLElement | null} */ (context.body.querySelector("input[type=range]"))?.focus();
}

/** @param {any} prompt */
function title(prompt) {
  const text = question(prompt).replace(/\s+/g, " ");
  return `${prompt.pattern ? `${prompt.pattern}: ` : ""}${text.length > 60 ? `${text.slice(0, 59)}…` : text}`;
}

/** The last turn before the answer. @param {any} prompt */
function question(prompt) {
  const turns = prompt.prompt;
  return String(Array.isArray(turns) ? (turns.at(-1)?.content ?? "") : (turns ?? ""));
}

/** A slider over the steps, and for each step whether the answer was right. @param {any[]} rows @param {number} index */
function timeline(rows, index) {
  const go = (/** @type {number} */ to) => move({ said: to >= rows.length - 1 ? null : rows[Math.max(0, to)].step });
  const row = rows[index];
  const slider = h("input", { type: "range", min: 0, max: rows.length - 1, value: index, "aria-label": "Step of the prediction", "aria-valuetext": `step ${row.step}`, oninput: () => go(Number(slider.value)) });
  const strip = h("span", { class: "strip", role: "img", "aria-label": `right at ${rows.filter((r) => r.exact_match).length} of ${rows.length} steps` }, rows.map((r, i) => h("i", { class: `${r.exact_match ? "right" : r.exact_match === false ? "wrong" : ""}${i === index ? " here" : ""}`, title: `step ${r.step}: ${r.exact_match ? "right" : r.exact_match === false ? "wrong" : "not measured"}` })));
  return h(
    "div",
    { class: "timeline" },
    h("button", { type: "button", "aria-label": "Earlier prediction", disabled: index === 0, onclick: () => go(index - 1), text: "◀" }),
    h("div", { class: "timeline-track" }, slider, strip),
    h("button", { type: "button", "aria-label": "Later prediction", disabled: index === rows.length - 1, onclick: () => go(index + 1), text: "▶" }),
    h("b", { class: "nowrap", text: `step ${integer(row.step)}` }),
  );
}

/** @param {any} prompt @param {any} row */
function texts(prompt, row) {
  const block = (/** @type {string} */ heading, /** @type {any} */ content) => h("div", { class: "text-block" }, h("h3", {}, heading), h("pre", { class: "wrap" }, content));
  const turns = Array.isArray(prompt.prompt) ? prompt.prompt : [];
  const before = turns.slice(0, -1);
  const pieces = wordDiff(String(prompt.ground_truth ?? ""), String(row.prediction ?? ""));
  const drawn = pieces.map(({ kind, text }) => (kind === "same" ? text : h(kind === "insert" ? "ins" : "del", { text })));
  return h(
    "div",
    { class: "texts" },
    h("div", { class: "text-block" }, h("h3", { text: "Prompt" }), before.length ? h("details", {}, h("summary", { text: `${before.length} turn${before.length > 1 ? "s" : ""} before` }), before.map((/** @type {any} */ turn) => h("pre", { class: "wrap", text: `${turn.role}: ${turn.content}` }))) : null, h("pre", { class: "wrap", text: question(prompt) })),
    block("Truth", String(prompt.ground_truth ?? "")),
    block("Prediction", String(row.prediction ?? "")),
    h("div", { class: "text-block" }, h("h3", {}, "Difference ", h("span", { class: "footnote" }, h("del", { text: "missing" }), " ", h("ins", { text: "not in the truth" }))), h("pre", { class: "wrap diff" }, drawn)),
    h("p", { class: "footnote wide-cell" }, verdictOf(row), " · character error rate ", shown(row.character_error_rate, (v) => percent(v, 0)), row.ended === false ? " · cut off before its end" : "", measured(row.latency_ms) ? ` · ${integer(row.latency_ms)} ms` : ""),
  );
}

/** @param {any} row */
function verdictOf(row) {
  if (row.exact_match === true) return h("span", { class: "chip tone-good" }, sign("check"), "exact match");
  if (row.exact_match === false) return h("span", { class: "chip tone-notice" }, sign("cross"), "no match");
  return notMeasured();
}
