"""The LM head of a causal model as a recipe: which weights, and what is done to the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fettle.scoring.decoder import unwrapped

# How families adjust raw logits, by the key of the configuration that says so. `choose_route`
# proves the recipe on each model before it is used, so a family that is missing here, or that
# uses one of these names otherwise, is scored more slowly, never wrongly.
MULTIPLIERS = ("logit_scale", "lm_head_multiplier")  # Cohere; Falcon H1
DIVISORS = ("logits_scaling", "logits_mup_width_multiplier")  # Granite, MiniCPM; Inkling
MULTIPLIES_BY_LOGITS_SCALING = ("hyperclovax",)
SOFTCAPS = (
    "final_logit_softcapping",
    "logits_soft_cap",
    "output_logit_soft_cap",
)  # Gemma; RecurrentGemma; xLSTM


@dataclass(frozen=True, slots=True)
class LMHead:
    """From hidden states h to logits: softcap · tanh(scale · (h Wᵀ + b) / softcap)."""

    weight: Tensor
    """[V, D]"""
    bias: Tensor | None = None
    """[V]"""
    scale: float = 1.0
    softcap: float | None = None

    def adjust(self, logits: Tensor) -> Tensor:
        """Scale and soft-cap raw logits in place."""
        if self.scale != 1.0:
            logits.mul_(self.scale)
        if self.softcap is not None:
            logits.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits


def locate_head(model: Any) -> LMHead | None:
    """The head of a causal LM as a recipe; None where it is more than one plain linear layer.

    A head that carries an adapter of its own, or quantised weights, is None.
    """
    base = unwrapped(model)
    layer = base.get_output_embeddings()
    wrapped: Any = getattr(layer, "modules_to_save", None)  # PEFT trains a full copy of this layer
    if wrapped is not None and not getattr(layer, "disable_adapters", False):
        layer = wrapped[layer.active_adapters[0]]
    elif wrapped is not None:
        layer = getattr(layer, "original_module", None)
    if type(layer) is not nn.Linear:
        return None
    return LMHead(layer.weight, layer.bias, *adjustment(base))


def adjustment(model: Any) -> tuple[float, float | None]:
    """Scale and soft-cap of a model's logits; 1.0 and None where its family has none."""
    config: Any = unwrapped(model).config.get_text_config()
    return _scale(config), _softcap(config)


def _scale(config: Any) -> float:
    scale = 1.0
    for key in MULTIPLIERS:
        scale *= float(getattr(config, key, None) or 1.0)
    for key in DIVISORS:
        factor = float(getattr(config, key, None) or 1.0)
        scale *= factor if config.model_type in MULTIPLIES_BY_LOGITS_SCALING else 1.0 / factor
    return scale


def _softcap(config: Any) -> float | None:
    caps = [float(cap) for key in SOFTCAPS if (cap := getattr(config, key, None)) is not None]
    return caps[0] if caps else None
