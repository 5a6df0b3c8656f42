// What `fettle eval --watch` found: every checkpoint on files beside the fixed eval.

import { metricChart } from "../curves.js";
import { fill, footnote, h, numeric, scrollTable } from "../dom.js";
import { METRICS, evalTrack } from "../evals.js";
import { integer, measured, percent, shown } from "../format.js";
import { choices } from "../panel.js";

const RATE = "_pass_rate";

/** @type {import("../panel.js").PanelSpec} */
export const evaluations = {
  id: "evaluations",
  title: "Evaluations",
  wide: true,
  mount(context) {
    const grid = h("div", { class: "charts" });
    const host = h("div", {});
    context.body.append(grid, host);
    /** @type {Map<string, {box: HTMLElement, drawn: import("../chart.js").Chart}>} */
    const charts = new Map();
    let file = "";
    let offered = "";

    /** @type {any[]} */
    let rows = [];

    const draw = () => {
      const files = [...new Set(rows.map((row) => row.data))].sort();
      if (!files.includes(file)) file = files[0];
      if (offered !== files.join("\n")) {
        offered = files.join("\n");
        const choose = (/** @type {string} */ name) => {
          file = name;
          draw();
        };
        fill(context.tools, files.length > 1 ? choices("File", files.map((name) => [name, name]), file, choose) : null);
      }
      const own = rows.filter((row) => row.data === file);
      const metrics = [...checkers(own), "exact_match", "cross_entropy"];
      for (const key of metrics) if (!charts.has(key)) charts.set(key, chart(context, grid, key));
      for (const [key, { box, drawn }] of charts) {
        box.hidden = !metrics.includes(key);
        drawn.setTrack(key, evalTrack(own, key));
      }
      fill(host, table(own, [...metrics, "expected_calibration_error"]));
    };
    context.watch("evaluations", (data) => {
      rows = data.evaluations;
      grid.hidden = !rows.length;
      if (rows.length) draw();
      else fill(host, footnote("No checkpoint was evaluated beside the fixed eval. ", h("code", { text: "fettle eval RUN --watch --data FILE" }), " does it while the run trains."));
    });
  },
};

/** Keys of the shares that checkers found right. @param {any[]} rows */
function checkers(rows) {
  const keys = new Set(rows.flatMap((row) => Object.keys(row)));
  return [...keys].filter((key) => key.endsWith(RATE)).sort();
}

/** @param {string} key */
function metric(key) {
  return METRICS[key] ?? { label: key.slice(0, -RATE.length), colour: "--line-1", format: percent };
}

/** @param {import("../panel.js").Context} context @param {HTMLElement} grid @param {string} key */
function chart(context, grid, key) {
  const box = h("div", { class: "chart-box" });
  grid.append(box);
  return { box, drawn: metricChart(context, box, key, metric(key)) };
}

/** @param {any[]} rows @param {string[]} metrics */
function table(rows, metrics) {
  return [
    scrollTable("Table of evaluations", ["Step", ...[...metrics.map((key) => metric(key).label), "Samples"].map(numeric), "Against the best before it"], [...rows].reverse().map((row) => line(row, metrics))),
    footnote("Results are below ", h("code", { text: "evaluations/" }), " in the run folder, ", h("code", { text: "report.html" }), " among them. Bands are 95 % intervals."),
  ];
}

/** @param {any} row @param {string[]} metrics */
function line(row, metrics) {
  const worse = Object.entries(row.trend).filter(([, trend]) => trend.state === "regressing");
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, row.step === 0 ? "base" : measured(row.step) ? integer(row.step) : row.name),
    metrics.map((key) => h("td", { class: "number" }, shown(row[key], metric(key).format, true))),
    h("td", { class: "number" }, shown(row.samples, integer, true)),
    h("td", {}, worse.length ? worse.map(([key, trend]) => h("span", { class: "chip tone-critical", title: trend.text }, `${metric(key).label} is worse`)) : standing(row.trend.exact_match)),
  );
}

/** How exact match goes where nothing is worse. @param {any} trend */
function standing(trend) {
  const known = trend?.state && trend.state !== "insufficient";
  return h("span", { class: known ? "" : "missing", title: trend?.text ?? "" }, known ? trend.state : "undecided");
}
