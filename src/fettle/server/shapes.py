"""What the answers look like, for the API's documentation. The field docstrings are what it says."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """An answer; later versions may add fields."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Problem(Shape):
    """Why a request was refused."""

    detail: str
    """One line."""


class Health(Shape):
    """The server itself."""

    version: str
    control: bool
    """Whether runs can be stopped, paused and resumed from here."""
    runs: int
    parsed: int
    """Runs, checkpoint lists and verdicts worked out since the start: constant while no file changes."""
    cached: int
    """Times that one was given again."""
    clients: int
    """Open live streams."""
    uptime: float
    """Seconds."""


class RunRow(Shape):
    """One line of the list of runs. `null` is not measured."""

    id: str
    """What the other addresses take: the path below the served folder, `/` written as `~`."""
    name: str
    kind: str
    """The tool that wrote it: fettle, huggingface, llama_factory, metrics, tensorboard, tinker_cookbook."""
    state: str
    step: int | None
    total_steps: int | None
    epoch: float | None
    started_at: float | None
    """Unix seconds."""
    updated_at: float | None
    """Unix seconds."""
    model: str | None
    loss: float | None
    streaming_ce: float | None
    cross_entropy: float | None
    """Of the last fixed eval, nats per completion token."""
    exact_match: float | None
    """Of the last fixed eval, 0 to 1."""
    best_step: int | None
    eta_seconds: float | None
    alerts: int | None
    """Open alerts."""
    tags: list[str]
    problem: str | None
    """Why it, or a part of it, cannot be read."""


class RunList(Shape):
    """The runs that match, one page of them."""

    total: int
    runs: list[RunRow]


class RunDetail(RunRow):
    """One run: its line in the list, and what there is to ask for."""

    status: dict[str, Any] | None
    """status.json as it stands."""
    metadata: dict[str, Any] | None
    """metadata.json as it stands."""
    columns: dict[str, list[str]]
    """Numeric columns of each record type."""
    counts: dict[str, int]
    """Records of each type."""
    control: list[dict[str, Any]]
    """What people asked of the trainer and it obeyed, in order: `step`, `action`, `requested_at`, and when it
    was obeyed, `timestamp`."""
    problems: list[str]
    """What of its files could not be read."""
    cursor: str
    """Where the log stands, for `since`."""


class Config(Shape):
    """The configuration of a run; both are null where its tool keeps none."""

    resolved: dict[str, Any] | None
    yaml: str | None
    """The file as it stands."""


class VerdictShape(Shape):
    """Stop or go on, which checkpoint, and why: as `fettle verdict --json` (see verdict.md)."""

    schema_version: int
    run: str
    state: str
    action: str
    """continue, stop, investigate or insufficient."""
    checkpoint: dict[str, Any] | None
    recommendation: str
    reasons: list[str]
    evidence: dict[str, Any]
    not_measured: list[str]
    warnings: list[str]


class Metrics(Shape):
    """Columns of one record type."""

    cursor: str
    """Give it as `since` to get only what is new."""
    rewound: bool
    """Rows that were given before no longer count: these are all from the first one on."""
    more: bool
    """There are further rows: ask again with the cursor."""
    columns: dict[str, list[float | None]]


class Eval(Shape):
    """One fixed eval; intervals are 95 %."""

    step: int
    epoch: float | None
    exact_match: float | None
    exact_match_low: float | None
    exact_match_high: float | None
    cross_entropy: float | None
    cross_entropy_low: float | None
    cross_entropy_high: float | None
    expected_calibration_error: float | None
    entropy: float | None
    surprisal: float | None
    perplexity: float | None
    samples: int | None
    tokens: int | None
    seconds: float | None


class Evals(Shape):
    """Fixed evals by step."""

    evals: list[Eval]


class CheckpointRow(Shape):
    """One checkpoint with its score and what the score is made of."""

    step: int
    epoch: float | None
    path: str | None
    """Folder or URL; null where it is gone."""
    score: float | None
    """Composite, lower is better; null is incomparable, for the `reason`."""
    components: dict[str, float]
    inputs: dict[str, float | None]
    score_version: str | None
    reason: str | None
    rank: int | None
    cross_entropy: float | None
    exact_match: float | None
    train_loss: float | None
    size_bytes: int | None
    created_at: str | None
    is_best: bool
    """The verdict's choice."""
    is_latest: bool
    on_disk: bool
    pinned: bool


class Checkpoints(Shape):
    """Checkpoints, the newest first."""

    checkpoints: list[CheckpointRow]
    best_step: int | None


class JobRow(Shape):
    """One training of the queue. Times are Unix seconds; `null` is not measured, or not yet."""

    job_id: str
    """Also the id of its run, once there is one."""
    state: Literal["queued", "pending", "running", "paused", "completed", "failed", "cancelled"]
    """pending: started, and loading data and model."""
    has_run: bool
    """Whether its run folder is there."""
    queue_position: int | None
    """1 is the next one; null where it does not wait."""
    device: int | None
    """Number of the GPU it has to itself; null: the whole machine."""
    created_at: float
    started_at: float | None
    ended_at: float | None
    cancelling: bool
    """Whether it was asked to end, and has not yet."""
    step: int | None
    total_steps: int | None
    epoch: float | None
    loss: float | None
    eta_seconds: float | None
    exit_code: int | None
    error: str | None
    """Why it failed, in one line."""


class JobDetail(JobRow):
    """One training of the queue, with what it trains by and what it printed."""

    traceback: str | None
    config: str | None
    """Its YAML, resolved."""
    log: list[str]
    """The last lines that its process printed."""


class JobList(Shape):
    """The trainings of the queue, the newest first."""

    jobs: list[JobRow]


class JobCheckpoint(Shape):
    """One checkpoint of a training job."""

    path: str | None
    epoch: float | None
    step: int
    eval_loss: float | None
    train_loss: float | None
    size_bytes: int | None
    created_at: str | None
    is_best: bool
    is_latest: bool
    score: float | None
    components: dict[str, float]


class JobCheckpoints(Shape):
    """Checkpoints of a training job, the newest first."""

    job_id: str
    checkpoints: list[JobCheckpoint]
    best_checkpoint: JobCheckpoint | None
    message: str | None
    """Why there are none."""


class Controlled(Shape):
    """What was asked of the trainer."""

    id: str
    """Of the request; the `control` record of the log names it once it was obeyed."""
    action: str
    requested_at: float
    """Unix seconds."""


class Line(Shape):
    """One line of a log, or what many folded into."""

    time: str | None
    level: str | None
    text: str
    repeated: int


class Lines(Shape):
    """Lines of a log."""

    total_lines: int
    """Lines that match."""
    offset: int
    """Place of the first one given."""
    lines: list[Line]
