"""Whatever lies in a run folder, the server answers: what can be read, or one line that says what cannot."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any, NoReturn
from zipfile import ZIP_DEFLATED, ZipFile

import httpx
import numpy as np
import pytest

from fettle.runs import EventLog, RunFolder
from fettle.server.listing import FRESH_SECONDS
from server.live_server import serving
from server.runs_on_disk import begin, finished, train, write_status

PARTS = (
    "", "/config", "/verdict", "/metrics", "/metrics?type=fixed_eval", "/series", "/series?y=nothing",
    "/evals", "/evaluations", "/concepts", "/patterns", "/samples", "/layers", "/alerts", "/checkpoints",
    "/predictions", "/logs", "/export", "/export?format=csv",
)  # fmt: skip


def lines(path: Path, *rows: bytes | str) -> None:
    """A run whose log is exactly these lines."""
    folder, log = begin(path)
    log.close()
    folder.metrics_path.write_bytes(
        b"\n".join(r if isinstance(r, bytes) else r.encode() for r in rows) + b"\n"
    )


def row(step: Any, loss: Any = 1.0, **fields: Any) -> str:
    """One train record as JSON; what is text stands as it is."""
    parts = {"step": step, "loss": loss, **fields}
    inside = ",".join(f'"{key}":{value}' for key, value in parts.items())
    return f'{{"type":"train",{inside}}}'


def a_line_of_10_mb(path: Path) -> None:
    lines(path, row(1), row(2, text='"' + "x" * 10_000_000 + '"'), "y" * 10_000_000, row(3))


def invalid_utf8(path: Path) -> None:
    lines(path, row(1), b'{"type":"train","step":2,"name":"\xff\xfe"}', b'{"type":"\xff","step":2}', row(3))


def odd_numbers(path: Path) -> None:
    values = [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "-1e400",
        "9" * 400,
        str(2**64),
        "true",
        "null",
        '"4"',
        "[]",
    ]
    lines(path, *(row(i, value) for i, value in enumerate(values, 1)), row(99))


def thousands_of_keys(path: Path) -> None:
    many = {f"metric/{i}": i for i in range(3_000)}
    lines(path, *(row(i) for i in range(1, 100)), row(100, **many), *(row(i) for i in range(101, 300)))


def deep_json(path: Path) -> None:
    deep = "[" * 200_000 + "]" * 200_000
    lines(
        path,
        row(1),
        row(2, deep=deep),
        row(3, deep="[" * 900 + "]" * 900),
        row(4, deep='{"a":' * 500 + "1" + "}" * 500),
        row(5),
    )


def odd_steps(path: Path) -> None:
    steps = [1, 2, 2, -5, 10**30, 3.5, "null", '"7"', "true", 1e308, 5, 4, 4, 6]
    lines(
        path, *(row(step) for step in steps), '{"type":"resume","step":"x"}', '{"type":"resume","step":null}'
    )


def odd_records(path: Path) -> None:
    lines(
        path, "[]", "1", "null", '"x"', "{}", '{"type":null}', '{"type":7,"step":1}', '{"type":{"a":1}}',
        '{"type":"train"}', '{"type":"fixed_eval"}', '{"type":"fixed_eval","step":1,"exact_match":"x"}',
        '{"type":"checkpoint","step":1,"path":"../../../../etc","components":[1],"inputs":"x"}',
        '{"type":"checkpoint","step":null,"path":7}', '{"type":"checkpoint","step":2,"components":7}',
        '{"type":"alert","category":["x"],"evidence":[1],"first_step":"x","level":{}}', '{"type":"alert"}',
        '{"type":"layers","step":"x","rows":[1,{"groups":{"qkv":3}}]}', '{"type":"end","state":{"x":1}}',
        '{"type":"start","timestamp":"x"}', row(1),
    )  # fmt: skip


def hostile_texts(path: Path) -> None:
    nasty = json.dumps(
        "</script><img src=x onerror=alert(1)>\x1b]0;x\x07\x1b[2J\u202e\ud800=cmd|' /C calc'!A0"
    )
    lines(path, row(1, **{"=cmd()": 1, "<b>": 2}), f'{{"type":"alert","category":{nasty},"message":{nasty}}}')


def clock_jumps(path: Path) -> None:
    lines(path, *(row(i, timestamp=t) for i, t in enumerate([5e9, 1e9, -1, 0, "1e300", 2e9], 1)))


def damaged_files(path: Path) -> None:
    folder = finished(path, steps=6)
    folder.status_path.write_bytes(b'["not","an","object"]')
    folder.metadata_path.write_bytes(b"\xff{")
    folder.config_path.write_bytes(b"a: &x [1\n\x00")
    (folder.fixed_eval_path / "step-00000006.npz").write_bytes(b"PK\x03\x04 broken")
    (folder.checkpoints_path / "checkpoint-6" / "fettle.json").write_bytes(b'{"step": "x", "components": 7}')
    (folder.checkpoints_path / "checkpoint-99999999999999999999").mkdir()
    (folder.checkpoints_path / "checkpoint-7").write_text("a file")
    folder.log_path.write_bytes(bytes(range(256)) * 100)
    folder.predictions_path.parent.mkdir()
    folder.predictions_path.write_bytes(b'{"type":"prediction","step":[],"prompt_id":{}}\n\xff')


def odd_evaluations(path: Path) -> None:
    folder = finished(path, steps=6)
    folder.evaluations_path.parent.mkdir()
    rows = [
        {"type": "evaluation", "step": [], "data": {}, "trend": 7, "exact_match": "x"},
        {"type": "evaluation", "step": 1e300, "trend": {"exact_match": ["regressing"], "<b>": {"state": 3}}},
        {"type": "evaluation", "step": 6, "timestamp": {}, "trend": {"exact_match": {"state": "regressing"}}},
    ]
    folder.evaluations_path.write_bytes("\n".join(map(json.dumps, rows)).encode() + b"\n\xff{")


def odd_drift(path: Path) -> None:
    folder = finished(path, steps=6)
    folder.drift_path.parent.mkdir()
    content = {
        "texts": [], "checkpoints": [{"step": 1e300, "name": {}}, 5],
        "lenses": [{"concept": ["<b>"], "shifts": {"a": 1}, "branches": "x", "effect": True}, 7],
    }  # fmt: skip
    folder.drift_path.write_text(json.dumps(content))


def odd_status(path: Path) -> None:
    folder, _ = begin(path, tags="x", model=7)
    write_status(
        folder,
        state={"a": 1},
        step=1e300,
        epoch="x",
        active_alerts=3,
        fixed_eval=[1],
        loss="x",
        updated_at="now",
    )
    folder.metadata_path.write_bytes(
        b'{"created_at":"99999-01-01","model":["x"],"tags":[1,"ok",null],"patterns":3}'
    )


def yaml_bomb(path: Path) -> None:
    folder = finished(path, steps=6)
    bomb = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"] + [
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)
    ]
    folder.config_path.write_text("\n".join(bomb))


def deep_yaml(path: Path) -> None:
    finished(path, steps=6).config_path.write_text("a: " + "[" * 1_500)


def unpacks_to_gigabytes(path: Path) -> None:
    file = finished(path, steps=6).fixed_eval_path / "step-00000006.npz"
    with ZipFile(file, "a", ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("zeros", bytes(1 << 26))
        # Many names of the same bytes, as such archives are made.
        for number in range(40):
            again = copy(archive.getinfo("zeros"))
            again.filename = f"zeros-{number}"
            archive.filelist.append(again)


def a_pipe_for_a_log(path: Path) -> None:
    folder, log = begin(path)
    log.close()
    folder.metrics_path.unlink()
    os.mkfifo(folder.metrics_path)


def empty_files(path: Path) -> None:
    folder, _ = begin(path)
    for file in (folder.metrics_path, folder.status_path, folder.metadata_path, folder.config_path):
        file.write_bytes(b"")


def foreign_rubbish(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text('{"log_history": {"step": 1}, "global_step": "x"}')
    (path / "trainer_log.jsonl").write_text("{}\n[]\n")


CASES: list[Callable[[Path], None]] = [
    a_line_of_10_mb, invalid_utf8, odd_numbers, thousands_of_keys, deep_json, odd_steps, odd_records,
    hostile_texts, clock_jumps, damaged_files, odd_status, odd_evaluations, odd_drift, yaml_bomb, deep_yaml,
    unpacks_to_gigabytes,
    a_pipe_for_a_log, empty_files, foreign_rubbish,
]  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Generator[httpx.Client]:
    root = tmp_path_factory.mktemp("bad") / "runs"
    for case in CASES:
        case(root / case.__name__)
    with serving(root) as client:
        yield client


def strict(text: str) -> Any:
    """JSON as browsers take it."""

    def refuse(name: str) -> NoReturn:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def read(client: httpx.Client, address: str) -> Any:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text[:500]
    return strict(answer.text)


def test_all_of_them_are_listed(client: httpx.Client) -> None:
    rows = read(client, "/api/runs?sort=name")["runs"]
    assert {row["id"] for row in rows} == {case.__name__ for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_every_address_answers(client: httpx.Client, case: Callable[[Path], None]) -> None:
    for part in PARTS:
        answer = client.get(f"/api/runs/{case.__name__}{part}")
        assert answer.status_code in (200, 422), (part, answer.text[:500])
        if answer.headers["content-type"] == "application/json":
            told = strict(answer.text)
            if answer.status_code == 422:
                assert "\n" not in told["detail"]
    assert client.get(f"/api/training/checkpoints/{case.__name__}").status_code in (200, 422)


def test_rows_around_the_bad_ones_stand(client: httpx.Client) -> None:
    def steps(run: str) -> list[Any]:
        return read(client, f"/api/runs/{run}/metrics?columns=step&limit=1000000")["columns"]["step"]

    assert steps("a_line_of_10_mb") == [1, 2, 3]
    assert steps("invalid_utf8")[-1] == 3
    assert steps("deep_json")[0] == 1
    assert steps("deep_json")[-1] == 5
    assert steps("thousands_of_keys") == list(range(1, 300))


def test_numbers_that_are_none_are_flagged_and_never_numbers(client: httpx.Client) -> None:
    loss = read(client, "/api/runs/odd_numbers/metrics?columns=loss")["columns"]["loss"]
    assert loss[:3] == [None] * 3
    assert loss[-5:] == [None, None, None, None, 1.0]  # true, null, text and a list are no measurements.
    answer = client.get("/api/runs/odd_numbers/series?fields=nan_count,inf_count,minus_inf_count")
    counts = np.frombuffer(answer.content, dtype="<f8").reshape(-1, 3).sum(axis=0)
    assert counts.tolist() == [1, 3, 2]


def test_texts_come_as_they_are_in_json_and_as_no_formula_in_csv(client: httpx.Client) -> None:
    alerts = read(client, "/api/runs/hostile_texts/alerts")["alerts"]
    assert alerts[0]["message"].startswith("</script><img src=x onerror=alert(1)>")
    head = client.get("/api/runs/hostile_texts/export?format=csv").text.splitlines()[0]
    assert "'=cmd()" in head.split(",")


def test_damage_is_named(client: httpx.Client) -> None:
    problems = read(client, "/api/runs/invalid_utf8")["problems"]
    assert any("could not be read" in problem for problem in problems)
    answer = client.get("/api/runs/yaml_bomb/config")
    assert answer.status_code == 422
    assert "config.yaml" in answer.json()["detail"]
    assert "no plain file" in client.get("/api/runs/a_pipe_for_a_log").json()["detail"]


def test_two_writers_of_one_log_are_read(tmp_path: Path) -> None:
    folder, _ = begin(tmp_path / "runs" / "a")

    def write(first: int) -> None:
        train(EventLog(folder.metrics_path), range(first, 600, 2))

    writers = [threading.Thread(target=write, args=(first,)) for first in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with serving(tmp_path / "runs") as client:
        steps = read(client, "/api/runs/a/metrics?columns=step")["columns"]["step"]
        assert steps == sorted(set(steps))
        assert steps[-1] in (598, 599)


def test_a_torn_line_is_taken_once_it_is_whole(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "runs" / "a")
    log.close()
    whole = row(1).encode() + b"\n"
    with serving(tmp_path / "runs") as client, folder.metrics_path.open("ab", buffering=0) as stream:
        for end in (10, 25, len(whole)):
            assert read(client, "/api/runs/a")["counts"].get("train") is None
            stream.write(whole[: end - stream.tell() % 1] if end == 10 else b"")
            if end == 25:
                stream.write(whole[10:25])
            if end == len(whole):
                stream.write(whole[25:])
        assert read(client, "/api/runs/a")["counts"]["train"] == 1


def test_a_folder_that_cannot_be_written_is_served(tmp_path: Path) -> None:
    folder = finished(tmp_path / "runs" / "a", steps=6)
    paths = [folder.path, *folder.path.rglob("*"), tmp_path / "runs"]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        before = sorted(path.stat().st_mtime_ns for path in paths)
        with serving(tmp_path / "runs") as client:
            for part in PARTS:
                assert client.get(f"/api/runs/a{part}").status_code == 200, part
        assert sorted(path.stat().st_mtime_ns for path in paths) == before  # Watching writes nothing.
        assert sorted(folder.path.rglob("*")) == sorted(p for p in paths if folder.path in p.parents)
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_runs_come_and_go_under_the_server(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    with serving(root) as client:
        assert read(client, "/api/runs")["runs"] == []
        finished(root / "a", steps=6)
        assert client.get("/api/runs/a").status_code == 200
        RunFolder(root / "a").metrics_path.unlink()
        for part in PARTS:
            assert client.get(f"/api/runs/a{part}").status_code in (200, 422), part
        (root / "a").rename(root / "b")
        assert client.get("/api/runs/a").status_code == 404
        assert client.get("/api/runs/b").status_code == 200
        (root / "b").rename(tmp_path / "b")
        root.rmdir()
        time.sleep(FRESH_SECONDS)  # So long a list may be shown again.
        assert read(client, "/api/runs")["runs"] == []


def test_rubbish_on_the_line_ends_that_line_only(client: httpx.Client) -> None:
    url = client.base_url
    for rubbish in (
        b"\x00\xff\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
    ):
        # The server may end the line at any point of it.
        with socket.create_connection((url.host, url.port), timeout=30) as line, suppress(OSError):
            line.sendall(rubbish)
            line.shutdown(socket.SHUT_WR)
            assert b"200" not in line.recv(1000)[:20]
    assert client.get("/api/health").status_code == 200
