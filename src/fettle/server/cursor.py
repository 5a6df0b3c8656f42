"""Where a reader of the log stands: a segment and a place in it.

A step is no such place: after a resume it is passed twice. Within a segment rows are only added; a resume
that supersedes rows, and another file, begin a new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fettle.runs import RunReader


def cursor_of(run: RunReader) -> str:
    """The end of the log."""
    return f"{run.segment}:{run.position}"


def place_after(cursor: str | None, run: RunReader) -> int | None:
    """The place that a cursor names in the present segment; None where it names none."""
    segment, _, place = (cursor or "").rpartition(":")
    if segment != run.segment or not place.isascii() or not place.isdigit() or len(place) > 15:
        return None
    return int(place) if int(place) <= run.position else None
