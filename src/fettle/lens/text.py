"""One labelled text, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["definition", "relation", "example", "generated"]


@dataclass(frozen=True, slots=True)
class Text:
    """A text that shows a concept, or that does not."""

    text: str
    concept: str
    label: bool
    """Whether it shows the concept."""
    source: Source
    template: str | None = None
    """What it was made with: texts of one template read alike whatever they are about."""
    lexeme: str | None = None
    """The word it was made around."""
    generator: str | None = None
    """The model that wrote it; None where a person or a template did."""

    @property
    def group(self) -> tuple[str, ...]:
        """Texts of one group stay together: template × lexeme × generator.

        A text of which neither template nor lexeme is known is a group of its own.
        """
        if self.template is None and self.lexeme is None:
            return (self.text,)
        return (self.template or "", self.lexeme or "", self.generator or "")
