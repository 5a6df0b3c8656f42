"""`backend: tinker` on a server that nobody here wrote: SkyRL's, by the SDK that it understands."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

pytest.importorskip("tinker")

from fettle.api import open_run
from fettle.config import load_config
from fettle.runs import RunReader
from fettle.scoring import score
from fettle.train.dataset import encode_chats, read_chats
from fettle.train.job import train
from fettle.train.model import load_tokenizer
from forked import forked
from skyrl_server import SkyRLServer, skyrl_server
from tiny_models import tiny_model, tiny_tokenizer
from train.skyrl_runs import command, killed_after, run
from train.tinker_project import write_project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skyrl,
    # The first of them builds the environment: 2.2 GB to download and unpack.
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
]
STEPS = 32
"""32 chats, 4 a step, 4 times."""
SETTINGS = [
    "training.epochs=4",
    "training.learning_rate=3.0e-3",
    "training.checkpoint_interval_steps=8",
    "training.eval_interval_steps=16",
    "training.eval_at_epoch_end=false",
    # SkyRL clips no gradient.
    "training.max_grad_norm=null",
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chats whose answers are right by halves for the base: it ends them, and guesses between two."""
    folder = write_project(tmp_path_factory.mktemp("skyrl"))
    rng = random.Random(1)
    for name, count in (("train", 32), ("valid", 8)):
        lines = [json.dumps({"messages": _chat(rng)}) + "\n" for _ in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    tokenizer = tiny_tokenizer()
    model = tiny_model("qwen3", vocab_size=len(tokenizer), hidden=32, layers=1).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        ids = torch.tensor([tokenizer.apply_chat_template(_chat(rng), return_dict=False)])
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder / "base")
    return folder


