"""Which concepts a fine-tune moved, as `fettle lens drift` left it in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fettle.runs.json_object import items, mapping, string, strings
from fettle.runs.numbers import integer, number


@dataclass(frozen=True, slots=True)
class ConceptShift:
    """One lens over the checkpoints; None where a value was not measured."""

    concept: str
    grade: str | None
    branches: list[str]
    f1: float | None
    """Of the lens on its sealed test, as `auroc` is."""
    auroc: float | None
    shifts: list[float | None]
    """At each checkpoint, in deviations of texts without the concept."""
    low: float | None
    """Of the last shift, as all that follows."""
    high: float | None
    effect: float | None
    p: float | None
    frozen_auroc: list[float | None]
    """At each checkpoint, of the lens on the concept's own texts; empty where they were not read."""
    refit_auroc: list[float | None]
    """Of a lens trained anew on the checkpoint."""
    cosine: list[float | None]
    """Between the directions of both."""
    moved: bool
    """Whether neither chance nor what any training does explains it."""
    examples: list[str]
    """Texts that moved most."""
    strongest: list[str]
    """Texts that the lens scores highest, of those it was tested on."""


@dataclass(frozen=True, slots=True)
class ConceptDrift:
    """All lenses, the largest effect first."""

    pack: str
    texts: int
    controls: int
    """Runs that taught nothing in particular, beside which shifts were judged; below 2: other lenses."""
    created_at: str | None
    steps: list[int | None]
    names: list[str]
    """Of the checkpoints."""
    lenses: list[ConceptShift]

    @property
    def moved(self) -> list[ConceptShift]:
        """The lenses that have moved at the last checkpoint."""
        return [lens for lens in self.lenses if lens.moved]


def concept_drift(content: Mapping[str, Any] | None) -> ConceptDrift | None:
    """From the file's content; None of nothing, or of a file without lenses."""
    if content is None:
        return None
    checkpoints = [mapping(row) for row in items(content.get("checkpoints"))]
    lenses = [_shift(mapping(row), len(checkpoints)) for row in items(content.get("lenses"))]
    if not lenses or not checkpoints:
        return None
    return ConceptDrift(
        pack=str(content.get("pack", "")),
        texts=integer(content.get("texts")) or 0,
        controls=integer(content.get("controls")) or 0,
        created_at=string(content.get("created_at")),
        steps=[integer(row.get("step")) for row in checkpoints],
        names=[str(row.get("name", "")) for row in checkpoints],
        lenses=lenses,
    )


def _shift(row: dict[str, Any], checkpoints: int) -> ConceptShift:
    shifts = _numbers(row.get("shifts"))[:checkpoints]
    return ConceptShift(
        concept=str(row.get("concept", "")),
        grade=string(row.get("grade")),
        branches=strings(row.get("branches")),
        f1=number(row.get("f1")),
        auroc=number(row.get("auroc")),
        shifts=shifts + [None] * (checkpoints - len(shifts)),
        low=number(row.get("low")),
        high=number(row.get("high")),
        effect=number(row.get("effect")),
        p=number(row.get("p")),
        frozen_auroc=_numbers(row.get("frozen_auroc"))[:checkpoints],
        refit_auroc=_numbers(row.get("refit_auroc"))[:checkpoints],
        cosine=_numbers(row.get("cosine"))[:checkpoints],
        moved=row.get("moved") is True,
        examples=strings(row.get("examples")),
        strongest=strings(row.get("strongest")),
    )


def _numbers(value: Any) -> list[float | None]:
    return [number(item) for item in items(value)]
