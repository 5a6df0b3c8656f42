"""The event log as it counts: by type, what a resume superseded left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from operator import methodcaller
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.runs.columns import Columns

# Asked of every record, without a call of Python.
_NAMED: Callable[[Mapping[str, Any]], Any] = methodcaller("get", "type", "")


class EventTable:
    """Records by type. A `resume` at step S drops every earlier row of a later step.

    A second row of the same type and step replaces the first, wherever steps are unique
    (training steps, fixed evals and checkpoints). Training steps are kept as numbers only, a twentieth of
    the memory: a record of them is put together when it is asked for.
    """

    UNIQUE = frozenset({"train", "fixed_eval", "checkpoint"})
    AS_NUMBERS = frozenset({"train"})

    def __init__(self) -> None:
        self.taken = 0
        """Records taken in, those that were superseded since too."""
        self.rewinds = 0
        """How often earlier rows were dropped."""
        self._records: dict[str, list[dict[str, Any]]] = {}
        self._columns: dict[str, Columns] = {}
        self._order: dict[str, Columns] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the columns."""
        return sum(columns.nbytes for columns in (*self._columns.values(), *self._order.values()))

    def add(self, record: dict[str, Any]) -> None:
        """Take in the next record of the log."""
        type = str(_NAMED(record))
        step = record.get("step")
        if type == "resume" and isinstance(step, (int, float)):
            self._supersede(step)
        if type in self.UNIQUE and isinstance(step, (int, float)):
            self._drop_from(type, step, inclusive=True)
        self._append(type, [record])

    def extend(self, records: Iterable[dict[str, Any]]) -> None:
        """Take in the next records of the log."""
        for named, group in groupby(records, key=_NAMED):
            type, rows = str(named), list(group)
            if type in self.UNIQUE and self._go_on(type, rows):
                self._append(type, rows)
            else:
                for row in rows:
                    self.add(row)

    def counts(self) -> dict[str, int]:
        """Rows of each type."""
        return {type: len(columns) for type, columns in self._columns.items()}

    def records(self, type: str, last: int | None = None) -> list[dict[str, Any]]:
        """Rows of one type, in order; with `last` only that many from the end."""
        rows = len(self._columns.get(type, ()))
        return self.records_between(type, 0 if last is None else max(0, rows - last), rows)

    def records_between(self, type: str, start: int, stop: int) -> list[dict[str, Any]]:
        """Rows of one type from `start` up to `stop`."""
        if type not in self.AS_NUMBERS:
            return self._records.get(type, [])[start:stop]
        columns = self._columns.get(type)
        found = [] if columns is None else columns.records(start, stop)
        return [{"type": type, **row} for row in found]

    def columns(self, type: str) -> Mapping[str, NDArray[np.float64]]:
        """Numeric columns of one type, [rows] each."""
        return self._columns[type].view() if type in self._columns else {}

    def part(self, type: str, names: Iterable[str], start: int, stop: int) -> list[list[float]]:
        """Some columns of one type between two rows, as lists; NaN where a row has no number."""
        return self._columns[type].part(names, start, stop) if type in self._columns else []

    def nonfinite(self, type: str, key: str) -> NDArray[np.float64] | None:
        """Of one column, which rows were logged as NaN (1), inf (2) or -inf (3), [rows]; None without any."""
        return self._columns[type].nonfinite(key) if type in self._columns else None

    def order(self, type: str) -> NDArray[np.float64]:
        """The place of each row in the log, counted in records from 0, [rows]."""
        return self._order[type].view()["place"] if type in self._order else np.empty(0)

    def parts(self) -> tuple[dict[str, Any], list[NDArray[np.float64]]]:
        """All of it as plain values and arrays, for a file: see `of_parts`."""
        types: list[dict[str, Any]] = []
        arrays: list[NDArray[np.float64]] = []
        for type, columns in self._columns.items():
            order = self.order(type)
            numbers, held = columns.parts()
            arrays += [order, *held]
            records = self._records.get(type)
            types.append({"type": type, "rows": order.size, "numbers": numbers, "records": records})
        return {"taken": self.taken, "rewinds": self.rewinds, "types": types}, arrays

    @classmethod
    def of_parts(cls, told: Mapping[str, Any], take: Callable[[int], NDArray[np.float64]]) -> EventTable:
        """A table as it was when `parts` gave these; `take` gives the next array, of so many numbers."""
        table = cls()
        table.taken, table.rewinds = told["taken"], told["rewinds"]
        for part in told["types"]:
            type = part["type"]
            table._order[type] = Columns()
            table._order[type].extend_numbers("place", take(part["rows"]))
            table._columns[type] = Columns.of_parts(
                part["numbers"], take, whole_records=type in cls.AS_NUMBERS
            )
            if part["records"] is not None:
                table._records[type] = part["records"]
        return table

    def _append(self, type: str, rows: list[dict[str, Any]]) -> None:
        if type not in self._columns:
            self._columns[type] = Columns(whole_records=type in self.AS_NUMBERS)
            self._order[type] = Columns()
        self._columns[type].extend(rows)
        self._order[type].extend_numbers("place", np.arange(self.taken, self.taken + len(rows), dtype=float))
        self.taken += len(rows)
        if type not in self.AS_NUMBERS:
            self._records.setdefault(type, []).extend(rows)

    def _go_on(self, type: str, rows: list[dict[str, Any]]) -> bool:
        """Whether steps only grow, so that no row replaces another."""
        steps = [row.get("step") for row in rows]
        if not {step.__class__ for step in steps} <= {int, float}:
            return False
        before = self._last_step(type)
        known = np.array(steps if before is None else [before, *steps], dtype=np.float64)
        return bool((known[1:] > known[:-1]).all())

    def _last_step(self, type: str) -> float | None:
        steps = self.columns(type).get("step")
        return float(steps[-1]) if steps is not None and steps.size else None

    def _supersede(self, step: float) -> None:
        for type in list(self._columns):
            if type not in {"start", "resume"}:
                self._drop_from(type, step, inclusive=False)

    def _drop_from(self, type: str, step: float, *, inclusive: bool) -> None:
        steps = self.columns(type).get("step")
        if steps is None or steps.size == 0:
            return
        last = steps[-1]
        if type in self.UNIQUE and (last < step if inclusive else last <= step):
            return  # Steps grow: nothing later can be there.
        keep = ~(steps >= step if inclusive else steps > step)  # A row without a step stays.
        size = int(keep.sum())
        if size == steps.size:
            return
        self.rewinds += 1
        for table in (self._columns, self._order):
            if keep[:size].all():
                table[type].truncate(size)
            else:
                table[type] = table[type].selected(keep)
        if type not in self.AS_NUMBERS:
            self._records[type] = [r for r, kept in zip(self._records[type], keep, strict=True) if kept]
