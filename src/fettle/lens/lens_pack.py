"""Lenses on disk: one safetensors file, and lenses.json beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import xxhash
from numpy.typing import NDArray

from fettle.errors import RunError
from fettle.evaluation.subject import Subject
from fettle.lens.linear import LinearLenses
from fettle.lens.mixed import MixedLenses, mixed
from fettle.lens.spec import check_same
from fettle.lens.standardise import Standardisation
from fettle.metrics import Platt
from fettle.runs.folder import read_json, replace_file

if TYPE_CHECKING:
    from fettle.lens.networks import Networks

VERSION = 1
TENSORS = "lenses.safetensors"
INDEX = "lenses.json"
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
    records: list[dict[str, Any]]
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
        check_same(pack.identity, _index(folder)["identity"], str(folder))
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
    index = {
        "version": VERSION,
        "digest": xxhash.xxh3_128_hexdigest(content),
        "identity": pack.identity,
        "layer": pack.layer,
        "about": pack.about,
        "lenses": [{"concept": c, **r} for c, r in zip(pack.concepts, pack.records, strict=True)],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / TENSORS, content)
        options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY
        replace_file(folder / INDEX, orjson.dumps(index, option=options))
    except OSError as error:
        raise RunError(f"{folder}: cannot be written: {error.strerror or error}") from error


def read_pack(folder: Path, identity: Mapping[str, Any] | None = None) -> LensPack:
    """Read a pack. Raises ModelError where it is of another identity than the one given, RunError where
    it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    index = _index(folder)
    if identity is not None:
        check_same(identity, index["identity"], str(folder))
    try:
        content = (folder / TENSORS).read_bytes()
        tensors = load(content)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{folder / TENSORS}: cannot be read: {error}. Train the pack again") from error
    if xxhash.xxh3_128_hexdigest(content) != index["digest"]:
        raise RunError(f"{folder / TENSORS}: is not the file that {INDEX} describes. Train the pack again")
    numbers: NDArray[np.float64] = tensors["numbers"].numpy()
    bias, thresholds, negative_mean, negative_deviation = numbers[:, :4].T.astype(np.float32)
    platts = [Platt(float(a), float(b), float(p)) if np.isfinite(a) else None for a, b, p in numbers[:, 4:]]
    records: list[dict[str, Any]] = index["lenses"]
    return LensPack(
        concepts=[record.pop("concept") for record in records],
        layer=index["layer"],
        identity=index["identity"],
        lenses=LinearLenses(tensors["mean"].numpy(), tensors["weights"].float().numpy(), bias),
        thresholds=thresholds,
        negative_mean=negative_mean,
        negative_deviation=negative_deviation,
        platts=platts,
        records=records,
        about=index["about"],
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
    at, mean, deviation, directions, projections = (tensors[f"mlp.{name}"].numpy() for name in names)
    mlp = MlpLenses(
        Standardisation(mean, deviation),
        [tensors[f"mlp.weights.{i}"].float() for i in range(depth)],
        [tensors[f"mlp.biases.{i}"] for i in range(depth)],
    )
    return Networks(at, mlp, directions, projections)


def _index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    if not path.is_file():
        raise RunError(f"{folder}: holds no {INDEX}. Make a pack with: fettle lens train --out {folder}")
    index = read_json(path)
    if index is None or index.get("version") != VERSION:
        raise RunError(f"{path}: is damaged or of another version. Train the pack again")
    return dict(index)
