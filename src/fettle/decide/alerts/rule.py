"""What every rule has: what it reads, when it holds, and what it says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from fettle.decide.alerts.alert import Level
from fettle.decide.alerts.run_state import RunState

if TYPE_CHECKING:
    from fettle.config import AlertsConfig

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """What an alert will say."""

    message: str
    action: str
    evidence: dict[str, Any] = field(default_factory=dict[str, Any])
    first_step: int | None = None
    """Step at which it began, where that is not the step at which it was found."""


class Rule(ABC):
    """One kind of alert. Keeps what it needs of the past, at constant cost per record."""

    category: ClassVar[str]
    """Also the key of its threshold in the configuration."""
    level: Level
    reads: ClassVar[frozenset[str]]
    """Types of records it judges."""
    waits: ClassVar[bool] = True
    """Whether it stays quiet for a while after it was resolved."""

    def __init__(self, threshold: float, config: AlertsConfig) -> None:
        self.threshold = threshold
        self.config = config
        self.hysteresis = config.hysteresis

    @abstractmethod
    def judge(self, record: Record, run: RunState) -> bool | None:
        """True while it holds, False once it is clearly over, None where the record does not tell."""

    @abstractmethod
    def finding(self, run: RunState) -> Finding:
        """What to say; called only after `judge` gave True."""
