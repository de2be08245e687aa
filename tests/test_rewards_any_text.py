"""Any text at all: ten thousand generated completions, and texts made to take long."""

import time
from collections.abc import Callable
from random import Random

import pytest

from srpo_fast.batch import Score
from srpo_fast.config import RewardConfig
from srpo_fast.grading import Gold, quick_verdict
from srpo_fast.grading.grader import Grader
from srpo_fast.rewards.own_function import PARTS
from srpo_fast.rewards.scoring import Sample, Scorer, make_scorer
from tests.reward_case import REFLECTION, RIGHT, TARGET, WRONG, count_words

# (lowest, highest) total; the lowest of each is earned by a text without a block
RANGES: dict[str, tuple[RewardConfig, float, float]] = {
    "paper": (RewardConfig(), 0.0, 1.6),
    "paper, hard zero": (RewardConfig(malformed="zero"), 0.0, 1.6),
    "paper, no I_eff": (RewardConfig(effectiveness_weight=0.0), 0.0, 1.35),
    "paper, no f_len": (RewardConfig(length_weight=0.0), 0.0, 1.5),
    "paper, alpha 0.3": (RewardConfig(length_weight=0.3), 0.0, 1.8),
    "openrlhf": (RewardConfig(variant="openrlhf"), 0.0, 1.6),
    "two_step": (RewardConfig(variant="two_step"), 0.0, 1.25),
    "grpo": (RewardConfig(variant="grpo"), 0.0, 1.0),
}
COMPLETIONS = 10_000

GRADER = Grader(RewardConfig(time_limit=60.0))  # whatever else the machine does
SCORERS: dict[str, Scorer] = {name: make_scorer(rule, count_words, GRADER) for name, (rule, _, _) in RANGES.items()}

# --- completions: well-formed ones, cut, shuffled and repeated ones, and any text between the pieces ---

TAGS = [f"<{slash}{kind}>" for slash in ("", "/") for kind in ("think", "answer", "reflection")]
VALUES = [
    "2", "2.0", "3", "B", "(b)", "12 cm", "1,000", "50\\%", "x", "yes", "", " ", "{2}", "\\{2", "2}", "$2$",
    "\\text{2}", "[1, 2)", "\N{MINUS SIGN}2", "\N{DEGREE SIGN}", "\N{ARABIC-INDIC DIGIT TWO}",
    "\N{CJK UNIFIED IDEOGRAPH-4E8C}", "\ud7ff\N{ZERO WIDTH JOINER}", "\x00", "9" * 300, "\\frac{4}{2}", "2/1",
]  # fmt: skip
JUNK = [
    "<Think>", "< think >", "<think/>", "<reflect>", "</", "<", ">", "\\boxed{", "\\boxed", "}", "{", "$", "\\", "\\(",
    "\n", "\r\n", "\u2028", "\t", "\x00", "<|im_end|>", "<image>", "&lt;answer&gt;", "word " * 40, "\N{GRINNING FACE}",
]  # fmt: skip
ANSWERS = [r"$\boxed{%s}$", "%s", "The answer is %s.", r"\boxed{%s", r"\boxed{1} or \boxed{%s}"]
THOUGHTS = ["", " ", "so", "w " * 20, "<think>", "\\boxed{2}"]
REFLECTIONS = ["", REFLECTION, "<reflection> </reflection>", "<reflection>", "</reflection>"]
REWARDED = [one + between + two for one in (RIGHT, WRONG) for between in ("", REFLECTION) for two in ("", RIGHT, WRONG)]
CHARACTERS = "<>/{}\\$ 2x\n\t\x00\u00e9\u0662\u2028\u4e8c\ud800\U0001f600"
GOLDS = ["2", "2", "B", "12 cm", "yes", "", "???"]


def solution(draw: Random) -> str:
    answer = draw.choice(ANSWERS).replace("%s", draw.choice(VALUES))
    return f"<think>{draw.choice(THOUGHTS)}</think><answer>{answer}</answer>"


def form(draw: Random) -> str:
    return solution(draw) + draw.choice(REFLECTIONS) + solution(draw)


def piece(draw: Random) -> str:
    loose = [RIGHT, WRONG, *TAGS, *JUNK, *REFLECTIONS]
    return draw.choice([form, solution, lambda draw: draw.choice(loose)])(draw)


def cut(draw: Random) -> str:
    start = draw.randint(0, 40)
    return form(draw)[start : start + draw.randint(0, 200)]


