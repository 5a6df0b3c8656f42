"""`fettle lens drift`: which concepts a fine-tune moved."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fettle.cli.lens_options import extraction_bar, run_options
from fettle.cli.output import console, number, print_json

if TYPE_CHECKING:
    from fettle.lens.run_drift import RunDrift

SHADES = " ░▒▓█"


@click.command("drift")
@click.argument("run", type=str)
@click.option("--lenses", "pack", type=click.Path(path_type=Path), default=Path("lenses"), show_default=True,
              help="Pack of the run's base model.")  # fmt: skip
@click.option("--texts", type=click.Path(path_type=Path), help="One text a line. Default: plain sentences.")
@click.option("--checkpoints", default="all", show_default=True, help="all, last, or steps such as 10,20.")
@click.option("--control", "controls", multiple=True, metavar="RUN",
              help="A run from the same base that taught nothing in particular, by its last checkpoint; "
              "two or more are needed.")  # fmt: skip
@click.option("--concepts", type=click.Path(path_type=Path),
              help="What the pack was trained on. Its texts tell whether a concept became harder to read: "
              "AUROC of the frozen lens, of one trained anew, and the cosine between both.")  # fmt: skip
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Lenses shown.")
@run_options()
def command(
    run: str,
    pack: Path,
    texts: Path | None,
    checkpoints: str,
    controls: tuple[str, ...],
    concepts: Path | None,
    top: int,
    bank: Path,
    device: str,
    batch_tokens: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Concepts that the checkpoints of a run moved, read with frozen lenses of its base model.

    Shift is the mean change on neutral texts, in deviations of texts without the concept; effect is its
    distance from the other lenses. A lens has moved (*) where neither chance nor what any training does
    explains it: judged beside control runs where two are given, else beside the other lenses.

    \b
    Example:
      fettle lens drift runs/latest --lenses lenses
      fettle lens drift runs/tuned --control runs/control-1 --control runs/control-2 --json
    """
    from fettle.evaluation.subject import find_subjects
    from fettle.lens.lens_pack import read_pack
    from fettle.lens.neutral_texts import NEUTRAL, read_texts
    from fettle.lens.run_drift import run_drift
    from fettle.runs import configure_logging

    configure_logging(None, level="WARNING")
    lenses = read_pack(pack)
    subjects, skipped = find_subjects(run, checkpoints, base=False)
    for left in skipped:
        click.echo(f"fettle: {left.name} is left out: {left.reason}", err=True)
    others = [find_subjects(control, "last", base=False)[0][-1] for control in controls]
    with extraction_bar(quiet=quiet) as show:
        found = run_drift(
            lenses, lenses.subject, subjects, list(NEUTRAL) if texts is None else read_texts(texts), bank,
            controls=others, concepts=concepts, device=device, batch_tokens=batch_tokens, on_tokens=show,
        )  # fmt: skip
    # A model by itself has no step, and no folder of a run to leave it in.
    written = None if subjects[-1].step is None else found.write(Path(run), pack)
    if as_json:
        print_json(found.to_json())
        return
    _print(found, top)
    if written is not None:
        console().print(f"{written}: the verdict and the page show it")


def _print(found: RunDrift, top: int) -> None:
    """The lenses that moved most at the last checkpoint, over all checkpoints."""
    from rich.table import Table

    last, names = found.drifts[-1], found.pack.concepts
    largest = max(float(abs(drift.shift).max()) for drift in found.drifts) or 1.0
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for name in ("lens", "shift", "interval", "effect", "", "steps"):
        table.add_column(
            name, justify="right" if name in ("shift", "effect") else "left", no_wrap=name == "interval"
        )
    again = found.readings[-1] if found.readings else []
    for name in ("AUROC", "anew", "cosine") if again else ():
        table.add_column(name, justify="right")
    order: list[int] = last.order.tolist()
    for c in order[:top]:
        sizes = [abs(float(drift.shift[c])) / largest for drift in found.drifts]
        table.add_row(
            names[c], f"{last.shift[c]:+.2f}", f"{last.low[c]:+.2f} to {last.high[c]:+.2f}",
            number(float(last.effect[c]), 1), "*" if last.moved[c] else "",
            "".join(SHADES[min(4, int(5 * size))] for size in sizes),
            *([number(value, 2) for value in astuple(again[c])] if again else []),
        )  # fmt: skip
    steps = ", ".join(subject.name for subject in found.checkpoints)
    console().print(f"{len(found.texts)} texts; {steps}; deviations of texts without the concept")
    console().print(table)
    moved = [names[c] for c in order if last.moved[c]]
    if moved:
        example = found.texts[int(last.examples(order[0], 1)[0])]
        console().print(f"moved: {', '.join(moved)}; '{names[order[0]]}' most in: {example}")
    else:
        console().print("no lens moved beyond what any training does")
