"""Multiple choice without generating: the choice that the model finds likeliest as its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Any

from fettle.config.checkers import ChoiceConfig
from fettle.data import ChatEncoder
from fettle.data.sequence import Sequence as TokenSequence
from fettle.evaluation.checkers import Check, Reference, rank_choices, reference
from fettle.evaluation.checkers.choice import right_letter
from fettle.train.fixed_prompt import FixedPrompt

WAYS = {"": "by_sum", "_per_character": "by_character", "_per_byte": "by_byte"}
"""What is added to the checker's name, and the ranking that it means."""


@dataclass(frozen=True, slots=True)
class _Question:
    choices: list[str]
    """[] where the data line lists none."""
    right: int | None
    problem: str | None
    places: list[int | None]
    """Of the sequence of each choice; None for one that does not fit."""


class ChoiceQuestions:
    """The choices of every prompt, each as the answer of a chat."""

    def __init__(
        self, prompts: Sequence[FixedPrompt], config: ChoiceConfig, tokenizer: Any, limit: int
    ) -> None:
        """`limit` is the length of the longest sequence in tokens; only the choice itself is scored."""
        asked = [_asked(reference(prompt.example), config) for prompt in prompts]
        examples = [
            replace(
                prompt.example,
                messages=[*prompt.messages, {"role": "assistant", "content": choice}],
                given=len(prompt.messages),
            )
            for prompt, (choices, _, _) in zip(prompts, asked, strict=True)
            for choice in choices
        ]
        encoder = ChatEncoder(tokenizer, train_on="last", max_seq_length=limit, too_long="drop")
        encoded = encoder.encode_all(examples)
        self.sequences: list[TokenSequence] = encoded.sequences
        place_of = {index: place for place, index in enumerate(encoded.kept)}
        self._questions: list[_Question] = []
        count = 0
        for choices, right, problem in asked:
            places = [place_of.get(count + i) for i in range(len(choices))]
            count += len(choices)
            self._questions.append(_Question(choices, right, problem, places))

    def checks(self, logprob_sums: Sequence[float]) -> dict[str, list[list[Check]]]:
        """One check a prompt for each of `WAYS`, from the summed log-probability of every sequence."""
        ranked = [_ranked(question, logprob_sums) for question in self._questions]
        return {suffix: [[found[way]] for found in ranked] for suffix, way in WAYS.items()}


def _asked(against: Reference, config: ChoiceConfig) -> tuple[list[str], int | None, str | None]:
    """The choices, which of them is right, and what is wrong with the data line."""
    listed = against.fields.get(config.choices_field)
    if not isinstance(listed, list) or not listed:
        return [], None, f"the data line lists no choices in '{config.choices_field}'"
    choices = [str(choice) for choice in listed]  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    letters = ascii_uppercase[: len(choices)]
    try:
        right = right_letter(against.right(config.reference_field), letters, choices)
    except KeyError as error:
        return choices, None, str(error.args[0])
    if right is None:
        return choices, None, f"the reference names none of the choices {letters[0]} to {letters[-1]}"
    return choices, letters.index(right), None


def _ranked(question: _Question, sums: Sequence[float]) -> dict[str, Check]:
    problem = question.problem
    if problem is None and None in question.places:
        problem = "a choice does not fit into max_seq_length"
    if problem is None:
        found = rank_choices([sums[p] for p in question.places if p is not None], question.choices)
        if found is not None:
            return {way: _check(getattr(found, way), question) for way in WAYS.values()}
        problem = "a choice is empty, or its log-probability is not finite or not told"
    return dict.fromkeys(WAYS.values(), Check(None, problem))


def _check(chosen: int, question: _Question) -> Check:
    if chosen == question.right:
        return Check(True)
    assert question.right is not None
    return Check(False, f"{ascii_uppercase[chosen]} instead of {ascii_uppercase[question.right]}")
