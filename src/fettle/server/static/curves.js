// A chart in a panel: made, followed and ended with it.

import { Chart } from "./chart.js";
import { fill, footnote, h } from "./dom.js";
import { follow, zoomAll, zoomWindow } from "./follow.js";
import { notMeasured } from "./format.js";

/** A chart that shares its window with all others. @param {import("./panel.js").Context} context @param {HTMLElement} host @param {import("./chart.js").ChartOptions} options */
export function stepChart(context, host, options) {
  const chart = new Chart(host, { onZoom: zoomAll, ...options });
  context.stop.addEventListener("abort", () => chart.destroy());
  return chart;
}

/** A chart whose tracks come from the answers about evals, not from `follow`. @param {import("./panel.js").Context} context @param {HTMLElement} host @param {import("./chart.js").ChartOptions} options */
export function evalChart(context, host, options) {
  const chart = stepChart(context, host, options);
  const frame = () => {
    chart.window = zoomWindow();
    chart.domain = [0, Math.max(1, context.run.lastStep)];
    chart.draw();
  };
  context.onMove(["from", "to"], frame);
  context.listen(context.run, "rows", frame);
  frame();
  return chart;
}

/** One metric of evals with its interval. @param {import("./panel.js").Context} context @param {HTMLElement} host @param {string} key @param {{label: string, colour: string, format: (v: number) => string}} metric */
export function metricChart(context, host, key, metric) {
  return evalChart(context, host, { label: metric.label, height: 170, specs: [{ key, ...metric, points: true, band: true, interval: true, width: 2 }] });
}

/**
 * Charts of columns of the log, one below the other; a chart of which nothing was recorded says so in one line.
 * @param {import("./panel.js").Context} context @param {HTMLElement} host
 * @param {{label: string, height: number, type: string, zero?: boolean, specs: (import("./chart.js").TrackSpec & {column: string})[]}[]} list
 */
export function columnCharts(context, host, list) {
  const note = footnote();
  host.append(note);
  let waiting = list;
  const draw = () => {
    waiting = waiting.filter(({ label, height, type, zero, specs }) => {
      const columns = context.run.row?.columns?.[type] ?? [];
      const recorded = specs.filter((spec) => columns.includes(spec.column));
      if (!recorded.length) return true;
      const box = h("div", { class: "chart-box" });
      note.before(box);
      const chart = stepChart(context, box, { label, height, zero, specs: recorded });
      follow(context, chart, recorded.map((spec) => ({ key: spec.key, type, column: spec.column, extremes: Boolean(spec.band) })));
      return false;
    });
    fill(note, waiting.length ? [`${waiting.map(({ label }) => label).join(", ")}: `, notMeasured()] : null);
    note.hidden = !waiting.length;
  };
  context.listen(context.run, "columns", draw);
  draw();
}
