// Every checkpoint with its score, what the score is made of, and where it lies.

import { copyText, fill, footnote, h, numeric, scrollTable } from "../dom.js";
import { integer, measured, moment, nats, percent, shown, size } from "../format.js";
import { sign } from "../signs.js";

/** @type {[string, string][]} */
const PARTS = [["eval", "0.5 E"], ["gap", "gap"], ["perplexity", "perplexity"], ["bonus", "bonus"]];

/** @type {import("../panel.js").PanelSpec} */
export const checkpoints = {
  id: "checkpoints",
  title: "Checkpoints",
  wide: true,
  mount(context) {
    context.watch("checkpoints", (data) => fill(context.body, data.checkpoints.length ? table(data) : footnote("No checkpoint was saved yet.")));
  },
};

/** @param {any} data */
function table(data) {
  const rows = [...data.checkpoints].sort((a, b) => b.step - a.step);
  const lowest = Math.min(...rows.map((row) => (measured(row.score) ? row.score : Infinity)));
  return [
    scrollTable("Table of checkpoints", ["Step", ...["Score", ...PARTS.map(([, text]) => text), "Held-out CE", "Exact match", "Train loss", "Size"].map(numeric), "Saved", "Path"], rows.map((row) => line(row, row.score === lowest))),
    footnote("Score: lower is better; it is the sum of the four columns beside it. The verdict goes by exact match and paired tests, not by this score."),
  ];
}

/** @param {any} row @param {boolean} lowest */
function line(row, lowest) {
  const cell = (/** @type {any} */ content, mark = "") => h("td", { class: `number ${mark}` }, content);
  const labels = [row.is_best ? h("span", { class: "chip tone-good" }, sign("star"), "use this") : null, row.is_latest ? h("span", { class: "chip tone-calm", text: "latest" }) : null];
  return h(
    "tr",
    { class: row.is_best ? "chosen" : "" },
    h("th", { scope: "row" }, h("span", { class: "step-label" }, integer(row.step), labels)),
    cell(measured(row.score) ? nats(row.score) : h("span", { class: "missing", title: row.reason ?? "", text: "incomparable" }), lowest ? "lowest" : ""),
    PARTS.map(([key]) => cell(shown(row.components?.[key], nats, true))),
    cell(shown(row.cross_entropy, nats, true)),
    cell(shown(row.exact_match, percent, true)),
    cell(shown(row.train_loss, nats, true)),
    cell(shown(row.size_bytes, size, true)),
    h("td", { class: "nowrap" }, row.created_at ? moment(row.created_at) : shown(null, String, true)),
    h("td", { class: "nowrap" }, row.on_disk && row.path ? h("button", { type: "button", class: "quiet", title: row.path, "aria-label": `Copy path of checkpoint ${row.step}`, onclick: () => copyText(row.path, "Path") }, sign("copy"), "Copy") : h("span", { class: "missing", text: "not on disk" })),
  );
}
