"""Chats of small sums, for a held-out set that is scored at once."""

from __future__ import annotations

import json
from pathlib import Path

FEW = {"samples": 1, "max_new_tokens": 3}
"""Predictions: answers of a model that never ends one would take most of the time."""


def write_sums(path: Path, numbers: range) -> Path:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{i} plus {i + 1}"},
                {"role": "assistant", "content": f"is {2 * i + 1}" + " indeed" * (i % 3)},
            ]
        }
        for i in numbers
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
