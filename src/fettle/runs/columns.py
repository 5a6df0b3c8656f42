"""Records of one type as numpy columns that grow without being built again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Columns:
    """Float64 columns, one a numeric key; NaN where a record lacks the key or holds no number."""

    def __init__(self) -> None:
        self._size = 0
        self._capacity = 0
        self._columns: dict[str, NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return self._size

    def append(self, record: dict[str, Any]) -> None:
        """Add one row."""
        if self._size == self._capacity:
            self._grow()
        for key, value in record.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                column = self._columns.get(key)
                if column is None:
                    column = self._columns[key] = np.full(self._capacity, np.nan)
                column[self._size] = value
        self._size += 1

    def truncate(self, size: int) -> None:
        """Forget rows from `size` on."""
        for column in self._columns.values():
            column[size : self._size] = np.nan
        self._size = min(size, self._size)

    def view(self) -> dict[str, NDArray[np.float64]]:
        """The columns, [rows] each, without a copy; read-only."""
        views = {key: column[: self._size] for key, column in self._columns.items()}
        for view in views.values():
            view.flags.writeable = False
        return views

    def _grow(self) -> None:
        self._capacity = max(1024, 2 * self._capacity)
        for key, column in self._columns.items():
            larger = np.full(self._capacity, np.nan)
            larger[: self._size] = column[: self._size]
            self._columns[key] = larger
