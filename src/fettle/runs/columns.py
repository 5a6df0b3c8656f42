"""Records of one type as numpy columns that grow without being built again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.runs.column_names import FLAG, NONFINITE
from fettle.runs.numbers import LARGEST_EXACT

Floats = NDArray[np.float64]

_NAMES = {code: name for name, code in NONFINITE.items()}


class Column:
    """The numbers of one key. It ends at its last number: a key of few records costs little."""

    __slots__ = ("_data", "size", "whole")

    def __init__(self) -> None:
        self._data: Floats = np.empty(0)
        self.size = 0
        self.whole = True
        """Whether every number was an integer."""

    @classmethod
    def of(cls, values: Floats, *, whole: bool = True) -> Column:
        """A column of these numbers, which it takes over."""
        column = cls()
        column._data, column.size, column.whole = values, values.size, whole
        return column

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        return self._data.nbytes

    def put(self, row: int, values: float | Floats, count: int = 1) -> None:
        """Write `count` values at `row`; what lies between is NaN."""
        end = row + count
        if end > self._data.size:
            larger = np.full(max(end, 16, self._data.size * 5 // 4), np.nan)
            larger[: self.size] = self._data[: self.size]
            self._data = larger
        self._data[row:end] = values
        self.size = max(self.size, end)

    def truncate(self, size: int) -> None:
        """Forget rows from `size` on."""
        self._data[size : self.size] = np.nan
        self.size = min(size, self.size)

    def part(self, start: int, stop: int) -> Floats:
        """Rows from `start` up to `stop`, as far as there are numbers: the rest is missing."""
        return self._data[start : max(start, min(stop, self.size))]

    def view(self, rows: int) -> Floats:
        """All rows, read-only; without a copy where there is room for them."""
        if self._data.size >= rows:
            view = self._data[:rows]
        else:
            view = np.full(rows, np.nan)
            view[: self.size] = self._data[: self.size]
        view.flags.writeable = False
        return view


class ColumnView(Mapping[str, Floats]):
    """Columns as they are now, each built when it is asked for."""

    def __init__(self, columns: Mapping[str, Column], rows: int) -> None:
        self._columns = {key: column for key, column in columns.items() if column.size or not rows}
        self._rows = rows

    def __getitem__(self, key: str) -> Floats:
        return self._columns[key].view(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class Columns:
    """Float64 columns, one a numeric key; NaN where a record lacks the key or holds no number.

    With `whole_records` what is no float64 number is kept as well, so that a record can be given back.
    """

    def __init__(self, *, whole_records: bool = False) -> None:
        self._size = 0
        self._whole_records = whole_records
        self.columns: dict[str, Column] = {}
        self.flags: dict[str, Column] = {}
        """Of a key, which rows were logged as NaN (1), inf (2) or -inf (3)."""
        self.others: dict[int, dict[str, Any]] = {}
        """Row -> its fields that are no float64 numbers: text, lists, integers beyond 2**53."""

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return sum(column.nbytes for column in (*self.columns.values(), *self.flags.values()))

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one row."""
        row = self._size
        for key, value in record.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                column = self._column(key)
                column.put(row, value)
                if isinstance(value, int):
                    self._keep_large(row, key, value)
                else:
                    column.whole = False
            else:
                self._keep(row, key, value)
        self._size += 1

    def extend(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add rows; those of one layout are taken in together."""
        for keys, group in groupby(records, key=tuple):
            rows = list(group)
            for key in keys:
                self._extend_key(key, list(map(itemgetter(key), rows)))
            self._size += len(rows)

    def extend_numbers(self, key: str, values: Floats) -> None:
        """Add rows that hold one number each, [rows]."""
        self._column(key).put(self._size, values, values.size)
        self._size += values.size

    def truncate(self, size: int) -> None:
        """Forget rows from `size` on."""
        for column in (*self.columns.values(), *self.flags.values()):
            column.truncate(size)
        for row in [row for row in self.others if row >= size]:
            del self.others[row]
        self._size = min(size, self._size)

    def selected(self, keep: NDArray[np.bool_]) -> Columns:
        """The rows of a mask, [rows], as columns of their own."""
        chosen = Columns(whole_records=self._whole_records)
        chosen._size = int(keep.sum())
        place = np.cumsum(keep) - 1
        for ours, theirs in ((self.columns, chosen.columns), (self.flags, chosen.flags)):
            for key, column in ours.items():
                theirs[key] = kept = Column()
                kept.whole = column.whole
                kept.put(0, column.view(self._size)[keep], chosen._size)
        chosen.others = {int(place[row]): fields for row, fields in self.others.items() if keep[row]}
        return chosen

    def parts(self) -> tuple[dict[str, Any], list[Floats]]:
        """All of it as plain values and arrays, for a file: see `of_parts`."""
        told = {
            "rows": self._size,
            "columns": [[key, column.size, column.whole] for key, column in self.columns.items()],
            "flags": [[key, column.size] for key, column in self.flags.items()],
            "others": [[row, fields] for row, fields in self.others.items()],
        }
        held = (*self.columns.values(), *self.flags.values())
        return told, [column.part(0, column.size) for column in held]

    @classmethod
    def of_parts(
        cls, told: Mapping[str, Any], take: Callable[[int], Floats], *, whole_records: bool
    ) -> Columns:
        """Columns as they were when `parts` gave these; `take` gives the next array, of so many numbers."""
        found = cls(whole_records=whole_records)
        found._size = told["rows"]
        found.columns = {key: Column.of(take(size), whole=whole) for key, size, whole in told["columns"]}
        found.flags = {key: Column.of(take(size)) for key, size in told["flags"]}
        found.others = dict(told["others"])
        return found

    def view(self) -> ColumnView:
        """The columns, [rows] each; read-only."""
        return ColumnView(self.columns, self._size)

    def part(self, names: Iterable[str], start: int, stop: int) -> list[list[float]]:
        """Some columns between two rows, as lists; NaN where a row has no number."""
        parts = [self.columns[name].part(start, stop).tolist() for name in names]
        return [part + [float("nan")] * (stop - start - len(part)) for part in parts]

    def records(self, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
        """Rows from `start` up to `stop` as records, without the keys for which a row has no number."""
        stop = self._size if stop is None else min(stop, self._size)
        dense: dict[str, list[Any]] = {}
        sparse: list[tuple[str, NDArray[np.int64], list[Any]]] = []
        count = max(0, stop - start)
        for key, column in self.columns.items():
            values = column.part(start, stop)
            known = np.flatnonzero(np.isfinite(values))
            plain: list[Any] = values[known].tolist()
            plain = [int(value) for value in plain] if column.whole else plain
            if known.size == count:
                dense[key] = plain
            else:
                sparse.append((key, known, plain))
        rows: list[dict[str, Any]] = [{} for _ in range(count)]
        if dense:
            rows = [dict(zip(dense, row, strict=True)) for row in zip(*dense.values(), strict=True)]
        for key, known, plain in sparse:
            for row, value in zip(known.tolist(), plain, strict=True):
                rows[row][key] = value
        self._add_others(rows, start, stop)
        return rows

    def _add_others(self, rows: list[dict[str, Any]], start: int, stop: int) -> None:
        for key, column in self.flags.items():
            codes = column.part(start, stop)
            for row in np.flatnonzero(np.isfinite(codes)).tolist():
                rows[row] |= {key: None, key + FLAG: _NAMES[float(codes[row])]}
        for row, fields in self.others.items():
            if start <= row < stop:
                rows[row - start].update(fields)

    def nonfinite(self, key: str) -> Floats | None:
        """Codes of the rows that were logged as NaN or infinite, [rows], NaN elsewhere; None without any."""
        return self.flags[key].view(self._size) if key in self.flags else None

    def _column(self, key: str) -> Column:
        column = self.columns.get(key)
        if column is None:
            column = self.columns[key] = Column()
        return column

    def _extend_key(self, key: str, values: list[Any]) -> None:
        kinds = set(map(type, values))
        if kinds == {type(None)} or (kinds == {str} and key == "type"):
            return
        if kinds == {str}:
            for row, value in enumerate(values, self._size):
                self._keep(row, key, value)
            return
        column = self._column(key)
        if kinds <= {int, float, type(None)}:
            column.whole = column.whole and float not in kinds
            numbers = np.array(values, dtype=np.float64)
            column.put(self._size, numbers, len(values))
            if int in kinds and np.nanmax(np.abs(numbers)) >= LARGEST_EXACT:
                for row, value in enumerate(values, self._size):
                    self._keep_large(row, key, value)
            return
        for row, value in enumerate(values, self._size):
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                column.put(row, value)
                column.whole = column.whole and isinstance(value, int)
                self._keep_large(row, key, value)
            else:
                self._keep(row, key, value)

    def _keep(self, row: int, key: str, value: Any) -> None:
        if isinstance(value, str) and key.endswith(FLAG) and value in NONFINITE:
            self.flags.setdefault(key.removesuffix(FLAG), Column()).put(row, NONFINITE[value])
        elif self._whole_records and value is not None and key != "type":
            self.others.setdefault(row, {})[key] = value

    def _keep_large(self, row: int, key: str, value: Any) -> None:
        if isinstance(value, int) and abs(value) > LARGEST_EXACT:
            self._keep(row, key, value)
