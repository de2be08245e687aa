"""A worker of pool.py: makes one function, then calls it with what comes through a socket until that is closed.

    python -P -m srpo_fast.workers.main FD LIMIT_S MEMORY_GIB MODULE:FUNCTION [ARGUMENT ...]

FUNCTION(*ARGUMENTS) returns the function to call. A message either way is a length and a pickle. To the worker: a tuple
of arguments. From it, a pair: ("ready", None) or ("unusable", why), once; then for every call ("done", result),
("failed", why), or ("refused", message) of an UserError.
"""

import importlib
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any

from srpo_fast.config import UserError

HEADER = struct.Struct("<Q")
OUT_OF_MEMORY = 83  # exit code: what is left of a process without memory is not worth keeping
_MAX_REASON = 400  # characters


def frame(content: Any) -> bytes:
    """`content` as it travels."""
    body = pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)
    return HEADER.pack(len(body)) + body


def main(arguments: list[str]) -> None:
    descriptor, limit_s, memory_gib, target, *target_arguments = arguments
    channel = socket.socket(fileno=int(descriptor))
    channel.set_inheritable(False)
    channel.setblocking(True)
    if memory := int(float(memory_gib) * 2**30):
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    module, _, name = target.partition(":")
    kind, function = _answer(
        lambda: getattr(importlib.import_module(module), name)(*target_arguments), "ready", "unusable"
    )
    channel.sendall(frame((kind, None if kind == "ready" else function)))
    while kind == "ready" and (call := _receive(channel)) is not None:
        channel.sendall(_answered(function, call, float(limit_s)))


def _answered(function: Callable[..., Any], call: tuple[Any, ...], limit_s: float) -> bytes:
    """The framed answer to one call. Ends the process when memory runs out."""
    # The parent kills a call that hangs. Should the parent be gone, the kernel does, whatever the call is busy with.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 2 * limit_s + 1)
    kind, framed = _answer(lambda: frame(("done", function(*call))), "done", "failed")
    signal.setitimer(signal.ITIMER_REAL, 0)
    return framed if kind == "done" else frame((kind, framed))


def _answer(make: Callable[[], Any], good: str, bad: str) -> tuple[str, Any]:
    try:
        return good, make()
    except UserError as error:
        return "refused", str(error)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BaseException as error:  # somebody else's code, and this is the border of its process
        return bad, _reason(error)


def _reason(error: BaseException) -> str:
    """Type, message and place in one line."""
    said = " ".join("".join(traceback.format_exception_only(error)).split())
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{said:.{_MAX_REASON}} (line {place.lineno} of {place.filename}, in {place.name})"


def _receive(channel: socket.socket) -> Any:
    """The next message; None when there will be none."""
    header = _read(channel, HEADER.size)
    return None if header is None else pickle.loads(_read(channel, HEADER.unpack(header)[0]) or b"N.")


def _read(channel: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        chunk = channel.recv(min(size - len(data), 2**20))
        if not chunk:
            return None
        data += chunk
    return bytes(data)


if __name__ == "__main__":
    main(sys.argv[1:])
