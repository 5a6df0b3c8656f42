"""`fettle plot`: training curves as a PNG."""

from __future__ import annotations

from pathlib import Path

import click

from fettle.cli.output import print_json


@click.command("plot")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Default: plots/training_curves.png of the run."
)
@click.option("--dpi", default=150, show_default=True, type=click.IntRange(30, 1200))
@click.option(
    "--ema-alpha",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Smoothing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the path as JSON.")
def command(run: Path, output: Path | None, dpi: int, ema_alpha: float, as_json: bool) -> None:
    """Draw train and validation loss, exact match and throughput of RUN.

    RUN is a run folder, a metrics.jsonl, a Hugging Face output folder or a trainer_state.json.

    \b
    Example:
      fettle plot runs/<run> -o curves.png
    """
    from fettle.report import plot_curves
    from fettle.runs import RunReader

    reader = RunReader(run)
    if output is None:
        output = (
            run / "plots" / "training_curves.png" if reader.kind == "fettle" else Path("training_curves.png")
        )
    early_stops = reader.records("early_stop")
    path = plot_curves(
        reader.columns("train"),
        reader.evals(per_sample=False),
        output=output,
        dpi=dpi,
        ema_alpha=ema_alpha,
        early_stop=early_stops[-1] if early_stops else None,
        title=reader.name,
    )
    if as_json:
        print_json({"path": str(path)})
    else:
        click.echo(path)
