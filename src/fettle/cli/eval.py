"""`fettle eval`: checkpoints on held-out chats."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from fettle.cli.eval_output import print_evaluation, progress
from fettle.cli.output import print_json


@click.command("eval")
@click.argument("targets", nargs=-1, metavar="RUN|MODEL...")
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
@click.option("--generate", is_flag=True, help="Have the last answer of each chat generated.")
@click.option(
    "--checker", "checkers", multiple=True, metavar="KIND",
    help="Judge answers: exact, normalised, number, regex, choice, json, math, code, judge or custom.",
)  # fmt: skip
@click.option("-n", "generation_n", type=int, help="Answers of each prompt; more than one for pass@k.")
@click.option("--temperature", "generation_temperature", type=float, help="0 is greedy.")
@click.option("--top-p", "generation_top_p", type=float)
@click.option("--max-new-tokens", "generation_max_new_tokens", type=int, help="Of the longest answer.")
@click.option(
    "--stop", "generation_stop", multiple=True, help="A text that ends an answer; may be given again."
)
@click.option(
    "--endpoint", "endpoint_base_url", metavar="URL",
    help="An OpenAI-compatible API (vLLM, SGLang, llama.cpp) to evaluate as well, up to and with /v1.",
)  # fmt: skip
@click.option("--endpoint-model", metavar="NAME", help="The model's name, as the endpoint knows it.")
@click.option(
    "--tokenizer", "endpoint_tokenizer", metavar="FOLDER|ID",
    help="The endpoint's own, for EM and CE where it tells log-probabilities. Default: that of RUN.",
)  # fmt: skip
@click.option("--tasks", "task_names", metavar="A,B", help="Tasks of lm-evaluation-harness to run as well.")
@click.option("--include-path", "task_include_path", metavar="DIR", help="Tasks of your own.")
@click.option("--num-fewshot", "task_num_fewshot", type=int, help="Examples before each question of a task.")
@click.option("--limit", "task_limit", type=float, help="Documents of each task; below 1 their share.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any key of a profile.")
@click.option(
    "--parallel", metavar="auto|N",
    help="Run checkpoints side by side on so many workers of Ray. auto: as many as fit into the memory.",
)  # fmt: skip
@click.option("--ray-address", help="A Ray cluster to run them on. Default: Ray on this machine.")
@click.option("--watch", is_flag=True, help="Evaluate checkpoints as they appear, until the run ends.")
@click.option(
    "--watch-interval", type=click.FloatRange(min=0.1), default=5.0, show_default=True,
    help="Seconds between two looks for a checkpoint.",
)  # fmt: skip
@click.option(
    "--stop-on-regression", is_flag=True,
    help="With --watch: have the trainer stop once a checkpoint is worse than one before it.",
)  # fmt: skip
@click.option(
    "--mirror", "mirrors", metavar="A,B",
    help="Tell others each checkpoint's numbers over its step: tensorboard, wandb, mlflow, trackio.",
)  # fmt: skip
@click.option("--report/--no-report", default=True, help="Whether report.html is written.")
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
    generate: bool,
    checkers: tuple[str, ...],
    overrides: tuple[str, ...],
    parallel: str | None,
    ray_address: str | None,
    watch: bool,
    watch_interval: float,
    stop_on_regression: bool,
    report: bool,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Evaluate checkpoints by teacher forcing: exact match, cross-entropy, calibration, entropy.

    With --generate or --checker the model answers as well, and its answers are judged.

    RUN is the folder of a run of fettle or of Hugging Face `Trainer`; MODEL a model or adapter folder, or a
    hub id. The base is loaded once and adapters are swapped on it. Results and report.html go to
    eval_runs/run_<time>_<data>; the same command goes on after Ctrl-C, and runs only what changed since.

    With --endpoint a model behind an OpenAI-compatible API answers the same samples, beside RUN or alone;
    prices, concurrency and the key's environment variable are keys of `endpoint` (--set endpoint.KEY=VALUE).

    With --watch the checkpoints of a run that trains are evaluated as they appear, on another device if you
    name one; results go into the run folder, where page, alerts and verdict see them.

    \b
    Example:
      fettle eval runs/<run>
      fettle eval runs/<run> --checkpoints best,last --data hard.jsonl --profile quick_test
      fettle eval runs/<run> --checker number -n 4 --temperature 0.7
      fettle eval runs/<run> --watch --data hard.jsonl --stop-on-regression
      fettle eval runs/<run> --endpoint http://127.0.0.1:8000/v1 --endpoint-model NAME --checker number
      fettle eval runs/<run> --checkpoints best --tasks hellaswag,arc_easy --limit 200
    """
    from fettle.config import evaluation_config, evaluation_profiles

    if list_profiles:
        print_json(evaluation_profiles(profiles))
        return
    _agree(watch=watch, targets=targets, stop_on_regression=stop_on_regression)
    given = _given(flags, checkers, generate=generate)
    config = evaluation_config(profile, given, profiles, overrides)
    if not targets and (watch or config.endpoint is None):
        raise click.UsageError("Missing argument 'RUN|MODEL...': name what is to be evaluated, or --endpoint")

    from fettle.api import evaluate, evaluate_while_training
    from fettle.runs import configure_logging

    with progress(enabled=not quiet and sys.stderr.isatty()) as on_progress:
        # Here, where lines are written above the bar.
        configure_logging(None, level="INFO" if watch else "WARNING")
        if watch:
            evaluation = evaluate_while_training(
                targets[0], data=data, config=config, poll_seconds=watch_interval, report=report,
                stop_on_regression=stop_on_regression, on_progress=on_progress,
            )  # fmt: skip
        else:
            evaluation = evaluate(
                *targets, data=data, checkpoints=checkpoints, config=config, out=out, report=report,
                parallel=_workers(parallel), ray_address=ray_address, on_progress=on_progress,
            )  # fmt: skip
    print_evaluation(evaluation, as_json=as_json)
    sys.exit(0 if evaluation.rows() else 1)


