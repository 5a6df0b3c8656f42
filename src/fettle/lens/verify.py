"""Whether the lenses of a pack may cross dtypes, batch sizes and devices: measured on its own texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fettle.evaluation.subject import Subject
from fettle.lens.dataset import LensDataset
from fettle.lens.extract import Extractor, OnTokens
from fettle.lens.lens_pack import LensPack
from fettle.lens.penalty import choose_penalty
from fettle.lens.precision import Mix, mix
from fettle.lens.problem import LensProblem
from fettle.lens.spec import read_spec

ALONE = 1
"""Tokens of a batch that holds one text, whatever its length."""


def verify_pack(
    pack: LensPack,
    subject: Subject,
    concepts: Path,
    banks: Path,
    *,
    device: str = "auto",
    on_tokens: OnTokens | None = None,
) -> dict[str, Mix]:
    """Lenses trained anew on the layer of the pack in one way and used in another, by the name of the mix.

    Raises ModelError for a model that cannot be run, DataError for texts that the pack was not trained on.
    """
    spec = read_spec(pack.identity["spec"], "the pack").model_copy(update={"layers": (pack.layer,)})
    dataset = LensDataset.of_pack(pack, concepts)
    chosen = dataset.select(dataset.available, test=True)

    def read(folder: str, dtype: str, device: str, batch_tokens: int | None = None) -> LensProblem:
        own = spec.model_copy(update={"dtype": dtype})
        extractor = Extractor(subject, own, banks / folder, device=device, batch_tokens=batch_tokens)
        bank = extractor.extract(chosen.texts, on_tokens)
        return dataset.problem(dataset.within(chosen, bank), bank, pack.layer)

    whole, half = read("many", "float32", device), read("many", "bfloat16", device)
    pairs = {
        "float32 to bfloat16": (whole, half),
        "bfloat16 to float32": (half, whole),
        "batches to one at a time": (whole, read("alone", "float32", device, ALONE)),
    }
    if _other_than_cpu(device):
        pairs["device to CPU"] = (whole, read("cpu", "float32", "cpu"))
    networks: list[int] = [] if pack.networks is None else pack.networks.at.tolist()
    return {
        name: mix(one, other.features, choose_penalty(one)[0], networks)
        for name, (one, other) in pairs.items()
    }


def _other_than_cpu(device: str) -> bool:
    import torch

    backends: Any = torch.backends
    return device != "cpu" and (torch.cuda.is_available() or backends.mps.is_available())
