// The fixed eval over the run: exact match, cross-entropy and calibration, with 95 % intervals.

import { metricChart } from "../curves.js";
import { footnote, h } from "../dom.js";
import { METRICS, evalTrack } from "../evals.js";
import { integer, measured } from "../format.js";
import { eventLines } from "./loss.js";

/** @type {import("../panel.js").PanelSpec} */
export const evaluation = {
  id: "evaluation",
  title: "Fixed eval",
  wide: true,
  mount(context) {
    const grid = h("div", { class: "charts" });
    const note = footnote();
    context.body.append(grid, note);
    const charts = Object.entries(METRICS).map(([key, metric]) => {
      const box = h("div", { class: "chart-box" });
      grid.append(box);
      return { key, chart: metricChart(context, box, key, metric) };
    });
    context.watch("evals", ({ evals }) => {
      for (const { key, chart } of charts) chart.setTrack(key, evalTrack(evals, key));
      note.textContent = describe(evals);
    });
    context.watch("verdict", (data) => charts.forEach(({ chart }) => chart.setLines(eventLines(null, data.checkpoint))));
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
