"""The Tinker server of the tests: the unmodified SDK trains on it, and its numbers are those of torch."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

pytest.importorskip("tinker")

import skyrl_server
from fettle.train.tinker.sdk import settled
from forked import forked
from tinker_server import KEY, TinkerServer, tinker_server
from train.tinker_project import write_project

TOKENS = [5, 17, 40, 41, 99, 7]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinkerServer]:
    folder = write_project(tmp_path_factory.mktemp("server"))
    with tinker_server(folder / "base", folder / "service") as running:
        yield running


def test_the_sdk_trains_saves_restores_and_samples(server: TinkerServer) -> None:
    def session() -> dict[str, Any]:
        import tinker
        from tinker import types

        service = tinker.ServiceClient(base_url=server.url, api_key=KEY)
        training = settled(
            service.create_lora_training_client(str(server.base), rank=4, seed=3, train_unembed=False)
        )
        datum = types.Datum(
            model_input=types.ModelInput.from_ints(TOKENS[:-1]),
            loss_fn_inputs={"target_tokens": TOKENS[1:], "weights": [0.0, 0.0, 0.5, 0.5, 0.5]},
        )
        adam = types.AdamParams(learning_rate=0.05)
        told: dict[str, Any] = {}

        def step() -> Any:
            forward = training.forward_backward([datum], "cross_entropy")
            optimizer = training.optim_step(adam)
            told["grad_norm"] = optimizer.result().metrics["unclipped_grad_l2:mean"]
            return forward.result()

        first = step()
        told["first"] = first.loss_fn_outputs[0]["logprobs"].data
        told["loss"] = first.metrics["loss:sum"]
        saved = training.save_state("one", ttl_seconds=3600).result().path
        told["second"] = step().loss_fn_outputs[0]["logprobs"].data
        training = settled(service.create_training_client_from_state_with_optimizer(saved))
        told["again"] = step().loss_fn_outputs[0]["logprobs"].data
        sampler = settled(training.save_weights_and_get_sampling_client())
        answer = sampler.sample(
            types.ModelInput.from_ints(TOKENS),
            num_samples=1,
            sampling_params=types.SamplingParams(max_tokens=3, temperature=0),
            topk_prompt_logprobs=2,
        ).result()
        told["tokens"] = list(answer.sequences[0].tokens)
        told["top"] = answer.topk_prompt_logprobs
        return told

    told = forked(session)
    base = transformers.AutoModelForCausalLM.from_pretrained(server.base, dtype=torch.float32)
    logprob_TV = base(input_ids=torch.tensor([TOKENS])).logits[0].detach().log_softmax(-1)
    expected = [float(logprob_TV[t, token]) for t, token in enumerate(TOKENS[1:])]
    np.testing.assert_allclose(told["first"], expected, atol=1e-5)
    assert told["loss"] == pytest.approx(-0.5 * sum(expected[2:]), abs=1e-5)
    assert told["grad_norm"] > 0
    assert sum(told["second"][2:]) > sum(told["first"][2:])
    np.testing.assert_array_equal(told["again"], told["second"])
    assert len(told["tokens"]) <= 3
    assert told["top"][0] is None or len(told["top"][0]) == 0
    assert all(len(row) == 2 for row in told["top"][1:])


def test_a_wrong_key_and_an_unknown_model_are_refused(server: TinkerServer) -> None:
    def session(key: str, model: str) -> str:
        import tinker

        try:
            service = tinker.ServiceClient(base_url=server.url, api_key=key)
            return str(settled(service.create_lora_training_client(model, rank=4)))
        except tinker.TinkerError as error:
            return f"{type(error).__name__}: {error}"

    assert "AuthenticationError" in forked(lambda: session("tml-wrong", str(server.base)))
    assert "is not supported" in forked(lambda: session(KEY, "./none"))


def test_an_environment_that_cannot_be_built_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that was left half made is made again."""
    monkeypatch.setattr(skyrl_server, "FOLDER", tmp_path)

    def fails(folder: Path) -> None:
        folder.mkdir()
        (folder / "half").touch()
        told = "ERROR: No matching distribution found for skyrl\n\n[notice] A new release of pip is available"
        raise subprocess.CalledProcessError(1, "pip", stderr=told)

    with pytest.raises(pytest.skip.Exception, match=r"found for skyrl\. It comes from PyPI.*FETTLE_SKYRL"):
        skyrl_server.built("one", fails)
    monkeypatch.setenv("FETTLE_REQUIRE_SKYRL", "1")
    with pytest.raises(pytest.fail.Exception, match=f"one cannot be built in {tmp_path}"):
        skyrl_server.built("one", fails)
    assert skyrl_server.built("one", Path.mkdir) == tmp_path / "one"
    assert list((tmp_path / "one").iterdir()) == [tmp_path / "one" / skyrl_server.WHOLE]
