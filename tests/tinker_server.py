"""A server of the Tinker protocol that trains a tiny LoRA model for real, in a process of its own.

It speaks to the unmodified `tinker` SDK: requests of one model run in the order of their sequence
numbers, one that comes a second time is not run again, results are fetched by polling. What is saved
outlives the process; everything else is lost with it, as it is when a service loses a machine.
"""

from __future__ import annotations

import asyncio
import copy
import json
import math
import queue
import shutil
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import peft
import safetensors.torch
import torch
import transformers
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from tinker.proto import tinker_public_pb2 as wire

from app_server import AppServer
from tinker_wire import decoded, encoded, sampled

KEY = "tml-a-key-of-the-tests"
ALPHA = 32
LARGEST_RANK = 64
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


class UserError(Exception):
    """What the service tells the user is wrong with the request."""


@lru_cache
def read_base(base: str) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


class Trained:
    """One LoRA model with its optimizer."""

    def __init__(self, base: str, lora: dict[str, Any]) -> None:
        self.base, self.lora = base, lora
        if lora["rank"] > LARGEST_RANK:
            raise UserError(f"rank {lora['rank']} is above the largest, {LARGEST_RANK}")
        try:
            model = copy.deepcopy(read_base(base))
        except OSError:
            raise UserError(f"model {base} is not supported") from None
        transformers.set_seed(lora.get("seed") or 0)
        modules = [*(ATTENTION if lora["train_attn"] else []), *(MLP if lora["train_mlp"] else [])]
        settings = peft.LoraConfig(
            task_type="CAUSAL_LM", r=lora["rank"], lora_alpha=ALPHA, target_modules=modules
        )
        self.model: Any = peft.get_peft_model(model, settings)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters)

    def logprobs(self, tokens: list[int], targets: list[int]) -> torch.Tensor:
        logits_TV = self.model(input_ids=torch.tensor([tokens])).logits[0].float()
        return logits_TV.log_softmax(-1).gather(1, torch.tensor(targets)[:, None])[:, 0]

    def forward(self, data: list[tuple[Any, Any, Any]], *, backward: bool) -> tuple[list[Any], float]:
        outputs, total = [], 0.0
        self.model.eval()
        for tokens, targets, weights in data:
            with torch.set_grad_enabled(backward):
                logprobs_T = self.logprobs(tokens, targets)
                loss = -(logprobs_T * torch.tensor(weights)).sum()
            if backward:
                loss.backward()
            outputs.append(logprobs_T.detach().numpy().astype(np.float32))
            total += float(loss)
        return outputs, total

    def optim_step(self, params: dict[str, Any]) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"], group["eps"] = params["learning_rate"], params["eps"]
            group["betas"], group["weight_decay"] = (params["beta1"], params["beta2"]), params["weight_decay"]
        limit = params["grad_clip_norm"] or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, limit))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"unclipped_grad_l2:mean": norm}

    def state(self) -> dict[str, Any]:
        weights = peft.get_peft_model_state_dict(self.model)
        return copy.deepcopy(
            {
                "base": self.base,
                "lora": self.lora,
                "weights": weights,
                "optimizer": self.optimizer.state_dict(),
            }
        )

    def sampler(self) -> Trained:
        """The weights as they are now."""
        now = copy.copy(self)
        now.model = copy.deepcopy(self.model)
        return now

    @classmethod
    def restored(cls, state: dict[str, Any], *, optimizer: bool) -> Trained:
        trained = cls(state["base"], state["lora"])
        peft.set_peft_model_state_dict(trained.model, state["weights"])
        if optimizer:
            trained.optimizer.load_state_dict(state["optimizer"])
        return trained


