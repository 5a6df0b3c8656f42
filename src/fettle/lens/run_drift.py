"""Drift of a run: the lenses of its base model over its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import orjson

from fettle.errors import DataError, ModelError, RunError
from fettle.evaluation.loaded_model import LoadedModel
from fettle.evaluation.subject import Subject
from fettle.lens.backbone import read_backbone
from fettle.lens.dataset import LensDataset
from fettle.lens.drift import Drift, Reading, drift, readings
from fettle.lens.drift_rows import drift_content, drift_row
from fettle.lens.extract import Extractor, OnTokens
from fettle.lens.lens_pack import LensPack
from fettle.lens.problem import Floats
from fettle.lens.spec import check_same, read_spec
from fettle.runs.folder import RunFolder, replace_file

READINGS = tuple(part.name for part in fields(Reading))


@dataclass(frozen=True, slots=True, eq=False)
class RunDrift:
    """Every lens at every checkpoint, on the same texts."""

    pack: LensPack
    texts: list[str]
    checkpoints: list[Subject]
    drifts: list[Drift]
    controls: int
    """Runs that the shifts were judged beside."""
    readings: list[list[Reading]]
    """Of each checkpoint, every lens on the concepts' own texts; empty where they were not read."""

    def to_json(self) -> dict[str, Any]:
        """Plain values: the lenses by their effect at the last checkpoint, the largest first."""
        return drift_content(
            self.pack,
            texts=len(self.texts),
            controls=self.controls,
            checkpoints=[(subject.name, subject.step) for subject in self.checkpoints],
            rows=[self._row(c) for c in self.drifts[-1].order.tolist()],
        )

    def write(self, run: Path, pack: Path) -> Path:
        """Leave it in a run folder, where verdict and page find it. Raises RunError where it cannot be."""
        path = (RunFolder.find(run) or RunFolder(run)).drift_path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, orjson.dumps({"pack": str(pack), **self.to_json()}))
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error
        return path

    def _row(self, lens: int) -> dict[str, Any]:
        shifts = [found.shift for found in self.drifts]
        return {
            **drift_row(self.pack, lens, shifts, self.drifts[-1], self.texts),
            **{name: [getattr(of[lens], name) for of in self.readings] for name in READINGS},
        }


def run_drift(
    pack: LensPack,
    base: Subject,
    checkpoints: Sequence[Subject],
    texts: Sequence[str],
    banks: Path,
    *,
    controls: Sequence[Subject] = (),
    concepts: Path | None = None,
    device: str = "auto",
    batch_tokens: int | None = None,
    on_tokens: OnTokens | None = None,
) -> RunDrift:
    """Read the texts with the base model and every checkpoint, and compare.

    `controls` are checkpoints of runs that began with the same base and taught nothing in particular.
    `concepts` is the file that the pack was trained on: its texts tell whether a concept became harder to
    read. Raises ModelError where the base is not the model of the pack, or a checkpoint splits the texts
    into other tokens; DataError without checkpoints, and for another file of concepts.
    """
    if not checkpoints:
        raise DataError("drift: the run has no checkpoint that can be read")
    labelled = None if concepts is None else _Labelled(pack, LensDataset.of_pack(pack, concepts))
    spec = read_spec(pack.identity["spec"], "the pack")
    model = LoadedModel(spec.dtype, device, spec.attention, read_backbone)

    def extractor(subject: Subject) -> Extractor:
        return Extractor(subject, spec, banks, batch_tokens=batch_tokens, model=model)

    def read(seen: Extractor) -> Floats:
        return seen.extract(texts, on_tokens).read(texts, pack.layer)

    def later(subject: Subject) -> Extractor:
        seen = extractor(subject)
        if seen.ids(texts) != expected:
            raise ModelError(f"{subject.name}: its tokenizer splits texts otherwise than its base's")
        return seen

    of_base = extractor(base)
    check_same(of_base.bank.identity, pack.identity, "the pack")
    expected = of_base.ids(texts)
    before = read(of_base)
    beside = [(before, read(later(subject))) for subject in controls]
    found: list[Drift] = []
    again: list[list[Reading]] = []
    for subject in checkpoints:
        seen = later(subject)
        found.append(drift(pack, before, read(seen), beside))
        if labelled is not None:
            again.append(labelled.read(seen, on_tokens))
    return RunDrift(pack, list(texts), list(checkpoints), found, len(controls), again)


class _Labelled:
    """The texts that a pack was trained and tested on."""

    def __init__(self, pack: LensPack, dataset: LensDataset) -> None:
        self._pack, self._dataset = pack, dataset
        self._chosen = dataset.select(dataset.available, test=True)

    def read(self, seen: Extractor, on_tokens: OnTokens | None) -> list[Reading]:
        """What they say of every lens at a checkpoint."""
        bank = seen.extract(self._chosen.texts, on_tokens)
        problem = self._dataset.problem(self._dataset.within(self._chosen, bank), bank, self._pack.layer)
        return readings(self._pack.scoring, self._pack.about["penalty"], problem)
