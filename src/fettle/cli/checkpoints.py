"""`fettle checkpoints`: every checkpoint, best score first, with what the score is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fettle.cli.output import console, megabytes, number, percent, print_json

if TYPE_CHECKING:
    from fettle.decide import RankedCheckpoint


@click.command("checkpoints")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the checkpoints as JSON.")
def command(run: Path, as_json: bool) -> None:
    """Rank the checkpoints of RUN by their composite score (lower is better) and mark the verdict's choice.

    The score is 0.5·eval + gap + perplexity - bonus, given once when a checkpoint is saved.
    One that lacks an input is incomparable: it has no rank.

    \b
    Example:
      fettle checkpoints runs/<run>
    """
    from fettle.api import open_run
    from fettle.decide import choose_checkpoint, rank_checkpoints

    reader = open_run(run)
    checkpoints, evals = reader.checkpoints(), reader.evals()
    ranked = rank_checkpoints(checkpoints, evals, reader.columns("train"))
    choice = choose_checkpoint(evals, checkpoints)
    chosen = choice.step if choice else None
    sizes = {c.step: c.size_bytes for c in checkpoints}
    if as_json:
        rows = [{**r.to_json(), "chosen": r.step == chosen, "size_bytes": sizes.get(r.step)} for r in ranked]
        print_json({"run": reader.name, "chosen_step": chosen, "checkpoints": rows})
    elif not ranked:
        click.echo(f"{reader.name} has no checkpoints")
    else:
        _show(ranked, chosen, sizes)
        if choice:
            click.echo(f"\n★ the verdict's choice: {choice.explanation}")


def _show(ranked: list[RankedCheckpoint], chosen: int | None, sizes: dict[int, int | None]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for name in ("", "step", "score", "eval", "gap", "perpl.", "bonus", "EM", "CE", "train CE", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    reasons: dict[str, list[int]] = {}
    for row in ranked:
        if row.score.score is None:
            reasons.setdefault(row.score.reason or "not scored", []).append(row.step)
        table.add_row(*_cells(row, chosen, sizes.get(row.step)))
    out = console()
    out.print(table)
    for reason, steps in reasons.items():
        out.print(f"incomparable: {', '.join(map(str, sorted(steps)))} ({reason})")


def _cells(row: RankedCheckpoint, chosen: int | None, size: int | None) -> list[Any]:
    components = row.score.components
    return [
        "★" if row.step == chosen else "",
        str(row.step),
        number(row.score.score),
        *(number(components.get(key), 3) for key in ("eval", "gap", "perplexity")),
        number(components.get("bonus"), 1),
        percent(row.exact_match),
        number(row.cross_entropy),
        number(row.train_loss),
        megabytes(size) if row.path else "gone",
    ]
