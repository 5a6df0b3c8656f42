"""Tasks of lm-evaluation-harness that checkpoints are evaluated on."""

from __future__ import annotations

from pydantic import Field

from fettle.config.strict import Strict


class TasksConfig(Strict):
    names: list[str] = Field(min_length=1)
    """Tasks, groups and tags, as the harness knows them."""
    include_path: str | None = None
    """Folder with the YAML files of tasks of one's own."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Examples before each question. null: as the task says."""
    limit: float | int | None = Field(default=None, gt=0)
    """So many documents of each task, or their share where below 1. null: all."""
    apply_chat_template: bool = False
    """Whether questions are put as a user's message."""
