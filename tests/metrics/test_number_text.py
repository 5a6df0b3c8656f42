"""Numbers as people write them, and texts made to stall what reads them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from fettle.metrics import last_number, normaliser


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,250.00", 1250),
        ("so it is 42.", 42),
        ("1,00,000 rupees", 100_000),
        ("1\u202f000\u202f000", 1_000_000),
        ("1{,}250", 1250),
        ("12,34", 34),
        ("1,2345", 2345),
        ("-3", -3),
        ("\N{MINUS SIGN}7", -7),
        ("x=-12", -12),
        ("-$5", -5),
        ("$-5$", -5),
        ("GPT-4", 4),
        ("5-10", 10),
        ("10 - 5", 5),
        ("- 5", 5),
        ("3/4", Fraction(3, 4)),
        ("-1 1/2", Fraction(-3, 2)),
        (r"\frac{3}{4}", Fraction(3, 4)),
        (r"-\dfrac{3}{4}", Fraction(-3, 4)),
        ("1.5e-3", Fraction(3, 2000)),
        ("2 × 10^8", 2 * 10**8),
        (r"2.5 \times 10^{-3}", Fraction(1, 400)),
        (".5", Fraction(1, 2)),
        ("a5", 5),
        ("\u0663", 3),
        ("1/0", None),
        ("nan", None),
        ("-inf", None),
        ("infinity", None),
        ("1e999999999", None),
        ("1" * 500, None),
        ("", None),
    ],
)
def test_the_last_number(text: str, value: Fraction | int | None) -> None:
    found = last_number(text)
    assert (found.value if found else None) == value


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("50%", "50", True),
        ("50 %", "0.5", True),
        ("0.5", "50%", True),
        ("50%", "50%", True),
        ("5%", "50%", False),
    ],
)
def test_percent_is_read_either_way(a: str, b: str, same: bool) -> None:
    first, second = last_number(a), last_number(b)
    assert first is not None
    assert second is not None
    assert first.equals(second) is same


def test_tolerance_is_a_share_of_the_other() -> None:
    third, close = last_number("0.3333"), last_number("1/3")
    assert third is not None
    assert close is not None
    assert not third.equals(close)
    assert third.equals(close, 1e-3)
    assert not third.equals(close, 1e-5)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("unit", ["1 ", "1,", "-", "1", "1,111", " ", "1/", "1 1/", "\\frac", "1e"])
def test_ten_megabytes_are_read_in_time(unit: str) -> None:
    last_number(unit * (10_000_000 // len(unit)))


def test_one_spelling_of_a_number() -> None:
    apply = normaliser("number")
    assert [apply(t) for t in ("1,250.00", "-0.50", "2/6", "1e3", "none", "0.0")] == [
        "1250", "-0.5", "1/3", "1000", None, "0",
    ]  # fmt: skip


def test_squad_leaves_out_what_its_evaluation_does() -> None:
    apply = normaliser("squad")
    assert apply("  The  Eiffel-Tower, (Paris)! ") == "eiffeltower paris"
    assert apply("A an THE") == ""
    assert apply("theatre") == "theatre"
