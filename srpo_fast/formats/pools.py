"""Pools of questions: plain records, stage 1's sources and the output of its first step, LLaVA-CoT, MathV360K.

plain          {"question" or "problem", "answer", "image" or "images"}     EasyR1's parquet has problem and images
source pool    {"query", "image", "answer", "content" (a rationale, optional)}
answer_eval    {"query", "image", "standard_answer", "cot", "answer"}        the last two are the policy's
LLaVA-CoT      {"id", "image", "conversations": [{"from": "human", "value"}, {"from": "gpt", "value"}]}, the second in
               blocks of which <CONCLUSION> is the answer
MathV360K      the same, the second saying "The answer is ..."
"""

import re
from typing import Any

from srpo_fast.bad_record import BadRecord
from srpo_fast.formats.entry import Entry, answer_field, image_fields, make_entry, show, text_field

_CONCLUSION = re.compile(r"<CONCLUSION>(.*?)(?:</CONCLUSION>|$)", re.DOTALL)
_ANSWER_IS = re.compile(r".*the answer is:?(.*)", re.DOTALL | re.IGNORECASE)


def parse_plain(record: dict[str, Any], name: str) -> Entry:
    """A record whose question is the text in the field of that name."""
    return make_entry(text_field(record, name), image_fields(record), answer_field(record))


def parse_query(record: dict[str, Any]) -> Entry:
    """A source pool's record, or one of answer_eval, whose `answer` is the policy's and not the truth."""
    truth = "standard_answer" if "standard_answer" in record else "answer"
    rationale = record.get("content")
    return make_entry(
        text_field(record, "query"), image_fields(record), answer_field(record, truth),
        rationale if isinstance(rationale, str) else "",
    )  # fmt: skip


def parse_conversations(record: dict[str, Any]) -> Entry:
    """The first question of a LLaVA-CoT or MathV360K conversation and the answer that closes the reply to it."""
    match record["conversations"]:
        case [{"from": "human", "value": str(question)}, {"from": "gpt", "value": str(reply)}, *_]:
            return make_entry(question, image_fields(record), _conclusion(reply), reply)
    raise BadRecord(
        "bad_question",
        f"field conversations: expected texts from human and gpt, got {show(record['conversations'])}",
    )


def _conclusion(reply: str) -> str:
    blocks = _CONCLUSION.findall(reply)
    sentence = None if blocks else _ANSWER_IS.fullmatch(reply)
    answer = blocks[-1].strip() if blocks else sentence[1].strip().removesuffix(".").rstrip() if sentence else ""
    if not answer:
        raise BadRecord(
            "bad_answer",
            "field conversations: expected a <CONCLUSION> or 'The answer is ...' in the reply, got "
            f"{show(reply[-60:])}; give the answer in a field of its own",
        )
    return answer
