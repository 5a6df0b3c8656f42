"""The event log as it counts: by type, what a resume superseded left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.runs.columns import Columns


class EventTable:
    """Records by type. A `resume` at step S drops every earlier row of a later step.

    A second row of the same type and step replaces the first, wherever steps are unique
    (training steps, fixed evals and checkpoints).
    """

    UNIQUE = frozenset({"train", "fixed_eval", "checkpoint"})

    def __init__(self) -> None:
        self._records: dict[str, list[dict[str, Any]]] = {}
        self._columns: dict[str, Columns] = {}

    def add(self, record: dict[str, Any]) -> None:
        """Take in the next record of the log."""
        type = str(record.get("type", ""))
        step = record.get("step")
        if type == "resume" and isinstance(step, (int, float)):
            self._supersede(step)
        if type in self.UNIQUE and isinstance(step, (int, float)):
            self._drop_from(type, step, inclusive=True)
        self._records.setdefault(type, []).append(record)
        self._columns.setdefault(type, Columns()).append(record)

    def records(self, type: str) -> list[dict[str, Any]]:
        """Rows of one type, in order."""
        return list(self._records.get(type, ()))

    def columns(self, type: str) -> dict[str, NDArray[np.float64]]:
        """Numeric columns of one type, [rows] each."""
        return self._columns[type].view() if type in self._columns else {}

    def _supersede(self, step: float) -> None:
        for type in list(self._records):
            if type not in {"start", "resume"}:
                self._drop_from(type, step, inclusive=False)

    def _drop_from(self, type: str, step: float, *, inclusive: bool) -> None:
        rows = self._records.get(type, [])
        if type in self.UNIQUE and rows and _before(rows[-1], step, inclusive=inclusive):
            return  # Steps grow: nothing later can be there.
        keep = [row for row in rows if _before(row, step, inclusive=inclusive)]
        if len(keep) == len(rows):
            return
        if keep == rows[: len(keep)]:
            self._columns[type].truncate(len(keep))
        else:
            columns = self._columns[type] = Columns()
            for row in keep:
                columns.append(row)
        self._records[type] = keep


def _before(row: dict[str, Any], step: float, *, inclusive: bool) -> bool:
    at = row.get("step")
    if not isinstance(at, (int, float)):
        return True
    return at < step if inclusive else at <= step
