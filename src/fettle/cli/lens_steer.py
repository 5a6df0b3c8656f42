"""`fettle lens steer`: what steering by a lens gains and costs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fettle.cli.lens_options import moved_model_option, run_options, subject_of
from fettle.cli.output import console, number, print_json

if TYPE_CHECKING:
    from fettle.lens.steering import Steer
    from fettle.lens.steering_sweep import Steered


@click.command("steer")
@click.argument("concept")
@click.option("--lenses", "pack", type=click.Path(path_type=Path), default=Path("lenses"), show_default=True)
@moved_model_option
@click.option("--by", type=click.Choice(["add", "add-norm", "remove", "nudge"]), default="add",
              show_default=True,
              help="Add deviations of the projection or shares of the norm, remove a share of the direction, "
              "or bring the evidence so near to --target.")  # fmt: skip
@click.option("--strengths", default="0,1,2,4,8", show_default=True, metavar="A,B",
              help="Deviations, or shares for the other ways.")  # fmt: skip
@click.option("--target", type=float, default=4.0, show_default=True, help="Evidence to nudge towards.")
@click.option("--at", type=click.IntRange(0), help="Layer to steer behind. Default: that of the lens.")
@click.option("--texts", type=click.Path(path_type=Path), help="One text a line. Default: plain sentences.")
@click.option("--any-grade", is_flag=True, help="Steer by a lens graded C or U too.")
@run_options("device", "as_json")
def command(
    concept: str,
    pack: Path,
    model: str | None,
    by: str,
    strengths: str,
    target: float,
    at: int | None,
    texts: Path | None,
    any_grade: bool,
    device: str,
    as_json: bool,
) -> None:
    """Sweep the strength of steering by one lens on neutral texts: evidence gained, perplexity paid.

    \b
    Example:
      fettle lens steer joy --lenses lenses --strengths 0,1,2,4
      fettle lens steer joy --by nudge --strengths 0.1,0.5,1 --target 3
    """
    from fettle.lens.direction import lens_direction
    from fettle.lens.lens_pack import read_pack
    from fettle.lens.neutral_texts import NEUTRAL, read_texts
    from fettle.lens.steering import Add, Nudge, Remove
    from fettle.lens.steering_sweep import sweep_pack
    from fettle.runs import configure_logging

    configure_logging(None, level="WARNING")
    lenses = read_pack(pack)
    direction = lens_direction(lenses, concept, any_grade=any_grade)

    def steer(strength: float) -> Steer:
        if by == "remove":
            return Remove(direction, strength)
        if by == "nudge":
            return Nudge(direction, target, strength)
        return Add(direction, strength, "norm" if by == "add-norm" else "deviation")

    found = sweep_pack(
        lenses, subject_of(lenses, model), direction, steer,
        _numbers(strengths), list(NEUTRAL) if texts is None else read_texts(texts), at=at, device=device,
    )  # fmt: skip
    if as_json:
        print_json([asdict(row) for row in found])
    else:
        _print(found)


def _numbers(given: str) -> list[float]:
    from fettle.errors import ConfigError

    try:
        return [float(part) for part in given.split(",")]
    except ValueError:
        raise ConfigError(f"--strengths {given}: must be numbers such as 0,1,2.5") from None


def _print(found: list[Steered]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for name in ("strength", "evidence", "moved", "nats a token", "perplexity"):
        table.add_column(name, justify="right")
    for row in found:
        table.add_row(
            f"{row.strength:g}", number(row.evidence and row.evidence.value, 2),
            number(row.moved and row.moved.value, 2),
            number(row.cross_entropy and row.cross_entropy.value, 3),
            "—" if row.perplexity_ratio is None else f"{row.perplexity_ratio:.2f} times",
        )  # fmt: skip
    console().print("evidence in deviations of texts without the concept; neutral texts")
    console().print(table)
