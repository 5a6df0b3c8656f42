"""What a verdict says of the layers: which moved most, which did not move."""

from __future__ import annotations

from typing import Any

from fettle.metrics import layer_activity_summary
from fettle.runs.records import LayerActivity

SHOWN_LAYERS = 8


def layers_evidence(activity: LayerActivity | None) -> dict[str, Any] | None:
    """The last measurement in short; None where there was none."""
    if activity is None or not activity.groups:
        return None
    return {
        "step": activity.step,
        "since_step": activity.since_step,
        "method": activity.method,
        **layer_activity_summary(activity.groups),
    }


def dead_layers_warning(activity: LayerActivity | None) -> list[str]:
    """One sentence on the layers that are trained and have not moved; [] where all have."""
    found = layers_evidence(activity)
    if found is None or not found["dead"]:
        return []
    dead: list[int] = found["dead"]
    kind = "LoRA layers" if found["method"] == "lora" else "layers in training"
    names = ", ".join(map(str, dead[:SHOWN_LAYERS])) + (", …" if len(dead) > SHOWN_LAYERS else "")
    return [
        f"{len(dead)} of {found['layers']} {kind} had not moved by step {found['step']} ({names}): "
        "check that their weights require gradients and that the model runs through them."
    ]
