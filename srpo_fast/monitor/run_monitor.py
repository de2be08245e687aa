"""The one thing train.py reports to: progress, metrics, completions, summary and report of a run."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from srpo_fast.batch import Group, HeldOut
from srpo_fast.config import Config
from srpo_fast.deadline import doing
from srpo_fast.monitor.idle_steps import idle_steps, idle_warning
from srpo_fast.monitor.metrics import (
    UNACCOUNTED,
    MetricsWriter,
    PhaseTimer,
    host_memory_gib,
    peak_memory_gib,
    reward_ends,
)
from srpo_fast.monitor.progress import Bar, Display, SilentBar, WatchedBar, open_display
from srpo_fast.monitor.report import write_report
from srpo_fast.monitor.run_directory import RunDirectory, open_run, read_jsonl, step_of
from srpo_fast.monitor.samples import write_completions
from srpo_fast.monitor.step_notes import StepNotes
from srpo_fast.monitor.summary import Stage, Summary, print_summary, read_summary, write_summary
from srpo_fast.writer_lock import WriterLock

RECORDED_GROUPS = 4  # a step: enough to read, little enough to keep
LIVE_FIGURES = {"reward": "rollout/reward_mean", "first": "rollout/acc_first", "second": "rollout/acc_second"}


def open_monitor(config: Config, rank: int) -> "Monitor":
    """The monitor of this rank: rank 0 opens the run directory, writes and shows; the others only time.

    ConfigError (rank 0) if the run directory is not this run's.
    """
    if rank != 0:
        return Monitor(RunDirectory(config.run.dir))
    display = open_display(sys.stdout)
    return WritingMonitor(config, open_run(config, display.note), display)


class Monitor:
    """What every rank may call at every place of the loop. As it stands here it measures and keeps silent."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.timer = PhaseTimer()  # the parts of a step

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    @contextmanager
    def phase(self, name: str, total: int, *, done: int = 0, label: str | None = None) -> Iterator[Bar]:
        """A part of the run with a bar of its own; `name` adds up seconds, `label` (default: the name) is shown.

        `done` of the `total` were done before a resume. A phase inside another one is taken out of its seconds.
        """
        with doing(name):
            yield WatchedBar(SilentBar())

    def note(self, text: str) -> None:
        """Shows one line."""

    def resume_at(self, step: int) -> None:
        """Forgets what was recorded of `step` and later ones; they are about to be repeated."""

    def log_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        """Ends a step: writes its metrics, times and peak memory, records some of `groups`, advances the bar."""
        self.timer.lap()

    def log_heldout(self, stage: Stage, heldout: HeldOut) -> None:
        """Keeps the held-out accuracy after `stage`."""

    def finish(self) -> None:
        """Ends a run that went well: summary, report, and the table on the terminal."""


class WritingMonitor(Monitor):
    """Rank 0's. summary.json is kept up to date, so that a run cut short can be resumed and reported on."""

    def __init__(self, config: Config, run: RunDirectory, display: Display) -> None:
        super().__init__(run)
        self._lock = WriterLock(run.lock)
        self._display = display
        self._metrics = MetricsWriter(run.metrics)
        self._phases = PhaseTimer()
        self._notes = StepNotes(config.loss)
        self._bars: list[Bar] = []
        method = {"grpo": "GRPO", "two_step": "Two-step GRPO"}.get(config.reward.variant, "SRPO")
        fresh = Summary(seed=config.run.seed, method=method)
        self._summary = read_summary(run.summary) if run.summary.exists() else fresh
        self._seconds_before = self._summary.seconds
        display.note(f"{method}, model {config.model.path}, seed {config.run.seed}, run directory {run.root}")

    def __exit__(self, *exception: object) -> None:
        self._display.close()
        self._lock.release()

    @contextmanager
    def phase(self, name: str, total: int, *, done: int = 0, label: str | None = None) -> Iterator[Bar]:
        if self._bars:
            in_step = self.timer(name)  # part of the surrounding phase's current step
        else:
            in_step = nullcontext()
            self.timer.lap()  # what came before belongs to no step
        with in_step, self._phases(name), self._display.bar(label or name, total, done) as bar:
            self._bars.append(bar)
            yield WatchedBar(bar)
            self._bars.pop()
        self._save()

    def note(self, text: str) -> None:
        self._display.note(text)

    def resume_at(self, step: int) -> None:
        self._metrics.drop_from(step)
        if step:
            self.note(f"resumed: step {step:,} is next, the ones before are done")
        for path in self.run.completion_files():
            if step_of(path) >= step:
                path.unlink()

    def log_step(self, step: int, metrics: Mapping[str, float], groups: Sequence[Group]) -> None:
        memory = {"memory/peak_gib": peak_memory_gib(), "memory/host_gib": host_memory_gib()}
        line = {**metrics, **self.timer.lap(), **memory}
        self._metrics.write(step, line)
        for text in self._notes.on(step, line):
            self.note(text)
        if groups:
            telling = sorted(groups, key=lambda group: all(score.failure is None for score in group.scores))
            write_completions(self.run.completions_of(step), step, telling[:RECORDED_GROUPS])
        self._bars[-1].advance(1, **{name: line[key] for name, key in LIVE_FIGURES.items() if key in line})
        self._save()

    def log_heldout(self, stage: Stage, heldout: HeldOut) -> None:
        self._summary = replace(self._summary, heldout=self._summary.heldout | {stage: heldout})
        self._save()

    def finish(self) -> None:
        lines = read_jsonl(self.run.metrics)
        first, last = reward_ends(lines)
        self._summary = replace(
            self._summary, reward_first=first, reward_last=last,
            steps_idle=len(idle_steps(lines)), warning=idle_warning(lines),
        )  # fmt: skip
        self._save()
        report = write_report(self.run.root)
        self._display.close()
        print_summary(self._display.console, self._summary, report)

    def _save(self) -> None:
        now = self._phases.seconds()
        now["other"] = now.pop(UNACCOUNTED, 0.0)
        before = self._seconds_before
        seconds = {name: before.get(name, 0.0) + now.get(name, 0.0) for name in [*before, *now]}
        self._summary = replace(self._summary, seconds=seconds)
        write_summary(self.run.summary, self._summary)
