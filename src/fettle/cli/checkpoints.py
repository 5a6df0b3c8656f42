"""`fettle checkpoints`: every checkpoint, best score first, with what the score is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fettle.cli.output import (
    columns_option,
    console,
    megabytes,
    number,
    percent,
    print_json,
    warn_unread,
)
from fettle.cli.prune import prune

if TYPE_CHECKING:
    from fettle.api import Run
    from fettle.decide import RankedCheckpoint
    from fettle.runs.records import Checkpoint


@click.command("checkpoints")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--prune", "pruning", is_flag=True, help="Show which checkpoints no rule keeps.")
@click.option("--yes", is_flag=True, help="With --prune: remove them.")
@click.option("--keep-best", type=click.IntRange(1), metavar="K", help="Keep the K best by the fixed eval.")
@click.option("--keep-latest", type=click.IntRange(1), metavar="N", help="Keep the N newest.")
@click.option(
    "--keep-every-steps", type=click.IntRange(1), metavar="STEPS", help="Keep those of every STEPS steps."
)
@click.option("--pin", type=int, multiple=True, metavar="STEP", help="Never remove this one.")
@click.option("--unpin", type=int, multiple=True, metavar="STEP", help="Take a pin away.")
@click.option("--download", metavar="WHICH", help="Get an adapter from the service: best, last, or a step.")
@columns_option
@click.option("--json", "as_json", is_flag=True, help="Print the checkpoints as JSON.")
def command(
    run: Path,
    pruning: bool,
    yes: bool,
    pin: tuple[int, ...],
    unpin: tuple[int, ...],
    download: str | None,
    columns: Path | None,
    as_json: bool,
    **rules: int | None,
) -> None:
    """Rank the checkpoints of RUN by their composite score (lower is better) and mark the verdict's choice.

    The score is 0.5·eval + gap + perplexity - bonus, given once when a checkpoint is saved.
    One that lacks an input is incomparable: it has no rank.

    --prune shows what the rules of the run's `checkpoints` section, or those given here, would
    remove; with --yes it is removed. The verdict's choice, the newest, pinned ones, and those
    without a fettle.json that says where they come from, always stay. What the Tinker service keeps of
    those that go is removed there, too.

    --download puts the adapter of a checkpoint that the Tinker service keeps into its folder, once its
    loss here equals that on the service.

    \b
    Example:
      fettle checkpoints runs/<run>
      fettle checkpoints runs/<run> --download best
      fettle checkpoints runs/<run> --pin 1500
      fettle checkpoints runs/<run> --prune --keep-best 3 --keep-latest 1
    """
    from fettle.api import open_run

    if not pruning and (yes or any(rule is not None for rule in rules.values())):
        raise click.UsageError("--yes and the --keep options are for --prune")
    reader = open_run(run, columns)
    warn_unread(reader)
    if pin or unpin:
        _mark(reader, pin, unpin)
    if download is not None:
        _download(reader, download)
        return
    if pruning:
        prune(reader, rules, yes=yes, as_json=as_json)
    else:
        _rank(reader, as_json=as_json)


def _mark(reader: Run, pin: tuple[int, ...], unpin: tuple[int, ...]) -> None:
    from fettle.errors import RunError
    from fettle.runs import pin_checkpoint, unpin_checkpoint

    paths = {c.step: c.path for c in reader.checkpoints() if c.path is not None}
    for step in (*pin, *unpin):
        if step not in paths:
            there = ", ".join(map(str, paths)) or "none"
            raise RunError(f"{reader.name} has no checkpoint of step {step} on this disk. There are: {there}")
    for step in pin:
        pin_checkpoint(paths[step])
    for step in unpin:
        unpin_checkpoint(paths[step])


def _download(reader: Run, which: str) -> None:
    from fettle.decide import choose_checkpoint
    from fettle.errors import RunError
    from fettle.train.tinker.extra import require_tinker_extra

    require_tinker_extra()
    from fettle.train.tinker.download import download_checkpoint

    kept = {c.step: c for c in reader.checkpoints() if c.url is not None and c.path is not None}
    choice = choose_checkpoint(reader.evals(), list(kept.values()))
    named = {"best": choice.step if choice else None, "last": max(kept, default=None)}
    step = named[which] if which in named else int(which) if which.isdecimal() else None
    if reader.folder is None or step not in kept:
        there = ", ".join(map(str, kept)) or "none"
        raise RunError(
            f"{reader.name} has no checkpoint '{which}' that a service keeps: name best, last, or a step. "
            f"There are: {there}"
        )
    got = download_checkpoint(reader.folder, kept[step])
    click.echo(f"{got.path}\ncross-entropy {got.here:.4f} here, {got.service:.4f} on the service")


def _rank(reader: Run, *, as_json: bool) -> None:
    from fettle.decide import choose_checkpoint, rank_checkpoints

    checkpoints, evals = reader.checkpoints(), reader.evals()
    ranked = rank_checkpoints(checkpoints, evals, reader.columns("train"))
    choice = choose_checkpoint(evals, checkpoints)
    chosen = choice.step if choice else None
    known = {c.step: c for c in checkpoints}
    if as_json:
        rows = [
            {
                **r.to_json(),
                "chosen": r.step == chosen,
                "size_bytes": known[r.step].size_bytes,
                "pinned": known[r.step].pinned,
            }
            for r in ranked
        ]
        print_json({"run": reader.name, "chosen_step": chosen, "checkpoints": rows})
    elif not ranked:
        click.echo(f"{reader.name} has no checkpoints")
    else:
        _show(ranked, chosen, known)
        if choice:
            click.echo(f"\n★ the verdict's choice: {choice.explanation}")


def _show(ranked: list[RankedCheckpoint], chosen: int | None, known: dict[int, Checkpoint]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for name in ("", "step", "score", "eval", "gap", "perpl.", "bonus", "EM", "CE", "train CE", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    reasons: dict[str, list[int]] = {}
    for row in ranked:
        if row.score.score is None:
            reasons.setdefault(row.score.reason or "not scored", []).append(row.step)
        table.add_row(*_cells(row, chosen, known[row.step]))
    out = console()
    out.print(table)
    for reason, steps in reasons.items():
        out.print(f"incomparable: {', '.join(map(str, sorted(steps)))} ({reason})")


def _cells(row: RankedCheckpoint, chosen: int | None, checkpoint: Checkpoint) -> list[Any]:
    components = row.score.components
    return [
        ("★" if row.step == chosen else "") + (" pinned" if checkpoint.pinned else ""),
        str(row.step),
        number(row.score.score),
        *(number(components.get(key), 3) for key in ("eval", "gap", "perplexity")),
        number(components.get("bonus"), 1),
        percent(row.exact_match),
        number(row.cross_entropy),
        number(row.train_loss),
        _size(checkpoint),
    ]


def _size(checkpoint: Checkpoint) -> str:
    if checkpoint.path is not None:
        return megabytes(checkpoint.size_bytes)
    return "gone" if checkpoint.url is None else "remote"
