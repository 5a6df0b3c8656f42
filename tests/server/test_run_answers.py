"""What the API answers is what the files hold."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fettle.api import open_run
from fettle.decide import rank_checkpoints
from server.live_server import serving
from server.runs_on_disk import begin, evaluate, finished, save_checkpoint, train, write_status


def get(client: httpx.Client, address: str, **query: Any) -> Any:
    answer = client.get(address, params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def curve(client: httpx.Client, address: str, **query: Any) -> np.ndarray:
    answer = client.get(address, params=query)
    assert answer.status_code == 200, answer.text
    fields = answer.headers["X-Fields"].split(",")
    rows = np.frombuffer(answer.content, dtype="<f8").reshape(-1, len(fields))
    assert len(rows) == int(answer.headers["X-Rows"])
    return rows


def test_runs_are_listed_with_what_their_files_say(client: httpx.Client) -> None:
    answer = get(client, "/api/runs", sort="name")
    assert [row["id"] for row in answer["runs"]] == ["alpha", "team~beta"]
    row = answer["runs"][0]
    assert (row["kind"], row["state"], row["step"], row["total_steps"]) == ("fettle", "completed", 60, 60)
    assert (row["model"], row["tags"], row["best_step"]) == ("tiny", ["keep"], 40)
    assert row["loss"] == 4.0 / 60
    assert row["started_at"] == 1_767_323_045.0
    assert row["exact_match"] is None  # status.json names no eval: not measured, not zero.


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"q": "BETA tiny"}, ["team~beta"]),
        ({"q": "gamma"}, []),
        ({"tag": "keep"}, ["alpha"]),
        ({"sort": "-step"}, ["alpha", "team~beta"]),
        ({"sort": "step"}, ["team~beta", "alpha"]),
        ({"sort": "step", "limit": 1, "offset": 1}, ["alpha"]),
    ],
)
def test_runs_are_searched_sorted_and_paged(
    client: httpx.Client, query: dict[str, Any], ids: list[str]
) -> None:
    assert [row["id"] for row in get(client, "/api/runs", **query)["runs"]] == ids


def test_one_run_tells_what_there_is_to_ask_for(client: httpx.Client, folder: Path) -> None:
    answer = get(client, "/api/runs/alpha")
    assert answer["status"] == json.loads((folder / "alpha" / "status.json").read_bytes())
    assert answer["metadata"]["config_hash"] == "x"
    assert answer["counts"] == {"start": 1, "train": 60, "fixed_eval": 3, "checkpoint": 3, "end": 1}
    assert {"step", "loss", "learning_rate"} <= set(answer["columns"]["train"])
    assert answer["problems"] == []


def test_configuration_verdict_and_evals_are_those_of_the_run(client: httpx.Client, folder: Path) -> None:
    run = open_run(folder / "alpha")
    config = get(client, "/api/runs/alpha/config")
    assert config["resolved"] == {"model": "tiny", "training": {"learning_rate": 0.001}}
    assert config["yaml"] == (folder / "alpha" / "config.yaml").read_text()
    assert get(client, "/api/runs/alpha/verdict") == json.loads(json.dumps(run.verdict().to_json()))
    evals = get(client, "/api/runs/alpha/evals")["evals"]
    for row, e in zip(evals, run.evals(), strict=True):
        assert (row["step"], row["exact_match"], row["cross_entropy"]) == (
            e.step,
            e.exact_match,
            e.cross_entropy,
        )
        assert (row["exact_match_low"], row["seconds"]) == (e.exact_match_low, 1.5)
        assert row["perplexity"] == pytest.approx(math.exp(row["cross_entropy"]))


def test_metrics_come_in_columns_and_go_on_from_a_cursor(tmp_path: Path) -> None:
    _, log = begin(tmp_path / "runs" / "live")
    train(log, range(1, 11))
    with serving(tmp_path / "runs") as client:
        address = "/api/runs/live/metrics"
        first = get(client, address, columns="step,loss,nonsense")
        assert first["columns"] == {"step": list(range(1, 11)), "loss": [4.0 / step for step in range(1, 11)]}
        again = get(client, address, columns="step", since=first["cursor"])
        assert (again["columns"], again["rewound"]) == ({"step": []}, False)
        train(log, range(11, 14))
        log.append("system", {"step": 13, "host_cpu": 0.5})
        more = get(client, address, columns="step", since=again["cursor"])
        assert (more["columns"], more["rewound"]) == ({"step": [11, 12, 13]}, False)
        assert get(client, address, type="system", columns="host_cpu")["columns"] == {"host_cpu": [0.5]}
        # A resume supersedes rows: what was given before no longer counts.
        log.append("resume", {"step": 5})
        train(log, range(6, 8), {6: 0.5})
        back = get(client, address, columns="step,loss", since=more["cursor"])
        assert back["rewound"]
        assert back["columns"]["step"] == [1, 2, 3, 4, 5, 6, 7]
        assert back["columns"]["loss"][5] == 0.5
    with serving(tmp_path / "runs") as client:  # Another process: the cursor still holds.
        train(log, range(8, 9))
        after = get(client, address, columns="step", since=back["cursor"])
        assert (after["columns"], after["rewound"]) == ({"step": [8]}, False)
        assert get(client, address, since="garbage:9", columns="step")["rewound"]


def test_long_metrics_come_in_parts(client: httpx.Client) -> None:
    steps: list[float] = []
    cursor = None
    for _ in range(9):
        query = {"since": cursor} if cursor else {}
        part = get(client, "/api/runs/alpha/metrics", columns="step", limit=7, **query)
        steps += part["columns"]["step"]
        cursor = part["cursor"]
        assert not part["rewound"]
    assert steps == list(range(1, 61))
    assert not part["more"]


def test_curves_are_binary_and_keep_every_spike(tmp_path: Path) -> None:
    _, log = begin(tmp_path / "runs" / "spiky")
    loss = {5000: 99.0, 7777: -3.0, 9000: math.nan, 9001: math.inf, 9002: -math.inf}
    train(log, range(1, 10_001), loss)
    with serving(tmp_path / "runs") as client:
        address = "/api/runs/spiky/series"
        answer = client.get(address, params={"width": 100})
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["X-Fields"] == "x_first,x_last,min,max,mean,count,nonfinite_count"
        assert answer.headers["X-Raw"] == "0"
        rows = np.frombuffer(answer.content, dtype="<f8").reshape(-1, 7)
        assert len(rows) == int(answer.headers["X-Rows"]) <= 100
        assert rows[:, 3].max() == 99.0
        assert rows[:, 2].min() == -3.0
        assert (rows[:, 5].sum(), rows[:, 6].sum()) == (9_997, 3)
        flags = curve(client, address, width=100, fields="nan_count,inf_count,minus_inf_count")
        assert flags.sum(axis=0).tolist() == [1, 1, 1]
        window = curve(client, address, **{"from": 4990, "to": 5010}, fields="x_first,max")
        assert window.tolist() == [[s, 99.0 if s == 5000 else 4.0 / s] for s in range(4990, 5011)]
        assert len(curve(client, address, y="no_such_column")) == 0
        refused = client.get(address, params={"fields": "min,median"})
        assert refused.status_code == 422
        assert refused.json()["detail"].startswith("unknown field 'median'; there are x_first")


def test_a_column_of_nothing_but_nan_is_drawn_as_such(tmp_path: Path) -> None:
    _, log = begin(tmp_path / "runs" / "lost")
    train(log, range(1, 6), dict.fromkeys(range(1, 6), math.nan))
    with serving(tmp_path / "runs") as client:
        rows = curve(client, "/api/runs/lost/series", fields="x_first,min,count,nan_count")
        assert rows[:, [0, 2, 3]].tolist() == [[s, 0, 1] for s in range(1, 6)]
        assert np.isnan(rows[:, 1]).all()


def test_checkpoints_carry_score_components_and_the_choice(client: httpx.Client, folder: Path) -> None:
    run = open_run(folder / "alpha")
    answer = get(client, "/api/runs/alpha/checkpoints")
    verdict = run.verdict()
    assert verdict.checkpoint is not None
    assert answer["best_step"] == verdict.checkpoint["step"]
    assert [row["step"] for row in answer["checkpoints"]] == [60, 40, 20]
    ranked = {r.step: r for r in rank_checkpoints(run.checkpoints(), run.evals(), run.columns("train"))}
    for row in answer["checkpoints"]:
        scored = ranked[row["step"]].score
        assert row["score"] == scored.score
        assert sum(row["components"].values()) == pytest.approx(row["score"])
        assert row["inputs"]["eval_loss"] == row["cross_entropy"]
        assert (row["is_latest"], row["on_disk"]) == (row["step"] == 60, True)
        assert row["is_best"] == (row["step"] == answer["best_step"])
        saved = folder / "alpha" / "checkpoints" / f"checkpoint-{row['step']}"
        assert row["path"] == str(saved)
        assert row["size_bytes"] == sum(f.stat().st_size for f in saved.iterdir())


def test_the_earlier_address_has_the_earlier_fields_and_the_score(client: httpx.Client) -> None:
    answer = get(client, "/api/training/checkpoints/team~beta")
    rows = get(client, "/api/runs/team~beta/checkpoints")["checkpoints"]
    assert answer["job_id"] == "team~beta"
    assert answer["message"] is None
    assert [row["score"] for row in answer["checkpoints"]] == [row["score"] for row in rows]
    assert [row["eval_loss"] for row in answer["checkpoints"]] == [row["cross_entropy"] for row in rows]
    named = {
        "path",
        "epoch",
        "step",
        "eval_loss",
        "train_loss",
        "size_bytes",
        "created_at",
        "is_best",
        "is_latest",
    }
    assert named <= answer["checkpoints"][0].keys()
    assert answer["best_checkpoint"] == next(row for row in answer["checkpoints"] if row["is_best"])


def test_a_run_without_checkpoints_says_so(tmp_path: Path) -> None:
    begin(tmp_path / "runs" / "new")
    with serving(tmp_path / "runs") as client:
        answer = get(client, "/api/training/checkpoints/new")
        assert (answer["checkpoints"], answer["best_checkpoint"]) == ([], None)
        assert answer["message"] == "no checkpoint was saved yet"


def test_nothing_is_worked_out_twice_while_nothing_changes(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "runs" / "live")
    train(log, range(1, 11))
    loss = evaluate(folder, log, 10, 100)
    save_checkpoint(folder, log, 10, loss, 0.5)
    asked = [
        "/api/runs/live/checkpoints",
        "/api/runs/live/verdict",
        "/api/runs",
        "/api/training/checkpoints/live",
    ]
    with folder.lock(), serving(tmp_path / "runs") as client:
        before = [get(client, address) for address in asked]
        parsed = get(client, "/api/health")["parsed"]
        for _ in range(5):
            assert [get(client, address) for address in asked] == before
        assert get(client, "/api/health")["parsed"] == parsed
        train(log, range(11, 13))  # Train rows before the next eval change neither scores nor verdict ...
        get(client, asked[0])
        once_more = get(client, "/api/health")["parsed"]
        assert once_more <= parsed + 1  # ... but that there are any after the last eval.
        train(log, range(13, 40))
        for address in asked:
            get(client, address)
        assert get(client, "/api/health")["parsed"] <= once_more + 1
        loss = evaluate(folder, log, 40, 150)
        save_checkpoint(folder, log, 40, loss, 0.2)
        assert [c["step"] for c in get(client, asked[0])["checkpoints"]] == [40, 10]
        assert get(client, "/api/health")["parsed"] > once_more + 1


def test_a_run_that_changes_is_listed_anew(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "runs" / "live")
    with serving(tmp_path / "runs") as client:

        def row() -> dict[str, Any]:
            return get(client, "/api/runs/live")

        with folder.lock():
            assert row()["state"] == "running"
            write_status(
                folder,
                state="running",
                step=7,
                active_alerts=[{"category": "plateau"}],
                fixed_eval={"exact_match": 0.5},
            )
            assert (row()["step"], row()["alerts"], row()["exact_match"]) == (7, 1, 0.5)
        assert row()["state"] == "crashed"  # Nobody holds it, and it never said how it ended.
        log.append("end", {"step": 7, "state": "early_stopped"})
        write_status(folder, state="early_stopped", step=7)
        assert row()["state"] == "early_stopped"


def test_the_log_is_tailed_filtered_and_searched(tmp_path: Path) -> None:
    folder = finished(tmp_path / "runs" / "a")
    rows = [f"2026-01-01 00:00:00.00{i} {'ERROR' if i == 3 else 'INFO':<8} m: line {i}\n" for i in range(9)]
    folder.log_path.write_text("".join(rows))
    with serving(tmp_path / "runs") as client:
        address = "/api/runs/a/logs"
        answer = get(client, address, limit=2, offset=-2)
        assert (answer["total_lines"], answer["offset"]) == (9, 7)
        assert [line["text"] for line in answer["lines"]] == ["m: line 7", "m: line 8"]
        answer = get(client, address, level="warning")
        assert answer["lines"] == [
            {"time": "2026-01-01 00:00:00.003", "level": "error", "text": "m: line 3", "repeated": 1}
        ]
        assert get(client, address, q="LINE 4")["total_lines"] == 1


def test_everything_measured_can_be_downloaded(client: httpx.Client, folder: Path) -> None:
    answer = client.get("/api/runs/alpha/export")
    assert answer.headers["content-disposition"] == 'attachment; filename="alpha.json"'
    run = open_run(folder / "alpha")
    assert answer.json()["records"]["train"] == run.records("train")
    assert answer.json()["records"]["fixed_eval"] == run.records("fixed_eval")
    answer = client.get("/api/runs/team~beta/export", params={"format": "csv"})
    assert answer.headers["content-disposition"] == 'attachment; filename="team_beta-train.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [int(row["step"]) for row in rows] == list(range(1, 31))
    assert float(rows[4]["loss"]) == 4.0 / 5


def test_a_download_is_whole_however_long_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of rows follow each other without a gap, and every number comes back to the last bit."""
    _, log = begin(tmp_path / "runs/long")
    rng = np.random.default_rng(0)
    numbers = [1e16, 1e22, 1e-7, 5e-324, -0.5, 0.0, 100.0, 1.7976931348623157e308, *rng.normal(size=6000)]
    for step, loss in enumerate(map(float, numbers), 1):
        seldom = {"held": step} if step % 1000 == 0 else {}
        log.append("train", {"step": step, "loss": loss, "loss_nonfinite": None, **seldom})
    log.append("train", {"step": len(numbers) + 1, "loss": float("nan")})
    log.close()
    with (tmp_path / "runs/long/metrics.jsonl").open("a") as stream:
        stream.write('{"type": "lone", "value": 1.5}\n{"type": "lone"}\n{"type": "lone", "value": 2}\n')
    with serving(tmp_path / "runs") as client:
        records = client.get("/api/runs/long/export").json()["records"]["train"]
        assert records == open_run(tmp_path / "runs/long").records("train")
        assert [row["step"] for row in records] == list(range(1, len(numbers) + 2))
        text = client.get("/api/runs/long/export?format=csv").text
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [float(row["loss"]) for row in rows[:-1]] == numbers
        assert (rows[-1]["loss"], rows[6]["loss"]) == ("", "100")
        assert (rows[998]["held"], rows[999]["held"]) == ("", "1000")
        assert "\n\n" not in text
        lone = client.get("/api/runs/long/export?format=csv&type=lone").text
        assert list(csv.reader(io.StringIO(lone))) == [["value"], ["1.5"], [""], ["2"]]
        absent = client.get("/api/runs/long/export?format=csv&type=absent")
        assert (absent.status_code, absent.text.strip()) == (200, "")


