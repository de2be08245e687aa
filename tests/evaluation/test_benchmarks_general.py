import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srpo_fast.evaluation.benchmarks import emma, mmk12, mmmu, olympiadbench, wemath
from srpo_fast.evaluation.marking import Pending
from tests.evaluation.golden_case import items_of, records_of

MODULES = (olympiadbench, wemath, mmmu, emma, mmk12)
ITEMS = {m.BENCHMARK.name: items_of(m.BENCHMARK, records_of(m.BENCHMARK.name)) for m in MODULES}
PIECES = st.sampled_from(
    ["So the final answer is ", "A", "(B)", r"\boxed{", "}", "12", " or ", "not ", ".", "\n", "$", r"\frac{1}{2}",
     "is ", r"\pm ", ",", "(1, 2)", r"\{", r"\}", "60\u00b0", "\u7b54\u6848\u662f", "=", "1,000", "e9", r"\mu m",
     "%", "<image>", "<Answer>: <<"]
)  # fmt: skip
TEXTS = st.lists(PIECES, min_size=1, max_size=9).map("".join) | st.text(min_size=1, max_size=60)


@settings(max_examples=80, deadline=None)
@given(TEXTS)
def test_every_text_gets_a_mark(text):
    for module in MODULES:
        readings = [module._read(item, text) for item in ITEMS[module.BENCHMARK.name]]
        assert all(isinstance(mark, Pending) or mark.is_right in (True, False, None) for mark in readings)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.BENCHMARK.name)
def test_only_a_benchmark_with_a_judge_leaves_marks_open(module, grader):
    texts = ["It is hard to say.", "B or C", r"\boxed{}", "\u4e0d\u77e5\u9053", r"\boxed{\frac{7}{93} kg}"]
    answers = [(item, text) for item in ITEMS[module.BENCHMARK.name] for text in texts]
    marks = module.BENCHMARK.mark(answers, grader)
    assert len(marks) == len(answers)
    assert any(mark.is_right is None for mark in marks) == (module.BENCHMARK.judge is not None)


@pytest.mark.parametrize("piece", ["is 1,", "1,111", "so \n", "(1,", r"\boxed{1} ", "A. ", "=", "answer is ", r"\{1, "])
def test_long_texts_take_linear_time(piece):
    text = piece * (20_000 // len(piece))
    start = time.process_time()
    for module in MODULES:
        module._read(ITEMS[module.BENCHMARK.name][-1], text)
    assert time.process_time() - start < 3  # what is quadratic takes minutes


def test_ids_are_unique_and_marks_match_pictures():
    for items in ITEMS.values():
        assert len({item.id for item in items}) == len(items)
        assert all(item.prompt.count("<image>") == len(item.images) for item in items)
