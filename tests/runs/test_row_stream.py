"""A stream of rows: written row by row, read as it grows, superseded by a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fettle.runs import RowLog, RowReader


def rows(step: int, count: int = 2) -> list[dict[str, Any]]:
    return [
        {"step": step, "sample_index": i, "prediction": f"{step}.{i}", "new_key": None} for i in range(count)
    ]


def said(reader: RowReader) -> list[str]:
    return [row["prediction"] for row in reader.rows()]


def test_rows_are_read_back_as_they_are_written(tmp_path: Path) -> None:
    reader = RowReader(tmp_path / "predictions" / "rows.jsonl", "prediction")
    assert reader.rows() == []
    log = RowLog(tmp_path / "predictions" / "rows.jsonl", "prediction")
    assert not (tmp_path / "predictions").exists()  # nothing predicted, no file
    log.append(rows(5))
    assert said(reader) == ["5.0", "5.1"]
    log.append(rows(10))
    assert said(reader) == ["5.0", "5.1", "10.0", "10.1"]
    first = reader.rows()[0]
    assert first["new_key"] is None  # unknown keys are kept
    assert {"type", "timestamp"} <= set(first)
    log.close()


def test_a_resume_supersedes_what_came_after_it(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "predictions.jsonl", "prediction")
    log.append([*rows(5), *rows(10)])
    log.close()
    again = RowLog(tmp_path / "predictions.jsonl", "prediction")
    again.resume(5)
    reader = RowReader(tmp_path / "predictions.jsonl", "prediction")
    assert said(reader) == ["5.0", "5.1"]
    again.append(rows(10, count=1))
    assert said(reader) == ["5.0", "5.1", "10.0"]
    again.close()


def test_a_resume_of_a_run_that_predicted_nothing_makes_no_file(tmp_path: Path) -> None:
    RowLog(tmp_path / "predictions" / "rows.jsonl", "prediction").resume(3)
    assert not (tmp_path / "predictions").exists()


def test_a_torn_last_row_waits_and_is_closed_by_the_next(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "predictions.jsonl", "prediction")
    log.append(rows(5, count=1))
    log.close()
    with (tmp_path / "predictions.jsonl").open("a") as stream:
        stream.write('{"type":"prediction","step":10,"predi')
    reader = RowReader(tmp_path / "predictions.jsonl", "prediction")
    assert said(reader) == ["5.0"]
    again = RowLog(tmp_path / "predictions.jsonl", "prediction")
    again.append(rows(15, count=1))
    again.close()
    assert said(reader) == ["5.0", "15.0"]
