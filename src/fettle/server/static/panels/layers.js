// How far each layer moved from the weights that training began with.

import { evalChart } from "../curves.js";
import { fill, footnote, h, scrollTable } from "../dom.js";
import { decimal, integer, measured, notMeasured, percent } from "../format.js";
import { choices } from "../panel.js";
import { sign } from "../signs.js";

/** @param {number} value */
const share = (value) => percent(value, 3);

/** @type {import("../panel.js").PanelSpec} */
export const layers = {
  id: "layers",
  title: "LoRA layers",
  mount(context) {
    let shown = "top";
    /** @type {any} */
    let last = null;
    const now = h("div", { class: "panel-body" });
    const past = h("div", { class: "chart-box" });
    context.body.append(now, past);
    const history = new History(context, past);
    const draw = () => {
      if (!last) return;
      fill(now, render(last, shown));
      past.hidden = shown !== "top" || !last.layers?.length;
      if (!past.hidden) history.show(last);
    };
    context.tools.append(
      choices("Layers", [["top", "top 5"], ["all", "all"], ["groups", "layer × group"]], shown, (value) => {
        shown = value;
        draw();
      }),
    );
    context.watch("layers", (data) => {
      last = data;
      draw();
    });
  },
};

/** The movement of the first layers over the run. */
class History {
  /** @param {import("../panel.js").Context} context @param {HTMLElement} host */
  constructor(context, host) {
    this.context = context;
    this.host = host;
    this.names = "";
    /** @type {import("../chart.js").Chart | null} */
    this.chart = null;
  }

  /** @param {any} data */
  show(data) {
    const specs = data.top.map((/** @type {any} */ row, /** @type {number} */ i) => ({ key: name(row), label: name(row), colour: `--line-${i + 1}`, width: 1.6, points: true, format: share }));
    const names = specs.map((/** @type {any} */ spec) => spec.key).join();
    if (names !== this.names) {
      this.names = names;
      this.chart?.destroy();
      fill(this.host);
      this.chart = evalChart(this.context, this.host, { label: "Movement of the layers that moved most", height: 150, specs });
    }
    for (const line of data.history) {
      if (!specs.some((/** @type {any} */ spec) => spec.key === name(line))) continue;
      const y = line.relative_movement;
      this.chart?.setTrack(name(line), { x: data.steps, y, low: y, high: y, marks: [], raw: true });
    }
  }
}

/** @param {any} data @param {string} shown */
function render(data, shown) {
  if (!data.layers?.length) return footnote("Not measured: the log holds no movement of layers.");
  const totals = data.layers.filter((/** @type {any} */ row) => row.group === "all");
  const most = data.top.map((/** @type {any} */ row) => totals.find((/** @type {any} */ total) => total.layer === row.layer) ?? row);
  return [
    STATES.map(([state, text]) => {
      const names = totals.filter((/** @type {any} */ row) => row.state === state).map(name);
      return names.length ? h("p", { class: "warnings-line" }, sign("warning"), ` ${text}: ${names.join(", ")}.`) : null;
    }),
    shown === "groups" ? matrix(data.layers, totals) : bars(shown === "top" ? most : totals),
    footnote(`‖ΔW‖ / ‖W‖ at step ${integer(data.step)}${data.method === "full" ? "; all weights are trained" : ""}.`),
  ];
}

/** @type {[string, string][]} */
const STATES = [["dead", "Did not move"], ["vanishing", "Gradients vanish"], ["exploding", "Gradients explode"]];

/** @param {any} row */
function name(row) {
  return measured(row.layer) ? `layer ${row.layer}` : "outside layers";
}

/** @param {any[]} rows */
function bars(rows) {
  const most = Math.max(...rows.map((row) => row.relative_movement ?? 0), 1e-12);
  const line = (/** @type {any} */ row) => {
    const bar = h("span", { class: "bar-fill" });
    bar.style.width = `${(100 * (row.relative_movement ?? 0)) / most}%`;
    const gradient = measured(row.gradient_norm) ? `‖g‖ ${decimal(row.gradient_norm)}` : "";
    return h("tr", {}, h("th", { scope: "row", text: name(row) }), h("td", { class: "number" }, movement(row)), h("td", { class: "bar-cell" }, bar), h("td", { class: "number footnote", text: gradient }));
  };
  return scrollTable("Movement of layers", ["Layer", "Movement", "Bar", "Gradient norm"], rows.map(line), { class: "bars", hidden: true });
}

/** @param {any} row */
function movement(row) {
  if (!measured(row?.relative_movement)) return notMeasured(true);
  return row.state === "dead" ? "did not move" : share(row.relative_movement);
}

/** @param {any[]} layers @param {any[]} totals */
function matrix(layers, totals) {
  /** @type {string[]} */
  const groups = [...new Set(layers.map((row) => row.group))].filter((group) => group !== "all");
  const most = Math.max(...layers.map((row) => row.relative_movement ?? 0), 1e-12);
  const cell = (/** @type {any} */ total, /** @type {string} */ group) => {
    const row = layers.find((r) => r.layer === total.layer && r.group === group);
    const text = !measured(row?.relative_movement) ? notMeasured(true) : row.state === "dead" ? "0" : (100 * row.relative_movement).toFixed(3);
    const box = h("span", { class: `heat-cell small${row?.state === "dead" ? " few" : ""}` }, text);
    box.style.setProperty("--share", `${(100 * (row?.relative_movement ?? 0)) / most}%`);
    return h("td", {}, box);
  };
  const rows = totals.map((total) => h("tr", {}, h("th", { scope: "row", text: name(total) }), groups.map((group) => cell(total, group))));
  return scrollTable("Movement by layer and group, in %", ["%", ...groups], rows, { class: "heat" });
}
