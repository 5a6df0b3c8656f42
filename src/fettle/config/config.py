"""The whole configuration of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from fettle.config.alerts import AlertsConfig
from fettle.config.checkpoints import CheckpointsConfig
from fettle.config.data import DataConfig, absolute_path
from fettle.config.lenses import LensesConfig
from fettle.config.lora import LoraConfig, tinker_trains
from fettle.config.notify import NotifyConfig
from fettle.config.patterns import PatternsConfig
from fettle.config.predictions import PredictionsConfig
from fettle.config.strict import Strict, disagreement
from fettle.config.tinker import TinkerConfig, prices_in_force
from fettle.config.training import TrainingConfig


def is_local_model(model: str) -> bool:
    """Whether a model is named by its folder (`./base`, `/models/base`, `~/base`) and not by its hub id."""
    return model.startswith((".", "/", "~")) or Path(model).is_absolute()


def named_model(value: str, info: ValidationInfo) -> str:
    """A hub id as it stands; a folder as an absolute path, also one named beside the configuration file."""
    if not value.strip():
        raise PydanticCustomError("empty_model", "must be a hub id or a local folder")
    context: dict[str, Any] = info.context or {}
    folder = Path(context.get("folder", "."))
    if is_local_model(value) or (context and (folder / value).is_dir()):
        return str(absolute_path(value, info))
    return value


class Config(Strict):
    model: Annotated[str, AfterValidator(named_model)]
    """Hub id or local folder of the model to fine-tune."""
    backend: Literal["local", "tinker"] = "local"
    """Where the training steps run: on this machine, or through the Tinker API."""
    data: DataConfig
    """Training and held-out chats."""
    lora: LoraConfig | None = Field(default_factory=LoraConfig)
    """Absent: LoRA with its defaults. null: full fine-tuning."""
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    tinker: TinkerConfig | None = None
    """Where the Tinker service is. null: as the environment says."""
    patterns: PatternsConfig = Field(default_factory=PatternsConfig)
    """Kinds of prompts and lengths of answers that results are told apart by."""
    predictions: PredictionsConfig = Field(default_factory=PredictionsConfig)
    """Fixed prompts whose answers are written down over the run."""
    lenses: LensesConfig | None = None
    """Lenses that read the model while it is trained. null: none."""
    checkpoints: CheckpointsConfig = Field(default_factory=CheckpointsConfig)
    """Which checkpoints stay on disk."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of weights and arithmetic. auto: bfloat16 where the device is fast in it, else float32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the local backend computes."""
    alerts: AlertsConfig = Field(default_factory=AlertsConfig)
    """When something is wrong with the run."""
    notify: NotifyConfig = Field(default_factory=NotifyConfig)
    """Who is told of it."""

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        problems: dict[str, str] = {}
        if self.backend == "tinker" and self.lora is None:
            problems["lora"] = "backend 'tinker' trains LoRA only: leave `lora: null` out"
        elif self.backend == "tinker" and self.lora and not any(tinker_trains(self.lora.target_modules)):
            problems["lora"] = (
                "backend 'tinker' trains none of target_modules: name attention or MLP projections"
            )
        if self.backend != "tinker" and self.tinker is not None:
            problems["tinker"] = "is for backend 'tinker': leave the section out, or set backend: tinker"
        elif self.tinker and self.tinker.budget is not None and not prices_in_force(self.model, self.tinker):
            problems["tinker.budget"] = (
                f"needs prices, and none is known of {self.model}: give train, prefill and sample in "
                "tinker.prices"
            )
        if self.dtype == "float16" and self.device == "cpu":
            problems["dtype"] = "float16 does not train on a CPU: use float32 or bfloat16"
        if problems:
            raise disagreement(problems)
        return self
