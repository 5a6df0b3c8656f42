"""`fettle compare`: is it better, worse, the same, or can it not be told?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fettle.cli.compare_output import show_changes, show_flips, show_margins
from fettle.cli.output import print_json

if TYPE_CHECKING:
    from fettle.decide.regression import Change
    from fettle.evaluation.compared import Compared

REGRESSED = 10


@click.command("compare")
@click.argument("paths", nargs=-1, required=True, metavar="A B...", type=click.Path(path_type=Path))
@click.option("--baseline", metavar="NAME", help="What the others are compared with. Default: the first.")
@click.option("--step", type=int, help="Of runs: the fixed eval of this step. Default: the last.")
@click.option("--em-margin", type=click.FloatRange(0, 1), help="Change of exact match worth having [0.005].")
@click.option("--ce-margin", type=click.FloatRange(0), help="Change of cross-entropy worth having [0.005].")
@click.option("--metric", "metrics", multiple=True, metavar="NAME",
              help="exact_match, cross_entropy or a checker. Default: all that all have.")  # fmt: skip
@click.option("--by-pattern", is_flag=True, help="Each kind of prompt by itself as well.")
@click.option("--flips", "most_flips", type=click.IntRange(0), default=5, show_default=True,
              help="Samples to show that became wrong, and that became right.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    paths: tuple[Path, ...],
    baseline: str | None,
    step: int | None,
    em_margin: float | None,
    ce_margin: float | None,
    metrics: tuple[str, ...],
    by_pattern: bool,
    most_flips: int,
    as_json: bool,
) -> None:
    """Compare results of the same samples with a baseline, by paired tests corrected for how many there are.

    A and B are folders of `fettle eval` (all their checkpoints take part), single results in them, or runs.
    Each is improved, regressed, equivalent, or undecided with the number of samples that could tell. A
    regression is significant and larger than the margin; then the exit code is 10, otherwise 0.

    \b
    Example:
      fettle compare eval_runs/<run>
      fettle compare runs/<before> runs/<after>
      fettle compare eval_runs/<run> --metric number --by-pattern
    """
    from fettle.decide.regression import CROSS_ENTROPY

    found = _unique([one for path in paths for one in _results(path, step)])
    first = _baseline(found, baseline)
    chosen = _metrics(found, metrics)
    margins = {metric: ce_margin if metric == CROSS_ENTROPY else em_margin for metric in chosen}
    compared = [c for metric in chosen for c in _changes(found, first, metric, margins[metric])]
    parts = {
        metric: _changes_by_pattern(found, first, metric, margins[metric]) if by_pattern else {}
        for metric in chosen
    }
    flipped = _flipped(found, first, chosen, most_flips)
    every = [*compared, *(change for part in parts.values() for rows in part.values() for change in rows)]
    if as_json:
        patterns = [
            {"pattern": pattern, **change.to_json()}
            for part in parts.values()
            for pattern, rows in part.items()
            for change in rows
        ]
        changes = [change.to_json() for change in compared]
        print_json({"baseline": first, "changes": changes, "patterns": patterns, "flips": flipped})
    else:
        for metric in chosen:
            show_changes(first, metric, [c for c in compared if c.metric == metric], parts[metric])
        show_margins(compared)
        show_flips(flipped, most_flips)
    sys.exit(REGRESSED if any(change.outcome == "regressed" for change in every) else 0)


def _changes(found: dict[str, Compared], first: str, metric: str, margin: float | None) -> list[Change]:
    from fettle.decide.regression import changes

    others = {name: one.values[metric] for name, one in found.items() if name != first}
    return changes((first, found[first].values[metric]), others, metric, margin=margin)


def _changes_by_pattern(
    found: dict[str, Compared], first: str, metric: str, margin: float | None
) -> dict[str, list[Change]]:
    """Each kind of prompt of the baseline by itself; the level is shared between them."""
    from fettle.decide.regression import ALPHA, changes
    from fettle.evaluation.compared import of_pattern

    patterns = sorted(set(found[first].pattern.tolist()))
    rows: dict[str, list[Change]] = {}
    for pattern in patterns:
        tables = {name: of_pattern(one, metric, pattern) for name, one in found.items()}
        base = (first, tables.pop(first))
        rows[pattern] = changes(base, tables, metric, margin=margin, alpha=ALPHA / len(patterns))
    return rows


def _flipped(found: dict[str, Compared], first: str, metrics: list[str], most: int) -> list[dict[str, Any]]:
    """Samples that became right and wrong by the most telling of the metrics, with some of their texts."""
    from fettle.decide.regression import CROSS_ENTROPY, flips
    from fettle.evaluation.compared import texts

    telling = [metric for metric in metrics if metric != CROSS_ENTROPY]
    if not telling:
        return []
    flipped: list[dict[str, Any]] = []
    for name, one in found.items():
        if name == first:
            continue
        gained, lost = flips(found[first].values[telling[-1]], one.values[telling[-1]])
        words = texts(one, {*gained[:most], *lost[:most]})
        flipped.append(
            {
                "name": name,
                "metric": telling[-1],
                "became_right": gained,
                "became_wrong": lost,
                "texts": words,
            }
        )
    return flipped


def _metrics(found: dict[str, Compared], asked: tuple[str, ...]) -> list[str]:
    """Those asked for, or all that every result has."""
    from fettle.errors import RunError

    tables = [one.values for one in found.values()]
    shared = [metric for metric in tables[0] if all(metric in table for table in tables)]
    if unknown := [metric for metric in asked if metric not in shared]:
        raise RunError(f"--metric {unknown[0]}: not all results have it. All have: {', '.join(shared)}")
    return list(asked) or shared


def _results(path: Path, step: int | None) -> list[Compared]:
    from fettle.evaluation.compared import find_results

    return find_results(path, step)


def _unique(found: list[Compared]) -> dict[str, Compared]:
    """By name; those of the same name by their folders as well."""
    names = [one.name for one in found]
    named: dict[str, Compared] = {}
    for one in found:
        name = one.name
        if names.count(name) > 1:
            name = (
                f"{one.source.parents[2].name if len(one.source.parents) > 2 else one.source.parent}/{name}"
            )
        while name in named:
            name += "'"
        named[name] = one
    return named


def _baseline(found: dict[str, Compared], asked: str | None) -> str:
    from fettle.errors import RunError

    names = ", ".join(found)
    if len(found) < 2:
        raise RunError(f"only {names} is there to compare. Name a second result, or a folder with several")
    if asked is not None and asked not in found:
        raise RunError(f"--baseline {asked}: there is no such result. There are: {names}")
    return asked or next(iter(found))
