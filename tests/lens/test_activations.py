"""Activations: a batch equals single texts, an early exit the whole pass, and only what counts is pooled."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

from fettle.errors import DataError, ModelError
from fettle.lens import activations
from fettle.lens.activations import pad, pool, pooled_activations, run_batch
from fettle.lens.blocks import blocks, layer_count
from fettle.lens.spec import ExtractionSpec
from fettle.lens.tokens import TextTokenizer, Tokens
from tiny_models import KINDS, tiny_model, tiny_tokenizer

TEXTS = [
    "The river was quiet.", "Seven.", "A longer one, which says that the answer to the question is a number",
    "ab cd", "and the other words are here, after all that was said", "x y z " * 12,
]  # fmt: skip
TOLERANCE = 1e-6


def spec(*layers: int, **changes: Any) -> ExtractionSpec:
    return ExtractionSpec(layers=layers, **changes)


def tokens_of(texts: list[str], settings: ExtractionSpec) -> list[Tokens]:
    return TextTokenizer(tiny_tokenizer(), settings).tokens(texts)


def tiny_encoder(kind: str) -> Any:
    name = {"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert", "modernbert": "ModernBert"}[
        kind
    ]
    sizes: dict[str, Any] = {
        "vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 128, "max_position_embeddings": 256, "initializer_range": 0.1, "pad_token_id": 1,
    }  # fmt: skip
    if kind == "distilbert":
        sizes |= {"dim": 64, "n_layers": 3, "n_heads": 4, "hidden_dim": 128}
    torch.manual_seed(0)
    return getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**sizes)).eval()


def model_of(kind: str) -> Any:
    return tiny_model(kind, layers=3) if kind in KINDS else tiny_encoder(kind)


def hidden_states(model: Any, ids: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """All layers of one text by itself, from Transformers; the last as its block gives it."""
    last: list[Any] = []
    hook = blocks(model)[-1].register_forward_hook(lambda m, a, out: last.append(out))
    with torch.no_grad():
        found = model(torch.from_numpy(ids)[None], output_hidden_states=True).hidden_states
    hook.remove()
    out = last[0][0] if isinstance(last[0], tuple) else last[0]
    return [h[0].double().numpy() for h in (*found[:-1], out)]


def by_hand(
    states_TD: NDArray[np.float64], counted_T: NDArray[np.bool_], pooling: str
) -> NDArray[np.float64]:
    rows = states_TD[counted_T]
    return {"last": rows[-1], "mean": rows.mean(axis=0), "max": rows.max(axis=0)}[pooling]


def collected(
    model: Any, tokens: list[Tokens], settings: ExtractionSpec, **options: Any
) -> NDArray[np.float32]:
    found: dict[int, Any] = {}
    for indices, vectors in pooled_activations(model, tokens, settings, **options):
        found |= dict(zip(indices, vectors, strict=True))
    assert sorted(found) == list(range(len(tokens)))
    return np.stack([found[i] for i in range(len(tokens))])


@pytest.mark.parametrize("kind", [*KINDS, "bert", "roberta", "distilbert", "modernbert"])
def test_every_layer_is_what_transformers_gives_one_text_at_a_time(kind: str) -> None:
    model = model_of(kind)
    for pooling in ("mean", "last", "max"):
        settings = spec(0, 1, 2, 3, pooling=pooling)
        tokens = tokens_of(TEXTS, settings)
        found = collected(model, tokens, settings, batch_tokens=64)
        for i, text in enumerate(tokens):
            states = hidden_states(model, text.ids)
            expected = np.stack([by_hand(states[layer], text.counted, pooling) for layer in settings.layers])
            assert np.abs(found[i] - expected).max() <= TOLERANCE * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("kind", ["qwen3", "gpt2", "gemma2", "mistral", "bert"])
@pytest.mark.parametrize("pooling", ["mean", "last", "max"])
def test_padding_and_batch_change_nothing(kind: str, pooling: str) -> None:
    model = model_of(kind)
    settings = spec(1, 3, pooling=pooling)
    tokens = tokens_of(TEXTS, settings)
    with torch.no_grad():
        alone = np.concatenate([run_batch(model, pad([text]), settings) for text in tokens])
        for side in ("left", "right"):
            together = run_batch(model, pad(tokens, side), settings)
            assert np.abs(together - alone).max() <= TOLERANCE * np.abs(alone).max()
    for budget in (1, 40, 100_000):
        assert np.abs(collected(model, tokens, settings, batch_tokens=budget) - alone).max() <= (
            TOLERANCE * np.abs(alone).max()
        )


def test_the_pass_ends_behind_the_deepest_layer_and_leaves_the_model_as_it_was() -> None:
    model = tiny_model("qwen3", layers=4)
    ran: list[int] = []
    for k, block in enumerate(blocks(model), start=1):
        block.register_forward_hook(lambda m, a, o, k=k: ran.append(k))
    settings = spec(1, 2)
    tokens = tokens_of(TEXTS, settings)
    model.train()
    before = model(torch.tensor([[5, 6, 7]])).logits
    ran.clear()
    early = collected(model, tokens, settings)
    assert set(ran) == {1, 2}
    whole = collected(model, tokens, spec(1, 2, 4))
    assert 4 in ran
    assert np.array_equal(early, whole[:, :2])
    assert model.training
    assert torch.equal(model(torch.tensor([[5, 6, 7]])).logits, before)
    # What Transformers collects itself is whole again after a pass that was cut off.
    assert len(model(torch.tensor([[5, 6, 7]]), output_hidden_states=True).hidden_states) == 5
    assert not any(len(block._forward_hooks) > 2 for block in blocks(model))


def test_sinks_and_special_tokens_are_not_pooled() -> None:
    tokenizer = tiny_tokenizer()
    special = tokenizer.convert_tokens_to_ids("<|im_end|>")
    plain = TextTokenizer(tokenizer, spec(1)).tokens(["a b c"])[0]
    assert not plain.counted[0]
    assert plain.counted[1:].all()
    marked = TextTokenizer(tokenizer, spec(1)).tokens(["a b c<|im_end|>"])[0]
    assert marked.ids[-1] == special
    assert not marked.counted[-1]
    everything = TextTokenizer(tokenizer, spec(1, exclude_special=False, exclude_sinks=0)).tokens(
        ["a<|im_end|>"]
    )
    assert everything[0].counted.all()
    # What stands where nothing is pooled has no say, be it huge or no number.
    hidden = torch.randn(1, len(plain), 8)
    for pooling in ("mean", "max", "last"):
        counted = torch.from_numpy(plain.counted)[None]
        clean = pool(hidden, counted, pooling)
        for poison in (1e8, torch.nan, torch.inf):
            hidden[0, 0] = poison
            assert torch.equal(pool(hidden, counted, pooling), clean)


def test_a_bos_token_is_not_pooled() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>"})
    settings = spec(1, exclude_sinks=0)
    tokens = TextTokenizer(tokenizer, settings).tokens(["<|im_start|>a b c"])[0]
    assert tokens.counted.tolist() == [False, *[True] * (len(tokens) - 1)]


def test_unknown_words_are_pooled_like_known_ones() -> None:
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "river": 2, "the": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]"
    )
    tokens = TextTokenizer(tokenizer, spec(1)).tokens(["the river glittered"])[0]
    assert tokens.ids.tolist() == [3, 2, 1]
    assert tokens.counted.tolist() == [False, True, True]


def test_only_the_answer_counts_up_to_its_end() -> None:
    tokenizer = TextTokenizer(tiny_tokenizer(), spec(1))
    end = 2
    found = tokenizer.answered(np.array([7, end, 8]), [9, 10, end, 11, 12], ends={end})
    assert found.counted.tolist() == [False] * 3 + [True, True] + [False] * 3
    assert not tokenizer.answered(np.array([7, 8]), [end], ends={end}).counted.any()


def test_a_chat_template_asks_and_the_answer_is_about_to_begin() -> None:
    tokenizer = tiny_tokenizer()
    tokens = TextTokenizer(tokenizer, spec(1, template="chat", pooling="last")).tokens(["hello"])[0]
    assert tokenizer.decode(tokens.ids) == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    counted = tokenizer.decode(tokens.ids[tokens.counted])
    assert counted == "user\nhello\nassistant\n"
    with pytest.raises(DataError, match=r"'hello \.\.\.' has \d+ tokens in the chat template, more than 9"):
        TextTokenizer(tokenizer, spec(1, template="chat", max_tokens=9)).tokens(["hello "])


def test_long_texts_are_cut_and_counted() -> None:
    reader = TextTokenizer(tiny_tokenizer(), spec(1, max_tokens=10))
    tokens = reader.tokens(["short", "a b c d e f g h i j k l m n"])
    assert [len(text) for text in tokens][1] == 10
    assert reader.cut == 1
    assert len(TextTokenizer(tiny_tokenizer(), spec(1), context=6).tokens(["a b c d e f g h i j"])[0]) == 6


def test_a_text_without_a_token_that_counts_is_refused() -> None:
    with pytest.raises(DataError, match="'a' has no token to pool"):
        TextTokenizer(tiny_tokenizer(), spec(1)).tokens(["a b", "a"])


def test_a_layer_that_the_model_lacks_is_refused() -> None:
    model = tiny_model("qwen3", layers=2)
    with pytest.raises(ModelError, match="layer 3: Qwen3ForCausalLM has layers 0 to 2"):
        collected(model, tokens_of(TEXTS, spec(1)), spec(1, 3))


def test_adapters_have_their_say() -> None:
    peft = pytest.importorskip("peft")
    from fettle.train.model import quiet_peft

    settings = spec(1, 2)
    tokens = tokens_of(TEXTS, settings)
    plain = collected(tiny_model("qwen3"), tokens, settings)
    with quiet_peft():
        model = peft.get_peft_model(tiny_model("qwen3"), peft.LoraConfig(r=4, target_modules=["q_proj"]))
    assert layer_count(model) == 2
    assert np.array_equal(collected(model, tokens, settings), plain)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    assert np.abs(collected(model, tokens, settings) - plain).max() > 0.01


def test_out_of_memory_halves_the_batch_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("qwen3")
    settings = spec(1)
    tokens = tokens_of(TEXTS, settings)
    expected = collected(model, tokens, settings)
    most = max(map(len, tokens))
    run = activations.run_batch

    def short_of_memory(model: Any, batch: Any, settings: Any) -> Any:
        if batch.ids.numel() > most:
            raise torch.OutOfMemoryError("no room")
        return run(model, batch, settings)

    monkeypatch.setattr(activations, "run_batch", short_of_memory)
    assert np.abs(collected(model, tokens, settings, batch_tokens=10_000) - expected).max() <= TOLERANCE
    most = 5
    with pytest.raises(ModelError, match="does not fit into memory"):
        collected(model, tokens, settings)


def test_no_text_runs_nothing() -> None:
    assert list(pooled_activations(tiny_model("qwen3"), [], spec(1))) == []
