"""Open alerts, each with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.style import Style
from rich.text import Text

from fettle.watch.facts import Facts
from fettle.watch.panels import Panel
from fettle.watch.text import BAD, BOLD, CALM, FAINT, GOOD, NOTICE, PLAIN, clean, fit, line, whole, wrapped

SEVERITIES: dict[str, tuple[str, Style]] = {
    "critical": ("‼", BAD),
    "warning": ("!", NOTICE),
    "info": ("i", CALM),
}


def _title(facts: Facts) -> str:
    return f"Alerts, {len(facts.alerts)} open" if facts.alerts else "Alerts"


def _draw(facts: Facts, width: int, height: int) -> list[Text]:
    if facts.reading:
        return [line(("reading the log …", FAINT))]
    if not facts.alerts:
        return [line(("✓ none is open", GOOD))]
    lines: list[Text] = []
    for place, alert in enumerate(facts.alerts):
        left = len(facts.alerts) - place
        # The others still want a line each; of one line more than there is, the last says how many are left.
        room = max(1, height - len(lines) - min(left - 1, 1))
        if len(lines) + 1 >= height and left > 1:
            lines.append(line((f"and {left} more", FAINT)))
            break
        lines += _told(alert, width, room)
    return [fit(text, width) for text in lines[:height]]


def _told(alert: Mapping[str, Any], width: int, height: int) -> list[Text]:
    severity = clean(alert.get("severity") or "alert")
    sign, style = SEVERITIES.get(severity, ("!", PLAIN))
    step = alert.get("first_step")
    since = "" if step is None else f" since step {whole(step)}"
    head = f"{sign} {severity}{since}  "
    message, action = clean(alert.get("message") or ""), clean(alert.get("recommendation") or "")
    if height < 2 or len(head) + len(message) + len(action) + 3 <= width:
        return [line((head, style + BOLD), message, (f"  → {action}" if action else "", FAINT))]
    first = line((head, style + BOLD), message)
    return [
        first,
        *(
            line("  ", (f"→ {part}" if not at else f"  {part}", FAINT))
            for at, part in enumerate(wrapped(action, width - 4, min(2, height - 1)))
            if part
        ),
    ]


ALERTS = Panel("alerts", _title, _draw)
