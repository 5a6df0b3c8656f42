"""Activations that stand already: each text once, in shards that are whole or not there."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import xxhash
from loguru import logger
from numpy.typing import NDArray

from fettle.errors import DataError, RunError
from fettle.lens.spec import check_same
from fettle.runs.folder import hold, read_json, replace_file

VERSION = 1
INDEX = "index.json"
KEY_BYTES = 16
# A shard is what one read takes into memory. A killed process loses less than one, and less than a minute.
SHARD_BYTES = 32 << 20
FLUSH_SECONDS = 60.0
Vectors = NDArray[np.float32]


class Bank:
    """Vectors by text, of every layer of one spec, from one model.

    `identity` says by content what they came from: weights, tokenizer and spec. Raises ModelError for a
    folder of another identity, RunError for one whose index is damaged.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity = dict(identity)
        self.layers: list[int] = list(identity["spec"]["layers"])
        self.skipped: dict[str, str] = {}
        """Texts, by key, that can have no vector, with the reason."""
        self._shards: list[dict[str, Any]] = []
        self._place: dict[bytes, tuple[str, int]] = {}
        """File and row of each text."""
        self._waiting: dict[bytes, Vectors] = {}
        """Vectors [layers, D] that no file holds yet."""
        self._flushed = time.monotonic()
        self._read_index()

    @classmethod
    def below(cls, root: Path, identity: Mapping[str, Any]) -> Bank:
        """The bank of this identity in a folder of many: another identity is another bank."""
        content = orjson.dumps(dict(identity), option=orjson.OPT_SORT_KEYS)
        return cls(root / xxhash.xxh3_64_hexdigest(content), identity)

    def __len__(self) -> int:
        return len(self._place) + len(self._waiting)

    def __contains__(self, text: str) -> bool:
        return self._has(_key(text))

    def missing(self, texts: Sequence[str]) -> list[int]:
        """Indices of texts to extract, rising; of one that stands there twice the first."""
        first = {_key(text): i for i, text in reversed(list(enumerate(texts)))}
        return sorted(i for key, i in first.items() if not self._has(key) and key.hex() not in self.skipped)

    @contextmanager
    def writing(self) -> Generator[None]:
        """While vectors are added; what waits is written at the end, however it comes. Raises RunError while
        another process writes."""
        refusal = f"{self.folder}: another process extracts into this bank. Wait for it"
        with hold(self.folder / ".lock", refusal):
            try:
                yield
            finally:
                self._flush()

    def add(self, texts: Sequence[str], vectors_NLD: Vectors) -> None:
        """Keep vectors, [n, layers, D]. Raises DataError for one that is not finite; the others are kept."""
        finite_NL: Any = np.isfinite(vectors_NLD).all(axis=2)
        whole_N = finite_NL.all(axis=1)
        self._waiting |= {_key(text): vectors_NLD[i] for i, text in enumerate(texts) if whole_N[i]}
        if not finite_NL.all():
            row, at = (int(place) for place in np.argwhere(~finite_NL)[0])
            raise DataError(
                f"layer {self.layers[at]}: the activation of '{texts[row][:60]}' holds NaN or infinity in "
                f"{self.identity['spec']['dtype']}. Use float32 or other layers, or leave the text out"
            )
        waiting_bytes = sum(vectors.nbytes for vectors in self._waiting.values())
        if waiting_bytes >= SHARD_BYTES or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._flush()

    def skip(self, text: str, reason: str) -> None:
        """Note a text that can have no vector."""
        self.skipped[_key(text).hex()] = reason

    def read(self, texts: Sequence[str], layer: int) -> Vectors:
        """Vectors of one layer, [n, D]. Raises DataError for a layer or a text that is not there."""
        if layer not in self.layers:
            raise DataError(f"{self.folder}: holds layers {self.layers}, not {layer}")
        at = self.layers.index(layer)
        rows: dict[str, list[tuple[int, int]]] = {}
        found: dict[int, Vectors] = {}
        for i, text in enumerate(texts):
            key = _key(text)
            if key in self._waiting:
                found[i] = self._waiting[key][at]
            elif key in self._place:
                file, row = self._place[key]
                rows.setdefault(file, []).append((i, row))
            else:
                reason = self.skipped.get(key.hex(), "it was not extracted")
                raise DataError(f"{self.folder}: has no vector of '{text[:60]}': {reason}")
        for file, places in rows.items():
            vectors_ND = _tensor(self.folder / file, f"layer.{layer}")
            found |= {i: vectors_ND[row] for i, row in places}
        return np.stack([found[i] for i in range(len(texts))])

    def _has(self, key: bytes) -> bool:
        return key in self._place or key in self._waiting

    def _flush(self) -> None:
        """Write what waits: the shard first, then the index that names it."""
        self._flushed = time.monotonic()
        if self._waiting:
            keys = list(self._waiting)
            vectors_NLD = np.stack([self._waiting[key] for key in keys])
            file = f"shard-{1 + max((_number(shard) for shard in self._shards), default=0):05}.safetensors"
            content = _shard(keys, vectors_NLD, self.layers)
            self._write(file, content)
            self._shards.append({"file": file, "rows": len(keys), "bytes": len(content)})
            self._place |= {key: (file, row) for row, key in enumerate(keys)}
            self._waiting.clear()
        index = {
            "version": VERSION,
            "identity": self.identity,
            "shards": self._shards,
            "skipped": self.skipped,
        }
        self._write(INDEX, orjson.dumps(index, option=orjson.OPT_INDENT_2))

    def _write(self, name: str, content: bytes) -> None:
        try:
            replace_file(self.folder / name, content)
        except OSError as error:
            raise RunError(f"{self.folder / name}: cannot be written: {error.strerror or error}") from error

    def _read_index(self) -> None:
        path = self.folder / INDEX
        if not path.is_file():
            return
        index = read_json(path)
        if index is None or index.get("version") != VERSION:
            raise RunError(f"{path}: is damaged or of another version. Remove {self.folder} to extract again")
        check_same(self.identity, index["identity"], str(self.folder))
        self.skipped = index["skipped"]
        for shard in index["shards"]:
            file = self.folder / shard["file"]
            if not file.is_file() or file.stat().st_size != shard["bytes"]:
                logger.warning("{} is gone or cut off: its {} texts are extracted again", file, shard["rows"])
                continue
            self._shards.append(shard)
            keys_NK = _tensor(file, "keys")
            self._place |= {key.tobytes(): (shard["file"], row) for row, key in enumerate(keys_NK)}


def _key(text: str) -> bytes:
    return xxhash.xxh3_128_digest(text.encode())


def _number(shard: Mapping[str, Any]) -> int:
    return int(shard["file"].removeprefix("shard-").removesuffix(".safetensors"))


def _shard(keys: Sequence[bytes], vectors_NLD: Vectors, layers: Sequence[int]) -> bytes:
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {
        f"layer.{layer}": np.ascontiguousarray(vectors_NLD[:, at]) for at, layer in enumerate(layers)
    }
    tensors["keys"] = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY_BYTES)
    return save(tensors)


def _tensor(file: Path, name: str) -> NDArray[Any]:
    safetensors: Any = import_module("safetensors")
    try:
        with safetensors.safe_open(file, framework="numpy") as tensors:
            return tensors.get_tensor(name)
    except (OSError, safetensors.SafetensorError) as error:
        raise RunError(f"{file}: cannot be read: {error}. Remove it to extract its texts again") from error
