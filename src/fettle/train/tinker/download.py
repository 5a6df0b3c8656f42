"""A checkpoint brought home from the service: a PEFT adapter, checked against the service's own loss."""

from __future__ import annotations

import json
import shutil
import tarfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fettle.config import Config, load_config
from fettle.data.sequence import Sequence
from fettle.errors import ConfigError, ModelError, RunError
from fettle.runs import RunFolder
from fettle.runs.checkpoints import INFO, add_files
from fettle.runs.folder import read_json
from fettle.runs.records import Checkpoint
from fettle.scoring import score
from fettle.train.dataset import encode_chats, read_chats
from fettle.train.model import load_tokenizer, quiet_peft, read_model
from fettle.train.tinker.datum import completion_logprobs, datum
from fettle.train.tinker.failure import expiry, refusal
from fettle.train.tinker.sdk import exported_files
from fettle.train.tinker.service import Service

LARGEST_DIFFERENCE = 1e-3
"""Nats per completion token by which the adapter may differ here: other kernels, other precision."""
# Enough to tell a right adapter from a wrong one, and minutes on a laptop.
MOST_SEQUENCES = 64
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Downloaded:
    """An adapter in its checkpoint folder, and the cross-entropies that agree."""

    path: Path
    here: float
    service: float


def download_checkpoint(folder: RunFolder, checkpoint: Checkpoint) -> Downloaded:
    """Put the adapter of a checkpoint into its folder, once its loss here is that of the service.

    Raises RunError where the service does not give it, ModelError where the loss differs.
    """
    config = load_config(folder.config_path)
    if config.backend != "tinker" or checkpoint.url is None or checkpoint.path is None:
        raise ConfigError(
            f"{folder.path}: step {checkpoint.step} is not kept by a service: there is nothing to get"
        )
    service = Service(config)
    staged = checkpoint.path / ".download"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    try:
        client = _fetch(service, checkpoint.url, staged)
        _complete_config(staged, config.model)
        sequences = _sequences(config)
        told = completion_logprobs(
            sequences, client.forward([datum(s) for s in sequences], "cross_entropy").result()
        )
        tokens_T = np.concatenate(told)
        remote, here = -float(tokens_T.mean()), _scored(config, staged, sequences)
        if not abs(here - remote) <= LARGEST_DIFFERENCE:
            raise ModelError(
                f"{checkpoint.url}: the adapter has cross-entropy {here:.4f} here and {remote:.4f} on the "
                f"service, more than {LARGEST_DIFFERENCE} apart: it was not kept"
            )
        load_tokenizer(config.model).save_pretrained(staged)
        add_files(checkpoint.path, staged)
        return Downloaded(checkpoint.path, here, remote)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _fetch(service: Service, url: str, target: Path) -> Any:
    """Have the service export a checkpoint, and fetch the files; the client that holds its weights."""
    tinker: Any = import_module("tinker")
    httpx: Any = import_module("httpx")
    names: list[str] = []
    try:
        client = service.restored_model(url, optimizer=False)
        for name, blocks in exported_files(client, service.rest()):
            names.append(name)
            with (target / name).open("wb") as stream:
                stream.writelines(blocks)
    except (tinker.TinkerError, ValueError, RuntimeError, tarfile.TarError) as error:
        info = read_json(target.parent / INFO) or {}
        raise refusal(f"{url}{expiry(info)}", error) from error
    except httpx.HTTPError as error:
        raise RunError(f"{url}: the export cannot be fetched: {error}") from error
    if not (target / ADAPTER_WEIGHTS).is_file() or not (target / ADAPTER_CONFIG).is_file():
        raise ModelError(f"{url}: the service exports {sorted(names)}, which is no PEFT adapter")
    return client


def _complete_config(adapter: Path, model: str) -> None:
    """Name the base, and the modules where the export does not: PEFT would train defaults of its own."""
    file = adapter / ADAPTER_CONFIG
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if not config.get("target_modules"):
        safetensors: Any = import_module("safetensors")
        with safetensors.safe_open(adapter / ADAPTER_WEIGHTS, framework="numpy") as weights:
            names: list[str] = list(weights.keys())
        config["target_modules"] = sorted(
            {n.split(".lora_A")[0].rsplit(".", 1)[-1] for n in names if ".lora_A" in n}
        )
    config["base_model_name_or_path"] = model
    file.write_text(json.dumps(config, indent=2), encoding="utf-8")


def _sequences(config: Config) -> list[Sequence]:
    """Held-out sequences of the run; where it has none, those it trained on."""
    encoded = encode_chats(read_chats(config), config, load_tokenizer(config.model))
    found = encoded.fixed_eval.sequences if encoded.fixed_eval else encoded.train
    return found[:MOST_SEQUENCES]


def _scored(config: Config, adapter: Path, sequences: list[Sequence]) -> float:
    peft: Any = import_module("peft")
    with quiet_peft():
        model = peft.PeftModel.from_pretrained(read_model(config.model, dtype="auto"), str(adapter))
    result = score(model.eval(), sequences).cross_entropy
    assert result is not None
    return result
