// Train loss, its smooth course, and held-out loss, with the best checkpoint and the epochs.

import { Chart } from "../chart.js";
import { h } from "../dom.js";
import { follow, logChosen, zoomAll } from "../follow.js";
import { decimal, measured } from "../format.js";
import { move, numberAt } from "../place.js";

/** @type {import("../panel.js").PanelSpec} */
export const loss = {
  id: "loss",
  title: "Loss",
  wide: true,
  mount(context) {
    const chart = new Chart(context.body, {
      label: "Loss in nats per completion token",
      height: 300,
      log: logChosen(),
      onZoom: zoomAll,
      specs: [
        { key: "loss", label: "train, each step", colour: "--line-faint", width: 1, band: true, format: decimal },
        { key: "streaming", label: "train, smoothed", colour: "--line-1", width: 2, format: decimal },
        { key: "held_out", label: "held out", colour: "--line-2", width: 2, points: true, band: true, interval: true, format: decimal },
      ],
    });
    context.stop.addEventListener("abort", () => chart.destroy());
    follow(context, chart, [
      { key: "loss", type: "train", column: "loss" },
      { key: "streaming", type: "train", column: "streaming_ce" },
    ]);
    context.watch("evals", (data) => chart.setTrack("held_out", evalTrack(data.evals, "cross_entropy")));
    context.watch("verdict", (data) => chart.setLines(eventLines(context.run.row, data.checkpoint)));
    context.tools.append(...scaleTools(chart), ...zoomTools(context));
    context.onMove(["log"], () => chart.setLog(logChosen()));
  },
};

/** One number of every eval, with its interval where it has one. @param {any[]} evals @param {string} name @returns {import("../api.js").Track} */
export function evalTrack(evals, name) {
  const rows = evals.filter((row) => measured(row.step));
  const column = (/** @type {string} */ key) => rows.map((row) => (measured(row[key]) ? row[key] : null));
  const marks = rows.filter((row) => row[`${name}_nonfinite`]).map((row) => ({ x: row.step, kind: row[`${name}_nonfinite`], count: 1 }));
  return { x: rows.map((row) => row.step), y: column(name), low: column(`${name}_low`), high: column(`${name}_high`), marks, raw: true };
}

/** Epochs and the checkpoint to use, as vertical lines. @param {any} row @param {any} checkpoint @returns {import("../marks.js").Line[]} */
export function eventLines(row, checkpoint) {
  const lines = [];
  const perEpoch = row?.epoch > 0 && row?.step > 0 ? row.step / row.epoch : null;
  if (perEpoch && row.epoch <= 50) {
    for (let epoch = 1; epoch <= row.epoch + 1e-9; epoch += 1) lines.push({ x: epoch * perEpoch, label: `epoch ${epoch}`, colour: "--line-epoch", dash: [2, 4], low: true });
  }
  if (checkpoint) lines.push({ x: checkpoint.step, label: `checkpoint ${checkpoint.step}`, colour: "--good", dash: [5, 3] });
  return lines;
}

/** @param {Chart} chart */
function scaleTools(chart) {
  const box = h("input", { type: "checkbox", checked: chart.log, onchange: () => move({ log: box.checked ? "1" : null }) });
  return [h("label", { class: "check" }, box, "log scale")];
}

/** From and to, by keyboard as by drag. @param {import("../panel.js").Context} context */
function zoomTools(context) {
  const field = (/** @type {string} */ key, /** @type {string} */ label) =>
    h("input", { type: "number", min: 0, step: 1, class: "step-field", "aria-label": label, placeholder: label, value: numberAt(key) ?? "", onchange: (/** @type {any} */ e) => move({ [key]: e.target.value || null }) });
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