def completion(draw: Random) -> str:
    kinds: list[Callable[[Random], str]] = [
        lambda draw: draw.choice(REWARDED), form, lambda draw: "".join(piece(draw) for _ in range(draw.randint(0, 6))),
        cut, lambda draw: "".join(draw.choices(CHARACTERS, k=draw.randint(0, 40))),
    ]  # fmt: skip
    return draw.choice(kinds)(draw)


def sample(draw: Random) -> Sample:
    total_tokens = draw.choice([None, TARGET, 0, 10**6, draw.randint(0, 100)])
    return Sample(text=completion(draw), gold=Gold(text=draw.choice(GOLDS)), total_tokens=total_tokens)


HARMLESS = {"first_answer_not_boxed", "second_answer_not_boxed", "too_long", "too_short"}


def check(score: Score, name: str, scored: Sample) -> None:
    _, lowest, highest = RANGES[name]
    assert abs(score.total - sum(getattr(score, part) for part in PARTS)) < 1e-12
    assert lowest <= score.total <= highest + 1e-12, scored
    assert len(set(score.reasons)) == len(score.reasons)
    assert all(isinstance(reason, str) for reason in score.reasons)
    assert score.failure is None
    if not score.reasons and name != "openrlhf":  # which pays more for a first answer that is wrong
        assert score.total >= highest - 0.3
    if name == "paper" and score.total > 1.5:
        assert not set(score.reasons) - HARMLESS


def test_ten_thousand_completions_are_scored_within_their_range():
    draw, different = Random(0), dict[Sample, None]()
    while len(different) < COMPLETIONS:
        different[sample(draw)] = None
    best, reasons = dict.fromkeys(RANGES, 0.0), set()
    for name, scorer in SCORERS.items():
        samples = list(different)[: COMPLETIONS // 5 if name.startswith("paper, ") else COMPLETIONS]
        for scored, score in zip(samples, scorer(samples), strict=True):
            check(score, name, scored)
            best[name] = max(best[name], score.total)
            reasons.update(score.reasons)
    # and they were of all kinds
    assert all(best[name] >= highest - 0.1 for name, (_, _, highest) in RANGES.items() if "0.3" not in name), best
    assert len(reasons) >= 28, reasons


# --- texts made to take long ---

HOSTILE = [
    "<think>", "</think>", "<think></think>", "<think><answer>", "<answer>", "</answer>", "<answer></answer>",
    "<answer>2</answer>", "<reflection>", "<", "</", "<think", "{", "}", "{}", "\\", "\\boxed{", "\\boxed", "\\boxed ",
    "\\boxed{2}", "\\{", "$", "$$", "$1", " ", "\n", "a", "1", "1,", "1 ", "((", "\\text{", "\N{GRINNING FACE}", RIGHT,
    RIGHT + REFLECTION,
]  # fmt: skip
AROUND: dict[str, Callable[[str], str]] = {
    "alone": lambda text: text,
    "in an answer": lambda text: f"{RIGHT}{REFLECTION}<think>w</think><answer>{text}</answer>",
    "in a box": lambda text: f"<think>{text}</think><answer>\\boxed{{{text}}}</answer>{REFLECTION}{RIGHT}",
}
REPEATS, TIMES, BOUND = 500, 8, 24  # eight times the text may take 24 times as long; quadratic would be 64


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("pattern", HOSTILE, ids=repr)
def test_time_grows_with_the_length_and_not_with_its_square(pattern, around):
    texts = [AROUND[around](pattern * repeats) for repeats in (REPEATS, REPEATS * TIMES)]
    scorers = [SCORERS["paper"], SCORERS["openrlhf"]]
    short_s, long_s = _seconds(texts, scorers)
    for _ in range(4):  # what is quadratic is so in every round
        if long_s < BOUND * short_s + 0.002:
            break
        short_s, long_s = map(min, (short_s, long_s), _seconds(texts, scorers))
    assert long_s < BOUND * short_s + 0.002


def _seconds(texts: list[str], scorers: list[Scorer]) -> list[float]:
    """Processor time of each text: the machine may be busy with others."""
    seconds = []
    for text in texts:
        start = time.process_time()
        for scorer in scorers:
            scorer([Sample(text=text, gold=Gold(text="2"), total_tokens=TARGET)])
        seconds.append(time.process_time() - start)
    return seconds


@pytest.mark.parametrize("pattern", HOSTILE, ids=repr)
def test_an_answer_just_short_enough_to_be_read_closely_is_read_at_once(pattern):
    answer = (pattern * 200)[:200]
    for gold in ("2", "B", "12 cm", answer[::-1]):
        start = time.process_time()
        quick_verdict(answer, Gold(text=gold))
        assert time.process_time() - start < 0.1
