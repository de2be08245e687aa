"""table.md, and runs side by side."""

from dataclasses import replace

import pytest

from srpo_fast.config import UserError
from srpo_fast.evaluation.paper_rows import MMK12_SUBJECTS, PAPER
from srpo_fast.evaluation.tables import compare, table_of
from tests.evaluation.eval_case import TOY, evaluate, one, two

EIGHT_OF_TEN = {str(number): two("wrong", "right") if number < 8 else one("wrong") for number in range(10)}


def row(table: str, name: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_a_run_stands_beside_the_papers_rows_with_differences(tmp_path):
    results = evaluate(tmp_path, EIGHT_OF_TEN, benchmark=replace(TOY, name="mathvista"))
    table = table_of(results)
    assert table.startswith("# Toy, test: 10 items\n")
    assert row(table, "**this run, last answer**") == ["80.0", "49.0 to 94.3", ""]
    assert row(table, "this run, first answer") == ["0.0", "0.0 to 27.8", ""]
    assert row(table, "paper, Qwen2.5-VL-7B") == ["68.2", "", "+11.8 (-19.2 to +26.1)"]
    assert row(table, "paper, SRPO-32B")[0] == "78.5"
    assert row(table, "8 (100.0 %)")[-2:] == ["100.0", "-"]
    assert row(table, "of_the_first_two") == ["100.0", "0.0"]


def test_another_split_and_an_open_question_are_not_set_beside_the_papers_figure_in_silence(tmp_path):
    other = evaluate(tmp_path, EIGHT_OF_TEN, benchmark=replace(TOY, name="mathvista"), split="dev", limit=4)
    assert "paper" not in table_of(other)
    assert "; only the first 4 items; accuracy in %" in table_of(other)
    assert "does not say whether" in table_of(evaluate(tmp_path, EIGHT_OF_TEN, benchmark=replace(TOY, name="mmmu_pro")))


def test_the_file_on_disk_is_that_table(tmp_path):
    results = evaluate(tmp_path, EIGHT_OF_TEN)
    assert (tmp_path / "out" / "table.md").read_text() == table_of(results)
    assert "paper" not in table_of(results)


def test_the_subjects_of_mmk12_stand_beside_their_own_rows(tmp_path):
    results = evaluate(tmp_path, {"a": one("right")})
    accuracies = {"items": 1, "first": results["totals"]["first"], "last": results["totals"]["last"]}
    results["totals"]["by_tag"] = {"subject": {"physics": accuracies, "art": accuracies}}
    table = table_of(results | {"benchmark": "mmk12"})
    assert row(table, "physics")[:5] == ["1", "100.0", "20.7 to 100.0", "100.0", "20.7 to 100.0"]
    assert row(table, "physics")[-5:] == ["45.4", "53.5", "60.6", "59.4", "64.2"]
    assert row(table, "art")[-5:] == [""] * 5


def test_the_papers_averages_follow_from_its_rows():
    # table 3: the means of four benchmarks and physics that the paper prints
    five = [PAPER[name] for name in ("mathvista", "mathverse", "mathvision", "mmmu_pro")] + [MMK12_SUBJECTS["physics"]]
    for name, mean in {"Qwen2.5-VL-7B": 44.4, "GRPO 7B": 49.8, "SRPO-7B": 53.5}.items():
        assert sum(rows[name] for rows in five) / 5 == pytest.approx(mean, abs=0.051)
    assert all(set(rows) >= {"Qwen2.5-VL-7B", "SRPO-7B", "Qwen2.5-VL-32B", "SRPO-32B"} for rows in PAPER.values())


def test_runs_are_compared_on_the_items_both_have(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    first = evaluate(tmp_path / "one", {str(n): one("right" if n < 50 else "wrong") for n in range(100)})
    second = evaluate(tmp_path / "other", {str(n): one("wrong" if n < 5 or n >= 65 else "right") for n in range(100)})
    table = compare([("A", first), ("B", second)])
    assert row(table, "A")[-1] == ""
    assert row(table, "B") == [
        "60.0", "50.2 to 69.1", "60.0", "50.2 to 69.1", "-", "-", "+10.0 (+1.2 to +18.4), 100 items",
    ]  # fmt: skip


def test_runs_without_a_common_item_are_not_compared(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    first, second = evaluate(tmp_path / "one", {"a": "x"}), evaluate(tmp_path / "other", {"b": "x"})
    with pytest.raises(UserError, match="B and A have no item in common"):
        compare([("A", first), ("B", second)])


def test_a_figure_that_one_answer_does_not_have_is_left_open(tmp_path):
    results = evaluate(tmp_path, {"a": one("right")})
    results["totals"]["figures"] = {"first": {"rote": 0.25}, "last": {"strict": 0.5}}
    table = table_of(results)
    assert (row(table, "strict"), row(table, "rote")) == (["50.0", "-"], ["-", "25.0"])


def test_what_a_model_wrote_cannot_break_the_table(tmp_path):
    results = evaluate(tmp_path, {"a": one("right")})
    results["totals"]["by_tag"] = {
        "kind": {"a|b\nc": {"items": 1, **{k: results["totals"][k] for k in ("first", "last")}}}
    }
    assert "| a\\|b c | 1 |" in table_of(results)
