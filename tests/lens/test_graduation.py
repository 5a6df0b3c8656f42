"""Each reason to graduate, to grow and to stop, by hand."""

import pytest

from fettle.lens.graduation import Graduation
from fettle.lens.judge import HeldOut
from fettle.metrics import Estimate


def held_out(f1: float, positives: int = 60, gap: float = 0.02, low: float = 0.8) -> HeldOut:
    area = Estimate((1 + low) / 2, low, 1.0)
    return HeldOut(0.5, f1, f1 + gap, area, positives, 0.0, 1.0)


def test_a_lens_graduates_at_its_f1_with_a_small_gap() -> None:
    assert Graduation().judge([held_out(0.95)], True).state == "graduated"
    assert Graduation().judge([held_out(0.949)], True).state == "growing"
    assert Graduation().judge([held_out(0.95)], False).state == "graduated"


def test_a_wide_gap_keeps_a_lens_growing_where_it_is_bounded() -> None:
    wide = held_out(0.96, gap=0.11)
    assert Graduation().judge([wide], True).state == "growing"
    assert "gap 0.110" in Graduation().judge([wide], True).reason
    assert Graduation(max_gap=None).judge([wide], True).state == "graduated"


@pytest.mark.parametrize(
    ("history", "more", "reason"),
    [
        ([held_out(0.7, 30, low=0.5)], True, "no signal"),
        ([held_out(0.7, 10, low=0.5)], False, "too few samples"),
        ([held_out(0.9, 50)], False, "too few samples: F1 0.900 on all 50 texts"),
        (
            [held_out(0.9, 30), held_out(0.905, 60), held_out(0.909, 90)],
            True,
            "level: F1 0.909, no higher since 30",
        ),
    ],
)
def test_a_lens_stops_with_its_reason(history: list[HeldOut], more: bool, reason: str) -> None:
    standing = Graduation().judge(history, more)
    assert standing.state == "stopped"
    assert standing.reason.startswith(reason)


def test_a_lens_grows_while_more_texts_may_help() -> None:
    growing = Graduation()
    assert growing.judge([held_out(0.7, 10, low=0.5)], True).state == "growing"
    assert growing.judge([held_out(0.7, 30, low=0.51)], True).state == "growing"
    rising = [held_out(0.9, 30), held_out(0.905, 60), held_out(0.911, 90)]
    assert growing.judge(rising, True).state == "growing"
    assert growing.judge(rising[:2], True).state == "growing"


def test_luck_with_few_texts_and_rounds_of_others_are_no_level() -> None:
    growing = Graduation()
    lucky = [held_out(0.94, 10), held_out(0.9, 30), held_out(0.9, 60)]
    assert growing.judge(lucky, True).state == "growing"
    waiting = [held_out(0.9, 30), held_out(0.9, 30), held_out(0.9, 30), held_out(0.9, 60)]
    assert growing.judge(waiting, True).state == "growing"
