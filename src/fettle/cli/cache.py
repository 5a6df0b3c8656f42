"""`fettle cache`: what evaluations keep, and how to get rid of it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

import click

from fettle.cli.output import megabytes, print_json


@click.group("cache")
def command() -> None:
    """See or prune what evaluations keep: per-token scores by content of weights and samples.

    It lies in $FETTLE_CACHE, by default ~/.cache/fettle, and can be removed at any time.

    \b
    Example:
      fettle cache info
      fettle cache prune --unused-days 30
    """


@command.command("info")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool) -> None:
    """Where the cache lies and what it holds."""
    from fettle.evaluation.cache import ScoreCache

    found = ScoreCache().info()
    if as_json:
        print_json(asdict(found))
        return
    click.echo(f"{found.path}\n{found.entries} samples scored, {megabytes(found.bytes)}")
    if found.oldest is not None:
        click.echo(f"the oldest was last used {datetime.fromtimestamp(found.oldest):%Y-%m-%d}")


@command.command("prune")
@click.option(
    "--unused-days", type=click.FloatRange(0), default=30.0, show_default=True,
    help="Remove what was not used for so many days; 0 removes all.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune(unused_days: float, as_json: bool) -> None:
    """Remove what was not used lately."""
    from fettle.evaluation.cache import ScoreCache

    cache = ScoreCache()
    removed = cache.prune(unused_days)
    if as_json:
        print_json({"removed": removed, **asdict(cache.info())})
    else:
        click.echo(f"removed {removed} samples; {megabytes(cache.info().bytes)} are left")
