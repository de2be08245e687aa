"""`srpo eval`: its options, and what it prints."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from srpo_fast.config import (
    DEFAULT_CONFIG,
    BenchmarkName,
    EndpointConfig,
    UserError,
    config_error,
    load_config,
)
from srpo_fast.evaluation.benchmarks import NAMES, load_benchmark

if TYPE_CHECKING:
    from srpo_fast.evaluation.run import Task

MAX_TOKENS = 4096
INTERRUPTED = 130  # what a shell makes of Ctrl-C
EMBEDDED: BenchmarkName = "embedded"
PRESETS = {"reflect": "rollout_system", "answer": "answer_system"}  # --system -> key of the config's section prompt
_DEFAULT_PRESET = {"reflective": "reflect", "published": "answer"}  # by protocol


def evaluate(options: argparse.Namespace) -> int:
    """Accuracy of a model, or of saved responses, on a benchmark of the paper: first and last answer, item by item."""
    if options.compare:
        return _compare(options.compare)
    names = _names(options)
    from srpo_fast.evaluation.data import open_source
    from srpo_fast.evaluation.run import Evaluation
    from srpo_fast.monitor.progress import open_display

    tasks = [_task(options, name, len(names) > 1) for name in names]
    for task in tasks[1:]:
        open_source(task.benchmark, task.data, task.split)  # what is missing shows now, not after hours
    display = open_display(sys.stderr if options.json else sys.stdout)
    sampler: Any = None
    try:
        if options.model:
            from srpo_fast.evaluation.sampling import Sampler

            sampler = Sampler(options.model, tasks[0].config, tasks[0].max_tokens)
        results = [Evaluation(task, sampler, display).run() for task in tasks]
    except KeyboardInterrupt:
        print(f"stopped; what is done is in {tasks[0].out}: the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    finally:
        display.close()
        if sampler is not None:
            sampler.close()
    _print(tasks, results, as_json=options.json)
    return 0


def add_eval_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--benchmark", metavar="B", help=f"{', '.join(NAMES)}; several with commas, or all, with --model")
    add("--model", type=Path, metavar="DIR", help="a model directory, sampled greedily in this process")
    add("--responses", type=Path, metavar="F", help="saved responses instead: id and response on every line")
    add("--data", type=Path, metavar="PATH", help="a file or folder (default: the data set of the Hugging Face hub)")
    add("--split", metavar="S", help="(default: the benchmark's usual one)")
    add("--image-root", type=Path, metavar="D", help="where relative image paths start (default: the data's folder)")
    add("--limit", type=int, metavar="N", help="the first N items")
    add("--config", type=Path, metavar="F.yaml", help="prompts, image sizes, dtype and engine (default: the 7B config)")
    add("--system", metavar="TEXT", help="system prompt, or reflect or answer: the config's (default: by protocol)")
    add(
        "--protocol", choices=list(_DEFAULT_PRESET), default="reflective",
        help="published: one answer is asked for, and the first counts, as in the published scripts",
    )  # fmt: skip
    add("--max-tokens", type=int, metavar="N", help=f"of a response ({MAX_TOKENS}; embedded: the config's)")
    add("--judge-model", metavar="M", help="who marks what rules cannot: a model behind an OpenAI-compatible server")
    add("--judge-base-url", metavar="URL", help="of that server (default: OpenAI's)")
    add("--judge-key-env", metavar="NAME", help="variable with its key (default: OPENAI_API_KEY; none: no key)")
    add("--judge-option", action="append", default=[], metavar="key=value", help="further values of a chat endpoint")
    add("--judge-budget", type=int, metavar="N", help="questions it may be asked in all")
    add("--judge-dollars", type=float, metavar="X", help="what they may cost; needs both price_per_million_... options")
    add("--judge-reflections", type=int, default=0, metavar="N", help="let it score N reflections, too")
    add("--out", type=Path, metavar="DIR", help="where everything is kept (default: in runs/evaluation)")
    add("--compare", type=Path, nargs="+", metavar="DIR", help="only put finished evaluations side by side")
    add("--json", action="store_true", help="print the totals as one JSON document, the last line")
    parser.set_defaults(run_command=evaluate)


def _names(options: argparse.Namespace) -> list[str]:
    if (options.model is None) == (options.responses is None):
        raise UserError("expected either --model DIR or --responses F, or --compare DIR DIR; got none or both")
    if not options.benchmark:
        raise UserError(f"expected --benchmark, one of {', '.join(NAMES)}")
    names = [name for name in NAMES if name != EMBEDDED] if options.benchmark == "all" else options.benchmark.split(",")
    if len(names) > 1 and (options.responses or options.split or EMBEDDED in names):
        raise UserError("several benchmarks at once are for --model without --split, and not for embedded")
    for option in ("limit", "max_tokens", "judge_budget"):
        if (value := getattr(options, option)) is not None and value < 1:
            raise UserError(f"--{option.replace('_', '-')}: expected a number from 1, got {value}")
    if options.judge_reflections < 0:
        raise UserError(f"--judge-reflections: expected a number from 0, got {options.judge_reflections}")
    return list(dict.fromkeys(names))


def _task(options: argparse.Namespace, name: str, is_one_of_several: bool) -> "Task":
    from srpo_fast.evaluation.data import chosen_split
    from srpo_fast.evaluation.judging import Budget
    from srpo_fast.evaluation.run import Task

    benchmark = load_benchmark(name)
    data = options.data / name if options.data and is_one_of_several else options.data
    split = chosen_split(benchmark, options.split, data)
    config = load_config(options.config or _usual_config(name), [])
    preset = options.system or _DEFAULT_PRESET[options.protocol]
    own = config.rollout.max_tokens if name == EMBEDDED else MAX_TOKENS
    out = options.out or Path("runs/evaluation") / _label(options, None if is_one_of_several else name, split)
    return Task(
        benchmark=benchmark, split=split, image_root=options.image_root, limit=options.limit, model=options.model,
        responses=options.responses, protocol=options.protocol, max_tokens=options.max_tokens or own, config=config,
        system=getattr(config.prompt, PRESETS[preset]) if preset in PRESETS else preset, judge=_judge(options),
        data=data, budget=Budget(questions=options.judge_budget, dollars=options.judge_dollars),
        judged_reflections=options.judge_reflections, out=out / name if is_one_of_several else out,
    )  # fmt: skip


def _usual_config(name: str) -> Path:
    return DEFAULT_CONFIG if name == EMBEDDED else DEFAULT_CONFIG.with_name("qwen2_5_vl_7b.yaml")


def _label(options: argparse.Namespace, name: str | None, split: str) -> str:
    """A directory's name: the benchmark, the model or file, and what else would give other results."""
    source: Path = (options.model or options.responses).resolve()
    made = "-".join([source.parent.name, source.name if options.model else source.stem])
    return "-".join([*([name, split.replace(" ", "_")] if name else []), made, options.protocol])


