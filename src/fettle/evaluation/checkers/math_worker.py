"""Compares mathematical expressions in a process that can be ended: one JSON line in, one out."""

from __future__ import annotations

import json
import resource
import sys
from importlib import import_module
from typing import Any

MEMORY_BYTES = 4 << 30


def main() -> None:
    """Answers `{"right", "said"}` with `{"correct", "formatted", "reason"}` until its input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    library = import_module("math_verify")
    for line in sys.stdin:
        try:
            found = _compare(library, **json.loads(line))
        except Exception as error:  # noqa: BLE001 - what cannot be compared is told, and the next one is
            found = {"correct": None, "reason": f"math-verify: {type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


def _compare(library: Any, right: str, said: str) -> dict[str, Any]:
    # The caller's clock ends what takes too long, so the library's own are off.
    settings = {"parsing_timeout": None, "raise_on_error": True}
    gold, target = library.parse(_delimited(right), **settings), library.parse(_delimited(said), **settings)
    if not gold:
        return {"correct": None, "reason": "the reference holds no mathematical expression"}
    if not target:
        return {"correct": False, "formatted": False, "reason": "no mathematical expression found"}
    same = bool(library.verify(gold, target, timeout_seconds=None, raise_on_error=True))
    return {"correct": same, "formatted": True, "reason": None if same else "another value"}


def _delimited(text: str) -> str:
    """LaTeX between signs that say so: the library looks for them."""
    marked = any(sign in text for sign in ("$", "\\(", "\\[", "\\boxed"))
    return text if marked or "\\" not in text else f"${text}$"


if __name__ == "__main__":
    main()
