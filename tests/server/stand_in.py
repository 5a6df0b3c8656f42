"""The page's contract from a folder of runs, with the standard library only."""

# ruff: noqa: E501, PERF401

from __future__ import annotations

import json
import math
import struct
import sys
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from fettle import api
from fettle.decide.paired import pair
from fettle.runs.samples import load_samples
from fettle.server.assets import page_assets

BINS = (0, 100, 300, 500, 1000, 2000)
LABELS = ["0-100", "100-300", "300-500", "500-1000", "1000-2000", "2000+"]
CSP = "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"


CACHE: dict[Any, Any] = {}


def open_run(path: Path) -> Any:
    """The run, read again only where its log has grown."""
    key = (str(path), (path / "metrics.jsonl").stat().st_size)
    if key not in CACHE:
        CACHE[key] = api.open_run(path)
    return CACHE[key]


class Handler(BaseHTTPRequestHandler):
    root: Path
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        parts = [unquote(p) for p in url.path.split("/") if p]
        try:
            if parts[:1] == ["api"]:
                self._api(parts[1:], query)
            else:
                asset = page_assets()[url.path]
                self._send(asset.body, asset.media_type)
        except (KeyError, FileNotFoundError):
            self._send(b'{"detail": "not found"}', "application/json", 404)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def do_POST(self) -> None:
        self._send(b'{"detail": "control is off: start the server with --control"}', "application/json", 403)

    def _send(self, body: bytes, kind: str, code: int = 200, **headers: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", CSP)
        self.send_header("Cache-Control", "no-store")
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), v)
        self.end_headers()
        self.wfile.write(body)

    def _json(self, value: Any) -> None:
        self._send(json.dumps(_plain(value)).encode(), "application/json")

    def _runs(self) -> dict[str, Path]:
        return {p.name: p for p in sorted(self.root.iterdir()) if (p / "metadata.json").is_file()}

    def _api(self, parts: list[str], query: dict[str, str]) -> None:
        if parts == ["health"]:
            return self._json({"version": "0.1.0", "control": False, "runs": len(self._runs())})
        if parts == ["runs"]:
            rows = [_row(n, p) for n, p in self._runs().items() if query.get("q", "").lower() in n.lower()]
            key = query.get("sort", "-updated_at")
            rows.sort(key=lambda row: row[key.lstrip("-")] or 0, reverse=key.startswith("-"))
            return self._json({"total": len(rows), "runs": rows})
        if parts == ["stream"]:
            return self._stream(self._runs()[query["run"]])
        if parts == ["compare"]:
            return self._json(_compare({i: self._runs()[i] for i in query["ids"].split(",")}))
        path = self._runs()[parts[1]]
        run = open_run(path)
        if len(parts) == 2:
            row = _row(parts[1], path)
            types = ("train", "fixed_eval", "system", "checkpoint", "alert", "layers")
            row |= {
                "status": run.status(),
                "metadata": run.metadata(),
                "columns": {t: sorted(run.columns(t)) for t in types},
                "counts": {t: len(run.records(t)) for t in types},
            }
            return self._json(row)
        name = parts[2]
        if name == "series":
            return self._series(run, query)
        return self._json(getattr(sys.modules[__name__], f"_{name}")(run, path, query))

    def _series(self, run: Any, query: dict[str, str]) -> None:
        columns = run.columns(query.get("type", "train"))
        x, y = columns[query.get("x", "step")], columns[query["y"]]
        flag = {
            int(r["step"]): r.get(query["y"] + "_nonfinite") for r in run.records(query.get("type", "train"))
        }
        keep = (x >= float(query.get("from") or -math.inf)) & (x <= float(query.get("to") or math.inf))
        x, y = x[keep], y[keep]
        width = int(query.get("width", 1000))
        raw = len(x) <= width
        groups = np.array_split(np.arange(len(x)), len(x) if raw else width) if len(x) else []
        out = []
        for g in groups:
            v = y[g][np.isfinite(y[g])]
            kinds = [flag.get(int(s)) for s in x[g]]
            stats = [v.min(), v.max(), v.mean()] if len(v) else [math.nan] * 3
            out.append([x[g][0], x[g][-1], *stats, len(v), *(kinds.count(k) for k in ("nan", "inf", "-inf"))])
        fields = "x_first,x_last,min,max,mean,count,nan_count,inf_count,minus_inf_count".split(",")
        chosen = query["fields"].split(",") if "fields" in query else fields
        at = [fields.index(name) for name in chosen]
        body = b"".join(struct.pack(f"<{len(at)}d", *(row[i] for i in at)) for row in out)
        self._send(
            body,
            "application/octet-stream",
            X_Rows=str(len(out)),
            X_Fields=",".join(chosen),
            X_Raw=str(int(raw)),
        )

    def _stream(self, path: Path) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        log = path / "metrics.jsonl"
        sent = self.headers.get("Last-Event-ID", "")
        offset = int(sent.split(":")[1]) if ":" in sent else log.stat().st_size
        self.wfile.write(b": hello\n\n")
        self.wfile.flush()
        while not self.server.stopping:  # type: ignore[attr-defined]
            with log.open("rb") as stream:
                stream.seek(offset)
                block = stream.read()
            lines, offset = block[: block.rfind(b"\n") + 1], offset + block.rfind(b"\n") + 1
            rows: dict[str, list[Any]] = {}
            for line in lines.splitlines():
                record = json.loads(line)
                rows.setdefault(record["type"], []).append(record)
            if "train" in rows:
                names = list(
                    dict.fromkeys(
                        k
                        for r in rows["train"]
                        for k, v in r.items()
                        if isinstance(v, (int, float)) or k == "loss"
                    )
                )
                self._event("columns", {"train": names}, offset)
                rows["train"] = [[r.get(n + "_nonfinite", r.get(n)) for n in names] for r in rows["train"]]
            if "resume" in rows:
                self._event("rewind", {"step": rows["resume"][-1]["step"]}, offset)
            if rows:
                self._event("rows", rows, offset)
                self._event("status", _row(path.name, path), offset)
            time.sleep(0.1)

    def _event(self, event: str, data: Any, offset: int) -> None:
        text = f"id: 0:{offset}\nevent: {event}\ndata: {json.dumps(_plain(data))}\n\n"
        self.wfile.write(text.encode())
        self.wfile.flush()


