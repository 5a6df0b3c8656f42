"""What `fettle eval` shows: progress while it works, a table of results in the end."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fettle.cli.output import console, number, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from fettle.evaluation.results import Evaluation, Progress, TaskResult


TOKENS = ("prompt_tokens", "completion_tokens")


def print_evaluation(evaluation: Evaluation, *, as_json: bool) -> None:
    """A table, or JSON."""
    rows = evaluation.rows()
    if as_json:
        skipped = [asdict(skip) for skip in evaluation.skipped]
        spent = {key: evaluation.metadata.get(key) for key in ("endpoint", "judges", "cost")}
        print_json({"folder": str(evaluation.folder), "results": rows, "skipped": skipped, **spent})
        return
    if evaluation.results:
        _results_table(rows[: len(evaluation.results)])
    if evaluation.tasks:
        _tasks_table(evaluation.tasks)
    for line in _unscored(evaluation):
        click.echo(line)
    for skip in evaluation.skipped:
        click.echo(f"skipped {skip.name}: {skip.reason}")
    click.echo("")
    for line in _spent(evaluation.metadata):
        click.echo(line)
    click.echo(f"results  {evaluation.folder}")


def _spent(metadata: dict[str, Any]) -> list[str]:
    """What was asked of endpoint and judges, and what all of it cost; nothing of what is not known."""
    told: dict[str, Any] = {"": metadata.get("endpoint"), **(metadata.get("judges") or {})}
    lines = [f"asked    {name}{': ' * bool(name)}{_asked(asked)}" for name, asked in told.items() if asked]
    if (cost := metadata.get("cost")) is not None:
        lines.append(f"cost     {cost:,.4f}")
    return lines


def _asked(asked: dict[str, Any]) -> str:
    if not asked["requests"]:
        return "nothing"
    tokens = ["?" if asked[key] is None else f"{asked[key]:,}" for key in TOKENS]
    again = f", {asked['retries']} retries" if asked["retries"] else ""
    return f"{asked['requests']:,} requests, {tokens[0]} + {tokens[1]} tokens{again}"


def _results_table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    several = len({row["data"] for row in rows}) > 1
    rates = _pass_rates(rows)
    # Beside what answers are worth, numbers of the second row have no room.
    scored = () if rates else ("expected_calibration_error", "entropy")
    titles = [*(("data",) if several else ()), *rates, "EM", "CE", *(("ECE", "entropy") if scored else ())]
    # Where the terminal is narrow, long names take two lines: no number is cut.
    table.add_column("", overflow="fold")
    for name in (*titles, "samples", "run"):
        text = name == "data"
        table.add_column(name, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for row in rows:
        table.add_row(
            row["name"],
            *((row["data"],) if several else ()),
            *(_with_interval(row, key, scale=100, digits=1, unit=" %") for key in rates.values()),
            _with_interval(row, "exact_match", scale=100, digits=1, unit=" %"),
            _with_interval(row, "cross_entropy", digits=3),
            *(number(row[key], 3) for key in scored),
            str(row["samples"]),
            str(row["samples_run"] + row.get("answers_run", 0)),
        )
    console().print(table)


def _tasks_table(found: list[TaskResult]) -> None:
    """One row a checkpoint, one column a task and metric, with standard errors."""
    from rich.table import Table

    columns = dict.fromkeys((r.task, m) for r in found for m in r.metrics if "_stderr" not in m)
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("")
    for task, metric in columns:
        table.add_column(f"{task}\n{metric}", justify="right")
    by_name: dict[str, dict[str, dict[str, float]]] = {}
    for result in found:
        by_name.setdefault(result.subject.name, {})[result.task] = result.metrics
    for name, tasks in by_name.items():
        table.add_row(name, *(_with_error(tasks.get(task, {}), metric) for task, metric in columns))
    console().print(table)


def _with_error(metrics: dict[str, float], metric: str) -> str:
    name, bracket, rest = metric.partition(" (")
    value, error = metrics.get(metric), metrics.get(f"{name}_stderr{bracket}{rest}")
    return "—" if value is None else f"{value:.4f}" + ("" if error is None else f" ± {error:.4f}")


def _unscored(evaluation: Evaluation) -> list[str]:
    """What no checker could judge, and the commonest reason; one line a checker."""
    lesser = _lesser()
    counts: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {}
    for result in evaluation.results:
        for key, value in result.summary.items():
            if key.endswith("_unscored_reasons") and not key.endswith(lesser):
                name = key.removesuffix("_unscored_reasons")
                counts[name] += result.summary[f"{name}_unscored"]
                reasons.setdefault(name, Counter()).update(value)
    return [f"{name}: {n} unscored: {reasons[name].most_common(1)[0][0]}" for name, n in counts.items()]


def _pass_rates(rows: list[dict[str, Any]]) -> dict[str, str]:
    """By title: the share each checker found right, and that of the largest k beside it."""
    lesser = _lesser()
    found: dict[str, str] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        if key.endswith(lesser):
            continue
        if key.endswith("_pass_rate"):
            found[key.removesuffix("_pass_rate")] = key
        elif at := re.search(r"_pass@(\d+)$", key):
            name = key[: at.start()]
            found = {title: k for title, k in found.items() if not title.startswith(f"{name} @")}
            found[f"{name} @{at[1]}"] = key
    return found


def _lesser() -> tuple[str, ...]:
    """How the keys of other rankings of the same choices end: those stand in the files."""
    from fettle.evaluation.choice_ranking import WAYS

    return tuple(f"{way}_{what}" for way in WAYS if way for what in ("pass_rate", "unscored_reasons"))


def _with_interval(row: dict[str, Any], key: str, *, digits: int, scale: float = 1, unit: str = "") -> str:
    """Value and half its 95 % interval."""
    value, low, high = (row[name] for name in (key, f"{key}_low", f"{key}_high"))
    if value is None:
        return "—"
    half = "" if low is None else f" ± {scale * (high - low) / 2:.{digits}f}"
    return f"{scale * value:.{digits}f}{unit}{half}"


@contextmanager
def progress(*, enabled: bool) -> Generator[Callable[[Progress], None] | None]:
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
        inner = bar.add_task("", total=None, unit="")

        def show(at: Progress) -> None:
            bar.update(overall, total=at.subjects, completed=at.number - 1)
            bar.update(
                inner, description=at.subject, total=at.total, completed=at.done, unit=at.stage, refresh=True
            )

        yield show
