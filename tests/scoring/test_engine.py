"""Around the numbers: sharing, order, memory that runs out, progress, what is restored, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from fettle import Sequence, score
from fettle.errors import DataError, ModelError
from fettle.scoring import attention, concatenate, engine, forward
from fettle.scoring.plan import Piece, length_regimes, shared_pieces, take, whole_pieces
from scoring.reference import plain_scores, random_sequences
from tiny_models import tiny_model


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of every forward pass of the decoder."""
    tokens: list[int] = []
    run = forward.run_decoder

    def counting(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        tokens.append(inputs["input_ids"].numel())
        return run(model, inputs)

    monkeypatch.setattr(forward, "run_decoder", counting)
    return tokens


def prompted(count: int, prefix: int, own: int, seed: int = 0) -> list[Sequence]:
    generator = np.random.default_rng(seed)
    shared = generator.integers(3, 320, prefix)
    mask = np.arange(prefix + own) >= prefix + own // 2
    return [Sequence(np.concatenate([shared, generator.integers(3, 320, own)]), mask) for _ in range(count)]


@pytest.mark.parametrize("batch_tokens", [40, 150, 100_000])
def test_a_shared_prefix_runs_once_whatever_the_batches(batch_tokens: int, fed: list[int]) -> None:
    """Its keys and values are carried from one pass into the next."""
    model, sequences = tiny_model(), prompted(20, prefix=60, own=10)
    score(model, random_sequences(2))
    fed.clear()
    scores = score(model, sequences, batch_tokens=batch_tokens)
    # 60 shared tokens once, then 9 of each sample: its last token predicts nothing.
    assert sum(fed) <= 60 + 20 * 9
    plain = plain_scores(model, sequences)
    np.testing.assert_allclose(scores.logprob, plain.logprob, atol=2e-5, rtol=0)
    np.testing.assert_allclose(scores.entropy, plain.entropy, atol=2e-5, rtol=0)


def test_branches_share_at_several_depths(fed: list[int]) -> None:
    """One system prompt, three questions under it, several answers to each."""
    generator = np.random.default_rng(0)
    system = generator.integers(3, 320, 50)
    sequences: list[Sequence] = []
    for _ in range(3):
        question = generator.integers(3, 320, 30)
        for _ in range(4):
            answer = generator.integers(3, 320, 5)
            ids = np.concatenate([system, question, answer])
            sequences.append(Sequence(ids, np.arange(85) >= 80))
    generator.shuffle(sequences)  # pyright: ignore[reportArgumentType]
    model = tiny_model("mistral", sliding_window=40)
    score(model, sequences[:1])
    fed.clear()
    scores = score(model, sequences, batch_tokens=64)
    assert sum(fed) <= 50 + 3 * 30 + 12 * 5
    np.testing.assert_allclose(scores.logprob, plain_scores(model, sequences).logprob, atol=2e-5, rtol=0)


def test_tokens_after_the_last_completion_do_not_run(fed: list[int]) -> None:
    model = tiny_model()
    long = Sequence(np.arange(3, 103), np.arange(100) == 20)
    score(model, [long])
    fed.clear()
    assert score(model, [long]).tokens.tolist() == [1]
    assert sum(fed) == 20


def test_short_common_beginnings_are_not_worth_sharing() -> None:
    sequences = prompted(4, prefix=5, own=20)
    assert shared_pieces(sequences, range(4)) == whole_pieces(
        sequences, sorted(range(4), key=lambda i: sequences[i].input_ids.tolist())
    )


def test_batches_keep_to_the_budget() -> None:
    pieces = [Piece(i, 0, n) for i, n in enumerate([90, 50, 40, 30, 10, 10])]
    stops = []
    for padded in (True, False):
        at, cuts = 0, []
        while at < len(pieces):
            at = take(pieces, at, 100, padded=padded)
            cuts.append(at)
        stops.append(cuts)
    # Padded: 90 | 50+50 | 40+40 | 10 ...; packed: 90 | 50+40 | 30+10+10.
    assert stops == [[1, 3, 6], [1, 3, 6]]
    assert take(pieces, 0, 1, padded=False) == 1


def test_frequencies_that_depend_on_length_keep_lengths_apart() -> None:
    """Phi-3's long factors apply to a whole batch as soon as one row is long."""
    config = transformers.Phi3Config(
        vocab_size=320, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, original_max_position_embeddings=64,
        initializer_range=0.08, bos_token_id=0, eos_token_id=1, pad_token_id=2,
        rope_scaling={"type": "longrope", "long_factor": [4.0] * 8, "short_factor": [1.0] * 8},
    )  # fmt: skip
    assert length_regimes(config, [10, 64, 65, 200]) == [[2, 3], [0, 1]]
    torch.manual_seed(0)
    model = transformers.Phi3ForCausalLM(config).eval()
    sequences = random_sequences(6, prompt=(10, 40)) + random_sequences(6, prompt=(80, 120), seed=1)
    scores = score(model, sequences)
    np.testing.assert_allclose(scores.logprob, plain_scores(model, sequences, batch=1).logprob, atol=1e-4)


class Limited:
    """A device with room for `limit` tokens a pass."""

    def __init__(self, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refused = 0
        run = engine.hidden_states

        def limited(model: Any, layout: Any, *carried: Any) -> Any:
            if layout.input_ids.numel() > limit:
                self.refused += 1
                raise torch.OutOfMemoryError("CUDA out of memory")
            return run(model, layout, *carried)

        monkeypatch.setattr(engine, "hidden_states", limited)


def test_a_batch_that_does_not_fit_is_split_and_the_rest_is_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sequences = tiny_model(), prompted(30, prefix=20, own=12) + random_sequences(10)
    expected = score(model, sequences)
    limited = Limited(100, monkeypatch)
    scores = score(model, sequences, batch_tokens=400)
    assert 1 <= limited.refused <= 3
    np.testing.assert_allclose(scores.logprob, expected.logprob, atol=2e-5, rtol=0)


def test_a_sequence_that_never_fits_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Limited(30, monkeypatch)
    short, long = random_sequences(1, prompt=(5, 6)), prompted(1, prefix=30, own=20)
    with pytest.raises(ModelError, match="sequence 1 of 50 tokens does not fit"):
        score(tiny_model(), [*short, *long])


def test_another_failure_is_not_taken_for_lack_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    model = tiny_model()
    score(model, random_sequences(2))
    monkeypatch.setattr(engine, "hidden_states", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        score(model, random_sequences(2))


@pytest.mark.parametrize("fails", [False, True])
def test_modes_attention_and_random_state_are_restored(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(attention_dropout=0.2).train()
    model.model.layers[1].eval()
    model.lm_head.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    torch.manual_seed(5)
    state, implementation = torch.get_rng_state(), model.config._attn_implementation
    if fails:
        monkeypatch.setattr(attention, "scaled_dot_product_attention", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score(model, prompted(4, prefix=60, own=8))
    else:
        first, second = score(model, random_sequences(4)), score(model, random_sequences(4))
        np.testing.assert_array_equal(first.logprob, second.logprob)  # no dropout
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert model.config._attn_implementation == implementation
    assert torch.is_grad_enabled()


def test_progress_counts_tokens_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    score(tiny_model(), random_sequences(6), progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "scoring" in err
    assert "tokens" in err
    score(tiny_model(), random_sequences(2))
    assert capfd.readouterr().out == ""


def test_nothing_and_samples_without_a_completion() -> None:
    model = tiny_model()
    nothing = score(model, [])
    assert (len(nothing), nothing.logprob.size, nothing.cross_entropy) == (0, 0, None)
    some = random_sequences(2)
    scores = score(model, [some[0], Sequence([5, 6, 7], [0, 0, 0]), some[1]])
    assert scores.tokens[1] == 0
    assert scores.cross_entropy_sum[1] == 0.0
    assert not scores.exact_match[1]
    assert scores.offsets.tolist() == [0, scores.tokens[0], scores.tokens[0], scores.tokens.sum()]
    expected = scores.cross_entropy_sum.sum() / scores.tokens.sum()
    assert scores.cross_entropy == pytest.approx(expected)
    assert score(model, [Sequence([5], [0])]).cross_entropy is None


def test_one_sample_that_is_not_finite_leaves_the_others() -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight[300] = torch.nan
    good = [Sequence(np.arange(10, 30), np.arange(20) > 10), Sequence(np.arange(40, 50), np.arange(10) > 4)]
    bad = Sequence([5, 300, 6, 7], [0, 0, 1, 1])
    scores = score(model, [good[0], bad, good[1]])
    assert np.isnan(scores.cross_entropy_sum).tolist() == [False, True, False]
    assert not scores.exact_match[1]
    part = slice(scores.offsets[1], scores.offsets[2])
    for column in (scores.logprob, scores.confidence, scores.entropy):
        assert np.isnan(column[part]).all()
    np.testing.assert_allclose(scores.logprob[: scores.offsets[1]], score(model, good[:1]).logprob, atol=1e-5)
    assert scores.cross_entropy is not None
    assert np.isnan(scores.cross_entropy)


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        (Sequence(np.arange(600) % 300, np.arange(600) > 500), "sequence 1 has 600 tokens.*context of 512"),
        (Sequence([5, 320, 6], [0, 0, 1]), "sequence 1 holds token 320.*vocabulary of 320"),
        (Sequence([5, -1, 6], [0, 0, 1]), "sequence 1 holds token -1"),
    ],
)
def test_what_the_model_cannot_take_is_named(sequence: Sequence, message: str) -> None:
    with pytest.raises(DataError, match=message):
        score(tiny_model(), [*random_sequences(1), sequence])


def test_scores_are_selected_and_joined() -> None:
    model, sequences = tiny_model(), random_sequences(9)
    whole = score(model, sequences)
    joined = concatenate([score(model, sequences[:4]), score(model, sequences[4:])])
    picked = whole.select([7, 0, 3])
    reference = score(model, [sequences[i] for i in (7, 0, 3)])
    for name in ("tokens", "offsets", "correct", "predicted", "exact_match"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
        np.testing.assert_array_equal(getattr(picked, name), getattr(reference, name))
    for name in ("cross_entropy_sum", "logprob", "confidence", "entropy"):
        np.testing.assert_allclose(getattr(joined, name), getattr(whole, name), atol=1e-5)
        np.testing.assert_allclose(getattr(picked, name), getattr(reference, name), atol=1e-5)


def test_gradients_may_be_on_and_lower_precision_asked_for_around_it() -> None:
    model, sequences = tiny_model(), random_sequences(6)
    expected = score(model, sequences)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = score(model, sequences)
    assert 0 < np.abs(half.logprob - expected.logprob).max() < 0.2
