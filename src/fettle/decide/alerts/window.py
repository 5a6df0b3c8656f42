"""The last values of a series and their sums, at the same cost whatever the length."""

from __future__ import annotations

from math import fsum


class Window:
    """The last `size` values with sum and sum of squares.

    Both are summed anew each time the window has been gone through once, so that rounding, or
    one enormous value, does not stay in them.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._values: list[float] = []
        self._next = 0
        self._sum = 0.0
        self._squares = 0.0

    @property
    def full(self) -> bool:
        """Whether `size` values were seen."""
        return len(self._values) == self.size

    def push(self, value: float) -> None:
        """The newest value takes the place of the oldest."""
        if len(self._values) < self.size:
            self._values.append(value)
        else:
            old = self._values[self._next]
            self._sum -= old
            self._squares -= old * old
            self._values[self._next] = value
        self._sum += value
        self._squares += value * value
        self._next += 1
        if self._next == self.size:
            self._next = 0
            self._sum = _sum(self._values)
            self._squares = _sum([v * v for v in self._values])

    @property
    def mean(self) -> float:
        """Of at least one value."""
        return self._sum / len(self._values)

    @property
    def variance(self) -> float:
        """Population variance of at least one value; not below 0."""
        mean = self.mean
        return max(0.0, self._squares / len(self._values) - mean * mean)


class Halves:
    """The last `size` values (an even number) as an older and a newer half."""

    def __init__(self, size: int) -> None:
        self.half = size // 2
        self._older = Window(self.half)
        self._newer = Window(self.half)
        self._leaving: list[float] = []
        self._next = 0

    @property
    def full(self) -> bool:
        """Whether both halves are full."""
        return self._older.full

    def push(self, value: float) -> None:
        """The newest value; the oldest of the newer half becomes the newest of the older."""
        if self._newer.full:
            self._older.push(self._leaving[self._next])
            self._leaving[self._next] = value
        else:
            self._leaving.append(value)
        self._newer.push(value)
        self._next = (self._next + 1) % self.half

    @property
    def means(self) -> tuple[float, float]:
        """Mean of the older and of the newer half."""
        return self._older.mean, self._newer.mean


def _sum(values: list[float]) -> float:
    try:
        return fsum(values)
    except (OverflowError, ValueError):  # beyond the largest float, or inf - inf
        return sum(values)
