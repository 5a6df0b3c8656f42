"""The budget that is found while passes run: a line through real peaks, and no pass that does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fettle import Sequence, score
from fettle.scoring import budget, token_budget
from fettle.scoring.token_budget import CudaMeter, TokenBudget
from tiny_models import tiny_model


class Machine:
    """A device with so much memory, on which a pass takes a + b · tokens bytes and so much time a token."""

    def __init__(self, free: int, a: int, b: int, seconds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes, self.a, self.b, self.seconds = free, a, b, seconds
        self.now = 0.0
        self.tokens = 0
        monkeypatch.setattr(token_budget, "_found", {})
        monkeypatch.setattr(token_budget.time, "perf_counter", lambda: self.now)

    def start(self) -> None:
        pass

    def peak(self) -> int:
        return self.a + self.b * self.tokens

    def free(self) -> int:
        return self.bytes

    def run(self, found: TokenBudget, passes: int) -> list[int]:
        """Passes that fill the budget; the tokens of each."""
        sizes: list[int] = []
        for _ in range(passes):
            self.tokens = found.tokens
            sizes.append(self.tokens)
            with found.measured(self.tokens):
                assert self.a + self.b * self.tokens <= self.bytes, "out of memory"
                self.now += self.tokens * self.seconds(self.tokens)
        return sizes


def test_it_grows_to_what_the_line_through_the_peaks_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    start = TokenBudget(model).tokens
    machine = Machine(80_000_000, 1_000_000, 4_000, lambda n: 1 / n, monkeypatch)
    found = TokenBudget(model, meter=machine)
    sizes = machine.run(found, 12)
    assert sizes[:3] == [start, 2 * start, 4 * start]
    limit = (0.8 * 80_000_000 - 1_000_000) / 4_000
    assert max(sizes) == sizes[-1] == found.tokens == pytest.approx(limit, abs=1)
    # What was found holds for the next scoring of this model, and for no other dtype.
    assert TokenBudget(model, meter=machine).tokens == found.tokens
    assert TokenBudget(model.to(torch.bfloat16), meter=machine).tokens != found.tokens


def test_it_stops_where_larger_passes_are_not_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    start = TokenBudget(model).tokens
    machine = Machine(1 << 40, 0, 1, lambda n: 1 / min(n, 2 * start), monkeypatch)
    found = TokenBudget(model, meter=machine)
    assert machine.run(found, 6) == [start, 2 * start, 4 * start, *[2 * start] * 3]


def test_one_that_did_not_fit_halves_it_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(1 << 40, 0, 1, lambda n: 1 / n, monkeypatch)
    found = TokenBudget(tiny_model(), meter=machine)
    start = found.tokens
    with pytest.raises(RuntimeError), found.measured(start):
        raise RuntimeError
    found.shrink(start)
    assert machine.run(found, 3) == [start // 2] * 3


def test_a_short_pass_tells_nothing_and_a_given_number_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(1 << 40, 0, 1, lambda n: 1 / n, monkeypatch)
    found = TokenBudget(tiny_model(), meter=machine)
    start = found.tokens
    with found.measured(start // 2):
        pass
    assert found.tokens == start
    given = TokenBudget(tiny_model(), 100, machine)
    assert machine.run(given, 3) == [100] * 3


def test_scores_are_the_same_while_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    rng = np.random.default_rng(0)
    sequences = [Sequence(ids, rng.random(ids.size) < 0.5) for ids in rng.integers(0, 300, (60, 40))]
    expected = score(model, sequences)
    machine = Machine(1 << 40, 0, 1, lambda n: 1 / n, monkeypatch)
    grown: list[TokenBudget] = []

    def metered(model: Any, given: int | None = None) -> TokenBudget:
        grown.append(TokenBudget(model, given, machine))
        return grown[-1]

    monkeypatch.setattr(budget, "CPU_TOKENS", (80, 80))
    monkeypatch.setattr("fettle.scoring.engine.TokenBudget", metered)
    machine.now = 0.0
    monkeypatch.setattr(token_budget.time, "perf_counter", iter(range(10_000)).__next__)
    found = score(model, sequences)
    assert grown[0].tokens > 4 * 80
    np.testing.assert_allclose(found.logprob, expected.logprob, atol=1e-5)


def test_little_memory_makes_passes_small_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    usual = TokenBudget(model).tokens
    monkeypatch.setattr(budget, "free_host_bytes", lambda: 1 << 20)
    assert 1 <= TokenBudget(model).tokens < usual


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_peaks_of_a_real_device_lie_on_a_line() -> None:
    model = tiny_model(hidden=256, layers=4).cuda()
    meter = CudaMeter(torch.device("cuda", 0))
    peaks: list[int] = []
    with torch.no_grad():
        for rows in (8, 8, 16, 32):
            ids = torch.randint(0, 300, (rows, 128), device="cuda")
            meter.start()
            model.model(input_ids=ids)
            peaks.append(meter.peak())
    line = np.polyfit([8, 16], peaks[1:3], 1)
    assert np.polyval(line, 32) == pytest.approx(peaks[3], rel=0.1)
    assert meter.free() > 0
