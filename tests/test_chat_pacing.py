"""An endpoint's pace, and its end: limits that are kept, pauses, stops, servers that are of no use or go away."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from srpo_fast.chat import endpoint as endpoint_module
from srpo_fast.chat.endpoint import Endpoint
from srpo_fast.chat.model import ChatFailure, ChatReply, ChatRequest
from srpo_fast.config import EndpointConfig, UserError
from tests.chat_server import ChatServer, serve
from tests.endpoint_case import make_endpoint, make_request
from tests.launch import hear_interrupts
from tests.waiting import PATIENCE_S, wait_until


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serve() as running:
        yield running


# pace


def test_the_concurrency_is_reached_and_never_exceeded():
    with serve(delay_s=0.02) as server:
        server.before_reply = lambda record: wait_until(lambda: server.most_at_once >= 7)
        assert len(list(make_endpoint(server, concurrency=7).ask(make_request(n) for n in range(70)))) == 70
        assert server.most_at_once == 7


def test_the_rate_limit_is_kept_by_all_calls_together(server):
    endpoint = make_endpoint(server, requests_per_minute=1200, concurrency=8)  # one in 50 ms
    calls = [
        threading.Thread(target=lambda i=i: list(endpoint.ask(make_request(10 * i + n) for n in range(8))))
        for i in range(2)
    ]
    start = time.monotonic()
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert len(server.records) == 16
    assert max(record.arrived for record in server.records) - start >= 15 * 0.05


def test_a_server_that_names_a_pause_is_given_it_by_all_requests():
    with serve(retry_after="1.0") as server:
        texts = ["[fault:rate_limit*1]", "[fault:error_500*2]"]
        server.before_reply = lambda record: wait_until(
            lambda: len(server.records) > 1 and (record.fault != "error_500" or bool(server.answered))
        )  # both have come, and the error is told after the pause
        endpoint = make_endpoint(server, backoff_s=0.3, backoff_limit_s=0.3)
        results = list(endpoint.ask(make_request(n, text) for n, text in enumerate(texts)))
        assert all(isinstance(result, ChatReply) for result in results)
        (refused,) = (record.arrived for record in server.records if record.fault == "rate_limit")
        afterwards = [record.arrived for record in server.records[2:]]
        assert len(afterwards) == 3
        assert min(afterwards) - refused >= 1.0


def test_pauses_grow_until_their_limit(server, monkeypatch):
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(endpoint_module, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": sleep}))
    endpoint = make_endpoint(server, retries=5, backoff_s=4, backoff_limit_s=16)
    list(endpoint.ask([make_request(0, "[fault:error_500]")]))
    assert len(server.records) == 6
    assert all(full / 2 <= pause <= full for pause, full in zip(pauses, (4, 8, 16, 16, 16), strict=True))


def test_requests_are_read_as_results_are_taken(server):
    read = 0

    def requests() -> Iterator[ChatRequest]:
        nonlocal read
        for n in range(1000):
            read += 1
            yield make_request(n)

    answers = make_endpoint(server, concurrency=4).ask(requests())
    assert read == 0
    for taken in range(1, 30):
        next(answers)
        assert read <= taken + 2 * 4
    answers.close()
    assert len(server.records) <= read


# the end


def test_stopping_early_stops_everything_at_once():
    with serve(delay_s=0.02, hang_s=600) as server:
        answers = make_endpoint(server, concurrency=4, backoff_s=600, backoff_limit_s=600, timeout_s=600).ask(
            make_request(n, "[fault:hang]" if n % 4 == 1 else "[fault:error_500]" if n % 4 == 2 else "how many?")
            for n in range(100)
        )
        next(answers)
        start = time.monotonic()
        answers.close()
        assert time.monotonic() - start < PATIENCE_S  # neither the hanging request nor the pause is waited for
        assert "event_loop" not in [thread.name for thread in threading.enumerate()]  # which alone sends
        assert len(server.records) < 100


INTERRUPTED = """
import sys
from srpo_fast.config import EndpointConfig
from srpo_fast.chat.model import ChatRequest
from srpo_fast.chat.endpoint import Endpoint

settings = EndpointConfig(base_url=sys.argv[1], model="m", key_env=None, concurrency=4, backoff_s=600, timeout_s=600)
texts = ["a", "b", "[fault:hang]", "[fault:error_500]"] * 10
for result in Endpoint(settings).ask(
    ChatRequest(key=str(i), system=None, text=f"{text} {i}", images=(), schema=None) for i, text in enumerate(texts)
):
    print(result.key, flush=True)
