"""Whether a metric still improves, has levelled off or got worse, by paired tests over samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from fettle.decide.paired import (
    Metric,
    PairedPath,
    SampleValues,
    max_t,
    mcnemar,
    measured,
    pair,
    pair_values,
    worse_than_each,
)
from fettle.decide.untested import untested_direction
from fettle.runs.records import FixedEval

TrendState = Literal["improving", "plateau", "regressing", "insufficient"]

SMALLEST_EVALS = 3
DEFAULT_MARGIN: dict[Metric, float] = {"exact_match": 0.005, "cross_entropy": 0.005}
"""An improvement worth having: half a point of exact match, 0.005 nats per token."""
PLANNED_LOOKS = 20


@dataclass(frozen=True, slots=True)
class Trend:
    """Where a metric is going, and on what evidence."""

    metric: str
    state: TrendState
    since_step: int | None
    """Plateau: first eval of it. Regressing: the best eval. Improving: first eval of the window."""
    p_value: float | None
    """Of the test behind the state, corrected for the number of looks; None when nothing was tested."""
    effect: float | None
    """Change of the metric that was judged, in its own unit: last against best so far (regressing),
    otherwise fitted over the window. For cross-entropy, down is better."""
    interval: tuple[float, float] | None
    """95 % interval of `effect`, simultaneous over all candidates where the best was picked after the
    fact; of a plateau 90 %, the interval of two one-sided equivalence tests (Schuirmann 1987)."""
    evals: int
    """Evals the judgement rests on."""
    explanation: str
    tested: bool = True
    """False when no per-sample results were there: see `direction`."""
    direction: Literal["improving", "plateau", "regressing"] | None = None
    """Direction of the numbers where they could not be tested."""
    samples: int | None = None

    @property
    def standing(self) -> Literal["improving", "plateau", "regressing", "undecided"]:
        """The state, or the untested direction where nothing could be tested."""
        if self.state == "insufficient":
            return self.direction or "undecided"
        return self.state

    @property
    def text(self) -> str:
        """`plateau since step 14000 (5 evals, paired p = 0.43; ...)`."""
        since = f" since step {self.since_step}" if self.since_step is not None else ""
        if self.evals == 0:
            return self.explanation
        if self.state == "insufficient" and not self.tested:
            seen = f"{self.direction} by the numbers{since}" if self.direction else "not tested"
            return f"{seen} ({self.explanation})"
        return f"{self.standing}{since} ({self.explanation})"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        fields = {**asdict(self), "standing": self.standing, "text": self.text}
        fields["interval"] = list(self.interval) if self.interval else None
        return fields


def trend(
    evals: Sequence[FixedEval],
    metric: Metric,
    window: int = 5,
    *,
    margin: float | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> Trend:
    """Judge the last eval against the evals before it.

    - *regressing*: the last eval is worse than the best so far by more than `margin`, and more than
      picking the best of many explains (max-T over the path);
    - *improving*: the change fitted over the last `window` evals is an improvement;
    - *plateau*: not improving, and the interval rules out an improvement of `margin` over a window;
    - *insufficient*: fewer than 3 evals, no per-sample results, or too few samples to tell.

    A run is looked at after every eval, so `alpha` is spent over the looks (`look_alpha`): with
    nothing going on, the chance that 20 evals ever show a regression stays below `alpha`.
    """
    margin = DEFAULT_MARGIN[metric] if margin is None else margin
    told = sorted((e for e in evals if _finite(getattr(e, metric))), key=lambda e: e.step)
    if len(told) < SMALLEST_EVALS:
        return _too_few(metric, len(told))
    return _judged(pair(told, metric), told, metric, window, margin, alpha, seed)


def share_trend(
    name: str,
    shares: Mapping[int, SampleValues],
    window: int = 5,
    *,
    margin: float | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> Trend:
    """The same for what a checker found right: by step, of each sample the share of its answers, in [0, 1].

    Judged as exact match is. With several answers to a sample its share is compared, and the exact test is
    that of signs: whether more samples lost than gained.
    """
    margin = DEFAULT_MARGIN["exact_match"] if margin is None else margin
    steps = sorted(shares)
    steps = [steps[place] for place in measured([shares[step] for step in steps])]
    if len(steps) < SMALLEST_EVALS:
        return _too_few(name, len(steps))
    path = pair_values(steps, [shares[step] for step in steps])
    told = [FixedEval(step, exact_match=float(np.nanmean(shares[step].values))) for step in steps]
    return replace(_judged(path, told, "exact_match", window, margin, alpha, seed), metric=name)


def _judged(
    path: PairedPath | None,
    told: Sequence[FixedEval],
    metric: Metric,
    window: int,
    margin: float,
    alpha: float,
    seed: int,
) -> Trend:
    if path is None or path.steps[-1] != told[-1].step or len(path.steps) < SMALLEST_EVALS:
        return _untested(told, metric, window, margin)
    if path.samples < 2:
        return _untested(told, metric, window, margin)
    test = _Tests(path, metric, window, margin, alpha, seed)
    return test.regressing() or test.improving() or test.plateau() or test.undecided()


def look_alpha(look: int, alpha: float = 0.05) -> float:
    """Share of `alpha` that the look-th look may spend; the shares of all looks, ever, add to `alpha`.

    80 % goes evenly to the first 20 looks. After that, blocks of 20, 40, 80, ... looks each share
    three quarters of what is left, so that a longer run than planned never runs out.
    """
    length = end = PLANNED_LOOKS
    share = 0.8 * alpha
    rest = alpha - share
    while look > end:
        length, end = end, 2 * end
        share = 0.75 * rest
        rest -= share
    return share / length


class _Tests:
    """The tests of one look."""

    def __init__(
        self, path: PairedPath, metric: Metric, window: int, margin: float, alpha: float, seed: int
    ) -> None:
        self.path = path
        self.metric: Metric = metric
        self.window = max(window, SMALLEST_EVALS)
        self.margin = margin
        self.alpha = alpha
        self.seed = seed
        self.sign = 1.0 if metric == "exact_match" else -1.0
        """+1 where up is better."""
        self.means = path.means
        self.looks = len(path.steps) - SMALLEST_EVALS + 1
        self.correction = alpha / look_alpha(self.looks, alpha)

    def regressing(self) -> Trend | None:
        """The last eval against the best before it, honest about the best being picked."""
        better = self.sign * self.means[:-1]
        best = int(np.argmax(better))
        change, error = self.path.difference(len(self.means) - 1, best)
        if -self.sign * change <= self.margin:
            return None
        z_J, marginal_J = worse_than_each(self.path, lower_is_better=self.metric == "cross_entropy")
        p_value = self._max_t_p(float(z_J[best]), float(marginal_J[best]))
        if p_value > self.alpha:
            return None
        low, high = self._interval(change, error, self._z(self.alpha / max(1, 2 * len(z_J))))
        side = "below" if self.sign > 0 else "above"
        return self._trend(
            "regressing", self.path.steps[best], p_value, change, (low, high), len(self.means),
            f"{self._size(abs(change))} {side} its best of {len(self.means)} evals, {_p(p_value)} "
            "corrected for picking the best and for every look",
        )  # fmt: skip

    def _max_t_p(self, z: float, marginal: float) -> float:
        """p of this z among the largest of all comparisons, corrected for looks."""
        if marginal * self.correction > self.alpha:
            # The maximum cannot be rarer than one comparison alone: no need to resample.
            return min(1.0, marginal * self.correction * (len(self.means) - 1))
        bonferroni = marginal * (len(self.means) - 1)
        largest = max_t(self.path, seed=self.seed)
        # Zero of 4,000 resamples is not a probability of zero; Bonferroni says more far out.
        exceeding = int(largest.size - np.searchsorted(largest, z - 1e-6))
        resampled = (exceeding + 1) / (largest.size + 1)
        return min(1.0, min(resampled, bonferroni) * self.correction)

    def improving(self) -> Trend | None:
        """The change fitted over the last evals, per sample, and whether it is an improvement."""
        length = min(self.window, len(self.means))
        change, error = self._fitted(length)
        p_value = min(1.0, self._improvement_p(change, error, length) * self.correction)
        if p_value > self.alpha or self.sign * change <= 0:
            return None
        since = self.path.steps[-length]
        moved = f"{'up' if self.sign > 0 else 'down'} {self._size(abs(change))}"
        interval = self._interval(change, error, self._z(self.alpha / 2))
        return self._trend(
            "improving", since, p_value, change, interval, length,
            f"{moved} over {length} evals, paired {_p(p_value)} corrected for every look",
        )  # fmt: skip

    def plateau(self) -> Trend | None:
        """No improvement of `margin` a window, by the shortest stretch of evals that can tell.

        Longer ones see smaller slopes, and pay for being more tries (Bonferroni).
        """
        lengths = self._plateau_windows()
        for length in lengths:
            change, error = self._fitted(length)
            per_window = (min(self.window, length) - 1) / (length - 1)
            low, high = self._interval(
                change * per_window, error * per_window, self._z(self.alpha / len(lengths))
            )
            best_case = high if self.sign > 0 else -low
            if best_case >= self.margin:
                continue
            p_value = self._improvement_p(change, error, length)
            evals = self._level(length)
            since = self.path.steps[-evals]
            return self._trend(
                "plateau", since, p_value, change * per_window, (low, high), evals,
                f"{evals} evals, paired {_p(p_value)}; an improvement of {self._size(self.margin)} "
                f"per {min(self.window, length)} evals is ruled out",
            )  # fmt: skip
        return None

    def undecided(self) -> Trend:
        """Neither an improvement nor its absence shows: say what would settle it."""
        length = min(self.window, len(self.means))
        change, error = self._fitted(length)
        p_value = self._improvement_p(change, error, length)
        low, high = self._interval(change, error, self._z(self.alpha / 2))
        needed = self._samples_needed(error)
        return self._trend(
            "insufficient", None, p_value, change, (low, high), length,
            f"{self._size(change, signed=True)} over {length} evals, interval "
            f"{self._size(low, signed=True)} to {self._size(high, signed=True)}: "
            f"{self.path.samples} samples cannot tell a change of "
            f"{self._size(self.margin)} from none; about {needed} could",
        )  # fmt: skip

    # -- the arithmetic ---------------------------------------------------------

    def _fitted(self, length: int) -> tuple[float, float]:
        """Change over the last `length` evals by a line through them, and its paired standard error."""
        steps_W = np.array(self.path.steps[-length:], dtype=np.float64)
        centred_W = steps_W - steps_W.mean()
        spread = float(centred_W @ centred_W)
        coefficients_K = np.zeros(len(self.means))
        coefficients_K[-length:] = centred_W / spread * (steps_W[-1] - steps_W[0])
        return self.path.contrast(coefficients_K)

    def _improvement_p(self, change: float, error: float, length: int) -> float:
        from scipy import special

        if error <= 0:
            return 1.0 if self.sign * change <= 0 else 0.0
        p_value = float(special.ndtr(-self.sign * change / error))
        if self.metric == "exact_match":
            # A handful of flips is no normal distribution: ends of the window by McNemar's exact test.
            first, last = self.path.values[:, -length], self.path.values[:, -1]
            flips = int((first != last).sum())
            if flips < 10:
                p_value = max(p_value, mcnemar(int((last > first).sum()), int((last < first).sum())))
        return p_value

    def _plateau_windows(self) -> list[int]:
        lengths: list[int] = []
        length = self.window
        while length < len(self.means):
            lengths.append(length)
            length = round(length * math.sqrt(2))
        return [*lengths, len(self.means)]

    def _level(self, least: int) -> int:
        """Evals of the plateau: back to the first that the last one does not clearly beat."""
        count = 1
        for earlier in range(len(self.means) - 2, -1, -1):
            change, error = self.path.difference(len(self.means) - 1, earlier)
            if error > 0 and self.sign * change / error > self._z(self.alpha / 2):
                break
            if self.sign * change > self.margin and error <= 0:
                break
            count += 1
        return max(count, min(least, self.window, len(self.means)))

    def _interval(self, value: float, error: float, z: float) -> tuple[float, float]:
        # With no sample changed the spread is zero, but one sample in n could be next.
        floor = 1.0 / self.path.samples if self.metric == "exact_match" and error <= 0 else 0.0
        half = max(z * error, floor)
        return value - half, value + half

    def _samples_needed(self, error: float) -> int:
        wanted = self.margin / (2 * self._z(self.alpha))
        count = self.path.samples * (error / wanted) ** 2
        if error <= 0:
            count = 1 / self.margin  # so many that one of them is less than the margin; see _interval
        digits = max(0, int(math.log10(max(count, 1.0))) - 1)
        return int(math.ceil(count / 10**digits) * 10**digits)

    @staticmethod
    def _z(tail: float) -> float:
        from scipy import special

        return float(-special.ndtri(tail))

    def _size(self, value: float, signed: bool = False) -> str:
        if self.metric == "exact_match":
            return f"{100 * value:+.1f} points" if signed else f"{100 * value:.1f} points"
        return f"{value:+.4f} nats" if signed else f"{value:.4f} nats"

    def _trend(
        self,
        state: TrendState,
        since: int | None,
        p_value: float,
        effect: float,
        interval: tuple[float, float],
        evals: int,
        explanation: str,
    ) -> Trend:
        return Trend(
            self.metric,
            state,
            since,
            p_value,
            effect,
            interval,
            evals,
            explanation,
            samples=self.path.samples,
        )


def _too_few(metric: str, count: int) -> Trend:
    explanation = (
        "was not measured" if count == 0 else f"{count} of the {SMALLEST_EVALS} evals that a trend needs"
    )
    return Trend(metric, "insufficient", None, None, None, None, count, explanation, tested=False)


def _untested(evals: Sequence[FixedEval], metric: Metric, window: int, margin: float) -> Trend:
    values = [(e.step, float(getattr(e, metric))) for e in evals]
    seen = untested_direction(values, higher_is_better=metric == "exact_match", window=window, margin=margin)
    return Trend(
        metric, "insufficient", seen.since_step, None, seen.effect, None, seen.evals,
        f"{seen.explanation}, without per-sample results to test it", tested=False, direction=seen.direction,
    )  # fmt: skip


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2f}" if value >= 0.01 else f"p = {value:.3f}"
