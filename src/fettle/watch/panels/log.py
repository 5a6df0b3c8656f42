"""The end of the text log, bars and repetitions folded."""

from __future__ import annotations

from rich.style import Style
from rich.text import Text

from fettle.runs.log_lines import LogLine
from fettle.watch.facts import Facts
from fettle.watch.panels import Panel
from fettle.watch.text import BAD, BOLD, FAINT, GOOD, NOTICE, PLAIN, clean, fit, line

LEVELS: dict[str, Style] = {
    "debug": FAINT, "success": GOOD, "warning": NOTICE, "error": BAD, "critical": BAD + BOLD,
}  # fmt: skip
CLOCK = slice(11, 19)
"""Hours, minutes and seconds of a time as the log has it."""


def _title(facts: Facts) -> str:
    return "Log"


def _draw(facts: Facts, width: int, height: int) -> list[Text]:
    if facts.reading:
        return [line(("reading the log …", FAINT))]
    if not facts.log:
        told = "there is none in this folder" if facts.log is None else "it is empty"
        return [fit(line((told, FAINT)), width)]
    return [fit(log_line(told), width) for told in facts.log[-height:]]


def log_line(told: LogLine, *, dated: bool = False) -> Text:
    """One line; a level beside its colour."""
    time = "" if told.time is None else f"{told.time[:19] if dated else told.time[CLOCK]} "
    level = "" if told.level is None else f"{told.level.upper():<8} "
    repeated = f"  ×{told.repeated}" if told.repeated > 1 else ""
    style = LEVELS.get(told.level or "", PLAIN)
    return line((time, FAINT), (level, style), clean(told.text), (repeated, FAINT))


LOG = Panel("log", _title, _draw)
