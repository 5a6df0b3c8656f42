"""Texts in, activations in the bank: what stands there already is not run again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xxhash
from loguru import logger

from fettle.errors import DataError, ModelError
from fettle.evaluation.cache import ScoreCache
from fettle.evaluation.loaded_model import LoadedModel
from fettle.evaluation.subject import Subject
from fettle.evaluation.weights import DigestMemo, model_digest, tokenizer_digest
from fettle.lens.activations import pooled_activations
from fettle.lens.answers import answers
from fettle.lens.backbone import read_backbone, read_config
from fettle.lens.bank import Bank
from fettle.lens.spec import ExtractionSpec
from fettle.lens.tokens import TextTokenizer, Tokens
from fettle.train.model import load_tokenizer

OnTokens = Callable[[int, int], None]
"""Told the tokens that were run, and those to run."""


class Extractor:
    """One set of weights seen by one spec, and the bank of what was seen."""

    def __init__(
        self,
        subject: Subject,
        spec: ExtractionSpec,
        banks: Path,
        *,
        device: str = "auto",
        batch_tokens: int | None = None,
        model: LoadedModel | None = None,
    ) -> None:
        """`banks` is a folder of many. `model` may hold the base of the subject already.

        Raises ModelError for weights or a tokenizer that cannot be read, and for a layer that is not there.
        """
        self.subject = subject
        self.spec = spec
        self.model = model or LoadedModel(spec.dtype, device, spec.attention, read_backbone)
        self._batch_tokens = batch_tokens
        self._cache = ScoreCache()
        self._tokenizer, self._reader = text_tokenizer(subject, spec)
        self.bank = Bank.below(banks, identity_of(subject, spec, self._tokenizer, self._cache))

    def extract(self, texts: Sequence[str], on_tokens: OnTokens | None = None) -> Bank:
        """The bank with a vector of every text that can have one; interrupted, the same call goes on.

        Raises DataError for a text without tokens to pool, ModelError where the model cannot be run.
        """
        missing = [texts[i] for i in self.bank.missing(texts)]
        if not missing:
            return self.bank
        with self.bank.writing():
            tokens = self._tokens(missing)
            total, done = sum(map(len, tokens.values())), 0
            names = list(tokens)
            batches = pooled_activations(
                self.model.use(self.subject),
                list(tokens.values()),
                self.spec,
                batch_tokens=self._batch_tokens,
            )
            for indices, vectors_NLD in batches if names else ():
                self.bank.add([names[i] for i in indices], vectors_NLD)
                done += sum(len(tokens[names[i]]) for i in indices)
                if on_tokens is not None:
                    on_tokens(done, total)
        if self._reader.cut:
            logger.warning("{} texts were cut at {} tokens", self._reader.cut, self.spec.max_tokens)
        return self.bank

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of texts, or of the prompts that are answered."""
        return [ids.tolist() for ids in self._reader.ids(texts)]

    def _tokens(self, texts: Sequence[str]) -> dict[str, Tokens]:
        """Of each text that can have a vector; the others are noted in the bank with the reason."""
        if self.spec.generation is None:
            return dict(zip(texts, self._reader.tokens(texts), strict=True))
        prompts = self._reader.ids(texts)
        found: dict[str, Tokens] = {}
        source = (self.bank.identity["weights"], self.model.precision, self.bank.identity["tokenizer"])
        said = answers(
            lambda: self.model.use(self.subject), self._tokenizer, [ids.tolist() for ids in prompts],
            self.spec.generation, self._cache, source,
        )  # fmt: skip
        for text, prompt, answer in zip(texts, prompts, said, strict=True):
            tokens = self._reader.answered(prompt, answer.tokens, {self._tokenizer.eos_token_id})
            if answer.ended == "not_finite" or not tokens.counted.any():
                reason = (
                    "its logits are not finite" if answer.ended == "not_finite" else "its answer is empty"
                )
                self.bank.skip(text, reason)
            else:
                found[text] = tokens
        if not found and not len(self.bank):
            raise DataError(f"{self.subject.model}: answers none of {len(texts)} texts with a token to pool")
        return found


def identity_of(
    subject: Subject, spec: ExtractionSpec, tokenizer: Any, memo: DigestMemo | None = None
) -> dict[str, Any]:
    """All that vectors depend on, by content. Raises ModelError for weights that are not there."""
    template: Any = getattr(tokenizer, "chat_template", None)
    in_chat = spec.template == "chat"
    return {
        "weights": model_digest(subject.model, subject.adapter, memo),
        "tokenizer": tokenizer_digest(tokenizer),
        "template": xxhash.xxh3_128_hexdigest(str(template).encode()) if in_chat else None,
        "spec": spec.model_dump(mode="json"),
    }


def text_tokenizer(subject: Subject, spec: ExtractionSpec) -> tuple[Any, TextTokenizer]:
    """The tokenizer of a model, and what turns texts into its tokens as the spec says.

    Raises ModelError for a model that cannot be read, and for a layer that it lacks.
    """
    config = read_config(subject.model).get_text_config()
    if spec.layers[-1] > config.num_hidden_layers:
        raise ModelError(
            f"layer {spec.layers[-1]}: {subject.model} has layers 0 to {config.num_hidden_layers}"
        )
    tokenizer = load_tokenizer(subject.tokenizer)
    return tokenizer, TextTokenizer(tokenizer, spec, _context(config, tokenizer))


def _context(config: Any, tokenizer: Any) -> int:
    """Tokens that both model and tokenizer take."""
    positions: Any = getattr(config, "max_position_embeddings", None)
    limits = [
        limit for limit in (positions, tokenizer.model_max_length) if isinstance(limit, int) and limit > 0
    ]
    return min(limits)
