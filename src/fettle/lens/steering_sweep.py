"""What steering does: how far the evidence moves, and what it costs on neutral text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.data import Sequence as Tokenised
from fettle.errors import ModelError
from fettle.evaluation.subject import Subject
from fettle.lens.activations import pooled_activations
from fettle.lens.direction import Direction
from fettle.lens.extract import Extractor
from fettle.lens.lens_pack import LensPack
from fettle.lens.spec import ExtractionSpec, check_same, read_spec
from fettle.lens.steering import Steer, steering
from fettle.lens.tokens import TextTokenizer, Tokens
from fettle.metrics import Estimate, mean_estimate, perplexity, token_cross_entropy
from fettle.scoring import score
from fettle.scoring.decoder import unwrapped
from fettle.train.model import load_tokenizer

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Steered:
    """One strength."""

    strength: float
    evidence: Estimate | None
    """Mean over the texts, in deviations of texts without the concept."""
    moved: Estimate | None
    """Its mean change from the unsteered model, text by text."""
    cross_entropy: Estimate | None
    """Nats per token of the neutral texts."""
    perplexity_ratio: float | None
    """Over that of the unsteered model."""


def sweep(
    model: Any,
    direction: Direction,
    steer: Callable[[float], Steer],
    strengths: Sequence[float],
    texts: Sequence[Tokens],
    spec: ExtractionSpec,
    *,
    at: int | None = None,
    evidence: Callable[[Floats], Floats] | None = None,
) -> list[Steered]:
    """Each strength on the same neutral texts; 0 is the model as it is.

    `evidence` reads vectors [N, D], by default as the direction does.

    `steer` acts behind layer `at`, by default that of the lens. Evidence is read at the layer of the lens;
    where both are the same it moves by what was added, and it is the perplexity that tells the price.
    """
    layer = direction.layer if at is None else at
    sequences = [Tokenised(t.ids, np.ones(len(t), dtype=np.bool_)) for t in texts]
    read = _Reader(direction.layer, evidence or direction.evidence, texts, spec)
    plain_N, base = read(model), _cross_entropy(model, sequences)
    found: list[Steered] = []
    for strength in strengths:
        with steering(model, {layer: [steer(strength)]}):
            evidence_N, cost = read(model), _cross_entropy(model, sequences)
        ratio = perplexity(cost.value - base.value) if cost and base else None
        moved = mean_estimate(evidence_N - plain_N)
        found.append(Steered(strength, mean_estimate(evidence_N), moved, cost, ratio))
    return found


@dataclass(frozen=True, slots=True)
class _Reader:
    layer: int
    evidence: Callable[[Floats], Floats]
    texts: Sequence[Tokens]
    spec: ExtractionSpec

    def __call__(self, model: Any) -> Floats:
        """Evidence of the pooled activations of each text, [N]."""
        evidence_N = np.empty(len(self.texts), dtype=np.float32)
        at = self.spec.layers.index(self.layer)
        for indices, vectors_NLD in pooled_activations(model, self.texts, self.spec):
            evidence_N[indices] = self.evidence(vectors_NLD[:, at])
        return evidence_N


def _cross_entropy(model: Any, sequences: Sequence[Tokenised]) -> Estimate | None:
    scores = score(model, sequences)
    return token_cross_entropy(scores.cross_entropy_sum, scores.tokens)


def sweep_pack(
    pack: LensPack,
    subject: Subject,
    direction: Direction,
    steer: Callable[[float], Steer],
    strengths: Sequence[float],
    texts: Sequence[str],
    *,
    at: int | None = None,
    device: str = "auto",
) -> list[Steered]:
    """The sweep on the model of a pack. Raises ModelError for another model, or one without a next token."""
    spec = read_spec(pack.identity["spec"], "the pack")
    if spec.source == "generated":
        # Evidence is then read on the neutral texts themselves, by teacher forcing.
        spec = spec.model_copy(update={"source": "prompt", "generation": None})
    with TemporaryDirectory() as nowhere:
        own = read_spec(pack.identity["spec"], "the pack")
        extractor = Extractor(subject, own, Path(nowhere), device=device)
        check_same(extractor.bank.identity, pack.identity, "the pack")
    model = extractor.model.use(subject)
    if unwrapped(model).get_output_embeddings() is None:
        raise ModelError(f"{subject.model}: predicts no next token, so steering it has no price to show")
    tokens = TextTokenizer(load_tokenizer(subject.tokenizer), spec).tokens(texts)
    lens = pack.concepts.index(direction.concept)
    is_network = pack.networks is not None and lens in pack.networks.at

    def evidence(vectors_ND: Floats) -> Floats:
        return pack.evidence(vectors_ND)[:, lens]

    own = evidence if is_network else None
    return sweep(model, direction, steer, strengths, tokens, spec, at=at, evidence=own)
