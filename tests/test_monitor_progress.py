"""Progress lines for logs: few, complete, and without control codes; bars for terminals."""

import io

import pytest
from rich.console import Console

from srpo_fast.monitor.progress import PlainDisplay, TerminalDisplay, format_duration, open_display


@pytest.fixture
def terminal():
    stream = io.StringIO()
    display = TerminalDisplay(Console(file=stream, force_terminal=True, width=110, highlight=False))
    yield display, stream
    display.close()


def run_plain(seconds_per_unit, total, done=0):
    stream, now = io.StringIO(), [0.0]
    display = PlainDisplay(stream, clock=lambda: now[0])
    with display.bar("srpo", total, done) as bar:
        for i in range(total - done):
            now[0] += seconds_per_unit
            bar.advance(reward=1.0 + i)
    return stream.getvalue().splitlines()


def test_a_stream_that_is_no_terminal_gets_plain_lines_without_control_codes():
    stream = io.StringIO()
    display = open_display(stream)
    display.note("a [bold] run")
    with display.bar("base", 2) as bar:
        bar.advance(2)
    display.close()
    assert all(letter == "\n" or letter.isprintable() for letter in stream.getvalue())
    assert stream.getvalue().startswith("a [bold] run\n")


def test_the_first_line_comes_before_any_work():
    stream = io.StringIO()
    with PlainDisplay(stream).bar("stage1", 100):
        assert stream.getvalue().split() == ["stage1", "0%", "0/100"]


def test_lines_are_seconds_apart_and_the_end_is_always_shown():
    lines = run_plain(seconds_per_unit=1.0, total=20)
    assert [line.split()[1] for line in lines] == ["0%", "25%", "50%", "75%", "100%"]
    assert "in 20 s" in lines[-1]


def test_a_line_has_the_time_left_and_the_last_figures():
    line = run_plain(seconds_per_unit=10.0, total=4)[1]
    assert line.split() == ["srpo", "25%", "1/4", "eta", "30", "s", "reward", "1"]


def test_the_time_left_counts_only_the_work_of_this_process():
    line = run_plain(seconds_per_unit=10.0, total=100, done=96)[1]
    assert line.split()[:5] == ["srpo", "97%", "97/100", "eta", "30"]


def test_a_terminal_gets_a_bar_with_figures(terminal):
    display, stream = terminal
    with display.bar("srpo", 4, done=1) as bar:
        bar.advance(3, reward=1.25)
    display.close()
    assert "100%  4/4" in stream.getvalue()
    assert "reward 1.25" in stream.getvalue()


def test_a_terminal_keeps_the_bars_of_phases_and_drops_the_inner_ones(terminal):
    display, stream = terminal
    with display.bar("srpo", 1) as bar:
        with display.bar("evaluation", 1) as inner:
            inner.advance()
        bar.advance()
    stream.truncate(0)
    display.close()
    assert "srpo" in stream.getvalue()
    assert "evaluation" not in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (3720, "1 h 02 min")],
)
def test_durations_read_as_people_say_them(seconds, text):
    assert format_duration(seconds) == text
