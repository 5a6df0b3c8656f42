"""A run as one HTML file: the page with the answers of its API in it, for places that no server reaches.

Every answer is what the route gives: nothing is worked out a second time. What would make the file large is
cut where the reader can see it: the file says so.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import orjson
from fastapi import HTTPException
from starlette.responses import Response

import fettle
from fettle.errors import FettleError
from fettle.server.answer import encode, text
from fettle.server.assets import held_script, page_assets
from fettle.server.context import Context, Named

CURVES: Mapping[str, tuple[str, ...]] = {
    "train": ("loss", "streaming_ce", "learning_rate", "grad_norm", "tokens_per_sec", "step_time"),
    "system": (
        "gpu_utilization", "gpu_memory_used", "gpu_memory_total", "gpu_temperature", "gpu_power",
        "host_memory_used", "process_memory", "host_memory_total", "host_cpu",
    ),
}  # fmt: skip
"""Columns that the page draws, by record type."""
BUCKETS = 2_000
LARGEST = 1_000_000
"""Bytes of one answer."""
LARGEST_TABLE = 300_000
"""Bytes of the samples, of the log and of the pattern tables of earlier evals."""
TOO_LARGE = "Too large for a report"
MOST_SAMPLES, MOST_LINES, MOST_EVALS = 1_000, 1_000, 20

POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)


class Answers:
    """What the page would ask the server for, by the name of its route."""

    def __init__(self, server: Context, run: Named) -> None:
        self.run = run
        self.given: dict[str, bytes] = {}
        self.refused: dict[str, str] = {}
        self.notes: list[str] = []
        with run.reading():
            self._ask_small(server)
            self._ask_layers()
            self._ask_evals()
            self._ask_predictions()
            self._ask_log()
            self.curves = self._curves()

    def _ask_small(self, server: Context) -> None:
        from fettle.server import checkpoint_routes, detail_routes, run_routes, series_routes

        run = self.run
        self.given[""] = bytes(run_routes.run(server, run).body)
        self._keep("config", lambda: run_routes.config(server, run))
        self._keep("verdict", lambda: run_routes.verdict(run))
        self._keep("evals", lambda: series_routes.evals(run))
        self._keep("checkpoints", lambda: checkpoint_routes.checkpoints(run))
        self._keep("alerts", lambda: detail_routes.alerts(run))
        self._keep("concepts", lambda: detail_routes.concepts(run))
        self._keep("evaluations", lambda: detail_routes.evaluations(run))

    def _keep(self, name: str, ask: Callable[[], Response], largest: int = LARGEST) -> Any:
        """The answer as plain values; None where the route refuses it or it is too large."""
        try:
            body = bytes(ask().body)
        except (FettleError, HTTPException) as error:
            self.refused[name] = str(error.detail if isinstance(error, HTTPException) else error)
            return None
        if len(body) > largest:
            self.refused[name] = f"{TOO_LARGE} ({len(body) / 1e6:.1f} MB): fettle serve shows it."
            return None
        self.given[name] = body
        self.refused.pop(name, None)
        return orjson.loads(body)

    def _keep_most(self, name: str, ask: Callable[[int], Response], most: int) -> Any:
        """The answer with as many rows as fit, `most` at first."""
        found: Any = None
        while most and (found := self._keep(name, partial(ask, most), LARGEST_TABLE)) is None:
            most = most // 2 if self.refused[name].startswith(TOO_LARGE) else 0
        return found

    def _ask_layers(self) -> None:
        """Of the history only what is drawn, that of the layers that moved most."""
        from fettle.server import detail_routes

        found = self._keep("layers", lambda: detail_routes.layers(self.run), 100 * LARGEST)
        if found is not None and len(self.given["layers"]) > LARGEST_TABLE:
            drawn = {row["layer"] for row in found["top"]}
            found["history"] = [row for row in found["history"] if row["layer"] in drawn]
            self.given["layers"] = encode(found)

    def _ask_evals(self) -> None:
        """Samples of the last eval, and the pattern tables of as many evals as fit."""
        from fettle.server import sample_routes

        run = self.run
        tables = self._keep("patterns", lambda: sample_routes.patterns(run))
        samples = self._keep_most("samples", lambda n: sample_routes.samples(run, limit=n), MOST_SAMPLES)
        if samples is not None and len(samples["samples"]) < samples["total"]:
            self.notes.append(f"the {len(samples['samples']):,} worst of {samples['total']:,} samples")
        earlier: list[int] = tables["steps"][-2::-1] if tables is not None else []
        held = 0
        for step in earlier[:MOST_EVALS]:
            self._keep(f"patterns {step}", partial(sample_routes.patterns, run, step))
            held += len(self.given.get(f"patterns {step}", b""))
            if held > LARGEST_TABLE:
                break

    def _ask_predictions(self) -> None:
        from fettle.server import detail_routes

        run = self.run
        found = self._keep("predictions", lambda: detail_routes.predictions(run), 100 * LARGEST)
        if found is not None and len(self.given.pop("predictions")) > LARGEST:
            last = found["steps"][-1]
            self.notes.append(f"of the predictions only those at step {last:,}")
            self._keep("predictions", lambda: detail_routes.predictions(run, step=last))
        elif found is not None:
            self.given["predictions"] = encode(found)

    def _ask_log(self) -> None:
        from fettle.server import log_routes

        found = self._keep_most("logs", lambda n: log_routes.logs(self.run, limit=n, offset=-n), MOST_LINES)
        if found is not None and len(found["lines"]) < found["total_lines"]:
            self.notes.append(f"the last {len(found['lines']):,} of {found['total_lines']:,} log lines")

    def _curves(self) -> dict[str, dict[str, Any]]:
        """Curves by record type and column, each in at most `BUCKETS` buckets with their extremes."""
        columns: Mapping[str, list[str]] = orjson.loads(self.given[""])["columns"]
        found = {
            f"{type} {column}": self._curve(type, column)
            for type, names in CURVES.items()
            for column in names
            if column in columns.get(type, ())
        }
        if any(not curve["raw"] for curve in found.values()):
            self.notes.append(f"curves in {BUCKETS:,} buckets with their extremes")
        return found

    def _curve(self, type: str, column: str) -> dict[str, Any]:
        from fettle.server import series_routes

        fields = ["x_first", "mean", "min", "max", "nan_count", "inf_count", "minus_inf_count"]
        asked = ",".join(fields)
        answer = series_routes.series(self.run, column, "step", type, width=BUCKETS, fields=asked)
        rows = np.frombuffer(answer.body, dtype="<f8").reshape(-1, len(fields))
        raw = answer.headers["X-Raw"] == "1"
        # A count of nothing, and the extremes of a single row, say nothing.
        kept = [i for i, name in enumerate(fields) if rows[:, i].any() or name in ("x_first", "mean")]
        kept = [i for i in kept if not (raw and fields[i] in ("min", "max"))]
        packed = base64.b64encode(np.ascontiguousarray(rows[:, kept]).tobytes()).decode()
        return {"fields": ",".join(fields[i] for i in kept), "raw": raw, "data": packed}


def report_page(server: Context, run: Named) -> bytes:
    """The file. Raises RunError where the run cannot be read, OSError where the page is not installed."""
    answers = Answers(server, run)
    assets = page_assets()
    script, style = held_script() + assets["/static/app.js"].body, assets["/static/app.css"].body
    told = {"run": run.listed.id, "refused": answers.refused, "curves": answers.curves}
    given = b",".join(encode(name) + b":" + body for name, body in answers.given.items())
    data = encode(told)[:-1] + b',"answers":{' + given + b"}}"
    icon = base64.b64encode(assets["/static/icon.svg"].body).decode()
    policy = POLICY.format(script=_digest(script), style=_digest(style))
    name, note = html.escape(text(run.listed.summary.name)), _note(answers.notes)
    parts = {
        "<title>fettle</title>": f"<title>{name} · fettle</title>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        'href="/static/icon.svg"': f'href="data:image/svg+xml;base64,{icon}"',
        '<link rel="stylesheet" href="/static/app.css">': f"<style>{style.decode()}</style>",
        '<script type="module" src="/static/app.js"></script>': "",
        '<div class="page">': f'<p class="footnote report-note">{note}</p>\n<div class="page">',
        "</body>": f'<script type="application/json" id="answers">{_embedded(data)}</script>\n'
        f'<script type="module">{script.decode()}</script>\n</body>',
    }
    page = assets["/"].body.decode()
    for place, part in parts.items():
        before, _, after = page.partition(place)
        page = before + part + after
    return page.encode()


def _embedded(data: bytes) -> str:
    """JSON that cannot end the element it stands in: only its texts hold these characters."""
    safe = data.replace(b"<", b"\\u003c").decode()
    return safe.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _digest(content: bytes) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content).digest()).decode()


def _note(notes: list[str]) -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    holds = f" It holds {', '.join(notes)}." if notes else ""
    return f"Report of {now}, by fettle {fettle.__version__}.{holds}"
