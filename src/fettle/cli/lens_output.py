"""How lenses are shown: a table of all, and one of them closely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fettle.cli.output import console, number

if TYPE_CHECKING:
    from fettle.lens.lens_pack import LensPack

ESTIMATES = ("f1", "auroc", "average_precision", "recall_at_1_percent", "precision")


def print_pack(pack: LensPack, chosen: Sequence[int] | None = None) -> None:
    """What all lenses come to, and a row of each, or of those chosen."""
    from rich.table import Table

    from fettle.lens.report import summary

    told = summary(pack)
    grades = "  ".join(f"{grade} {count}" for grade, count in told["grades"].items())
    baselines = "  ".join(f"{name.replace('_', ' ')} {number(v, 3)}" for name, v in told["baselines"].items())
    networks = f", {told['networks']} as networks" if told["networks"] else ""
    console().print(
        f"{told['lenses']} lenses on layer {told['layer']}, {told['graduated']} graduated{networks}   "
        f"grades {grades}\n"
        f"sealed test of {told['test']['texts']} texts: F1 {number(told['mean_test_f1'], 3)}  "
        f"AUROC {number(told['mean_test_auroc'], 3)}\nAUROC of baselines  {baselines}",
    )
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for name in ("lens", "grade", "F1", "AUROC", "words", "selectivity", "standing"):
        table.add_column(name, justify="left" if name in ("lens", "grade", "standing") else "right")
    for c in range(len(pack.concepts)) if chosen is None else chosen:
        table.add_row(pack.concepts[c], *_cells(pack.records[c]))
    console().print(table)
    for name, reason in told["untrained"].items():
        console().print(f"{name}: not trained: {reason}")


def print_lens(pack: LensPack, at: int) -> None:
    """Everything of one lens."""
    record = pack.records[at]
    test: Mapping[str, Any] = record["test"] or {}
    lines = [
        f"{pack.concepts[at]}   grade {record['grade']}   layer {pack.layer}",
        f"below {', '.join(record['branches'])}",
        f"{record['state']}: {record['reason']}",
        *_tried(record.get("mlp"), kept=record.get("kind") == "mlp"),
        "on the sealed test:",
        *(f"  {name:22} {with_interval(test[name])}" for name in ESTIMATES if name in test),
        f"  {'texts':22} {test.get('positives', 0)} show it, {test.get('negatives', 0)} do not",
        f"  {'discriminability':22} {with_interval(record['discriminability'])}",
        f"  {'Brier score':22} {number(record['brier'])}",
        f"  {'calibration error':22} {number(record['expected_calibration_error'])}",
        "AUROC of baselines:",
        *(f"  {name.replace('_', ' '):22} {number(value, 3)}" for name, value in record["baselines"].items()),
        "texts it answers to most:",
        *(f"  {text}" for text in record["strongest_texts"]),
    ]
    console().print("\n".join(lines), markup=False)


def _tried(compared: Mapping[str, float] | None, *, kept: bool) -> list[str]:
    """A line where a network was tried."""
    if compared is None:
        return []
    linear, mlp = number(compared["linear_auroc"], 3), number(compared["mlp_auroc"], 3)
    what = "a network" if kept else "linear; a network was tried"
    return [f"{what}: AUROC {mlp} on texts of groups it did not see, the linear lens {linear}"]


def with_interval(estimate: Mapping[str, Any] | None) -> str:
    """Value and interval; a dash where nothing was measured."""
    if estimate is None:
        return "—"
    low, high = estimate["low"], estimate["high"]
    return number(estimate["value"], 3) + (
        "" if low is None else f"  ({number(low, 3)} to {number(high, 3)})"
    )


def _cells(record: Mapping[str, Any]) -> list[str]:
    test: Mapping[str, Any] | None = record["test"]
    measured: list[float | None] = [test["f1"]["value"], test["auroc"]["value"]] if test else [None, None]
    values: list[float | None] = [*measured, record["baselines"]["bag_of_words"], record["selectivity"]]
    cause = "" if record["state"] == "graduated" else f": {record['reason'].split(':')[0]}"
    return [record["grade"], *(number(value, 3) for value in values), record["state"] + cause]
