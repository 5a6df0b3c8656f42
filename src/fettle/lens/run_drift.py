"""Drift of a run: the lenses of its base model over its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fettle.errors import DataError, ModelError
from fettle.evaluation.loaded_model import LoadedModel
from fettle.evaluation.subject import Subject
from fettle.lens.backbone import read_backbone
from fettle.lens.drift import Drift, drift
from fettle.lens.extract import Extractor, OnTokens
from fettle.lens.lens_pack import LensPack
from fettle.lens.problem import Floats
from fettle.lens.spec import check_same, read_spec

EXAMPLES = 3


@dataclass(frozen=True, slots=True, eq=False)
class RunDrift:
    """Every lens at every checkpoint, on the same texts."""

    concepts: list[str]
    texts: list[str]
    checkpoints: list[Subject]
    drifts: list[Drift]

    def to_json(self) -> dict[str, Any]:
        """Plain values: for each checkpoint all lenses, the largest effect first."""
        return {
            "texts": len(self.texts),
            "checkpoints": [
                {
                    "name": subject.name,
                    "step": subject.step,
                    "moved": [self.concepts[c] for c in found.order.tolist() if found.moved[c]],
                    "lenses": [self._row(found, c) for c in found.order.tolist()],
                }
                for subject, found in zip(self.checkpoints, self.drifts, strict=True)
            ],
        }

    def _row(self, found: Drift, lens: int) -> dict[str, Any]:
        return {
            "concept": self.concepts[lens],
            "shift": float(found.shift[lens]),
            "low": float(found.low[lens]),
            "high": float(found.high[lens]),
            "effect": float(found.effect[lens]),
            "p": float(found.p[lens]),
            "moved": bool(found.moved[lens]),
            "examples": [self.texts[int(t)] for t in found.examples(lens, EXAMPLES)],
        }


def run_drift(
    pack: LensPack,
    base: Subject,
    checkpoints: Sequence[Subject],
    texts: Sequence[str],
    banks: Path,
    *,
    controls: Sequence[Subject] = (),
    device: str = "auto",
    batch_tokens: int | None = None,
    on_tokens: OnTokens | None = None,
) -> RunDrift:
    """Read the texts with the base model and every checkpoint, and compare.

    `controls` are checkpoints of runs that began with the same base and taught nothing in particular.
    Raises ModelError where the base is not the model of the pack, or a checkpoint splits the texts into
    other tokens; DataError without checkpoints.
    """
    if not checkpoints:
        raise DataError("drift: the run has no checkpoint that can be read")
    spec = read_spec(pack.identity["spec"], "the pack")
    model = LoadedModel(spec.dtype, device, spec.attention, read_backbone)

    def extractor(subject: Subject) -> Extractor:
        return Extractor(subject, spec, banks, batch_tokens=batch_tokens, model=model)

    def read(subject: Subject) -> Floats:
        seen = extractor(subject)
        if seen.ids(texts) != expected:
            raise ModelError(f"{subject.name}: its tokenizer splits texts otherwise than its base's")
        return seen.extract(texts, on_tokens).read(texts, pack.layer)

    of_base = extractor(base)
    check_same(of_base.bank.identity, pack.identity, "the pack")
    expected = of_base.ids(texts)
    before = of_base.extract(texts, on_tokens).read(texts, pack.layer)
    beside = [(before, read(subject)) for subject in controls]
    found = [drift(pack, before, read(subject), beside) for subject in checkpoints]
    return RunDrift(pack.concepts, list(texts), list(checkpoints), found)
