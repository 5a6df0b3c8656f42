"""What one optimizer step of somebody else's trainer did, measured at the model and the gradients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from math import isfinite, sqrt
from typing import Any, cast

import torch
from torch import Tensor

IGNORED_LABEL = -100
# Few and small: their norm before and after clipping tells by how much all gradients were scaled.
PROBES = 16


@dataclass(frozen=True, slots=True)
class MeasuredStep:
    """Sums over the micro-batches of one step, on this process. None is not measured."""

    loss_sum: float | None
    """Nats over all label tokens; None where no loss of the model from labels was learned from."""
    completion_tokens: int
    """Label tokens: those that carry loss."""
    tokens: int
    """Tokens without padding."""
    predictable: int
    """Tokens that could carry loss: all but the first of each row."""


class StepMeter:
    """Watches the forward passes of a model in training; changes nothing that is computed.

    A trainer's own log of the loss is rounded, filtered of NaN and, by version, summed over
    accumulation steps. The loss and the labels that pass through the model are none of these.
    It counts where the backward pass shows that it is what is minimised: preference training has
    labels too, and a model that computes their loss, but makes half of them less likely.
    Numbers stay on their device until `end`, which waits for it once a step.
    """

    def __init__(self, model: Any) -> None:
        self._shifts = not getattr(getattr(model, "config", None), "is_encoder_decoder", False)
        self._active = False
        self._passes = 0
        self._loss_sums: list[Tensor] = []
        self._even: list[Tensor] = []
        self._counts: list[Tensor] = []
        self._hook = model.register_forward_hook(self._take, with_kwargs=True)

    def begin(self) -> None:
        """A step begins: micro-batches count from here on."""
        self._active = True
        self._passes = 0
        self._loss_sums.clear()
        self._even.clear()
        self._counts.clear()

    def end(self) -> MeasuredStep:
        """The step is over: its sums."""
        self._active = False
        loss_sum = _total(self._loss_sums) if self._minimises_cross_entropy() else None
        if not self._counts:
            return MeasuredStep(loss_sum, 0, 0, 0)
        labelled, tokens, predictable = (int(count) for count in torch.stack(self._counts).sum(0).cpu())
        return MeasuredStep(loss_sum, labelled, tokens, predictable)

    def _minimises_cross_entropy(self) -> bool:
        """Whether every pass with labels was learned from, and as cross-entropy is."""
        if not self._passes or len(self._loss_sums) != self._passes:
            return False
        return bool(torch.stack(self._even).all())

    def close(self) -> None:
        """Take the hook off the model."""
        self._hook.remove()

    def _take(self, module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        # Without gradients it is a reference model's pass or an evaluation, not training.
        # The mode tells nothing: Lightning trains a model that was loaded in eval mode in just that.
        if not (self._active and torch.is_grad_enabled()):
            return
        labels_BT = self._labels(kwargs)
        tokens, rows = _size(args, kwargs)
        if labels_BT is None:
            device = next(module.parameters()).device
            self._counts.append(torch.stack([torch.zeros_like(tokens), tokens, tokens - rows]).to(device))
            return
        labelled = (labels_BT != IGNORED_LABEL).sum()
        self._counts.append(torch.stack([labelled, tokens.to(labelled.device), (tokens - rows).to(labelled)]))
        loss = _loss(output)
        if loss is None:
            return
        self._passes += 1
        # The model divides by the label tokens of the whole step where it is told them.
        divisor = kwargs.get("num_items_in_batch")
        loss_sum = _cross_entropy(module, output, loss) * (labelled if divisor is None else divisor)
        # TRL builds the losses of most of its trainers from these, and leaves the model's own alone.
        logprob_BT = getattr(output, "log_probs", None)
        learned = logprob_BT if isinstance(logprob_BT, Tensor) else loss
        if learned.requires_grad:
            mask_BT = getattr(output, "label_mask", None) if learned is logprob_BT else None
            learned.register_hook(partial(self._learn, loss_sum, mask_BT))

    def _learn(self, loss_sum: Tensor, mask_BT: Tensor | None, gradient: Tensor) -> None:
        """The backward pass came by: here the labels are learned, if all of them alike."""
        self._loss_sums.append(loss_sum)
        self._even.append(_even(gradient, mask_BT))

    def _labels(self, kwargs: dict[str, Any]) -> Tensor | None:
        """The token to predict at each position, [B, T]; None where the pass has no such labels."""
        shifted = kwargs.get("shift_labels")
        if shifted is not None:
            return shifted
        labels: Tensor | None = kwargs.get("labels")
        if labels is None or labels.ndim < 2:
            return None
        return labels[..., 1:] if self._shifts else labels


class GradientMeter:
    """The norm of all gradients before they were clipped, read after it.

    Clipping scales all gradients by one factor, so that a few probes, measured before and
    after, give it. Under several processes or a loss scaler, gradients change in between and
    the norm is known only where nothing was clipped.
    """

    def __init__(self, model: Any, *, clip_at: float, probe: bool) -> None:
        self._parameters: list[Any] = [p for p in model.parameters() if p.requires_grad]
        self._clip_at = clip_at if clip_at > 0 else torch.inf
        self._before: dict[int, Tensor] = {}
        probes: list[Any] = sorted(self._parameters, key=lambda p: p.numel())[:PROBES] if probe else []
        self._probes = dict(enumerate(probes))
        self._hooks = [
            p.register_post_accumulate_grad_hook(partial(self._note, i)) for i, p in enumerate(probes)
        ]

    def norm(self) -> float | None:
        """2-norm before clipping; NaN or Inf where a gradient is; None where it cannot be known."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if not gradients or any(hasattr(g, "full_tensor") for g in gradients):
            return None
        after = float(torch.nn.utils.get_total_norm(gradients))
        if not isfinite(after) or after < 0.999 * self._clip_at:
            self._before.clear()
            return after
        if not self._before:
            return None
        was = float(torch.stack(list(self._before.values())).square().sum())
        now = float(torch.stack([_norm_of(self._probes[i]) for i in self._before]).square().sum())
        self._before.clear()
        return after * sqrt(was / now) if now > 0 else None

    def close(self) -> None:
        """Take the hooks off the parameters."""
        for hook in self._hooks:
            hook.remove()

    def _note(self, index: int, parameter: Any) -> None:
        # Each micro-batch overwrites the one before it: the last holds the whole step.
        self._before[index] = _norm_of(parameter)


