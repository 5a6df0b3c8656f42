"""Alerts to people: posted to a webhook, piped to a command, never waited for by what trains."""

from __future__ import annotations

import queue
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import orjson
from loguru import logger

from fettle.config import NotifyConfig
from fettle.decide.alerts import LEVELS

WAITING = 100
"""Notifications that may wait; more are dropped and counted."""
ATTEMPTS = 2
PAUSE_SECONDS = 1.0
DISCORD_CHARACTERS = 2000
MARKS = {
    "info": "\N{INFORMATION SOURCE}",
    "warning": "\N{WARNING SIGN}",
    "critical": "\N{POLICE CARS REVOLVING LIGHT}",
}


class Notifier:
    """Sends alerts from a thread of its own, in order.

    `send` returns at once whatever the network does. `close` waits for what is on its way, but no
    longer than one timeout. What could not be delivered is said once in the log.
    """

    def __init__(self, config: NotifyConfig) -> None:
        """Raises ConfigError where the environment lacks the address."""
        self._config = config
        self._address = config.address()
        self._queue: queue.Queue[Mapping[str, Any] | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._failed: set[str] = set()
        self.dropped = 0
        """Notifications that found no room to wait."""

    @property
    def on(self) -> bool:
        """Whether anybody is to be told."""
        return self._address is not None or self._config.command is not None

    def send(self, alert: Mapping[str, Any]) -> None:
        """Tell of one change of an alert, unless its level is too low."""
        if not self.on or LEVELS.index(alert["level"]) < LEVELS.index(self._config.min_level):
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver, name="fettle-notify", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Give what is on its way a last chance."""
        if self._thread is None:
            return
        deadline = time.monotonic() + self._config.timeout_seconds
        try:
            self._queue.put(None, timeout=self._config.timeout_seconds)
        except queue.Full:
            logger.warning("{} notifications were not delivered", self._queue.qsize() + self.dropped)
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self.dropped:
            logger.warning("{} notifications were not delivered", self.dropped)
        self._thread = None

    def _deliver(self) -> None:
        while (alert := self._queue.get()) is not None:
            if self._address is not None:
                self._attempt(lambda alert=alert: self._post(alert), f"webhook at {_host(self._address)}")
            if self._config.command is not None:
                self._attempt(lambda alert=alert: self._run(alert), f"command {self._config.command[0]}")

    def _attempt(self, deliver: Callable[[], None], where: str) -> None:
        for attempt in range(ATTEMPTS):
            try:
                return deliver()
            except (OSError, HTTPException, ValueError, subprocess.SubprocessError) as error:
                if attempt + 1 == ATTEMPTS or not _worth_another_try(error):
                    self._complain(where, error)
                    return None
                time.sleep(PAUSE_SECONDS)
        return None

    def _complain(self, where: str, error: Exception) -> None:
        level = "DEBUG" if where in self._failed else "WARNING"
        self._failed.add(where)
        # Never the whole address: the path of a webhook is its password.
        text = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        if isinstance(error, (TimeoutError, subprocess.TimeoutExpired)):
            text = f"no answer within {self._config.timeout_seconds:g} seconds"
        logger.log(level, "an alert could not be sent to the {}: {}", where, text)

    def _post(self, alert: Mapping[str, Any]) -> None:
        request = urllib.request.Request(
            self._address or "",
            data=orjson.dumps(payload(alert, self._config.format), default=str),
            # Discord turns away the name that Python's library gives itself.
            headers={"Content-Type": "application/json", "User-Agent": "fettle"},
        )
        with urllib.request.urlopen(request, timeout=self._config.timeout_seconds) as answer:
            answer.read(1024)

    def _run(self, alert: Mapping[str, Any]) -> None:
        done = subprocess.run(
            self._config.command or [],
            input=orjson.dumps(dict(alert), default=str),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=self._config.timeout_seconds,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise ChildProcessError(done.returncode, said[-1] if said else f"exit status {done.returncode}")


def payload(alert: Mapping[str, Any], format: str) -> dict[str, Any]:
    """What is posted: every field, or one text as Slack or Discord show it."""
    if format == "slack":
        return {"text": _escaped(text(alert, "*"))}
    if format == "discord":
        # No @everyone out of the text of an alert.
        return {"content": text(alert, "**")[:DISCORD_CHARACTERS], "allowed_mentions": {"parse": []}}
    return dict(alert)


def text(alert: Mapping[str, Any], bold: str) -> str:
    """`⚠ *warning* my-run: Loss spike ... Look at the batch ...`"""
    head = f"{MARKS[alert['level']]} {bold}{alert['level']}{bold} {alert.get('run', '')}"
    if alert.get("change") == "resolved":
        return f"\N{WHITE HEAVY CHECK MARK} {bold}resolved{bold} {alert.get('run', '')}: {alert['message']}"
    return f"{head}: {alert['message']}\n{alert['action']}"


def _escaped(text: str) -> str:
    """As Slack wants its three characters."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _worth_another_try(error: Exception) -> bool:
    """A busy or unreachable server, and not one that understood and refused, nor a program."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code == 429 or error.code >= 500
    return isinstance(error, (urllib.error.URLError, ConnectionError, TimeoutError))


def _host(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.hostname}"
