"""A model directory as the teacher: vLLM in this process, held to the JSON that is asked for."""

import json
from pathlib import Path

import pytest

from srpo_fast.chat.model import ChatRequest
from srpo_fast.config import LocalTeacherConfig, UserError
from srpo_fast.reflection.local_model import LocalModel
from tests.launch import run_on_ranks


def test_replies_keep_to_the_schema_and_what_is_too_long_is_refused_alone(untrained_model):
    result = run_on_ranks(1, "tests/ask_local_model.py", str(untrained_model))
    assert result.returncode == 0, result.stderr[-4000:]
    said = json.loads(result.stdout.splitlines()[-1])
    results, usage = said["results"], said["usage"]
    assert results.keys() == {"plain", "seen", "long", "free"}
    for key in ("plain", "seen"):
        reply = results[key]
        assert reply["text"] == json.dumps(reply["fields"], separators=(",", ":"))  # no blank wasted
        assert reply["fields"]["score"] in (1, 2, 3)
        assert reply["is_finished"]
    assert results["long"]["reason"] == "bad_request"
    assert (usage["replies"] + usage["failures"], usage["requests"]) == (4, 4)
    assert usage["completion_tokens"] > 0


def test_a_directory_without_a_model_is_refused(tmp_path: Path):
    request = ChatRequest(key="a", system=None, text="b", images=(), schema=None)
    with pytest.raises(UserError, match=r"no config\.json in"):
        list(LocalModel(LocalTeacherConfig(path=tmp_path), seed=0).ask([request]))
