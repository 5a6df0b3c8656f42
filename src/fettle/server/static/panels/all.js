// The panels of a run, in the order in which they are read.

import { loss } from "./loss.js";
import { verdict } from "./verdict.js";

/** @type {import("../panel.js").PanelSpec[]} */
export const PANELS = [verdict, loss];