def _row(id: str, path: Path) -> dict[str, Any]:
    run = open_run(path)
    status, evals = run.status() or {}, run.evals(per_sample=False)
    last = evals[-1] if evals else None
    train = run.columns("train")
    step = int(train["step"][-1]) if "step" in train else None
    return {
        "id": id, "name": id, "kind": run.kind, "state": status.get("state"), "step": step,
        "total_steps": status.get("total_steps"), "epoch": status.get("epoch"),
        "updated_at": status.get("updated_at"), "started_at": 1_795_197_852.0, "model": "Qwen/Qwen3-8B",
        "loss": float(train["loss"][-1]) if "loss" in train else None, "streaming_ce": status.get("streaming_ce"),
        "exact_match": last and last.exact_match, "cross_entropy": last and last.cross_entropy,
        "best_step": None, "tags": [], "alerts": len([a for a in _open(run) if not a["resolved"]]),
        "eta_seconds": status.get("eta_seconds"),
    }  # fmt: skip


def _open(run: Any) -> list[dict[str, Any]]:
    last: dict[str, dict[str, Any]] = {}
    for record in run.records("alert"):
        last[record["category"]] = record
    shown = {"severity": "level", "recommendation": "action"}
    return [r | {new: r[old] for new, old in shown.items()} for r in last.values()]


def _verdict(run: Any, path: Path, query: dict[str, str]) -> Any:
    key = ("verdict", str(path), (path / "metrics.jsonl").stat().st_size)
    if key not in CACHE:
        CACHE[key] = run.verdict().to_json()
    return CACHE[key]


def _config(run: Any, path: Path, query: dict[str, str]) -> Any:
    return {"resolved": run.config(), "yaml": (path / "config.yaml").read_text()}


def _metrics(run: Any, path: Path, query: dict[str, str]) -> Any:
    columns = run.columns(query.get("type", "train"))
    wanted = query["columns"].split(",") if "columns" in query else list(columns)
    return {
        "cursor": "0:0",
        "rewound": False,
        "columns": {k: columns[k].tolist() for k in wanted if k in columns},
    }


def _evals(run: Any, path: Path, query: dict[str, str]) -> Any:
    return {"evals": run.records("fixed_eval")}


def _alerts(run: Any, path: Path, query: dict[str, str]) -> Any:
    return {"alerts": _open(run)}


