// Several runs side by side: their curves in one chart, what differs in their configuration, paired tests.

import { getJson, getManySeries, runPath } from "../api.js";
import { Chart } from "../chart.js";
import { fill, footnote, h } from "../dom.js";
import { decimal, integer, measured, nats, notMeasured, percent, words } from "../format.js";
import { address, at, move, numberAt, onMove } from "../place.js";
import { evalTrack } from "../evals.js";

/** @type {Record<string, {label: string, type: string, column: string, format: (v: number) => string}>} */
const METRICS = {
  streaming_ce: { label: "Train loss, smoothed", type: "train", column: "streaming_ce", format: nats },
  loss: { label: "Train loss, each step", type: "train", column: "loss", format: nats },
  cross_entropy: { label: "Held-out cross-entropy", type: "fixed_eval", column: "cross_entropy", format: nats },
  exact_match: { label: "Exact match", type: "fixed_eval", column: "exact_match", format: percent },
  expected_calibration_error: { label: "Calibration error (ECE)", type: "fixed_eval", column: "expected_calibration_error", format: nats },
  learning_rate: { label: "Learning rate", type: "train", column: "learning_rate", format: decimal },
  grad_norm: { label: "Gradient norm", type: "train", column: "grad_norm", format: decimal },
  tokens_per_sec: { label: "Tokens per second", type: "train", column: "tokens_per_sec", format: decimal },
};
const COLOURS = 6;
/** Curves that swing from step to step: their extremes are drawn. */
const SWINGING = new Set(["loss", "grad_norm", "tokens_per_sec"]);
const DASHES = [undefined, [6, 4], [2, 3]];

export class CompareView {
  /** @param {HTMLElement} host @param {string[]} ids */
  constructor(host, ids) {
    this.ids = ids;
    this.stop = new AbortController();
    document.title = `Compare ${ids.length} runs · fettle`;
    const metric = h("select", { onchange: () => move({ metric: metric.value }) }, Object.entries(METRICS).map(([value, { label }]) => h("option", { value, text: label, selected: value === this.metric() })));
    this.box = h("input", { type: "checkbox", checked: at("log") === "1", onchange: () => move({ log: this.box.checked ? "1" : null }) });
    this.curves = h("div", { class: "panel-body" });
    this.configs = h("div", { class: "panel-body scroll" });
    this.tests = h("div", { class: "panel-body scroll" });
    this.problem = h("p", { class: "problem", role: "alert" });
    const section = (/** @type {string} */ title, /** @type {any} */ body, /** @type {any[]} */ ...tools) => h("section", { class: "panel wide", "aria-label": title }, h("header", { class: "panel-head" }, h("h2", { text: title }), h("div", { class: "panel-tools" }, tools)), body);
    fill(
      host,
      h("header", { class: "run-head" }, h("div", { class: "run-title" }, h("h1", { text: `Compare ${ids.length} runs` }))),
      this.problem,
      h("div", { class: "panels" }, section("Curves", this.curves, h("label", { class: "field" }, h("span", { text: "Metric" }), metric), h("label", { class: "check" }, this.box, "log scale")), section("Paired tests of their fixed evals", this.tests), section("Configuration that differs", this.configs)),
    );
    this.drop = onMove((changed) => {
      if (changed.has("metric")) this.build();
      else if (changed.has("from") || changed.has("to")) this.load();
      if (changed.has("log")) this.chart?.setLog(at("log") === "1");
    });
    // The curves first: tests of many runs would take their turn from them.
    this.build().then(() => this.compare());
  }

  destroy() {
    this.stop.abort();
    this.chart?.destroy();
    this.drop();
  }

  metric() {
    return METRICS[at("metric") ?? ""] ? /** @type {string} */ (at("metric")) : "streaming_ce";
  }

  build() {
    this.chart?.destroy();
    fill(this.curves);
    const { label, type, column, format } = METRICS[this.metric()];
    const interval = type === "fixed_eval";
    const specs = this.ids.map((id, i) => ({ key: id, label: id, colour: `--line-${(i % COLOURS) + 1}`, dash: DASHES[Math.floor(i / COLOURS) % DASHES.length], width: 1.6, points: interval, band: interval || SWINGING.has(column), interval, format }));
    this.chart = new Chart(this.curves, { label, specs, height: 340, log: at("log") === "1", onZoom: (from, to) => move({ from, to }) });
    return this.load();
  }

