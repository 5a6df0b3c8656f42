"""Which run, how it stands, how far it is, and what to do with it."""

from __future__ import annotations

from rich.style import Style
from rich.text import Text

from fettle.runs.numbers import number
from fettle.runs.records import LIVE
from fettle.watch.facts import DataSet, Facts
from fettle.watch.panels import Panel
from fettle.watch.text import (
    BAD,
    BOLD,
    CALM,
    FAINT,
    GOOD,
    NOTICE,
    PLAIN,
    apart,
    bar,
    clean,
    duration,
    fit,
    joined,
    line,
    percent,
    whole,
    wrapped,
)

STATES: dict[str, tuple[str, Style]] = {
    "running": ("▶", GOOD),
    "paused": ("‖", NOTICE),
    "completed": ("✓", GOOD),
    "early_stopped": ("■", CALM),
    "interrupted": ("■", NOTICE),
    "crashed": ("✗", BAD),
    "failed": ("✗", BAD),
}
ACTIONS = {"stop": NOTICE, "continue": GOOD, "investigate": BAD, "insufficient": CALM}


def _draw(facts: Facts, width: int, height: int) -> list[Text]:
    run = facts.summary
    sign, style = ("✗", BAD) if facts.gone else STATES.get(run.state, ("?", FAINT))
    word = "gone" if facts.gone else run.state.replace("_", " ")
    right = line((f"{sign} {word}", style + BOLD))
    if facts.asked:
        right = line((f"{clean(facts.asked)} asked  ", NOTICE)) + right
    name = line((clean(run.name), BOLD), (f"  {run.kind}" if run.kind != "fettle" else "", FAINT))
    told = [
        clean(run.model) if run.model else "model not named",
        _data("train", facts.train_data),
        _data("eval", facts.eval_data),
    ]
    if not facts.train_data and not facts.eval_data:
        told.append("data not named")
    lines = [apart(name, right, width), fit(line((joined(told), FAINT)), width), _progress(facts, width)]
    return lines[:height]


def _data(name: str, data: DataSet | None) -> str:
    if data is None:
        return ""
    count = "" if data.examples is None else f" ({whole(data.examples)})"
    return f"{name} {clean(data.name)}{count} {clean(data.fingerprint or 'no fingerprint')}"


def _progress(facts: Facts, width: int) -> Text:
    run = facts.summary
    parts = ["step not measured" if run.step is None else f"step {whole(run.step)}"]
    if run.total_steps:
        parts[0] += f" of {whole(run.total_steps)}"
    if run.epoch is not None:
        parts.append(f"epoch {run.epoch:.2f}")
    if run.state in LIVE:
        known = run.eta_seconds is not None
        parts.append(f"{duration(run.eta_seconds)} left" if known else "time left not measured")
    elif reason := facts.status.get("reason"):
        parts.append(clean(reason))
    if run.started_at is not None and run.updated_at is not None and run.updated_at > run.started_at:
        spent = duration(run.updated_at - run.started_at)
        parts.append(f"{spent} so far" if run.state in LIVE else f"after {spent}")
    text = joined(parts)
    if facts.reading:
        text += " · reading the log …"
    share = run.step / run.total_steps if run.step is not None and run.total_steps else None
    if share is None:
        return fit(line(text), width)
    room = min(max(10, width - len(text) - 9), max(10, width // 2))
    filled = bar(share, room, GOOD if run.state in LIVE else PLAIN)
    return fit(filled + line((f" {percent(share, 0):>5}", BOLD), f"  {text}"), width)


def _verdict(facts: Facts, width: int, height: int) -> list[Text]:
    if facts.problems and (facts.gone or facts.verdict is None):
        return [fit(line(("✗ ", BAD + BOLD), clean(facts.problems[0])), width)]
    if facts.verdict is None:
        waiting = "reading the log …" if facts.reading else "judging …"
        return [fit(line((clean(facts.verdict_problem or waiting), FAINT)), width)]
    action = str(facts.verdict["action"])
    tag = f" {action.upper()} "
    style = ACTIONS.get(action, PLAIN) + BOLD
    first, *more = wrapped(clean(facts.verdict["recommendation"]), width - len(tag) - 1, max(1, height))
    lines = [line((tag, style + Style(reverse=True)), (f" {first}", BOLD))]
    lines += [line(" " * (len(tag) + 1), (part, BOLD)) for part in more]
    for reason in [*facts.verdict["reasons"], *facts.problems]:
        lines += [
            line(" " * (len(tag) + 1), (part, FAINT)) for part in wrapped(clean(reason), width - len(tag) - 1)
        ]
    return [fit(text, width) for text in lines[:height]]


def paused(facts: Facts) -> bool:
    """Whether the run waits for a person."""
    return facts.summary.state == "paused"


def monitoring(facts: Facts) -> float | None:
    """Share of step time that goes into recording, as the trainer measured it."""
    return number(facts.status.get("monitor_share"))


HEAD = Panel("head", lambda facts: "", _draw)
VERDICT = Panel("verdict", lambda facts: "", _verdict)
