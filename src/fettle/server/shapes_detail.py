"""What the answers about samples, layers, alerts and predictions look like."""

from __future__ import annotations

from typing import Any

from fettle.server.shapes import Shape


class Cell(Shape):
    """Samples of one kind and length; totals lack one of the two."""

    pattern: str | None
    length: str | None
    seen: int
    correct: int
    exact_match: float
    low: float
    """Of exact match, 95 %."""
    high: float
    tokens: int
    cross_entropy: float | None
    enough: bool
    """Whether there are enough samples to judge it."""
    train_share: float | None = None
    """Share of the training data; null where nobody counted."""


class Patterns(Shape):
    """One fixed eval by kind of prompt and length of the answer."""

    step: int | None
    steps: list[int]
    """Evals that can be asked for."""
    lengths: list[str]
    """Labels of all bins, in order."""
    cells: list[Cell]
    patterns: list[Cell]
    """Totals of each kind."""
    columns: list[Cell]
    """Totals of each length."""
    weakest: list[dict[str, Any]]
    balance: float | None
    """How evenly samples lie over the table, 0 to 1."""


class Sample(Shape):
    """One sample of a fixed eval."""

    sample_id: str
    pattern: str
    length: str
    tokens: int
    exact_match: bool | None
    cross_entropy: float | None
    history: str | None
    """always, learned, forgotten, never or flipping; null with a single eval."""
    right_at: list[int]
    """Evals at which it was right."""


class Samples(Shape):
    """Samples that match."""

    step: int | None
    total: int
    samples: list[Sample]


class LayerRow(Shape):
    """One group of modules of one layer."""

    layer: int | None
    """null outside the layers: embeddings, head."""
    group: str
    """qkv, o, mlp, other; `all` is the layer as a whole."""
    relative_movement: float | None
    """‖W − W₀‖ / ‖W₀‖."""
    movement: float
    gradient_norm: float | None
    state: str
    """moved, dead (did not move), vanishing or exploding (its gradient)."""


class LayerHistory(Shape):
    """One layer as a whole, measurement by measurement."""

    layer: int | None
    relative_movement: list[float | None]
    gradient_norm: list[float | None]


class Layers(Shape):
    """How far the layers moved since training began."""

    steps: list[int]
    """Of all measurements."""
    step: int | None
    """Of the newest, which `layers` and `top` are of."""
    method: str | None
    """lora or full."""
    layers: list[LayerRow]
    top: list[dict[str, Any]]
    """The five layers that moved most."""
    history: list[LayerHistory]


class ConceptRow(Shape):
    """One lens over the checkpoints."""

    concept: str
    grade: str | None
    """A, B, C or U."""
    branches: list[str]
    f1: float | None
    """Of the lens on its sealed test, as `auroc` is."""
    auroc: float | None
    shifts: list[float | None]
    """At each checkpoint, in deviations of texts without the concept."""
    low: float | None
    """Of the last shift, 95 %, as all that follows."""
    high: float | None
    effect: float | None
    p: float | None
    frozen_auroc: list[float | None]
    """At each checkpoint, of the lens on the concept's own texts; empty where they were not read."""
    refit_auroc: list[float | None]
    """Of a lens trained anew on the checkpoint."""
    cosine: list[float | None]
    """Between the directions of both."""
    moved: bool
    examples: list[str]
    """Texts that moved most."""
    strongest: list[str]
    """Texts that the lens scores highest."""


class ConceptDriftShape(Shape):
    """All lenses of a pack, the largest effect first."""

    pack: str
    texts: int
    controls: int
    created_at: str | None
    steps: list[int | None]
    names: list[str]
    lenses: list[ConceptRow]


class Concepts(Shape):
    """Which concepts the run moved; null where nobody asked."""

    drift: ConceptDriftShape | None


class AlertRow(Shape):
    """One alert, as it was last told."""

    category: str | None
    severity: str | None
    """critical, warning or info."""
    message: str | None
    recommendation: str | None
    evidence: dict[str, Any]
    threshold: float | None
    first_step: int | None
    last_step: int | None
    resolved_step: int | None
    resolved: bool


class Alerts(Shape):
    """Alerts, the open ones first."""

    alerts: list[AlertRow]


class EvaluationRow(Shape):
    """One checkpoint on one file; also `<checker>_pass_rate` of each checker, `_low` and `_high`."""

    step: int | None
    name: str | None
    data: str | None
    """The file."""
    folder: str | None
    """Of its files, below `evaluations/` in the run folder."""
    samples: float | None = None
    cross_entropy: float | None = None
    """Nats per completion token; with `_low` and `_high`, 95 %."""
    exact_match: float | None = None
    """Share; with `_low` and `_high`."""
    expected_calibration_error: float | None = None
    trend: dict[str, dict[str, str | None]]
    """By metric, `state` and `text`: how it went up to this checkpoint."""


class Evaluations(Shape):
    """What `fettle eval --watch` found, by step."""

    evaluations: list[EvaluationRow]


class PromptRow(Shape):
    """One fixed prompt and its answers over time."""

    prompt_id: str
    prompt: Any
    """The turns before the answer."""
    ground_truth: str | None
    pattern: str | None
    predictions: list[dict[str, Any]]
    """Each with `step`, `prediction`, `exact_match`, `character_error_rate`, `word_overlap` and more."""


class Predictions(Shape):
    """Answers to the fixed prompts."""

    steps: list[int]
    prompts: list[PromptRow]


class ComparedKey(Shape):
    """One key of the configurations that is not the same everywhere."""

    key: str
    values: list[Any]
    """In the order of `runs`; null where a run has no such key."""


class ComparedMetric(Shape):
    """A paired test of two runs, over the samples that their evals share."""

    a: str
    b: str
    metric: str
    difference: float | None
    """b minus a."""
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    """By Holm's method over all pairs."""
    samples: int
    reason: str | None


class Compared(Shape):
    """Runs against each other."""

    runs: list[str]
    steps: list[int | None]
    """The eval of each run: of the verdict's choice, else its last."""
    configs: list[ComparedKey]
    tests: list[ComparedMetric]
