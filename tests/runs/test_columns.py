"""Columns give back what was put in, whatever the layout of the rows."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.runs.columns import Columns
from fettle.runs.table import EventTable

fields = st.one_of(
    st.integers(-(2**53), 2**53),
    st.integers(2**53 + 1, 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
    st.booleans(),
    st.lists(st.integers(), max_size=2),
)
rows = st.lists(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), fields, max_size=4), max_size=40)


@settings(deadline=None)
@given(rows=rows, cut=st.integers(0, 40))
def test_records_come_back_whole_however_they_were_taken_in(rows: list[dict[str, object]], cut: int) -> None:
    one_by_one, together = Columns(whole_records=True), Columns(whole_records=True)
    for row in rows:
        one_by_one.append(row)
    together.extend(rows)
    for columns in (one_by_one, together):
        back = [{k: v for k, v in row.items() if v is not None} for row in columns.records()]
        assert back == rows
        assert columns.records(cut) == columns.records()[cut:]
        columns.truncate(cut)
        back = [{k: v for k, v in row.items() if v is not None} for row in columns.records()]
        assert back == rows[:cut]
        columns.append({"a": 5.5})
        assert columns.records()[-1]["a"] == 5.5


def test_integers_stay_integers() -> None:
    columns = Columns(whole_records=True)
    columns.extend([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2}])
    assert repr(columns.records()) == "[{'step': 1, 'loss': 1.0}, {'step': 2, 'loss': 2.0}]"


def test_a_key_of_one_record_costs_no_column_of_the_run() -> None:
    columns = Columns(whole_records=True)
    columns.extend([{"step": i} for i in range(50)])
    columns.append({"step": 50, **{f"k{i}": 1.0 for i in range(10_000)}})
    columns.extend([{"step": i} for i in range(51, 200_000)])
    cells = sum(column._data.size for column in columns.columns.values())
    assert cells < 2_000_000
    assert columns.view()["k77"].shape == (200_000,)
    assert np.flatnonzero(np.isfinite(columns.view()["k77"])).tolist() == [50]


def test_nan_and_both_infinities_are_told_apart_from_what_was_not_measured() -> None:
    table = EventTable()
    flags = ["nan", "inf", "-inf"]
    rows = [
        {"type": "train", "step": i, "loss": None, "loss_nonfinite": flag} for i, flag in enumerate(flags)
    ]
    table.extend([*rows, {"type": "train", "step": 3}, {"type": "train", "step": 4, "loss": 1.0}])
    codes = table.nonfinite("train", "loss")
    assert codes is not None
    assert codes.tolist()[:3] == [1.0, 2.0, 3.0]
    assert np.isnan(codes[3:]).all()
    assert [r.get("loss_nonfinite") for r in table.records("train")] == [*flags, None, None]
    assert table.nonfinite("train", "step") is None


def test_the_place_of_a_row_in_the_log_survives_a_resume() -> None:
    table = EventTable()
    for step in range(5):
        table.add({"type": "train", "step": step})
        table.add({"type": "system", "step": step})
    table.add({"type": "resume", "step": 2})
    table.add({"type": "train", "step": 3})
    assert table.order("train").tolist() == [0, 2, 4, 11]
    assert table.order("system").tolist() == [1, 3, 5]
    assert (table.taken, table.rewinds) == (12, 2)
