"""Whether an answer is right: checkers, one kind a file. They know no models."""

from fettle.evaluation.checkers.build import build_checker
from fettle.evaluation.checkers.check import Check, Checker, Reference, judged, reference
from fettle.evaluation.checkers.choice import ChoiceRanking, rank_choices
from fettle.evaluation.checkers.judge import judge_api

__all__ = [
    "Check",
    "Checker",
    "ChoiceRanking",
    "Reference",
    "build_checker",
    "judge_api",
    "judged",
    "rank_choices",
    "reference",
]
