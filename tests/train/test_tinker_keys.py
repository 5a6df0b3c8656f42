"""Every key of the configuration under `backend: tinker`: it has an effect, is refused, or is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tinker")

from fettle.config import Config, load_config, not_honoured
from fettle.config.keys import all_keys, section_of
from fettle.errors import ConfigError
from fettle.train.job import train
from forked import forked
from tinker_server import KEY, TinkerServer, tinker_server
from train.tinker_project import write_project

SENT = {
    "model": "model=./other",
    "data.train": "data.train=valid.jsonl",
    "data.train_on": "data.train_on=last",
    "data.too_long": "data.too_long=drop",
    "lora.rank": "lora.rank=2",
    "lora.target_modules": "lora.target_modules=[q_proj, k_proj, v_proj, o_proj]",
    "training.max_steps": "training.max_steps=3",
    "training.epochs": "training.epochs=1",
    "training.batch_size": "training.batch_size=1",
    "training.gradient_accumulation_steps": "training.gradient_accumulation_steps=1",
    "training.learning_rate": "training.learning_rate=2e-2",
    "training.lr_schedule": "training.lr_schedule=linear",
    "training.warmup_ratio": "training.warmup_ratio=0.9",
    "training.weight_decay": "training.weight_decay=0.5",
    "training.max_grad_norm": "training.max_grad_norm=null",
    "training.max_seq_length": "training.max_seq_length=54",
    "training.length_buckets": "training.length_buckets=false",
    "training.checkpoint_interval_steps": "training.checkpoint_interval_steps=1",
    "training.seed": "training.seed=7",
    "tinker.ttl_days": "tinker.ttl_days=3",
}
"""What the service sees of a key, shown by a change of what it was asked to do."""
NAMED = {
    "lora.alpha": "lora.alpha=16",
    "lora.dropout": "lora.dropout=0.1",
    "lora.rslora": "lora.rslora=true",
    "lora.dora": "lora.dora=true",
    "lora.target_modules": "lora.target_modules=[q_proj]",
    "dtype": "dtype=bfloat16",
    "device": "device=cuda",
    "training.gradient_checkpointing": "training.gradient_checkpointing=true",
    "training.layer_interval_steps": "training.layer_interval_steps=5",
    "training.eval_batch_tokens": "training.eval_batch_tokens=100",
    "lenses.pack": "lenses.pack=lenses",
    "lenses.neutral": "lenses={pack: lenses, neutral: texts.txt}",
    "lenses.every_steps": "lenses={pack: lenses, every_steps: 5}",
}
"""What the service does not take, with a value that asks for something."""
HERE = {
    "backend",
    "tinker.base_url",
    "tinker.budget",
    "tinker.prices",
    "tinker.prices.train",
    "tinker.prices.prefill",
    "tinker.prices.sample",
    "data.fixed_eval",
    "data.max_samples",
    "data.max_unusable_fraction",
    "data.leakage",
    "training.log_interval_steps",
    "training.eval_interval_steps",
    "training.eval_at_epoch_end",
    "training.resume_from_checkpoint",
    "training.early_stopping_patience",
    "training.early_stopping_threshold",
    "training.early_stopping_relative",
}
"""Obeyed by the loop and the encoder, which are those of every backend."""
HERE_WHOLE = ("patterns", "predictions", "checkpoints", "alerts", "notify")


def keys() -> set[str]:
    """Keys that hold a value."""
    sections = {name for name, field in Config.model_fields.items() if section_of(field.annotation)}
    return {key for key in all_keys() if key not in sections and key.partition(".")[0] not in HERE_WHOLE}


def test_every_key_of_the_schema_has_its_place() -> None:
    assert keys() == set(SENT) | set(NAMED) | HERE
    assert set(SENT) & set(NAMED) == {"lora.target_modules"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_project(tmp_path_factory.mktemp("keys"))
    chats = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    for chat in chats:
        chat["messages"] = [*chat["messages"], *chat["messages"]]
    (folder / "train.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    return folder


@pytest.mark.parametrize("key", NAMED)
def test_a_key_that_is_not_sent_is_named(project: Path, tmp_path: Path, key: str) -> None:
    config = load_config(project / "train.yaml", [NAMED[key]])
    assert key in not_honoured(config)


def test_what_cannot_be_trained_there_is_refused(project: Path) -> None:
    for change in ("lora=null", "lora.target_modules=[embed_tokens]"):
        with pytest.raises(ConfigError, match="backend 'tinker' trains"):
            load_config(project / "train.yaml", [change])
    with pytest.raises(ConfigError, match="is for backend 'tinker'"):
        load_config(project / "train.yaml", ["backend=local", "tinker.ttl_days=3"])


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[TinkerServer]:
    with tinker_server(project / "base", project / "service") as running:
        yield running


def asked(project: Path, server: TinkerServer, out: Path, *changes: str) -> list[dict[str, Any]]:
    """What the service was asked to do by a run of four steps."""
    before = len(server.log())
    keep = {"HF_HUB_OFFLINE": "1", "TINKER_BASE_URL": server.url, "TINKER_API_KEY": KEY}
    changed = ["data.fixed_eval=null", "training.max_steps=4", *changes]
    if "training.epochs=1" in changes:
        changed.remove("training.max_steps=4")
    config = load_config(project / "train.yaml", changed)
    forked(lambda: train(config, out=out, log_level="CRITICAL"), keep)
    names = ("model", "path") if "model=./other" not in changes else ("path",)
    return [{k: v for k, v in entry.items() if k not in names} for entry in server.log()[before:]]


@pytest.fixture(scope="module")
def plain(project: Path, server: TinkerServer) -> list[dict[str, Any]]:
    return asked(project, server, project / "plain")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(
            key, marks=() if key in ("training.weight_decay", "lora.target_modules") else pytest.mark.slow
        )
        for key in SENT
        if key != "model"
    ],
)
def test_a_key_that_is_sent_changes_what_the_service_does(
    project: Path, server: TinkerServer, plain: list[dict[str, Any]], tmp_path: Path, key: str
) -> None:
    # Nothing is too long unless the length is cut; then what becomes of it differs.
    short = ["training.max_seq_length=54"] if key == "data.too_long" else []
    usual = asked(project, server, tmp_path / "short", *short) if short else plain
    more = ["data.max_unusable_fraction=1.0"] if short else []
    assert asked(project, server, tmp_path / "run", *short, *more, SENT[key]) != usual


def test_the_same_configuration_asks_for_the_same(
    project: Path, server: TinkerServer, plain: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert asked(project, server, tmp_path / "run") == plain
