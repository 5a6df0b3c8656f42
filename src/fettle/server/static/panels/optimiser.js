// The learning rate in force, and the norm of the gradient before clipping.

import { columnCharts } from "../curves.js";
import { decimal } from "../format.js";

/** @type {import("../panel.js").PanelSpec} */
export const optimiser = {
  id: "optimiser",
  title: "Learning rate and gradient norm",
  mount(context) {
    columnCharts(context, context.body, [
      { label: "Learning rate", height: 110, type: "train", specs: [{ key: "rate", column: "learning_rate", label: "learning rate", colour: "--line-1", width: 2, format: decimal }] },
      { label: "Gradient norm", height: 130, type: "train", specs: [{ key: "norm", column: "grad_norm", label: "gradient norm before clipping", colour: "--line-2", width: 1, band: true, format: decimal }] },
    ]);
  },
};
