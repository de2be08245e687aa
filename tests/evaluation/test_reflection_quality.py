"""What reflections are worth, by the two answers alone."""

import pytest

from srpo_fast.evaluation.reflection_quality import quality_of
from tests.evaluation.eval_case import marked, one, two


def test_shares_have_the_signs_of_equation_8():
    responses = {
        "fixed": two("wrong", "right"), "fixed too": two("wrong", "right"), "kept": two("right", "right"),
        "broken": two("right", "wrong"), "still": two("wrong", "wrong"), "still too": two("wrong", "wrong"),
        "alone": one("right"), "silent": two("right", "right", reflection=""),
    }  # fmt: skip
    quality = quality_of(marked(responses))
    assert quality["reflections"] == 6
    shares = [quality[key] for key in ("effective", "redundant", "detrimental", "fix_rate")]
    assert shares == pytest.approx([3 / 6, 2 / 6, 1 / 6, 2 / 4])


def test_the_length_ratio_is_the_mean_over_responses():
    # think "a" and the answer before; "hm", think "b" and the answer after
    each = marked({"a": two("wrong", "right"), "b": two("right", "right", reflection="1234567")})
    assert quality_of(each)["length_ratio"] == pytest.approx((8 / 6 + 13 / 6) / 2)


def test_without_reflections_there_are_no_shares():
    assert quality_of(marked({"a": one("right")})) == {
        "reflections": 0, "effective": None, "redundant": None, "detrimental": None, "fix_rate": None,
        "length_ratio": None,
    }  # fmt: skip
