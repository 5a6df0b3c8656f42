"""Lenses on disk: one safetensors file, and lenses.json beside it."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from fettle.errors import RunError
from fettle.evaluation.subject import Subject
from fettle.lens.linear import LinearLenses
from fettle.lens.mixed import MixedLenses, mixed
from fettle.lens.pack_index import INDEX, index_bytes, read_index
from fettle.lens.spec import check_same
from fettle.lens.standardise import Standardisation
from fettle.metrics import Platt
from fettle.runs.folder import replace_file

if TYPE_CHECKING:
    from fettle.lens.networks import Networks

TENSORS = "lenses.safetensors"
# Columns of the tensor `numbers`: bias, threshold, mean and deviation of negatives; Platt's three.
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LensPack:
    """C lenses over one layer of one model."""

    concepts: list[str]
    layer: int
    identity: dict[str, Any]
    """Weights, tokenizer and extraction spec that the activations came from, by content."""
    lenses: LinearLenses
    thresholds: Floats
    """[C]."""
    negative_mean: Floats
    """Mean score of each lens's negatives in training, [C]."""
    negative_deviation: Floats
    """[C]."""
    platts: list[Platt | None]
    records: Sequence[dict[str, Any]]
    """What is known of each lens: results, grade, standing, selectivity; plain values."""
    about: dict[str, Any] = field(default_factory=dict[str, Any])
    """What is known of all: how they were trained, the sealed test, the baselines; plain values."""
    networks: Networks | None = None
    """In the place of some of the linear lenses; None where all are linear."""

    @property
    def scoring(self) -> LinearLenses | MixedLenses:
        """What scores texts."""
        return mixed(self.lenses, self.networks)

    @property
    def subject(self) -> Subject:
        """The model that the lenses look into, where it lay when they were trained."""
        adapter: str | None = self.about["adapter"]
        return Subject("model", None, self.about["model"], None if adapter is None else Path(adapter))

    def evidence(self, features_ND: NDArray[Any]) -> Floats:
        """Scores in deviations from the mean of negatives, comparable across lenses, [N, C]."""
        return (self.scoring.scores(features_ND) - self.negative_mean) / self.negative_deviation


def write_pack(folder: Path, pack: LensPack) -> None:
    """Write a pack, weights in bfloat16; centred scores make them as good as float32.

    Raises ModelError where a pack of another model or spec lies there already, RunError where it cannot
    be written.
    """
    import torch
    from safetensors.torch import save

    if (folder / INDEX).exists():
        check_same(pack.identity, read_index(folder)[0]["identity"], str(folder))
    platts = [(p.slope, p.intercept, p.prevalence) if p else (np.nan,) * 3 for p in pack.platts]
    own = [pack.lenses.bias, pack.thresholds, pack.negative_mean, pack.negative_deviation]
    tensors = {
        "weights": torch.from_numpy(pack.lenses.weights).to(torch.bfloat16).contiguous(),
        "mean": torch.from_numpy(pack.lenses.mean),
        "numbers": torch.from_numpy(np.column_stack([*own, np.array(platts).reshape(-1, 3)])),
    }
    if pack.networks is not None:
        tensors |= _network_tensors(pack.networks)
    content = save(tensors)
    head = {
        "digest": xxhash.xxh3_128_hexdigest(content),
        "identity": pack.identity,
        "layer": pack.layer,
        "about": pack.about,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / TENSORS, content)
        replace_file(folder / INDEX, index_bytes(head, pack.concepts, pack.records))
    except OSError as error:
        raise RunError(f"{folder}: cannot be written: {error.strerror or error}") from error


def read_pack(folder: Path, identity: Mapping[str, Any] | None = None) -> LensPack:
    """Read a pack. Raises ModelError where it is of another identity than the one given, RunError where
    it is missing or damaged."""
    head, concepts, records = read_index(folder)
    if identity is not None:
        check_same(identity, head["identity"], str(folder))
    tensors = _read_tensors(folder / TENSORS, head["digest"])
    numbers: NDArray[np.float64] = tensors["numbers"].numpy()
    bias, thresholds, negative_mean, negative_deviation = numbers[:, :4].T.astype(np.float32)
    curves: list[list[float]] = numbers[:, 4:].tolist()
    platts = [Platt(*curve) if isfinite(curve[0]) else None for curve in curves]
    return LensPack(
        concepts=concepts,
        layer=head["layer"],
        identity=head["identity"],
        lenses=LinearLenses(tensors["mean"].numpy().copy(), _float32(tensors["weights"]), bias),
        thresholds=thresholds,
        negative_mean=negative_mean,
        negative_deviation=negative_deviation,
        platts=platts,
        records=records,
        about=head["about"],
        networks=_networks(tensors) if "mlp.at" in tensors else None,
    )


def _network_tensors(networks: Networks) -> dict[str, Any]:
    """Weights in bfloat16 too: what they see is standardised."""
    import torch

    mlp = networks.mlp
    arrays = {
        "at": networks.at,
        "mean": mlp.standard.mean,
        "deviation": mlp.standard.deviation,
        "directions": networks.directions,
        "projections": networks.projections,
    }
    return {
        **{f"mlp.{name}": torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()},
        **{f"mlp.weights.{i}": w.to(torch.bfloat16).contiguous() for i, w in enumerate(mlp.weights)},
        **{f"mlp.biases.{i}": b.contiguous() for i, b in enumerate(mlp.biases)},
    }


def _networks(tensors: Mapping[str, Any]) -> Networks:
    from fettle.lens.mlp import MlpLenses
    from fettle.lens.networks import Networks

    depth = sum(name.startswith("mlp.weights.") for name in tensors)
    names = ("at", "mean", "deviation", "directions", "projections")
    # Copies, so that nothing holds on to the file.
    at, mean, deviation, directions, projections = (tensors[f"mlp.{name}"].numpy().copy() for name in names)
    mlp = MlpLenses(
        Standardisation(mean, deviation),
        [tensors[f"mlp.weights.{i}"].float() for i in range(depth)],
        [tensors[f"mlp.biases.{i}"].clone() for i in range(depth)],
    )
    return Networks(at, mlp, directions, projections)


def _read_tensors(path: Path, digest: str) -> dict[str, Any]:
    """All tensors, mapped into memory; their content is that of the digest. Raises RunError."""
    safetensors: Any = import_module("safetensors")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  It is no mapping.
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = xxhash.xxh3_128_hexdigest(data)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise RunError(f"{path}: cannot be read: {error}. Train the pack again") from error
    if found != digest:
        raise RunError(f"{path}: is not the file that {INDEX} describes. Train the pack again")
    return tensors


def _float32(half: Any) -> Floats:
    """A tensor of bfloat16: its bits are the upper half of those of float32, so that one shift does it."""
    import torch

    bits: NDArray[np.uint16] = half.view(torch.int16).numpy().view(np.uint16)
    whole = np.left_shift(bits, 16, dtype=np.uint32, casting="unsafe")
    return whole.view(np.float32)
