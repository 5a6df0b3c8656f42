"""What passed between the SDK and a service: recorded from a real one, given again by a server of the tests.

A recording holds one exchange a line: `path`, `request`, `status`, `answer`, as JSON. It is made of the wire
of SDKs up to 0.24, which is JSON; newer ones speak protobuf in places, and are understood and answered so.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from tinker.proto import tinker_public_pb2 as wire

from tinker_wire import decoded, encoded, sampled

PROJECT = "$PROJECT"
"""Stands for the folder of the model in a recording."""
PASSING = ("/healthz", "/session_heartbeat", "/telemetry", "/client/dynamic_config")
"""How often these are asked depends on the clock."""
NAMES = {
    "model_id", "session_id", "model_seq_id", "seq_id", "request_id", "sampling_session_id",
    "sampling_session_seq_id", "type", "sdk_version",
}  # fmt: skip
"""Fields of a request that say whose it is."""
DEFAULTS = {
    "kind": "snapshot", "prompt_logprobs": False, "topk_sample_logprobs": 0, "prompt_alt_tokens_k": 0,
    "record_stability_info": False,
}  # fmt: skip
"""What one series of the SDK says and another leaves out."""
WORK = ("create_model", "forward_backward", "forward", "optim_step", "save_weights", "load_weights",
        "save_weights_for_sampler", "asample")  # fmt: skip
NEWER = tuple(map(int, version("tinker").split(".")[:2])) >= (0, 25)
"""Whether the SDK takes results of passes and samples as protobuf alone."""
Exchange = dict[str, Any]


def read_recording(path: Path) -> list[Exchange]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def operation(path: str) -> str:
    return path.rsplit("/", 1)[1]


def work(exchanges: Sequence[Exchange]) -> list[tuple[str, Any]]:
    """Name and content, without ids, of each request that has the service work, in order.

    Samples are asked for at once: they come in no order. Older SDKs create the model into which they
    load a state, newer ones have the service do so.
    """
    asked = [(operation(e["path"]), content(e["request"])) for e in exchanges]
    asked = [(name, what) for name, what in asked if name in WORK]
    told: list[tuple[str, Any]] = []
    for name, group in groupby(asked, key=itemgetter(0)):
        calls = list(group)
        if name == "load_weights" and told[-1][0] == "create_model":
            told.pop()
        told += sorted(calls, key=json.dumps) if name == "asample" else calls
    return told


def content(request: Any) -> Any:
    """A request without ids, and without what says no more than its absence."""
    if isinstance(request, dict):
        inner = {key: content(value) for key, value in request.items() if key not in NAMES}
        said = {key: value for key, value in inner.items() if value not in (None, {}, [])}
        return {key: value for key, value in said.items() if DEFAULTS.get(key, ...) != value}
    if isinstance(request, list):
        return [content(value) for value in request]
    # A path begins with the id of the model that was saved.
    return re.sub("^tinker://[^/]+", "tinker://", request) if isinstance(request, str) else request


def recorder_app(service: str, file: Path, project: Path) -> FastAPI:
    """Passes everything on to `service`, and appends what was said to `file`."""
    app = FastAPI()
    client = httpx.AsyncClient(base_url=service, timeout=600)

    @app.api_route("/{path:path}", methods=["GET", "POST", "DELETE"])
    async def passed_on(path: str, request: Request) -> Any:
        body = await request.body()
        headers = {k: v for k, v in request.headers.items() if k not in ("host", "content-length")}
        told = await client.request(request.method, f"/{path}", content=body, headers=headers)
        if not f"/{path}".endswith(PASSING):
            exchange = {
                "path": f"/{path}",
                "request": json.loads(body) if body else {},
                "status": told.status_code,
                "answer": told.json(),
            }
            with file.open("a") as stream:
                stream.write(json.dumps(exchange).replace(str(project), PROJECT) + "\n")
        return Response(told.content, told.status_code, media_type=told.headers.get("content-type"))

    return app


class Replay:
    """A recorded service: to what it was asked it answers as it did, to anything else with 400.

    `translating` is false: also to SDKs that do not understand it.
    """

    def __init__(self, recording: Path, log: Path, project: Path, *, translating: bool = NEWER) -> None:
        self.translating = translating
        text = recording.read_text().replace(PROJECT, str(project))
        self.exchanges: list[Exchange] = [json.loads(line) for line in text.splitlines()]
        self.results = {e["request"]["request_id"]: e for e in self.named("retrieve_future")}
        self.polls: dict[str, int] = {}
        self.log, self.lock = log, threading.Lock()
        self.used: set[int] = set()

    def named(self, name: str) -> list[Exchange]:
        return [e for e in self.exchanges if operation(e["path"]) == name]

    def answer(self, name: str, request: Exchange) -> Exchange | None:
        """The exchange in which the same was asked, each taken once; None where there is none."""
        with self.lock:
            with self.log.open("a") as stream:
                stream.write(json.dumps({"path": f"/{name}", "request": request}) + "\n")
            for exchange in self.named(name):
                if id(exchange) not in self.used and content(exchange["request"]) == content(request):
                    self.used.add(id(exchange))
                    return exchange
        return None

    def result(self, request_id: str) -> Any:
        """What became of a request. The first who asks is told to ask again."""
        self.polls[request_id] = self.polls.get(request_id, 0) + 1
        exchange = self.results.get(request_id)
        if exchange is None:
            return JSONResponse({"detail": f"nobody asked for {request_id}"}, 404)
        if self.polls[request_id] == 1:
            # As SkyRL does where a result is not there within five minutes.
            return JSONResponse({"detail": "Timeout waiting for result"}, 408)
        answer = exchange["answer"]
        if self.translating and "loss_fn_outputs" in answer:
            outputs = [np.float32(o["logprobs"]["data"]) for o in answer["loss_fn_outputs"]]
            return Response(encoded(outputs, answer["metrics"]), media_type="application/x-protobuf")
        if self.translating and "sequences" in answer:
            told = [(s["tokens"], s["stop_reason"] == "stop") for s in answer["sequences"]]
            return Response(sampled(told), media_type="application/x-protobuf")
        return JSONResponse(answer, exchange["status"])


def pass_request(body: bytes) -> tuple[str, Exchange]:
    """Name and JSON of a pass that came as protobuf."""
    message = wire.ForwardBackwardRequest.FromString(body)
    data: list[Exchange] = []
    for datum in message.data:
        tokens, targets, weights = decoded(datum)
        inputs = {
            "target_tokens": {"data": targets, "dtype": "int64", "shape": [len(targets)]},
            "weights": {"data": weights, "dtype": "float32", "shape": [len(weights)]},
        }
        chunk = {"tokens": tokens, "type": "encoded_text"}
        data.append({"model_input": {"chunks": [chunk]}, "loss_fn_inputs": inputs})
    name = "forward" if message.forward_only else "forward_backward"
    return name, {f"{name}_input": {"data": data, "loss_fn": message.loss_fn}}


def replay_app(replay: Replay) -> FastAPI:
    app = FastAPI()

    @app.get("/api/v1/healthz")
    def health() -> Any:
        return {"status": "ok"}

    @app.post("/api/v1/session_heartbeat")
    def heartbeat() -> Any:
        return {"type": "session_heartbeat"}

    @app.post("/api/v1/client/dynamic_config")
    @app.post("/api/v1/telemetry")
    def passing() -> Any:
        return {}

    @app.post("/api/v1/retrieve_future")
    async def retrieve(request: Request) -> Any:
        return replay.result((await request.json())["request_id"])

    @app.api_route("/{path:path}", methods=["GET", "POST", "DELETE"])
    async def asked(path: str, request: Request) -> Any:
        body = await request.body()
        if request.headers.get("content-type") == "application/x-protobuf":
            name, told = pass_request(body)
        else:
            name, told = operation(f"/{path}"), json.loads(body) if body else {}
        exchange = replay.answer(name, told)
        if exchange is None:
            return JSONResponse({"detail": f"{name} was not asked so when this was recorded"}, 400)
        answer = exchange["answer"]
        if NEWER and name == "asample":
            answer = {**answer, "sample_sequence_ids": [answer["request_id"]]}
        return JSONResponse(answer, exchange["status"])

    return app
