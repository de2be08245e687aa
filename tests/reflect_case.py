"""A pool of questions with images on disk, a server that knows some of the answers, and what is asked of `srpo`."""

import json
from pathlib import Path

from PIL import Image

from srpo_fast.config import DEFAULT_CONFIG, Config, load_config

EVERY_THIRD = 3  # is answered right at first
ENDPOINT = {
    "model": "m", "key_env": None, "timeout_s": 120.0, "backoff_s": 0.02, "backoff_limit_s": 0.05, "concurrency": 8,
    "retries": 6, "reply_retries": 6,
}  # fmt: skip


def write_pool(folder: Path, count: int) -> Path:
    """`count` questions with an image each; the answer to question i is i."""
    lines = []
    for i in range(count):
        Image.new("RGB", (56, 28), (i, 2 * i, 255 - i)).save(folder / f"{i}.png")
        text = f"<image>What is number {i:03d}?"
        lines.append({"id": f"q{i:03d}", "query": text, "image": f"{i}.png", "answer": str(i)})
    pool = folder / "pool.jsonl"
    pool.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return pool


def replies(count: int) -> dict[str, str]:
    """Part of a question -> its first answer."""
    return {
        f"number {i:03d}?": f"<think>It says {i}.</think>\n<answer>{i if i % EVERY_THIRD == 0 else -1}</answer>"
        for i in range(count)
    }


def overrides(pool: Path, base_url: str, **reflection: object) -> list[str]:
    """Arguments of `srpo reflect`; `reflection` replaces keys of that section."""
    endpoint = ENDPOINT | {"base_url": base_url}
    section = {
        "teacher": endpoint, "answerer": endpoint, "judge": {"endpoint": endpoint, "threshold": 2}, "prompts": 40,
        "records": 10, "right_share": 0.3, "max_tokens": 64,
    } | reflection  # fmt: skip
    return [f"data.train={pool}", f"run.dir={pool.parent / 'run'}", f"reflection={json.dumps(section)}"]


def config_of(pool: Path, base_url: str, **reflection: object) -> Config:
    return load_config(DEFAULT_CONFIG, overrides(pool, base_url, **reflection))
