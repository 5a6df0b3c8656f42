"""The live view: what stands on the screen, and what the keys do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from fettle.runs import RunFolder
from fettle.runs.control import read_requests
from fettle.watch.app import WatchApp
from fettle.watch.screens import ConfirmScreen, PageScreen
from fettle.watch.watcher import Watcher
from page.rich_run import RichRun, write_rich_run
from server.runs_on_disk import begin, evaluate, finished, train, write_status
from watch.screen import Pilot, asked, drive, in_a_loop, lines, shown, until, until_shown

TITLES = (
    "Loss, nats", "Speed and memory", "Fixed eval", "EM by pattern", "LoRA layers", "Alerts, 2 open", "─Log",
)  # fmt: skip
SIZES = {(80, 24): [5, 13, 5, 10, 15, 17, 20], (160, 50): [6, 33, 6, 13, 30, 38, 41]}
"""Rows of the titles: the lines of each panel below its title add up to the screen."""
HOSTILE = "[bold]x[/] \x1b[31mred\x1b[0m \x1b]0;title\x07 [/nothing] [@click=app.quit]y[/] \u202eabc"


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with everything a run can record."""
    return write_rich_run(tmp_path_factory.mktemp("runs"), RichRun(name="rich"))


@pytest.fixture
def living(tmp_path: Path) -> Iterator[RunFolder]:
    """A run whose trainer lives."""
    folder, log = begin(tmp_path / "run")
    train(log, range(1, 11))
    log.close()
    write_status(folder, state="running", step=10, total_steps=100, eta_seconds=90.0)
    with folder.lock():
        yield folder


def test_what_a_service_charged_so_far_is_shown(living: RunFolder) -> None:
    assert "spent" not in "\n".join(shown(living.path, (160, 50)))
    write_status(living, state="running", step=10, total_steps=100, spent_usd=4.981)
    assert "$4.98 spent" in "\n".join(shown(living.path, (160, 50)))


# -- what is shown --------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_everything_has_its_place(rich: Path, size: tuple[int, int]) -> None:
    rows = shown(rich, size)
    places = [next(y for y, row in enumerate(rows) if title in row) for title in TITLES]
    assert places == SIZES[size]
    text = "\n".join(rows)
    for told in ("rich", "✓ completed", "Qwen/Qwen3-8B", "train.jsonl (8,000) xxh3:9b1c2f", "100 %",
                 "step 2,000 of 2,000", "STOP", "Use checkpoint-1200", "88.0 % ± 3.2", "0.568 ± 0.014",
                 "0.122", "plateau", "regressing", "checkpoint-1200", "66 %", "weakest", "→ level",
                 "↓ falling", "↑ rising", "9,084 tokens/s", "GiB", "! warning", "●", "Q quit"):  # fmt: skip
        assert told in text, told
    assert any(0x2800 < ord(character) < 0x2900 for character in text), "there is no curve"


def test_losses_are_those_of_the_log(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "run")
    train(log, range(1, 41))
    log.append("train", {"step": 41, "loss": 0.4321, "streaming_ce": 0.8768, "learning_rate": 0.00025})
    loss = evaluate(folder, log, 41, 130)
    log.close()
    text = "\n".join(shown(folder.path, (120, 40)))
    for told in ("0.432", "0.877", f"{loss:.3f}", "0.00025", "65.0 %"):
        assert told in text


def test_what_was_not_measured_says_so_and_is_no_zero(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "run")
    log.close()
    rows = shown(folder.path, (100, 40))
    text = "\n".join(rows)
    assert text.count("not measured") >= 8
    for name in ("train ", "streaming CE", "validation", "speed", "GPU", "host", "seen"):
        row = next(row[:40] for row in rows if row.startswith(name))
        assert "not measured" in row
        assert "0" not in row


def test_a_zero_that_was_measured_is_shown(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "run")
    log.append("train", {"step": 1, "loss": 0.0, "learning_rate": 0.0, "tokens_per_sec": 0.0})
    log.append("fixed_eval", {"step": 1, "exact_match": 0.0, "cross_entropy": 0.0})
    log.close()
    text = "\n".join(shown(folder.path, (120, 40)))
    for told in ("0 tokens/s", "0.0 %", "learning rate 0 "):
        assert told in text


