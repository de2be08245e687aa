"""Many completions at once: in order, each as if it were alone, and nothing done twice or for nothing."""

from collections.abc import Iterable

import pytest

from srpo_fast.batch import Score
from srpo_fast.config import RewardConfig
from srpo_fast.grading import Gold
from srpo_fast.grading.grader import Check, Grader, Pair
from srpo_fast.rewards.scoring import Sample, TokenCounter, gold_of, make_scorer
from tests.reward_case import REFLECTION, RIGHT, TARGET, WRONG, count_words, score_one, solution

VARIANTS = ["paper", "openrlhf", "two_step", "grpo"]
HANGS = solution("x^2 + 91")


def scores(settings: RewardConfig, samples: list[Sample], count: TokenCounter = count_words) -> list[Score]:
    grader = Grader(settings)
    scored = make_scorer(settings, count, grader)(samples)
    grader.close()
    return scored


def sample(text: str, gold: str = "2", total_tokens: int | None = TARGET) -> Sample:
    return Sample(text=text, gold=Gold(text=gold), total_tokens=total_tokens)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_gives_what_its_completions_get_alone(variant):
    texts = [
        RIGHT,
        "",
        RIGHT + REFLECTION + WRONG,
        WRONG + RIGHT,
        WRONG + REFLECTION + RIGHT,
        RIGHT + RIGHT,
        "<answer>2",
    ]
    settings = RewardConfig(variant=variant)
    alone = score_one(settings)
    expected = [alone(text, gold, 10 + place) for gold in ("2", "3") for place, text in enumerate(texts)]
    batch = [sample(text, gold, 10 + place) for gold in ("2", "3") for place, text in enumerate(texts)]
    assert scores(settings, batch) == expected
    assert len(set(map(str, expected))) > 5


def test_an_empty_batch_has_no_scores():
    for variant in VARIANTS:
        assert scores(RewardConfig(variant=variant), []) == []


def test_only_lengths_that_are_paid_are_counted():
    counted: list[str] = []

    def count(texts):
        counted.extend(texts)
        return count_words(texts)

    known, unknown, single = RIGHT + REFLECTION + WRONG, WRONG + REFLECTION + RIGHT, RIGHT + REFLECTION
    batch = [sample(known, total_tokens=16), sample(single), sample(unknown, total_tokens=None), sample("")]
    scored = scores(RewardConfig(), batch, count)
    first = ["a b c d e f g", r"$\boxed{2}$"]
    assert counted == [*first, first[0], r"$\boxed{3}$", unknown]
    assert scored[0].length == pytest.approx(0.1)
    assert scored[2].length == score_one(RewardConfig())(unknown, "2", len(unknown.split())).length > 0
    counted.clear()
    for variant in ("two_step", "grpo"):
        scores(RewardConfig(variant=variant), batch, count)
    assert counted == []


def test_two_answers_of_one_question_are_compared_once(checked):
    text = solution("x + x") + REFLECTION + solution("x + x")
    scores(RewardConfig(workers=1), [sample(text, "2x")] * 8)
    assert checked.read_text().splitlines() == ["x + x"]


def test_plain_grpo_asks_for_no_second_answer(checked):
    scores(RewardConfig(variant="grpo", workers=1), [sample(solution("x + x") + solution("x - x"), "2x")])
    assert checked.read_text().splitlines() == ["x + x"]


class Patient:
    """Lets a hanging check take its time once for all variants."""

    def __init__(self, grader: Grader, pairs: list[Pair]) -> None:
        self._checks = grader.checks(pairs)
        grader.close()

    def checks(self, pairs: Iterable[Pair]) -> dict[Pair, Check]:
        return {pair: self._checks[pair] for pair in pairs if pair}


def test_an_answer_that_cannot_be_graded_earns_nothing_for_it_and_harms_no_other(checked):
    settings, gold = RewardConfig(time_limit=2.0, workers=2), Gold(text="2x")
    grader = Patient(Grader(settings), [(answer, gold) for answer in ("x^2 + 91", "x + x", "2x")])
    others = [sample(solution("2x") * 2, "2x"), sample(solution("x + x"), "2x")]
    for variant, text, parts in [
        ("paper", HANGS + REFLECTION + solution("2x"), (0.5, 0.0, 0.0)),
        ("paper", solution("2x") + REFLECTION + HANGS, (0.5, 0.5, 0.0)),
        ("paper", HANGS + REFLECTION + HANGS, (0.5, 0.0, 0.0)),
        # as a corrected answer it would earn the most of all
        ("openrlhf", HANGS + REFLECTION + solution("2x"), (0.5, 0.0, 0.0)),
        ("two_step", HANGS + solution("2x"), (0.5, 0.0, 0.0)),
        ("grpo", HANGS, (0.5, 0.0, 0.0)),
    ]:
        scorer = make_scorer(RewardConfig(variant=variant), count_words, grader)
        bad, *kept = scorer([sample(text, "2x"), *others])
        assert (bad.format, bad.accuracy, bad.effectiveness) == parts
        assert bad.reasons == ("grading_timeout",)
        assert "not done after 2 s" in (bad.failure or "")
        assert [(score.first_correct, score.failure) for score in kept] == [(True, None)] * 2


def test_a_crash_has_its_own_reason(checked):
    (bad,) = scores(RewardConfig(variant="grpo", workers=1), [sample(solution("x^2 + 92"), "2x")])
    assert bad.reasons == ("grading_crash",)


def test_a_gold_that_says_nothing_is_named_and_is_no_failure():
    for gold in ("", r"\frac{"):
        (scored,) = scores(RewardConfig(workers=1), [sample(RIGHT + REFLECTION + WRONG, gold)])
        assert "unparsable_gold" in scored.reasons
        assert not {"first_wrong", "second_wrong"} & set(scored.reasons)
        assert (scored.accuracy, scored.effectiveness, scored.failure) == (0.0, 0.0, None)


def test_golds_carry_the_tolerance_of_the_settings_and_the_options_of_their_question():
    settings = RewardConfig(relative_tolerance=0.05, absolute_tolerance=0.5, decimals="gold")
    gold = gold_of("B", "How long is it?\nA. 12 cm\nB. 13 cm", settings)
    assert (gold.tolerance.relative, gold.tolerance.absolute, gold.tolerance.decimals) == (0.05, 0.5, "gold")
    assert gold.options == (("A", "12 cm"), ("B", "13 cm"))
