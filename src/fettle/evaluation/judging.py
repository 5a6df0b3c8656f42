"""Checkers over generated answers: each answer by each checker, and what was paid for is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, cast

import orjson
import xxhash

from fettle.config import CheckerConfig
from fettle.config.checkers import JudgeConfig
from fettle.evaluation.answer_rows import Said
from fettle.evaluation.cache import ScoreCache
from fettle.evaluation.checkers import Check, Reference, build_checker, judge_api, judged

# A judge waits for a server; the other kinds compute, and functions of users may not be ready for threads.
QUESTIONS_AT_ONCE = 16
# How a judge is reached and paid says nothing of what it answers.
BESIDE_THE_POINT = {"api_key_env", "attempts", "timeout_seconds", "prompt_price", "completion_price"}


class NamedChecker:
    """A checker under the name that the user gave it."""

    def __init__(self, name: str, config: CheckerConfig, cache: ScoreCache) -> None:
        """Raises ConfigError or MissingExtraError where it cannot be had."""
        self.name = name
        self._config = config
        self._cache = cache
        self._judge_api = judge_api(config) if isinstance(config, JudgeConfig) else None
        self._costs = self._judge_api is not None
        self._checker = build_checker(config, self._judge_api)

    def spent(self) -> dict[str, Any] | None:
        """What a judge was asked since this was made, as plain values; None of another kind of checker."""
        return None if self._judge_api is None else self._judge_api.spent()

    def check(
        self,
        answers: Sequence[Sequence[Said]],
        references: Sequence[Reference],
        on_check: Callable[[int, int], None] | None = None,
    ) -> list[list[Check]]:
        """What it says of every answer to every prompt; `on_check` is told how many are done, of how many."""
        pairs = [(a, ref) for of_one, ref in zip(answers, references, strict=True) for a in of_one]
        keys = [self._key(answer, against) for answer, against in pairs] if self._costs else []
        known = {key: Check(**orjson.loads(value)) for key, value in self._cache.get(keys).items()}
        checks = [known.get(key) for key in keys] or [None] * len(pairs)
        missing = [i for i, check in enumerate(checks) if check is None]
        with ThreadPoolExecutor(QUESTIONS_AT_ONCE if self._costs else 1) as pool:
            found = pool.map(self._judge, [pairs[i] for i in missing])
            for done, (i, check) in enumerate(zip(missing, found, strict=True), 1):
                checks[i] = check
                if self._costs and check.correct is not None:
                    self._cache.put([(keys[i], orjson.dumps(asdict(check)))])
                if on_check is not None:
                    on_check(done, len(missing))
        rest = iter(cast("list[Check]", checks))
        return [[next(rest) for _ in of_one] for of_one in answers]

    def _judge(self, pair: tuple[Said, Reference]) -> Check:
        answer, against = pair
        if answer.text is None or answer.reason is not None:
            return Check(None, answer.reason)
        return judged(self._checker, answer.text, against)

    def _key(self, answer: Said, against: Reference) -> bytes:
        """Everything that a judge is told."""
        own = against.fields.get(self._config.reference_field or "")
        settings = self._config.model_dump(mode="json", exclude=BESIDE_THE_POINT)
        content = [settings, answer.text, against.text, against.question, own]
        return xxhash.xxh3_128_digest(b"judged " + orjson.dumps(content, option=orjson.OPT_SORT_KEYS))
