"""A configuration as text, as a hash, and against another one."""

from __future__ import annotations

from typing import Any, cast

import yaml

from fettle.config.config import Config
from fettle.config.diagnosis import shown
from fettle.config.document import ConfigDumper
from fettle.config.keys import all_keys

WATCHING = {"alerts", "checkpoints", "lenses", "notify", "tinker"}
"""Sections that change nothing of what is trained."""


def dump_config(config: Config) -> str:
    """Every key with the value in force, as YAML that loads to the same configuration."""
    return dump_values(config.model_dump(mode="json"))


def dump_values(values: dict[str, Any]) -> str:
    """Plain values as YAML, keys in their order."""
    return yaml.dump(values, Dumper=ConfigDumper, sort_keys=False, allow_unicode=True, width=10**6)


def config_hash(config: Config) -> str:
    """Identity of what a configuration trains: 16 hex digits.

    Whether to resume, which checkpoints to keep, and when to alert whom are no part of it: they say how
    to treat a run, not what the run is.
    """
    import orjson
    import xxhash

    values = config.model_dump(mode="json", exclude=WATCHING)
    del values["training"]["resume_from_checkpoint"]
    # Not sorted: the order of pattern rules has a meaning, and keys come in the order of their sections.
    return xxhash.xxh3_64_hexdigest(orjson.dumps(values))


def config_differences(a: Config, b: Config) -> list[str]:
    """What changed from `a` to `b`, one line a key: `training.learning_rate: 0.0002 -> 0.0001`.

    Which checkpoints are kept, and who is alerted when, may change while a run goes on.
    """
    before, after = a.model_dump(mode="json", exclude=WATCHING), b.model_dump(mode="json", exclude=WATCHING)
    # A section that one of them turned off changed as a whole, not key by key.
    whole = {key for key in before if not (isinstance(before[key], dict) and isinstance(after[key], dict))}
    pairs = [(key, before[key], after[key]) for key in before if key in whole]
    for key in before.keys() - whole:
        pairs += [(f"{key}.{name}", value, after[key][name]) for name, value in before[key].items()]
    order = list(all_keys())
    # As text: two mappings in another order are equal, and the order of pattern rules has a meaning.
    pairs = [pair for pair in pairs if str(pair[1]) != str(pair[2])]
    changed = sorted(pairs, key=lambda pair: order.index(pair[0]))
    return [f"{key}: {shown(old)} -> {shown(new)}" for key, old, new in changed]


def flatten(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested sections as one mapping of dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(cast("dict[str, Any]", value), f"{above}{name}.")
        else:
            flat[f"{above}{name}"] = value
    return flat
