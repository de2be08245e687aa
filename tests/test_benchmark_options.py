"""What benchmarks say to options that cannot be: one line, exit code 2, nothing measured."""

import argparse

import pytest

from benchmarks.ops import __main__ as ops
from benchmarks.options import LEAST_ROUNDS, at_least


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
    assert f"argument {option[0]}: " in capsys.readouterr().err.splitlines()[-1]
