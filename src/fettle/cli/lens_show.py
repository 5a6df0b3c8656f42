"""`fettle lens show`: what is known of the lenses of a pack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fettle.cli.output import print_json

if TYPE_CHECKING:
    from fettle.lens.lens_pack import LensPack

SORTS = ("name", "grade", "f1", "auroc", "selectivity")


@click.command("show")
@click.argument("pack", type=click.Path(path_type=Path), default=Path("lenses"))
@click.option("--concept", help="Everything of one lens.")
@click.option("--grade", metavar="A,B", help="Only lenses of these grades.")
@click.option("--branch", help="Only lenses below this top of the ontology.")
@click.option("--sort", type=click.Choice(SORTS), default="name", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    pack: Path, concept: str | None, grade: str | None, branch: str | None, sort: str, as_json: bool
) -> None:
    """Lenses with grade, results on the sealed test, baselines, standing.

    \b
    Example:
      fettle lens show lenses --grade A,B --sort auroc
      fettle lens show lenses --concept Joy
    """
    from fettle.cli.lens_output import print_lens, print_pack
    from fettle.errors import DataError
    from fettle.lens.lens_pack import read_pack
    from fettle.lens.report import summary

    lenses = read_pack(pack)
    if concept is not None and concept not in lenses.concepts:
        raise DataError(f"{pack}: holds no lens '{concept}'. fettle lens show {pack} names all")
    chosen = _chosen(lenses, concept, grade, branch, sort)
    if as_json:
        rows = [{"concept": lenses.concepts[c], **lenses.records[c]} for c in chosen]
        print_json({**summary(lenses), "records": rows})
    elif concept is not None:
        print_lens(lenses, chosen[0])
    else:
        print_pack(lenses, chosen)


def _chosen(
    lenses: LensPack, concept: str | None, grade: str | None, branch: str | None, sort: str
) -> list[int]:
    """Places of the lenses asked for, the best first but for names and grades, which rise."""
    grades = None if grade is None else {part.strip().upper() for part in grade.split(",")}

    def wanted(name: str, record: dict[str, Any]) -> bool:
        return (
            (concept is None or name == concept)
            and (grades is None or record["grade"] in grades)
            and (branch is None or branch in record["branches"])
        )

    def order(at: int) -> Any:
        record = lenses.records[at]
        if sort in ("name", "grade"):
            return (record["grade"] if sort == "grade" else "", lenses.concepts[at].lower())
        test: Mapping[str, Any] | None = record["test"]
        known: float | None = None if test is None or sort == "selectivity" else test[sort]["value"]
        value: float | None = record["selectivity"] if sort == "selectivity" else known
        return -1.0 if value is None else -float(value)

    kept = [at for at, name in enumerate(lenses.concepts) if wanted(name, lenses.records[at])]
    return sorted(kept, key=order)
