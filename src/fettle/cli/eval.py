"""`fettle eval`: checkpoints on held-out chats."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fettle.cli.output import console, number, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from fettle.evaluate.evaluation import Evaluation, Progress
    from fettle.evaluate.subject import Skipped, Subject


@click.command("eval")
@click.argument("targets", nargs=-1, required=True, metavar="RUN|MODEL...")
@click.option("--profile", metavar="NAME", help="A named set of settings. Default: full_evaluation.")
@click.option(
    "--profiles",
    type=click.Path(path_type=Path),
    help="YAML with more. Default: evaluation_profiles.yaml.",
)
@click.option("--list-profiles", is_flag=True, help="Show all profiles and stop.")
@click.option("--checkpoints", default="all", show_default=True, help="all, best, last, or steps: 10,20,30.")
@click.option(
    "--data", "data", type=click.Path(path_type=Path), multiple=True, metavar="FILE",
    help="Held-out JSONL; may be given again. Default: the run's data.fixed_eval.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("eval_runs"), show_default=True)
@click.option("--subset-frac", type=float, help="A share of the data, the same for all checkpoints.")
@click.option("--max-samples", type=int, help="At most so many samples of each file.")
@click.option("--seed", type=int, help="Of the draw.")
@click.option("--max-seq-length", type=int, help="Tokens of the longest sample.")
@click.option("--batch-tokens", type=int, help="Tokens of one forward pass. Default: found from the memory.")
@click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16", "float16"]))
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]))
@click.option("--base/--no-base", default=None, help="Whether to evaluate the base model too.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def command(
    targets: tuple[str, ...],
    profile: str | None,
    profiles: Path | None,
    list_profiles: bool,
    checkpoints: str,
    data: tuple[Path, ...],
    out: Path,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Evaluate checkpoints by teacher forcing: exact match, cross-entropy, calibration, entropy.

    RUN is the folder of a run of fettle or of Hugging Face `Trainer`; MODEL a model or adapter folder, or a
    hub id. The base is loaded once and adapters are swapped on it. Results go to eval_runs/run_<time>_<data>;
    the same command goes on after Ctrl-C, and runs only what changed since.

    \b
    Example:
      fettle eval runs/<run>
      fettle eval runs/<run> --checkpoints best,last --data hard.jsonl --profile quick_test
    """
    from fettle.config import evaluation_config, evaluation_profiles

    if list_profiles:
        print_json(evaluation_profiles(profiles))
        return
    config = evaluation_config(profile, {k: v for k, v in flags.items() if v is not None}, profiles)

    from fettle.evaluate.evaluation import evaluate
    from fettle.runs import configure_logging

    subjects, skipped = _subjects(targets, checkpoints, base=config.base)
    files = list(data) or _fixed_evals(targets)
    configure_logging(None, level="WARNING")
    with _progress(enabled=not quiet and sys.stderr.isatty()) as on_progress:
        evaluation = evaluate(subjects, files, config, out=out, skipped=skipped, on_progress=on_progress)
    _print(evaluation, as_json=as_json)
    sys.exit(0 if evaluation.results else 1)


def _subjects(targets: tuple[str, ...], which: str, *, base: bool) -> tuple[list[Subject], list[Skipped]]:
    from dataclasses import replace

    from fettle.api import open_run
    from fettle.evaluate.subject import find_subjects
    from fettle.runs import RunReader

    subjects: list[Subject] = []
    skipped: list[Skipped] = []
    for target in targets:
        best = None
        if "best" in which.split(",") and RunReader.is_run(Path(target)):
            chosen = open_run(target).verdict().checkpoint
            best = chosen["step"] if chosen else None
        found, left_out = find_subjects(target, which, base=base, best=best)
        if len(targets) > 1 and len(found) > 1:
            prefix = Path(target).name
            found = [replace(subject, name=f"{prefix}-{subject.name}") for subject in found]
            left_out = [replace(skip, name=f"{prefix}-{skip.name}") for skip in left_out]
        subjects += found
        skipped += left_out
    return subjects, skipped


def _fixed_evals(targets: tuple[str, ...]) -> list[Path]:
    """The held-out files that the runs were judged on."""
    from fettle.errors import DataError
    from fettle.runs import RunReader

    found: dict[Path, None] = {}
    for target in targets:
        if not RunReader.is_run(Path(target)):
            continue
        fixed_eval = RunReader(Path(target)).fixed_eval_file()
        if fixed_eval is not None:
            found[fixed_eval] = None
    if not found:
        raise DataError(f"{', '.join(targets)}: names no held-out file. Give one: --data valid.jsonl")
    return list(found)


def _print(evaluation: Evaluation, *, as_json: bool) -> None:
    rows = evaluation.rows()
    if as_json:
        skipped = [asdict(skip) for skip in evaluation.skipped]
        print_json({"folder": str(evaluation.folder), "results": rows, "skipped": skipped})
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    several = len({row["data"] for row in rows}) > 1
    for name in ("", *(("data",) if several else ()), "EM", "CE", "ECE", "entropy", "samples", "run now"):
        table.add_column(name, justify="left" if name in ("", "data") else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["name"],
            *((row["data"],) if several else ()),
            _with_interval(row, "exact_match", scale=100, digits=1, unit=" %"),
            _with_interval(row, "cross_entropy", digits=3),
            number(row["expected_calibration_error"], 3),
            number(row["entropy"], 3),
            str(row["samples"]),
            str(row["samples_run"]),
        )
    console().print(table)
    for skip in evaluation.skipped:
        click.echo(f"skipped {skip.name}: {skip.reason}")
    click.echo(f"\nresults  {evaluation.folder}")


def _with_interval(row: dict[str, Any], key: str, *, digits: int, scale: float = 1, unit: str = "") -> str:
    """Value and half its 95 % interval."""
    value, low, high = (row[name] for name in (key, f"{key}_low", f"{key}_high"))
    if value is None:
        return "—"
    half = "" if low is None else f" ± {scale * (high - low) / 2:.{digits}f}"
    return f"{scale * value:.{digits}f}{unit}{half}"


@contextmanager
def _progress(*, enabled: bool) -> Generator[Callable[[Progress], None] | None]:
    """One bar over all checkpoints, one over the samples of this one."""
    if not enabled:
        yield None
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[unit]}"), bars.TimeRemainingColumn(),
    )  # fmt: skip
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        overall = bar.add_task("evaluating", total=None, unit="checkpoints")
        inner = bar.add_task("", total=None, unit="tokens")

        def show(at: Progress) -> None:
            done = at.number - 1 + at.tokens_done / max(1, at.tokens)
            bar.update(overall, total=at.subjects, completed=round(done, 2))
            bar.update(inner, description=at.subject, total=at.tokens, completed=at.tokens_done)

        yield show
