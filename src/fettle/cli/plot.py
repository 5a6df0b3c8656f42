"""`fettle plot`: training curves as a PNG."""

from __future__ import annotations

from pathlib import Path

import click

from fettle.cli.output import columns_option, print_json, warn_unread


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
@columns_option
@click.option("--json", "as_json", is_flag=True, help="Print the path as JSON.")
def command(
    run: Path, output: Path | None, dpi: int, ema_alpha: float, columns: Path | None, as_json: bool
) -> None:
    """Draw train and validation loss, exact match and throughput of RUN.

    RUN is a run folder of fettle or of another tool: a Hugging Face output folder or trainer_state.json,
    a tinker-cookbook, LLaMA-Factory or TensorBoard log, or any metrics.jsonl.

    \b
    Example:
      fettle plot runs/<run> -o curves.png
    """
    from fettle.report import plot_curves
    from fettle.runs import RunReader

    reader = RunReader(run, columns)
    warn_unread(reader)
    if output is None:
        output = (
            reader.path / "plots" / "training_curves.png"
            if reader.kind == "fettle"
            else Path("training_curves.png")
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
