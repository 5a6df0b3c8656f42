"""Answers that are programs: right where their tests pass, in a sandbox."""

from __future__ import annotations

from loguru import logger

from fettle.config.checkers import CodeConfig
from fettle.errors import ConfigError
from fettle.evaluation.checkers.blocks import FENCE, blocks
from fettle.evaluation.checkers.check import Check, Checker, Reference
from fettle.evaluation.checkers.sandbox import missing_protections, run_tests


def code_answer(config: CodeConfig) -> Checker:
    """Runs the last block that defines something with the tests of its data line.

    Raises ConfigError until running code was allowed.
    """
    if not config.run_code:
        raise ConfigError(
            "checker code: run_code is false. It runs programs written by a model on this machine; "
            "set run_code: true to allow that"
        )
    for missing in missing_protections():
        logger.warning("code of answers runs with limits, but on this machine {}", missing)

    def check(answer: str, against: Reference) -> Check:
        given = against.needed(config.tests_field)
        tests = given if isinstance(given, str) else "\n".join(map(str, given))
        if (name := against.fields.get(config.entry_point_field)) is not None:
            tests += f"\nif 'check' in globals():\n    check({name})\n"
        setup = str(against.fields.get(config.setup_field, ""))
        found = run_tests(f"{setup}\n{program(answer)}", tests, config)
        return Check(found.passed, found.reason, formatted=FENCE in answer)

    return check


def program(answer: str) -> str:
    """The last block that defines something; models often show an example of its use after it."""
    found = blocks(answer)
    defining = [block for block in found if "def " in block or "class " in block]
    return (defining or found)[-1]
