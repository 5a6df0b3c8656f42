// A chart over steps: lines, bands, marks, zoom, keyboard, PNG. uPlot draws; everything else is here.

import { axisLabels, logTicks, padded } from "./axis.js";
import { h } from "./dom.js";
import { integer } from "./format.js";
import { Legend, pointAt } from "./legend.js";
import { describeMarks, drawLines, drawMarks } from "./marks.js";
import { colour, onTheme } from "./theme.js";

/* global uPlot */
/** @typedef {import("./api.js").Track} Track */
/**
 * @typedef {object} TrackSpec
 * @property {string} key
 * @property {string} label
 * @property {string} colour a colour of the style sheet, such as "--blue"
 * @property {(value: number) => string} format
 * @property {boolean} [points] few values: draw each
 * @property {number[]} [dash]
 * @property {number} [width]
 * @property {boolean} [band] fill between low and high
 * @property {boolean} [interval] low and high are an interval, told in the legend
 */
/** @typedef {{label: string, specs: TrackSpec[], height?: number, log?: boolean, zero?: boolean, onZoom?: (from: number | null, to: number | null) => void}} ChartOptions */

const KEY_STEP = 0.02;
/** Every chart on the page, for the export. @type {Set<Chart>} */
export const charts = new Set();

export class Chart {
  /** @param {HTMLElement} host @param {ChartOptions} options */
  constructor(host, options) {
    this.options = options;
    this.log = options.log ?? false;
    /** @type {Map<string, Track>} */
    this.tracks = new Map();
    /** @type {import("./marks.js").Line[]} */
    this.lines = [];
    /** @type {[number, number]} */
    this.domain = [0, 1];
    /** @type {[number | null, number | null]} */
    this.window = [null, null];
    /** @type {Set<string>} */
    this.off = new Set();
    /** @type {any} */
    this.plot = null;
    /** @type {number | undefined} */
    this.frame = undefined;
    this.legend = new Legend(options.specs, (key) => this.toggle(key));
    this.canvas = h("div", { class: "chart", tabindex: 0, role: "group", "aria-roledescription": "chart", onkeydown: (/** @type {KeyboardEvent} */ e) => this.key(e) });
    this.canvas.style.height = `${options.height ?? 200}px`;
    this.note = h("p", { class: "chart-note", role: "status" });
    host.append(this.legend.element, this.canvas, this.note);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.canvas);
    this.dropTheme = onTheme(() => this.plot?.redraw());
    followTouch(this.canvas, (left) => this.plot?.setCursor({ left, top: 0 }));
    charts.add(this);
  }

  destroy() {
    charts.delete(this);
    this.observer.disconnect();
    this.dropTheme();
    cancelAnimationFrame(this.frame ?? 0);
    this.plot?.destroy();
    this.plot = null;
  }

  /** @param {string} key @param {Track} track */
  setTrack(key, track) {
    this.tracks.set(key, track);
    this.draw();
  }

  /** @param {import("./marks.js").Line[]} lines */
  setLines(lines) {
    this.lines = lines;
    this.plot?.redraw();
  }

  /** @param {boolean} log */
  setLog(log) {
    this.log = log;
    this.rebuild();
  }

  /** @param {string} key */
  toggle(key) {
    if (!this.off.delete(key)) this.off.add(key);
    this.legend.press(key, !this.off.has(key));
    this.rebuild();
  }

  /** Draw in the next frame, once however often it is asked. */
  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      if (!this.plot) this.build();
      else this.plot.setData(this.data());
      this.describe();
    });
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = null;
    this.draw();
  }

  resize() {
    const width = this.canvas.clientWidth;
    if (!width) return;
    if (this.plot) this.plot.setSize({ width, height: this.canvas.clientHeight });
    else this.draw();
  }

  /** Columns for uPlot: a common x, then mean, low and high of each track. */
  data() {
    const tables = this.options.specs.map((spec) => {
      const track = this.tracks.get(spec.key);
      if (!track?.x.length) return [[], [], [], []];
      /** @param {(number | null)[]} values */
      const drawable = (values) => (this.log ? values.map((v) => (v !== null && v <= 0 ? null : v)) : values);
      return [track.x, drawable(track.y), drawable(track.low), drawable(track.high)];
    });
    return uPlot.join(tables);
  }

  build() {
    const width = this.canvas.clientWidth;
    if (!width) return;
    const height = this.canvas.clientHeight;
    this.plot = new uPlot(this.uplotOptions(width, height), this.data(), this.canvas);
  }

  /** @param {number} width @param {number} height */
  uplotOptions(width, height) {
    const { specs } = this.options;
    const ink = () => colour("--ink-soft");
    const grid = { stroke: () => colour("--grid"), width: 1 };
    const font = "12px system-ui, sans-serif";
    const ticks = { show: false };
    const ySplits = (/** @type {any} */ _, /** @type {number} */ __, /** @type {number} */ low, /** @type {number} */ high) => logTicks(low, high);
    return {
      width,
      height,
      legend: { show: false },
      scales: {
        x: { time: false, range: () => this.visible() },
        y: { distr: this.log ? 3 : 1, range: (/** @type {any} */ _, /** @type {number} */ low, /** @type {number} */ high) => padded(this.options.zero && low !== null ? Math.min(0, low) : low, high, this.log) },
      },
      axes: [
        { stroke: ink, grid: { show: false }, ticks, font, space: 70, size: 26, gap: 4, values: (/** @type {any} */ _, /** @type {number[]} */ splits) => splits.map((v) => (Number.isInteger(v) ? integer(v) : "")) },
        { stroke: ink, grid, ticks, font, size: 52, gap: 4, space: 34, values: (/** @type {any} */ _, /** @type {number[]} */ splits) => axisLabels(splits, specs[0].format), ...(this.log ? { splits: ySplits, filter: (/** @type {any} */ _, /** @type {number[]} */ s) => s } : {}) },
      ],
      series: [{}, ...specs.flatMap((spec) => this.seriesOf(spec))],
      bands: specs.flatMap((spec, i) => (spec.band ? [{ series: [3 * i + 3, 3 * i + 2], fill: () => colour(`${spec.colour}-band`) }] : [])),
      cursor: {
        sync: { key: "step" },
        drag: { x: true, y: false, setScale: false },
        points: { size: (/** @type {any} */ _, /** @type {number} */ i) => (i % 3 === 1 ? 7 : 0), width: 2 },
        bind: { dblclick: () => () => this.options.onZoom?.(null, null) },
      },
      hooks: {
        drawAxes: [(/** @type {any} */ plot) => drawLines(plot, this.lines)],
        draw: [(/** @type {any} */ plot) => drawMarks(plot, this.marks())],
        setCursor: [(/** @type {any} */ plot) => this.legend.show(this.tracks, plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, "x") : this.window[1])],
        setSelect: [(/** @type {any} */ plot) => this.select(plot)],
      },
    };
  }

  /** The line, and the two edges of its band that only bound a fill. @param {TrackSpec} spec */
  seriesOf(spec) {
    const show = !this.off.has(spec.key);
    const stroke = () => colour(spec.colour);
    const line = { show, stroke, width: spec.width ?? 1.5, dash: spec.dash, points: { show: Boolean(spec.points), size: 6, fill: stroke } };
    // The edges of a bucket are drawn, too: a spike of one step is as narrow as a hair, and must be seen.
    const edge = { show: show && Boolean(spec.band), stroke: spec.interval ? "transparent" : () => colour(`${spec.colour}-band`), width: 1, points: { show: false } };
    return [line, edge, edge];
  }

  /** Values that are no numbers, of the tracks that are shown. */
  marks() {
    return this.options.specs.flatMap((spec) => (this.off.has(spec.key) ? [] : (this.tracks.get(spec.key)?.marks ?? [])));
  }

  /** @returns {[number, number]} */
  visible() {
    const low = this.window[0] ?? this.domain[0];
    const high = this.window[1] ?? this.domain[1];
    return high > low ? [low, high] : [low - 1, low + 1];
  }

  /** @param {any} plot */
  select(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    const [from, to] = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.zoom(from, to);
  }

  /** @param {number} from @param {number} to */
  zoom(from, to) {
    const whole = from <= this.domain[0] && to >= this.domain[1];
    if (whole) this.options.onZoom?.(null, null);
    else this.options.onZoom?.(Math.max(this.domain[0], Math.floor(from)), Math.ceil(to));
  }

  /** Arrows move the cursor, + and - zoom, 0 shows everything. @param {KeyboardEvent} event */
  key(event) {
    const { plot } = this;
    if (!plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const width = plot.bbox.width / devicePixelRatio;
    const left = plot.cursor.left >= 0 ? plot.cursor.left : width;
    const [low, high] = this.visible();
    const middle = plot.posToVal(left, "x");
    /** @type {Record<string, () => void>} */
    const actions = {
      ArrowLeft: () => plot.setCursor({ left: Math.max(0, left - KEY_STEP * width), top: 0 }),
      ArrowRight: () => plot.setCursor({ left: Math.min(width, left + KEY_STEP * width), top: 0 }),
      "+": () => this.zoom(middle - (high - low) / 4, middle + (high - low) / 4),
      "-": () => this.zoom(middle - (high - low), middle + (high - low)),
      0: () => this.options.onZoom?.(null, null),
    };
    const action = actions[event.key === "=" ? "+" : event.key];
    if (!action) return;
    action();
    event.preventDefault();
    event.stopPropagation();
  }

  /** The chart in words, for those who do not see it, and what is no number for everyone. */
  describe() {
    this.legend.show(this.tracks, this.window[1]);
    const parts = this.options.specs.map((spec) => {
      const point = pointAt(this.tracks.get(spec.key), null);
      return `${spec.label} ${point ? `${spec.format(point.y)} at step ${Math.round(point.x)}` : "not measured"}`;
    });
    this.canvas.setAttribute("aria-label", `${this.options.label}: ${parts.join(", ")}. Arrow keys read values, plus and minus zoom, 0 shows all.`);
    this.note.textContent = describeMarks(this.marks());
  }

  /** The chart as a picture with its title and legend. @returns {HTMLCanvasElement | null} */
  picture() {
    const source = this.plot?.ctx.canvas;
    if (!source) return null;
    const ratio = devicePixelRatio;
    const picture = document.createElement("canvas");
    const head = 44 * ratio;
    picture.width = source.width + 24 * ratio;
    picture.height = source.height + head + 12 * ratio;
    const ctx = /** @type {CanvasRenderingContext2D} */ (picture.getContext("2d"));
    ctx.fillStyle = colour("--surface");
    ctx.fillRect(0, 0, picture.width, picture.height);
    ctx.fillStyle = colour("--ink");
    ctx.font = `600 ${14 * ratio}px system-ui, sans-serif`;
    ctx.fillText(this.options.label, 12 * ratio, 20 * ratio);
    ctx.font = `${12 * ratio}px system-ui, sans-serif`;
    let x = 12 * ratio;
    for (const spec of this.options.specs.filter((s) => !this.off.has(s.key))) {
      ctx.fillStyle = colour(spec.colour);
      ctx.fillRect(x, 33 * ratio, 14 * ratio, 3 * ratio);
      ctx.fillStyle = colour("--ink-soft");
      ctx.fillText(spec.label, x + 20 * ratio, 38 * ratio);
      x += 34 * ratio + ctx.measureText(spec.label).width;
    }
    ctx.drawImage(source, 12 * ratio, head);
    return picture;
  }
}

/** A finger along the chart moves the cursor. @param {HTMLElement} element @param {(left: number) => void} move */
function followTouch(element, move) {
  const take = (/** @type {TouchEvent} */ event) => {
    const over = element.querySelector(".u-over");
    if (over) move(event.touches[0].clientX - over.getBoundingClientRect().left);
  };
  element.addEventListener("touchstart", take, { passive: true });
  element.addEventListener("touchmove", take, { passive: true });
}
