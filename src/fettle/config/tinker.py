"""The `tinker` section: where the service is, and how long it keeps what is saved."""

from __future__ import annotations

from pydantic import Field

from fettle.config.strict import Strict


class TinkerConfig(Strict):
    base_url: str | None = Field(default=None, pattern="^https?://.+")
    """Address of the service. null: TINKER_BASE_URL, else that of Thinking Machines."""
    ttl_days: int | None = Field(default=None, ge=1, le=3650)
    """Days after which the service forgets a checkpoint. null: it keeps them until they are removed."""
