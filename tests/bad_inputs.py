"""Run as a script: starts one training job after the other in one process, which all must fail at once.

Arguments: a JSON file with {name: [command-line argument, ...]}. Prints {name: [exit code, stderr]} as the last line.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

from srpo_fast.parallel import stop
from srpo_fast.train import main


def attempt(arguments: list[str]) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main(arguments)
    stop()
    return code, said.getvalue()


if __name__ == "__main__":
    attempts = json.loads(Path(sys.argv[1]).read_text())
    print("\n" + json.dumps({name: attempt(arguments) for name, arguments in attempts.items()}))
