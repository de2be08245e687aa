"""summary.json holds the contract's fields; the table shows them."""

import io
import json
import math

import pytest
from rich.console import Console

from srpo_fast.batch import HeldOut, Transitions
from srpo_fast.config import UserError
from srpo_fast.monitor.summary import (
    NONE,
    Summary,
    print_summary,
    read_summary,
    standard_error,
    write_summary,
)

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


@pytest.fixture
def summary():
    base = HeldOut(num_questions=1024, acc1=0.613, acc2=None, greedy_acc1=0.741, greedy_acc2=None, transitions=None)
    sft = HeldOut(
        num_questions=1024,
        acc1=0.66,
        acc2=0.643,
        greedy_acc1=0.764,
        greedy_acc2=0.785,
        transitions=Transitions(rr=545, wr=113, rw=131, ww=235),
    )
    srpo = HeldOut(
        num_questions=1024,
        acc1=0.725,
        acc2=0.749,
        greedy_acc1=0.813,
        greedy_acc2=0.829,
        transitions=Transitions(rr=661, wr=106, rw=81, ww=176),
    )
    return Summary(
        seed=7,
        method="SRPO",
        heldout={"base": base, "sft": sft, "srpo": srpo},
        reward_first=1.2,
        reward_last=1.3,
        seconds={"base": 96.0, "srpo": 600.0},
    )


def test_a_summary_reads_back_as_it_was_written(tmp_path, summary):
    write_summary(tmp_path / "summary.json", summary)
    assert read_summary(tmp_path / "summary.json") == summary


def test_the_file_has_the_fields_that_others_rely_on(tmp_path, summary):
    write_summary(tmp_path / "summary.json", summary)
    document = json.loads((tmp_path / "summary.json").read_text())
    assert document["heldout"]["sft"]["acc1"] == 0.66
    assert document["heldout"]["srpo"]["acc2"] == 0.749
    assert document["heldout"]["srpo"]["greedy_acc2"] == 0.829
    assert document["heldout"]["base"]["acc2"] is None
    assert document["transitions"] == {"rr": 661, "wr": 106, "rw": 81, "ww": 176}
    assert (document["reward_first"], document["reward_last"], document["seed"]) == (1.2, 1.3, 7)
    assert document["seconds"] == {"base": 96.0, "srpo": 600.0}


def test_a_run_that_has_just_begun_has_a_summary(tmp_path):
    write_summary(tmp_path / "summary.json", Summary(seed=0, method="GRPO"))
    assert read_summary(tmp_path / "summary.json") == Summary(seed=0, method="GRPO")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"heldout": {}, "transitions": null, "surprise": 1}'])
def test_a_file_that_is_no_summary_is_one_clear_error(tmp_path, text):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(UserError, match="not the summary of a run"):
        read_summary(tmp_path / "summary.json")


def test_the_standard_error_is_the_binomial_one():
    assert standard_error(0.5, 100) == pytest.approx(0.05)
    assert standard_error(0.9, 400) == pytest.approx(math.sqrt(0.9 * 0.1 / 400))
    assert standard_error(1.0, 10) == 0.0


def test_the_table_fits_a_terminal_of_80_columns_and_has_every_figure(tmp_path, summary):
    stream = io.StringIO()
    print_summary(Console(file=stream, width=80), summary, tmp_path / "report.html")
    text = stream.getvalue()
    first_row = next(line.split() for line in text.splitlines() if line.startswith("  base  "))
    last_row = [line.split() for line in text.splitlines() if line.startswith("  SRPO  ")][-1]
    assert first_row == ["base", "61.3", f"{PLUS_MINUS}1.5", "74.1", f"{PLUS_MINUS}1.4", NONE, NONE]
    assert last_row == ["SRPO", "10.4", "64.6", "7.9", "17.2"]
    assert f"74.9 {PLUS_MINUS}1.4" in text
    assert "1.200 -> 1.300" in text
    assert str(tmp_path / "report.html") in text
    assert max(len(line) for line in text.splitlines() if "report" not in line) <= 80


def test_a_control_run_is_labelled_by_its_method(tmp_path, summary):
    heldout = {"srpo": summary.heldout["base"]}
    stream = io.StringIO()
    print_summary(Console(file=stream, width=80), Summary(seed=0, method="GRPO", heldout=heldout), tmp_path / "r.html")
    assert "GRPO" in stream.getvalue()
    assert "SRPO" not in stream.getvalue()
