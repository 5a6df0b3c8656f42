"""The local backend: PyTorch and PEFT on Accelerate, the LM head at label positions only."""

from __future__ import annotations

import random
from collections.abc import Sequence as Collection
from importlib import import_module
from importlib.metadata import version
from math import inf, isfinite
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor

from fettle.config import Config
from fettle.data.sequence import Sequence
from fettle.errors import ConfigError, RunError
from fettle.runs.records import SampleResults
from fettle.scoring import completion_loss, generate, score
from fettle.scoring.generate import Continuation
from fettle.train.backend import FinishedStep, StepResult
from fettle.train.bill import Bill
from fettle.train.evaluation import FixedEvalSet, sample_results
from fettle.train.layer_movement import LayerMovement
from fettle.train.model import load_model, weights_fingerprint

OPTIMIZER_FILE = "optimizer.pt"
RANDOM_STATE_FILE = "rng_state.pth"


class LocalBackend:
    """One process, one device; precision and placement are Accelerate's."""

    lookahead = 0
    bill: Bill | None = None
    applies_non_finite = False

    def __init__(self, config: Config, tokenizer: Any) -> None:
        training = config.training
        self._config = config
        self._tokenizer = tokenizer
        self._batch_size = training.batch_size
        self._max_grad_norm = training.max_grad_norm or inf
        set_seed(training.seed)
        full = config.lora is None
        half = {"bfloat16": "bf16", "float16": "fp16"}.get(config.dtype, "no")
        # Full fine-tuning keeps float32 weights and computes in half precision: updates of a
        # small learning rate vanish in bfloat16 weights. LoRA weights are float32 either way.
        self._accelerator = Accelerator(mixed_precision=half if full else "no", cpu=config.device == "cpu")
        if self._accelerator.num_processes > 1:
            raise ConfigError(
                "fettle train runs in one process: start it without torchrun or accelerate launch"
            )
        model = load_model(config, self._accelerator.device)
        if training.gradient_checkpointing:
            model.gradient_checkpointing_enable()
            model.enable_input_require_grads()
        self._model: Any = model
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._optimizer: Any = self._accelerator.prepare(
            torch.optim.AdamW(self._parameters, lr=training.learning_rate, weight_decay=training.weight_decay)
        )

        # Before a checkpoint is loaded: the model is now as the run began with it.
        self.layer_movement = None if training.layer_interval_steps is None else LayerMovement(model)

    @property
    def model(self) -> Any:
        """The model that is trained: a `PreTrainedModel`, or a `PeftModel` around one."""
        return self._model

    def step(
        self, batch: Collection[Sequence], learning_rate: float, *, read_layers: bool = False
    ) -> FinishedStep:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._model.train()
        completion_tokens = sum(sequence.completion_tokens for sequence in batch)
        loss_sum = torch.zeros((), device=self._accelerator.device, dtype=torch.float64)
        for start in range(0, len(batch), self._batch_size):
            with self._accelerator.autocast():
                micro_sum: Tensor = completion_loss(self._model, batch[start : start + self._batch_size])
            loss_sum += micro_sum.detach().double()
            # Per completion token of the whole step: how the step is split changes nothing.
            self._accelerator.backward(micro_sum / completion_tokens)
        accelerator: Any = self._accelerator
        grad_norm = float(accelerator.clip_grad_norm_(self._parameters, self._max_grad_norm))
        result = StepResult(
            loss_sum=float(loss_sum),
            completion_tokens=completion_tokens,
            tokens=sum(len(sequence) for sequence in batch),
            grad_norm=grad_norm,
        )
        if read_layers and self.layer_movement is not None:
            self.layer_movement.read_gradients(grad_norm)
        if isfinite(result.loss_sum) and isfinite(grad_norm):
            self._optimizer.step()
        self._optimizer.zero_grad()
        return FinishedStep(result)

    def evaluate(self, eval_set: FixedEvalSet) -> SampleResults:
        scores = score(self._model, eval_set.sequences, batch_tokens=self._config.training.eval_batch_tokens)
        return sample_results(scores, eval_set.sample_ids, eval_set.patterns)

    def sample(
        self, prompts: Collection[Collection[int]], *, max_new_tokens: int, ends: Collection[int] = ()
    ) -> list[Continuation]:
        return generate(self._model, self._tokenizer, prompts, max_new_tokens=max_new_tokens, ends=ends)

    def save(self, folder: Path) -> None:
        if self._config.lora is None:
            self._model.save_pretrained(folder)
        else:
            # The base is not resized here, so its embeddings belong to no adapter; asking peft to
            # find out would ask the hub.
            self._model.save_pretrained(folder, save_embedding_layers=False)
        self._tokenizer.save_pretrained(folder)
        torch.save(self._optimizer.state_dict(), folder / OPTIMIZER_FILE)
        torch.save(_random_state(), folder / RANDOM_STATE_FILE)

    def load(self, folder: Path) -> None:
        for name in (OPTIMIZER_FILE, RANDOM_STATE_FILE):
            if not (folder / name).is_file():
                raise RunError(f"{folder}: {name} is missing, so training cannot go on exactly from here")
        device = self._accelerator.device
        self._load_weights(folder)
        self._optimizer.load_state_dict(
            torch.load(folder / OPTIMIZER_FILE, map_location=device, weights_only=True)
        )
        _restore_random_state(torch.load(folder / RANDOM_STATE_FILE, map_location="cpu", weights_only=True))

    def _load_weights(self, folder: Path) -> None:
        if self._config.lora is None:
            accelerate: Any = import_module("accelerate")
            accelerate.load_checkpoint_in_model(self._model, str(folder))
            return
        peft: Any = import_module("peft")
        weights = peft.load_peft_weights(str(folder), device=str(self._accelerator.device))
        mismatch = peft.set_peft_model_state_dict(self._model, weights)
        if mismatch.unexpected_keys:
            raise RunError(
                f"{folder}: the adapter holds weights this model lacks: {mismatch.unexpected_keys[:3]}"
            )

    def forget(self, url: str) -> None:
        """No checkpoint of this machine has a URL."""

    def provenance(self) -> dict[str, Any]:
        device = self._accelerator.device
        return {
            "model": {
                "name": self._config.model,
                "fingerprint": weights_fingerprint(self._config.model, self._model),
                "class": type(self._model).__name__,
                "dtype": str(self._model.dtype).removeprefix("torch."),
                "parameters": sum(p.numel() for p in self._model.parameters()),
                "trained_parameters": sum(p.numel() for p in self._parameters),
            },
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "versions": {name: version(name) for name in ("torch", "transformers", "peft", "accelerate")},
        }


def _random_state() -> dict[str, Any]:
    numpy_state: Any = np.random.get_state(legacy=False)
    return {
        "python": random.getstate(),
        "numpy": {
            **numpy_state,
            "state": {**numpy_state["state"], "key": numpy_state["state"]["key"].tolist()},
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random_state(state: dict[str, Any]) -> None:
    random.setstate(_as_tuples(state["python"]))
    numpy_state = state["numpy"]
    key = np.asarray(numpy_state["state"]["key"], dtype=np.uint32)
    np.random.set_state({**numpy_state, "state": {**numpy_state["state"], "key": key}})
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def _as_tuples(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    return tuple(_as_tuples(item) for item in cast("list[Any]", value))
