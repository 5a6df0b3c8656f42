"""Samples, patterns, layers, alerts, predictions and comparisons are those of the files."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fettle.api import open_run
from fettle.metrics import summarise_samples, wilson_interval
from fettle.runs import EventLog, RowLog, RunFolder, save_samples
from server.live_server import serving
from server.runs_on_disk import finished, samples

LAYER = {"modules": 1, "relative": 0.1, "movement": 1.0, "weight_norm": 10.0, "grad_norm": 0.5}


def layers_record(step: int, scale: float) -> dict[str, Any]:
    rows = []
    for layer in range(3):
        moved = scale * (layer + 1) if layer < 2 else 0.0
        group = {**LAYER, "movement": moved, "grad_norm": 1e-7 if layer == 1 else 0.5}
        rows.append({"layer": layer, "groups": {"qkv": group, "mlp": {**LAYER, "movement": 0.0}}})
    return {"step": step, "method": "lora", "since_step": 0, "rows": rows}


def alert(change: str, category: str, step: int, **fields: Any) -> dict[str, Any]:
    told = {"level": "warning", "message": f"{category} at {step}", "action": "look"}
    at = {"step": step, "first_step": 3, "last_step": step, "evidence": {"n": step}}
    return {"change": change, "category": category, **told, **at, **fields}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("detail") / "runs"
    for name in ("a", "b,c"):
        folder = finished(root / name)
        log = EventLog(folder.metrics_path)
        log.append("layers", layers_record(20, 0.1))
        log.append("layers", layers_record(60, 0.2))
        log.append("alert", alert("fired", "plateau", 5))
        log.append("alert", alert("fired", "nan_loss", 8))
        log.append("alert", alert("escalated", "nan_loss", 9, level="critical"))
        log.append("alert", alert("resolved", "plateau", 11, resolved=True, resolved_step=11))
        log.append("alert", alert("fired", "plateau", 30, threshold=0.01))
        log.close()
        predictions = RowLog(folder.predictions_path, "prediction")
        for step in (20, 40):
            predictions.append(
                {
                    "step": step, "prompt_id": f"p{i}", "prompt": [{"content": f"<b>{i}</b>"}],
                    "ground_truth": "yes", "pattern": "maths", "prediction": f"no {step}",
                }
                for i in range(2)
            )  # fmt: skip
        predictions.resume(30)
        predictions.close()
    (root / "b,c" / "config.yaml").write_text("model: tiny\ntraining:\n  learning_rate: 0.01\n  epochs: 2\n")
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Generator[httpx.Client]:
    with serving(root) as client:
        yield client


def get(client: httpx.Client, address: str, **query: Any) -> Any:
    answer = client.get(address, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_table_counts_the_samples_of_one_eval(client: httpx.Client) -> None:
    answer = get(client, "/api/runs/a/patterns", step=40)
    assert answer["steps"] == [20, 40, 60]
    assert get(client, "/api/runs/a/patterns")["step"] == 60
    results = samples(200, 150, seed=40)
    for name in ("facts", "maths"):
        inside = results.pattern == name
        total = next(row for row in answer["patterns"] if row["pattern"] == name)
        assert (total["seen"], total["correct"]) == (100, int(results.exact_match[inside].sum()))
        assert (total["low"], total["high"]) == wilson_interval(total["correct"], total["seen"])
        nats = results.cross_entropy_sum[inside].sum() / results.tokens[inside].sum()
        assert total["cross_entropy"] == pytest.approx(nats)
        assert total["train_share"] is None  # Nobody counted.
    assert sum(cell["seen"] for cell in answer["cells"]) == 200
    assert answer["lengths"][0] == "0-100"
    assert answer["weakest"][0]["pattern"] in ("facts", "maths")
    assert get(client, "/api/runs/a/patterns", step=7)["cells"] == []


def test_samples_without_exact_match_have_their_loss_and_no_fate(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "runs" / "a", config_yaml="{}\n", metadata={})
    log = EventLog(folder.metrics_path)
    for step in (10, 20):
        results = replace(samples(30, 12, seed=step), exact_match=None)
        save_samples(folder.fixed_eval_path, step, results)
        log.append("fixed_eval", {"step": step, **summarise_samples(results)})
    log.close()
    with serving(tmp_path / "runs") as client:
        rows = get(client, "/api/runs/a/samples", limit=1000)["samples"]
        assert len(rows) == 30
        assert all(row["exact_match"] is None and row["history"] is None for row in rows)
        assert min(row["cross_entropy"] for row in rows) > 0
        assert get(client, "/api/runs/a/patterns")["cells"] == []
        [first, last] = get(client, "/api/runs/a/evals")["evals"]
        assert first["exact_match"] is None
        assert last["cross_entropy"] > 0


def test_samples_are_chosen_by_cell_and_by_what_became_of_them(client: httpx.Client) -> None:
    everything = get(client, "/api/runs/a/samples", limit=1000)
    assert (everything["step"], everything["total"], len(everything["samples"])) == (60, 200, 200)
    worst = [row["cross_entropy"] for row in everything["samples"]]
    assert worst == sorted(worst, reverse=True)
    # 80 were right at first, 150 then, 140 at last: the first n samples each time.
    counts = {"always": 80, "learned": 60, "forgotten": 10, "never": 50, "flipping": 0}
    for fate, count in counts.items():
        assert get(client, "/api/runs/a/samples", history=fate)["total"] == count
    lost = get(client, "/api/runs/a/samples", history="forgotten", limit=3, offset=8)["samples"]
    assert len(lost) == 2
    assert lost[0]["right_at"] == [40]
    assert not lost[0]["exact_match"]
    cell = get(client, "/api/runs/a/samples", pattern="maths", length="0-100", limit=1000)
    assert cell["total"] == 100
    assert {row["pattern"] for row in cell["samples"]} == {"maths"}
    assert get(client, "/api/runs/a/samples", length="300-500")["total"] == 0
    assert client.get("/api/runs/a/samples", params={"history": "sad"}).status_code == 422


def test_layers_have_their_movement_their_state_and_their_history(client: httpx.Client) -> None:
    answer = get(client, "/api/runs/a/layers")
    assert (answer["steps"], answer["step"], answer["method"]) == ([20, 60], 60, "lora")
    rows = {(row["layer"], row["group"]): row for row in answer["layers"]}
    assert rows[1, "qkv"]["relative_movement"] == pytest.approx(0.04)
    assert rows[1, "qkv"]["state"] == "vanishing"
    assert rows[0, "qkv"]["state"] == "moved"
    assert rows[2, "all"]["state"] == "dead"
    assert rows[1, "all"]["relative_movement"] == pytest.approx(0.4 / np.hypot(10, 10))
    assert [row["layer"] for row in answer["top"]] == [1, 0]
    history = {row["layer"]: row for row in answer["history"]}
    assert history[0]["relative_movement"] == pytest.approx([0.1 / np.hypot(10, 10), 0.2 / np.hypot(10, 10)])


def test_alerts_are_told_once_with_what_became_of_them(client: httpx.Client) -> None:
    alerts = get(client, "/api/runs/a/alerts")["alerts"]
    assert [(a["category"], a["severity"], a["resolved"]) for a in alerts] == [
        ("plateau", "warning", False),
        ("nan_loss", "critical", False),
        ("plateau", "warning", True),
    ]
    assert alerts[0]["message"] == "plateau at 30"
    assert alerts[0]["threshold"] == 0.01
    assert alerts[0]["recommendation"] == "look"
    assert (alerts[2]["resolved_step"], alerts[2]["evidence"]) == (11, {"n": 11})


def test_a_run_that_hangs_is_an_alert_though_nothing_logs_it(tmp_path: Path) -> None:
    folder = finished(tmp_path / "runs" / "stuck")
    rows = [json.loads(line) for line in folder.metrics_path.read_text().splitlines()]
    began = [{**row, "timestamp": row["timestamp"] - 1e6} for row in rows if row["type"] != "end"]
    folder.metrics_path.write_text("".join(json.dumps(row) + "\n" for row in began))
    with RunFolder(folder.path).lock(), serving(tmp_path / "runs") as client:
        alerts = get(client, "/api/runs/stuck/alerts")["alerts"]
        assert [a["category"] for a in alerts] == ["stalled_run"]
        assert [a["category"] for a in open_run(folder.path).alerts()] == ["stalled_run"]


def test_predictions_are_grouped_by_prompt_and_superseded_ones_left_out(client: httpx.Client) -> None:
    answer = get(client, "/api/runs/a/predictions")
    assert answer["steps"] == [20]
    assert [row["prompt_id"] for row in answer["prompts"]] == ["p0", "p1"]
    first = answer["prompts"][0]
    assert first["prompt"] == [{"content": "<b>0</b>"}]
    assert first["ground_truth"] == "yes"
    assert [(p["step"], p["prediction"]) for p in first["predictions"]] == [(20, "no 20")]
    assert get(client, "/api/runs/a/predictions", step=40)["prompts"] == []


def test_evaluations_are_the_newest_of_each_checkpoint_and_file(client: httpx.Client, root: Path) -> None:
    assert get(client, "/api/runs/a/evaluations") == {"evaluations": []}
    better = {"exact_match": {"state": "improving", "text": "up", "p_value": 0.01}}
    log = RowLog(RunFolder(root / "a").evaluations_path, "evaluation")
    rows = [
        (40, "hard", 0.3),
        (20, "hard", 0.1),
        (20, "hard", 0.2),
        (20, "easy", 0.9),
    ]
    log.append(
        {
            "step": step, "name": f"step_{step}", "data": data, "folder": "run_1", "exact_match": share,
            "number_pass_rate": share / 2, "unscored": None, "trend": better,
        }
        for step, data, share in rows
    )  # fmt: skip
    log.close()
    answer = get(client, "/api/runs/a/evaluations")["evaluations"]
    found = [(row["step"], row["data"], row["exact_match"], row["number_pass_rate"]) for row in answer]
    assert found == [
        (20, "easy", 0.9, 0.45), (20, "hard", 0.2, 0.1), (40, "hard", 0.3, 0.15),
    ]  # fmt: skip
    assert "unscored" not in answer[0]  # not measured
    assert answer[0]["trend"] == {"exact_match": {"state": "improving", "text": "up"}}
    RunFolder(root / "a").evaluations_path.unlink()


def test_runs_are_compared_by_what_differs(client: httpx.Client) -> None:
    answer = get(client, "/api/compare", ids="a,b,c")
    assert answer["runs"] == ["a", "b,c"]
    assert answer["configs"] == [
        {"key": "training.learning_rate", "values": [0.001, 0.01]},
        {"key": "training.epochs", "values": [None, 2]},
    ]
    best = get(client, "/api/runs/a/checkpoints")["best_step"]
    assert answer["steps"] == [best, best]
    assert {test["metric"]: test["difference"] for test in answer["tests"]} == {
        "exact_match": 0.0,
        "cross_entropy": 0.0,
    }
    assert client.get("/api/compare", params={"ids": "a"}).status_code == 422
    assert client.get("/api/compare", params={"ids": "a,a"}).status_code == 422
    assert client.get("/api/compare", params={"ids": "a,zz"}).status_code == 404
