"""The one place where series of the `tinker` SDK differ: 0.24 and 0.25 on one side, 0.38 on the other."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

DEFAULT_URL = "https://tinker.thinkingmachines.dev/services/tinker-prod"
TTL_SECONDS = 3600
"""How long the service keeps an export."""


def settled(value: Any) -> Any:
    """What a call gives at last: newer SDKs return a future of a client, older ones the client."""
    return value.result() if hasattr(value, "result") else value


def service_url(given: str | None) -> str:
    """The address in force: the one given, else TINKER_BASE_URL, else that of Thinking Machines."""
    return (given or os.environ.get("TINKER_BASE_URL") or DEFAULT_URL).rstrip("/")


def rest_client(url: str) -> Any:
    """What lists, deletes and hands out what is saved; it opens no session."""
    tinker: Any = import_module("tinker")
    if hasattr(tinker, "RestClient"):
        return tinker.RestClient(base_url=url)
    return tinker.ServiceClient(base_url=url).create_rest_client()


def supported_models(url: str) -> list[Any]:
    """The models that the service names. Raises what the SDK raises."""
    tinker: Any = import_module("tinker")
    asked = tinker.RestClient if hasattr(tinker, "RestClient") else tinker.ServiceClient
    return list(settled(asked(base_url=url).get_server_capabilities()).supported_models)


def lacks_key(error: Exception) -> bool:
    """Whether the SDK found no API key, before it sent anything."""
    return str(error).startswith("The api_key client option must be set")


def exported_files(client: Any, rest: Any) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Name and blocks of each file of the adapter that `client` trains.

    Newer SDKs name an address for each file, older ones that of an archive.
    """
    if hasattr(client, "save_weights_external"):
        exported = client.save_weights_external("fettle-download", ttl_seconds=TTL_SECONDS).result().path
        urls: dict[str, str] = rest.get_external_weights_urls(exported).result().urls
        for name, address in urls.items():
            # Only the name: what a service says must not leave the folder.
            yield Path(name).name, _blocks(address)
        return
    exported = client.save_weights_for_sampler("fettle-download", ttl_seconds=TTL_SECONDS).result().path
    archive = io.BytesIO(b"".join(_blocks(_archive_url(rest, exported))))
    with tarfile.open(fileobj=archive) as members:
        for member in members:
            file = members.extractfile(member) if member.isfile() else None
            if file is not None:
                yield Path(member.name).name, iter([file.read()])


def _archive_url(rest: Any, exported: str) -> str:
    run, *kind, name = exported.removeprefix("tinker://").split("/")
    if kind:
        return rest.get_checkpoint_archive_url_from_tinker_path(exported).result().url
    # SkyRL knows what it saved for sampling by its bare name, which the SDK takes for no path.
    return rest.get_checkpoint_archive_url(run, name).result().url


def _blocks(address: str) -> Iterator[bytes]:
    httpx: Any = import_module("httpx")
    with httpx.stream("GET", address, timeout=60, follow_redirects=True) as answer:
        answer.raise_for_status()
        yield from answer.iter_bytes()
