"""`srpo reflect`: stage 1 in one process, without the training that follows it."""

import json
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from srpo_fast.config import Config, ParallelConfig, UserError
from srpo_fast.monitor.progress import Bar, Display, open_display
from srpo_fast.parallel import Parallel, start, stop
from srpo_fast.reflection.opening import open_stage_1
from srpo_fast.reflection.stage import Stage1, write_examples
from srpo_fast.reflection.tally import as_table

INTERRUPTED = 130  # what a shell makes of Ctrl-C


class _Phases:
    """A display for stage 1: its steps are the bars."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def phase(self, name: str, total: int, *, done: int = 0, label: str | None = None) -> AbstractContextManager[Bar]:
        return self._display.bar(label or name, total, done)

    def note(self, text: str) -> None:
        self._display.note(text)


def reflect_alone(config: Config, out: Path | None, *, as_json: bool) -> int:
    """The exit code: 0 with an SFT file, or INTERRUPTED. Progress is shown on stdout, beside JSON on stderr."""
    if config.reflection is None:
        raise UserError("expected a reflection section in the config, found none; give it at least a teacher")
    display = open_display(sys.stderr if as_json else sys.stdout)
    phases = _Phases(display)
    stage = open_stage_1(config, out, phases)
    try:
        file = _write_examples(stage, config, phases)
    except KeyboardInterrupt:
        print(f"stopped; all that is done is in {stage.root}: the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    finally:
        display.close()
    statistics = stage.statistics
    if as_json:
        print(json.dumps({"file": str(file), **statistics}, allow_nan=False))
    else:
        display.console.print(as_table(statistics))
        display.console.print(f"{file}  to train on it: cold_start.data={file} reflection=null", soft_wrap=True)
    return 0


def _write_examples(stage: Stage1, config: Config, display: _Phases) -> Path:
    assert config.reflection is not None
    if config.reflection.answerer is not None:  # then nothing is sampled here, and no process group started
        return write_examples(stage, None, Parallel(rank=0, world=1, tp=1, pp=1, device=torch.device("cpu")))
    from srpo_fast.reflection.policy_answers import EngineAnswerer

    parallel = start(ParallelConfig())  # this process alone, however the training is shared
    try:
        return write_examples(stage, EngineAnswerer(config, parallel, display), parallel)
    finally:
        stop()