  async load() {
    const { chart } = this;
    if (!chart) return;
    const { type, column } = METRICS[this.metric()];
    // Many curves share the pixels that one would have.
    const width = Math.max(100, Math.min(1000, Math.round(8000 / this.ids.length)));
    const query = { type, x: "step", y: column, from: numberAt("from"), to: numberAt("to"), width };
    chart.window = [numberAt("from"), numberAt("to")];
    const { signal } = this.stop;
    const evals = async (/** @type {string} */ id) => {
      const answer = await getJson(runPath(id, "evals"), {}, signal).catch((error) => this.fail(error));
      return evalTrack(answer?.evals ?? [], column);
    };
    try {
      const tracks = await (type === "fixed_eval" ? Promise.all(this.ids.map(evals)) : getManySeries(this.ids, query, SWINGING.has(column), signal));
      if (chart !== this.chart) return;
      tracks.forEach((track, i) => {
        const last = track.x.at(-1);
        if (last !== undefined) chart.domain = [0, Math.max(chart.domain[1], last)];
        chart.setTrack(this.ids[i], track);
      });
    } catch (error) {
      this.fail(error);
    }
  }

  async compare() {
    try {
      const answer = await getJson("compare", { ids: this.ids.join(",") }, this.stop.signal);
      fill(this.configs, this.configTable(answer.configs));
      fill(this.tests, testTable(answer));
    } catch (error) {
      this.fail(error);
    }
  }

  /** @param {any} error */
  fail(error) {
    if (error?.name !== "AbortError") this.problem.textContent = error.message;
  }

  /** @param {{key: string, values: any[]}[]} configs */
  configTable(configs) {
    if (!configs.length) return footnote("Their configurations are the same.");
    const names = this.ids.map((id) => h("th", { scope: "col" }, h("a", { href: address({ run: id }), text: id })));
    const rows = configs.map(({ key, values }) => {
      return h("tr", {}, h("th", { scope: "row", text: key }), values.map((/** @type {any} */ value) => h("td", { text: value === null || value === undefined ? "not set" : typeof value === "object" ? JSON.stringify(value) : String(value) })));
    });
    return h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col", text: "Key" }), names)), h("tbody", {}, rows));
  }
}

/** @param {any} answer */
function testTable(answer) {
  if (!answer.tests.length) return footnote("Not measured: a paired test needs fixed evals of the same samples in both runs.");
  const where = (/** @type {string} */ id) => {
    const step = answer.steps[answer.runs.indexOf(id)];
    return measured(step) ? `${id}, step ${integer(step)}` : id;
  };
  const rows = answer.tests.map((/** @type {any} */ test) => {
    const share = test.metric === "exact_match";
    const format = (/** @type {number} */ v) => `${v > 0 ? "+" : ""}${share ? (100 * v).toFixed(1).replace("-", "−") : nats(v)}`;
    const range = measured(test.low) && measured(test.high) ? `${format(test.low)} to ${format(test.high)}` : notMeasured(true);
    const p = test.p_adjusted ?? test.p;
    return h(
      "tr",
      {},
      h("th", { scope: "row", text: where(test.a) }),
      h("td", { text: where(test.b) }),
      h("td", { text: words(test.metric) }),
      h("td", { class: "number" }, measured(test.difference) ? `${format(test.difference)}${share ? " points" : " nats"}` : notMeasured(true)),
      h("td", { class: "number" }, range),
      h("td", { class: "number" }, measured(p) ? (p < 0.001 ? "< 0.001" : p.toFixed(3)) : notMeasured(true)),
      h("td", { text: reading(test, p, share) }),
    );
  });
  const heads = ["First", "Second", "Metric", "Second − first", "95 % interval", "p", "Reading"];
  return h("table", {}, h("thead", {}, h("tr", {}, heads.map((text, i) => h("th", { scope: "col", class: i > 2 && i < 6 ? "number" : "", text })))), h("tbody", {}, rows));
}

/** @param {any} test @param {any} p @param {boolean} share more is better */
function reading(test, p, share) {
  if (!measured(p)) return test.reason ?? "not measured";
  if (p >= 0.05) return "no difference shown";
  return test.difference > 0 === share ? "the second is better" : "the first is better";
}
