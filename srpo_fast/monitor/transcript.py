"""Completions as HTML: the image, the question, the blocks of the text, the reward in parts and the reasons."""

import re
from collections.abc import Sequence
from html import escape

from srpo_fast.monitor.samples import CompletionRecord
from srpo_fast.monitor.summary import TRANSITION_NAMES

BLOCK = re.compile(r"<(think|answer|reflection)>(.*?)</\1>", re.DOTALL)
NAMES = dict(TRANSITION_NAMES)


def transition_of(record: CompletionRecord) -> str:
    """ "wr", "rr", "rw" or "ww": how the first and the second answer were."""
    return ("r" if record.first_correct else "w") + ("r" if record.second_correct else "w")


def choose_records(records: Sequence[CompletionRecord]) -> list[CompletionRecord]:
    """One record for each transition that occurs, of different prompts as far as they reach."""
    chosen: list[CompletionRecord] = []
    for transition, _ in TRANSITION_NAMES:
        alike = [record for record in records if transition_of(record) == transition]
        shown = {record.prompt_id for record in chosen}
        chosen += sorted(alike, key=lambda record: record.prompt_id in shown)[:1]
    return chosen


def completion_card(record: CompletionRecord) -> str:
    """One completion beside its image. Everything that a model or a data set wrote is escaped."""
    transition = transition_of(record)
    question = escape(record.question.replace("<image>", "").strip())
    images = "".join(
        f'<img src="data:image/png;base64,{escape(image)}" alt="image of {escape(record.prompt_id)}">'
        for image in record.images
    )
    return (
        f'<article class="card"><div class="prompt">{images}<p class="question">{question}</p>'
        f'<p class="gold">expected <code>{escape(record.gold)}</code></p>'
        f'<p class="source">{escape(record.prompt_id)}, sample {record.sample}</p></div>'
        f'<div class="written"><p class="verdict"><span class="outcome {transition}">{NAMES[transition]}</span>'
        f"{_length(record)}</p>{_blocks(record)}{_reward(record)}</div></article>"
    )


def _length(record: CompletionRecord) -> str:
    cut = "" if record.is_finished else ", cut at the limit"
    return f'<span class="length">{record.num_tokens:,} tokens{cut}</span>'


def _blocks(record: CompletionRecord) -> str:
    """Every block with its name in the margin; what stands between blocks is marked as out of place."""
    blocks = list(BLOCK.finditer(record.text))
    answers = [block for block in blocks if block[1] == "answer"]
    html, end = [], 0
    for block in blocks:
        html.append(_stray(record.text[end : block.start()]))
        is_first, is_last = block in answers[:1], block in answers[-1:]
        html.append(_block(block[1], block[2], _mark(record, is_first=is_first, is_last=is_last)))
        end = block.end()
    html.append(_stray(record.text[end:]))
    return f'<div class="blocks">{"".join(html)}</div>'


def _block(name: str, text: str, mark: str = "") -> str:
    return f'<div class="block {name}"><span class="tag">{name}</span><pre>{escape(text.strip())}{mark}</pre></div>'


def _stray(text: str) -> str:
    return _block("stray", text) if text.strip() else ""


def _mark(record: CompletionRecord, *, is_first: bool, is_last: bool) -> str:
    """A tick or a cross after the first and the second answer; other answers were not graded."""
    if not (is_first or is_last):
        return ""
    is_right = record.first_correct if is_first else record.second_correct
    return ' <b class="right">\N{CHECK MARK}</b>' if is_right else ' <b class="wrong">\N{MULTIPLICATION X}</b>'


def _reward(record: CompletionRecord) -> str:
    parts = "".join(
        f"<span>{escape(name.replace('_', ' '))} <b>{value:.2f}</b></span>"
        for name, value in record.reward_parts.items()
    )
    reasons = "".join(f"<code>{escape(reason)}</code>" for reason in record.reasons)
    return f'<p class="reward"><span class="total">reward <b>{record.reward:.2f}</b></span>{parts}</p>' + (
        f'<p class="reasons">{reasons}</p>' if reasons else ""
    )
