// How far each layer moved from the weights that training began with.

import { fill, h } from "../dom.js";
import { decimal, integer, measured, notMeasured, percent } from "../format.js";
import { choices } from "../panel.js";
import { sign } from "../signs.js";

/** @type {import("../panel.js").PanelSpec} */
export const layers = {
  id: "layers",
  title: "LoRA layers",
  mount(context) {
    let shown = "top";
    /** @type {any} */
    let last = null;
    const draw = () => last && fill(context.body, render(last, shown));
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

/** @param {any} data @param {string} shown */
function render(data, shown) {
  if (!data.layers?.length) return h("p", { class: "footnote", text: "Not measured: the log holds no movement of layers." });
  const rows = shown === "top" ? data.top : data.totals;
  const still = data.totals.filter((/** @type {any} */ row) => row.state === "dead").map(name);
  return [
    still.length ? h("p", { class: "warnings-line" }, sign("warning"), ` Did not move: ${still.join(", ")}.`) : null,
    shown === "groups" ? matrix(data) : bars(rows),
    h("p", { class: "footnote", text: `‖ΔW‖ / ‖W‖ at step ${integer(data.step)}${data.since_step ? `, counted from step ${integer(data.since_step)}` : ""}${data.method === "full" ? "; all weights are trained" : ""}.` }),
  ];
}

/** @param {any} row */
function name(row) {
  return measured(row.layer) ? `layer ${row.layer}` : "outside layers";
}

/** @param {any[]} rows */
function bars(rows) {
  const most = Math.max(...rows.map((row) => row.relative_movement ?? 0), 1e-12);
  return h(
    "div",
    { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Movement of layers" },
    h(
      "table",
      { class: "bars" },
      h("thead", { class: "hidden" }, h("tr", {}, ["Layer", "Movement", "", "Gradient norm"].map((text) => h("th", { scope: "col", text })))),
      h("tbody", {}, rows.map((row) => {
        const bar = h("span", { class: "bar-fill" });
        bar.style.width = `${(100 * (row.relative_movement ?? 0)) / most}%`;
        return h("tr", {}, h("th", { scope: "row", text: name(row) }), h("td", { class: "number" }, movement(row)), h("td", { class: "bar-cell" }, bar), h("td", { class: "number footnote" }, measured(row.gradient_norm) ? `‖g‖ ${decimal(row.gradient_norm)}` : ""));
      })),
    ),
  );
}

/** @param {any} row */
function movement(row) {
  if (!measured(row?.relative_movement)) return notMeasured(true);
  return row.state === "dead" ? "did not move" : percent(row.relative_movement, 3);
}

/** @param {any} data */
function matrix(data) {
  /** @type {string[]} */
  const groups = [...new Set(data.layers.map((/** @type {any} */ row) => row.group))];
  const most = Math.max(...data.layers.map((/** @type {any} */ row) => row.relative_movement ?? 0), 1e-12);
  const cell = (/** @type {any} */ total, /** @type {string} */ group) => {
    const row = data.layers.find((/** @type {any} */ r) => r.layer === total.layer && r.group === group);
    const box = h("span", { class: `heat-cell small${row?.state === "dead" ? " few" : ""}` }, row ? (row.state === "dead" ? "0" : (100 * row.relative_movement).toFixed(3)) : notMeasured(true));
    box.style.setProperty("--share", `${(100 * (row?.relative_movement ?? 0)) / most}%`);
    return h("td", {}, box);
  };
  return h(
    "div",
    { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Movement by layer and group, in %" },
    h(
      "table",
      { class: "heat" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col", text: "%" }), groups.map((group) => h("th", { scope: "col", class: "number", text: group })))),
      h("tbody", {}, data.totals.map((/** @type {any} */ total) => h("tr", {}, h("th", { scope: "row", text: name(total) }), groups.map((group) => cell(total, group))))),
    ),
  );
}
