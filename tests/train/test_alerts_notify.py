"""Notifications against a real HTTP server on this machine, and real commands."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from fettle.config import NotifyConfig
from fettle.decide.alerts import AlertEngine
from fettle.errors import ConfigError
from fettle.train import notifier
from fettle.train.notifier import WAITING, Notifier


class Server:
    """Keeps what is posted to it; answers as `answers` says, the last one for good."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, dict[str, str], Any]] = []
        self.answers: list[int] = [200]
        self.open = threading.Event()
        self.open.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.posted.append((self.path, dict(self.headers), json.loads(body)))
                outer.open.wait(30)
                status = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/services/secret"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self.open.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="WARNING", format="{message}")
    yield lines
    logger.remove(sink)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "PAUSE_SECONDS", 0.0)


def nan_alert() -> dict[str, Any]:
    engine = AlertEngine(only=["nan_loss"])
    [change] = engine.feed({"type": "train", "step": 7, "loss": float("nan"), "learning_rate": 1e-4})
    return {"run": "my <run>", **change.fields()}


def deliver(*alerts: dict[str, Any], **settings: Any) -> Notifier:
    sender = Notifier(NotifyConfig(**settings))
    for alert in alerts:
        sender.send(alert)
    sender.close()
    return sender


def test_alerts_are_posted_with_every_field(server: Server) -> None:
    alert = nan_alert()
    deliver(alert, webhook=server.address)
    [(path, headers, body)] = server.posted
    assert path == "/services/secret"
    assert (headers["Content-Type"], headers["User-Agent"]) == ("application/json", "fettle")
    assert body == json.loads(json.dumps(alert))
    assert (body["level"], body["category"], body["change"]) == ("critical", "nan_loss", "fired")


def test_alerts_are_posted_as_slack_takes_them(server: Server) -> None:
    deliver(nan_alert(), webhook=server.address, format="slack")
    [(_, _, body)] = server.posted
    assert set(body) == {"text"}
    assert "*critical* my &lt;run&gt;: Loss is nan at step 7." in body["text"]
    assert "Stop. No checkpoint was saved yet" in body["text"]


def test_alerts_are_posted_as_discord_takes_them(server: Server) -> None:
    alert = {**nan_alert(), "message": "@everyone " + "x" * 5000}
    deliver(alert, webhook=server.address, format="discord")
    [(_, _, body)] = server.posted
    assert set(body) == {"content", "allowed_mentions"}
    assert body["allowed_mentions"] == {"parse": []}
    assert len(body["content"]) == 2000
    assert "**critical** my <run>: @everyone" in body["content"]


def test_alerts_that_are_over_are_posted_too(server: Server) -> None:
    alert = {**nan_alert(), "change": "resolved", "resolved": True}
    deliver(alert, webhook=server.address, format="slack")
    assert "*resolved* my" in server.posted[0][2]["text"]


def test_alerts_below_the_level_are_not_sent(server: Server) -> None:
    info, warning = {**nan_alert(), "level": "info"}, {**nan_alert(), "level": "warning"}
    deliver(info, warning, webhook=server.address)
    assert [body["level"] for _, _, body in server.posted] == ["warning"]
    deliver(info, warning, webhook=server.address, min_level="info")
    assert len(server.posted) == 3


def test_alerts_never_wait_for_a_server_that_hangs(server: Server, said: list[str]) -> None:
    """All are handed over before the server answers the first: otherwise this test would hang."""
    server.open.clear()
    sender = Notifier(NotifyConfig(webhook=server.address, timeout_seconds=0.5))
    for _ in range(WAITING + 50):
        sender.send(nan_alert())
    assert sender.dropped >= 49
    assert not server.open.is_set()
    thread = sender._thread
    assert thread is not None
    sender.close()
    assert any("not delivered" in line for line in said)
    # What it still says must not be heard by the next test.
    server.open.set()
    sender._queue.put(None)
    thread.join(60)
    assert not thread.is_alive()


def test_alerts_are_sent_again_where_the_server_was_busy(server: Server, said: list[str]) -> None:
    server.answers = [503, 200]
    deliver(nan_alert(), webhook=server.address)
    assert len(server.posted) == 2
    assert said == []


@pytest.mark.parametrize("status", [400, 404, 500])
def test_alerts_that_are_refused_are_said_once_without_the_address(
    server: Server, said: list[str], status: int
) -> None:
    server.answers = [status]
    deliver(nan_alert(), nan_alert(), webhook=server.address)
    assert len(server.posted) == (4 if status == 500 else 2)
    [line] = said
    assert "webhook at http://127.0.0.1" in line
    assert "secret" not in line


def test_alerts_to_nobody_are_said(said: list[str]) -> None:
    deliver(nan_alert(), webhook="http://127.0.0.1:9/")
    assert "could not be sent" in said[0]


def test_alerts_to_an_address_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_WEBHOOK", server.address)
    deliver(nan_alert(), webhook="$MY_WEBHOOK")
    assert len(server.posted) == 1
    monkeypatch.delenv("MY_WEBHOOK")
    with pytest.raises(ConfigError, match="MY_WEBHOOK is not set"):
        Notifier(NotifyConfig(webhook="$MY_WEBHOOK"))


def test_alerts_to_a_command(tmp_path: Path, said: list[str]) -> None:
    program = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"
    out = tmp_path / "told; rm -rf $HOME.json"
    deliver(nan_alert(), command=[sys.executable, "-c", program, str(out)], timeout_seconds=60)
    assert json.loads(out.read_text())["category"] == "nan_loss"
    assert said == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/no/such/program"], "No such file"),
        ([sys.executable, "-c", "import sys; sys.exit('no mail today')"], "no mail today"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "no answer within 0.5 seconds"),
    ],
)
def test_alerts_to_a_command_that_fails_are_said(said: list[str], command: list[str], words: str) -> None:
    slow = "sleep" in command[-1]
    sender = Notifier(NotifyConfig(command=command, timeout_seconds=0.5 if slow else 60))
    sender.send(nan_alert())
    thread = sender._thread
    assert thread is not None
    assert thread.daemon
    sender._queue.put(None)
    thread.join(60)
    [line] = said
    assert words in line


def test_alerts_without_anybody_to_tell_start_no_thread() -> None:
    sender = deliver(nan_alert())
    assert not sender.on
    assert sender._thread is None
