"""Tokens per second from real tokens, with the warm-up left out."""

from fettle.metrics import Rates, Throughput


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_rates_of_total_and_completion_tokens() -> None:
    throughput = Throughput(warm_up_steps=1)
    throughput.step(tokens=9, completion_tokens=9, seconds=100.0)  # compilation
    assert throughput.recent() is None
    assert throughput.tokens_per_sec is None
    throughput.step(tokens=1000, completion_tokens=200, seconds=2.0)
    throughput.step(tokens=500, completion_tokens=50, seconds=3.0)
    assert throughput.recent() == Rates(300.0, 50.0, 2.5, 2)
    assert throughput.tokens_per_sec == 300
    assert throughput.completion_tokens_per_sec == 50
    assert throughput.seconds_per_step == 2.5


def test_recent_follows_the_window_and_average_the_run() -> None:
    throughput = Throughput(warm_up_steps=0, window=2)
    for tokens in (100, 300, 500):
        throughput.step(tokens=tokens, completion_tokens=10, seconds=1.0)
    recent, average = throughput.recent(), throughput.average()
    assert recent is not None
    assert average is not None
    assert recent.tokens_per_sec == 400
    assert average.tokens_per_sec == 300
    assert average.steps == 3


def test_own_clock_counts_only_what_lies_after_start() -> None:
    clock = Clock()
    throughput = Throughput(warm_up_steps=0, clock=clock)
    assert throughput.step(tokens=7, completion_tokens=7) is None  # nothing to measure from
    clock.now += 2.0
    assert throughput.step(tokens=100, completion_tokens=10) == 2.0
    clock.now += 500.0  # evaluation
    throughput.start()
    clock.now += 2.0
    throughput.step(tokens=300, completion_tokens=10)
    assert throughput.tokens_per_sec == 100


def test_clock_that_jumps_back_makes_no_negative_rate() -> None:
    clock = Clock()
    throughput = Throughput(warm_up_steps=0, clock=clock)
    throughput.start()
    clock.now -= 5.0
    assert throughput.step(tokens=100, completion_tokens=10) == 0.0
    assert throughput.average() is None


def test_trend_is_against_the_first_steps() -> None:
    throughput = Throughput(warm_up_steps=1, window=2, baseline_steps=3)
    throughput.step(tokens=1, completion_tokens=1, seconds=50.0)  # compilation
    for _ in range(2):
        throughput.step(tokens=100, completion_tokens=10, seconds=1.0)
    assert throughput.baseline() is None
    assert throughput.trend is None
    throughput.step(tokens=100, completion_tokens=10, seconds=1.0)
    assert throughput.baseline() == Rates(100.0, 10.0, 1.0, 3)
    for _ in range(2):
        throughput.step(tokens=100, completion_tokens=10, seconds=2.0)
    assert throughput.trend == 0.5
    assert throughput.baseline() == Rates(100.0, 10.0, 1.0, 3)
