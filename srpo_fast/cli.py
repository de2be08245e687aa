"""The `srpo` command: one thin function a sub-command. Exit code 0, or 2 with one line on a user's mistake."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from srpo_fast.config import UserError, load_config


def report(options: argparse.Namespace) -> None:
    """Writes report.html of a run directory anew, also while the run goes on."""
    from srpo_fast.monitor.report import write_report

    print(write_report(options.run))


def validate(options: argparse.Namespace) -> None:
    """Checks a config and, where they are files, the head of its questions."""
    config = load_config(options.config, options.overrides)
    from srpo_fast.sources import SPLITS, open_questions

    for split in SPLITS:
        questions = open_questions(config, split)
        for index in range(min(8, len(questions))):
            _ = questions[index]
        print(f"{split}: {len(questions):,} questions")
    print(f"{options.config} is valid")


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="srpo", description="SRPO for Qwen2.5-VL")
    commands = root.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("report", help=report.__doc__)
    command.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    command.set_defaults(run_command=report)

    command = commands.add_parser("validate", help=validate.__doc__)
    command.add_argument("config", type=Path, metavar="F.yaml")
    command.add_argument("overrides", nargs="*", metavar="section.key=value")
    command.set_defaults(run_command=validate)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        options.run_command(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
