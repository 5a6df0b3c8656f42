"""Extraction: from a model's folder to the bank, interrupted, changed, answered."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fettle.config import SamplingConfig
from fettle.errors import DataError, ModelError
from fettle.evaluation.subject import Subject
from fettle.lens.backbone import default_layers
from fettle.lens.extract import Extractor
from fettle.lens.spec import ExtractionSpec
from lens.models_on_disk import minilm, save_tiny

TEXTS = [f"the number {i} is the answer " + "and the words " * (i % 5) for i in range(12)]


def spec(*layers: int, **changes: Any) -> ExtractionSpec:
    return ExtractionSpec(layers=layers, **changes)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETTLE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return save_tiny(tmp_path / "model")


class InterruptedByTestError(Exception):
    pass


def test_interrupted_extraction_goes_on_and_equals_the_whole(subject: Subject, tmp_path: Path) -> None:
    whole = Extractor(subject, spec(1, 3), tmp_path / "a", batch_tokens=30).extract(TEXTS)

    def stop(done: int, total: int) -> None:
        if done * 2 > total:
            raise InterruptedByTestError

    first = Extractor(subject, spec(1, 3), tmp_path / "b", batch_tokens=30)
    with pytest.raises(InterruptedByTestError):
        first.extract(TEXTS, stop)
    told: list[tuple[int, int]] = []
    again = Extractor(subject, spec(1, 3), tmp_path / "b", batch_tokens=30)
    left = len(again.bank.missing(TEXTS))
    assert 0 < left < len(TEXTS)
    bank = again.extract(TEXTS, lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1]
    for layer in (1, 3):
        assert np.abs(bank.read(TEXTS, layer) - whole.read(TEXTS, layer)).max() <= 1e-6
    # Nothing is left to run: no model is loaded.
    idle = Extractor(subject, spec(1, 3), tmp_path / "b")
    idle.extract(TEXTS)
    assert idle.model.loads == 0


def test_changed_weights_or_spec_never_find_the_old_vectors(subject: Subject, tmp_path: Path) -> None:
    old = Extractor(subject, spec(1), tmp_path / "banks").extract(TEXTS).read(TEXTS, 1)
    other = Extractor(subject, spec(1, pooling="last"), tmp_path / "banks")
    assert len(other.bank.missing(TEXTS)) == len(TEXTS)
    file = Path(subject.model) / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.0.mlp.down_proj.weight"] *= 2
    save_file(weights, file, metadata={"format": "pt"})
    changed = Extractor(subject, spec(1), tmp_path / "banks")
    assert len(changed.bank.missing(TEXTS)) == len(TEXTS)
    assert np.abs(changed.extract(TEXTS).read(TEXTS, 1) - old).max() > 0.01


def test_a_chat_template_that_changes_makes_another_bank(subject: Subject, tmp_path: Path) -> None:
    chat = Extractor(subject, spec(1, template="chat"), tmp_path).bank.folder
    plain = Extractor(subject, spec(1), tmp_path).bank.folder
    template = Path(subject.model) / "chat_template.jinja"
    template.write_text(template.read_text().replace("user", "human") + "{# changed #}")
    assert Extractor(subject, spec(1, template="chat"), tmp_path).bank.folder != chat
    assert Extractor(subject, spec(1), tmp_path).bank.folder == plain


def test_an_overflow_is_refused_and_no_layer_is_switched(subject: Subject, tmp_path: Path) -> None:
    file = Path(subject.model) / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.1.mlp.down_proj.weight"][3] = torch.nan
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"layer 2: the activation of 'the number .* holds NaN"):
        Extractor(subject, spec(1, 2), tmp_path / "banks").extract(TEXTS)
    assert Extractor(subject, spec(1), tmp_path / "banks").extract(TEXTS).layers == [1]


def test_answers_are_generated_once_and_read_by_teacher_forcing(subject: Subject, tmp_path: Path) -> None:
    generated = spec(2, source="generated", template="chat", generation=SamplingConfig(max_new_tokens=6))
    extractor = Extractor(subject, generated, tmp_path / "banks")
    found = extractor.extract(TEXTS)
    model = extractor.model.use(subject)
    compared = 0
    for text in TEXTS:
        if text not in found:
            assert "its answer is empty" in found.skipped.values()
            continue
        prompt = extractor._reader.ids([text])[0]
        with torch.no_grad():
            asked = torch.from_numpy(prompt)[None]
            ids = model.generate(asked, max_new_tokens=6, do_sample=False, eos_token_id=[1, 2])[0]
            states = model(ids[None], output_hidden_states=True).hidden_states[2][0]
        answer = [i for i in range(len(prompt), len(ids)) if int(ids[i]) > 2]
        assert np.abs(found.read([text], 2)[0] - states[answer].mean(dim=0).numpy()).max() <= 1e-5
        compared += 1
    assert compared > 6
    # Another layer needs other vectors, not other answers.
    deeper = Extractor(subject, generated.model_copy(update={"layers": (3,)}), tmp_path / "banks")
    deeper.extract(TEXTS)
    assert deeper._cache.hits == len(TEXTS)


def test_bad_layers_are_told_before_any_weights_are_loaded(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"layer 4: .* has layers 0 to 3"):
        Extractor(subject, spec(2, 4), tmp_path)
    with pytest.raises(ModelError, match="cannot be loaded"):
        Extractor(Subject("x", None, str(tmp_path / "none")), spec(1), tmp_path)
    assert default_layers(subject.model) == (1, 2)


def test_a_real_encoder_tells_sentences_apart(tmp_path: Path) -> None:
    settings = spec(6, exclude_special=False, exclude_sinks=0)
    texts = ["The cat chased a mouse.", "A kitten ran after a rodent.", "Interest rates rose again."]
    vectors = Extractor(minilm(), settings, tmp_path).extract(texts).read(texts, 6)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    # As sentence-transformers/all-MiniLM-L6-v2 pools: the mean over all tokens of the last layer.
    assert unit[0] @ unit[1] > 0.5
    assert unit[0] @ unit[2] < 0.15


def test_a_spec_says_what_is_wrong_with_it() -> None:
    for layers in ((), (2, 1), (1, 1), (-1,)):
        with pytest.raises(ValueError, match="rising, each once"):
            ExtractionSpec(layers=layers)
    with pytest.raises(ValueError, match=r"give it with source 'generated'"):
        spec(1, source="generated")
    with pytest.raises(ValueError, match=r"generation\.n must be 1"):
        spec(1, source="generated", generation=SamplingConfig(n=2, temperature=1.0))
