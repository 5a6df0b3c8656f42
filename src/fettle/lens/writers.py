"""Who writes example texts: a local model, or one behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fettle.config import EndpointConfig, SamplingConfig
from fettle.data.template import ChatTemplate
from fettle.evaluation.endpoint import Endpoint, EndpointAnswer
from fettle.evaluation.loaded_model import LoadedModel
from fettle.evaluation.subject import Subject
from fettle.lens.generated_texts import Ask, OnText, tidied
from fettle.scoring import sample_batches
from fettle.train.model import load_tokenizer

SETTINGS = SamplingConfig(temperature=0.8, top_p=0.95, max_new_tokens=80, seed=0)
"""Of every text; its number draws from a stream of its own."""


class EndpointWriter:
    """Texts of a server, many asked for at once."""

    def __init__(self, config: EndpointConfig) -> None:
        """Raises MissingExtraError without httpx, ConfigError where the environment lacks the key."""
        self.name = config.model
        self._endpoint = Endpoint(config)

    def write(self, asks: Sequence[Ask], on_text: OnText) -> None:
        """Raises ModelError where the server is gone, refuses the key or lacks the model."""

        def told(answer: EndpointAnswer) -> None:
            if answer.text is not None:
                on_text(answer.prompt, tidied(answer.text))

        chats = [[{"role": "user", "content": ask.prompt}] for ask in asks]
        self._endpoint.answers(chats, SETTINGS, told, wanted=[[ask.number] for ask in asks])


class LocalWriter:
    """Texts of a causal model on this machine, in its chat template where it has one."""

    def __init__(self, subject: Subject, name: str, *, device: str = "auto") -> None:
        self.name = name
        self._subject = subject
        self._device = device

    def write(self, asks: Sequence[Ask], on_text: OnText) -> None:
        """Raises ModelError where the model cannot be read or run."""
        tokenizer = load_tokenizer(self._subject.tokenizer)
        loaded = LoadedModel("auto", self._device)
        model = loaded.use(self._subject)
        prompts = [_ids(tokenizer, ask.prompt) for ask in asks]
        numbers = [[ask.number] for ask in asks]
        for batch in sample_batches(model, tokenizer, prompts, SETTINGS, wanted=numbers):
            for answer in batch:
                if answer.reason is None:
                    said = tokenizer.decode(answer.tokens, skip_special_tokens=True)
                    on_text(answer.prompt, tidied(said))
        loaded.close()


def _ids(tokenizer: Any, prompt: str) -> list[int]:
    if getattr(tokenizer, "chat_template", None):
        turn = [{"role": "user", "content": prompt}]
        text = ChatTemplate(tokenizer).apply(turn, None, add_generation_prompt=True)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return list(tokenizer(f"{prompt}\n")["input_ids"])
