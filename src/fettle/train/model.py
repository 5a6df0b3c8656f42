"""Loading what is fine-tuned: tokenizer, base model, LoRA around it."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import xxhash

from fettle.config import Config
from fettle.errors import MissingExtraError, ModelError

CURE = "Name a hub id such as Qwen/Qwen3-0.6B, or a folder with config.json, weights and tokenizer."


def require_train_extra() -> None:
    """Raises MissingExtraError when the libraries of the local backend are not installed."""
    for name in ("torch", "transformers", "peft", "accelerate"):
        if find_spec(name) is None:
            raise MissingExtraError(
                f"backend 'local' needs {name}. Install it with: pip install 'fettle[train]'"
            )


def load_tokenizer(model: str) -> Any:
    """The model's own tokenizer. Raises ModelError when there is none to load."""
    transformers: Any = import_module("transformers")
    try:
        return transformers.AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model: no tokenizer can be loaded from '{model}': {first_line(error)}. {CURE}"
        ) from error


def load_model(config: Config, device: Any) -> Any:
    """The base model on its device, with a fresh LoRA update around it where the configuration asks for one.

    Raises ModelError when weights cannot be read, or when `lora.target_modules`
    match no layer.
    """
    model = read_model(config.model, dtype=weights_dtype(config, device))
    model.to(device)
    return model if config.lora is None else with_lora(model, config)


def read_model(name: str, **options: Any) -> Any:
    """The causal language model of a folder or hub id; `options` are those of `from_pretrained`.

    Raises ModelError when its weights cannot be read.
    """
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"model: '{name}' cannot be loaded: {first_line(error)}. {CURE}") from error


def weights_dtype(config: Config, device: Any) -> Any:
    """Of weights in memory: float32 under full fine-tuning, otherwise as asked for or as suits the device."""
    import torch

    if config.lora is None:
        return torch.float32
    if config.dtype != "auto":
        return getattr(torch, config.dtype)
    return "auto" if device.type == "cuda" else torch.float32


def with_lora(model: Any, config: Config) -> Any:
    """A PeftModel whose only trained weights are the LoRA factors."""
    from peft import LoraConfig, get_peft_model

    lora = config.lora
    if lora is None:
        return model
    settings = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType]  # peft's annotation says int; it divides
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
    )
    try:
        with quiet_peft():
            return get_peft_model(model, settings)
    except ValueError as error:
        raise ModelError(f"lora.target_modules: {first_line(error)}") from error


@contextmanager
def quiet_peft() -> Generator[None]:
    """While peft wraps a model: it asks by a deprecated name; nothing to act on here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def weights_fingerprint(name: str, model: Any) -> str:
    """Content hash of a local model's weight files; commit of a hub model."""
    folder = Path(name)
    if not folder.is_dir():
        return f"hub:{getattr(model.config, '_commit_hash', None)}"
    digest = xxhash.xxh3_128()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin"), folder / "config.json"]):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return f"xxh3:{digest.hexdigest()}"


def first_line(error: BaseException) -> str:
    """The first line of an error, without its closing stop: ours follows."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__).rstrip(
        "."
    )
