"""What `srpo` can do: one thin function a sub-command, and their options."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from srpo_fast import inspection
from srpo_fast.config import UserError, add_config_arguments, load_config
from srpo_fast.doctor.command import doctor
from srpo_fast.evaluation.command import add_eval_options, evaluate
from srpo_fast.inspection.command import add_data_commands
from srpo_fast.user_error import CommandParser

_SUBJECTS = "the head and its operations; the weight sync; rollouts and a step's seconds"


def train(options: argparse.Namespace) -> int:
    """torchrun srpo_fast/train.py on this machine, with train.py's exit code and without torchrun's own report."""
    if options.ranks < 1:
        raise UserError(f"expected --ranks of 1 or more, got {options.ranks}")
    load_config(options.config, options.overrides)  # a mistake shows at once, before anything large is imported
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # else torchrun sets it, and says so
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    script = Path(__file__).with_name("train.py")
    launch = ["--standalone", "--nproc-per-node", str(options.ranks), str(script)]
    try:
        torchrun.run(torchrun.parse_args([*launch, "--config", str(options.config), *options.overrides]))
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode  # as a shell counts signals
    except SignalException as error:  # Ctrl-C, or a scheduler's SIGTERM: torchrun has ended the ranks
        print(f"interrupted by {error.sigval.name}; the same command goes on", file=sys.stderr)
        return 128 + error.sigval
    return 0


def report(options: argparse.Namespace) -> int:
    """Writes report.html of a run directory anew, also while the run goes on."""
    from srpo_fast.monitor.report import write_report

    print(write_report(options.run))
    return 0


def validate(options: argparse.Namespace) -> int:
    """Checks a config, the files that it names, the model's sizes and tokenizer, and the first prompts; no weights."""
    config = load_config(options.config, options.overrides)
    from srpo_fast.evaluation.in_loop import open_benchmark
    from srpo_fast.grading.grader import Grader
    from srpo_fast.inspection.model_check import measure_prompts, open_encoder
    from srpo_fast.parallel import machines_device
    from srpo_fast.quarantine import Quarantine
    from srpo_fast.rewards.scoring import make_scorer
    from srpo_fast.rollout import require_device  # without vLLM
    from srpo_fast.sources import SPLITS, check_sources, open_questions

    make_scorer(config.reward, lambda texts: [], Grader(config.reward))  # loads a function of the user's own
    check_sources(config)
    encoder = open_encoder(config)

    quarantine = Quarantine(None, config.data.bad_records, config.data.max_bad_share)
    for split in SPLITS:
        questions = open_questions(config, split, quarantine)
        fit = f"; {measure_prompts(questions, encoder, config)}" if questions else ""
        print(f"{split}: {len(questions):,} questions{fit}")
    for settings in config.evaluation.benchmarks:
        opened = open_benchmark(settings, config)
        print(f"evaluation, {settings.name}: {len(opened.items):,} items")
    if quarantine:
        print(f"{len(quarantine):,} records cannot be used; `srpo data check` says why")
    try:
        require_device(config.rollout, machines_device())
    except UserError as error:  # the config may be for another one
        print(f"it cannot run on this machine: {error}")
    print(f"{options.config} is valid")
    return 0


def reward(options: argparse.Namespace) -> int:
    """Scores the completions of a file: the parts of each reward, and why it is not more."""
    from rich.console import Console

    from srpo_fast.rewards.scored_file import as_json, as_table, score_file

    scored = score_file(options.completions, options.variant, options.tokenizer)
    if failures := [line for line in scored if line.score.failure]:
        first = failures[0]
        print(f"{len(failures)} not graded; the first, {first.id}: {first.score.failure}", file=sys.stderr)
    if options.json:
        print(as_json(scored))
    else:
        Console().print(as_table(scored))
    return 0


def reflect(options: argparse.Namespace) -> int:
    """Stage 1 alone: first answers, reflections, an SFT file. Started again after any end, it goes on."""
    config = load_config(options.config, options.overrides)
    from srpo_fast.reflection.alone import reflect_alone

    return reflect_alone(config, options.out, as_json=options.json)


def estimate(options: argparse.Namespace) -> int:
    """Predicts memory and step time of a config, and names the next knob; no GPU, no weights. Exit code 1: no fit."""
    from rich.console import Console

    from srpo_fast.estimate import as_json, as_text, predict
    from srpo_fast.estimate.host_memory import find_host_gib

    prediction = predict(
        load_config(options.config, options.overrides), gpus=options.gpus, memory_gib=options.gpu_memory_gib,
        gpu=options.gpu, model_config=options.model_config, assumptions=options.assume,
        host_gib=find_host_gib(options.host_memory_gib),
    )  # fmt: skip
    if options.json:
        print(as_json(prediction))
    else:
        Console(highlight=False).print(as_text(prediction))
    return 0 if prediction.verdict.fits else 1