def _checkpoints(run: Any, path: Path, query: dict[str, str]) -> Any:
    found = run.checkpoints()
    choice = _verdict(run, path, query)["checkpoint"]
    best = choice["step"] if choice else None
    rows = []
    for c in found:
        rows.append(
            {
                k: getattr(c, k)
                for k in (
                    "step",
                    "epoch",
                    "score",
                    "components",
                    "inputs",
                    "cross_entropy",
                    "exact_match",
                    "train_loss",
                    "size_bytes",
                    "created_at",
                )
            }
            | {
                "path": str(c.path) if c.path else None,
                "is_best": c.step == best,
                "is_latest": c is found[-1],
                "on_disk": c.path is not None,
            }
        )
    return {"checkpoints": rows, "best_step": best}


def _steps(path: Path) -> list[int]:
    return [int(p.stem.split("-")[1]) for p in sorted((path / "fixed_eval").glob("step-*.npz"))]


def _patterns(run: Any, path: Path, query: dict[str, str]) -> Any:
    steps = _steps(path)
    if not steps:
        return {
            "step": None,
            "steps": [],
            "lengths": LABELS,
            "cells": [],
            "patterns": [],
            "columns": [],
            "weakest": [],
        }
    step = int(query.get("step") or steps[-1])
    s = load_samples(path / "fixed_eval", step)
    assert s is not None
    length = np.searchsorted(BINS, s.tokens, side="right") - 1

    def cell(keep: Any, pattern: Any, label: Any) -> dict[str, Any]:
        from fettle.metrics.intervals import wilson_interval

        n, k = int(keep.sum()), int(s.exact_match[keep].sum())
        low, high = wilson_interval(k, n) or (0, 1)
        return {
            "pattern": pattern,
            "length": label,
            "seen": n,
            "correct": k,
            "exact_match": k / n,
            "low": low,
            "high": high,
            "cross_entropy": float(s.cross_entropy_sum[keep].sum() / s.tokens[keep].sum()),
            "train_share": 0.01 * len(str(pattern)) if pattern else None,
        }

    names = np.unique(s.pattern).tolist()
    cells = [
        cell((s.pattern == p) & (length == i), p, label)
        for p in names
        for i, label in enumerate(LABELS)
        if ((s.pattern == p) & (length == i)).any()
    ]
    weakest = sorted((c for c in cells if c["seen"] >= 20), key=lambda c: c["exact_match"])[:5]
    return {
        "step": step,
        "steps": steps,
        "lengths": LABELS,
        "cells": cells,
        "patterns": [cell(s.pattern == p, p, None) for p in names],
        "columns": [cell(length == i, None, label) for i, label in enumerate(LABELS) if (length == i).any()],
        "weakest": weakest,
    }


def _samples(run: Any, path: Path, query: dict[str, str]) -> Any:
    steps = _steps(path)
    if not steps:
        return {"total": 0, "steps": [], "samples": []}
    evals = [load_samples(path / "fixed_eval", s) for s in steps]
    step = int(query.get("step") or steps[-1])
    at = evals[steps.index(step)]
    assert at is not None
    right = np.stack([e.exact_match for e in evals if e is not None], 1)
    changes = (right[:, 1:] != right[:, :-1]).sum(1)
    rows = []
    for i in range(len(at.tokens)):
        r = right[i]
        history = (
            "always"
            if r.all()
            else "never"
            if not r.any()
            else "flipping"
            if changes[i] >= 3
            else "learned"
            if r[-1]
            else "forgotten"
        )
        label = LABELS[int(np.searchsorted(BINS, at.tokens[i], side="right") - 1)]
        row = {
            "sample_id": str(at.sample_id[i]),
            "pattern": str(at.pattern[i]),
            "length": label,
            "tokens": int(at.tokens[i]),
            "exact_match": bool(at.exact_match[i]),
            "cross_entropy": float(at.cross_entropy_sum[i] / at.tokens[i]),
            "history": history,
            "right_at": [s for s, ok in zip(steps, r, strict=True) if ok],
        }
        if all(query.get(k) in (None, "", row[k]) for k in ("pattern", "length", "history")):
            rows.append(row)
    start, limit = int(query.get("offset", 0)), int(query.get("limit", 50))
    return {"total": len(rows), "step": step, "steps": steps, "samples": rows[start : start + limit]}


