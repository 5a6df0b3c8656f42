"""What a run folder says, as typed values; `RunReader` makes them, `decide` reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

State = Literal[
    "running", "paused", "completed", "early_stopped", "interrupted", "crashed", "failed", "unknown"
]
"""How a run stands. `crashed` is inferred: the log has no `end` and no trainer holds the lock."""
STATES: frozenset[str] = frozenset(get_args(State))
LIVE: frozenset[State] = frozenset({"running", "paused"})
"""A trainer holds the run; of every other known state it has let go."""


def known_state(value: Any) -> State:
    """What a file gives as state; `unknown` where it is none."""
    return cast("State", value) if isinstance(value, str) and value in STATES else "unknown"


OTHER = "other"
"""Kind of the prompts that no rule names."""


@dataclass(frozen=True, slots=True, eq=False)
class SampleResults:
    """Per-sample results of one fixed eval, in the order of the evaluation set.

    They make paired tests possible: sample i of two evals is the same text
    exactly when `sample_id[i]` agrees.
    """

    sample_id: NDArray[np.str_]
    """Content hash of each sample, [N]."""
    pattern: NDArray[np.str_]
    """Kind of prompt, [N]; `other` and "" are prompts of no known kind."""
    cross_entropy_sum: NDArray[np.float64]
    """Nats, summed over the completion tokens of the sample, [N]."""
    tokens: NDArray[np.int64]
    """Completion tokens, [N]."""
    exact_match: NDArray[np.bool_] | None
    """Whether greedy decoding reproduces the completion, [N]; None where it was not measured."""
    entropy_sum: NDArray[np.float64] | None
    """Nats of predictive entropy, summed over the completion tokens, [N]; None where it was not measured."""
    bin_tokens: NDArray[np.float64]
    """Tokens of each sample in each of the 10 confidence bins, [N, 10]; 0 where none was measured."""
    bin_confidence: NDArray[np.float64]
    """Sum of confidence in each bin, [N, 10]."""
    bin_correct: NDArray[np.float64]
    """Number of correct tokens in each bin, [N, 10]."""


@dataclass(frozen=True, slots=True, eq=False)
class FixedEval:
    """One evaluation on the held-out set. Absent means not measured, never zero."""

    step: int
    epoch: float | None = None
    cross_entropy: float | None = None
    """Nats per completion token, weighted by tokens (a foreign run's `eval_loss` as it stands)."""
    cross_entropy_low: float | None = None
    cross_entropy_high: float | None = None
    exact_match: float | None = None
    """Share of samples, 0 to 1."""
    exact_match_low: float | None = None
    exact_match_high: float | None = None
    expected_calibration_error: float | None = None
    entropy: float | None = None
    """Mean predictive entropy in nats per completion token."""
    samples: int | None = None
    tokens: int | None = None
    per_sample: SampleResults | None = None
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    """Every other key of the record, kept."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One saved checkpoint and what was known of it when it was saved."""

    step: int
    path: Path | None
    """None when the log names it but the disk does not hold it."""
    url: str | None = None
    """Where a service keeps it, as `tinker://...`; None for one on this disk."""
    epoch: float | None = None
    score: float | None = None
    """Composite score, lower is better; None is incomparable."""
    components: dict[str, float] = field(default_factory=dict[str, float])
    inputs: dict[str, float | None] = field(default_factory=dict[str, float | None])
    score_version: str | None = None
    train_loss: float | None = None
    cross_entropy: float | None = None
    exact_match: float | None = None
    size_bytes: int | None = None
    created_at: str | None = None
    pinned: bool = False
    """Never removed: its folder holds a file PINNED."""
    has_provenance: bool = False
    """Whether fettle.json in its folder says which run and step it is of."""
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def location(self) -> Path | str | None:
        """Where it can be had: its folder, or its URL; None where it is gone."""
        return self.path or self.url


@dataclass(frozen=True, slots=True)
class GroupMovement:
    """How far one group of modules of one layer moved from the start of training."""

    layer: int | None
    """None outside the layers: embeddings, head."""
    group: str
    """`qkv`, `o`, `mlp` or `other`."""
    modules: int
    movement: float
    """Frobenius norm of W - W0 over all its modules."""
    weight_norm: float | None = None
    """Frobenius norm of W0; None where it cannot be read."""
    grad_norm: float | None = None
    """2-norm of the gradient of what is trained here, before clipping; None where it was not read."""

    @property
    def relative(self) -> float | None:
        """Movement over weight norm."""
        return self.movement / self.weight_norm if self.weight_norm else None


@dataclass(frozen=True, slots=True)
class LayerActivity:
    """One `layers` record: what moved until `step`."""

    step: int
    method: Literal["lora", "full"]
    """What is trained: low-rank factors, or the weights themselves."""
    groups: list[GroupMovement]
    since_step: int = 0
    """Movement counts from here; above 0 where a run went on without knowing how it began."""
    seconds: float | None = None
    """What the measurement took."""
