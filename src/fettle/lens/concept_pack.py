"""The concepts of a pack and how they are related."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from fettle.errors import DataError
from fettle.lens.concept import Concept


class ConceptPack:
    """Concepts by name, in the order of the pack.

    Raises DataError for none at all, a name that stands twice, or parents that go round in a circle.
    """

    def __init__(self, concepts: Iterable[Concept], source: str = "the pack") -> None:
        self.source = source
        self.concepts: dict[str, Concept] = {}
        for concept in concepts:
            if concept.name in self.concepts:
                raise DataError(
                    f"{source}: concept '{concept.name}' stands there twice. Rename or remove one"
                )
            self.concepts[concept.name] = concept
        if not self.concepts:
            raise DataError(f"{source}: holds no concepts")
        self._refuse_circles()

    def __len__(self) -> int:
        return len(self.concepts)

    @property
    def names(self) -> list[str]:
        return list(self.concepts)

    @cached_property
    def parents(self) -> dict[str, list[str]]:
        """Of every name that occurs: its own parents, and those that name it as a child."""
        found: dict[str, dict[str, None]] = {}
        for concept in self.concepts.values():
            found.setdefault(concept.name, {}).update(dict.fromkeys(concept.parents))
            for parent in concept.parents:
                found.setdefault(parent, {})
            for child in concept.children:
                found.setdefault(child, {})[concept.name] = None
        return {name: list(names) for name, names in found.items()}

    @cached_property
    def children(self) -> dict[str, list[str]]:
        """Of every name that occurs."""
        found: dict[str, list[str]] = {name: [] for name in self.parents}
        for name, parents in self.parents.items():
            for parent in parents:
                found[parent].append(name)
        return found

    def ancestors(self, name: str) -> set[str]:
        """Parents, their parents, and so on."""
        return _reached(name, self.parents)

    def descendants(self, name: str) -> set[str]:
        """Children, their children, and so on."""
        return _reached(name, self.children)

    def siblings(self, name: str) -> set[str]:
        """Those named as such on either side, and those that share a parent."""
        related = {child for parent in self.parents[name] for child in self.children[parent]}
        return (related | self._named_siblings.get(name, set())) - {name}

    def opposites(self, name: str) -> set[str]:
        """Those named as such on either side."""
        return self._named_opposites.get(name, set()) - {name}

    def branches(self, name: str) -> set[str]:
        """The top of the ontology above it; itself where nothing is above."""
        tops = {above for above in self.ancestors(name) if not self.parents[above]}
        return tops or {name}

    @cached_property
    def _named_siblings(self) -> dict[str, set[str]]:
        return _both_ways({name: concept.siblings for name, concept in self.concepts.items()})

    @cached_property
    def _named_opposites(self) -> dict[str, set[str]]:
        return _both_ways({name: concept.opposites for name, concept in self.concepts.items()})

    def _refuse_circles(self) -> None:
        """Depth first; what is on the way down may not come again."""
        state: dict[str, bool] = {}
        for start in self.parents:
            path: list[str] = []
            stack: list[tuple[str, bool]] = [(start, True)]
            while stack:
                name, down = stack.pop()
                if not down:
                    path.pop()
                    state[name] = True
                    continue
                if state.get(name) is False:
                    circle = " -> ".join([*path[path.index(name) :], name])
                    raise DataError(f"{self.source}: parents go round in a circle: {circle}")
                if name in state:
                    continue
                state[name] = False
                path.append(name)
                stack.append((name, False))
                stack += [(parent, True) for parent in self.parents[name]]


def _both_ways(links: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """Links by name, those that lead back added."""
    found: dict[str, set[str]] = {}
    for name, others in links.items():
        for other in others:
            found.setdefault(name, set()).add(other)
            found.setdefault(other, set()).add(name)
    return found


def _reached(start: str, links: Mapping[str, list[str]]) -> set[str]:
    """All that can be reached from a name, itself left out."""
    found: set[str] = set()
    waiting = list(links[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += links[name]
    return found
