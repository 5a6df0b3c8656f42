"""One base model in memory, and adapters put on it one after another."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from loguru import logger

from fettle.errors import ModelError
from fettle.evaluation.subject import ADAPTER_CONFIG, Subject
from fettle.evaluation.weights import configuration
from fettle.train.model import first_line, quiet_peft, read_model


class LoadedModel:
    """Weights are loaded once a base; an adapter built like the one before is copied over it in place."""

    def __init__(
        self, dtype: str, device: str, attention: str = "sdpa", read: Callable[..., Any] = read_model
    ) -> None:
        """`read` loads the model of a folder or hub id with the options of `from_pretrained`."""
        self.device = torch.device(device if device != "auto" else best_device())
        self._attention = attention
        self._read = read
        self._dtype: Any = getattr(torch, dtype) if dtype != "auto" else self._own_dtype()
        self.loads = 0
        """Base models read from disk."""
        self._name: str | None = None
        self._model: Any = None
        self._structure: dict[str, Any] | None = None

    @property
    def precision(self) -> str:
        """Names what beside weights and tokens decides the numbers: type and attention."""
        return f"{str(self._dtype).removeprefix('torch.')} {self._attention}"

    def use(self, subject: Subject) -> Any:
        """The model with the weights of `subject`. Raises ModelError where they cannot be loaded."""
        if subject.model != self._name:
            self._load(subject.model)
        if subject.adapter is None:
            if self._structure is not None:
                self._model = self._model.unload()
                self._structure = None
        else:
            self._put_on(subject.adapter)
        return self._model.eval()

    def close(self) -> None:
        """Give the memory back."""
        if self._model is None:
            return
        self._name = self._model = self._structure = None
        gc.collect()  # Wrapped models refer to themselves.

    def _own_dtype(self) -> Any:
        return "auto" if self.device.type == "cuda" else torch.float32

    def _load(self, name: str) -> None:
        transformers: Any = import_module("transformers")

        self.close()
        transformers.utils.logging.disable_progress_bar()
        began = time.perf_counter()
        model = self._read(name, dtype=self._dtype, attn_implementation=self._attention)
        self._model = model.to(self.device)
        self._name = name
        self.loads += 1
        logger.info("loaded {} in {:.1f} s", name, time.perf_counter() - began)

    def _put_on(self, folder: Path) -> None:
        structure = configuration(folder / ADAPTER_CONFIG)
        try:
            if self._structure != structure:
                self._wrap(folder)
                self._structure = structure
            self._copy_over(folder)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            self.close()  # Half an adapter may be on the model by now.
            raise ModelError(f"{folder}: is no adapter for its base: {first_line(error)}") from error

    def _wrap(self, folder: Path) -> None:
        """Put places for an adapter like this one on the base."""
        peft: Any = import_module("peft")
        if self._structure is not None:
            self._model = self._model.unload()
            self._structure = None
        with quiet_peft():
            config = peft.PeftConfig.from_pretrained(str(folder))
            self._model = peft.get_peft_model(self._model, config).to(self.device)

    def _copy_over(self, folder: Path) -> None:
        """Every tensor of the adapter to its place. Raises ValueError where one has none, or one is left."""
        peft: Any = import_module("peft")
        weights: dict[str, Any] = peft.load_peft_weights(str(folder), device="cpu")
        places: dict[str, Any] = peft.get_peft_model_state_dict(self._model, save_embedding_layers=False)
        if apart := sorted(places.keys() ^ weights.keys()):
            raise ValueError(f"{len(apart)} tensors are only in one of both, such as {apart[0]}")
        with torch.no_grad():
            for name, tensor in weights.items():
                if places[name].shape != tensor.shape:
                    shapes = f"{list(tensor.shape)}, not {list(places[name].shape)}"
                    raise ValueError(f"{name} has the shape {shapes}")
                places[name].copy_(tensor)


def best_device() -> str:
    """The fastest there is: cuda, mps or cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