class Service:
    """All models, their requests in order, and the results."""

    def __init__(self, base: Path, folder: Path) -> None:
        self.base, self.folder = str(base), folder
        self.models: dict[str, Trained] = {}
        self.samplers: dict[str, Trained] = {}
        self.waiting: dict[str, dict[int, tuple[str, Callable[[], Any]]]] = {}
        self.next: dict[str, int] = {}
        self.results: dict[str, Any] = {}
        self.done = threading.Condition()
        self.jobs: queue.Queue[tuple[str, Callable[[], Any]]] = queue.Queue()
        self.faults: list[dict[str, Any]] = []
        self.steps = 0
        folder.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self.work, daemon=True).start()

    def work(self) -> None:
        torch.set_num_threads(1)
        while True:
            request, job = self.jobs.get()
            try:
                result = job()
            except UserError as error:
                result = {"error": str(error), "category": "user"}
            except Exception as error:  # noqa: BLE001 - the client is told
                result = {"error": repr(error), "category": "server"}
            with self.done:
                self.results[request] = result
                self.done.notify_all()

    def submit(self, job: Callable[[], Any], model: str | None = None, seq: int = 0) -> str:
        """The id of a request; those of one model run in the order of `seq`, each once."""
        if model is None:
            request = uuid.uuid4().hex
            self.jobs.put((request, job))
            return request
        request = f"{model}:{seq}"
        with self.done:
            if request in self.results or seq < self.next.get(model, 0):
                return request
            waiting = self.waiting.setdefault(model, {})
            waiting.setdefault(seq, (request, job))
            while (following := self.next.setdefault(model, 0)) in waiting:
                self.jobs.put(waiting.pop(following))
                self.next[model] += 1
        return request

    def result(self, request: str, seconds: float = 5.0) -> Any:
        with self.done:
            self.done.wait_for(lambda: request in self.results, seconds)
            return self.results.get(request)

    def log(self, op: str, **fields: Any) -> None:
        with (self.folder / "log.jsonl").open("a") as stream:
            stream.write(json.dumps({"op": op, **fields}) + "\n")

    def path(self, url: str) -> Path:
        return self.folder / url.removeprefix("tinker://").replace(":", "_")

    def save(self, url: str, trained: Trained) -> str:
        path = self.path(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".tmp")
        torch.save(trained.state(), aside)
        aside.replace(path)
        return url

    def load(self, url: str, *, optimizer: bool) -> Trained:
        if not self.path(url).is_file():
            raise UserError(f"{url} does not exist or has expired")
        return Trained.restored(torch.load(self.path(url), weights_only=True), optimizer=optimizer)

    def sample(self, trained: Trained, body: dict[str, Any]) -> bytes:
        params, prompt = body["sampling_params"], [t for c in body["prompt"]["chunks"] for t in c["tokens"]]
        model = trained.model.eval()
        stops = params.get("stop")
        ends = {model.config.eos_token_id} if stops is None else set(stops)
        top: tuple[Any, Any] | None = None
        sequences: list[tuple[list[int], bool]] = []
        with torch.no_grad():
            logprob_TV = model(input_ids=torch.tensor([prompt])).logits[0].float().log_softmax(-1)
            k = body.get("topk_prompt_logprobs") or 0
            if k and not any(f.get("no_topk") for f in self.faults):
                best = logprob_TV[:-1].topk(k)
                ids = np.concatenate([np.zeros((1, k)), best.indices.numpy()]).astype(np.int32)
                values = np.concatenate([np.full((1, k), -99999.0), best.values.numpy()]).astype(np.float32)
                top = (ids, values)
            for _ in range(body["num_samples"]):
                tokens = list(prompt)
                ended = False
                while len(tokens) - len(prompt) < params["max_tokens"] and not ended:
                    logits_V = model(input_ids=torch.tensor([tokens])).logits[0, -1].float()
                    assert params["temperature"] == 0, "the tests sample greedily"
                    tokens.append(int(logits_V.argmax()))
                    ended = tokens[-1] in ends
                sequences.append((tokens[len(prompt) :], ended))
        return sampled(sequences, top)

    def export(self, url: str, trained: Trained) -> str:
        """As exporters do that know no PEFT: the target modules are left out."""
        folder = self.path(url)
        trained.model.save_pretrained(folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        config["target_modules"] = None
        (folder / "adapter_config.json").write_text(json.dumps(config))
        if any(fault.get("spoil_export") for fault in self.faults):
            weights = safetensors.torch.load_file(folder / "adapter_model.safetensors")
            safetensors.torch.save_file(
                {name: 2 * value for name, value in weights.items()}, folder / "adapter_model.safetensors"
            )
        return url


def tinker_app(service: Service) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def guarded(request: Request, call_next: Callable[[Request], Any]) -> Any:
        path = request.url.path
        if path.startswith("/api") and path != "/api/v1/healthz" and request.headers.get("x-api-key") != KEY:
            return JSONResponse({"message": "invalid API key"}, 401)
        for fault in service.faults:
            if "status" in fault and path.endswith(fault["path"]) and fault["times"] > 0:
                fault["times"] -= 1
                return Response(fault.get("text", "{}"), fault["status"], media_type="application/json")
        await asyncio.sleep(sum(fault.get("latency", 0.0) for fault in service.faults))
        return await call_next(request)

    @app.post("/faults")
    async def faults(request: Request) -> Any:
        """Answer requests to `path` with `status` this many `times`, all of them `latency` seconds late.

        `nan_at` spoils the loss of a step, `no_topk` keeps log-probabilities of prompts back,
        `spoil_export` exports other weights than are asked for.
        """
        service.faults = await request.json()
        return {}

    @app.get("/api/v1/healthz")
    def health() -> Any:
        return {"status": "ok"}

    @app.post("/api/v1/client/config")
    def client_config() -> Any:
        # Series 0.24 and 0.25 of the SDK speak as newer ones do where a service says that it understands.
        newer = ("proto_write_fwdbwd", "fwd_via_fwdbwd", "create_model_via_load_weights")
        return {"pjwt_auth_enabled": False, **dict.fromkeys(newer, True)}

    @app.post("/api/v1/client/dynamic_config")
    def dynamic_config() -> Any:
        return {}

    @app.post("/api/v1/telemetry")
    def telemetry() -> Any:
        return {"status": "accepted"}

    @app.post("/api/v1/session_heartbeat")
    def heartbeat() -> Any:
        return {"type": "session_heartbeat"}

    @app.get("/api/v1/get_server_capabilities")
    def capabilities() -> Any:
        return {"supported_models": [{"model_name": service.base}]}

    @app.post("/api/v1/create_session")
    def create_session() -> Any:
        return {"type": "create_session", "session_id": uuid.uuid4().hex}

    @app.post("/api/v1/create_model")
    async def create_model(request: Request) -> Any:
        body = await request.json()
        model_id = f"{body['session_id']}:train:{body['model_seq_id']}"

        def create() -> Any:
            service.models[model_id] = Trained(body["base_model"], body["lora_config"])
            service.log("create", model=model_id, base=body["base_model"], **body["lora_config"])
            return {"type": "create_model", "model_id": model_id}

        return {"request_id": service.submit(create, model_id, 0)}

    @app.post("/api/v1/get_info")
    async def get_info(request: Request) -> Any:
        model_id = (await request.json())["model_id"]
        trained = service.models[model_id]
        data = {"model_name": trained.base, "tokenizer_id": trained.base}
        return {"model_id": model_id, "model_data": data, "is_lora": True, "lora_rank": trained.lora["rank"]}

    @app.post("/api/v1/forward_backward")
    async def forward_backward(request: Request) -> Any:
        body = wire.ForwardBackwardRequest.FromString(await request.body())
        model_id, backward = body.model_id, not body.forward_only
        if model_id not in service.next:
            return JSONResponse({"message": f"model {model_id} is not there"}, 404)

        def forward() -> Any:
            data = [decoded(datum) for datum in body.data]
            outputs, loss = service.models[model_id].forward(data, backward=backward)
            if backward:
                service.log(
                    "forward_backward",
                    model=model_id,
                    tokens=[[*tokens, targets[-1]] for tokens, targets, _ in data],
                    weights=sum(sum(weights) for *_, weights in data),
                    completion_tokens=sum(weight > 0 for *_, weights in data for weight in weights),
                )
                if any(f.get("nan_at") == service.steps + 1 for f in service.faults):
                    outputs = [np.full_like(values, np.nan) for values in outputs]
            return encoded(outputs, {"loss:sum": loss})

        return {"request_id": service.submit(forward, model_id, body.seq_id)}

    @app.post("/api/v1/optim_step")
    async def optim_step(request: Request) -> Any:
        body = await request.json()
        model_id = body["model_id"]
        if model_id not in service.next:
            return JSONResponse({"message": f"model {model_id} is not there"}, 404)

        def step() -> Any:
            metrics = service.models[model_id].optim_step(body["adam_params"])
            service.steps += 1
            service.log("optim_step", model=model_id, **body["adam_params"])
            return {"metrics": metrics}

        return {"request_id": service.submit(step, model_id, body["seq_id"])}

    @app.post("/api/v1/save_weights")
    async def save_weights(request: Request) -> Any:
        body = await request.json()
        model_id = body["model_id"]
        url = f"tinker://{model_id}/weights/{body['path']}"

        def save() -> Any:
            service.save(url, service.models[model_id])
            service.log("save", path=url, ttl_seconds=body.get("ttl_seconds"))
            return {"type": "save_weights", "path": url}

        return {"request_id": service.submit(save, model_id, body["seq_id"])}

    @app.post("/api/v1/load_weights")
    async def load_weights(request: Request) -> Any:
        body = await request.json()
        model_id = f"{body['session_id']}:train:{body['model_seq_id']}"

        def load() -> Any:
            service.models[model_id] = service.load(body["path"], optimizer=body["optimizer"])
            service.log("load", model=model_id, path=body["path"], optimizer=body["optimizer"])
            return {"type": "load_weights", "path": body["path"], "model_id": model_id}

        return {"request_id": service.submit(load, model_id, 0)}

    @app.post("/api/v1/save_weights_for_sampler")
    async def save_for_sampler(request: Request) -> Any:
        body = await request.json()
        model_id = body["model_id"]

        def save() -> Any:
            # Older SDKs have no other export: what is saved for sampling under a name is an adapter.
            if body.get("path"):
                url = f"tinker://{model_id}/sampler_weights/{body['path']}"
                service.export(url, service.models[model_id])
                return {"type": "save_weights_for_sampler", "path": url}
            session = f"sampler-{uuid.uuid4().hex}"
            service.samplers[session] = service.models[model_id].sampler()
            return {"type": "save_weights_for_sampler", "sampling_session_id": session}

        return {"request_id": service.submit(save, model_id, body["seq_id"])}

    @app.get("/api/v1/samplers/{session}")
    def sampler(session: str) -> Any:
        return {"sampler_id": session, "base_model": service.samplers[session].base}

    @app.post("/api/v1/asample")
    async def asample(request: Request) -> Any:
        body = await request.json()
        trained = service.samplers[body["sampling_session_id"]]
        names = [uuid.uuid4().hex for _ in range(body["num_samples"])]
        return {
            "request_id": service.submit(lambda: service.sample(trained, body)),
            "sample_sequence_ids": names,
        }

    @app.post("/api/v1/save_weights_external")
    async def save_external(request: Request) -> Any:
        body = await request.json()
        model_id = body["model_id"]
        url = f"tinker://{model_id}/external_weights/{body['path']}"

        def save() -> Any:
            service.export(url, service.models[model_id])
            return {"type": "save_weights_external", "path": url}

        return {"request_id": service.submit(save, model_id, body["seq_id"])}

    @app.post("/api/v1/weights_info")
    async def weights_info(request: Request) -> Any:
        path = service.path((await request.json())["tinker_path"])
        if not path.is_file():
            return JSONResponse({"message": "no such checkpoint"}, 404)
        state = torch.load(path, weights_only=True)
        return {"base_model": state["base"], "is_lora": True, "lora_rank": state["lora"]["rank"]}

    @app.get("/api/v1/training_runs/{model_id}/checkpoints/{name:path}/external_weights_urls")
    def external_urls(model_id: str, name: str, request: Request) -> Any:
        folder = service.path(f"tinker://{model_id}/{name}")
        files = {f.name: f"{request.base_url}files/{f.relative_to(service.folder)}" for f in folder.iterdir()}
        return {"urls": files, "expires": "2100-01-01T00:00:00Z"}

    @app.get("/api/v1/training_runs/{model_id}/checkpoints/{name:path}/archive")
    def archive(model_id: str, name: str, request: Request) -> Any:
        folder = service.path(f"tinker://{model_id}/{name}")
        packed = Path(shutil.make_archive(str(folder), "gztar", folder))
        address = f"{request.base_url}files/{packed.relative_to(service.folder)}"
        return {"url": address, "expires": "2100-01-01T00:00:00Z"}

    @app.delete("/api/v1/training_runs/{model_id}/checkpoints/{name:path}")
    def delete(model_id: str, name: str) -> Any:
        url = f"tinker://{model_id}/{name}"
        path = service.path(url)
        if path.is_file():
            path.unlink()
        service.log("delete", path=url)
        return Response(status_code=204)

    @app.get("/files/{name:path}")
    def file(name: str) -> Any:
        return FileResponse(service.folder / name)

    @app.post("/api/v1/retrieve_future")
    def retrieve(body: dict[str, Any]) -> Any:
        name = body["request_id"]
        found = service.result(name)
        if found is None:
            if name.rpartition(":")[0] not in service.next and ":" in name:
                return JSONResponse({"message": f"request {name} is not there"}, 404)
            return {"type": "try_again", "request_id": name, "queue_state": "active"}
        if isinstance(found, bytes):
            return Response(found, media_type="application/x-protobuf")
        return found

    return app


class TinkerServer(AppServer):
    """The server as a process, and what it did."""

    def __init__(self, base: Path, folder: Path) -> None:
        self.base, self.folder = base, folder
        super().__init__(lambda: tinker_app(Service(base, folder)), folder.with_suffix(".pid"))

    def fault(self, *faults: dict[str, Any]) -> None:
        body = json.dumps(faults).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/faults", body, method="POST")).close()

    def log(self) -> list[dict[str, Any]]:
        """What it did, in order."""
        path = self.folder / "log.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@contextmanager
def tinker_server(base: Path, folder: Path) -> Iterator[TinkerServer]:
    server = TinkerServer(base, folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