def test_runs_of_other_tools_are_served_too(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    (root / "hf" / "checkpoint-2").mkdir(parents=True)
    history = [
        {"step": 1, "loss": 2.0, "epoch": 0.5},
        {"step": 2, "loss": 1.0},
        {"step": 2, "eval_loss": 1.5},
    ]
    state = {"log_history": history, "global_step": 2, "max_steps": 2, "best_model_checkpoint": None}
    (root / "hf" / "checkpoint-2" / "trainer_state.json").write_text(json.dumps(state))
    (root / "hf" / "checkpoint-2" / "model.safetensors").write_bytes(b"w")
    (root / "cookbook").mkdir()
    (root / "cookbook" / "metrics.jsonl").write_text(
        '{"step": 0, "train_mean_nll": 3.0, "progress/batch": 0}\n'
    )
    (root / "nothing").mkdir()
    with serving(root) as client:
        # On a busy machine the first list may not have got to every log.
        for _ in range(20):
            rows = {row["id"]: row for row in get(client, "/api/runs")["runs"]}
            if not any(row["problem"] == "not read yet" for row in rows.values()):
                break
            time.sleep(0.6)
        assert {id: row["kind"] for id, row in rows.items()} == {
            "hf": "huggingface",
            "cookbook": "tinker_cookbook",
        }
        assert (rows["hf"]["step"], rows["hf"]["cross_entropy"], rows["hf"]["state"]) == (2, 1.5, "completed")
        assert get(client, "/api/runs/hf/checkpoints")["checkpoints"][0]["step"] == 2
        assert curve(client, "/api/runs/hf/series", fields="x_first,max").tolist() == [[1.0, 2.0], [2.0, 1.0]]
        assert get(client, "/api/runs/hf/config") == {"resolved": None, "yaml": None}
        assert get(client, "/api/runs/cookbook/logs")["total_lines"] == 0
        assert get(client, "/api/runs/hf/verdict")["run"] == "hf"


def test_a_single_run_can_be_served(tmp_path: Path) -> None:
    finished(tmp_path / "only")
    with serving(tmp_path / "only") as client:
        assert [row["id"] for row in get(client, "/api/runs")["runs"]] == ["only"]
        assert get(client, "/api/runs/only")["step"] == 60


def test_without_a_page_the_api_says_so(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert "html" in answer.headers["content-type"] or "not built" in answer.text
