// Tokens per second, seconds per step, and what watching costs.

import { columnCharts } from "../curves.js";
import { fill, h } from "../dom.js";
import { duration, integer, moment, notMeasured, percent, shown } from "../format.js";
import { isFinished } from "../run.js";

/** @param {number} value */
const seconds = (value) => `${value < 0.1 ? value.toPrecision(2) : value.toFixed(2)}\u202fs`;

/** @param {number} value */
const dollars = (value) => `$${value.toFixed(2)}`;

/** @type {import("../panel.js").PanelSpec} */
export const speed = {
  id: "speed",
  title: "Speed",
  mount(context) {
    const facts = h("dl", { class: "facts" });
    const charts = h("div", { class: "panel-body" });
    context.body.append(facts, charts);
    const show = () => fill(facts, describe(context.run.row));
    show();
    context.listen(context.run, "status", show);
    columnCharts(context, charts, [
      { label: "Tokens per second", height: 130, type: "train", specs: [{ key: "tokens", column: "tokens_per_sec", label: "tokens per second", colour: "--line-1", width: 1, band: true, format: integer }] },
      { label: "Seconds per step", height: 110, type: "train", specs: [{ key: "step", column: "step_time", label: "seconds per step", colour: "--line-4", width: 1, band: true, format: seconds }] },
    ]);
  },
};

/** @param {any} row */
function describe(row) {
  const status = row?.status ?? {};
  const fact = (/** @type {string} */ term, /** @type {any} */ value) => h("div", {}, h("dt", { text: term }), h("dd", {}, value));
  const left = row.eta_seconds;
  return [
    isFinished(row.state) ? fact("Began", row.started_at ? moment(row.started_at) : notMeasured()) : fact("Time left", shown(left, duration)),
    isFinished(row.state) ? null : fact("Done", typeof left === "number" ? moment(Date.now() / 1000 + left) : notMeasured()),
    fact("Tokens seen", shown(status.tokens_total, integer)),
    "spent_usd" in status ? fact("Spent", shown(status.spent_usd, dollars)) : null,
    fact("Cost of monitoring", shown(status.monitor_share, (share) => `${percent(share, 2)} of step time`)),
  ];
}
