"""What `fettle compare` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fettle.cli.output import console

if TYPE_CHECKING:
    from fettle.decide.regression import Change

SIGNS = {"improved": "▲ improved", "regressed": "▼ regressed", "equivalent": "= equivalent"}


UNITS = {
    "cross_entropy": ("cross-entropy, nats per token", 1.0, 4),
    "exact_match": ("exact match, points", 100.0, 1),
}


def show_changes(
    baseline: str, metric: str, changes: list[Change], by_pattern: dict[str, list[Change]]
) -> None:
    """A table of one metric, then one of each kind of prompt."""
    title, scale, digits = UNITS.get(metric, (f"{metric}, points", 100.0, 1))
    _table(f"{title}, against {baseline}", changes, scale, digits)
    for pattern, rows in by_pattern.items():
        _table(f"  {pattern}", rows, scale, digits)


def show_margins(changes: list[Change]) -> None:
    """From where on a change counts."""
    beyond = dict.fromkeys(
        f"{c.margin:g} nats" if c.metric == "cross_entropy" else f"{100 * c.margin:g} points" for c in changes
    )
    together = "Intervals and p hold for all rows of a metric together."
    console().print(f"\nA change counts beyond {' or '.join(beyond)}. {together}")


def show_flips(flipped: list[dict[str, Any]], most: int) -> None:
    """What became right and wrong, some of it with its texts."""
    for flip in flipped:
        right, wrong = flip["became_right"], flip["became_wrong"]
        click.echo(f"\n{flip['name']}: {len(right)} became right, {len(wrong)} became wrong")
        for sign, ids in (("+", right[:most]), ("-", wrong[:most])):
            for id in ids:
                prompt, golden = flip["texts"].get(id, ("text not found", ""))
                click.echo(f"  {sign} {_short(prompt)}  →  {_short(golden)}")


def _table(title: str, rows: list[Change], scale: float, digits: int) -> None:
    from rich.table import Table

    out = console()
    out.print(f"\n{title} ({max(c.samples for c in rows)} samples)")
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for name in ("", "change", "95 % interval", "p", ""):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for change in rows:
        table.add_row(change.name, *_numbers(change, scale, digits), _outcome(change))
    out.print(table)


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


def _short(text: str, width: int = 60) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _round(count: int) -> int:
    """To two digits: it is an estimate."""
    return round(count, 2 - len(str(count)))


def _p(value: float | None) -> str:
    return "—" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
