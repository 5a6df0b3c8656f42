"""A run as one HTML file: it holds what the server answers, and nothing that could run or load."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import CliRunner

from fettle.cli import cli
from fettle.errors import RunError
from fettle.runs import EventLog
from fettle.server import report
from fettle.server.assets import STATIC
from server.runs_on_disk import begin, finished

CUT = "Too large for a report"


class Elements(HTMLParser):
    """The scripts of a page, by what they are, and every address that it names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self.policy = ""
        self.addresses: list[str] = []
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self._open = tag
        self.addresses += [told[name] or "" for name in ("src", "href") if name in told]
        if tag == "script":
            self.scripts.append((told, ""))
        if told.get("http-equiv") == "Content-Security-Policy":
            self.policy = told["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            told, text = self.scripts[-1]
            self.scripts[-1] = (told, text + data)
        elif self._open == "style":
            self.styles.append(data)


def held(page: str) -> dict[str, Any]:
    data = [text for told, text in Elements(page).scripts if told.get("type") == "application/json"]
    assert len(data) == 1
    return json.loads(data[0])


def curve(found: dict[str, Any], name: str) -> dict[str, np.ndarray]:
    fields = found["curves"][name]["fields"].split(",")
    rows = np.frombuffer(base64.b64decode(found["curves"][name]["data"]), dtype="<f8")
    return dict(zip(fields, rows.reshape(-1, len(fields)).T, strict=True))


def written(run: Path, out: Path) -> str:
    result = CliRunner().invoke(cli, ["report", str(run), "--out", str(out)], catch_exceptions=False)
    assert result.output.strip() == str(out)
    return out.read_text(encoding="utf-8")


def test_every_answer_of_a_report_is_that_of_the_server(client: httpx.Client) -> None:
    answer = client.get("/api/runs/alpha/report.html")
    assert answer.headers["content-disposition"] == 'attachment; filename="alpha.html"'
    found = held(answer.text)
    assert found["run"] == "alpha"
    assert found["refused"] == {}
    for name in ("", "config", "verdict", "evals", "checkpoints", "alerts", "layers", "predictions"):
        assert found["answers"][name] == client.get(f"/api/runs/alpha/{name}".rstrip("/")).json(), name
    assert found["answers"]["samples"] == client.get("/api/runs/alpha/samples", params={"limit": 1000}).json()
    assert len(found["answers"]["samples"]["samples"]) == 200
    for step in (20, 40):
        of_step = client.get("/api/runs/alpha/patterns", params={"step": step}).json()
        assert found["answers"][f"patterns {step}"] == of_step
    served = client.get("/api/runs/alpha/series", params={"y": "grad_norm", "fields": "x_first,mean"}).content
    assert base64.b64decode(found["curves"]["train grad_norm"]["data"]) == served


def test_the_command_writes_what_the_server_sends(client: httpx.Client, folder: Path, tmp_path: Path) -> None:
    theirs = held(client.get("/api/runs/team~beta/report.html").text)
    ours = held(written(folder / "team" / "beta", tmp_path / "report.html"))
    assert ours.pop("run") == "beta"
    assert theirs.pop("run") == "team~beta"
    assert theirs["answers"][""].pop("id") == "team~beta"
    ours["answers"][""].pop("id")
    assert ours == theirs


def test_only_its_own_script_can_run_and_nothing_is_loaded(folder: Path, tmp_path: Path) -> None:
    elements = Elements(written(folder / "alpha", tmp_path / "report.html"))
    runs = [text for told, text in elements.scripts if told.get("type") == "module"]
    assert len(runs) == 1
    assert len(elements.scripts) == 2
    for kind, content in (("script", runs[0]), ("style", "".join(elements.styles))):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in elements.policy
    assert elements.policy.startswith("default-src 'none'; ")
    assert [at for at in elements.addresses if not at.startswith(("#", "data:image/svg+xml"))] == []


@pytest.mark.parametrize("hostile", ["</script><script>alert(1)</script>", "<!--<script>", "a\u2028b\u2029c"])
def test_texts_of_a_run_cannot_leave_their_place(tmp_path: Path, hostile: str) -> None:
    folder = finished(tmp_path / "run", steps=6, model={"name": hostile}, tags=[hostile])
    log = EventLog(folder.metrics_path)
    log.append("alert", {"category": hostile, "level": "warning", "message": hostile, "first_step": 1})
    log.close()
    folder.log_path.write_text(f"{hostile}\n", encoding="utf-8")
    page = written(folder.path, tmp_path / "report.html")
    assert len(Elements(page).scripts) == 2
    found = held(page)
    assert found["answers"]["alerts"]["alerts"][0]["message"] == hostile
    assert found["answers"][""]["model"] == hostile
    assert not {"\u2028", "\u2029"} & set(page)


def test_a_name_of_a_run_is_text_in_the_title(tmp_path: Path) -> None:
    finished(tmp_path / "<b>&run<b>", steps=6)
    page = written(tmp_path / "<b>&run<b>", tmp_path / "report.html")
    assert "<title>&lt;b&gt;&amp;run&lt;b&gt; · fettle</title>" in page


def test_a_long_run_keeps_its_spikes_and_stays_small(tmp_path: Path) -> None:
    folder, log = begin(tmp_path / "long")
    log.close()
    rng = np.random.default_rng(0)
    loss = 1 + 0.1 * rng.standard_normal(60_000)
    loss[[123, 45_678]] = 9.5, -4.25
    with folder.metrics_path.open("a", encoding="utf-8") as lines:
        for step, value in enumerate(loss.tolist(), 1):
            nan = step == 30_000
            told = {"loss": None, "loss_nonfinite": "nan"} if nan else {"loss": value}
            lines.write(json.dumps({"type": "train", "step": step, **told, "grad_norm": value}) + "\n")
    page = written(folder.path, tmp_path / "report.html")
    assert len(page) < 700_000
    found = curve(held(page), "train loss")
    assert found["x_first"].size == 2000
    assert (found["max"].max(), found["min"].min()) == (9.5, -4.25)
    assert found["nan_count"].sum() == 1
    assert found["x_first"][np.argmax(found["max"])] <= 124 < found["x_first"][np.argmax(found["max"]) + 1]
    assert "curves in 2,000 buckets with their extremes" in page


def test_what_is_cut_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = finished(tmp_path / "run")
    folder.log_path.write_text("".join(f"line {i}\n" for i in range(5000)), encoding="utf-8")
    monkeypatch.setattr(report, "LARGEST_TABLE", 12_000)
    page = written(folder.path, tmp_path / "report.html")
    found = held(page)["answers"]
    lines, samples = found["logs"]["lines"], found["samples"]["samples"]
    assert lines[-1]["text"] == "line 4999"
    assert f"the last {len(lines):,} of 5,000 log lines" in page
    assert 10 < len(samples) < 200
    assert f"the {len(samples)} worst of 200 samples" in page
    worst = [row["cross_entropy"] for row in samples]
    assert worst == sorted(worst, reverse=True)


def test_what_cannot_be_read_says_why_and_the_rest_stands(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run", steps=6)
    folder.config_path.write_text("a: [1", encoding="utf-8")
    found = held(written(folder.path, tmp_path / "report.html"))
    assert "no YAML that can be read" in found["refused"]["config"]
    assert found["answers"]["evals"]["evals"]


def test_a_run_of_another_tool_has_a_report(tmp_path: Path) -> None:
    path = tmp_path / "out" / "trainer_state.json"
    path.parent.mkdir()
    rows = [{"step": step, "loss": 3 / step, "epoch": step / 10} for step in range(1, 11)]
    state = {"global_step": 10, "max_steps": 10, "log_history": [*rows, {"step": 10, "eval_loss": 0.5}]}
    path.write_text(json.dumps(state), encoding="utf-8")
    for run in (path.parent, path):
        found = held(written(run, tmp_path / "report.html"))
        assert found["answers"][""]["kind"] == "huggingface"
        assert curve(found, "train loss")["mean"].tolist() == [3 / step for step in range(1, 11)]
        assert found["answers"]["evals"]["evals"][0]["cross_entropy"] == 0.5


def test_every_curve_of_the_page_is_held() -> None:
    drawn = {"train": set[str](), "system": set[str]()}
    for name in ("loss", "optimiser", "speed", "machine"):
        text = (STATIC / "panels" / f"{name}.js").read_text(encoding="utf-8")
        type = "system" if name == "machine" else "train"
        drawn[type] |= set(re.findall(r'(?:column: |\bline\()"(\w+)"', text))
    assert drawn == {type: set(names) for type, names in report.CURVES.items()}


@pytest.mark.parametrize(
    ("run", "out", "told"),
    [
        ("run", "no/such/folder.html", "cannot be written: No such file or directory. Give another --out."),
        ("run", ".", "cannot be written: Is a directory. Give another --out."),
        ("absent", "report.html", "there is no such run"),
        ("empty", "report.html", "is no run"),
    ],
)
def test_what_cannot_be_written_or_read_is_told_in_one_line(
    tmp_path: Path, run: str, out: str, told: str
) -> None:
    finished(tmp_path / "run", steps=6)
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(cli, ["report", str(tmp_path / run), "--out", str(tmp_path / out)])
    assert isinstance(result.exception, RunError)
    assert told in str(result.exception)
    assert "\n" not in str(result.exception)
