"""`fettle lens grade`: a pack judged once more."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fettle.cli.lens_options import extraction_bar, moved_model_option, run_options, subject_of
from fettle.cli.output import console, number, print_json

if TYPE_CHECKING:
    from fettle.lens.grade_pack import Regraded


@click.command("grade")
@click.argument("pack", type=click.Path(path_type=Path), default=Path("lenses"))
@click.option(
    "--concepts",
    type=click.Path(path_type=Path),
    help="Texts to judge it on. Default: the file it was trained on, of which the sealed test.",
)
@moved_model_option
@run_options()
def command(
    pack: Path,
    concepts: Path | None,
    model: str | None,
    bank: Path,
    device: str,
    batch_tokens: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Grades and results of a pack on its sealed test, or on all texts of another file.

    A grade says how far a lens singles out its own concept among all lenses, chance-corrected: A from a lower
    end of the interval of 0.5, B from 0.2, C below, U below 20 texts. rank_v1 is the score of the earlier
    system, about 0.5 for a random lens; it is shown for comparison only.

    \b
    Example:
      fettle lens grade lenses
      fettle lens grade lenses --concepts other.jsonl
    """
    from fettle.lens.grade_pack import regrade
    from fettle.lens.lens_pack import read_pack
    from fettle.runs import configure_logging

    configure_logging(None, level="WARNING")
    lenses = read_pack(pack)
    with extraction_bar(quiet=quiet) as show:
        found = regrade(
            lenses, subject_of(lenses, model), concepts or Path(lenses.about["concepts"]), bank,
            device=device, batch_tokens=batch_tokens, on_tokens=show,
        )  # fmt: skip
    if as_json:
        print_json(asdict(found))
    else:
        _print(found)


def _print(found: Regraded) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for name in ("lens", "grade", "discriminability", "F1", "AUROC", "rank_v1"):
        table.add_column(name, justify="left" if name in ("lens", "grade") else "right")
    for lens in found.lenses:
        test, of_rank = lens["test"], lens["discriminability"]
        measured = [test["f1"]["value"], test["auroc"]["value"]] if test else [None, None]
        table.add_row(
            lens["concept"], lens["grade"], number(of_rank and of_rank["value"], 3),
            *(number(value, 3) for value in measured), number(lens["rank_v1"], 3),
        )  # fmt: skip
    what = "the sealed test" if found.sealed else "all texts of the file"
    console().print(f"on {found.texts} texts, {what}")
    console().print(table)
