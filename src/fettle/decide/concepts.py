"""What a verdict says of the concepts that a fine-tune moved."""

from __future__ import annotations

from typing import Any

from fettle.runs.concept_drift import ConceptDrift

MOST = 5


def concepts_evidence(drift: ConceptDrift | None) -> dict[str, Any] | None:
    """How many lenses moved, and those that moved most; None where nobody looked."""
    if drift is None:
        return None
    top = [
        {
            "concept": lens.concept,
            "grade": lens.grade,
            "shift": lens.shifts[-1],
            "low": lens.low,
            "high": lens.high,
            "effect": lens.effect,
            "example": lens.examples[0] if lens.examples else None,
        }
        for lens in drift.moved[:MOST]
    ]
    return {
        "checkpoint": drift.names[-1],
        "step": drift.steps[-1],
        "lenses": len(drift.lenses),
        "texts": drift.texts,
        "controls": drift.controls,
        "moved": len(drift.moved),
        "top": top,
    }
