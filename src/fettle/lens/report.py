"""What is told of lenses: a record of each, and a summary of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from fettle import __version__
from fettle.lens.controls import Results, gain, selectivity
from fettle.lens.dataset import LensDataset
from fettle.lens.grades import LensGrade
from fettle.lens.growth import Grown
from fettle.lens.lens_pack import LensPack
from fettle.lens.mlp import Comparison
from fettle.lens.probability import Believability
from fettle.lens.splits import SETS
from fettle.metrics import Platt


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found on rows put aside, lens by lens."""

    test: Results
    baselines: dict[str, Results]
    """On the same rows: bag_of_words, template, shuffled_labels, random_direction."""
    grades: list[LensGrade]
    platts: list[Platt | None]
    believable: list[Believability]
    strongest: list[list[str]]
    """Texts that score highest."""


def records(dataset: LensDataset, grown: Grown, findings: Findings) -> list[dict[str, Any]]:
    """One of each lens, plain values."""
    over_best = selectivity(findings.test, findings.baselines)
    networks = {comparison.lens: comparison for comparison in grown.compared}
    found: list[dict[str, Any]] = []
    for c, name in enumerate(dataset.concepts):
        grade = findings.grades[c]
        result = findings.test[c]
        found.append(
            {
                "branches": sorted(dataset.pack.branches(name)),
                "depth": dataset.pack.concepts[name].depth,
                **_kind(networks.get(c)),
                "state": grown.standings[c].state,
                "reason": grown.standings[c].reason,
                "held_out": {**asdict(grown.held_out[c]), "gap": grown.held_out[c].gap},
                "test": result and asdict(result),
                "baselines": {key: _auroc(results[c]) for key, results in findings.baselines.items()},
                "selectivity": over_best[c],
                "grade": grade.grade,
                "discriminability": None
                if grade.discriminability is None
                else asdict(grade.discriminability),
                "p_direction": grade.p_direction,
                **asdict(findings.believable[c]),
                "strongest_texts": findings.strongest[c],
            }
        )
    return found


def about(dataset: LensDataset, grown: Grown, findings: Findings) -> dict[str, Any]:
    """Of all lenses together, plain values."""
    corpus = dataset.corpus
    return {
        "fettle": __version__,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "texts": {
            "all": len(corpus),
            "duplicates": corpus.duplicates,
            "near_duplicates": corpus.near_duplicates,
            "groups": len(np.unique(corpus.groups)),
            **{name: len(dataset.splits.rows(name)) for name in SETS},
            "trained_on": len(grown.problem.sets["train"]),
        },
        "untrained": dataset.untrained,
        "penalty": grown.fit.penalty,
        "rounds": [asdict(one) for one in grown.rounds],
        "gains": {key: _gain(findings.test, results) for key, results in findings.baselines.items()},
    }


def summary(pack: LensPack) -> dict[str, Any]:
    """What `fettle lens train --json` prints."""
    tested = [record["test"] for record in pack.records if record["test"] is not None]
    grades = Counter(record["grade"] for record in pack.records)
    names: Mapping[str, Any] = pack.records[0]["baselines"]
    return {
        "lenses": len(pack.records),
        "untrained": pack.about["untrained"],
        "graduated": sum(record["state"] == "graduated" for record in pack.records),
        "grades": {grade: grades[grade] for grade in ("A", "B", "C", "U")},
        "mean_test_f1": _mean([test["f1"]["value"] for test in tested]),
        "mean_test_auroc": _mean([test["auroc"]["value"] for test in tested]),
        "mean_selectivity": _mean([record["selectivity"] for record in pack.records]),
        "baselines": {name: _mean([record["baselines"][name] for record in pack.records]) for name in names},
        "networks": sum(record.get("kind") == "mlp" for record in pack.records),
        "layer": pack.layer,
        "layers": pack.about["layers"],
        "texts": pack.about["texts"],
        "test": pack.about["test"],
    }


def _kind(compared: Comparison | None) -> dict[str, Any]:
    """Linear or a network; where both were tried, the AUROC of each on groups that it did not see."""
    if compared is None:
        return {"kind": "linear"}
    tried = {"linear_auroc": compared.linear_auroc, "mlp_auroc": compared.mlp_auroc, "low": compared.low}
    return {"kind": "mlp" if compared.kept else "linear", "mlp": tried}


def _auroc(result: Any) -> float | None:
    return None if result is None else result.auroc.value


def _gain(lenses: Results, other: Results) -> dict[str, float] | None:
    over = gain(lenses, other)
    return None if over is None else asdict(over)


def _mean(values: Sequence[float | None]) -> float | None:
    """Of those that were measured; None where none was."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
