"""What benchmarks' options take, and what is said in one line of anything else."""

import argparse
import sys
from collections.abc import Callable

from srpo_fast.user_error import UserError

LEAST_ROUNDS = 2  # fewer have no spread


def at_least(least: int) -> Callable[[str], int]:
    """For `type=`: a whole number of `least` or more."""

    def number(text: str) -> int:
        if not text.strip().lstrip("+-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of {least} or more, got {text!r}")
        return int(text)

    return number


def in_one_line(main: Callable[[], None]) -> None:
    """Runs a benchmark; a user's mistake ends it as it ends a command."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
