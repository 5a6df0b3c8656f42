"""A log as it is shown: folded, filtered, and harmless."""

import time
from pathlib import Path

from loguru import logger

from fettle.runs.log_lines import LogLines
from fettle.runs.logs import configure_logging


def lines_of(path: Path, content: bytes) -> LogLines:
    path.write_bytes(content)
    lines = LogLines(path)
    lines.refresh()
    return lines


def texts(lines: LogLines) -> list[str]:
    return [line.text for line in lines.select(1000, 0)[2]]


def test_what_fettle_logs_comes_back_with_time_level_and_repetitions(tmp_path: Path) -> None:
    configure_logging(tmp_path / "train.log")
    logger.info("begin")
    for _ in range(5):
        logger.warning("the same")
    logger.error("boom")
    logger.configure(handlers=[])
    lines = LogLines(tmp_path / "train.log")
    lines.refresh()
    total, offset, found = lines.select(100, 0)
    assert (total, offset) == (3, 0)
    assert [(line.level, line.text.split(": ")[1], line.repeated) for line in found] == [
        ("info", "begin", 1), ("warning", "the same", 5), ("error", "boom", 1),
    ]  # fmt: skip
    assert found[0].time is not None
    assert found[0].time.startswith(time.strftime("%Y-"))


def test_a_million_carriage_returns_are_one_line_a_bar(tmp_path: Path) -> None:
    train = b"\r".join(b"train: %3d%%|###   | %d/1000000 [00:01]" % (i // 10_000, i) for i in range(500_000))
    test = b"\r".join(b"test: %3d%%|###   | %d/500000 [00:01]" % (i // 5_000, i) for i in range(500_000))
    lines = lines_of(tmp_path / "log", train + b"\r\nbetween\n" + test)
    assert texts(lines) == [
        "train:  49%|###   | 499999/1000000 [00:01]",
        "between",
        "test:  99%|###   | 499999/500000 [00:01]",
    ]
    assert lines._rest.count(b"\r") == 0  # A bar that still moves is not kept whole.


def test_a_bar_that_prints_line_after_line_is_one_line(tmp_path: Path) -> None:
    content = "".join(f"epoch 1: {i:3d}%|█ | {i}/100 [00:0{i % 9}<00:01]\n" for i in range(101)) + "done\n"
    assert texts(lines_of(tmp_path / "log", content.encode())) == [
        "epoch 1: 100%|█ | 100/100 [00:01<00:01]",
        "done",
    ]


def test_escapes_controls_and_direction_marks_are_taken_out(tmp_path: Path) -> None:
    link = b"\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\"
    content = b"\x1b[31mred\x1b[0m \x1b]0;owned\x07title " + link + b" \x00nul\x9b \xe2\x80\xaemoc\n"
    assert texts(lines_of(tmp_path / "log", content)) == ["red title link nul� moc"]
    assert texts(lines_of(tmp_path / "html", b"<img onerror=1></script>\n")) == ["<img onerror=1></script>"]


def test_a_line_of_10_mb_and_bytes_that_are_no_utf8_are_cut_and_replaced(tmp_path: Path) -> None:
    found = texts(lines_of(tmp_path / "log", b"x" * 10_000_000 + b"\n\xff\xfe bad\n"))
    assert found[0].endswith("… (10000000 bytes)")
    assert len(found[0]) < 10_000
    assert found[1] == "�� bad"


def test_offsets_limits_levels_and_words_choose_lines(tmp_path: Path) -> None:
    rows = [f"2026-01-01 00:00:0{i}.000 {'ERROR' if i % 3 == 0 else 'INFO':<8} a: line {i}" for i in range(9)]
    lines = lines_of(tmp_path / "log", "\n".join([*rows, "  Traceback of line 8", ""]).encode())

    def numbers(**given: object) -> tuple[int, int, list[str]]:
        total, offset, found = lines.select(**given)  # type: ignore[arg-type]
        return total, offset, [line.text.rsplit(" ", 1)[1] for line in found]

    assert numbers(limit=2, offset=3) == (10, 3, ["3", "4"])
    assert numbers(limit=2, offset=-2) == (10, 8, ["8", "8"])
    assert numbers(limit=5, offset=-100)[1:] == (0, ["0", "1", "2", "3", "4"])
    assert numbers(limit=5, offset=50) == (10, 10, [])
    assert numbers(limit=9, offset=0, level="error") == (3, 0, ["0", "3", "6"])
    assert numbers(limit=9, offset=0, query="TRACEBACK") == (1, 0, ["8"])


def test_a_traceback_has_the_level_of_its_error(tmp_path: Path) -> None:
    lines = lines_of(tmp_path / "log", b"2026-01-01 00:00:00.000 ERROR    a: boom\n  File x\n    y()\n")
    assert [line.level for line in lines.select(10, 0)[2]] == ["error"] * 3


def test_a_log_is_followed_and_a_replaced_one_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = lines_of(path, b"a\nhalf")
    assert texts(lines) == ["a", "half"]
    with path.open("ab") as stream:
        stream.write(b" done\n\xe2\x96")
    lines.refresh()
    with path.open("ab") as stream:
        stream.write(b"\x88\n10%\r")
    lines.refresh()
    assert texts(lines) == ["a", "half done", "█", "10%"]
    with path.open("ab") as stream:
        stream.write(b"20%\r")
    lines.refresh()
    assert texts(lines) == ["a", "half done", "█", "20%"]
    path.write_bytes(b"new\n")
    lines.refresh()
    assert texts(lines) == ["new"]
    path.unlink()
    lines.refresh()
    assert texts(lines) == ["new"]
