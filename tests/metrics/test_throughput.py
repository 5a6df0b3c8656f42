"""Tokens per second from real tokens, with the warm-up left out."""

import pytest

from fettle.metrics import Throughput


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def step(throughput: Throughput, clock: Clock, seconds: float, tokens: int, completion: int) -> None:
    throughput.start()
    clock.now += seconds
    throughput.stop(tokens, completion)


def test_rates_of_total_and_completion_tokens() -> None:
    clock = Clock()
    throughput = Throughput(warm_up_steps=1, clock=clock)
    step(throughput, clock, 100.0, 9, 9)  # compilation
    assert throughput.interval() is None
    step(throughput, clock, 2.0, 1000, 200)
    clock.now += 500  # evaluation between the steps
    step(throughput, clock, 3.0, 500, 50)
    rates = throughput.interval()
    assert rates is not None
    assert (rates.tokens_per_sec, rates.completion_tokens_per_sec, rates.step_time, rates.steps) == (
        300,
        50,
        2.5,
        2,
    )


def test_interval_starts_over_and_average_does_not() -> None:
    clock = Clock()
    throughput = Throughput(warm_up_steps=0, clock=clock)
    step(throughput, clock, 1.0, 100, 10)
    throughput.interval()
    step(throughput, clock, 1.0, 300, 30)
    interval, average = throughput.interval(), throughput.average()
    assert interval is not None
    assert average is not None
    assert interval.tokens_per_sec == 300
    assert average.tokens_per_sec == 200
    assert throughput.interval() is None


def test_clock_that_jumps_back_makes_no_negative_rate() -> None:
    clock = Clock()
    throughput = Throughput(warm_up_steps=0, clock=clock)
    step(throughput, clock, -5.0, 100, 10)
    assert throughput.average() is None


def test_stop_without_start_is_a_defect() -> None:
    with pytest.raises(RuntimeError, match="start"):
        Throughput().stop(1, 1)
