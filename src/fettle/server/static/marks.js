// What a chart shows beside its lines: events at a step, and values that are no numbers.

import { colour } from "./theme.js";

/** @typedef {{x: number, label: string, colour: string, dash?: number[], low?: boolean}} Line */

const SIGNS = { nan: "NaN", inf: "+Inf", "-inf": "−Inf" };
const LABELLED_MARKS = 12;

/** Vertical lines with their names. @param {any} plot @param {Line[]} lines */
export function drawLines(plot, lines) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  for (const line of lines) {
    const x = Math.round(plot.valToPos(line.x, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = ctx.fillStyle = colour(line.colour);
    ctx.lineWidth = ratio;
    ctx.setLineDash((line.dash ?? []).map((part) => part * ratio));
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const right = x + ctx.measureText(line.label).width + 6 * ratio > bbox.left + bbox.width;
    ctx.textAlign = right ? "right" : "left";
    ctx.textBaseline = line.low ? "bottom" : "top";
    const y = line.low ? bbox.top + bbox.height - 3 * ratio : bbox.top + 2 * ratio;
    ctx.fillText(line.label, x + (right ? -4 : 4) * ratio, y);
  }
  ctx.restore();
}

/** A sign on the upper edge for every value that is no number. @param {any} plot @param {import("./api.js").Track["marks"]} marks */
export function drawMarks(plot, marks) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  const seen = marks.filter((mark) => mark.x >= plot.scales.x.min && mark.x <= plot.scales.x.max);
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = colour("--critical");
  ctx.lineWidth = 1.5 * ratio;
  ctx.font = `600 ${10 * ratio}px system-ui, sans-serif`;
  ctx.textBaseline = "middle";
  let free = -Infinity;
  for (const mark of seen) {
    const x = plot.valToPos(mark.x, "x", true);
    const y = bbox.top + 9 * ratio;
    drawSign(ctx, mark.kind, x, y, 4 * ratio);
    const label = seen.filter((other) => Math.abs(plot.valToPos(other.x, "x", true) - x) < 30 * ratio);
    if (seen.length > LABELLED_MARKS || x < free) continue;
    const text = [...new Set(label.map((other) => SIGNS[other.kind]))].join(", ");
    const left = x + ctx.measureText(text).width + 10 * ratio > bbox.left + bbox.width;
    ctx.textAlign = left ? "right" : "left";
    ctx.fillText(text, x + (left ? -9 : 12) * ratio, y);
    free = x + 40 * ratio;
  }
  ctx.restore();
}

/** A cross for NaN, a triangle up or down for an infinity. @param {CanvasRenderingContext2D} ctx @param {string} kind @param {number} x @param {number} y @param {number} r */
function drawSign(ctx, kind, x, y, r) {
  ctx.beginPath();
  if (kind === "nan") {
    ctx.moveTo(x - r, y - r);
    ctx.lineTo(x + r, y + r);
    ctx.moveTo(x + r, y - r);
    ctx.lineTo(x - r, y + r);
    ctx.stroke();
    return;
  }
  const up = kind === "inf" ? -1 : 1;
  ctx.moveTo(x - r, y - up * r);
  ctx.lineTo(x + r, y - up * r);
  ctx.lineTo(x, y + up * r);
  ctx.fill();
}

/** The same in words, for everyone. @param {import("./api.js").Track["marks"]} marks */
export function describeMarks(marks) {
  /** @type {Record<string, {count: number, first: number}>} */
  const kinds = {};
  for (const mark of marks) {
    kinds[mark.kind] ??= { count: 0, first: mark.x };
    kinds[mark.kind].count += mark.count;
  }
  return Object.entries(kinds)
    .map(([kind, { count, first }]) => `${count} × ${SIGNS[/** @type {"nan"} */ (kind)]}, first near step ${Math.round(first)}`)
    .join("; ");
}