def bench(options: argparse.Namespace) -> int:
    """Measures operations against other ways of doing the same; needs a checkout of the sources."""
    checkout = Path(__file__).parent.parent
    module = f"benchmarks.{options.subject}"
    if not any(path.is_file() for path in _sources_of(checkout / "benchmarks" / options.subject)):
        raise UserError(
            f"{module} is not installed with the package: clone the sources, `make setup`, then run it there"
        )
    # a fresh process: nothing here imports benchmarks, and it must not have what suits a run on CPUs and no measurement
    environment = {k: v for k, v in os.environ.items() if k not in ("TORCHDYNAMO_DISABLE", "OMP_NUM_THREADS")}
    places = [str(checkout), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(places)
    # -P: not the user's folder, in which paths begin and which may hold a folder called benchmarks
    arguments = [sys.executable, "-P", "-m", module, *options.arguments]
    # in the place of this process: a signal reaches what is to clean up
    os.execve(sys.executable, arguments, environment)


def _add_estimate_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", type=Path, metavar="F.yaml")
    command.add_argument("overrides", nargs="*", metavar="section.key=value")
    command.add_argument("--gpus", type=int, required=True, metavar="N", help="in all machines together")
    command.add_argument("--gpu-memory-gib", type=float, metavar="G", help="of one GPU (default: that of --gpu)")
    command.add_argument(
        "--host-memory-gib", metavar="G", help="of one machine, to be judged too; `this`: of the one you are on"
    )
    command.add_argument("--gpu", metavar="NAME", help="h100, h200, ..., cpu (default: h100, above 100 GiB h200)")
    command.add_argument("--model-config", metavar="M", help="3b, 7b, 32b, 72b or a config.json, for model.path")
    command.add_argument("--assume", action="append", default=[], metavar="name=value", help="replaces an assumption")
    command.add_argument("--json", action="store_true", help="print one JSON document instead")


def _sources_of(module: Path) -> tuple[Path, ...]:
    return module / "__main__.py", module.with_suffix(".py")


def parser() -> argparse.ArgumentParser:
    root = CommandParser(prog="srpo", description="SRPO for Qwen2.5-VL")
    commands = root.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("train", help=train.__doc__)
    command.add_argument("--ranks", type=int, default=min(2, os.cpu_count() or 1), help="processes on this machine")
    add_config_arguments(command)
    command.set_defaults(run_command=train)

    commands.add_parser("doctor", help=doctor.__doc__)  # whose options are its own: cli.py

    command = commands.add_parser("report", help=report.__doc__)
    command.add_argument("run", type=Path, metavar="RUN", help="a run directory")
    command.set_defaults(run_command=report)

    command = commands.add_parser("validate", help=validate.__doc__)
    command.add_argument("config", type=Path, metavar="F.yaml")
    command.add_argument("overrides", nargs="*", metavar="section.key=value")
    command.set_defaults(run_command=validate)

    command = commands.add_parser("reflect", help=reflect.__doc__)
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="where everything is kept (default: run.dir/reflection)"
    )
    command.add_argument("--json", action="store_true", help="print the statistics as one JSON object, the last line")
    add_config_arguments(command)
    command.set_defaults(run_command=reflect)

    add_data_commands(commands.add_parser("data", help=inspection.__doc__))

    command = commands.add_parser("reward", help=reward.__doc__)
    command.add_argument(
        "completions",
        type=Path,
        metavar="F.jsonl",
        help="lines of completion, answer and, if you like, id and question",
    )
    command.add_argument("--variant", default="paper", metavar="V", help="a reward.variant (default: %(default)s)")
    command.add_argument(
        "--tokenizer", default="words", metavar="PATH", help="a model directory that counts tokens (default: words)"
    )
    command.add_argument("--json", action="store_true", help="print one JSON array, an object for every line")
    command.set_defaults(run_command=reward)

    add_eval_options(commands.add_parser("eval", help=evaluate.__doc__, description=evaluate.__doc__))

    command = commands.add_parser("estimate", help=estimate.__doc__)
    _add_estimate_options(command)
    command.set_defaults(run_command=estimate)

    command = commands.add_parser("bench", help=bench.__doc__)
    command.add_argument("subject", choices=["ops", "sync", "loop"], help=_SUBJECTS)
    command.add_argument("arguments", nargs=argparse.REMAINDER, help="of the subject; -h shows them")
    command.set_defaults(run_command=bench)
    return root


def run(arguments: Sequence[str]) -> int:
    options = _parsed(arguments)
    return options.run_command(options)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """section.key=value may come behind options too, where argparse takes no more of a list."""
    root = parser()
    options, rest = root.parse_known_args(arguments)
    strange = [word for word in rest if word.startswith("-") or "=" not in word or not hasattr(options, "overrides")]
    if strange:
        root.error(f"unrecognized arguments: {' '.join(strange)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options
