// Train loss, its smooth course, and held-out loss, with the checkpoint to use and the epochs.

import { stepChart } from "../curves.js";
import { h } from "../dom.js";
import { follow, logChosen, zoomAll } from "../follow.js";
import { nats } from "../format.js";
import { evalTrack } from "../evals.js";
import { move, numberAt } from "../place.js";

/** @type {import("../panel.js").PanelSpec} */
export const loss = {
  id: "loss",
  title: "Loss",
  wide: true,
  mount(context) {
    const chart = stepChart(context, context.body, {
      label: "Loss in nats per completion token",
      height: 300,
      log: logChosen(),
      specs: [
        { key: "loss", label: "train, each step", colour: "--line-faint", width: 1, band: true, format: nats },
        { key: "streaming", label: "train, smoothed", colour: "--line-1", width: 2, format: nats },
        { key: "held_out", label: "held out", colour: "--line-2", width: 2, points: true, band: true, interval: true, format: nats },
      ],
    });
    follow(context, chart, [
      { key: "loss", type: "train", column: "loss", extremes: true },
      { key: "streaming", type: "train", column: "streaming_ce", extremes: false },
    ]);
    context.watch("evals", (data) => chart.setTrack("held_out", evalTrack(data.evals, "cross_entropy")));
    context.watch("verdict", (data) => chart.setLines(eventLines(context.run.row, data.checkpoint)));
    context.tools.append(...scaleTools(chart), ...zoomTools(context));
    context.onMove(["log"], () => chart.setLog(logChosen()));
  },
};

/** Epochs and the checkpoint to use, as vertical lines. @param {any} row @param {any} checkpoint @returns {import("../marks.js").Line[]} */
export function eventLines(row, checkpoint) {
  /** @type {import("../marks.js").Line[]} */
  const lines = [];
  const perEpoch = row?.epoch > 0 && row?.step > 0 ? row.step / row.epoch : null;
  if (perEpoch && row.epoch <= 50) {
    for (let epoch = 1; epoch < row.epoch - 1e-6; epoch += 1) lines.push({ x: epoch * perEpoch, label: `epoch ${epoch}`, colour: "--line-epoch", dash: [2, 4], low: true });
  }
  for (const { step, action } of row?.control ?? []) lines.push({ x: step, label: action, colour: "--line-6", dash: [1, 3], low: true });
  if (checkpoint) lines.push({ x: checkpoint.step, label: `checkpoint ${checkpoint.step}`, colour: "--good", dash: [5, 3] });
  return lines;
}

/** @param {import("../chart.js").Chart} chart */
function scaleTools(chart) {
  const box = h("input", { type: "checkbox", checked: chart.log, onchange: () => move({ log: box.checked ? "1" : null }) });
  return [h("label", { class: "check" }, box, "log scale")];
}

/** From and to, by keyboard as by drag. @param {import("../panel.js").Context} context */
function zoomTools(context) {
  const field = (/** @type {string} */ key, /** @type {string} */ label) =>
    h("input", { type: "number", min: 0, step: 1, class: "step-field", "aria-label": label, placeholder: label, onchange: (/** @type {any} */ e) => move({ [key]: e.target.value || null }) });
  const [from, to] = [field("from", "from step"), field("to", "to step")];
  const reset = h("button", { type: "button", class: "quiet", text: "All steps", onclick: () => zoomAll(null, null) });
  const show = () => {
    from.value = numberAt("from") ?? "";
    to.value = numberAt("to") ?? "";
    reset.hidden = numberAt("from") === null && numberAt("to") === null;
  };
  context.onMove(["from", "to"], show);
  show();
  return [h("span", { class: "field-pair" }, from, h("span", { "aria-hidden": "true", text: "–" }), to), reset];
}