def _norm_of(parameter: Any) -> Tensor:
    return parameter.grad.detach().float().norm()


def _loss(output: Any) -> Tensor | None:
    """What the model computed from labels, as one number."""
    loss: Any = None
    if isinstance(output, dict):
        loss = cast("dict[str, Any]", output).get("loss")
    elif isinstance(output, tuple) and output:
        loss = cast("tuple[Any, ...]", output)[0]
    return loss if isinstance(loss, Tensor) and loss.ndim == 0 else None


def _even(gradient: Tensor, mask_BT: Tensor | None) -> Tensor:
    """Whether all label tokens are made more likely by the same weight. Does not wait for the device."""
    if gradient.ndim == 0:
        return torch.ones((), dtype=torch.bool, device=gradient.device)
    mask_BT = torch.ones_like(gradient, dtype=torch.bool) if mask_BT is None else mask_BT
    highest = gradient.masked_fill(~mask_BT, -torch.inf).max()
    lowest = gradient.masked_fill(~mask_BT, torch.inf).min()
    return (highest < 0) & (highest <= 0.999 * lowest)


def _cross_entropy(module: Any, output: Any, loss: Tensor) -> Tensor:
    """The loss without the load-balancing term of a mixture of experts."""
    loss = loss.detach().float()
    balance = getattr(output, "aux_loss", None)
    if isinstance(balance, Tensor):
        config: Any = module.config.get_text_config()
        loss = loss - float(getattr(config, "router_aux_loss_coef", 0.0)) * balance.detach().to(loss)
    return loss


def _size(args: Any, kwargs: dict[str, Any]) -> tuple[Tensor, int]:
    """Tokens without padding, and rows."""
    ids = kwargs.get("input_ids", args[0] if args else None)
    if ids is None:
        ids = kwargs.get("inputs_embeds")
        ids = None if ids is None else ids[..., 0]
    if not isinstance(ids, Tensor):
        return torch.tensor(0), 0
    mask = kwargs.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim == 2:
        return mask.sum(), ids.shape[0]
    return torch.tensor(ids.numel(), device=ids.device), ids.shape[0]


def _total(values: Iterable[Tensor]) -> float:
    return float(torch.stack([value.reshape(()) for value in values]).cpu().double().sum())
