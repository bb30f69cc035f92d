"""A chat server on loopback that can go wrong in every way a server does; alone, or as a proxy before a real one."""

import json
import math
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STALL = 3.0  # seconds; more than the clients of these tests wait
Reply = dict[str, Any]


def reply(text: str, top: dict[str, float] | None = None) -> Reply:
    """A response of the API; `top` are probabilities of the first token."""
    choice: Reply = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if top is not None:
        listed = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in top.items()]
        first = {"token": text[:1], "logprob": 0.0, "bytes": None, "top_logprobs": listed}
        choice["logprobs"] = {"content": [first]}
    usage = {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def forward(url: str) -> Callable[[Reply], Reply]:
    """Let a real server answer."""

    def answer(body: Reply) -> Reply:
        request = urllib.request.Request(
            f"{url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read())

    return answer


class ChatServer(ThreadingHTTPServer):
    """Goes wrong as `faults` say, one request after the other ("ok" is none), and answers well after the last."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, answer: Callable[[Reply], Reply], faults: Sequence[str] = (), models: Sequence[str] = ("m",)):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.models = answer, models
        self.faults = list(faults)
        self.lock = threading.Lock()
        self.answered: Counter[str] = Counter()  # replies that reached the client whole, by what was asked
        self.num_requests = 0
        self.keys: set[str] = set()
        self.at: list[float] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def next_fault(self) -> str:
        with self.lock:
            self.num_requests += 1
            self.at.append(time.monotonic())
            return self.faults.pop(0) if self.faults else "ok"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._send(200, {"object": "list", "data": [{"id": m, "object": "model"} for m in self.server.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.add(self.headers.get("Authorization", ""))
        fault = self.server.next_fault()
        if body["model"] not in self.server.models:
            self._error(404, f"The model `{body['model']}` does not exist.")
        elif fault == "stall":
            time.sleep(STALL)
            self.close_connection = True
        elif fault == "cut":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{")
            self.close_connection = True
        elif fault == "429":
            self._error(429, "Slow down.", {"Retry-After": "0.3"})
        elif fault == "500":
            self._error(500, "Something broke.")
        elif fault == "garbage":
            self._raw(200, b"<html>not JSON")
        elif fault == "empty":
            self._send(200, {**reply(""), "choices": []})
        elif fault.startswith("refuse "):
            self._error(400, fault.removeprefix("refuse "))
        elif fault == "401":
            self._error(401, f"Incorrect API key provided: {self.headers.get('Authorization')}")
        else:
            self._send(200, self.server.answer(body))
            with self.server.lock:
                self.server.answered[json.dumps(body["messages"])] += 1

    def _error(self, code: int, message: str, headers: dict[str, str] | None = None) -> None:
        self._raw(code, json.dumps({"error": {"message": message, "code": None}}).encode(), headers)

    def _send(self, code: int, value: Reply) -> None:
        self._raw(code, json.dumps(value).encode())

    def _raw(self, code: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(answer: Callable[[Reply], Reply], faults: Sequence[str] = (), **options: Any) -> Iterator[ChatServer]:
    """Run a server for a while."""
    server = ChatServer(answer, faults, **options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
