"""Who is let in, and what an answer forbids: every way in that a browser or a stranger has."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from fettle.cli import cli
from fettle.cli.serve import is_news
from fettle.errors import RunError
from server.live_server import serving
from server.runs_on_disk import begin, finished

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Generator[httpx.Client]:
    """A server on all addresses: it asks for a token, which this client has."""
    root = tmp_path_factory.mktemp("guarded") / "runs"
    begin(root / "a")
    with serving(root, "--host", "0.0.0.0") as client:
        yield client


def bare(client: httpx.Client) -> httpx.Client:
    """A client of the same server that knows no token."""
    return httpx.Client(base_url=client.base_url.copy_with(host="127.0.0.1"))


def test_every_answer_forbids_scripts_frames_and_guessing(client: httpx.Client) -> None:
    for address in ("/", "/api/runs", "/api/runs/alpha/series", "/nothing", "/api/runs/none"):
        headers = client.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers
    assert client.get("/api/runs").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::"]
)
def test_a_host_that_is_not_ours_is_refused(client: httpx.Client, host: str) -> None:
    assert client.get("/api/runs", headers={"Host": host}).status_code in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9", "LOCALHOST:1", "[::1]:8377"])
def test_names_of_this_machine_are_taken(client: httpx.Client, host: str) -> None:
    assert client.get("/api/runs", headers={"Host": host}).status_code == 200


def test_two_hosts_are_refused(client: httpx.Client) -> None:
    url = client.base_url
    with socket.create_connection((url.host, url.port)) as line:
        line.sendall(
            b"GET /api/runs HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        )
        assert line.recv(100).split()[1] in (b"400", b"421")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_other_sites_read_nothing(client: httpx.Client, headers: dict[str, str]) -> None:
    assert client.get("/api/runs", headers=headers).status_code == 403


def test_our_own_page_and_a_followed_link_are_let_in(client: httpx.Client) -> None:
    origin = f"http://{client.base_url.host}:{client.base_url.port}"
    assert (
        client.get("/api/runs", headers={"Origin": origin, "Sec-Fetch-Site": "same-origin"}).status_code
        == 200
    )
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=followed).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain", "X-Fettle": "1"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded", "X-Fettle": "1"}, 415),
        ({"X-Fettle": "1"}, 415),
        (JSON, 403),
        ({**JSON, "Sec-Fetch-Site": "cross-site", "X-Fettle": "1"}, 403),
        ({**JSON, "Origin": "http://evil.example", "X-Fettle": "1"}, 403),
    ],
)
def test_what_changes_something_needs_json_from_our_own_page(
    client: httpx.Client, headers: dict[str, str], status: int
) -> None:
    request = client.build_request(
        "POST", "/api/runs/alpha/control", content=b'{"action":"stop"}', headers=headers
    )
    if "Content-Type" not in headers:
        request.headers.pop("Content-Type", None)
    assert client.send(request).status_code == status


def test_a_body_is_small_and_says_how_long_it_is(client: httpx.Client) -> None:
    def parts() -> Generator[bytes]:
        yield b"{}"

    headers = {**JSON, "X-Fettle": "1"}
    for content in (b" " * 70_000, parts()):
        assert client.post("/api/runs/alpha/control", content=content, headers=headers).status_code == 413


def test_a_cross_origin_request_may_not_ask_first(client: httpx.Client) -> None:
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = client.options("/api/runs/alpha/control", headers=asked)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_another_address_asks_for_the_token_that_was_printed(guarded: httpx.Client) -> None:
    token = guarded.headers["authorization"].removeprefix("Bearer ")
    assert len(token) >= 32
    guarded.base_url = guarded.base_url.copy_with(host="127.0.0.1")
    assert guarded.get("/api/runs").status_code == 200
    with bare(guarded) as stranger:
        for address in ("/", "/api/runs", "/api/health", "/api/openapi.json", "/static/x.js"):
            answer = stranger.get(address)
            assert answer.status_code == 401, address
            assert answer.headers["www-authenticate"] == "Bearer"
        wrong = ["", "Bearer", f"Bearer {token}x", f"Bearer {token[:-1]}", f"Basic {token}", "Bearer ü"]
        for given in wrong:
            headers = {"Authorization": given.encode()}
            assert stranger.get("/api/runs", headers=headers).status_code == 401, given
        assert stranger.get("/api/runs", params={"token": token}).status_code == 401
        assert stranger.get("/", params={"token": token + "x"}).status_code == 401


def test_the_printed_address_leaves_a_cookie_and_no_token_in_the_address(guarded: httpx.Client) -> None:
    token = guarded.headers["authorization"].removeprefix("Bearer ")
    with bare(guarded) as browser:
        answer = browser.get("/", params={"token": token})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert browser.get("/api/runs").status_code == 200
        browser.cookies.set("fettle_token", "wrong")
        browser.cookies.delete("fettle_token", domain="127.0.0.1")
        assert browser.get("/api/runs").status_code == 401


def test_an_open_address_takes_addresses_and_its_own_names_only(guarded: httpx.Client) -> None:
    for host, status in [
        ("192.168.1.7:80", 200),
        (socket.gethostname(), 200),
        ("evil.example", 421),
    ]:
        assert guarded.get("/api/runs", headers={"Host": host}).status_code == status


def test_a_given_token_and_a_further_name_are_taken(tmp_path: Path) -> None:
    begin(tmp_path / "runs" / "a")
    options = ("--token", "s3cret", "--allow-host", "Lab.Example")
    with serving(tmp_path / "runs", *options, new_interpreter=True) as client:
        assert client.headers["authorization"] == "Bearer s3cret"
        assert client.get("/api/runs", headers={"Host": "lab.example"}).status_code == 200
        assert client.get("/api/runs", headers={"Authorization": "Bearer other"}).status_code == 401


@pytest.mark.parametrize(
    "address",
    [
        "/api/runs/..", "/api/runs/%2e%2e", "/api/runs/..%2f..%2fetc%2fpasswd", "/api/runs/%2Fetc",
        "//etc/passwd", "/api/runs/alpha%2ffixed_eval", "/api/runs/alpha%5c..", "/api/runs/alpha%00",
        "/api/runs/%00", "/api/runs/alpha/../../x", "/api/runs/alpha~checkpoints", "/api/runs/~",
        "/api/runs/.", "/api/runs/%23", "/api/runs/team", "/api/runs/team~..~alpha", "/static/../app.py",
        "/static/..%2fapp.py", "/static/%2e%2e/%2e%2e/errors.py", "/static//etc/passwd",
        "/api/training/checkpoints/..%2falpha", "/api/runs/" + "a" * 5000, "/api/runs/%ff%fe",
    ],
)  # fmt: skip
def test_names_are_looked_up_and_lead_nowhere_else(client: httpx.Client, address: str) -> None:
    url = client.base_url
    with socket.create_connection((url.host, url.port)) as line:  # As it stands: a client would tidy it up.
        line.sendall(f"GET {address} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while block := line.recv(65536):
            answer += block
    assert answer.split()[1] in (b"404", b"400"), answer[:300]
    assert b"root:" not in answer
    assert b"Errors whose cure" not in answer


def test_runs_with_hostile_names_are_served_under_names_that_work(tmp_path: Path) -> None:
    names = [
        "#",
        "a?b=c",
        "50%",
        "%2e%2e",
        "<img src=x onerror=alert(1)>",
        "a b",
        "back\\slash",
        "x~y",
        "ü\u202e",
    ]
    for name in names:
        finished(tmp_path / "runs" / name, steps=6)
    latin = finished(tmp_path / "runs" / "latin", steps=6).path
    latin.rename(str(latin) + "-\udce9")
    finished(tmp_path / "runs" / "x" / "y", steps=6)  # Its id would be that of "x~y".
    with serving(tmp_path / "runs") as client:
        rows = client.get("/api/runs").json()["runs"]
        assert {row["name"] for row in rows} == {*names, "latin-\ufffd", "y"}
        assert len({row["id"] for row in rows}) == len(names) + 2
        for row in rows:
            url = client.base_url.copy_with(raw_path=b"/api/runs/" + _quoted(row["id"]))
            assert client.get(url).json()["name"] == row["name"]


def _quoted(text: str) -> bytes:
    return b"".join(b"%%%02x" % byte for byte in text.encode())


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("top secret")
    finished(tmp_path / "outside", steps=6)
    finished(root / "whole", steps=6)
    (root / "linked").symlink_to(tmp_path / "outside")
    (root / "again").symlink_to(root / "whole")
    for name in ("config.yaml", "logs/train.log", "status.json", "checkpoints/checkpoint-6/fettle.json"):
        folder = finished(root / name.replace("/", "_"), steps=6)
        (folder.path / name).unlink()
        (folder.path / name).symlink_to(tmp_path / "secret" / "key")
    with serving(root) as client:
        rows = {row["id"]: row for row in client.get("/api/runs").json()["runs"]}
        assert "linked" not in rows
        assert client.get("/api/runs/linked").status_code == 404
        assert "whole" in rows
        assert "again" not in rows
        for name in ("config.yaml", "logs_train.log", "status.json", "checkpoints_checkpoint-6_fettle.json"):
            for part in ("", "/config", "/logs", "/checkpoints", "/verdict", "/export"):
                answer = client.get(f"/api/runs/{name}{part}")
                assert answer.status_code == 422, (name, part)
                assert "link out of the served folder" in answer.json()["detail"]
                assert "secret" not in answer.text


def test_a_link_that_appears_later_is_refused_too(tmp_path: Path) -> None:
    folder = finished(tmp_path / "runs" / "a", steps=6)
    (tmp_path / "secret").write_text("top secret")
    with serving(tmp_path / "runs") as client:
        assert client.get("/api/runs/a/logs").status_code == 200
        folder.log_path.unlink()
        folder.log_path.symlink_to(tmp_path / "secret")
        assert "secret" not in client.get("/api/runs/a/logs").text
        folder.config_path.unlink()
        folder.config_path.symlink_to(tmp_path / "secret")
        assert client.get("/api/runs/a/config").status_code == 422


def test_the_command_prints_one_line_and_cures(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fettle", "serve", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(str(tmp_path), "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert re.fullmatch(r"fettle: cannot listen on 127\.0\.0\.1:\d+: .*\n", done.stderr)
    result = CliRunner().invoke(cli, ["serve", str(tmp_path / "none")])
    assert isinstance(result.exception, RunError)
    assert re.fullmatch(r".* is no folder\. .*fettle serve FOLDER", str(result.exception))


def test_what_is_cut_off_when_the_server_stops_is_no_news() -> None:
    def news(message: str, error: BaseException | None = None) -> bool:
        told = None if error is None else (type(error), error, None)
        return is_news(logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, message, (), told))

    assert not news("Exception in ASGI application", asyncio.CancelledError())
    assert not news("Cancel 1 running task(s), timeout graceful shutdown exceeded")
    assert news("Exception in ASGI application", ValueError("a defect"))
    assert news("another line")
