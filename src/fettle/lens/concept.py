"""One concept: what it means, what it is near to, and texts that show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Concept:
    """A term of an ontology. Names of other concepts need not be concepts of the same pack."""

    name: str
    definition: str = ""
    depth: int | None = None
    """Levels below the top of the ontology ("layer" in packs of HatCat); None where it is not told."""
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    siblings: tuple[str, ...] = ()
    """Those that are named; concepts with a parent in common are siblings as well."""
    opposites: tuple[str, ...] = ()
    lemmas: tuple[str, ...] = ()
    """Words for it."""
    positive: tuple[str, ...] = ()
    """Texts that show it."""
    negative: tuple[str, ...] = ()
    """Texts that do not."""
    hints: dict[str, Any] = field(default_factory=dict[str, Any])
    """What else a pack says of how to train it, as it stands there."""

    @property
    def lexemes(self) -> tuple[str, ...]:
        """Words for it, its name as words first, each once whatever its case."""
        words = {word.lower(): word for word in reversed([as_words(self.name), *self.lemmas])}
        return tuple(reversed(words.values()))


def as_words(name: str) -> str:
    """A term as it is spoken: `DomesticAnimal` and `domestic_animal` are `domestic animal`."""
    spaced = name.replace("_", " ").strip()
    parts: list[str] = []
    for i, char in enumerate(spaced):
        after_lower = i > 0 and char.isupper() and spaced[i - 1].islower()
        before_lower = 0 < i < len(spaced) - 1 and char.isupper() and spaced[i + 1].islower()
        begins = after_lower or (before_lower and spaced[i - 1].isupper())
        parts.append(f" {char}" if begins else char)
    words = "".join(parts).split()
    return " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in words)
