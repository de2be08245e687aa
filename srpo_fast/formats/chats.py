"""Formats in which the question is a chat: the published RL lines, verl's `prompt`, SFT arrays and Mulberry.

RL line      {"message": a list as JSON text, [{"role": "user", "content": [image parts, text parts]}], "answer"}
verl         {"prompt": [{"role": "user", "content": "<image>..."}], "images": [...], "reward_model": {"ground_truth"}}
SFT array    {"messages": [{"role": "user", "content": "<image>..."}, {"role": "assistant", ...}], "images": ["..."]}
Mulberry     the same, `images` being one path, the assistant ending in "### The final answer is: ..."
"""

import json
import re
from typing import Any

from srpo_fast.bad_record import BadRecord
from srpo_fast.formats.entry import Entry, answer_field, image_fields, make_entry, show
from srpo_fast.image_marks import IMAGE_MARK, without_marks
from srpo_fast.images import ImageSource

MULBERRY_ANSWER = "### The final answer is:"
_ANSWER_BLOCK = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_QUESTION_LABEL = re.compile(r"^(\s*(?:<image>\s*)*)Question:[ \t]*")


def parse_rl(record: dict[str, Any]) -> Entry:
    """A published RL line: `message` as JSON text, as a list, or as the bare words of the user; and `answer`."""
    message = record["message"]
    if isinstance(message, str) and not message.lstrip().startswith(("[", "{")):
        message = [{"role": "user", "content": message}]
    elif isinstance(message, str):
        try:
            message = json.loads(message)
        except (ValueError, RecursionError) as error:
            raise BadRecord(
                "unreadable_record", f"field message: expected a chat as JSON text, got: {error}; repair it"
            ) from error
    text, images = _user_content(message, "message")
    return make_entry(text, images, answer_field(record))


def parse_verl(record: dict[str, Any]) -> Entry:
    """verl's own columns: the question is a chat with marks, the images stand beside it."""
    text, images = _user_content(record["prompt"], "prompt", marks=True)
    truth = record["reward_model"]
    if not isinstance(truth, dict):
        raise BadRecord("bad_answer", f"field reward_model: expected ground_truth in it, got {show(truth)}")
    return make_entry(text, images + image_fields(record), answer_field(truth, "ground_truth"))


def parse_messages(record: dict[str, Any]) -> Entry:
    """An SFT item or a Mulberry record: the user's first message; the answer is the last the assistant gives to it."""
    messages = record["messages"]
    turns = [m for m in messages if m.get("role") != "system"] if _is_chat(messages) else []
    if [m.get("role") for m in turns[:2]] != ["user", "assistant"] or not all(_is_text(m) for m in turns[:2]):
        raise BadRecord(
            "bad_question", f"field messages: expected texts of a user and an assistant, got {show(messages)}"
        )
    question, written = turns[0]["content"], turns[1]["content"]
    return make_entry(_QUESTION_LABEL.sub(r"\1", question), image_fields(record), _answer_in(written), written)


def _answer_in(written: str) -> str:
    """What follows Mulberry's heading, else the last answer block."""
    _, heading, mulberry = written.rpartition(MULBERRY_ANSWER)
    blocks = _ANSWER_BLOCK.findall(written)
    answer = mulberry.strip() if heading else blocks[-1].strip() if blocks else ""
    if not answer:
        raise BadRecord(
            "bad_answer",
            f"field messages: expected an answer after {MULBERRY_ANSWER!r} or between <answer> and </answer>, got "
            f"{show(written[-60:])}",
        )
    return answer


def _user_content(chat: Any, field: str, *, marks: bool = False) -> tuple[str, tuple[ImageSource, ...]]:
    """Text with marks, and images, of a chat of one user message. marks: those in the text mean images beside it."""
    if not _is_chat(chat) or [m.get("role") for m in chat] != ["user"]:
        raise BadRecord(
            "bad_question",
            f"field {field}: expected a list of one user message, got {show(chat)}; "
            "the system prompt is the config's, answers of the assistant do not belong here",
        )
    content = chat[0].get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        raise BadRecord("bad_question", f"field {field}: expected content of text and image parts, got {show(content)}")
    texts: list[str] = []
    images: list[ImageSource] = []
    for part in content:
        match part:
            case {"type": "text", "text": str(text)}:
                texts.append(text if marks else without_marks(text))
            case {"type": "image", "image": str(image)} | {
                "type": "image_url",
                "image_url": {"url": str(image)} | str(image),
            }:
                texts.append(IMAGE_MARK)
                images.append(image)
            case _:
                raise BadRecord(
                    "bad_question",
                    f"field {field}: expected text parts and image parts with a path, got {show(part)}",
                )
    return "".join(texts), tuple(images)


def _is_chat(messages: Any) -> bool:
    return isinstance(messages, list) and all(isinstance(message, dict) for message in messages)


def _is_text(message: dict[str, Any]) -> bool:
    return isinstance(message.get("content"), str)
