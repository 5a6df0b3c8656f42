// How sure the model is: entropy of its predictions beside its surprise at the truth.

import { evalChart } from "../curves.js";
import { footnote } from "../dom.js";
import { evalTrack } from "../evals.js";
import { nats } from "../format.js";

/** @type {import("../panel.js").PanelSpec} */
export const entropy = {
  id: "entropy",
  title: "Token entropy",
  mount(context) {
    const chart = evalChart(context, context.body, {
      label: "Entropy and cross-entropy in nats per completion token",
      height: 200,
      specs: [
        { key: "entropy", label: "entropy", colour: "--line-1", width: 2, points: true, format: nats },
        { key: "cross_entropy", label: "cross-entropy", colour: "--line-2", width: 2, points: true, dash: [6, 4], format: nats },
      ],
    });
    context.body.append(footnote("Held out. Cross-entropy above entropy: the model is surer than it is right."));
    context.watch("evals", ({ evals }) => {
      for (const key of ["entropy", "cross_entropy"]) chart.setTrack(key, evalTrack(evals, key));
    });
  },
};