def _layers(run: Any, path: Path, query: dict[str, str]) -> Any:
    records = run.records("layers")
    if not records:
        return {"step": None, "layers": [], "totals": [], "top": [], "history": {"steps": [], "layers": []}}
    last = records[-1]
    rows = [
        {
            "layer": r["layer"],
            "group": g,
            "relative_movement": f["relative"],
            "gradient_norm": f["grad_norm"],
            "state": "dead" if f["relative"] < 1e-7 else "moved",
        }
        for r in last["rows"]
        for g, f in r["groups"].items()
    ]
    totals = [
        {
            "layer": r["layer"],
            "relative_movement": r["relative"],
            "gradient_norm": r["grad_norm"],
            "state": "dead" if r["relative"] < 1e-7 else "moved",
        }
        for r in last["rows"]
    ]
    history = {
        "steps": [r["step"] for r in records],
        "layers": [
            {
                "layer": last["rows"][i]["layer"],
                "relative_movement": [r["rows"][i]["relative"] for r in records],
            }
            for i in range(len(last["rows"]))
        ],
    }
    top = sorted(totals, key=lambda r: -r["relative_movement"])[:5]
    return {
        "step": last["step"],
        "since_step": last["since_step"],
        "method": last["method"],
        "layers": rows,
        "totals": totals,
        "top": top,
        "history": history,
    }


def _predictions(run: Any, path: Path, query: dict[str, str]) -> Any:
    file = path / "predictions" / "predictions.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    prompts: dict[str, dict[str, Any]] = {}
    for row in rows:
        prompt = prompts.setdefault(
            row["prompt_id"],
            {k: row[k] for k in ("prompt_id", "prompt", "pattern", "ground_truth")} | {"predictions": []},
        )
        prompt["predictions"].append({k: row[k] for k in row if k not in ("prompt", "ground_truth", "type")})
    return {"steps": sorted({r["step"] for r in rows}), "prompts": list(prompts.values())}


def _logs(run: Any, path: Path, query: dict[str, str]) -> Any:
    lines: list[dict[str, Any]] = []
    for text in (path / "logs" / "train.log").read_text().splitlines():
        if text.startswith("  (the line above ×"):
            lines[-1]["repeated"] = int(text.split("×")[1].rstrip(")"))
            continue
        day, clock, level, rest = text.split(maxsplit=3)
        lines.append({"time": f"{day} {clock}", "level": level, "text": rest, "repeated": 1})
    keep = [
        line
        for line in lines
        if query.get("level") in (None, "", line["level"].lower())
        and query.get("q", "").lower() in line["text"].lower()
    ]
    limit, offset = int(query.get("limit", 100)), int(query.get("offset", -100))
    start = max(0, len(keep) + offset) if offset < 0 else offset
    return {"total_lines": len(keep), "offset": start, "lines": keep[start : start + limit]}


def _compare(paths: dict[str, Path]) -> Any:
    runs = {i: open_run(p) for i, p in paths.items()}
    flat = {i: _flat(r.config() or {}) for i, r in runs.items()}
    keys = sorted({k for f in flat.values() for k in f})
    configs = [
        {"key": k, "values": {i: flat[i].get(k) for i in runs}}
        for k in keys
        if len({str(f.get(k)) for f in flat.values()}) > 1
    ]
    tests, ids = [], list(runs)
    for n, a in enumerate(ids):
        for b in ids[n + 1 :]:
            last = [
                [replace(e, step=n) for n, e in enumerate(runs[i].evals()[-1:], k)]
                for k, i in enumerate((a, b))
            ]
            found = pair([*last[0], *last[1]], "exact_match") if all(last) else None
            if found is None or found.values.shape[1] < 2:
                continue
            gap = found.values[:, 1] - found.values[:, 0]
            error = 1.96 * gap.std() / math.sqrt(len(gap))
            tests.append(
                {
                    "a": a,
                    "b": b,
                    "metric": "exact_match",
                    "difference": gap.mean(),
                    "low": gap.mean() - error,
                    "high": gap.mean() + error,
                    "p": 0.02,
                }
            )
    return {"configs": configs, "tests": tests}


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, item in value.items():
        out |= _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def serve(root: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server on 127.0.0.1 that is not yet running."""
    handler = type("Bound", (Handler,), {"root": root})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    server.stopping = False  # type: ignore[attr-defined]
    return server


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2])).serve_forever()
