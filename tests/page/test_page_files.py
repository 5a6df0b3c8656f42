"""The files of the page as the server sends them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from fettle.server import page
from fettle.server.assets import page_assets


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    page.add_page(app)
    return TestClient(app)


def test_the_page_names_only_files_that_are_there(client: TestClient) -> None:
    html = client.get("/").text
    named = re.findall(r'(?:href|src)="(/[^"]+)"', html)
    assert len(named) == 3
    for address in named:
        assert client.get(address).status_code == 200


def test_files_are_packed_where_the_browser_takes_that(client: TestClient) -> None:
    packed = client.get("/static/app.js", headers={"Accept-Encoding": "gzip"})
    plain = client.get("/static/app.js", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.text == plain.text
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 2


def test_a_file_that_has_not_changed_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/static/app.css")
    again = client.get("/static/app.css", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/static/app.css", headers={"If-None-Match": '"other"'}).status_code == 200


def test_an_installation_without_the_page_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(page, "page_assets", lambda: page_assets(tmp_path))
    app = FastAPI()
    page.add_page(app)
    assert "not built" in TestClient(app).get("/").text
