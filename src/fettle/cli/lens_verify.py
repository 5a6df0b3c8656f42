"""`fettle lens verify`: whether lenses may cross dtypes, batch sizes and devices."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fettle.cli.output import console, number, print_json

if TYPE_CHECKING:
    from fettle.lens.precision import Mix


@click.command("verify")
@click.argument("pack", type=click.Path(path_type=Path), default=Path("lenses"))
@click.option("--concepts", type=click.Path(path_type=Path),
              help="Texts to measure on. Default: the file it was trained on.")  # fmt: skip
@click.option("--model", metavar="MODEL", help="Where its model lies now. Default: where it lay.")
@click.option("--bank", type=click.Path(path_type=Path), default=Path("lens_bank"), show_default=True,
              help="Folder of banks; each way to extract has its own in it.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto",
              show_default=True)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
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
    from fettle.evaluation.subject import Subject, find_subjects
    from fettle.lens.lens_pack import read_pack
    from fettle.lens.verify import verify_pack
    from fettle.runs import configure_logging
    from fettle.scoring.progress import progress_bar

    configure_logging(None, level="WARNING")
    lenses = read_pack(pack)
    adapter: str | None = lenses.about["adapter"]
    known = Subject("model", None, lenses.about["model"], None if adapter is None else Path(adapter))
    with progress_bar("extracting", "tokens", enabled=not quiet and sys.stderr.isatty()) as show:
        found = verify_pack(
            lenses, known if model is None else find_subjects(model)[0][0],
            concepts or Path(lenses.about["concepts"]), bank, device=device, on_tokens=show,
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
