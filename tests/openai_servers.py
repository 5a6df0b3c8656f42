"""OpenAI-compatible servers: one that runs a tiny model for real, and one that fails as planned."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Request


def model_app(model: Any, tokenizer: Any, *, tells: str | None, key: str | None = None) -> FastAPI:
    """Chats, sampled with the seed asked for, and completions of token ids.

    `tells` is how it gives log-probabilities of a prompt: prompt_logprobs as vLLM does, echo as SGLang does,
    or None: then keys that ask for them are ignored.
    """
    app = FastAPI()

    @app.middleware("http")
    async def checked(request: Request, call_next: Callable[[Request], Any]) -> Any:
        if key is not None and request.headers.get("authorization") != f"Bearer {key}":
            from fastapi.responses import JSONResponse

            return JSONResponse({"error": f"bad key {request.headers.get('authorization')}"}, 401)
        return await call_next(request)

    @app.get("/v1/models")
    def models() -> Any:
        return {"data": [{"id": "tiny"}]}

    def generated(ids: list[int], body: dict[str, Any]) -> tuple[str, int, str]:
        how = {"do_sample": False}
        if body.get("temperature"):
            how = {
                "do_sample": True,
                "temperature": body["temperature"],
                "top_k": 0,
                "top_p": body.get("top_p", 1.0),
            }
            torch.manual_seed(body["seed"])
        # As `generate` of Transformers stops: the stop text is part of the answer.
        stop = {"stop_strings": body["stop"], "tokenizer": tokenizer} if body.get("stop") else {}
        end = tokenizer.eos_token_id
        prompt = torch.tensor([ids])
        with torch.no_grad():
            output = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=body["max_tokens"],
                eos_token_id=end, pad_token_id=tokenizer.pad_token_id, **how, **stop,
            )  # fmt: skip
        new = output[0, len(ids) :].tolist()
        text = tokenizer.decode(new, skip_special_tokens=True)
        return text, len(new), "length" if len(new) == body["max_tokens"] else "stop"

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        body = await request.json()
        if body["model"] != "tiny":
            raise HTTPException(404, f"the model {body['model']} does not exist")
        ids = tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True, return_dict=False)
        if len(ids) + body["max_tokens"] > model.config.max_position_embeddings:
            raise HTTPException(400, "the prompt is longer than the context")
        text, count, ended = generated(ids, body)
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": len(ids), "completion_tokens": count}
        return {"choices": [{"message": message, "finish_reason": ended}], "usage": usage}

    @app.post("/v1/completions")
    async def completions(request: Request) -> Any:
        body = await request.json()
        ids = body["prompt"]
        if "prompt_logprobs" in body and tells == "echo":
            raise HTTPException(400, "extra fields: prompt_logprobs")
        with torch.no_grad():
            logprob_TV = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        entries: list[Any] = [None]
        for t, token in enumerate(ids[1:]):
            own, best = float(logprob_TV[t, token]), int(logprob_TV[t].argmax())
            rank = int((logprob_TV[t] > logprob_TV[t, token]).sum()) + 1
            top = {str(best): {"logprob": float(logprob_TV[t, best]), "rank": 1}}
            entries.append({**top, str(token): {"logprob": own, "rank": rank}})
        choice: dict[str, Any] = {"text": "x", "finish_reason": "length"}
        if tells == "prompt_logprobs" and "prompt_logprobs" in body:
            choice["prompt_logprobs"] = entries
        if tells == "echo" and body.get("echo"):
            own = [None, *(e[str(token)]["logprob"] for e, token in zip(entries[1:], ids[1:], strict=True))]
            tops = [None, *({k: v["logprob"] for k, v in e.items()} for e in entries[1:])]
            choice["logprobs"] = {"token_logprobs": [*own, -1.0], "top_logprobs": [*tops, {"x": -1.0}]}
        return {"choices": [choice], "usage": {"prompt_tokens": len(ids), "completion_tokens": 1}}

    return app


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The address of an app that runs in a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        thread.join()


class FaultyServer(http.server.ThreadingHTTPServer):
    """Answers each POST as `plan` says of its body: a status with headers and text, `drop`, or `sleep`."""

    daemon_threads = True
    # With the usual 5 the kernel resets some of many connections that are made at once.
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _FaultyHandler)
        self.plan: Callable[[dict[str, Any]], Any] = lambda body: answer("fine")
        self.requests = 0
        self.waiting = self.most_waiting = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


def answer(text: Any, **more: Any) -> tuple[int, dict[str, str], str]:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return 200, {}, json.dumps({"choices": [choice], **more})


class _FaultyHandler(http.server.BaseHTTPRequestHandler):
    server: FaultyServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests += 1
            self.server.waiting += 1
            self.server.most_waiting = max(self.server.most_waiting, self.server.waiting)
            planned = self.server.plan(body)
        time.sleep(0.02)
        with self.server.lock:
            self.server.waiting -= 1
        if planned == "sleep":
            time.sleep(1.0)
            planned = answer("late")
        self.close_connection = planned == "drop"
        status, headers, text = answer("dropped") if planned == "drop" else planned
        data = text.encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if planned == "drop" else data)

    def log_message(self, *_: Any) -> None:
        """Quiet."""
