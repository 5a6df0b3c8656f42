"""A configuration as text, as a hash, and against another one."""

from __future__ import annotations

from typing import Any, cast

import yaml

from fettle.config.config import Config
from fettle.config.document import ConfigDumper


def dump_config(config: Config) -> str:
    """Every key with the value in force, as YAML that loads to the same configuration."""
    values = config.model_dump(mode="json")
    return yaml.dump(values, Dumper=ConfigDumper, sort_keys=False, allow_unicode=True, width=10**6)


def config_hash(config: Config) -> str:
    """Identity of what a configuration trains: 16 hex digits.

    Whether to resume is no part of it: it says how to treat a run, not what the run is.
    """
    import orjson
    import xxhash

    values = config.model_dump(mode="json")
    del values["training"]["resume_from_checkpoint"]
    return xxhash.xxh3_64_hexdigest(orjson.dumps(values, option=orjson.OPT_SORT_KEYS))


def config_differences(a: Config, b: Config) -> list[str]:
    """What changed from `a` to `b`, one line a key: `training.learning_rate: 0.0002 -> 0.0001`."""
    before, after = flatten(a.model_dump(mode="json")), flatten(b.model_dump(mode="json"))
    return [
        f"{key}: {_shown(before, key)} -> {_shown(after, key)}"
        for key in dict.fromkeys([*before, *after])
        if key not in before or key not in after or before[key] != after[key]
    ]


def flatten(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested sections as one mapping of dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(cast("dict[str, Any]", value), f"{above}{name}.")
        else:
            flat[f"{above}{name}"] = value
    return flat


def _shown(flat: dict[str, Any], key: str) -> str:
    if key not in flat:
        return "absent"
    value = flat[key]
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
