"""The API against its own description: generated requests, valid and not, get the answers it promises."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.schemas import APIOperation

from fettle.server.app import create_app
from fettle.server.settings import Settings
from server.live_server import serving
from server.runs_on_disk import finished

# A stream has no end; tests of its own follow it.
STREAM = "/api/stream"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[httpx.Client]:
    root = tmp_path_factory.mktemp("described") / "runs"
    for name in ("0", "alpha"):
        finished(root / name, steps=6)
    with serving(root, "--control") as client:
        yield client


DESCRIBED = schemathesis.openapi.from_dict(create_app(Settings(Path())).openapi())
OPERATIONS = [found.ok() for found in DESCRIBED.exclude(path=STREAM).get_all_operations()]


# No schema says which YAML is a configuration: test_jobs.py does.
LAUNCH = "POST /api/training/jobs"
# A request without query or body has nothing that could be wrong but its address.
CASES = [
    pytest.param(operation, mode, id=f"{operation.label} {mode.value}")
    for operation in OPERATIONS
    for mode in GenerationMode
    if (mode is GenerationMode.POSITIVE and operation.label != LAUNCH)
    or (mode is GenerationMode.NEGATIVE and (len(operation.query.items) or len(operation.body.items)))
]


@pytest.mark.slow
@pytest.mark.parametrize(("operation", "mode"), CASES)
def test_every_answer_is_as_described(
    server: httpx.Client, operation: APIOperation, mode: GenerationMode
) -> None:
    @settings(
        max_examples=30,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), named=st.booleans())
    def holds(case: schemathesis.Case, named: bool) -> None:
        for name in {"id", "job_id"} & case.path_parameters.keys():
            if named and mode is GenerationMode.POSITIVE:  # Of names made up, none is a run's.
                case.path_parameters[name] = "alpha"
        case.call_and_validate(base_url=str(server.base_url), headers={"X-Fettle": "1"})

    holds()


def test_every_answer_and_every_parameter_is_explained(server: httpx.Client) -> None:
    document = server.get("/api/openapi.json").json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["description"], path
    for name, shape in document["components"]["schemas"].items():
        assert shape.get("description"), name


def test_the_interactive_pages_that_load_from_elsewhere_are_off(server: httpx.Client) -> None:
    for address in ("/docs", "/redoc", "/openapi.json"):
        assert server.get(address).status_code == 404


def test_the_description_names_no_path_of_the_machine(server: httpx.Client, tmp_path: Path) -> None:
    assert str(tmp_path.parent) not in server.get("/api/openapi.json").text
