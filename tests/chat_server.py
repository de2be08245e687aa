"""A real HTTP server of OpenAI's chat-completions protocol on loopback, which answers by rule and fails on demand.

In a test: `with serve(fault_rate=0.3, seed=1) as server: ... server.base_url, server.records`.
By itself: `python tests/chat_server.py PORT PORT_FILE LOG`; PORT 0: a free one. It stops with SIGTERM.

A reply is a function of the request's messages alone, a fault of these, the seed and how often they came before. Also,
whatever has "[fault:NAME]" in its text fails like that every time, and with "[fault:NAME*2]" the first two times.
"""

import hashlib
import json
import random
import re
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TRANSPORT_FAULTS = ("rate_limit", "error_500", "error_503", "hang", "reset", "cut_body")  # the HTTP exchange fails
REPLY_FAULTS = ("cut_json", "wrong_schema", "length", "empty", "refusal", "content_filter")  # the message is no use
OTHER_FAULTS = (  # by name only
    *("unauthorized", "no_model", "quota", "bad_request", "flagged", "html", "half_character"),
    "trickle",  # the reply comes a byte at a time, for longer than anybody waits
)
PROMPT_TOKENS_PER_IMAGE = 100  # and one a word

_NAMED_FAULT = re.compile(r"\[fault:(\w+)(?:\*(\d+))?\]")
_STATUS = {  # fault -> status, error code
    "rate_limit": (429, "rate_limit_exceeded"),
    "quota": (429, "insufficient_quota"),
    "error_500": (500, "server_error"),
    "error_503": (503, "overloaded"),
    "unauthorized": (401, "invalid_api_key"),
    "no_model": (404, "model_not_found"),
    "bad_request": (400, "invalid_value"),
    "flagged": (400, "content_filter"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request that came."""

    key: str  # of its messages: the same for every try of one request
    text: str  # the user's, "<image>" where an image was
    fault: str | None
    arrived: float  # seconds, monotonic
    body: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    fault_rate: float = 0.0  # of requests, by the seeded schedule
    max_faults: int = 3  # of the schedule, for one key; so that enough retries always get through
    faults: tuple[str, ...] = TRANSPORT_FAULTS + REPLY_FAULTS  # which the schedule chooses from
    seed: int = 0
    delay_s: float = 0.0  # before every reply
    hang_s: float = 30.0
    retry_after: str = "0"
    key: str | None = None  # the API key it wants
    model: str | None = None  # the only model it knows
    replies: Mapping[str, str] = field(default_factory=dict)  # the reply to a free request whose text holds the left


class ChatServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, behaviour: Behaviour, port: int = 0, log: Path | None = None) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.behaviour = behaviour
        self.before_reply: Callable[[Record], object] = lambda record: None  # a test's, which may wait in it
        self.records: list[Record] = []
        self.answered: list[Record] = []  # those whose reply has been sent
        self.most_at_once = 0
        self.authorizations: set[str | None] = set()
        self.stopping = threading.Event()
        self._log = log.open("a", buffering=1) if log else None
        self._lock = threading.Lock()
        self._tries: Counter[str] = Counter()
        self._under_way = 0

    def answer_until(self, is_enough: Callable[[], bool]) -> None:
        """Once there is enough, what comes waits for the server's end: a process can then be killed before its own."""
        self.before_reply = lambda record: is_enough() and self.stopping.wait()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client hung up, as it may
            super().handle_error(request, client_address)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def tries(self) -> Counter[str]:
        """How often every text came."""
        return Counter(record.text for record in self.records)

    @property
    def faults(self) -> Counter[str]:
        """How often every fault was made."""
        return Counter(record.fault for record in self.records if record.fault)

    def next_fault(self, body: dict[str, Any]) -> str | None:
        """What will happen to this request."""
        with self._lock:
            key = key_of(body)
            return self._fault(key, text_of(body), self._tries[key])

    def num_came(self, body: dict[str, Any]) -> int:
        """How often this request has come so far."""
        return self._tries[key_of(body)]

    @contextmanager
    def receive(self, body: dict[str, Any]) -> Iterator[Record]:
        """The request, recorded; it counts as under way inside."""
        with self._lock:
            key, text = key_of(body), text_of(body)
            fault = self._fault(key, text, self._tries[key])
            record = Record(key=key, text=text, fault=fault, arrived=time.monotonic(), body=body)
            self._tries[key] += 1
            self.records.append(record)
            if self._log:
                self._log.write(json.dumps({n: v for n, v in asdict(record).items() if n != "body"}) + "\n")
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            yield record
        finally:
            with self._lock:
                self._under_way -= 1

    def _fault(self, key: str, text: str, tries: int) -> str | None:
        if named := _NAMED_FAULT.search(text):
            return named[1] if tries < int(named[2] or 2**31) else None
        draws = [random.Random(f"{self.behaviour.seed}:{key}:{number}") for number in range(tries + 1)]
        failed = [draw.random() < self.behaviour.fault_rate for draw in draws]
        return (
            draws[-1].choice(self.behaviour.faults) if failed[-1] and sum(failed) <= self.behaviour.max_faults else None
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer

    def do_POST(self) -> None:
        text = self.rfile.read(length := int(self.headers["Content-Length"]))
        if len(text) < length:
            raise ConnectionAbortedError("the client was ended within its request")
        body = json.loads(text)
        behaviour = self.server.behaviour
        self.server.authorizations.add(self.headers["Authorization"])
        if self.path != "/v1/chat/completions":
            self._fail("no_such_page", 404, "")
        elif behaviour.key and self.headers["Authorization"] != f"Bearer {behaviour.key}":
            self._fail(f"incorrect API key provided: {self.headers['Authorization']}", *_STATUS["unauthorized"])
        elif behaviour.model and body["model"] != behaviour.model:
            self._fail(f"the model {body['model']} does not exist", *_STATUS["no_model"])
        else:
            with self.server.receive(body) as record:
                self.server.stopping.wait(behaviour.delay_s)
                self.server.before_reply(record)
                self._answer(record)
                self.server.answered.append(record)

    def _answer(self, record: Record) -> None:
        match record.fault:
            case "hang":
                self.server.stopping.wait(self.server.behaviour.hang_s)
                self.close_connection = True
            case "trickle":
                self._send(200, completion(record, self.server.behaviour), seconds_a_byte=0.1)
            case "reset":
                self._send(200, completion(record, self.server.behaviour), cut_connection=True)
            case "cut_body":
                self._send(200, completion(record, self.server.behaviour)[:-40])
            case "html":
                self._send(200, b"<html>welcome</html>", kind="text/html")
            case str(fault) if fault in _STATUS:
                self._fail(f"made to fail with {fault}", *_STATUS[fault])
            case _:
                self._send(200, completion(record, self.server.behaviour))

    def _fail(self, message: str, status: int, code: str) -> None:
        error = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
        self._send(status, json.dumps(error).encode())

    def _send(
        self, status: int, body: bytes, *, kind: str = "application/json", cut_connection: bool = False,
        seconds_a_byte: float = 0.0,
    ) -> None:  # fmt: skip
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", self.server.behaviour.retry_after)
        self.end_headers()
        if cut_connection:  # a reset instead of an orderly end
            self.wfile.write(body[: len(body) // 2])
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        step = 1 if seconds_a_byte else len(body)
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            self.server.stopping.wait(seconds_a_byte)

    def log_message(self, format: str, *args: object) -> None:
        pass


def key_of(body: dict[str, Any]) -> str:
    return hashlib.sha1(json.dumps(body["messages"]).encode()).hexdigest()[:16]


def text_of(body: dict[str, Any]) -> str:
    """What the user said, "<image>" in the place of every image."""
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] if part["type"] == "text" else "<image>" for part in content)


def completion(record: Record, behaviour: Behaviour) -> bytes:
    """The body of a reply, with the record's fault."""
    content, finish, refusal = content_of(record, behaviour), "stop", None
    match record.fault:
        case "cut_json":
            content = content[: len(content) // 2]
        case "length":
            content, finish = content[: len(content) // 2], "length"
        case "wrong_schema":
            content = json.dumps({"thoughts": content})
        case "half_character":
            content = '{"reflection": "\\ud83d"}'
        case "empty":
            content = " "
        case "refusal":
            content, refusal = None, "I cannot help with that."
        case "content_filter":
            content, finish = "", "content_filter"
    message = {"role": "assistant", "content": content, "refusal": refusal}
    prompt_tokens = len(record.text.split()) + PROMPT_TOKENS_PER_IMAGE * record.text.count("<image>")
    completion_tokens = len((content or "").split())
    document = {
        "id": f"chatcmpl-{record.key}",
        "object": "chat.completion",
        "created": 0,
        "model": record.body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }
    return json.dumps(document).encode()


def content_of(record: Record, behaviour: Behaviour) -> str:
    """What a model would say: JSON of the schema that was sent or told, else a told or a made-up solution."""
    if (properties := _wanted_fields(record)) is not None:
        return json.dumps({name: _made_up(name, kind, record.key) for name, kind in properties.items()})
    for text, reply in behaviour.replies.items():
        if text in record.text:
            return reply
    return f"<think>I look at {record.key} and count.</think><answer>{int(record.key, 16) % 100}</answer>"


def _wanted_fields(record: Record) -> dict[str, Any] | None:
    form = record.body.get("response_format", {})
    if form.get("type") == "json_schema":
        return form["json_schema"]["schema"]["properties"]
    position = record.text.find('{"type": "object"')  # a schema told in words
    return json.JSONDecoder().raw_decode(record.text, position)[0]["properties"] if position >= 0 else None


def _made_up(name: str, kind: Mapping[str, Any], key: str) -> Any:
    number = int(key, 16)
    if "enum" in kind:
        return kind["enum"][number % len(kind["enum"])]
    if kind["type"] == "integer":
        return 1 + number % 5
    return f"Made-up {name.replace('_', ' ')} {key}: the second step skips a case and could be said in fewer words."


@contextmanager
def serve(log: Path | None = None, **behaviour: Any) -> Iterator[ChatServer]:
    """A server in a thread of this process; the arguments are Behaviour's."""
    server = ChatServer(Behaviour(**behaviour), log=log)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


def main(port: str, port_file: str, log: str) -> None:
    server = ChatServer(Behaviour(), int(port), Path(log))
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    part = Path(f"{port_file}.part")
    part.write_text(str(server.server_address[1]))
    part.rename(port_file)
    server.serve_forever()
    server.stopping.set()


if __name__ == "__main__":
    main(*sys.argv[1:])
