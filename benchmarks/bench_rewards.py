"""Rewards a second and core: reading and measuring completions of 500 tokens, and symbolic checks in a worker.

Rates are by processor time, a worker's included, for on a shared machine wall time says little. The last line of stdout
is one JSON document.
"""

import argparse
import json
import random
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from benchmarks.machine import machine
from benchmarks.options import LEAST_ROUNDS, at_least
from benchmarks.timing import Spread
from srpo_fast.config import RewardConfig
from srpo_fast.grading import Gold, quick_verdict
from srpo_fast.grading.grader import Grader, Pair
from srpo_fast.responses import SRPO_FORM, parse
from srpo_fast.rewards.scoring import Sample, TokenCounter, make_scorer

TOKENS = 500  # of a completion
BATCH = 256
GOALS = {"read and measured": 2_000, "symbolic check": 100}  # a second and core
VOCABULARY = 32_000
# Qwen's division of text: contractions, words with one mark or space before, single digits, punctuation, white space
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    work: str
    rate: Spread  # a second and core


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, help="a model directory (default: a BPE of 32,000, made on the spot)")
    parser.add_argument(
        "--rounds", type=at_least(LEAST_ROUNDS), default=15, help="timings a workload (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if arguments.tokenizer and not arguments.tokenizer.is_dir():
        parser.error(f"--tokenizer: expected a model directory, found none at {arguments.tokenizer}")
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer) if arguments.tokenizer else _new_tokenizer()

    def count_tokens(texts: list[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False).input_ids]

    samples = list(_samples(count_tokens))
    print(f"{BATCH} completions of {TOKENS} tokens, {sum(len(s.text) for s in samples) // BATCH:,} characters each")
    rows = [*_reading(samples, count_tokens, arguments.rounds), *_checking(arguments.rounds)]
    print(json.dumps({"rows": [asdict(row) for row in rows], "goals": GOALS, **machine()}))


