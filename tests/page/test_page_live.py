"""The page beside a run that goes on: it follows, rewinds, and outlives the server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fettle.runs import RunFolder
from fettle.runs.control import read_requests
from page.conftest import Tab, running
from page.page_actions import at, panel, shows, text
from page.rich_evaluations import FILES, evaluation_row, write_evaluations
from page.rich_run import RichRun, write_rich_run

Open = Callable[..., Any]


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[ExitStack]:
    """What a trainer holds while it lives."""
    with ExitStack() as held:
        yield held


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to which every test adds a run."""
    root = tmp_path_factory.mktemp("live") / "runs"
    root.mkdir()
    return root


@pytest.fixture(scope="module")
def base(root: Path, tab: Tab) -> Iterator[str]:
    """A server over it that may ask trainers."""
    with running(root, "--control") as base:
        yield base
        tab.leave()


@pytest.fixture
def live(root: Path, trainer: ExitStack) -> Path:
    """A run at step 300 of 2,000 that goes on."""
    name = f"run-{len(list(root.iterdir()))}"
    path = write_rich_run(root, RichRun(name=name, last_step=300, state=None, nan_steps=(), inf_steps=()))
    trainer.enter_context(RunFolder(path).lock())
    return path


def append(run: Path, **record: Any) -> None:
    """One more record at the end of the log."""
    with (run / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"timestamp": 1.8e9, **record}) + "\n")


def tell(run: Path, **changes: Any) -> None:
    """A new status.json."""
    status = json.loads((run / "status.json").read_text())
    RunFolder(run).write_status({**status, **changes})


def train(run: Path, step: int, loss: float) -> None:
    append(run, type="train", step=step, epoch=step / 500, loss=loss, streaming_ce=loss + 0.5, grad_norm=1.25)


def test_new_steps_and_evals_appear_without_a_reload(visit: Open, base: str, live: Path) -> None:
    page = visit(at(live.name), base=base)
    shows(page, ".run-facts", "step 300 of 2 000")
    shows(page, ".run-title", "live")
    shows(page, "#loss .legend", "0.")
    train(live, 301, 0.777)
    shows(page, ".run-facts", "step 301 of 2 000")
    shows(page, "#loss .legend", "0.777")
    shows(page, "#loss .legend", "1.277")
    append(live, type="fixed_eval", step=301, cross_entropy=0.4321, exact_match=0.6543, samples=400)
    shows(page, "#loss .legend", "0.432")
    page.locator("#evaluation").scroll_into_view_if_needed()
    shows(page, "#evaluation", "65.4 %")
    append(live, type="train", step=302, loss=None, loss_nonfinite="nan")
    shows(page, "#loss .chart-note", "1 × NaN, first near step 302")


def test_concepts_move_while_it_trains(visit: Open, base: str, live: Path) -> None:
    folder = RunFolder(live)
    content = folder.drift_path.read_bytes()
    folder.drift_path.unlink()
    page = visit(at(live.name), base=base)
    panel(page, "concepts")
    shows(page, "#concepts", "No lens looked at this run.")
    folder.live_drift_path.write_bytes(content)
    append(live, type="lenses", step=300, lenses=30, moved=3, seconds=0.2)
    shows(page, "#concepts", "3 of 30 concepts moved")


def test_a_rewind_takes_back_what_was_superseded(visit: Open, base: str, live: Path) -> None:
    page = visit(at(live.name), base=base)
    shows(page, ".run-facts", "step 300 of 2 000")
    shows(page, "#loss .legend", "0.")
    tell(live, step=201)
    append(live, type="resume", step=200)
    train(live, 201, 0.888)
    shows(page, ".run-facts", "step 201 of 2 000")
    shows(page, "#loss .legend", "0.888")


def test_the_page_outlives_a_restart_of_the_server(open_page: Open, live: Path) -> None:
    with running(live.parent) as base:
        page = open_page(at(live.name), base=base, quiet=False)
        shows(page, "#loss .legend", "0.")
        shows(page, "#verdict", "Exact match")
        page.wait_for_timeout(500)
    port = base.rsplit(":", 1)[1]
    shows(page, ".run-title", "reconnecting")
    train(live, 301, 0.666)
    with running(live.parent, "--port", port):
        shows(page, "#loss .legend", "0.666")
        shows(page, ".run-title .tone-good", "live")
        assert "reconnecting" not in text(page, ".run-title")
        page.close()


def test_the_end_of_a_run_is_told(visit: Open, base: str, live: Path, trainer: ExitStack) -> None:
    page = visit(at(live.name), base=base)
    shows(page, ".run-title", "running")
    tell(live, state="completed", reason="all steps are done")
    trainer.close()
    append(live, type="end", step=300, state="completed", reason="all steps are done")
    shows(page, ".run-title", "completed")
    shows(page, ".run-facts", "all steps are done")


def test_a_trainer_is_asked_from_the_page(visit: Open, base: str, live: Path) -> None:
    control = live / "control.json"
    page = visit(at(live.name), base=base)
    page.get_by_role("button", name="Pause").wait_for()
    page.keyboard.press("p")
    shows(page, "#toast", "Asked to pause")
    assert read_requests(control)[-1].action == "pause"
    page.get_by_role("button", name="Save checkpoint").click()
    shows(page, "#toast", "Asked to save a checkpoint")
    assert read_requests(control)[-1].action == "checkpoint"
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.keyboard.press("c")
    page.wait_for_timeout(300)
    assert read_requests(control)[-1].action == "checkpoint"
    page.once("dialog", lambda dialog: dialog.accept())
    page.keyboard.press("c")
    shows(page, "#toast", "Asked to stop")
    assert read_requests(control)[-1].action == "stop"


def test_a_damaged_run_says_what_is_wrong(open_page: Open, root: Path, base: str) -> None:
    run = write_rich_run(root, RichRun(name="torn", last_step=200, eval_every=100))
    (run / "config.yaml").write_text("a: [")
    for step in (100, 200):
        (run / "fixed_eval" / f"step-{step:08d}.npz").write_bytes(b"no zip")
    page = open_page(at("torn"), base=base, quiet=False)
    shows(page, "#verdict .problem", "config.yaml: is no YAML")
    shows(page, "#loss .legend", "1.")
    page.locator("#samples").scroll_into_view_if_needed()
    shows(page, "#samples", "Not measured")


def test_a_run_that_is_gone_is_named(open_page: Open, root: Path, base: str) -> None:
    page = open_page(at("gone"), base=base, quiet=False)
    shows(page, "main .problem", "there is no such run")


def test_evaluations_appear_as_they_are_found_and_a_worse_one_is_an_alert(
    visit: Open, base: str, live: Path
) -> None:
    path = RunFolder(live).evaluations_path
    page = visit(at(live.name), base=base)
    panel(page, "evaluations")
    shows(page, "#evaluations", "No checkpoint was evaluated beside the fixed eval")
    write_evaluations(path, [evaluation_row(s, f, 1.8e9 + s) for s in (0, 1000) for f in FILES])
    shows(page, "#evaluations table", "1 000")
    shows(page, "#evaluations .legend", "30.0 % (26.0 % to 34.0 %)")
    page.get_by_role("button", name="valid.jsonl").click()
    shows(page, "#evaluations .legend", "40.0 % (36.0 % to 44.0 %)")
    assert "number" not in text(page, "#evaluations table")
    write_evaluations(path, [evaluation_row(1200, "valid.jsonl", 1.8e9 + 1200, worse=True)])
    shows(page, "#evaluations table", "Exact match is worse")
    shows(page, "#alerts", "step 1200 is worse on valid.jsonl")
