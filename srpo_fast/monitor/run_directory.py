"""The run directory: where a run keeps its files, and the check that one directory holds one run."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from srpo_fast.atomic_file import replacing
from srpo_fast.config import Config, ConfigError, UserError, dump_config
from srpo_fast.writer_lock import WriterLock

# none changes what is computed; run.dir is how the directory was spelled, so a moved run resumes
IGNORED_KEYS = {
    "run.resume", "run.dir", "run.max_quiet_minutes", "data.bad_records", "data.max_bad_share", "model.recompute",
    "parallel.tp", "parallel.pp", "parallel.cp", "parallel.chunks_per_stage", "parallel.sequence_parallel",
    "optimizer.offload", "optimizer.tokens_per_micro_batch", "rollout.kv_cache_gib", "rollout.max_num_seqs",
    "rollout.weights", "rollout.checked_share", "rollout.kv_cache",
}  # fmt: skip
STEPS = "steps"  # of a run that has begun may be raised, or lowered to those it has done
NOT_SET = "(not set)"
LOCK = "lock"
REFLECTION = "reflection"  # the folder of stage 1, which `srpo reflect` may fill before the run begins


class RunDirectory:
    """The paths of a run. Making one touches nothing: open_run does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.resolved.yaml"
        self.metrics = root / "metrics.jsonl"
        self.completions = root / "completions"
        self.checkpoints = root / "checkpoints"
        self.reflection = root / REFLECTION
        self.quarantine = root / "quarantine.jsonl"
        self.report = root / "report.html"
        self.summary = root / "summary.json"
        self.lock = root / LOCK

    @property
    def has_begun(self) -> bool:
        """Whether there is work in it that another start would lose or continue: a step or a checkpoint."""
        return self.metrics.exists() or any(self.checkpoints.glob("step_*"))

    def completions_of(self, step: int) -> Path:
        return self.completions / f"step_{step:06d}.jsonl"

    def completion_files(self) -> list[Path]:
        """The files of recorded completions, in the order of their steps."""
        return sorted(self.completions.glob("step_*.jsonl"), key=step_of)


def step_of(path: Path) -> int:
    """The step in the name of completions/step_000120.jsonl."""
    return int(path.stem.removeprefix("step_"))


def open_run(config: Config, note: Callable[[str], None] = lambda text: None) -> RunDirectory:
    """The directory of this run, made if new. For one rank only; the others take RunDirectory(config.run.dir).

    note: told when the run goes on to another number of steps than it began with.

    UserError, with nothing written, when another process runs in it, or when `run.dir` holds something else: another
    config's run that has begun, any that has begun under run.resume=never, or files that are no run.
    """
    run = RunDirectory(config.run.dir)
    if run.lock.is_file():
        WriterLock(run.lock).release()  # nobody's; its holder is the monitor, from now until the run ends
    if _holds_files(run.root):
        _require_same_run(run, config, note)
        if not run.has_begun:
            run.config.unlink()  # a start that failed on its model or data may be corrected
            run.summary.unlink(missing_ok=True)
    try:
        run.completions.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"run.dir {run.root} cannot be made ({error.strerror}); choose another run.dir") from error
    if not run.config.exists() or run.has_begun:  # which may have got more steps, or another layout
        write_atomically(run.config, dump_config(config))
    return run


def write_atomically(path: Path, text: str) -> None:
    """Replaces `path` by `text` in one rename: a reader sees the old file or the new one, never a part."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file; none if there is no file. A last line cut by a crash is left out."""
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number} is not a line of JSON; remove the line") from error
    return records


def _holds_files(root: Path) -> bool:
    """True if `root` exists and is not just an empty directory, one that a start broken off left, or stage 1's."""
    if not root.exists():
        return False
    if not root.is_dir():
        return True
    entries = [entry for entry in root.iterdir() if entry.name not in (REFLECTION, LOCK)]
    return any(entry.name != "completions" or any(entry.iterdir()) for entry in entries)


def _require_same_run(run: RunDirectory, config: Config, note: Callable[[str], None]) -> None:
    if not run.config.is_file():
        raise ConfigError(f"run.dir {run.root} exists and is no run directory; choose another run.dir")
    if not run.has_begun:
        return
    remedy = f"choose another run.dir, or delete {run.root}"
    if config.run.resume == "never":
        raise ConfigError(f"run.dir {run.root} already holds a run and run.resume=never; {remedy}")
    try:
        held = dict(_leaves(yaml.safe_load(run.config.read_text(encoding="utf-8"))))
    except (yaml.YAMLError, AttributeError) as error:
        raise ConfigError(f"{run.config} is not a resolved config; {remedy}") from error
    asked = dict(_leaves(yaml.safe_load(dump_config(config))))
    for key in [k for k in asked | held if k not in {*IGNORED_KEYS, STEPS}]:
        old, new = held.get(key, NOT_SET), asked.get(key, NOT_SET)
        if old != new:
            raise ConfigError(f"run.dir {run.root} holds a run with {key}={old}, this one has {key}={new}; {remedy}")
    if held.get(STEPS) != config.steps:
        _require_steps(run, config.steps)
        falls = ", at whose end the learning rate falls" if config.optimizer.decay_share else ""
        note(f"steps={held.get(STEPS)} until now, {config.steps} from here on{falls}")


def _require_steps(run: RunDirectory, steps: int) -> None:
    done = max((step_of(folder) for folder in run.checkpoints.glob("step_*")), default=0)
    if steps < done:
        raise ConfigError(
            f"run.dir {run.root} holds a run that has done {done} steps, this one has steps={steps}; "
            "set as many or more, or choose another run.dir"
        )


def _leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every value in nested sections."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
