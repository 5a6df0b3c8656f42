"""`fettle compare`: is it better, worse, the same, or can it not be told?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fettle.cli.output import console, print_json

if TYPE_CHECKING:
    from fettle.decide.regression import Change
    from fettle.evaluate.compared import Compared

REGRESSED = 10


@click.command("compare")
@click.argument("paths", nargs=-1, required=True, metavar="A B...", type=click.Path(path_type=Path))
@click.option("--baseline", metavar="NAME", help="What the others are compared with. Default: the first.")
@click.option("--step", type=int, help="Of runs: the fixed eval of this step. Default: the last.")
@click.option("--em-margin", type=click.FloatRange(0, 1), help="Change of exact match worth having [0.005].")
@click.option("--ce-margin", type=click.FloatRange(0), help="Change of cross-entropy worth having [0.005].")
@click.option("--flips", "most_flips", type=click.IntRange(0), default=5, show_default=True,
              help="Samples to show that became wrong, and that became right.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    paths: tuple[Path, ...],
    baseline: str | None,
    step: int | None,
    em_margin: float | None,
    ce_margin: float | None,
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
    """
    from fettle.decide.regression import changes, flips
    from fettle.evaluate.compared import texts

    found = _unique([one for path in paths for one in _results(path, step)])
    first = _baseline(found, baseline)
    others = {name: one.samples for name, one in found.items() if name != first}
    margins = {"exact_match": em_margin, "cross_entropy": ce_margin}
    compared = [
        change
        for metric in ("exact_match", "cross_entropy")
        for change in changes((first, found[first].samples), others, metric, margin=margins[metric])
    ]
    flipped: list[dict[str, Any]] = []
    for name in others:
        gained, lost = flips(found[first].samples, found[name].samples)
        words = texts(found[name], {*gained[:most_flips], *lost[:most_flips]})
        flipped.append({"name": name, "became_right": gained, "became_wrong": lost, "texts": words})
    if as_json:
        print_json({"baseline": first, "changes": [c.to_json() for c in compared], "flips": flipped})
    else:
        _show(first, compared)
        _show_flips(flipped, most_flips)
    sys.exit(REGRESSED if any(change.outcome == "regressed" for change in compared) else 0)


def _results(path: Path, step: int | None) -> list[Compared]:
    from fettle.evaluate.compared import find_results

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


SIGNS = {"improved": "▲ improved", "regressed": "▼ regressed", "equivalent": "= equivalent"}


def _show(baseline: str, compared: list[Change]) -> None:
    from rich.table import Table

    out = console()
    for metric, title, scale, digits in (
        ("exact_match", "exact match, points", 100.0, 1),
        ("cross_entropy", "cross-entropy, nats per token", 1.0, 4),
    ):
        rows = [change for change in compared if change.metric == metric]
        out.print(f"\n{title}, against {baseline} ({max(c.samples for c in rows)} samples)")
        table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
        for name in ("", "change", "95 % interval", "p", ""):
            table.add_column(name, justify="right" if name else "left", no_wrap=True)
        for change in rows:
            table.add_row(change.name, *_numbers(change, scale, digits), _outcome(change))
        out.print(table)
    margins = {c.metric: c.margin for c in compared}
    out.print(
        f"\nA change counts beyond {100 * margins['exact_match']:g} points or "
        f"{margins['cross_entropy']:g} nats. Intervals and p hold for all rows together."
    )


def _numbers(change: Change, scale: float, digits: int) -> tuple[str, str, str]:
    if change.difference is None or change.low is None or change.high is None:
        return ("—", "—", "—")
    values = (change.difference, change.low, change.high)
    difference, low, high = (f"{scale * value:+.{digits}f}" for value in values)
    return (difference, f"{low} to {high}", _p(change.p_adjusted))


def _outcome(change: Change) -> str:
    if change.reason:
        return change.reason
    needed = f", needs n ≈ {_round(change.needed):,}" if change.needed else ""
    return SIGNS.get(change.outcome, "? undecided") + needed


def _show_flips(flipped: list[dict[str, Any]], most: int) -> None:
    for flip in flipped:
        right, wrong = flip["became_right"], flip["became_wrong"]
        click.echo(f"\n{flip['name']}: {len(right)} became right, {len(wrong)} became wrong")
        for sign, ids in (("+", right[:most]), ("-", wrong[:most])):
            for id in ids:
                prompt, golden = flip["texts"].get(id, ("text not found", ""))
                click.echo(f"  {sign} {_short(prompt)}  →  {_short(golden)}")


def _short(text: str, width: int = 60) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _round(count: int) -> int:
    """To two digits: it is an estimate."""
    return round(count, 2 - len(str(count)))


def _p(value: float | None) -> str:
    return "—" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
