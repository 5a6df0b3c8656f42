"""From a model and a file of concepts to a pack of lenses, the whole way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import xxhash
from loguru import logger

from fettle.evaluation.subject import Subject
from fettle.lens.bank import Bank
from fettle.lens.controls import baseline, random_directions, refuse_templates, shuffled_labels
from fettle.lens.dataset import LensDataset, Selection
from fettle.lens.extract import Extractor, OnTokens
from fettle.lens.generated_texts import GeneratedFrom
from fettle.lens.grades import grade_lenses
from fettle.lens.graduation import Graduation
from fettle.lens.growth import Grown, Growth, Round, grow, try_networks
from fettle.lens.judge import HeldOut, judge_rows, negative_moments
from fettle.lens.ledger import Ledger
from fettle.lens.lens_pack import INDEX, LensPack, read_pack, write_pack
from fettle.lens.mixed import Scoring
from fettle.lens.pack_texts import TextsFrom, pack_corpus
from fettle.lens.penalty import choose_penalty
from fettle.lens.probability import fit_probabilities, judge_probabilities
from fettle.lens.problem import Ints, LensProblem, LensRows
from fettle.lens.report import Findings, about, records
from fettle.lens.ridge import RidgeFit
from fettle.lens.spec import ExtractionSpec
from fettle.lens.splits import SHARES, SealedTest, SetName, rows_hash, split
from fettle.lens.text_features import BASELINES

STRONGEST = 3
"""Texts shown of each lens."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How lenses are trained, whatever the model."""

    texts_from: TextsFrom = "auto"
    generated: GeneratedFrom | None = None
    """Texts that a model wrote, beside the others."""
    shares: Mapping[SetName, float] = field(default_factory=lambda: dict(SHARES))
    growth: Growth = field(default_factory=Growth)
    graduation: Graduation = field(default_factory=Graduation)
    validation_blocking: bool = False
    """Whether a lens graded C or U on the texts put aside grows on, for a bounded number of rounds."""
    mlp: bool = False
    """Whether networks are tried in the place of lenses that leave room for one; many times the time."""
    prevalence: float = 0.01
    """Share of texts that show a concept, for which precision is stated."""
    seed: int = 0


def train_lenses(
    subject: Subject,
    concepts: Path,
    out: Path,
    *,
    spec: ExtractionSpec,
    banks: Path,
    settings: TrainSettings | None = None,
    device: str = "auto",
    batch_tokens: int | None = None,
    on_tokens: OnTokens | None = None,
    on_round: Callable[[int, Round], None] | None = None,
) -> LensPack:
    """A pack of lenses in `out`, of the best of the spec's layers.

    Texts are extracted as lenses ask for them; what an interrupted training extracted is not run again, and
    a finished one of the same model, texts and settings is given back as it is. `on_round` is told the layer
    and what a round came to. The sealed test is opened when nothing is left to choose. Raises DataError for
    concepts that cannot be trained or that their template gives away, ModelError for a model that cannot be
    run and for a pack of another model or spec in `out`.
    """
    settings = settings or TrainSettings()
    pack, corpus = pack_corpus(concepts, settings.texts_from, settings.generated)
    splits = split(corpus, dict(settings.shares), settings.seed)
    dataset = LensDataset(pack, corpus, splits, settings.seed)
    extractor = Extractor(subject, spec, banks, device=device, batch_tokens=batch_tokens)
    key = _key(extractor.bank.identity, rows_hash(corpus, np.arange(len(corpus))), settings)
    before = _pack_in(out, extractor.bank.identity)
    if before is not None and before.about.get("key") == key:
        logger.info("{}: is trained already", out)
        return before
    sealed = SealedTest(corpus, splits)
    training = _Training(dataset, extractor, settings, on_tokens, on_round)
    grown = training.grow()
    # Before anything is judged: a look at it that ends in a refusal is a look.
    tested: dict[str, Any] = {} if before is None else before.about.get("test", {})
    known = int(tested.get("opened", 0)) if tested.get("hash") == sealed.hash else 0
    opened = Ledger(banks).open(sealed.hash, extractor.bank.identity["weights"], key, out, known)
    findings = training.judge(grown, sealed)
    refuse_templates(findings.test, findings.baselines["template"])
    negative_mean, negative_deviation = negative_moments(grown.held_out)
    lenses = LensPack(
        concepts=dataset.concepts,
        layer=training.layer,
        identity=extractor.bank.identity,
        lenses=grown.fit.lenses,
        thresholds=np.array([held_out.threshold for held_out in grown.held_out], dtype=np.float32),
        negative_mean=negative_mean,
        negative_deviation=negative_deviation,
        networks=grown.networks,
        platts=findings.platts,
        records=records(dataset, grown, findings),
        about={
            "key": key,
            "model": subject.model,
            "adapter": None if subject.adapter is None else str(subject.adapter),
            "concepts": str(concepts),
            "settings": asdict(settings),
            "layers": training.layers,
            "test": {"hash": sealed.hash, "texts": len(sealed), "opened": opened},
            **about(dataset, grown, findings),
        },
    )
    write_pack(out, lenses)
    return lenses


