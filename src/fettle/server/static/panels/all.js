// The panels of a run, in the order in which they are read.

import { alerts } from "./alerts.js";
import { checkpoints } from "./checkpoints.js";
import { concepts } from "./concepts.js";
import { configuration } from "./configuration.js";
import { entropy } from "./entropy.js";
import { evaluation } from "./evaluation.js";
import { evaluations } from "./evaluations.js";
import { layers } from "./layers.js";
import { log } from "./log.js";
import { loss } from "./loss.js";
import { machine } from "./machine.js";
import { optimiser } from "./optimiser.js";
import { patterns } from "./patterns.js";
import { predictions } from "./predictions.js";
import { samples } from "./samples.js";
import { speed } from "./speed.js";
import { verdict } from "./verdict.js";

/** @type {import("../panel.js").PanelSpec[]} */
export const PANELS = [
  verdict,
  alerts,
  loss,
  evaluation,
  evaluations,
  patterns,
  layers,
  concepts,
  entropy,
  optimiser,
  speed,
  machine,
  checkpoints,
  predictions,
  samples,
  log,
  configuration,
];
