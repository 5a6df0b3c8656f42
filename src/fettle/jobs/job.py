"""One training that somebody asked for, and how it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

State = Literal["queued", "pending", "running", "paused", "completed", "failed", "cancelled"]
"""`pending` is started and not yet training: it reads data and loads the model."""
ENDED: frozenset[str] = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Job:
    """What its file holds. Times are Unix seconds."""

    id: str
    """Also the name of the run folder, and the id of the run."""
    state: State
    created_at: float
    device: int | None = None
    """Number of the GPU it has to itself; None: the whole machine."""
    started_at: float | None = None
    ended_at: float | None = None
    pid: int | None = None
    process_start: str | None = None
    """When the process began, as the system tells it: a number is given to another process later."""
    cancelled_at: float | None = None
    """When somebody asked for its end."""
    exit_code: int | None = None
    """None where no server saw it end."""
    error: str | None = None
    traceback: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self.state in ENDED

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job | None:
        """A job out of its file; None where the file holds none."""
        try:
            return TypeAdapter(cls).validate_python(dict(value))
        except ValidationError:
            return None

    def conflicts(self, other: Job) -> bool:
        """Whether both want the same device."""
        return self.device is None or other.device is None or self.device == other.device
