"""Programs of a model: what passes, and what a program can do to this machine, which is nothing."""

from __future__ import annotations

import http.server
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fettle.config import checker_config
from fettle.errors import ConfigError
from fettle.evaluation.checkers import Check, Reference, build_checker, judged, sandbox
from fettle.evaluation.checkers.sandbox import missing_protections

TESTS = "assert add(2, 3) == 5"
RIGHT = "Sure:\n```python\ndef add(a, b):\n    return a + b\n```\nUse it:\n```python\nprint(add(1, 2))\n```"


def ran(answer: str, tests: Any = TESTS, *, seconds: float = 5.0, **fields: Any) -> Check:
    settings = {"kind": "code", "run_code": True, "timeout_seconds": seconds, "memory_bytes": 512 << 20}
    checker = build_checker(checker_config(settings))
    return judged(checker, answer, Reference("", "", {"tests": tests, **fields}))


def alive(mark: str) -> list[int]:
    """Processes with a mark in their command line."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_nothing_runs_until_it_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"run_code is false.*set run_code: true"):
        build_checker(checker_config("code"))


def test_tests_decide() -> None:
    assert ran(RIGHT) == Check(True, formatted=True)
    assert ran(RIGHT, ["assert add(1, 1) == 2", "assert add(0, 0) == 0"]).correct is True
    wrong = ran("```python\ndef add(a, b):\n    return a - b\n```")
    assert (wrong.correct, wrong.reason) == (False, "AssertionError: ")
    assert ran("def add(a, b): return a + b") == Check(True, formatted=False)
    assert "SyntaxError" in (ran("def add(a, b: return").reason or "")
    assert judged_without_tests().correct is None


def judged_without_tests() -> Check:
    checker = build_checker(checker_config({"kind": "code", "run_code": True}))
    return judged(checker, RIGHT, Reference("", "", {}))


def test_a_sandbox_that_does_not_start_is_no_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_namespaces", lambda: ["/bin/false"])
    found = ran(RIGHT)
    assert found.correct is None
    assert "the sandbox did not start" in (found.reason or "")


def test_humanevals_form_of_tests_runs() -> None:
    tests = "def check(candidate):\n    assert candidate(2, 3) == 5\n"
    body = "```python\n    return a + b\n```"
    assert ran(body, tests, setup="def add(a, b):", entry_point="add").correct is True
    assert ran(body, tests.replace("5", "6"), setup="def add(a, b):", entry_point="add").correct is False


@pytest.mark.parametrize(
    "answer",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "raise SystemExit",
        "exit()",
        "import os; os.write(3, b'x')",
    ],
)
def test_leaving_early_is_not_passing(answer: str) -> None:
    assert ran(answer, "assert False").correct is False


def test_a_loop_without_end_is_ended() -> None:
    found = ran("while True: pass", seconds=1.0)
    assert (found.correct, found.reason) == (False, "it used up its CPU time")
    found = ran("import time; time.sleep(1000)", seconds=0.2)
    assert (found.correct, found.reason) == (False, "it took longer than 0.2 s")


def test_memory_has_a_limit() -> None:
    found = ran("x = bytearray(4 << 30)")
    assert (found.correct, found.reason) == (False, "MemoryError: ")
    assert ran("x = [0]\nwhile True: x += x").reason == "MemoryError: "


def test_a_fork_bomb_ends_and_leaves_nothing() -> None:
    mark = f"bomb-{uuid.uuid4().hex}"
    answer = (
        "import os, sys, time\n"
        "born = 0\n"
        "try:\n"
        "    while born < 1000:\n"
        "        if os.fork() == 0:\n"
        "            os.setsid()\n"
        f"            os.execv('/bin/sh', ['sh', '-c', 'sleep 600; : {mark}'])\n"
        "        born += 1\n"
        "except OSError as error:\n"
        "    pass\n"
    )
    assert ran(answer, "assert 1 <= born <= 16, born").correct is True
    time.sleep(0.2)
    assert alive(mark) == []
    assert ran("import os\nwhile True: os.fork()", seconds=1.0).correct is False


def test_what_it_started_dies_with_it_when_time_runs_out() -> None:
    mark = f"orphan-{uuid.uuid4().hex}"
    answer = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        f"    os.execv('/bin/sh', ['sh', '-c', 'sleep 600; : {mark}'])\n"
        "time.sleep(600)"
    )
    assert ran(answer, seconds=1.0).correct is False
    time.sleep(0.2)
    assert alive(mark) == []


@pytest.mark.parametrize("megabytes", [64, pytest.param(1024, marks=pytest.mark.slow)])
def test_it_can_print_as_much_as_it_likes(megabytes: int) -> None:
    loud = "print('x' * (1 << 20)); sys.stderr.write('x' * (1 << 20))"
    found = ran(f"import sys\nfor _ in range({megabytes}): {loud}\ndef add(a, b): return a + b", seconds=60.0)
    assert found.correct is True


def test_files_have_a_limit() -> None:
    found = ran("open('big', 'wb').write(b'x' * (64 << 20))")
    assert found.correct is False
    assert ran("open('small', 'w').write('x')\ndef add(a, b): return a + b").correct is True


@pytest.fixture
def open_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that any user of this machine may write into."""
    folder = tmp_path / "open"
    folder.mkdir()
    parents = [folder, *folder.parents]
    modes = {p: p.stat().st_mode for p in parents if not p.stat().st_mode & 0o001}
    for path in modes:
        path.chmod(0o755)
    folder.chmod(0o777)
    yield folder
    for path, mode in modes.items():
        path.chmod(mode)


def test_writing_outside_its_folder_is_refused(open_folder: Path) -> None:
    if "it can write wherever you can" in missing_protections():
        pytest.skip("this machine has neither Landlock nor another user to run as")
    (open_folder / "mine").write_text("mine")
    (open_folder / "mine").chmod(0o666)
    for act in ("open({!r}, 'w')", "__import__('os').remove({!r})", "__import__('os').truncate({!r}, 0)"):
        found = ran(act.format(str(open_folder / "mine")))
        assert found.correct is False
        assert "PermissionError" in (found.reason or "")
    found = ran(f"__import__('os').mkdir({str(open_folder / 'new')!r})")
    assert "PermissionError" in (found.reason or "")
    assert [path.name for path in open_folder.iterdir()] == ["mine"]
    assert (open_folder / "mine").read_text() == "mine"


def test_it_sees_no_environment_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETTLE_SECRET", "s3cret")
    tests = "import os\nassert 'FETTLE_SECRET' not in os.environ and os.listdir('.') == []"
    assert ran("pass", tests).correct is True
    if "it can reach the network" in missing_protections():
        pytest.skip("this machine has neither network namespaces nor Landlock for TCP")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        found = ran(f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)")
        server.shutdown()
    assert found.correct is False
    assert "Error" in (found.reason or "")


def test_it_cannot_end_processes_of_this_machine() -> None:
    found = ran(f"import os; os.kill({os.getpid()}, 9)")
    assert found.correct is False
    assert "Error" in (found.reason or "")


def test_a_folder_of_two_thousand_files_and_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    tmp_path.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    before = set(Path("/tmp").glob("fettle-code-*"))
    make = "import os\nfor i in range(2000): open(str(i), 'w').close()\nos.mkdir('d'); os.chmod('d', 0)\n"
    assert ran(make + "def add(a, b): return a + b").correct is True
    assert set(Path("/tmp").glob("fettle-code-*")) <= before


def test_ten_megabytes_of_code_are_run() -> None:
    assert ran("def add(a, b): return a + b\n" + "# x\n" * 2_500_000, seconds=20.0).correct is True
