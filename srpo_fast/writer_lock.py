"""One writer a directory."""

import fcntl
import os
from pathlib import Path

from srpo_fast.config import UserError


class WriterLock:
    """Held by the one process that writes into a directory; a process that dies lets go of it."""

    def __init__(self, path: Path) -> None:
        """UserError if another process holds it."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._file, 20).decode(errors="replace").strip()
            os.close(self._file)
            raise UserError(
                f"{path.parent} is being written by process {holder or 'unknown'}; wait for it, end it, or choose "
                "another directory"
            ) from error
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        os.close(self._file)
