// Numbers of evals as curves.

import { measured, nats, percent } from "./format.js";

/** How each metric of an eval is drawn. @type {Record<string, {label: string, colour: string, format: (v: number) => string}>} */
export const METRICS = {
  exact_match: { label: "Exact match", colour: "--line-3", format: percent },
  cross_entropy: { label: "Cross-entropy", colour: "--line-2", format: nats },
  expected_calibration_error: { label: "Calibration error (ECE)", colour: "--line-4", format: nats },
};

/** One number of every eval, with its interval where it has one. @param {any[]} evals @param {string} name @returns {import("./api.js").Track} */
export function evalTrack(evals, name) {
  const rows = evals.filter((row) => measured(row.step));
  const column = (/** @type {string} */ key) => rows.map((row) => (measured(row[key]) ? row[key] : null));
  const broken = rows.filter((row) => row[`${name}_nonfinite`]);
  const marks = broken.map((row) => ({ x: row.step, kind: row[`${name}_nonfinite`], count: 1 }));
  return { x: rows.map((row) => row.step), y: column(name), low: column(`${name}_low`), high: column(`${name}_high`), marks, raw: true };
}
