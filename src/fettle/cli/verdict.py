"""`fettle verdict`: one screen that says what to do, and on what evidence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fettle.cli.output import columns_option, console, percent, print_json
from fettle.cli.pattern_table import has_table, pattern_table, weakest_lines

if TYPE_CHECKING:
    from fettle.decide import Verdict

COLOURS = {
    "stop": "bold yellow",
    "continue": "bold green",
    "investigate": "bold red",
    "insufficient": "bold cyan",
}
EXIT_CODES = {"continue": 0, "stop": 10, "investigate": 20, "insufficient": 30}


def _print_schema(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if not asked:
        return
    from fettle.decide.verdict import schema_text

    click.echo(schema_text(), nl=False)
    ctx.exit()


@click.command("verdict")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON schema of --json, and nothing else.",
)
@columns_option
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def command(run: Path, columns: Path | None, as_json: bool) -> None:
    """Say whether to stop or go on with RUN, which checkpoint to use, and why.

    RUN is a run folder of fettle or of another tool: a Hugging Face output folder or trainer_state.json,
    a tinker-cookbook, LLaMA-Factory or TensorBoard log, or any metrics.jsonl.

    The exit code lets scripts act on it: 0 go on, 10 stop, 20 investigate, 30 insufficient
    evidence; 1 is a RUN that cannot be read.

    \b
    Example:
      fettle verdict runs/<run> --json
    """
    sys.exit(EXIT_CODES[print_verdict(run, columns=columns, as_json=as_json).action])


def print_verdict(run: Path, *, columns: Path | None = None, as_json: bool) -> Verdict:
    """Judge a run and print the verdict."""
    from fettle.api import open_run

    result = open_run(run, columns).verdict()
    if as_json:
        print_json(result.to_json())
    else:
        _show(result)
    return result


def _show(result: Verdict) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, lines in _rows(result):
        grid.add_row(label, Text("\n".join(lines)))
        if label == "Patterns" and has_table(result.evidence):
            grid.add_row("", pattern_table(result.evidence))
    grid.add_row("", "")
    colour = COLOURS[result.action]
    grid.add_row(Text("ACTION", style=colour), Text(result.recommendation, style=colour))
    out = console()
    out.print(Text.assemble((result.name, "bold"), f"  {result.state.replace('_', ' ')}"))
    out.print(grid)


def _rows(result: Verdict) -> list[tuple[str, list[str]]]:
    evidence = result.evidence
    rows: list[tuple[str, list[str]]] = []
    if evidence["judged_eval"]:
        rows.append(("Fixed eval", [_numbers(evidence["judged_eval"])]))
    trends = evidence["trend"]
    rows.append(
        (
            "Trend",
            [
                f"{name} {_standing(trends[key])}: {trends[key]['explanation']}"
                for key, name in (("exact_match", "EM"), ("cross_entropy", "CE"))
                if trends[key]["evals"]
            ]
            or ["not measured"],
        )
    )
    if evidence["choice"]:
        rows.append(("Best", [evidence["choice"]["explanation"]]))
    if evidence["patterns"]:
        lines = [_pattern(row, evidence["weakest_pattern"]) for row in evidence["patterns"]]
        rows.append(("Patterns", weakest_lines(evidence) if has_table(evidence) else lines))
    if evidence["samples"]:
        rows.append(("Samples", [evidence["samples"]["text"]]))
    if evidence["overfitting"]:
        sign = evidence["overfitting"]
        rows.append(
            (
                "Overfitting",
                [
                    f"since step {sign['since_step']}: CE rose {sign['cross_entropy_rise']:.3f} nats "
                    f"while train loss fell {sign['train_loss_fall']:.3f}"
                ],
            )
        )
    if evidence["layers"] and evidence["layers"]["top"]:
        rows.append(("Layers", [_most_moved(evidence["layers"])]))
    if evidence["concepts"]:
        rows.append(("Concepts", [_moved_concepts(evidence["concepts"])]))
    rows.append(("Why", result.reasons[:1]))
    if result.warnings:
        rows.append(("Warnings", result.warnings))
    alerts = [a for a in evidence["alerts"] if a["category"] not in _said_elsewhere(evidence)]
    if alerts:
        rows.append(("Alerts", [f"{a['level']}: {a['message']} {a['action']}" for a in alerts]))
    if result.not_measured:
        rows.append(("Not measured", [", ".join(result.not_measured)]))
    return rows


def _said_elsewhere(evidence: dict[str, Any]) -> set[str]:
    """Alerts that this screen has a line of its own for: what was open live still shows in the evidence."""
    said = {
        "overfitting": evidence["overfitting"],
        "val_gap": evidence["overfitting"],
        "calibration_drift": evidence["calibration_drift"],
        "not_comparable": evidence["train_and_eval_loss"]["comparable"] is False,
        "dead_lora_layers": evidence["layers"] and evidence["layers"]["dead"],
        "em_plateau": evidence["trend"]["exact_match"]["standing"] == "plateau",
    }
    return {category for category, shown in said.items() if shown}


def _standing(trend: dict[str, Any]) -> str:
    if trend["state"] == "insufficient":
        return "undecided" if trend["tested"] else "not tested"
    since = trend.get("since_step")
    return trend["state"] + (f" since step {since}" if since is not None else "")


def _numbers(numbers: dict[str, Any]) -> str:
    parts = [f"step {numbers['step']}"]
    if numbers["exact_match"] is not None:
        low, high = numbers["exact_match_low"], numbers["exact_match_high"]
        error = f" ± {50 * (high - low):.1f}" if low is not None and high is not None else ""
        parts.append(f"EM {percent(numbers['exact_match'])}{error}")
    if numbers["cross_entropy"] is not None:
        low, high = numbers["cross_entropy_low"], numbers["cross_entropy_high"]
        error = f" ± {(high - low) / 2:.3f}" if low is not None and high is not None else ""
        parts.append(f"CE {numbers['cross_entropy']:.3f}{error}")
    if numbers["expected_calibration_error"] is not None:
        parts.append(f"ECE {numbers['expected_calibration_error']:.3f}")
    if numbers["samples"]:
        parts.append(f"n = {numbers['samples']}")
    return "   ".join(parts)


def _most_moved(layers: dict[str, Any]) -> str:
    """`7, 6, 3 moved most (ΔW/W 0.52 %)` of the layers, the most first."""
    top = layers["top"]
    names, size = ", ".join(str(row["layer"]) for row in top), top[0]["relative"]
    if size is None:
        return f"{names} moved most"
    return f"{names} moved most (ΔW/W {100 * size:{'.0f' if size >= 0.1 else '.2g'}} %)"


def _moved_concepts(found: dict[str, Any]) -> str:
    """`music +1.9, rivers -0.8 moved, of 30 lenses on 48 texts`."""
    if not found["moved"]:
        return f"none of {found['lenses']} lenses moved beyond what any training does"
    names = ", ".join(
        row["concept"] + ("" if row["shift"] is None else f" {row['shift']:+.1f}") for row in found["top"]
    )
    more = f" and {found['moved'] - len(found['top'])} more" if found["moved"] > len(found["top"]) else ""
    return f"{names}{more} moved, of {found['lenses']} lenses on {found['texts']} texts"


def _pattern(row: dict[str, Any], weakest: str | None) -> str:
    text = str(row["text"])
    return f"{text[:-1]}, weakest)" if row["pattern"] == weakest and text.endswith(")") else text
