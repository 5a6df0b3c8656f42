"""The `lora` section: the low-rank update that is trained instead of the weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from fettle.config.strict import Strict

ALL_LINEAR = "all-linear"
ATTENTION_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP_MODULES = ("gate_proj", "up_proj", "down_proj")


def tinker_trains(modules: list[str] | str) -> tuple[bool, bool]:
    """Whether the service trains attention, and whether MLP, when these modules are asked for."""
    if modules == ALL_LINEAR:
        return True, True
    return bool(set(modules) & set(ATTENTION_MODULES)), bool(set(modules) & set(MLP_MODULES))


def all_projections() -> list[str]:
    """Attention and MLP of the Llama and Qwen families."""
    return [*ATTENTION_MODULES, *MLP_MODULES]


def named_modules(value: Any) -> Any:
    """Refuses an absent or empty choice: peft would silently apply defaults of its own."""
    names: list[Any] | None = list(cast("list[Any]", value)) if isinstance(value, (list, tuple)) else None
    if value == ALL_LINEAR or (names and all(isinstance(name, str) and name.strip() for name in names)):
        if names and len(set(names)) < len(names):
            raise PydanticCustomError("repeated_module", "names a module twice")
        return ALL_LINEAR if names is None else names
    raise PydanticCustomError(
        "target_modules",
        "must be a list of module names such as [q_proj, v_proj], or all-linear for every linear layer",
    )


class LoraConfig(Strict):
    rank: int = Field(default=16, ge=1)
    """Rank of the update. 16 suits 8B models; 64 overfits small sets."""
    alpha: float = Field(default=32, gt=0)
    """The update is scaled by alpha / rank (by alpha / sqrt(rank) with rslora)."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropped share of LoRA inputs while training."""
    target_modules: Annotated[list[str] | Literal["all-linear"], BeforeValidator(named_modules)] = Field(
        default_factory=all_projections
    )
    """Names of the linear layers that get an update, or all-linear."""
    rslora: bool = False
    """Rank-stabilised scaling, alpha / sqrt(rank) (Kalajdzievski 2023): worth it from rank 64."""
    dora: bool = False
    """Learns the magnitude of each weight beside its direction (Liu et al. 2024); slower."""