def test_nan_is_named(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "run")
    train(log, range(1, 30), {29: float("nan"), 15: float("inf")})
    log.close()
    rows = shown(folder.path, (100, 40))
    assert "NaN" in next(row for row in rows if row.startswith("train"))
    assert sum(row.count("×") for row in rows) == 3, "two in the plot, one in what the signs mean"


def test_text_of_a_run_is_text(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "[red]run", model={"name": HOSTILE},
                        data={"train": {"path": f"d/{HOSTILE}", "fingerprint": HOSTILE}})  # fmt: skip
    log.append(
        "alert",
        {
            "step": 1,
            "change": "fired",
            "category": "c",
            "level": HOSTILE,
            "message": HOSTILE,
            "action": HOSTILE,
        },
    )
    log.append("train", {"step": 1, "loss": 1.0, HOSTILE: HOSTILE})
    log.close()
    write_status(folder, state="completed", reason=HOSTILE, step=1, total_steps=1)
    folder.log_path.write_text(HOSTILE + "\n", encoding="utf-8")
    pictures: list[str] = []

    async def script(app: WatchApp, pilot: Pilot) -> None:
        for key in ("l", "escape", "e", "escape"):
            pictures.append(app.export_screenshot())
            text = "\n".join(lines(app))
            assert key == "escape" or ("[red]run" in text and "[bold]x[/] red [/nothing]" in text)
            await pilot.press(key)
            await pilot.pause(0.05)

    drive(folder.path, script, (160, 40))
    for picture in pictures:
        assert "\x1b" not in picture
        assert "title\x07" not in picture
        assert "\u202e" not in picture


def test_a_run_that_ended_stays_open(rich: Path) -> None:
    async def script(app: WatchApp, pilot: Pilot) -> None:
        await pilot.pause(0.3)
        assert app.is_running
        assert "✓ completed" in lines(app)[0]
        assert "all steps are done" in lines(app)[2]

    drive(rich, script, (120, 30))


@pytest.mark.parametrize("size", [(20, 8), (40, 12), (81, 25), (300, 100)])
def test_any_size_can_be_drawn(rich: Path, size: tuple[int, int]) -> None:
    rows = shown(rich, size)
    assert "rich" in rows[0]


# -- while it grows -------------------------------------------------------------


def test_it_follows_a_writer(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "run")
    train(log, range(1, 3))

    async def script(app: WatchApp, pilot: Pilot) -> None:
        assert "no fixed eval yet" in "\n".join(lines(app))
        train(log, range(3, 21), {20: 0.777})
        await until_shown(app, pilot, "0.777")
        evaluate(folder, log, 20, 150)
        await until_shown(app, pilot, "75.0 %")
        log.append("end", {"step": 20, "state": "early_stopped", "reason": "patience is used up"})
        write_status(folder, state="early_stopped", step=20, total_steps=100, reason="patience is used up")
        await until_shown(app, pilot, "■ early stopped")

    drive(folder.path, script)
    log.close()


def test_a_rewind_is_told(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "run")
    train(log, range(1, 41))

    async def script(app: WatchApp, pilot: Pilot) -> None:
        log.append("resume", {"step": 20})
        train(log, range(21, 22), {21: 0.555})
        await until_shown(app, pilot, "went back to step 2")
        await until_shown(app, pilot, "0.555")

    drive(folder.path, script)
    log.close()