class _Training:
    """The steps, which share texts, model and settings."""

    def __init__(
        self,
        dataset: LensDataset,
        extractor: Extractor,
        settings: TrainSettings,
        on_tokens: OnTokens | None,
        on_round: Callable[[int, Round], None] | None,
    ) -> None:
        self.dataset = dataset
        self.layer = extractor.spec.layers[0]
        self.layers: dict[str, float] = {}
        """Mean AUROC of each layer on the select set."""
        self._extractor = extractor
        self._settings = settings
        self._on_tokens = on_tokens
        self._on_round = on_round
        self._sizes = np.minimum(dataset.available, settings.growth.start)
        """Training texts of each concept that were asked for last."""

    def grow(self) -> Grown:
        """Lenses of the best layer: chosen by the first texts, and once more by all that were asked for."""
        self._choose_layer(self._extracted(self.dataset.select(self._sizes)))
        grown = self._grow()
        if self._choose_layer(self.dataset.within(self.dataset.select(self._sizes), self._extractor.bank)):
            grown = self._grow()
        if self._settings.mlp:
            grown = try_networks(grown, self._settings.graduation, seed=self._settings.seed)
        return grown

    def judge(self, grown: Grown, sealed: SealedTest) -> Findings:
        """What the sealed test says of lenses, baselines and controls, and how far probabilities hold."""
        prevalence, seed = self._settings.prevalence, self._settings.seed
        sealed.open()
        selection = self._extracted(self.dataset.select(self._sizes, test=True))
        problem = self.dataset.problem(selection, self._extractor.bank, self.layer)
        lenses, test = grown.lenses, problem.rows("test")
        thresholds = [held_out.threshold for held_out in grown.held_out]
        fitted_on = selection.places("train").tolist()
        baselines = {
            name: baseline(problem, features(selection.rows, fitted_on), prevalence=prevalence)
            for name, features in BASELINES.items()
        }
        baselines["shuffled_labels"] = shuffled_labels(
            problem, grown.fit.penalty, prevalence=prevalence, seed=seed
        )
        baselines["random_direction"] = random_directions(problem, prevalence=prevalence, seed=seed)
        platts = fit_probabilities(lenses, problem.rows("calibrate"))
        return Findings(
            test=judge_rows(lenses, test, thresholds, prevalence=prevalence),
            baselines=baselines,
            grades=grade_lenses(lenses, *negative_moments(grown.held_out), test),
            platts=platts,
            believable=judge_probabilities(lenses, platts, test),
            strongest=_strongest_texts(lenses, test, selection.texts),
        )

    def _grow(self) -> Grown:
        def tell(found: Round) -> None:
            if self._on_round is not None:
                self._on_round(self.layer, found)

        return grow(
            self._gather,
            self.dataset.available,
            self._settings.growth,
            self._settings.graduation,
            grades=_grades_put_aside if self._settings.validation_blocking else None,
            progress=tell,
        )

    def _gather(self, sizes_C: Ints) -> LensProblem:
        self._sizes = sizes_C
        selection = self._extracted(self.dataset.select(sizes_C))
        return self.dataset.problem(selection, self._extractor.bank, self.layer)

    def _extracted(self, selection: Selection) -> Selection:
        bank: Bank = self._extractor.extract(selection.texts, self._on_tokens)
        return self.dataset.within(selection, bank)

    def _choose_layer(self, selection: Selection) -> bool:
        """Take the layer that is best on the select set; whether that is another than before."""
        bank, before = self._extractor.bank, self.layer
        layers = self._extractor.spec.layers
        if len(layers) > 1:
            problems = {layer: self.dataset.problem(selection, bank, layer) for layer in layers}
            self.layers = {str(layer): choose_penalty(problem)[1] for layer, problem in problems.items()}
            self.layer = max(layers, key=lambda layer: self.layers[str(layer)])
        return self.layer != before


def _grades_put_aside(problem: LensProblem, fit: RidgeFit, held_out: Sequence[HeldOut]) -> list[str]:
    """Grades on the texts of select and calibrate: the test has no say in training."""
    rows = problem.rows("select", also="calibrate")
    return [found.grade for found in grade_lenses(fit.lenses, *negative_moments(held_out), rows)]


def _strongest_texts(lenses: Scoring, rows: LensRows, texts: Sequence[str]) -> list[list[str]]:
    """Of each lens the texts that it scores highest, whatever they show."""
    top_KC = np.argsort(-lenses.scores(rows.features), axis=0)[:STRONGEST]
    return [[texts[int(rows.index[k])] for k in top_K] for top_K in top_KC.T.tolist()]


def _key(identity: Mapping[str, Any], corpus: str, settings: TrainSettings) -> str:
    content = orjson.dumps([identity, corpus, asdict(settings)], option=orjson.OPT_SORT_KEYS)
    return xxhash.xxh3_128_hexdigest(content)


def _pack_in(out: Path, identity: Mapping[str, Any]) -> LensPack | None:
    """The pack that lies there; None for none. Raises ModelError for one of another model or spec."""
    return read_pack(out, identity) if (out / INDEX).is_file() else None
