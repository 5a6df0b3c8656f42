// Signs beside words: a state is never told by colour alone.

import { h, icon } from "./dom.js";
import { words } from "./format.js";

const PATHS = {
  square: "M4 4h8v8H4z",
  play: "M5 3l8 5-8 5z",
  pause: "M5 3h2v10H5zM9 3h2v10H9z",
  check: "M3 8.5l3.2 3.2L13 5",
  cross: "M4 4l8 8M12 4l-8 8",
  question: "M5.5 6a2.5 2.5 0 1 1 3.6 2.2C8.300 8.700 8 9.200 8 10M8 12.500v.6",
  warning: "M8 2.500L14.500 13.500h-13zM8 6.500v3.500M8 11.500v.6",
  octagon: "M5.500 2h5L14 5.500v5L10.500 14h-5L2 10.500v-5zM8 5v4M8 10.700v.6",
  info: "M8 1.500a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13zM8 7v4.500M8 4.500v.6",
  dot: "M8 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8z",
  clock: "M8 1.500a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13zM8 4.500V8l2.500 2",
  star: "M8 2l1.800 3.900 4.200.5-3.100 2.900.8 4.200L8 11.400l-3.700 2.100.8-4.200L2 6.400l4.200-.5z",
  copy: "M5.500 5.500h8v8h-8zM10.500 5.500v-3h-8v8h3",
};

/** @param {keyof typeof PATHS} name */
export function sign(name) {
  return icon(PATHS[name], `sign-${name}`);
}

/** @type {Record<string, [keyof typeof PATHS, string]>} */
const STATES = {
  running: ["play", "good"],
  paused: ["pause", "notice"],
  completed: ["check", "calm"],
  early_stopped: ["square", "calm"],
  interrupted: ["square", "notice"],
  cancelled: ["square", "notice"],
  crashed: ["octagon", "critical"],
  failed: ["cross", "critical"],
  queued: ["clock", "calm"],
  pending: ["clock", "calm"],
};

/** How a run stands. @param {any} state */
export function stateChip(state) {
  const [name, tone] = STATES[state] ?? ["question", "calm"];
  return h("span", { class: `chip tone-${tone}` }, sign(name), words(state));
}

/** @type {Record<string, [keyof typeof PATHS, string, string]>} */
export const SEVERITIES = {
  critical: ["octagon", "critical", "Critical"],
  warning: ["warning", "notice", "Warning"],
  info: ["info", "calm", "Info"],
};
