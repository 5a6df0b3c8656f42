"""What is told of lens packs, for the API's document."""

from __future__ import annotations

from fettle.server.shapes import Shape


class PackRow(Shape):
    """A pack in the list."""

    id: str
    name: str
    model: str | None
    """Folder or hub id of the model that the lenses look into."""
    layer: int | None
    count: int
    """Of its lenses."""
    created_at: str | None
    problem: str | None
    """Why it cannot be read; null where it can."""


class PackList(Shape):
    """Packs below the served folder, by id."""

    packs: list[PackRow]


class LensRow(Shape):
    """One lens."""

    concept: str
    grade: str | None
    """A, B, C or U."""
    branches: list[str]
    kind: str
    """linear or mlp."""
    state: str | None
    reason: str | None
    """Why it graduated or stopped."""
    f1: float | None
    """On the sealed test, as `auroc` is."""
    auroc: float | None
    selectivity: float | None
    """AUROC over that of the best baseline."""
    baselines: dict[str, float | None]
    """AUROC of each."""
    strongest: list[str]
    """Texts of the test that the lens scores highest."""


class PackShape(PackRow):
    """A pack with its lenses."""

    lenses: list[LensRow]
