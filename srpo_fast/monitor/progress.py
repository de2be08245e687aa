"""What a run shows while it works: bars with an ETA on a terminal, plain lines a few seconds apart elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from srpo_fast.deadline import progress

LINE_INTERVAL_S = 5.0
LABEL_WIDTH = 22


class Bar(Protocol):
    """The progress of one phase."""

    def advance(self, amount: int = 1, **figures: float) -> None:
        """`amount` more of the total is done; `figures` are shown beside it, the last ones given."""


class Phases(Protocol):
    """What parts of the program that do not log otherwise show their progress with: the monitor, or a mere display."""

    def phase(
        self, name: str, total: int, *, done: int = 0, label: str | None = None
    ) -> AbstractContextManager[Bar]: ...

    def note(self, text: str) -> None: ...


class SilentBar:
    """The bar of a rank that shows nothing."""

    def advance(self, amount: int = 1, **figures: float) -> None:
        pass


class WatchedBar:
    """A bar whose advance is told to the watch for hangs."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def advance(self, amount: int = 1, **figures: float) -> None:
        progress()
        self._bar.advance(amount, **figures)


def open_display(stream: TextIO) -> "Display":
    """Bars if `stream` is a terminal that can draw them, else lines without any control code."""
    console = Console(file=stream, highlight=False)
    return TerminalDisplay(console) if console.is_terminal and not console.is_dumb_terminal else PlainDisplay(stream)


def format_duration(seconds: float) -> str:
    """`seconds` for a reader: "8.4 s", "42 s", "3 min 05 s", "1 h 02 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_figures(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in figures.items())


class PlainDisplay:
    """For logs and pipes: a line when a phase starts, at most one every few seconds, and one when it ends."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = Console(file=stream, highlight=False, no_color=True, force_terminal=False)
        self.clock = clock
        self._stream = stream

    def note(self, text: str) -> None:
        """One line that stays."""
        print(text, file=self._stream, flush=True)

    @contextmanager
    def bar(self, label: str, total: int, done: int = 0) -> Iterator["_PlainBar"]:
        """A bar of `total` units, shown at once, of which an earlier process did `done`."""
        bar = _PlainBar(self, label, total, done)
        yield bar
        bar.finish()

    def close(self) -> None:
        self._stream.flush()


class _PlainBar:
    def __init__(self, display: PlainDisplay, label: str, total: int, done: int) -> None:
        self._display, self._label, self._total = display, label, total
        self._done = self._done_before = done
        self._start = self._shown_at = display.clock()
        self._figures: dict[str, float] = {}
        self._show("")

    def advance(self, amount: int = 1, **figures: float) -> None:
        self._done += amount
        self._figures |= figures
        now = self._display.clock()
        if now - self._shown_at >= LINE_INTERVAL_S and self._done < self._total:
            here = self._done - self._done_before
            eta = (now - self._start) / here * (self._total - self._done) if here else None
            self._show(f"eta {format_duration(eta)}" if eta is not None else "")
            self._shown_at = now

    def finish(self) -> None:
        self._show(f"in {format_duration(self._display.clock() - self._start)}")

    def _show(self, when: str) -> None:
        count = f"{self._done}/{self._total}"
        percent = 100 * self._done // self._total if self._total else 100
        line = f"{self._label:<{LABEL_WIDTH}} {percent:3d}%  {count:>11}  {when:<15}  {format_figures(self._figures)}"
        self._display.note(line.rstrip())


class TerminalDisplay:
    """For people: one bar a phase. A bar inside another one's phase goes when it is done, the others stay."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._depth = 0
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=16),
            TextColumn("{task.percentage:>3.0f}%  {task.completed:.0f}/{task.total:.0f}", markup=False),
            _TimeColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[figures]}", style="dim", markup=False, table_column=Column(no_wrap=True)),
            console=console,
            refresh_per_second=4,
            speed_estimate_period=120,
        )
        self._progress.start()

    def note(self, text: str) -> None:
        self._progress.console.print(Text(text))

    @contextmanager
    def bar(self, label: str, total: int, done: int = 0) -> Iterator["_TerminalBar"]:
        task = self._progress.add_task(label, total=total, completed=done, figures="")
        self._depth += 1
        yield _TerminalBar(self._progress, task)
        self._depth -= 1
        if self._depth:
            self._progress.remove_task(task)
        else:
            self._progress.stop_task(task)

    def close(self) -> None:
        self._progress.stop()


Display = PlainDisplay | TerminalDisplay


class _TerminalBar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._figures: dict[str, float] = {}

    def advance(self, amount: int = 1, **figures: float) -> None:
        self._figures |= figures
        self._progress.update(self._task, advance=amount, figures=format_figures(self._figures))


class _TimeColumn(ProgressColumn):
    """The time left while a phase runs, the time it took afterwards."""

    def render(self, task: Task) -> Text:
        if task.finished or task.stop_time is not None:
            return Text(f"in {format_duration(task.elapsed or 0.0)}")
        if task.time_remaining is None:
            return Text("eta ...", style="cyan")
        return Text(f"eta {format_duration(task.time_remaining)}", style="cyan")
