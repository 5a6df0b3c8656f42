"""What went wrong between here and the service: worth another try, or somebody's to mend."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, cast

import tinker
from tinker.types import RequestErrorCategory

from fettle.errors import RunError
from fettle.train.model import first_line

# A request that met its service mid-restart finds neither its model nor its result there (404, 410):
# both come back when the client is built anew from the last state.
TRANSIENT_STATUS = frozenset({404, 408, 409, 410, 429})

# No such method; not implemented. The SDK asks again for five minutes before it gives the latter.
NOT_THERE = frozenset({405, 501})

# How newer SDKs begin to speak of a service that answers in the way of older ones.
TOO_OLD = "Server returned a JSON payload"


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
    if isinstance(error, ValueError | RuntimeError) and not str(error).startswith(TOO_OLD):
        return error.__cause__ is None or is_transient(error.__cause__)
    return isinstance(error, OSError) or type(error).__name__ == "RetryableException"


def is_not_there(error: BaseException) -> bool:
    """Whether the service says that it has no such thing as was asked for."""
    answer = _answer(error)
    return answer is not None and answer.status_code in NOT_THERE


def refusal(what: str, error: BaseException) -> RunError:
    """One line for what the service will not do however often it is asked."""
    answer = _answer(error)
    if answer is not None and answer.status_code in (401, 403):
        return RunError(f"{what}: the service refuses the API key. Set TINKER_API_KEY to a valid one")
    if answer is not None and answer.status_code == 402:
        return RunError(f"{what}: the service asks for payment ({first_line(answer)}). See its console")
    if str(error).startswith(TOO_OLD):
        return RunError(
            f"{what}: the service answers as older versions of the SDK understand, and {version('tinker')} "
            "does not. Install one that it speaks to: pip install 'tinker==0.24.*'"
        )
    return RunError(f"{what}: the service refuses it: {_told(error)}")


def expiry(info: Mapping[str, Any], now: datetime | None = None) -> str:
    """Words for a saved state whose time is over by its fettle.json; "" where it is not, or has none."""
    told = info.get("expires_at")
    if not isinstance(told, str) or datetime.fromisoformat(told) > (now or datetime.now(UTC)):
        return ""
    return f", which expired at {told} (tinker.ttl_days)"


def _answer(error: BaseException) -> tinker.APIStatusError | None:
    """The answer of the service that an error, or what it came of, stands for."""
    found = (e for e in (error, error.__cause__) if isinstance(e, tinker.APIStatusError))
    return next(found, None)


def _told(error: BaseException) -> str:
    """The words of the service, without what the SDK puts around them."""
    body: object = getattr(_answer(error), "body", None)
    if isinstance(body, Mapping):
        said = cast("Mapping[str, object]", body)
        words = said.get("detail") or said.get("message")
        if isinstance(words, str):
            return words
    text = first_line(error).removeprefix("Request failed: ")
    return text.split(" for self.request_id=")[0]
