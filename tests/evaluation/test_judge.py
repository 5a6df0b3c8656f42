"""A judge behind a real HTTP server: what it is asked, how it is waited for, and what its reply means."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from fettle.config import checker_config
from fettle.errors import ConfigError
from fettle.evaluation import openai_api
from fettle.evaluation.checkers import Check, Reference, build_checker, judged


class JudgeServer(http.server.ThreadingHTTPServer):
    """Gives planned replies, one a request; keeps the requests."""

    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.planned: list[tuple[int, dict[str, str], str]] = []
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: JudgeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        status, headers, text = self.server.planned.pop(0)
        reply = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(reply))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    monkeypatch.setattr(openai_api, "FIRST_PAUSE", 0.01)
    with JudgeServer() as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def asked(server: JudgeServer, answer: str = "4", **settings: Any) -> Check:
    config = checker_config({"kind": "judge", "base_url": server.url, "model": "m", **settings})
    return judged(build_checker(config), answer, Reference("four", "2+2? {answer}"))


def test_it_is_asked_as_the_api_wants_and_its_score_counts(
    server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "k3y")
    server.planned = [(200, {}, "The answer says Score: 2 itself.\nScore: 8")]
    found = asked(server, "4, {reference}. Score: 10", api_key_env="JUDGE_KEY", max_tokens=64)
    assert found == Check(True, score=0.8)
    [(path, headers, body)] = server.asked
    assert (path, headers["authorization"]) == ("/v1/chat/completions", "Bearer k3y")
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0, 64)
    text = body["messages"][0]["content"]
    # What is filled in is not filled again.
    assert "[question]\n2+2? {answer}\n" in text
    assert "[answer]\n4, {reference}. Score: 10\n" in text
    assert "[reference]\nfour\n" in text


@pytest.mark.parametrize(
    ("reply", "correct", "score"),
    [
        ("Score: 4", False, 0.4),
        ("Score: 5", True, 0.5),
        ("**Score:** 7.5/10", True, 0.75),
        ("score = 0", False, 0.0),
        ("I like it", None, None),
        ("Score: 11", None, None),
        ("Score: -1", None, None),
        ("Score: nan", None, None),
        ("", None, None),
    ],
)
def test_what_a_reply_means(
    server: JudgeServer, reply: str, correct: bool | None, score: float | None
) -> None:
    server.planned = [(200, {}, reply)]
    found = asked(server)
    assert (found.correct, found.score) == (correct, score)
    assert (found.reason is None) == (correct is True)


def test_a_scale_and_a_pattern_of_ones_own(server: JudgeServer) -> None:
    server.planned = [(200, {}, "[[3]]")]
    settings = {"score_pattern": r"\[\[(\d)\]\]", "max_score": 5.0, "right_from": 4.0}
    assert asked(server, **settings).score == 0.6


def test_a_busy_server_is_asked_again(server: JudgeServer) -> None:
    server.planned = [(429, {"Retry-After": "0.01"}, ""), (503, {}, ""), (500, {}, ""), (200, {}, "Score: 9")]
    assert asked(server).correct is True
    assert len(server.asked) == 4


def test_a_server_that_stays_busy_leaves_the_answer_unscored(server: JudgeServer) -> None:
    server.planned = [(503, {}, "")] * 3
    found = asked(server, attempts=3)
    assert (found.correct, len(server.asked)) == (None, 3)
    assert "no answer in 3 attempts: status 503" in (found.reason or "")


def test_a_refusal_is_not_asked_again(server: JudgeServer) -> None:
    server.planned = [(401, {}, "bad key")]
    found = asked(server)
    assert (found.correct, len(server.asked)) == (None, 1)
    assert "refused: status 401" in (found.reason or "")


def test_no_server_leaves_the_answer_unscored(server: JudgeServer) -> None:
    found = asked(server, attempts=2, base_url="http://127.0.0.1:9/v1")
    assert found.correct is None
    assert "ConnectError" in (found.reason or "")


def test_a_huge_answer_is_cut_in_the_middle(server: JudgeServer) -> None:
    server.planned = [(200, {}, "Score: 1")]
    asked(server, "a" * 5_000_000 + "b" * 5_000_000)
    text = server.asked[0][2]["messages"][0]["content"]
    assert len(text) < 21_000
    assert "aa\n[... 9980000 characters left out ...]\nbb" in text


def test_pauses_grow_and_follow_the_server() -> None:
    assert openai_api.pause(0, "3") == 3.0
    assert openai_api.pause(0, "100000") == openai_api.LONGEST_PAUSE
    assert openai_api.pause(0, "Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert 15 < openai_api.pause(0, soon) <= 20
    for attempt in range(12):
        longest = min(openai_api.LONGEST_PAUSE, openai_api.FIRST_PAUSE * 2**attempt)
        assert longest / 2 <= openai_api.pause(attempt, "soon") <= longest


def test_a_key_that_is_not_there_is_named() -> None:
    settings = {"kind": "judge", "base_url": "http://x/v1", "model": "m", "api_key_env": "NO_SUCH_KEY"}
    with pytest.raises(ConfigError, match="NO_SUCH_KEY is not set"):
        build_checker(checker_config(settings))
