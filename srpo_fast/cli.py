"""The `srpo` command. Exit code 0, or 2 with one line on a user's mistake."""

import os
import sys
from collections.abc import Sequence

from srpo_fast.doctor.command import doctor, doctor_options
from srpo_fast.user_error import UserError

INTERRUPTED = 130  # as a shell says of a process that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = _run(words)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"error: {error}; `srpo doctor` says what is missing or broken, and what to do", file=sys.stderr)
        return 2
    except BrokenPipeError:  # of `srpo ... | head`: no one reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's end would say it again
        return 1
    except OSError as error:
        if error.filename is None:  # not of a file or folder that was named
            raise
        path = error.filename2 or error.filename  # of a rename, where to
        print(f"error: {path}: {error.strerror}; check the path and who may use it", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return code


def _run(words: list[str]) -> int:
    if words[:1] == ["doctor"]:  # it is for broken installations, where the other commands cannot even be imported
        return doctor(doctor_options(words[1:]))
    from srpo_fast.commands import run

    return run(words)
