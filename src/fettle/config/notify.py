"""The `notify` section: who is told of an alert while nobody watches."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from fettle.config.strict import Strict
from fettle.errors import ConfigError


def web_address(value: str | None) -> str | None:
    """An http address, or the name of the environment variable that holds one."""
    named = value is not None and value.startswith("$") and len(value) > 1
    if value is None or named or value.startswith(("http://", "https://")):
        return value
    raise PydanticCustomError("web_address", "must be an http(s):// address, or $NAME to read it from there")


class NotifyConfig(Strict):
    webhook: Annotated[str | None, AfterValidator(web_address)] = None
    """Address that every alert is posted to as JSON. `$NAME` reads it from the environment, which keeps a
    secret address out of config.yaml. null: none."""
    format: Literal["generic", "slack", "discord"] = "generic"
    """What is posted: all fields of the alert, or one message as Slack or Discord take it."""
    command: list[str] | None = Field(default=None, min_length=1)
    """Program and arguments run for every alert, which it reads as JSON from standard input. null: none."""
    min_level: Literal["info", "warning", "critical"] = "warning"
    """Alerts below this level are only logged."""
    timeout_seconds: float = Field(default=5.0, gt=0, le=60)
    """After this long an address or a program is given up. Training never waits for either."""

    def address(self) -> str | None:
        """The webhook itself. Raises ConfigError where the environment does not hold it."""
        if self.webhook is None or not self.webhook.startswith("$"):
            return self.webhook
        name = self.webhook[1:]
        value = os.environ.get(name, "")
        if not value.startswith(("http://", "https://")):
            held = "holds no http(s):// address" if value else "is not set"
            raise ConfigError(f"notify.webhook: the environment variable {name} {held}. Export it first.")
        return value
