"""Whether an answer is right: checkers, one kind a file. They know no models."""

from fettle.evaluation.checkers.build import build_checker
from fettle.evaluation.checkers.check import Check, Checker, Reference, judged, reference
from fettle.evaluation.checkers.choice import ChoiceRanking, rank_choices

__all__ = [
    "Check",
    "Checker",
    "ChoiceRanking",
    "Reference",
    "build_checker",
    "judged",
    "rank_choices",
    "reference",
]
