"""`fettle lens verify`: whether lenses may cross dtypes, batch sizes and devices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fettle.cli.lens_options import extraction_bar, moved_model_option, run_options, subject_of
from fettle.cli.output import console, number, print_json

if TYPE_CHECKING:
    from fettle.lens.precision import Mix


@click.command("verify")
@click.argument("pack", type=click.Path(path_type=Path), default=Path("lenses"))
@click.option("--concepts", type=click.Path(path_type=Path),
              help="Texts to measure on. Default: the file it was trained on.")  # fmt: skip
@moved_model_option
@run_options("bank", "device", "as_json", "quiet")
def command(
    pack: Path,
    concepts: Path | None,
    model: str | None,
    bank: Path,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train lenses in one dtype, batch size and device, use them in another, and say whether that is safe.

    \b
    Example:
      fettle lens verify lenses
    """
    from fettle.lens.lens_pack import read_pack
    from fettle.lens.verify import verify_pack
    from fettle.runs import configure_logging

    configure_logging(None, level="WARNING")
    lenses = read_pack(pack)
    with extraction_bar(quiet=quiet) as show:
        found = verify_pack(
            lenses, subject_of(lenses, model), concepts or Path(lenses.about["concepts"]), bank,
            device=device, on_tokens=show,
        )  # fmt: skip
    if as_json:
        print_json({name: _plain(measured) for name, measured in found.items()})
    else:
        _print(found)


def _plain(measured: Mix) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(measured), "safe": measured.safe, "verdict": measured.verdict}


def _print(found: dict[str, Mix]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for name in ("mix", "mean |ΔF1|", "at most", "mean |ΔAUROC|", "threshold", "verdict"):
        table.add_column(name, justify="left" if name in ("mix", "verdict") else "right")
    for name, measured in found.items():
        table.add_row(
            name, number(measured.f1 and measured.f1.value), number(measured.f1 and measured.f1.high),
            number(measured.auroc and measured.auroc.value),
            number(measured.threshold and measured.threshold.value, 3), "safe" if measured.safe else "unsafe",
        )  # fmt: skip
    console().print(table)