"""


def test_ctrl_c_ends_the_process_at_once(tmp_path):
    with serve(hang_s=600) as server:
        said = interrupted(server, tmp_path)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert "never awaited" not in said
    assert "was destroyed" not in said


def interrupted(server: ChatServer, folder: Path) -> str:
    """What a process says that is interrupted when all it asks hangs or pauses."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, server.base_url], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=hear_interrupts,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    assert wait_until(lambda: server.faults.total() == 4)  # all that may be under way hang or pause
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=PATIENCE_S)[1]  # hanging lasts 600 s, pausing as long


def test_an_error_in_the_requests_reaches_the_caller(server):
    def requests() -> Iterator[ChatRequest]:
        yield make_request(0)
        raise KeyError("no such record")

    with pytest.raises(KeyError, match="no such record"):
        list(make_endpoint(server).ask(requests()))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("unauthorized", "check the key"),
        ("no_model", "check model, and base_url"),
        ("quota", "no quota left"),
    ],
)
def test_what_no_request_would_survive_is_one_error_after_the_results_so_far(server, fault, message):
    # in their order: else one may be overtaken
    server.before_reply = lambda record: wait_until(lambda: f"[{len(server.answered)}]" in record.text)
    requests = (make_request(n, f"[fault:{fault}]" if n == 20 else "how many?") for n in range(1000))
    results, error = until_error(make_endpoint(server, concurrency=2).ask(requests))
    assert message in error
    assert "\n" not in error
    assert {f"k{n}" for n in range(18)} <= {result.key for result in results}
    assert len(server.records) <= 20 + 2 * 2


def test_results_that_wait_to_be_taken_come_before_the_error():
    with serve(delay_s=0.1) as server:
        texts = ["a", "b", "[fault:unauthorized]", "[fault:error_500*1]"]  # two at a time; the last one takes longest
        endpoint = make_endpoint(server, concurrency=2)
        answers = endpoint.ask(make_request(n, text) for n, text in enumerate(texts))
        first = next(answers)
        assert wait_until(lambda: endpoint.usage.replies == 3)
        others, _ = until_error(answers)
        assert {first.key, *(result.key for result in others)} == {"k0", "k1", "k3"}


def until_error(answers: Iterator[ChatReply | ChatFailure]) -> tuple[list[ChatReply | ChatFailure], str]:
    """The results that came before a UserError, and what it says."""
    results: list[ChatReply | ChatFailure] = []
    try:
        results.extend(answers)
    except UserError as error:
        return results, str(error)
    pytest.fail("no error came")


def test_a_server_that_nobody_started_is_one_error_at_once(server):
    endpoint = make_endpoint(server, base_url="http://127.0.0.1:9/v1", backoff_s=60)
    with pytest.raises(UserError, match=r"teacher at http://127\.0\.0\.1:9/v1: .*nobody answers.*correct base_url"):
        list(endpoint.ask(make_request(n) for n in range(100)))


def test_a_server_that_only_fails_is_given_up(server):
    endpoint = make_endpoint(server, retries=1, concurrency=2)
    with pytest.raises(UserError, match="8 requests in a row failed, the last one with server_error"):
        list(endpoint.ask(make_request(n, "[fault:error_500]") for n in range(1000)))
    assert len(server.records) < 30


def test_a_server_that_asks_for_hours_is_not_waited_for():
    with serve(retry_after="7200") as server, pytest.raises(UserError, match="left alone for 7200 s"):
        list(make_endpoint(server).ask([make_request(0, "[fault:rate_limit]")]))


def test_a_server_that_is_killed_is_waited_for(tmp_path):
    log, port_file = tmp_path / "log", tmp_path / "port"
    process, port = start_server(0, port_file, log)
    settings = EndpointConfig(
        base_url=f"http://127.0.0.1:{port}/v1", model="m", key_env=None, concurrency=1, retries=1000, backoff_s=0.1,
        backoff_limit_s=0.3,
    )  # fmt: skip
    answers = Endpoint(settings).ask(make_request(n) for n in range(20))
    keys = [next(answers).key for _ in range(5)]
    process.kill()
    process.wait()
    port_file.unlink()
    process, _ = start_server(port, port_file, log)
    keys += [result.key for result in answers if isinstance(result, ChatReply)]
    process.terminate()
    assert process.wait() == 0
    assert sorted(keys) == sorted(f"k{n}" for n in range(20))
    assert 20 <= len(log.read_text().splitlines()) <= 22  # one try may have been under way when it was killed


def start_server(port: int, port_file: Path, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The process and its port, ready to answer."""
    script = Path(__file__).parent / "chat_server.py"
    process = subprocess.Popen([sys.executable, script, str(port), port_file, log])
    wait_until(lambda: port_file.exists() or process.poll() is not None)
    return process, int(port_file.read_text())