def test_a_folder_that_vanishes_leaves_its_last_numbers(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")

    async def script(app: WatchApp, pilot: Pilot) -> None:
        before = next(row for row in lines(app) if row.startswith("train"))
        folder.path.rename(tmp_path / "elsewhere")
        await until_shown(app, pilot, "✗ gone")
        assert lines(app)[3].startswith("✗ ")  # A long path is cut before "is gone".
        assert next(row for row in lines(app) if row.startswith("train")) == before

    drive(folder.path, script)


def test_a_path_that_is_no_run_ends_the_view_with_its_reason(tmp_path: Path) -> None:
    async def main() -> WatchApp:
        app = WatchApp(Watcher(tmp_path / "nothing"))
        async with app.run_test() as pilot:
            await until(pilot, lambda: app.failure is not None)
        return app

    assert "there is no such run" in str(in_a_loop(main()).failure)


# -- keys -----------------------------------------------------------------------


def test_pause_and_checkpoint_are_written_for_the_trainer(living: RunFolder) -> None:
    async def script(app: WatchApp, pilot: Pilot) -> None:
        await pilot.press("p")
        await until(pilot, lambda: asked(living) == "pause")
        await until_shown(app, pilot, "pause asked")
        obeyed = {"type": "control", "step": 10, **read_requests(living.control_path)[0].to_json()}
        with living.metrics_path.open("ab") as log:
            log.write(orjson.dumps(obeyed) + b"\n")
        write_status(living, state="paused", step=10, total_steps=100)
        await until_shown(app, pilot, "‖ paused")
        await pilot.press("p")
        await until(pilot, lambda: asked(living) == "resume")
        await pilot.press("s")
        await until(pilot, lambda: asked(living) == "checkpoint")

    drive(living.path, script)


def test_stop_asks_first(living: RunFolder) -> None:
    async def script(app: WatchApp, pilot: Pilot) -> None:
        for no in ("n", "escape", "q"):
            await pilot.press("c")
            await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
            await until_shown(app, pilot, "Stop the run")
            await pilot.press(no)
            await until(pilot, lambda: not isinstance(app.screen, ConfirmScreen))
            assert asked(living) is None
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: asked(living) == "stop")

    drive(living.path, script)


def test_keys_under_a_question_do_nothing(living: RunFolder) -> None:
    async def script(app: WatchApp, pilot: Pilot) -> None:
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("p", "s", "l", "c", "question_mark")
        await pilot.pause(0.05)
        assert asked(living) is None
        assert isinstance(app.screen, ConfirmScreen)

    drive(living.path, script)


@pytest.mark.parametrize("key", ["p", "c", "s"])
def test_a_run_that_ended_cannot_be_asked_and_says_why(tmp_path: Path, key: str) -> None:
    folder = finished(tmp_path / "run")

    async def script(app: WatchApp, pilot: Pilot) -> None:
        await pilot.press(key)
        await until_shown(app, pilot, "Not possible: the run is completed")
        assert not folder.control_path.exists()
        assert not isinstance(app.screen, ConfirmScreen)

    drive(folder.path, script, (120, 30))


def test_the_log_page_follows_its_end(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    folder.log_path.write_text("".join(f"line {i}\n" for i in range(200)))

    async def script(app: WatchApp, pilot: Pilot) -> None:
        await pilot.press("l")
        await until_shown(app, pilot, "line 199")
        with folder.log_path.open("a") as stream:
            stream.write("the newest line\n")
        await until_shown(app, pilot, "the newest line")
        await pilot.press("home")
        await until_shown(app, pilot, "line 0")
        with folder.log_path.open("a") as stream:
            stream.write("one more line\n")
        await until(pilot, lambda: app.facts.log[-1].text == "one more line")
        assert "line 0 " in "\n".join(lines(app)), "who reads further up is not thrown to the end"
        await pilot.press("escape")
        assert not isinstance(app.screen, PageScreen)

    drive(folder.path, script)


def test_the_evaluations_page_lists_every_eval(rich: Path) -> None:
    async def script(app: WatchApp, pilot: Pilot) -> None:
        await pilot.press("e")
        await until_shown(app, pilot, "exact match")
        text = "\n".join(lines(app))
        for told in ("2,000", "88.0 % ± 3.2", "◀ best", "100-300", "68 % 34", "(38 % 8)", "reasoning"):
            assert told in text, told
        best = next(row for row in text.split("\n") if "◀ best" in row)
        assert "1,200" in best

    drive(rich, script, (160, 50))


def test_help_names_every_key_and_pages_replace_each_other(rich: Path) -> None:
    async def script(app: WatchApp, pilot: Pilot) -> None:
        await pilot.press("question_mark")
        await until_shown(app, pilot, "leave; the run goes on")
        assert "P, C and S do nothing: the run is completed" in "\n".join(lines(app))
        await pilot.press("e")
        await until_shown(app, pilot, "exact match")
        assert len(app.screen_stack) == 2
        await pilot.press("escape")
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)

    drive(rich, script, (100, 30))