def _agree(*, watch: bool, targets: tuple[str, ...], stop_on_regression: bool) -> None:
    """Raises UsageError for options that do not go together."""
    if not watch:
        if stop_on_regression:
            raise click.UsageError("--stop-on-regression needs --watch")
        return
    if len(targets) > 1:
        raise click.UsageError("--watch takes one run")
    source = click.get_current_context().get_parameter_source
    for name in ("checkpoints", "out", "parallel", "ray_address"):
        if source(name) is not ParameterSource.DEFAULT:
            option = f"--{name.replace('_', '-')}"
            why = (
                "results go into the run folder" if name == "out" else "checkpoints are taken as they appear"
            )
            raise click.UsageError(f"{option} does not go with --watch: {why}")


def _workers(text: str | None) -> int | None:
    """0 where memory decides, None where one process does all."""
    if text in (None, "auto"):
        return None if text is None else 0
    if not text.isdecimal() or not int(text):
        raise click.BadParameter("must be auto, or the number of workers", param_hint="--parallel")
    return int(text)


def _given(flags: dict[str, Any], checkers: tuple[str, ...], *, generate: bool) -> dict[str, Any]:
    """Flags that were given, by key and section of a profile."""
    given = {key: value for key, value in flags.items() if value not in (None, ())}
    names = [key for key in given if key.startswith("generation_")]
    generation = {name.removeprefix("generation_"): given.pop(name) for name in names}
    if "stop" in generation:
        generation["stop"] = list(generation["stop"])
    if generate or generation:
        given["generation"] = generation
    for key in ("task_names", "mirrors"):
        if key in given:
            given[key] = given[key].split(",")
    for section, prefix in (("tasks", "task_"), ("endpoint", "endpoint_")):
        keys = {key.removeprefix(prefix): given.pop(key) for key in list(given) if key.startswith(prefix)}
        if keys:
            given[section] = keys
    if checkers:
        given["checkers"] = {kind: {"kind": kind} for kind in checkers}
    return given
