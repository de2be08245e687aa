"""Kinds of numbers that benchmarks' options take: argparse says in one line what else came."""

import argparse
from collections.abc import Callable

LEAST_ROUNDS = 2  # fewer have no spread


def at_least(least: int) -> Callable[[str], int]:
    """For `type=`: a whole number of `least` or more."""

    def number(text: str) -> int:
        if not text.strip().lstrip("+-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of {least} or more, got {text!r}")
        return int(text)

    return number
