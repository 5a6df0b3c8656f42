"""`fettle train`: from a YAML file to a finished run."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fettle.cli.output import print_json

if TYPE_CHECKING:
    from fettle.config import Config
    from fettle.train.state import Outcome

# 75 is EX_TEMPFAIL of sysexits(3), "try again later": what schedulers requeue. 70 is EX_SOFTWARE.
EXIT_CODES = {"completed": 0, "early_stopped": 0, "interrupted": 75, "failed": 70}


@click.command("train")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The run folder. Default: runs/<date>_<model>.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key; may be given again."
)
@click.option("--new", is_flag=True, help="Start a new run even where one of this configuration is finished.")
@click.option("--estimate", "only_estimate", is_flag=True, help="Say what it takes and costs; train nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def command(
    config: Path,
    out: Path | None,
    overrides: tuple[str, ...],
    new: bool,
    only_estimate: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Fine-tune by CONFIG, a YAML file; the same command goes on where a stopped run was left.

    Exits with 0 when the run is complete or stopped early, 75 when it was
    interrupted and can go on, 70 when loss or gradient became NaN, 1 on bad input.

    \b
    Example:
      fettle train train.yaml --set training.learning_rate=1e-4
      fettle train train.yaml --set backend=tinker --estimate
    """
    from fettle.config import load_config

    loaded = load_config(config, overrides)
    if only_estimate:
        _print_estimate(loaded, as_json=as_json, progress=not quiet and sys.stderr.isatty())
        return
    from fettle.train.job import train

    reader = None
    if loaded.lenses is not None and loaded.backend == "local":
        from fettle.lens.live_drift import LiveDrift

        reader = LiveDrift.of(loaded.lenses)
    with TrainingProgress(enabled=not quiet and sys.stderr.isatty()) as progress:
        outcome = train(
            loaded,
            out=out,
            new=new,
            progress=progress.enabled,
            on_start=progress.start,
            on_step=progress.step,
            lenses=reader,
        )
    _print(outcome, as_json=as_json)
    sys.exit(EXIT_CODES.get(outcome.state, 1))


def _print(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(outcome))
        return
    click.echo(f"{outcome.state.replace('_', ' ')} at step {outcome.step}: {outcome.reason}")
    click.echo(f"run      {outcome.run}")
    click.echo(f"verdict  fettle verdict {outcome.run}")


def _print_estimate(config: Config, *, as_json: bool, progress: bool) -> None:
    from fettle.train.estimate import estimate

    found = estimate(config, progress=progress)
    cost = found.cost
    if as_json:
        print_json({**asdict(found), "cost": cost})
        return
    click.echo(f"steps       {found.steps:,}")
    click.echo(f"tokens      {found.train_tokens:,} trained, {found.completion_tokens:,} of them carry loss")
    click.echo(f"fixed eval  {found.evals} times, {found.eval_tokens:,} tokens in all")
    click.echo(f"answers     {found.sampled_tokens:,} tokens at most")
    if found.backend != "tinker":
        return
    if cost is None:
        click.echo(f"cost        unknown: no price of {found.model} is known. Give tinker.prices")
        return
    of = "by tinker.prices" if found.prices_as_of is None else f"by prices of {found.prices_as_of}"
    parts = ", ".join(f"{kind} ${cost[kind]:,.2f}" for kind in ("train", "evals", "answers"))
    click.echo(f"cost        ${cost['total']:,.2f} at most ({parts}), {of}")


class TrainingProgress:
    """One bar on standard error: steps done, loss, time left."""

    def __init__(self, *, enabled: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.enabled = enabled
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not enabled,
        )

    def __enter__(self) -> TrainingProgress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def start(self, done: int, total: int) -> None:
        self._task = self._progress.add_task("training", total=total, completed=done, loss="—")
        self._progress.start()

    def step(self, done: object) -> None:
        from fettle.train.pipeline import DoneStep

        assert isinstance(done, DoneStep)
        self._progress.update(self._task, completed=done.step, loss=f"{done.result.loss:.4f}")
