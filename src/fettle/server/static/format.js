// Numbers as people read them. What was not measured is null here and stays visible as such.

import { h } from "./dom.js";

const THIN = "\u202f";

/** @param {any} value @returns {value is number} */
export function measured(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** The words for a missing number. @param {boolean} [short] a dash, for tables */
export function notMeasured(short = false) {
  if (!short) return h("span", { class: "missing", text: "not measured" });
  const dash = h("span", { class: "missing", title: "not measured" });
  dash.append(h("span", { "aria-hidden": "true", text: "–" }), h("span", { class: "hidden", text: "not measured" }));
  return dash;
}

/**
 * A formatted number, or the words for a missing one.
 * @param {any} value @param {(value: number) => string} format @param {boolean} [short]
 */
export function shown(value, format, short = false) {
  return measured(value) ? format(value) : notMeasured(short);
}

/** 12 345 with thin spaces. @param {number} value */
export function integer(value) {
  return signed(String(Math.round(value))).replace(/\B(?=(\d{3})+(?!\d))/g, THIN);
}

/** Three decimals from 0.1 to 1000, four significant digits elsewhere. @param {number} value */
export function decimal(value) {
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e6 || size < 1e-3) return signed(value.toExponential(2).replace("e+", "e"));
  if (size >= 1000) return integer(value);
  if (size >= 100) return signed(value.toFixed(1));
  return signed(size >= 0.1 ? value.toFixed(3) : value.toPrecision(3));
}

/** A true minus in front. @param {string} text */
function signed(text) {
  return text.replace(/^-/, "−");
}

/** A loss: three decimals, so that a column of them lines up. @param {number} value */
export function nats(value) {
  const odd = Math.abs(value) >= 1e4 || (value !== 0 && Math.abs(value) < 5e-4);
  return odd ? decimal(value) : signed(value.toFixed(3));
}

/** @param {number} value share from 0 to 1 @param {number} [digits] */
export function percent(value, digits = 1) {
  return `${(100 * value).toFixed(digits)}${THIN}%`;
}

/** @param {number} bytes */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1000 ** power).toFixed(power && bytes / 1000 ** power < 100 ? 1 : 0)}${THIN}${units[power]}`;
}

/** 1 d 4 h, 3 h 05 min, 12 min, 40 s. @param {number} seconds */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  const [d, hours, min] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (d) return `${d}${THIN}d ${hours}${THIN}h`;
  if (hours) return `${hours}${THIN}h ${String(min).padStart(2, "0")}${THIN}min`;
  return min ? `${min}${THIN}min` : `${s}${THIN}s`;
}

/** How long ago, from Unix seconds. @param {number} timestamp */
export function ago(timestamp) {
  const seconds = Date.now() / 1000 - timestamp;
  return seconds < 5 ? "just now" : `${duration(seconds)} ago`;
}

/** Local date and time to the minute, from Unix seconds or ISO text. @param {number | string} value */
export function moment(value) {
  const date = new Date(typeof value === "number" ? value * 1000 : value);
  if (Number.isNaN(date.getTime())) return String(value);
  return date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** Half the width of an interval, in the unit of `format`. @param {any} low @param {any} high @param {(v: number) => string} format */
export function margin(low, high, format) {
  return measured(low) && measured(high) ? `±${THIN}${format((high - low) / 2)}` : "";
}

/** "early_stopped" as words. @param {any} name */
export function words(name) {
  return String(name ?? "unknown").replaceAll("_", " ");
}