def _judge(options: argparse.Namespace) -> EndpointConfig | None:
    given = {"model": options.judge_model, "base_url": options.judge_base_url, "key_env": options.judge_key_env}
    values: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    for option in options.judge_option:
        key, separator, value = option.partition("=")
        if not separator:
            raise UserError(f"--judge-option: expected key=value, got {option:.80}")
        values[key] = value
    if options.judge_model is None:
        if values or options.judge_reflections or options.judge_budget or options.judge_dollars:
            raise UserError("the --judge options need --judge-model")
        return None
    if values.get("key_env") == "none":
        values["key_env"] = None
    try:
        settings = EndpointConfig.model_validate({"temperature": 0.0} | values)
    except ValidationError as error:
        raise UserError(f"--judge: {config_error(error)}") from error
    if options.judge_dollars is not None and settings.price_per_million_prompt_tokens is None:
        raise UserError("--judge-dollars needs --judge-option price_per_million_prompt_tokens=... and the other price")
    return settings


def _compare(directories: Sequence[Path]) -> int:
    from srpo_fast.evaluation.directory import read_results
    from srpo_fast.evaluation.tables import compare

    print(compare([(str(directory), read_results(directory)) for directory in directories]), end="")
    return 0


def _print(tasks: "Sequence[Task]", results: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if not as_json:
        for task in tasks:
            print((task.out / "table.md").read_text(encoding="utf-8"))
            print(task.out / "results.json")
        return
    documents = [
        {"out": str(task.out), **{key: value for key, value in each.items() if key != "items"}}
        for task, each in zip(tasks, results, strict=True)
    ]
    print(json.dumps(documents[0] if len(documents) == 1 else documents, allow_nan=False))
