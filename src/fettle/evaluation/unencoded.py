"""Samples without a tokenizer: what can be asked of a model that is nowhere here, and nothing of tokens."""

from __future__ import annotations

from fettle.config import EvaluationConfig
from fettle.data import PatternClassifier
from fettle.evaluation.choice_ranking import ChoiceQuestions
from fettle.evaluation.samples import EvaluationData
from fettle.train.evaluation import FixedEvalSet
from fettle.train.fixed_prompt import FixedPrompt

NO_TOKENIZER = "no tokenizer is known. Name that of the server's model: --tokenizer"


class UnencodedData:
    """The samples of a file as chats. The names are those of `EncodedData`; none is too long."""

    def __init__(self, data: EvaluationData, config: EvaluationConfig) -> None:
        classifier = PatternClassifier(config.patterns.rules)
        kept = [example for example in data.examples if example.learned_answers(only_last=True)]
        kinds = [classifier.kind(example) for example in kept]
        self.eval_set = FixedEvalSet([], kept, [example.id for example in kept], kinds)
        self.unscored = len(data.examples) - len(kept)
        """Samples without an answer to learn from."""
        self.counts = {"without_label": self.unscored}
        self.asked = [i for i, example in enumerate(kept) if example.learned_answers(only_last=True)[-1] > 0]
        """Samples whose last answer has something before it, which the model can be asked."""
        self.prompts = [FixedPrompt(kept[i], kinds[i], [], []) for i in self.asked]
        """What is asked of the model, one of each of `asked`."""
        self.choice_questions: dict[str, ChoiceQuestions] = {}
        """None: how likely a choice is depends on its tokens."""
