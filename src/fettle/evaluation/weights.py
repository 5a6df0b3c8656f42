"""What weights are, by content: the same tensors have the same name wherever they lie."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import orjson
import xxhash

from fettle.errors import ModelError

# Says where the weights came from or who wrote them, neither what they compute nor how they are built.
NOT_CONTENT = frozenset(
    {"_name_or_path", "transformers_version", "base_model_name_or_path", "revision", "inference_mode",
     "peft_version", "auto_mapping", "dtype", "torch_dtype"}
)  # fmt: skip
HEADER_BYTES = 8
HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model"]


class DigestMemo(Protocol):
    """Remembers digests of files by inode, size and time of change."""

    def digest(self, file: Path) -> str | None: ...
    def remember(self, file: Path, digest: str) -> None: ...


def model_digest(model: str, adapter: Path | None, memo: DigestMemo | None = None) -> str:
    """Content of a base and of the adapter on it, apart. Raises ModelError."""
    parts = (local_folder(model), adapter)
    return " ".join("-" if part is None else weights_digest(part, memo) for part in parts)


def weights_digest(folder: Path, memo: DigestMemo | None = None) -> str:
    """XXH3-128 over all tensors of a model or adapter and the parts of its configuration that count.

    Tensors of safetensors files count by name, type, shape and bytes, so that another split into files
    or another header changes nothing; other weight files count whole. Raises ModelError without weights.
    """
    files = weight_files(folder)
    if not files:
        raise ModelError(f"{folder}: holds no weights (*.safetensors or *.bin)")
    parts: list[str] = []
    for file in files:
        known = memo.digest(file) if memo else None
        if known is None:
            known = _file_digest(file)
            if memo:
                memo.remember(file, known)
        parts += known.split(" ")
    for name in ("adapter_config.json", "config.json"):
        if (folder / name).is_file():
            content = orjson.dumps(configuration(folder / name), option=orjson.OPT_SORT_KEYS)
            parts.append(xxhash.xxh3_128_hexdigest(content))
            break
    return xxhash.xxh3_128_hexdigest(" ".join(sorted(parts)).encode())


def tokenizer_digest(tokenizer: Any) -> str:
    """XXH3-128 of what turns text into tokens and back."""
    return xxhash.xxh3_128_hexdigest(tokenizer.backend_tokenizer.to_str().encode())


def local_folder(model: str) -> Path:
    """Where weights lie on this disk; those of a hub id are fetched first. Raises ModelError."""
    folder = Path(model)
    if folder.is_dir():
        return folder
    hub: Any = import_module("huggingface_hub")
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hub.snapshot_download(model, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(f"'{model}' is no folder, and the hub does not give it: {error}") from error


def weight_files(folder: Path) -> list[Path]:
    """Weights of a model or adapter; safetensors where there are both."""
    for pattern in ("*.safetensors", "pytorch_model*.bin", "adapter_model*.bin"):
        if found := sorted(folder.glob(pattern)):
            return found
    return []


def configuration(file: Path) -> dict[str, Any]:
    """What a model's or adapter's configuration says of how it is built. Raises ModelError.

    Adapters of equal configurations can take each other's places on a base.
    """
    try:
        config: Any = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error
    content = {k: v for k, v in cast("Mapping[str, Any]", config).items() if k not in NOT_CONTENT}
    for key in ("target_modules", "modules_to_save"):  # Sets, written in any order.
        if isinstance(content.get(key), list):
            content[key] = sorted(cast("list[str]", content[key]))
    return content


def broken_weights(folder: Path) -> str | None:
    """Why the weights of a folder cannot be whole; None where nothing tells against them."""
    files = weight_files(folder)
    if not files:
        return "it holds no weights"
    for file in files:
        if file.suffix == ".safetensors":
            try:
                tensors, start = _header(file)
            except ModelError as error:
                return str(error)
            end = max((int(t["data_offsets"][1]) for t in tensors.values()), default=0)
            if file.stat().st_size < start + end:
                return f"{file.name} is cut off: {file.stat().st_size} bytes of {start + end}"
    return None


def _file_digest(file: Path) -> str:
    """Of each tensor, one after another with spaces between; of another file, of all its bytes."""
    try:
        if file.suffix != ".safetensors":
            with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return xxhash.xxh3_128_hexdigest(data)
        tensors, start = _header(file)
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            view = memoryview(data)
            digests: list[str] = []
            for name, tensor in sorted(tensors.items()):
                low, high = (start + int(offset) for offset in tensor["data_offsets"])
                digest = xxhash.xxh3_128(f"{name} {tensor['dtype']} {tensor['shape']}".encode())
                with view[low:high] as part:
                    digest.update(part)
                digests.append(digest.hexdigest())
            view.release()
        return " ".join(digests)
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """Tensors by name, and where their bytes begin. Raises ModelError for what is no such file."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(HEADER_BYTES), "little")
            if not 2 <= length <= file.stat().st_size - HEADER_BYTES:
                raise ModelError(f"{file.name} is cut off or no safetensors file")
            header: Any = orjson.loads(stream.read(length))
    except (OSError, orjson.JSONDecodeError) as error:
        raise ModelError(f"{file.name} is no safetensors file: {error}") from error
    tensors = cast("dict[str, Any]", header)
    tensors.pop("__metadata__", None)
    return tensors, HEADER_BYTES + length
