"""`fettle checkpoints --prune`: what the retention rules keep, and what they remove."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fettle.cli.output import console, megabytes, print_json
from fettle.errors import ConfigError

if TYPE_CHECKING:
    from fettle.api import Run
    from fettle.config import CheckpointsConfig
    from fettle.decide import Retention


def prune(reader: Run, rules: Mapping[str, int | None], *, yes: bool, as_json: bool) -> None:
    """Show what becomes of each checkpoint, and remove what nothing keeps where `yes` says so."""
    from fettle.decide import retain
    from fettle.runs import discard_checkpoints, discarded, empty_trash

    policy = _policy(reader, rules)
    rows = retain(policy, reader.checkpoints(), reader.evals(), resume_step=_resume_step(reader))
    removed = [row for row in rows if not row.keep]
    remote = _kept_by_service(reader, removed)
    folders = {row.path.parent for row in rows}
    left = [path for folder in sorted(folders) for path in discarded(folder)]
    unforgotten: list[str] = []
    if yes:
        # Asked for first: where the service is out of reach, its names must not be lost here.
        forget = _service_forgets(reader) if remote else None
        discard_checkpoints([row.path for row in removed])
        empty_trash(folders)
        unforgotten = [] if forget is None else _forget(forget, remote)
    if as_json:
        print_json(
            {
                "run": reader.name,
                "dry_run": not yes,
                "rules": policy.model_dump(),
                "checkpoints": [row.to_json() for row in rows],
                "on_service": unforgotten if yes else remote,
                "in_trash": [] if yes else [str(path) for path in left],
            }
        )
    else:
        _show(reader.name, rows, left, yes=yes)
        _show_service(remote, unforgotten, yes=yes)


def _policy(reader: Run, rules: Mapping[str, int | None]) -> CheckpointsConfig:
    """The rules given on the command line, else those of the run. Raises ConfigError without any."""
    from pydantic import ValidationError

    from fettle.config import CheckpointsConfig
    from fettle.runs import RunFolder

    given = {name: value for name, value in rules.items() if value is not None}
    if given:
        return CheckpointsConfig(**given)
    section: Any = (reader.config() or {}).get("checkpoints") or {}
    try:
        policy = CheckpointsConfig.model_validate(section)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in ("checkpoints", *first["loc"]))
        raise ConfigError(f"{RunFolder(reader.path).config_path}: {key}: {first['msg']}") from error
    if policy.keeps_all:
        raise ConfigError(
            f"{reader.name} has no rule for which checkpoints to keep. Give --keep-best K, --keep-latest N "
            "or --keep-every-steps STEPS, or a `checkpoints` section in its configuration"
        )
    return policy


def _kept_by_service(reader: Run, removed: list[Retention]) -> list[str]:
    """URLs under which a service keeps the checkpoints that go."""
    paths = {row.path for row in removed}
    return [c.url for c in reader.checkpoints() if c.url is not None and c.path in paths]


def _service_forgets(reader: Run) -> Callable[[str], None]:
    """What has the service delete a URL. Raises where it cannot be used."""
    from fettle.config import load_config
    from fettle.runs import RunFolder
    from fettle.train.tinker.extra import require_tinker_extra

    require_tinker_extra()
    from fettle.train.tinker.service import Service

    return Service(load_config(RunFolder(reader.path).config_path)).forget


def _forget(forget: Callable[[str], None], urls: list[str]) -> list[str]:
    """Why the service still keeps some of them, one line each."""
    from fettle.errors import RunError

    problems: list[str] = []
    for url in urls:
        try:
            forget(url)
        except RunError as error:
            problems.append(str(error))
    return problems


def _show_service(remote: list[str], unforgotten: list[str], *, yes: bool) -> None:
    for problem in unforgotten:
        click.echo(f"fettle: still kept by the service: {problem}", err=True)
    if remote and not yes:
        click.echo(f"{len(remote)} of them on the service as well")
    elif remote:
        click.echo(f"the service deleted {len(remote) - len(unforgotten)} of {len(remote)}")


def _resume_step(reader: Run) -> int | None:
    """Step of the newest whole checkpoint: where newer ones are damaged, training goes on from it."""
    from fettle.runs import RunFolder, latest_checkpoint

    if reader.kind != "fettle":
        return None
    path, _ = latest_checkpoint(RunFolder(reader.path).checkpoints_path)
    return None if path is None else int(path.name.rsplit("-", 1)[1])


def _show(name: str, rows: list[Retention], left: list[Path], *, yes: bool) -> None:
    from rich.table import Table

    if not rows:
        click.echo(f"{name} has no checkpoints on this disk")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("step", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("why")
    verb = "removed" if yes else "would go"
    for row in rows:
        why = ", ".join(row.reasons) or "no rule keeps it"
        table.add_row(str(row.step), megabytes(row.size_bytes), "stays" if row.keep else verb, why)
    console().print(table)
    removed = [row for row in rows if not row.keep]
    size = megabytes(sum(row.size_bytes or 0 for row in removed))
    if left:
        emptied = "emptied as well" if yes else "--yes empties it as well"
        click.echo(f"\n{len(left)} in the trash of a removal that was cut short; {emptied}")
    if yes:
        click.echo(f"\nremoved {len(removed)} of {len(rows)} checkpoints, {size}")
    elif removed:
        click.echo(
            f"\n{len(removed)} of {len(rows)} would go, {size}. Nothing was removed: add --yes to do it"
        )
    else:
        click.echo("\nnothing would go")
