// The fixed eval over the run: exact match, cross-entropy and calibration, with 95 % intervals.

import { evalChart } from "../curves.js";
import { h } from "../dom.js";
import { evalTrack } from "../evals.js";
import { integer, measured, nats, percent } from "../format.js";
import { eventLines } from "./loss.js";

/** @type {[string, string, string, (v: number) => string][]} */
const METRICS = [
  ["exact_match", "Exact match", "--line-3", percent],
  ["cross_entropy", "Cross-entropy", "--line-2", nats],
  ["expected_calibration_error", "Calibration error (ECE)", "--line-4", nats],
];

/** @type {import("../panel.js").PanelSpec} */
export const evaluation = {
  id: "evaluation",
  title: "Fixed eval",
  wide: true,
  mount(context) {
    const grid = h("div", { class: "charts" });
    const note = h("p", { class: "footnote" });
    context.body.append(grid, note);
    const charts = METRICS.map(([key, label, colour, format]) => {
      const box = h("div", { class: "chart-box" });
      grid.append(box);
      const specs = [{ key, label, colour, format, points: true, band: true, interval: true, width: 2 }];
      return evalChart(context, box, { label, height: 170, specs });
    });
    context.watch("evals", ({ evals }) => {
      METRICS.forEach(([key], i) => charts[i].setTrack(key, evalTrack(evals, key)));
      note.textContent = describe(evals);
    });
    context.watch("verdict", (data) => charts.forEach((chart) => chart.setLines(eventLines(null, data.checkpoint))));
  },
};

/** @param {any[]} evals */
function describe(evals) {
  const last = evals.at(-1);
  if (!last) return "No fixed eval yet.";
  const parts = [`${evals.length} eval${evals.length > 1 ? "s" : ""}`];
  if (measured(last.samples)) parts.push(`${integer(last.samples)} samples`);
  if (measured(last.tokens)) parts.push(`${integer(last.tokens)} completion tokens`);
  if (measured(last.seconds)) parts.push(`the last took ${last.seconds.toFixed(1)} s`);
  return `${parts.join(", ")}. Bands are 95 % intervals; none is measured for ECE.`;
}
