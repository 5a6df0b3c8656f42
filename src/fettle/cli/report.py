"""`fettle report`: a run as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from fettle.errors import RunError


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True)
def command(run: Path, out: Path) -> None:
    """Write RUN as one HTML file: the page of `fettle serve`, with its numbers in it.

    It opens from disk, loads nothing, and can be sent along. RUN is a run folder of fettle or of another
    tool, or a log file; of a folder of `fettle eval` its report is written again.

    \b
    Example:
      fettle report runs/<run> -o report.html
    """
    from fettle.evaluation.results_folder import ResultsFolder
    from fettle.runs.summary import summarise_run
    from fettle.server.context import Context, Named
    from fettle.server.listing import ListedRun
    from fettle.server.report import report_page
    from fettle.server.settings import Settings

    if not run.exists():
        raise RunError(f"{run}: there is no such run")
    if ResultsFolder.is_one(run):
        from fettle.report.evaluation import write_evaluation_report

        click.echo(write_evaluation_report(run))
        return
    path = run.resolve()
    # Who names a run means what its links lead to, wherever that is.
    server = Context.of(Settings(Path(path.anchor)))
    listed = ListedRun(path.name or "run", path, summarise_run(path))
    try:
        page = report_page(server, Named(listed, server.runs.get(path)))
    except FileNotFoundError as error:
        raise RunError("the page is not part of this installation: it is not built") from error
    try:
        out.write_bytes(page)
    except OSError as error:
        raise RunError(f"{out}: cannot be written: {error.strerror or error}. Give another --out.") from error
    click.echo(out)