def _chat(rng: random.Random) -> list[dict[str, str]]:
    word = "".join(rng.choices("abcdefgh", k=rng.randint(2, 9)))
    answer = "yes" if word[0] in "abcd" else "no"
    return [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": answer}]


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[SkyRLServer]:
    with skyrl_server(project / "base", project / "server") as running:
        yield running


def training(project: Path, server: SkyRLServer, out: Path) -> tuple[list[str], dict[str, str]]:
    overrides = [part for setting in SETTINGS for part in ("--set", setting)]
    return command(server, "train", project / "train.yaml", "--out", out, "--quiet", *overrides)


def batches(requests: Sequence[dict[str, Any]]) -> list[list[list[int]]]:
    """Examples of each update that counts in the end: a restored state takes back what came after it."""
    steps: list[list[list[int]]] = []
    pending: list[list[int]] = []
    saved: dict[tuple[str, str], int] = {}
    for request in requests:
        if request["type"] == "forward_backward":
            pending += [datum["model_input"]["chunks"][0]["tokens"] for datum in request["data"]]
        elif request["type"] == "optim_step":
            steps.append(pending)
            pending = []
        elif request["type"] == "save_weights":
            saved[request["model"], request["path"]] = len(steps)
        elif request["type"] == "create_model":
            steps, pending = steps[:0] if not saved else steps, []
        elif request["type"] == "load_weights":
            del steps[saved[request["source_model_id"], request["checkpoint_id"]] :]
    return steps


@pytest.fixture(scope="module")
def reference(project: Path, server: SkyRLServer) -> tuple[Path, list[dict[str, Any]]]:
    """The uninterrupted run, and what the server was asked for it."""
    out = project / "reference"
    run(training(project, server, out))
    return out, server.requests()


@pytest.fixture(scope="module")
def local(project: Path) -> Path:
    out = project / "local"
    config = load_config(project / "train.yaml", [*SETTINGS, "backend=local", "device=cpu"])
    assert forked(lambda: train(config, out=out, log_level="CRITICAL")).state == "completed"
    return out


def test_losses_are_those_of_the_local_backend(
    reference: tuple[Path, list[dict[str, Any]]], local: Path
) -> None:
    ours, here = RunReader(reference[0]), RunReader(local)
    assert ours.state() == "completed"
    for name in ("step", "epoch", "tokens", "completion_tokens", "learning_rate"):
        np.testing.assert_array_equal(ours.columns("train")[name], here.columns("train")[name], name)
    loss, expected = ours.columns("train")["loss"], here.columns("train")["loss"]
    assert len(loss) == STEPS
    # A fresh LoRA changes nothing, and the first step has the learning rate 0: two steps of the base.
    np.testing.assert_allclose(loss[:2], expected[:2], atol=1e-5)
    # From there on SkyRL averages per sequence and draws other LoRA weights.
    difference = np.abs(loss - expected)
    assert difference.max() < 0.2
    assert difference[-8:].mean() < 0.01


def test_exact_match_comes_from_its_sampler_and_the_rest_is_not_measured(
    reference: tuple[Path, list[dict[str, Any]]], local: Path
) -> None:
    ours, here = RunReader(reference[0]).evals(), RunReader(local).evals()
    assert [a.step for a in ours] == [16, 32]
    for a, b in zip(ours, here, strict=True):
        assert (a.step, a.samples, a.tokens) == (b.step, b.samples, b.tokens)
        assert a.exact_match is not None
        assert a.expected_calibration_error is None
        assert a.entropy is None
    assert len(RunReader(reference[0]).predictions()) == len(RunReader(local).predictions())


def test_a_killed_run_sends_the_same_batches(
    project: Path, server: SkyRLServer, reference: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    before = reference[1][-1]["id"]
    arguments, environment = training(project, server, tmp_path / "run")
    killed_after(19, (arguments, environment), tmp_path / "run")
    assert RunReader(tmp_path / "run").state() == "crashed"
    run((arguments, environment))
    sent = server.requests(before)
    assert len([r for r in sent if r["type"] == "optim_step"]) > STEPS
    assert batches(sent) == batches(reference[1])
    ours, whole = RunReader(tmp_path / "run"), RunReader(reference[0])
    assert ours.columns("train")["step"].tolist() == list(range(1, STEPS + 1))
    np.testing.assert_allclose(ours.columns("train")["loss"], whole.columns("train")["loss"], atol=1e-5)


def test_a_checkpoint_comes_home_with_the_loss_of_the_service(
    project: Path, server: SkyRLServer, reference: tuple[Path, list[dict[str, Any]]]
) -> None:

    out = reference[0]
    told = run(command(server, "checkpoints", out, "--download", STEPS))
    here, service = (float(part.split()[0]) for part in told.replace("cross-entropy ", ", ").split(", ")[1:])
    (measured,) = [e.cross_entropy for e in RunReader(out).evals() if e.step == STEPS]
    assert here == pytest.approx(service, abs=1e-3)
    assert here == pytest.approx(measured, abs=1e-3)
    checkpoint = out / "checkpoints" / f"checkpoint-{STEPS}"
    adapter = json.loads((checkpoint / "adapter_config.json").read_text())
    assert len(adapter["target_modules"]) == 7
    base = AutoModelForCausalLM.from_pretrained(server.base, dtype="float32")
    model = PeftModel.from_pretrained(base, checkpoint)
    moved = [p for n, p in model.named_parameters() if "lora_B" in n]
    assert len(moved) == 7
    assert all(p.abs().max() > 0 for p in moved)
    # What its sampler says, token by token, is what these weights say here.
    config = load_config(project / "train.yaml")
    held_out = encode_chats(read_chats(config), config, load_tokenizer(config.model)).fixed_eval
    assert held_out is not None
    judged = RunReader(out).evals()[-1].per_sample
    assert judged is not None
    np.testing.assert_array_equal(score(model.eval(), held_out.sequences).exact_match, judged.exact_match)
    assert 0 < judged.exact_match.mean() < 1


def test_the_run_is_judged_like_any_other(reference: tuple[Path, list[dict[str, Any]]]) -> None:
    verdict = open_run(reference[0]).verdict()
    assert verdict.action in ("stop", "continue", "insufficient")
    assert verdict.checkpoint is not None
