"""Run by launch.py: a process that starts scripts as forks of itself, so that what they import is imported once.

That is most of what such a start costs. A line of JSON on stdin starts one and its exit code comes back on stdout; the
end of stdin is the end. Ranks find each other as under torchrun, and the first that fails ends the others.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import traceback
from typing import Any

import torch.distributed as dist

# what an engine imports when it starts
OF_ENGINES = ("vllm", "vllm.entrypoints.llm", "vllm.v1.worker.cpu_worker", "vllm.model_executor.models.qwen2_5_vl")


def main() -> None:
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    for line in sys.stdin:
        job = json.loads(line)
        redirect(job["stdout"], job["stderr"])
        sys.argv = [job["script"], *job["arguments"]]
        runpy.run_path(job["script"], run_name="imports")  # what it raises ends this process and is in the job's stderr
        if "srpo_fast.rollout" in sys.modules:
            list(map(importlib.import_module, OF_ENGINES))
        gc.freeze()  # its forks shall neither walk nor copy all that
        if not (child := os.fork()):
            os.environ.clear()
            os.environ |= job["environment"]
            os._exit(run_alone(job) if job["ranks"] == 1 else run_ranks(job))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=replies, flush=True)


def redirect(stdout: str, stderr: str) -> None:
    for stream, path in ((sys.stdout, stdout), (sys.stderr, stderr)):
        stream.flush()
        with open(path, "w") as file:
            os.dup2(file.fileno(), stream.fileno())


def run_ranks(job: dict[str, Any]) -> int:
    meeting = socket.create_server(("127.0.0.1", 0), backlog=64)
    port = meeting.getsockname()[1]
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(job["ranks"]),
        "TORCHELASTIC_RUN_ID": f"fork-{os.getpid()}", "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    ranks = {start_rank(rank, job) for rank in range(job["ranks"])}
    # after the forks, for it has threads; it takes the socket over
    store = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=meeting.detach())
    code = 0
    while ranks:
        rank, status = os.wait()
        ranks.discard(rank)
        if status and not code:
            code = 1
            for other in ranks:
                os.kill(other, signal.SIGKILL)
    del store
    return code


def start_rank(rank: int, job: dict[str, Any]) -> int:
    if child := os.fork():
        return child
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os._exit(run_alone(job))


def run_alone(job: dict[str, Any]) -> int:
    code = 1
    try:
        runpy.run_path(job["script"], run_name="__main__")
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    main()
