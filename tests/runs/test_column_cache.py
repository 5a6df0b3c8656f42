"""Columns of a log that are kept: never anything else than what the log holds."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fettle
from fettle.runs import RunFolder, RunReader, column_cache, follow
from fettle.runs.column_cache import ColumnCache
from fettle.runs.follow import Place
from fettle.runs.table import EventTable

ROWS: list[dict[str, Any]] = [
    {"type": "start", "step": 0, "total_steps": 99},
    *({"type": "train", "step": step, "loss": 1 / step, "tokens": 10 * step} for step in range(1, 31)),
    {"type": "train", "step": 31, "loss": None, "loss_nonfinite": "nan", "note": "odd", "seen": 2**60 + 1},
    {"type": "train", "step": 32, "loss": None, "loss_nonfinite": "inf", "of": [1, {"a": "b"}]},
    {"type": "fixed_eval", "step": 32, "cross_entropy": 0.5, "extra": {"a": [None, True, "x"]}},
    {"type": "system", "step": 32, "gpu_power": 300.0},
    {"type": "train", "step": 33, "loss": 0.25, "late": 7},
    {"type": "resume", "step": 20},
    *({"type": "train", "step": step, "loss": 2 / step} for step in range(21, 26)),
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that takes in short logs, too."""
    monkeypatch.setenv("FETTLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(column_cache, "SMALLEST_LOG", 100)
    return tmp_path / "cache"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "run", config_yaml="a: 1\n", metadata={})
    write(folder, ROWS)
    return folder


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every line that is parsed from here on."""
    lines: list[bytes] = []
    parse = follow.parse_object

    def counted(line: bytes) -> dict[str, Any] | None:
        lines.append(line)
        return parse(line)

    monkeypatch.setattr(follow, "parse_object", counted)
    return lines


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def write(folder: RunFolder, rows: list[dict[str, Any]], mode: str = "wb") -> None:
    with folder.metrics_path.open(mode) as stream:
        stream.write(lines(rows))


def everything(reader: RunReader) -> dict[str, Any]:
    """All that a reader tells of a log, NaN as text."""
    types = list(reader.counts())
    columns = {type: {k: repr(v.tolist()) for k, v in reader.columns(type).items()} for type in types}
    codes = {
        (type, key): repr(found.tolist())
        for type in types
        for key in [*reader.columns(type), "loss"]
        if (found := reader.nonfinite(type, key)) is not None
    }
    return {
        "records": {type: repr(reader.records(type)) for type in types},
        "order": {type: reader.order(type).tolist() for type in types},
        "columns": columns,
        "codes": codes,
        "told": (reader.segment, reader.position, reader.problems, reader.counts()),
    }


def kept(cache: Path) -> list[Path]:
    return sorted(cache.glob("*")) if cache.exists() else []


def without_cache(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    with monkeypatch.context() as patched:
        patched.setattr(column_cache, "SMALLEST_LOG", 1 << 40)
        return everything(RunReader(folder.path))


def test_a_log_is_parsed_once(cache: Path, run: RunFolder, parsed: list[bytes]) -> None:
    first = RunReader(run.path)
    assert len(parsed) == len(ROWS)
    parsed.clear()
    second = RunReader(run.path)
    assert parsed == []
    assert everything(second) == everything(first)
    assert second.records("train")[-1] == ROWS[-1]
    assert second.counts()["train"] == 25
    assert len(kept(cache)) == 1


def test_what_was_appended_since_is_read_on_its_own(
    cache: Path, run: RunFolder, parsed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = b'{"type": "train", "step": 26, "lo'
    run.metrics_path.write_bytes(run.metrics_path.read_bytes() + b"no JSON\n" + torn)
    RunReader(run.path)
    parsed.clear()
    more = [{"type": "train", "step": 27, "loss": 0.5}, {"type": "resume", "step": 3}]
    with run.metrics_path.open("ab") as stream:
        stream.write(b'ss": 9.5}\n' + lines(more))
    again = RunReader(run.path)
    assert len(parsed) == 3
    assert parsed[0] == torn + b'ss": 9.5}'
    assert everything(again) == without_cache(run, monkeypatch)
    assert again.columns("train")["loss"].tolist() == [1.0, 0.5, 1 / 3]
    assert "1 line could not be read" in again.problems[0]


@pytest.mark.parametrize("readers", [1, 2], ids=["as it is kept", "as it was found"])
def test_rows_that_are_struck_out_stay_in_the_kept_file(
    cache: Path, run: RunFolder, readers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(readers):
        reader = RunReader(run.path)
    before = kept(cache)[0].read_bytes()
    monkeypatch.setattr(column_cache, "SMALLEST_LOG", 1 << 40)
    write(run, [{"type": "resume", "step": 5}, {"type": "train", "step": 6, "loss": 9.0}], "ab")
    reader.refresh()
    assert reader.columns("train")["loss"].tolist()[-2:] == [1 / 5, 9.0]
    assert everything(reader) == everything(RunReader(run.path))
    assert kept(cache)[0].read_bytes() == before


def test_a_reader_of_kept_columns_takes_in_rows_as_they_come(
    cache: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunReader(run.path)
    reader = RunReader(run.path)
    write(run, [{"type": "train", "step": step, "loss": 0.5, "new": 1} for step in range(24, 300)], "ab")
    reader.refresh()
    assert everything(reader) == without_cache(run, monkeypatch)
    assert everything(RunReader(run.path)) == everything(reader)


def rewritten(run: RunFolder) -> None:
    """Other numbers in the same place, as long as before, at the same time."""
    path, before = run.metrics_path, run.metrics_path.stat()
    content = path.read_bytes().replace(b'"total_steps": 99', b'"total_steps": 77')
    with path.open("r+b") as stream:
        stream.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(run: RunFolder) -> None:
    aside = run.path / "aside"
    aside.write_bytes(lines([{**row, "loss": 5.5} for row in ROWS]))
    aside.replace(run.metrics_path)


def truncated(run: RunFolder) -> None:
    os.truncate(run.metrics_path, run.metrics_path.stat().st_size // 2)


def grown_and_rewritten(run: RunFolder) -> None:
    content = run.metrics_path.read_bytes().replace(b"0.25", b"0.75")
    with run.metrics_path.open("r+b") as stream:
        stream.write(content + lines([{"type": "train", "step": 90, "loss": 1.0}]))


@pytest.mark.parametrize("change", [rewritten, replaced, truncated, grown_and_rewritten])
def test_a_log_that_changed_is_read_again(
    cache: Path, run: RunFolder, change: Callable[[RunFolder], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(RunReader(run.path))
    change(run)
    assert everything(RunReader(run.path)) == without_cache(run, monkeypatch) != before


def test_the_same_bytes_under_another_time_are_the_same_log(
    cache: Path, run: RunFolder, parsed: list[bytes]
) -> None:
    RunReader(run.path)
    parsed.clear()
    os.utime(run.metrics_path, ns=(1, 1))
    RunReader(run.path)
    assert parsed == []


def cut(content: bytes, at: float) -> bytes:
    return content[: int(at * len(content))]


def flipped(content: bytes, at: float) -> bytes:
    place = int(at * (len(content) - 1))
    return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [cut, flipped])
@pytest.mark.parametrize("at", [0.0, 0.005, 0.02, 0.3, 0.7, 0.99, 0.9999])
def test_a_damaged_file_of_the_cache_counts_for_nothing(
    cache: Path, run: RunFolder, parsed: list[bytes], damage: Callable[[bytes, float], bytes], at: float
) -> None:
    expected = everything(RunReader(run.path))
    (file,) = kept(cache)
    file.write_bytes(damage(file.read_bytes(), at))
    parsed.clear()
    assert everything(RunReader(run.path)) == expected
    assert len(parsed) == len(ROWS)
    parsed.clear()
    RunReader(run.path)  # It was made anew.
    assert parsed == []


def test_what_another_version_kept_counts_for_nothing(
    cache: Path, run: RunFolder, parsed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    RunReader(run.path)
    parsed.clear()
    monkeypatch.setattr(fettle, "__version__", "999")
    RunReader(run.path)
    assert len(parsed) == len(ROWS)


def test_where_nothing_can_be_kept_runs_are_read_all_the_same(
    cache: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = without_cache(run, monkeypatch)
    cache.write_text("a file where the folder would be")
    assert everything(RunReader(run.path)) == expected
    cache.unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(column_cache.Path, "replace", full)
        assert everything(RunReader(run.path)) == expected
    assert kept(cache) == []  # Not even what was begun.


def test_a_short_log_is_not_kept(cache: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_cache, "SMALLEST_LOG", 1 << 20)
    RunReader(run.path)
    assert kept(cache) == []


def test_a_number_that_json_cannot_give_back_is_not_kept(cache: Path, run: RunFolder) -> None:
    table = EventTable()
    table.add({"type": "alert", "evidence": [float("inf")]})
    status = run.metrics_path.stat()
    ColumnCache(run.metrics_path).save(Place(status.st_ino, status.st_size, b"", b"", 0), table)
    assert kept(cache) == []


def test_writers_at_the_same_time_leave_one_whole_file(
    cache: Path, run: RunFolder, parsed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(run, [{"type": "train", "step": step, "loss": step / 7} for step in range(100, 3000)], "ab")
    barrier = threading.Barrier(4)

    def read() -> None:
        barrier.wait()
        RunReader(run.path)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.suffix for path in kept(cache)] == [".columns"]
    parsed.clear()
    again = everything(RunReader(run.path))
    assert parsed == []
    assert again == without_cache(run, monkeypatch)


def test_what_was_not_used_for_longest_goes_first(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [RunFolder.create(tmp_path / name, config_yaml="", metadata={}) for name in "abc"]
    paths: list[Path] = []
    for age, folder in zip((100, 300, 0), runs, strict=True):
        write(folder, ROWS)
        if folder is runs[2]:
            monkeypatch.setattr(column_cache, "MOST_BYTES", int(2.5 * paths[0].stat().st_size))
        RunReader(folder.path)
        paths.append(ColumnCache(folder.metrics_path).path)
        os.utime(paths[-1], (1e9 - age, 1e9 - age))
    assert [path.exists() for path in paths] == [True, False, True]


def test_numbers_come_back_to_the_last_bit(cache: Path, run: RunFolder) -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(500) * 10.0 ** rng.integers(-300, 300, 500)).tolist()
    write(run, [{"type": "train", "step": step, "loss": value} for step, value in enumerate(values)])
    RunReader(run.path)
    assert RunReader(run.path).columns("train")["loss"].tolist() == values
