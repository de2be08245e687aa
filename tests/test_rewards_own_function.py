import sys
from pathlib import Path

import pytest

from srpo_fast.config import UserError
from srpo_fast.rewards.own_function import load_reward_function


@pytest.fixture
def write(tmp_path: Path):
    def write_function(body: str, parameters: str = "completion, answer") -> str:
        path = tmp_path / "mine.py"
        path.write_text(
            f"import numpy as np\nfrom dataclasses import dataclass\n\ndef pays({parameters}):\n    {body}\n"
        )
        return f"{path}:pays"

    return write_function


def refusal(source: str) -> str:
    with pytest.raises(UserError) as refused:
        load_reward_function(source)("text", "2")
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("result", "total"), [("True", 1.0), ("-3", -3.0), ("np.float32(0.5)", 0.5), ("{'total': 2}", 2.0)]
)
def test_whatever_is_a_number_will_do(write, result, total):
    fields = load_reward_function(write(f"return {result}"))("text", "2")
    assert fields["accuracy"] == total
    assert type(fields["accuracy"]) is float


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ("None", "finite numbers, got None"),
        ("'1.0'", "finite numbers, got '1.0'"),
        ("float('nan')", "finite numbers, got nan"),
        ("[1.0]", "finite numbers, got [1.0]"),
        ("{}", "keys of total, format"),
        ("{'reward': 1.0}", "got {'reward': 1.0}"),
        ("{'reasons': ['x']}", "keys of total, format"),
        ("{'format': None}", "finite numbers, got None"),
        ("{'format': 0.5, 'total': 1.0}", "the sum of its parts, 0.5"),
        ("{'total': 1.0, 'reasons': 'x'}", "reasons as a list of strings"),
        ("'\\n' * 1000", "finite numbers"),
    ],
)
def test_any_other_result_is_refused(write, result, says):
    assert says in refusal(write(f"return {result}"))


def test_a_missing_file_or_function_is_refused_and_named(write, tmp_path):
    assert "found none at" in refusal(f"{tmp_path}/nowhere.py:pays")
    source = write("return 1")
    assert "expected a function pay in" in refusal(source[:-1])
    assert refusal(source[:-1]).endswith("found dataclass, pays")
    (tmp_path / "mine.py").write_text("pays = 3")
    assert refusal(source).endswith("found no function")
    (tmp_path / "mine.py").write_text("def pays(")
    assert "expected Python in" in refusal(source)


def test_a_function_of_other_arguments_is_refused(write):
    assert "missing a required argument: 'gold'" in refusal(write("return 1", "completion, answer, gold"))
    assert "too many positional arguments" in refusal(write("return 1", "completion"))


def test_what_the_users_code_raises_is_left_to_the_worker(write):
    with pytest.raises(ZeroDivisionError):
        load_reward_function(write("return 1 / 0"))("text", "2")


def test_modules_beside_the_file_can_be_imported(write, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside_mine.py").write_text("PAY = 0.25\n")
    assert load_reward_function(write("from beside_mine import PAY; return PAY"))("text", "2")["accuracy"] == 0.25


def test_two_files_of_one_name_do_not_mix(tmp_path):
    functions = []
    for value in (1, 2):
        path = tmp_path / str(value) / "mine.py"
        path.parent.mkdir()
        path.write_text(f"VALUE = {value}\n\ndef pays(completion, answer):\n    return VALUE\n")
        functions.append(load_reward_function(f"{path}:pays"))
    assert [function("", "")["accuracy"] for function in functions] == [1.0, 2.0]
