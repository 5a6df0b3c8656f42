"""Fenced blocks of Markdown in an answer."""

from __future__ import annotations

FENCE = "```"


def blocks(text: str) -> list[str]:
    """What stands in each fenced block, also one that is never closed; the whole text without a fence."""
    parts = text.split(FENCE)
    # Parts at odd places are inside of a fence.
    return [_content(part) for part in parts[1::2]] or [text.strip()]


def _content(block: str) -> str:
    """A block without the name of its language, on the line of the fence."""
    first, line_end, rest = block.partition("\n")
    return rest if line_end and (not first.strip() or first.strip().isidentifier()) else block
