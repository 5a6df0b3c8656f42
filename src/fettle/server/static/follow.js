// Curves of a run in a chart: asked for the window that is seen, and grown by what comes live.

import { at, move, numberAt } from "./place.js";

/** @typedef {{key: string, type: string, column: string, extremes: boolean}} Source */

const ZOOM_MS = 60;

/** A window chosen in one chart is the window of all. @param {number | null} from @param {number | null} to */
export function zoomAll(from, to) {
  move({ from, to });
}

/** @returns {[number | null, number | null]} */
export function zoomWindow() {
  return [numberAt("from"), numberAt("to")];
}

/**
 * Keep a chart's tracks up to date until the panel goes.
 * @param {import("./panel.js").Context} context @param {import("./chart.js").Chart} chart @param {Source[]} sources
 */
export function follow(context, chart, sources) {
  const { run } = context;
  /** @type {Record<string, any[]>} */
  let fresh = {};
  let turn = 0;
  let loading = false;

  const load = async () => {
    turn += 1;
    const mine = turn;
    loading = true;
    fresh = {};
    const [from, to] = zoomWindow();
    const width = Math.max(200, Math.min(1000, 100 * Math.ceil(chart.canvas.clientWidth / 100)));
    const tracks = await Promise.all(sources.map((source) => ask(run, source, { from, to, width })));
    if (mine !== turn || context.stop.aborted) return;
    loading = false;
    chart.domain = [0, Math.max(1, run.lastStep)];
    sources.forEach((source, i) => {
      const track = tracks[i];
      if (track) chart.setTrack(source.key, track);
      else chart.tracks.delete(source.key);
    });
    append();
    chart.draw();
  };

  const append = () => {
    for (const source of sources) {
      for (const row of fresh[source.type] ?? []) {
        grow(chart, source, row);
      }
    }
    fresh = {};
    chart.domain = [0, Math.max(1, run.lastStep)];
  };

  const guarded = () => load().catch((error) => context.fail(error, guarded));
  context.listen(run, "rows", (event) => {
    const rows = /** @type {CustomEvent} */ (event).detail;
    if (!sources.some((source) => rows[source.type])) return;
    for (const [type, list] of Object.entries(rows)) fresh[type] = [...(fresh[type] ?? []), ...list];
    if (loading) return;
    append();
    if (crowded(chart, sources)) guarded();
    else chart.draw();
  });
  context.listen(run, "refresh", guarded);
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  context.onMove(["from", "to"], () => {
    chart.window = zoomWindow();
    chart.draw();
    clearTimeout(timer);
    timer = setTimeout(guarded, ZOOM_MS);
  });
  chart.window = zoomWindow();
  guarded();
}

/** @param {import("./run.js").Run} run @param {Source} source @param {import("./api.js").Query} query */
async function ask(run, source, query) {
  const columns = run.row?.columns?.[source.type];
  if (columns && !columns.includes(source.column)) return null;
  return run.series({ type: source.type, x: "step", y: source.column, ...query }, source.extremes);
}

/** Add one live row, unless it is known already: what is superseded comes as a rewind, not as a row. @param {import("./chart.js").Chart} chart @param {Source} source @param {any} row */
function grow(chart, source, row) {
  const value = row[source.column];
  const kind = row[`${source.column}_nonfinite`];
  if (typeof row.step !== "number" || (typeof value !== "number" && !kind)) return;
  const track = chart.tracks.get(source.key) ?? { x: [], y: [], low: [], high: [], marks: [], raw: true };
  chart.tracks.set(source.key, track);
  const last = track.x.at(-1) ?? -Infinity;
  if (row.step <= last || (chart.window[1] !== null && row.step > chart.window[1])) return;
  const y = typeof value === "number" ? value : null;
  track.x.push(row.step);
  for (const list of [track.y, track.low, track.high]) list.push(y);
  if (kind) track.marks.push({ x: row.step, kind, count: 1 });
}

const MOST_POINTS = 4000;

/** Whether so much was added that the server should thin it out again. @param {import("./chart.js").Chart} chart @param {Source[]} sources */
function crowded(chart, sources) {
  return sources.some((source) => (chart.tracks.get(source.key)?.x.length ?? 0) > MOST_POINTS);
}

/** Whether the link asks for a logarithmic axis. */
export function logChosen() {
  return at("log") === "1";
}
