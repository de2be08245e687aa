"""`srpo data`: the sub-commands, their options, and what they print."""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srpo_fast.config import DataConfig, UserError

if TYPE_CHECKING:
    from srpo_fast.dataset import QuestionFile
    from srpo_fast.inspection.figures import LengthOf

SHOWN_PLACES = 5  # of every reason
_BUDGET = {name: DataConfig.model_fields[name].default for name in ("min_pixels", "max_pixels")}
_MAX_PROMPT_TOKENS: int = DataConfig.model_fields["max_prompt_tokens"].default


def check(options: argparse.Namespace) -> int:
    """Reads every record and decodes every image of a data file; exit code 2 when one cannot be used."""
    from rich.console import Console
    from rich.progress import track

    from srpo_fast.inspection.check import check as check_questions
    from srpo_fast.inspection.check import write_problems

    console = Console(stderr=True)
    findings = check_questions(
        _open(options),
        _length_of(options, options.max_prompt_tokens) if options.model else None,
        lambda results, total: track(
            results, "decoding", total=total, console=console, transient=True, disable=not console.is_terminal
        ),
    )
    if options.out:
        write_problems(options.out, findings)
    if options.json:
        counts = {"records": findings.num_records, "images": findings.num_images, "bad": len(findings.problems)}
        problems = [asdict(problem) for problem in findings.problems]
        print(json.dumps({**counts, "reasons": dict(findings.reasons), "problems": problems}, ensure_ascii=False))
    else:
        print(f"{findings.num_records:,} records, {findings.num_images:,} images decoded")
        for reason, count in findings.reasons:
            print(f"{count:,} {reason}")
            alike = [problem for problem in findings.problems if problem.reason == reason]
            for problem in alike[:SHOWN_PLACES]:
                print(f"  {problem}")
            if count > SHOWN_PLACES:
                print(f"  and {count - SHOWN_PLACES:,} more" + ("" if options.out else "; --out lists them all"))
        print(f"{len(findings.problems):,} of {findings.num_records:,} records cannot be used")
    return 2 if findings.problems else 0


def stats(options: argparse.Namespace) -> int:
    """Counts what a data file is made of: answers, images, prompt lengths, repetitions."""
    from srpo_fast.inspection.figures import measure, num_words

    unit = "tokens" if options.model else "words"
    figures = measure(_open(options), _length_of(options, 10**9) if options.model else num_words)
    areas = [width * height for width, height in figures.sizes]
    table: dict[str, Any] = {
        "records": figures.num_records,
        "questions": figures.num_questions,
        "answers": figures.answers,
        "images_per_question": {str(number): count for number, count in figures.images.items()},
        "image_pixels": _quantiles(areas),
        "images_enlarged": sum(area < options.min_pixels for area in areas),
        "images_shrunk": sum(area > options.max_pixels for area in areas),
        f"prompt_{unit}": _quantiles(figures.lengths),
        f"prompts_by_{unit}": _histogram(figures.lengths),
        "prompts_unmeasured": figures.num_unmeasured,
        "repeated_ids": figures.repeated_ids,
        "repeated_questions": figures.repeated_questions,
    }
    if options.json:
        print(json.dumps(table))
        return 0
    for name, value in table.items():
        shown = ", ".join(f"{key} {n:,}" for key, n in value.items()) if isinstance(value, dict) else f"{value:,}"
        print(f"{name.replace('_', ' '):22}{shown}")
    return 0


def view(options: argparse.Namespace) -> int:
    """Writes one HTML page of a data file's questions, with their images and answers."""
    from srpo_fast.atomic_file import replacing
    from srpo_fast.inspection.question_page import question_page

    html = question_page(_open(options), options.limit)
    with replacing(options.out) as partial:
        partial.write_text(html, encoding="utf-8")
    print(options.out)
    return 0


def convert(options: argparse.Namespace) -> int:
    """Writes a data file anew as the published RL lines (.jsonl) or as verl's and EasyR1's parquet (.parquet)."""
    from srpo_fast.formats.writers import write_parquet, write_rl_lines

    writers = {".jsonl": write_rl_lines, ".parquet": write_parquet}
    if options.out.suffix not in writers:
        raise UserError(f"expected a .jsonl or .parquet file to write, got {options.out}")
    if options.out.resolve() == options.file.resolve():
        raise UserError(f"expected another file to write than {options.file}, which is read; name a new one")
    questions = _open(options)
    entries = ((questions.id(index), questions.entry(index)) for index in range(len(questions)))
    writers[options.out.suffix](options.out, entries, questions.image_root)
    left_out = f", {len(questions.problems):,} records left out" if questions.problems else ""
    print(f"{options.out}: {len(questions):,} questions{left_out}")
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)


def add_data_commands(parser: argparse.ArgumentParser) -> None:
    """Gives `srpo data` its sub-commands."""
    commands = parser.add_subparsers(required=True, metavar="command")
    command = _add(commands, "check", check)
    _add_model(command)
    command.add_argument("--json", action="store_true", help="print one JSON object, every problem in it")
    command.add_argument("--out", type=Path, metavar="F.jsonl", help="write every problem as a line of JSON")
    command.add_argument(
        "--max-prompt-tokens",
        type=_positive,
        default=_MAX_PROMPT_TOKENS,
        metavar="N",
        help="with --model (%(default)s)",
    )
    command = _add(commands, "stats", stats)
    _add_model(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command = _add(commands, "view", view)
    command.add_argument("--limit", type=_positive, default=40, metavar="N", help="questions to show (%(default)s)")
    command.add_argument("--out", type=Path, default=Path("questions.html"), metavar="page.html", help="(%(default)s)")
    command = _add(commands, "convert", convert)
    command.add_argument("out", type=Path, metavar="OUT", help="a .jsonl or .parquet file")


def _add(commands: Any, name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
    command.add_argument("file", type=Path, metavar="F", help="a .jsonl, .json or .parquet file, or FOLDER[#SPLIT]")
    command.add_argument("--image-root", type=Path, metavar="D", help="where relative image paths start")
    for option, default in _BUDGET.items():
        command.add_argument(
            f"--{option.replace('_', '-')}",
            type=_positive,
            default=default,
            metavar="N",
            help="of an image (%(default)s)",
        )
    command.set_defaults(run_command=run)
    return command


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", type=Path, metavar="DIR", help="a model directory: measure prompts in its tokens")
    command.add_argument("--system-prompt", default="", metavar="TEXT", help="with --model: what prompts begin with")


def _open(options: argparse.Namespace) -> "QuestionFile":
    from srpo_fast.dataset import read_questions

    return read_questions(
        options.file, options.image_root, min_pixels=options.min_pixels, max_pixels=options.max_pixels
    )


def _length_of(options: argparse.Namespace, max_prompt_tokens: int) -> "LengthOf":
    """In tokens of the model; raises BadRecord for prompts that are longer."""
    from srpo_fast.prompts import PromptEncoder

    encoder = PromptEncoder.from_pretrained(options.model, max_prompt_tokens)
    return lambda name, text, sizes: encoder.prompt_length(name, text, sizes, options.system_prompt)


def _quantiles(values: Sequence[int]) -> dict[str, int]:
    ordered = sorted(values)
    places = {"min": 0.0, "median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: ordered[round(share * (len(ordered) - 1))] for name, share in places.items() if ordered}


def _histogram(values: Sequence[int]) -> dict[str, int]:
    """Counts by powers of two: "<=64" are 33 to 64."""
    counts = Counter(1 << max(0, value - 1).bit_length() for value in values)
    return {f"<={top}": count for top, count in sorted(counts.items())}
