"""Run as a script with a number of ranks, another script and its arguments: runs that on so many ranks, as forks.

What the script imports is then imported once, which is most of what a test on ranks takes. One that fails ends the
others, as torchrun has it.
"""

import os
import runpy
import signal
import socket
import sys
import traceback


def main(ranks: int, script: str, *arguments: str) -> int:
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="imports")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    children = {_fork(rank, script) for rank in range(ranks)}
    code = 0
    while children:
        child, status = os.wait()
        children.discard(child)
        if status and not code:
            code = 1
            for other in children:
                os.kill(other, signal.SIGKILL)
    return code


def _fork(rank: int, script: str) -> int:
    if child := os.fork():
        return child
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    code = 1
    try:
        runpy.run_path(script, run_name="__main__")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))
