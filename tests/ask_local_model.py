"""Run as a script: a model directory (the first argument) is asked four things; prints the results and the usage.

A script, because an engine that ends takes the process group along, which the other tests share.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from srpo_fast.chat.model import ChatRequest
from srpo_fast.config import LocalTeacherConfig
from srpo_fast.reflection.local_model import LocalModel

SCHEMA = {
    "type": "object", "properties": {"score": {"type": "integer", "enum": [1, 2, 3]}}, "required": ["score"],
    "additionalProperties": False,
}  # fmt: skip


def ask(key: str, text: str, images: int = 0, schema: dict | None = SCHEMA) -> ChatRequest:
    pictures = tuple(Image.new("RGB", (56, 28), (40 * i, 0, 0)) for i in range(images))
    return ChatRequest(key=key, system="judge", text="<image>" * images + text, images=pictures, schema=schema)


def main(model_dir: Path) -> None:
    settings = LocalTeacherConfig(
        path=model_dir, dtype="float32", max_prompt_tokens=64, max_tokens=32, temperature=1.0, max_num_seqs=8,
        kv_cache_gib=0.0625,
    )  # fmt: skip
    model = LocalModel(settings, seed=0)
    requests = [
        ask("plain", "how good?"), ask("seen", "how good?", images=1), ask("long", "how good? " * 40),
        ask("free", "say something", schema=None),
    ]  # fmt: skip
    results = {result.key: asdict(result) for result in model.ask(iter(requests))}
    print("\n" + json.dumps({"results": results, "usage": asdict(model.usage)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
