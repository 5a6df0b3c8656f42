"""The backend on answers that SkyRL gave: same requests as when they were recorded, and its numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("tinker")

from app_server import AppServer
from fettle.errors import RunError
from fettle.runs import RunReader
from forked import forked
from skyrl_server import sdk_folder, skyrl_server
from tinker_recording import (
    NEWER,
    PROJECT,
    Exchange,
    Replay,
    operation,
    read_recording,
    recorder_app,
    replay_app,
    work,
)
from train.tinker_project import write_project
from train.tinker_recorded import INTERRUPTED, STEPS, recorded_training

RECORDING = Path(__file__).parent / "recordings" / "skyrl-0.3.0.jsonl"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def recording() -> list[Exchange]:
    return read_recording(RECORDING)


def replay(project: Path, out: Path, *overrides: str, translating: bool = NEWER) -> list[Exchange]:
    """Train into `out` on the recorded answers; what was asked for."""
    log = out.with_suffix(".asked")
    answers = Replay(RECORDING, log, project, translating=translating)
    server = AppServer(lambda: replay_app(answers), out.with_suffix(".pid"))
    server.start()
    try:
        environment = {"TINKER_BASE_URL": server.url, "TINKER_API_KEY": "tml-any"}
        forked(lambda: recorded_training(project, out, *overrides), environment)
    finally:
        server.kill()
    return read_recording(log)


@pytest.fixture(scope="module")
def replayed(project: Path) -> tuple[Path, list[Exchange]]:
    """A run on the recorded answers, and what it asked for."""
    return project / "run", replay(project, project / "run")


def results(recording: list[Exchange], name: str) -> list[tuple[Any, Any]]:
    """Request and result of each call of that name, in order."""
    told = {e["request"]["request_id"]: e["answer"] for e in recording if "request_id" in e["request"]}
    return [
        (e["request"], told[e["answer"]["request_id"]]) for e in recording if operation(e["path"]) == name
    ]


def losses(recording: list[Exchange], name: str) -> list[tuple[float, int]]:
    """Cross-entropy sum and tokens that carry loss, of each pass, by the answers alone."""
    told: list[tuple[float, int]] = []
    for request, result in results(recording, name):
        total, tokens = 0.0, 0
        for datum, output in zip(request[f"{name}_input"]["data"], result["loss_fn_outputs"], strict=True):
            carries = np.array(datum["loss_fn_inputs"]["weights"]["data"]) > 0
            total -= np.array(output["logprobs"]["data"])[carries].sum()
            tokens += int(carries.sum())
        told.append((total, tokens))
    return told


def test_the_same_is_asked_for_as_when_it_was_recorded(
    replayed: tuple[Path, list[Exchange]], recording: list[Exchange], project: Path
) -> None:
    text = json.dumps(recording).replace(PROJECT, str(project))
    assert work(replayed[1]) == work(json.loads(text))


def test_the_recorded_losses_are_those_of_the_run(
    replayed: tuple[Path, list[Exchange]], recording: list[Exchange]
) -> None:
    run = RunReader(replayed[0])
    passes = losses(recording, "forward_backward")
    # Two passes a step.
    steps = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(passes[::2], passes[1::2], strict=True)]
    assert len(steps) == STEPS
    assert run.columns("train")["completion_tokens"].tolist() == [tokens for _, tokens in steps]
    np.testing.assert_allclose(
        run.columns("train")["loss"], [total / tokens for total, tokens in steps], rtol=1e-6
    )
    norms = [told["metrics"]["skyrl.ai/grad_norm"] for _, told in results(recording, "optim_step")]
    np.testing.assert_allclose(run.columns("train")["grad_norm"], norms)


def test_the_recorded_evals_and_answers_are_those_of_the_run(
    replayed: tuple[Path, list[Exchange]], recording: list[Exchange]
) -> None:
    run = RunReader(replayed[0])
    measured = [(e.step, e.cross_entropy) for e in run.evals()]
    told = [total / tokens for total, tokens in losses(recording, "forward")]
    assert measured == [(s, pytest.approx(ce, rel=1e-6)) for s, ce in zip((3, 6), told, strict=True)]
    said = [result["sequences"][0]["tokens"] for _, result in results(recording, "asample")]
    assert sum(row["completion_tokens"] for row in run.predictions()) > 0
    assert len(said) > len(run.predictions())
    assert all(e.exact_match is not None and e.expected_calibration_error is None for e in run.evals())


def test_checkpoints_are_where_the_service_put_them(
    replayed: tuple[Path, list[Exchange]], recording: list[Exchange]
) -> None:
    paths = {result["path"] for _, result in results(recording, "save_weights")}
    kept = {c.step: c.url for c in RunReader(replayed[0]).checkpoints()}
    assert set(kept) == {2, INTERRUPTED, 4, STEPS}
    assert set(kept.values()) == paths
    (loaded,) = [request["path"] for request, _ in results(recording, "load_weights")]
    assert loaded == kept[INTERRUPTED]


def test_a_result_that_is_late_is_asked_for_again(
    replayed: tuple[Path, list[Exchange]], recording: list[Exchange]
) -> None:
    """Every one was, once: it took no second request, and no new client."""
    asked = [operation(e["path"]) for e in replayed[1]]
    assert asked.count("forward_backward") == 2 * STEPS
    assert asked.count("create_session") == [operation(e["path"]) for e in recording].count("create_session")


def test_a_request_that_is_refused_ends_the_run_with_the_words_of_the_service(
    project: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"refuses it: create_model was not asked so when this was recorded$"):
        replay(project, tmp_path / "run", "lora.rank=2")


@pytest.mark.skipif(not NEWER, reason="older SDKs understand the recorded service")
def test_a_service_that_is_older_than_the_sdk_is_named(project: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"answers as older versions of the SDK .*pip install 'tinker==0\.24"):
        replay(project, tmp_path / "run", translating=False)


@pytest.mark.slow
@pytest.mark.skyrl
@pytest.mark.timeout(1800)
def test_the_recording_is_what_the_service_says(
    project: Path, recording: list[Exchange], tmp_path: Path
) -> None:
    """With FETTLE_RECORD set it is made anew."""
    file = tmp_path / "recording.jsonl"
    with skyrl_server(project / "base", tmp_path / "server") as service:
        relay = AppServer(lambda: recorder_app(service.url, file, project), tmp_path / "relay.pid")
        relay.start()
        try:
            sources = [str(sdk_folder()), *filter(None, [os.environ.get("PYTHONPATH")])]
            subprocess.run(
                [
                    sys.executable,
                    str(Path(__file__).parent / "tinker_recorded.py"),
                    project,
                    tmp_path / "run",
                ],
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(sources),
                    "TINKER_BASE_URL": relay.url,
                    "TINKER_API_KEY": "tml-any",
                },
                check=True,
            )
            _ask_what_newer_sdks_ask(relay.url, read_recording(file))
        finally:
            relay.kill()
    if os.environ.get("FETTLE_RECORD"):
        RECORDING.write_text(file.read_text())
    now, before = read_recording(file), read_recording(RECORDING)
    assert work(now) == work(before)
    for name in ("forward_backward", "forward"):
        np.testing.assert_allclose(losses(now, name), losses(before, name), rtol=1e-4)


def _ask_what_newer_sdks_ask(url: str, recorded: list[Exchange]) -> None:
    for exchange in recorded:
        if operation(exchange["path"]) == "create_model":
            body = {"model_id": exchange["answer"]["model_id"], "type": "get_info"}
            httpx.post(f"{url}/api/v1/get_info", json=body).raise_for_status()
    for _, result in results(recorded, "save_weights_for_sampler"):
        httpx.get(f"{url}/api/v1/samplers/{result['sampling_session_id']}").raise_for_status()
