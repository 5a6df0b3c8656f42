"""What went wrong between here and the service: worth another try, or somebody's to mend."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import tinker
from tinker.types import RequestErrorCategory

from fettle.errors import RunError
from fettle.train.model import first_line

# A request that met its service mid-restart finds neither its model nor its result there (404, 410):
# both come back when the client is built anew from the last state.
TRANSIENT_STATUS = frozenset({404, 408, 409, 410, 429})

# No such method; not implemented. The SDK asks again for five minutes before it gives the latter.
NOT_THERE = frozenset({405, 501})


class NoSamplerError(RunError):
    """The service trains and does not sample."""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed on a client built anew."""
    if isinstance(error, tinker.APIStatusError):
        return error.status_code in TRANSIENT_STATUS or error.status_code >= 500
    if isinstance(error, tinker.RequestFailedError):
        return error.category is not RequestErrorCategory.User
    if isinstance(error, tinker.APIConnectionError | tinker.APIResponseValidationError):
        return True
    if isinstance(error, tinker.TinkerError):
        return False
    # The SDK wraps what it met while it polled in ValueError, and a poisoned client in RuntimeError;
    # one without a cause is an answer that it could not read.
    if isinstance(error, ValueError | RuntimeError):
        return error.__cause__ is None or is_transient(error.__cause__)
    return isinstance(error, OSError) or type(error).__name__ == "RetryableException"


def is_not_there(error: BaseException) -> bool:
    """Whether the service says that it has no such thing as was asked for."""
    cause = error if isinstance(error, tinker.TinkerError) else error.__cause__
    return isinstance(cause, tinker.APIStatusError) and cause.status_code in NOT_THERE


def refusal(what: str, error: BaseException) -> RunError:
    """One line for what the service will not do however often it is asked."""
    cause = error.__cause__ if isinstance(error.__cause__, tinker.APIStatusError) else error
    if isinstance(cause, tinker.APIStatusError) and cause.status_code in (401, 403):
        return RunError(f"{what}: the service refuses the API key. Set TINKER_API_KEY to a valid one")
    if isinstance(cause, tinker.APIStatusError) and cause.status_code == 402:
        return RunError(f"{what}: the service asks for payment ({first_line(cause)}). See its console")
    return RunError(f"{what}: the service refuses it: {_told(error)}")


def expiry(info: Mapping[str, Any], now: datetime | None = None) -> str:
    """Words for a saved state whose time is over by its fettle.json; "" where it is not, or has none."""
    told = info.get("expires_at")
    if not isinstance(told, str) or datetime.fromisoformat(told) > (now or datetime.now(UTC)):
        return ""
    return f", which expired at {told} (tinker.ttl_days)"


def _told(error: BaseException) -> str:
    """The words of the service, without the ids that the SDK puts around them."""
    text = first_line(error).removeprefix("Request failed: ")
    return text.split(" for self.request_id=")[0]
