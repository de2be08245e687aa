"""What benchmarks say to options that cannot be: one line, exit code 2, nothing measured."""

import argparse
import importlib

import pytest

from benchmarks.ops import __main__ as ops
from benchmarks.options import LEAST_ROUNDS, at_least, in_one_line
from srpo_fast.user_error import UserError


@pytest.mark.parametrize("text", ["0", "1", "-3", "2.5", "many", "", "nan"])
def test_what_is_no_number_or_too_small_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"expected a whole number of 2 or more, got '{text}'"):
        at_least(LEAST_ROUNDS)(text)
    assert at_least(0)("0") == 0


@pytest.mark.parametrize("option", [["--threads", "0"], ["--rounds", "1"], ["--rounds", "x"], ["--op", "tail"]])
def test_ops_refuses_before_it_measures(option, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ops", *option])
    with pytest.raises(SystemExit) as ended:
        ops._options()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: argument {option[0]}: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("subject", "option", "says"),
    [
        (
            "sync",
            ["--rounds", "1"],
            "argument --rounds: expected a whole number of 2 or more, got '1'; `srpo",
        ),
        ("sync", ["--model", "/nowhere"], "--model: expected a Hugging Face model directory, found no config.json in"),
        ("loop", ["--ranks", "0"], "argument --ranks: expected a whole number of 1 or more, got '0'; `srpo"),
        ("loop", ["--steps", "3"], "unrecognized arguments: --steps 3; `srpo bench loop --help` says what is expected"),
    ],
)
def test_sync_and_loop_refuse_in_one_line(subject, option, says, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [subject, *option])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"benchmarks.{subject}").main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {says}")
    assert said.count("\n") == 1


def test_a_users_mistake_ends_a_benchmark_in_one_line(capsys):
    def main() -> None:
        raise UserError("expected a, got b; do c")

    with pytest.raises(SystemExit) as ended:
        in_one_line(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: expected a, got b; do c\n"
