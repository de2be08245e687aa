"""A model directory as the teacher: vLLM in this process, held to the JSON that is asked for."""

import json
from pathlib import Path

import pytest
from PIL import Image

from srpo_fast.config import LocalTeacherConfig, UserError
from srpo_fast.reflection.chat import ChatFailure, ChatReply, ChatRequest
from srpo_fast.reflection.local_model import LocalModel

SCHEMA = {
    "type": "object", "properties": {"score": {"type": "integer", "enum": [1, 2, 3]}}, "required": ["score"],
    "additionalProperties": False,
}  # fmt: skip


def ask(key: str, text: str, images: int = 0, schema: dict | None = SCHEMA) -> ChatRequest:
    pictures = tuple(Image.new("RGB", (56, 28), (40 * i, 0, 0)) for i in range(images))
    return ChatRequest(key=key, system="judge", text="<image>" * images + text, images=pictures, schema=schema)


def test_replies_keep_to_the_schema_and_what_is_too_long_is_refused_alone(untrained_model, one_process):
    settings = LocalTeacherConfig(
        path=untrained_model, dtype="float32", max_prompt_tokens=64, max_tokens=32, temperature=1.0, max_num_seqs=8,
        kv_cache_gib=0.0625,
    )  # fmt: skip
    model = LocalModel(settings, seed=0)
    requests = [
        ask("plain", "how good?"), ask("seen", "how good?", images=1), ask("long", "how good? " * 40),
        ask("free", "say something", schema=None),
    ]  # fmt: skip
    results = {result.key: result for result in model.ask(iter(requests))}
    assert results.keys() == {"plain", "seen", "long", "free"}
    for key in ("plain", "seen"):
        reply = results[key]
        assert isinstance(reply, ChatReply)
        assert reply.fields == json.loads(reply.text)
        assert reply.fields["score"] in (1, 2, 3)
        assert reply.is_finished
    assert isinstance(results["long"], ChatFailure)
    assert results["long"].reason == "bad_request"
    assert (model.usage.replies + model.usage.failures, model.usage.requests) == (4, 4)
    assert model.usage.completion_tokens > 0


def test_a_directory_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"no config\.json in"):
        list(LocalModel(LocalTeacherConfig(path=tmp_path), seed=0).ask([ask("a", "b")]))
