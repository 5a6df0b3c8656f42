// The server's answers, or those that a report holds. An error carries the server's own one line.

import { report } from "./report.js";

class ApiError extends Error {
  /** @param {string} message @param {number} status */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** @typedef {Record<string, string | number | string[] | null | undefined>} Query */

/** @param {string} path @param {Query} [query] */
export function url(path, query = {}) {
  const set = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(set.flatMap(([key, value]) => [value].flat().map((each) => [key, String(each)]))).toString();
  return `/api/${path}${text ? `?${text}` : ""}`;
}

/** @param {string} id @param {string} [rest] */
export function runPath(id, rest = "") {
  return `runs/${encodeURIComponent(id)}${rest && `/${rest}`}`;
}

const BUSY_TRIES = 20;
const BUSY_MS = 2000;

/** @param {string} path @param {Query} [query] @param {RequestInit} [options] @param {number} [tries] @returns {Promise<Response>} */
async function ask(path, query, options, tries = BUSY_TRIES) {
  let response;
  try {
    response = await (report ? report.fetch(url(path, query)) : fetch(url(path, query), options));
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer.", 0);
  }
  if (response.ok) return response;
  // A large run is being read for the first time.
  if (response.status === 503 && tries > 0 && response.headers.has("Retry-After")) {
    await new Promise((resolve) => setTimeout(resolve, BUSY_MS));
    return ask(path, query, options, tries - 1);
  }
  const body = await response.json().catch(() => null);
  const detail = typeof body?.detail === "string" ? body.detail : `The server answered ${response.status}.`;
  throw new ApiError(detail, response.status);
}

/** @param {string} path @param {Query} [query] @param {AbortSignal} [signal] @returns {Promise<any>} */
export async function getJson(path, query, signal) {
  return (await ask(path, query, { signal })).json();
}

/** @param {string} path @param {any} body @returns {Promise<any>} */
export async function postJson(path, body) {
  const headers = { "Content-Type": "application/json", "X-Fettle": "1" };
  return (await ask(path, {}, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

/**
 * One curve: buckets with their extremes, or every point where there are few.
 * @typedef {object} Track
 * @property {number[]} x
 * @property {(number | null)[]} y mean of a bucket; null where it holds no finite value
 * @property {(number | null)[]} low
 * @property {(number | null)[]} high
 * @property {{x: number, kind: "nan" | "inf" | "-inf", count: number}[]} marks
 * @property {boolean} raw whether every point is here
 */

/**
 * The points of a curve; its extremes are asked for only where they are drawn.
 * @param {string} id @param {Query} query @param {boolean} extremes @param {AbortSignal} [signal] @returns {Promise<Track>}
 */
export async function getSeries(id, query, extremes, signal) {
  const response = await ask(runPath(id, "series"), { ...query, fields: fieldsOf(extremes), compact: "1" }, { signal });
  return decodeSeries(await response.arrayBuffer(), response.headers)[0];
}

/**
 * The same curve of several runs.
 * @param {string[]} ids @param {Query} query @param {boolean} extremes @param {AbortSignal} [signal] @returns {Promise<Track[]>}
 */
export async function getManySeries(ids, query, extremes, signal) {
  const response = await ask("series", { ...query, fields: fieldsOf(extremes), ids }, { signal });
  return decodeSeries(await response.arrayBuffer(), response.headers);
}

/** @param {boolean} extremes */
function fieldsOf(extremes) {
  return ["x_first", "mean", ...(extremes ? ["min", "max"] : []), ...MARKS.map(([, name]) => name)].join(",");
}

/** Curves that stand one after the other. @param {ArrayBuffer} body @param {Headers} headers @returns {Track[]} */
function decodeSeries(body, headers) {
  const told = (/** @type {string} */ name) => (headers.get(name) ?? "").split(",");
  const names = told("X-Fields");
  const small = headers.get("X-Type") === "float32";
  const origin = Number(headers.get("X-Origin"));
  const size = small ? 4 : 8;
  const raw = told("X-Raw");
  let at = 0;
  return told("X-Rows").map((rows, i) => {
    const length = Number(rows) * names.length * size;
    const view = new DataView(body, at, length);
    at += length;
    const read = (/** @type {number} */ place) => (small ? view.getFloat32(4 * place, true) : view.getFloat64(8 * place, true));
    return track(Number(rows), names, read, origin, raw[i] === "1");
  });
}

/** @param {number} rows @param {string[]} names @param {(place: number) => number} read @param {number} origin @param {boolean} raw @returns {Track} */
function track(rows, names, read, origin, raw) {
  /** @type {Track} */
  const found = { x: [], y: [], low: [], high: [], marks: [], raw };
  for (let row = 0; row < rows; row += 1) {
    /** @type {Record<string, number>} */
    const field = {};
    names.forEach((name, column) => {
      field[name] = read(row * names.length + column);
    });
    const x = field.x_first + origin;
    found.x.push(x);
    found.y.push(finite(field.mean));
    found.low.push(finite(field.min ?? field.mean));
    found.high.push(finite(field.max ?? field.mean));
    for (const [kind, name] of MARKS) {
      if (field[name] > 0) found.marks.push({ x, kind, count: field[name] });
    }
  }
  return found;
}

/** @type {["nan" | "inf" | "-inf", string][]} */
const MARKS = [["nan", "nan_count"], ["inf", "inf_count"], ["-inf", "minus_inf_count"]];

/** @param {number} value */
function finite(value) {
  return Number.isFinite(value) ? value : null;
}
