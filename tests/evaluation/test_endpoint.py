"""A model behind an OpenAI-compatible API: `transformers serve`, a small real server, and one that fails."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from loguru import logger

from fettle import Sequence, score
from fettle.config import SamplingConfig
from fettle.config.endpoint import EndpointConfig
from fettle.errors import ConfigError, ModelError
from fettle.evaluation import openai_api
from fettle.evaluation.endpoint import Endpoint, EndpointAnswer
from fettle.scoring import sample
from lm_eval_world import trained_model
from openai_servers import FaultyServer, answer, model_app, serving
from tiny_models import tiny_tokenizer

CHATS = [[{"role": "user", "content": f"{i} plus {i + 1}"}] for i in range(6)]
CHATS.append([{"role": "system", "content": "é 日本"}, {"role": "user", "content": "the answer 🙂"}])
GREEDY = SamplingConfig(max_new_tokens=20)


@pytest.fixture(scope="module")
def model() -> Any:
    return trained_model(seed=3)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setattr(openai_api, "FIRST_PAUSE", 0.01)
    with FaultyServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def endpoint(url: str, **settings: Any) -> Endpoint:
    return Endpoint(EndpointConfig(base_url=url, **{"model": "tiny", **settings}))


def local_answers(model: Any, settings: SamplingConfig) -> list[str]:
    """What the same model says by our own generation."""
    tokenizer = tiny_tokenizer()
    prompts = [tokenizer.apply_chat_template(c, add_generation_prompt=True, return_dict=False) for c in CHATS]
    return [answers[0].text for answers in sample(model, tokenizer, prompts, settings)]


@pytest.fixture(scope="module")
def transformers_serve(tmp_path_factory: pytest.TempPathFactory, model: Any) -> Iterator[tuple[str, str]]:
    """Address and model name of a `transformers serve` that runs the model."""
    pytest.importorskip("openai")
    folder = tmp_path_factory.mktemp("served")
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = str(Path(sys.executable).with_name("transformers"))
    arguments = ["serve", str(folder), "--host", "127.0.0.1", "--port", port, "--device", "cpu"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program, *arguments], stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                        break
                except httpx.TransportError:
                    assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1", str(folder)
        finally:
            process.terminate()
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [[], ["is", "."]], ids=["to the end", "to a stop"])
def test_transformers_serve_says_what_the_model_says_here(
    transformers_serve: tuple[str, str], model: Any, stop: list[str]
) -> None:
    url, name = transformers_serve
    server = endpoint(url, model=name, concurrency=3)
    assert server.check() == []
    checked = server.usage.requests
    settings = GREEDY.model_copy(update={"stop": stop})
    come: list[EndpointAnswer] = []
    answers = server.answers(CHATS, settings, come.append)
    expected = local_answers(model, settings)
    # This server strips what it gives.
    assert [(found[0].text or "").strip() for found in answers] == [text.strip() for text in expected]
    assert len(set(expected)) > 3
    assert sorted(a.prompt for a in come) == list(range(len(CHATS)))
    assert (checked, server.usage.requests) == (1, 1 + len(CHATS))
    assert (server.usage.prompt_tokens or 0) > sum(a.prompt_tokens or 0 for a in come) > 0


@pytest.mark.slow
def test_what_transformers_serve_does_not_tell_is_not_measured(transformers_serve: tuple[str, str]) -> None:
    url, name = transformers_serve
    assert_nothing_is_told(url, name)


def test_what_a_server_does_not_tell_is_not_measured(model: Any) -> None:
    with serving(model_app(model, tiny_tokenizer(), tells=None)) as url:
        assert_nothing_is_told(url, "tiny")


def assert_nothing_is_told(url: str, name: str) -> None:
    [found] = endpoint(url, model=name).scores([Sequence([5, 6, 7], [0, 1, 1])])
    assert (found.logprob, found.correct, found.cross_entropy_sum, found.exact_match) == (None,) * 4
    assert "gives no log-probabilities" in (found.reason or "")


@pytest.mark.parametrize("tells", ["prompt_logprobs", "echo"])
def test_given_answers_are_scored_as_here(model: Any, tells: str) -> None:
    rng = np.random.default_rng(0)
    sequences = [
        Sequence(ids, rng.random(ids.size) < 0.5) for ids in (rng.integers(0, 320, n) for n in (9, 2, 60))
    ]
    line = tiny_tokenizer().encode(" 5 plus 6 is 11.")
    sequences += [Sequence(line, [0] * (len(line) - 4) + [1] * 4), Sequence([3, 4], [0, 0])]
    with serving(model_app(model, tiny_tokenizer(), tells=tells)) as url:
        found = endpoint(url, concurrency=2).scores(sequences)
    expected = score(model, sequences)
    for i, own in enumerate(found[:-1]):
        if not sequences[i].completion_tokens:
            continue
        at = slice(expected.offsets[i], expected.offsets[i + 1])
        np.testing.assert_allclose(own.logprob, expected.logprob[at], atol=1e-5)
        assert own.correct is not None
        assert own.correct.tolist() == expected.correct[at].tolist()
        assert own.cross_entropy_sum == pytest.approx(expected.cross_entropy_sum[i], abs=1e-4)
    assert found[3].exact_match is True
    assert (found[-1].logprob, found[-1].reason) == (None, "it has no completion")


def test_draws_have_seeds_of_their_own_and_come_again(model: Any) -> None:
    settings = SamplingConfig(n=2, temperature=2.0, top_p=0.95, max_new_tokens=6)
    with serving(model_app(model, tiny_tokenizer(), tells=None)) as url:
        server = endpoint(url, concurrency=3, prompt_price=2.0, completion_price=10.0)
        answers = server.answers(CHATS, settings)
        # As one goes on who lost the first: what is drawn does not depend on its place.
        again = server.answers(CHATS[4:], settings)
        greedy = server.answers(CHATS, GREEDY)
        stopped = server.answers(CHATS, GREEDY.model_copy(update={"stop": ["is", "7"]}))
    assert [[a.number for a in found] for found in answers] == [[0, 1]] * len(CHATS)
    assert len({a.text for a in answers[0]}) > 1
    assert [[a.text for a in found] for found in again] == [[a.text for a in found] for found in answers[4:]]
    assert [found[0].text for found in greedy] == local_answers(model, GREEDY)
    expected = local_answers(model, GREEDY.model_copy(update={"stop": ["is", "7"]}))
    assert [found[0].text for found in stopped] == expected != local_answers(model, GREEDY)
    usage = server.usage
    assert usage.prompt_tokens is not None
    assert usage.completion_tokens is not None
    assert server.spent()["cost"] == pytest.approx(
        (2 * usage.prompt_tokens + 10 * usage.completion_tokens) / 1e6
    )


def test_it_answers_where_a_loop_runs_already_as_in_a_notebook(faulty: FaultyServer) -> None:
    async def cell() -> list[list[EndpointAnswer]]:
        return endpoint(faulty.url).answers(CHATS, GREEDY)

    # In a thread of its own: that of the test has a loop where a browser was tested before.
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(asyncio.run, cell()).result()
    assert [len(answers) for answers in found] == [1] * len(CHATS)


def test_a_conversation_that_is_refused_does_not_end_the_others(model: Any) -> None:
    long = [{"role": "user", "content": "the answer " * 60}]
    with serving(model_app(model, tiny_tokenizer(), tells=None)) as url:
        found = endpoint(url).answers([CHATS[0], long, CHATS[1]], GREEDY)
        with pytest.raises(ModelError, match=r"status 404: .*the model other does not exist"):
            endpoint(url, model="other").answers(CHATS, GREEDY)
    assert [a.text is None for [a] in found] == [False, True, False]
    assert "status 400" in (found[1][0].reason or "")


def test_the_key_is_sent_and_never_shown(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    sink = logger.add(said.append, level="TRACE")
    try:
        with serving(model_app(model, tiny_tokenizer(), tells=None, key="s3cret-key")) as url:
            monkeypatch.setenv("ENDPOINT_KEY", "s3cret-key")
            server = endpoint(url, api_key_env="ENDPOINT_KEY")
            assert server.check() == ["tiny"]
            assert server.answers(CHATS[:1], GREEDY)[0][0].text is not None
            monkeypatch.setenv("ENDPOINT_KEY", "wr0ng-key")
            refused = endpoint(url, api_key_env="ENDPOINT_KEY")
            with pytest.raises(ModelError, match=r"models: status 401: set api_key_env") as check:
                refused.check()
            with pytest.raises(ModelError, match=r"status 401.*bad key Bearer \*\*\*") as asked:
                refused.answers(CHATS, GREEDY)
    finally:
        logger.remove(sink)
    shown = "".join([*said, str(check.value), str(asked.value), repr(server.config), repr(vars(server))])
    assert "s3cret" not in shown
    assert "wr0ng" not in shown
    monkeypatch.delenv("ENDPOINT_KEY")
    with pytest.raises(ConfigError, match="ENDPOINT_KEY is not set"):
        endpoint(url, api_key_env="ENDPOINT_KEY")


def test_a_server_that_is_not_there_is_named() -> None:
    server = endpoint("http://127.0.0.1:9/v1", attempts=1)
    with pytest.raises(ModelError, match=r"http://127.0.0.1:9/v1/models: cannot be reached: .*Start the"):
        server.check()
    with pytest.raises(ModelError, match="gave no answer in 1 attempts: ConnectError"):
        server.answers(CHATS, GREEDY)


@pytest.mark.parametrize(
    "faults",
    [
        [(429, {"Retry-After": "0.4"}, "slow down")],
        [(500, {}, ""), (500, {}, ""), (500, {}, "")],
        ["drop", "drop"],
        [(200, {}, '{"choices": [')],
        ["sleep"],
    ],
    ids=["429", "500 thrice", "dropped", "wrong JSON", "too late"],
)
def test_faults_that_pass_are_waited_for(faulty: FaultyServer, faults: list[Any]) -> None:
    left = list(faults)
    faulty.plan = lambda body: left.pop(0) if left else answer("fine")
    late = "sleep" in faults
    server = endpoint(faulty.url, concurrency=1, timeout_seconds=0.5 if late else 60)
    began = time.monotonic()
    [[found]] = server.answers(CHATS[:1], GREEDY)
    assert (found.text, found.reason) == ("fine", None)
    assert faulty.requests == server.retries + 1
    # On a busy machine the answer after the one that is too late may be too late as well.
    assert server.retries >= 1 if late else server.retries == len(faults)
    if faults[0][0] == 429:
        assert time.monotonic() - began >= 0.4
    # It does not count tokens: that is unknown, and so is what they cost.
    assert (server.usage.requests, server.usage.prompt_tokens, server.spent()["cost"]) == (1, None, None)


def test_faults_that_stay_leave_one_answer_unscored(faulty: FaultyServer) -> None:
    def plan(body: dict[str, Any]) -> Any:
        return "drop" if body["messages"] == CHATS[1] else answer(f"to {body['messages'][0]['content']}")

    faulty.plan = plan
    found = endpoint(faulty.url, attempts=2).answers(CHATS, GREEDY)
    assert [a.text for [a] in found if a.text] == [f"to {c[0]['content']}" for c in (CHATS[0], *CHATS[2:])]
    [unscored] = [a for [a] in found if a.text is None]
    assert unscored.prompt == 1
    assert "no answer in 2 attempts: RemoteProtocolError" in (unscored.reason or "")


@pytest.mark.parametrize(
    ("planned", "reason"),
    [
        ((200, {}, '{"object": "error"}'), "not an answer of a chat"),
        ((200, {}, '["x"]'), "not an answer of a chat"),
        (answer(None), "an answer without text"),
    ],
)
def test_an_answer_that_is_none_is_unscored(faulty: FaultyServer, planned: Any, reason: str) -> None:
    faulty.plan = lambda body: planned
    [[found]] = endpoint(faulty.url).answers(CHATS[:1], GREEDY)
    assert found.text is None
    assert reason in (found.reason or "")


def test_so_many_wait_at_once_and_answers_stand_in_order(faulty: FaultyServer) -> None:
    faulty.plan = lambda body: answer(body["messages"][0]["content"], usage={"prompt_tokens": 2})
    chats = [[{"role": "user", "content": str(i)}] for i in range(40)]
    server = endpoint(faulty.url, concurrency=4)
    assert [a.text for [a] in server.answers(chats, GREEDY)] == [str(i) for i in range(40)]
    assert 2 <= faulty.most_waiting <= 4
    assert server.usage.prompt_tokens == 80


def test_a_server_that_does_not_work_is_named(faulty: FaultyServer) -> None:
    faulty.plan = lambda body: (503, {}, "loading")
    with pytest.raises(ModelError, match="gave no answer in 2 attempts: status 503"):
        endpoint(faulty.url, attempts=2).check()


def test_what_an_endpoint_cannot_give_is_refused(faulty: FaultyServer) -> None:
    with pytest.raises(ConfigError, match="logprobs: cannot be had"):
        endpoint(faulty.url).answers(CHATS, GREEDY.model_copy(update={"logprobs": True}))
    assert faulty.requests == 0


def test_answers_that_come_with_a_refusal_are_kept() -> None:
    async def answered(value: int) -> int:
        if value == 3:
            raise ModelError("the key is refused")
        return value

    found: list[int] = []

    async def collect() -> None:
        results: Any = endpoint("http://127.0.0.1:1")._as_done(iter(map(answered, range(8))))
        async for value in results:
            found.append(value)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(ModelError, match="refused"):
        asyncio.run(collect())
    assert sorted(found) == [0, 1, 2, 4, 5, 6, 7]