def _reading(samples: list[Sample], count_tokens: TokenCounter, rounds: int) -> Iterator[Row]:
    """Answers here are numbers, which no worker has to compare."""
    settings = RewardConfig()
    grader = Grader(settings)
    counted = [Sample(text=sample.text, gold=sample.gold) for sample in samples]  # as `srpo reward` reads them

    def in_words(texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    by_words, by_tokens = (make_scorer(settings, count, grader) for count in (in_words, count_tokens))
    assert by_words(samples)[0].length > 0, "nothing was measured"
    works: dict[str, Callable[[], object]] = {
        "read": lambda: [parse(sample.text).faults(SRPO_FORM) for sample in samples],
        "read and measured, in words": lambda: by_words(samples),
        "read and measured, in tokens": lambda: by_tokens(samples),
        "read and measured, total counted too": lambda: by_tokens(counted),
    }
    for work, run in works.items():
        run()
        yield _row(work, [BATCH / _processor_s(run) for _ in range(rounds)])


def _checking(rounds: int) -> Iterator[Row]:
    """Every answer is new to the worker and to sympy's caches; its parser's tables are warm, as they stay in a run."""
    grader = Grader(RewardConfig(workers=1, time_limit=60.0))
    grader.checks(_pairs(random.Random(2 * rounds), 1))
    (worker,) = psutil.Process().children()
    for answers, work in ((1, "symbolic check, an answer a gold"), (5, "symbolic check, five answers a gold")):
        rates = []
        for number in range(rounds):
            pairs = _pairs(random.Random(answers * rounds + number), answers)
            assert all(quick_verdict(*pair) is None for pair in pairs), "some would not reach the worker"
            before = worker.cpu_times()
            own_s = _processor_s(lambda pairs=pairs: grader.checks(pairs))
            after = worker.cpu_times()
            rates.append(len(pairs) / (own_s + after.user + after.system - before.user - before.system))
        yield _row(work, rates)
    grader.close()


def _row(work: str, rates: list[float]) -> Row:
    rate = Spread.of(rates)
    goals = "".join(f"   goal {goal:,}" for name, goal in GOALS.items() if work.startswith(name))
    print(f"{work:<38} {rate.p50:9,.0f} /s and core [{rate.p20:,.0f}-{rate.p80:,.0f}]{goals}", flush=True)
    return Row(work=work, rate=rate)


def _processor_s(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


# --- what is measured ---

PROSE = """
    the triangle ABC has an angle of so we can write since both sides are equal and therefore area height base total
    number values first second in figure shown which gives us let me check this again because I should subtract
    multiply divide sum difference ratio length radius circle point line segment parallel perpendicular
"""
WORDS = PROSE.split()
FORMULAS = (
    r"$x^2 + 3x = 10$", r"$\frac{1}{2} \cdot 12 \cdot 5 = 30$", r"\(AB = \sqrt{3^2 + 4^2} = 5\)", "12 - 7 = 5",
    r"$\angle ABC = 90^\circ$", "3 x 4 = 12", r"$$S = \pi r^2$$",
)  # fmt: skip


def _samples(count_tokens: TokenCounter) -> Iterator[Sample]:
    """Two solutions and a reflection of TOKENS tokens: half a text, an answer, a remark, half a text, an answer."""
    draw = random.Random(0)
    for _ in range(BATCH):
        gold = draw.randint(0, 99)

        def text(thought: str, gold: int = gold) -> str:
            first, second = thought[: len(thought) // 2], thought[len(thought) // 2 :]
            answers = [rf"<answer>$\boxed{{{draw.choice([gold, 7])}}}$</answer>" for _ in range(2)]
            remark = "<reflection>The area was read off wrongly; the second value counts as well.</reflection>"
            return f"<think>{first}</think>{answers[0]}{remark}<think>{second}</think>{answers[1]}"

        words: list[str] = []
        while (tokens := count_tokens([text(" ".join(words))])[0]) < TOKENS - 5:
            missing = max(1, (TOKENS - tokens) // 4)
            words += [draw.choice(FORMULAS) if draw.random() < 0.1 else draw.choice(WORDS) for _ in range(missing)]
        yield Sample(text=text(" ".join(words)), gold=Gold(text=str(gold)), total_tokens=tokens)


def _pairs(draw: random.Random, answers: int) -> list[Pair]:
    """A hundred answers and golds that need sympy. Half are equal, of several answers to a gold the first is."""
    pairs: list[Pair] = []
    for number in range(10):
        if number % answers == 0:
            a, b, c, d = (draw.randint(10, 10**6) for _ in range(4))
        k = d + (number % max(answers, 2))
        forms = [
            (rf"(x+{a})(x+{k})", rf"x^2+{a + d}x+{a * d}"),
            (rf"\frac{{{a}x}}{{{b}}}+{k}", rf"{d}+\frac{{{2 * a}x}}{{{2 * b}}}"),
            (rf"\frac{{x+{k}}}{{y}}", rf"\frac{{x}}{{y}}+\frac{{{d}}}{{y}}"),
            (rf"{a}\sqrt{{x}}+{k}y", rf"{d}y+{a}x^{{\frac{{1}}{{2}}}}"),
            (rf"y={a}x+{k}", rf"y-{d}={a}x"),
            (rf"\sin(x)+{k}\cos(x)", rf"{d}\cos(x)+\sin(x)"),
            (rf"\{{x+{a},{k}y\}}", rf"\{{{d}y,{a}+x\}}"),
            (rf"({a}x+{k},{c}y)", rf"({d}+{a}x,{c}y)"),
            (rf"\pi r^2+{k}r", rf"r({d}+\pi r)"),
            (rf"\frac{{n(n+1)}}{{2}}+{k}", rf"\frac{{n^2+n}}{{2}}+{d}"),
        ]
        pairs += [(answer, Gold(text=gold)) for answer, gold in forms]
    return pairs


def _new_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of Qwen's kind, of the texts every Python carries along: its standard library."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    tokenizer.train_from_iterator((file.read_text(encoding="utf-8") for file in files), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


if __name__ == "__main__":
    main()
