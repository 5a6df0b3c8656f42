"""What fills the whole screen when it is asked for: the log, the evaluations, help."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from fettle.runs.records import FixedEval
from fettle.watch.facts import Facts
from fettle.watch.panels.evaluation import calibration, cross_entropy, exact_match
from fettle.watch.panels.log import log_line
from fettle.watch.panels.patterns import length_table
from fettle.watch.text import (
    BOLD,
    FAINT,
    GOOD,
    MISSING,
    clean,
    fit,
    line,
    whole,
    wrapped,
)

KEYS = (
    ("P", "pause the run, or go on with it"),
    ("C", "cancel: stop the run after this step; asks first"),
    ("S", "save a checkpoint now"),
    ("L", "the whole log"),
    ("E", "every evaluation, and the last one by pattern and length"),
    ("?", "this page"),
    ("Esc", "back"),
    ("Q", "leave; the run goes on"),
)


def log_page(facts: Facts, width: int) -> list[Text]:
    """The last lines of the log, oldest first."""
    if not facts.log:
        return [
            line(("There is no log in this folder." if facts.log is None else "The log is empty.", FAINT))
        ]
    return [fit(log_line(told, dated=True), width) for told in facts.log]


def evaluations_page(facts: Facts, width: int) -> list[Text]:
    """Every fixed eval with its 95 % intervals, the trends, and the table of patterns and lengths."""
    if not facts.evals:
        return [line((f"No fixed eval yet: {MISSING}.", FAINT))]
    chosen: dict[str, Any] = facts.evidence.get("choice") or {}
    head = f"{'step':>9}  {'exact match':<16}{'cross-entropy':<17}{'ECE':<14}{'samples':>8}"
    lines = [line((head, FAINT))]
    lines += [_eval(e, e.step == chosen.get("step")) for e in reversed(facts.evals)]
    return [fit(text, width) for text in [*lines, Text(), *_trends(facts, width), *_table(facts, width)]]


def help_page(facts: Facts, width: int) -> list[Text]:
    """The keys, and what the numbers are."""
    lines = [line((f"{key:<5}", BOLD), text) for key, text in KEYS]
    if facts.refusal is not None:
        lines += [Text(), line(("P, C and S do nothing: ", BOLD), clean(facts.refusal))]
    told = (
        "Everything shown is in the run folder. Losses are cross-entropy in nats per token; ± is half of a "
        "95 % interval. An arrow beside a loss compares the last logged steps with those before; the words "
        "beside EM and CE are paired tests over the same samples. What was not measured says so."
    )
    return [
        fit(text, width) for text in [*lines, Text(), *(line((part, FAINT)) for part in wrapped(told, width))]
    ]


def _eval(e: FixedEval, chosen: bool) -> Text:
    samples = "–" if e.samples is None else whole(e.samples)
    return line(
        (f"{whole(e.step):>9}  ", BOLD), f"{exact_match(e):<16}{cross_entropy(e):<17}{calibration(e):<14}",
        (f"{samples:>8}", FAINT), ("  ◀ best", GOOD + BOLD) if chosen else "",
    )  # fmt: skip


def _trends(facts: Facts, width: int) -> list[Text]:
    if facts.verdict is None:
        return [line((clean(facts.verdict_problem or "judging …"), FAINT))]
    lines: list[Text] = []
    for key, name in (("exact_match", "EM"), ("cross_entropy", "CE")):
        for at, part in enumerate(wrapped(clean(facts.verdict["evidence"]["trend"][key]["text"]), width - 4)):
            lines.append(line((f"{name:<4}" if not at else "    ", BOLD), part))
    return [*lines, Text()]


def _table(facts: Facts, width: int) -> list[Text]:
    lines = length_table(facts, width)
    return lines or [line((f"EM by pattern and length: {MISSING}", FAINT))]
