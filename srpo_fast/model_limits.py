"""Do a config's limits fit its model? From config.json alone, before a policy or an engine is begun."""

import math
from pathlib import Path

from srpo_fast.config import Config, ConfigError, UserError
from srpo_fast.model_shape import ModelShape, TextShape, read_shape

BLOCK = 32  # tokens of a block of the engine's KV cache
GIB = 2**30


def read_model_dir(model_dir: Path) -> ModelShape:
    """Raises UserError unless it is the directory of a Qwen2.5-VL model, as far as its config.json says."""
    return read_shape(model_file(model_dir))


def model_file(model_dir: Path) -> Path:
    """Its config.json. Raises UserError where there is none, naming the model of a run whose directory this is."""
    file = model_dir / "config.json"
    if file.is_file():
        return file
    trained = model_dir / "hf"
    meant = f"; it is a run directory, whose model is {trained}" if (trained / file.name).is_file() else ""
    raise UserError(f"expected a Hugging Face model directory, found no config.json in {model_dir}{meant}")


def check_limits(shape: ModelShape, config: Config) -> None:
    """Raises ConfigError with everything that policy or engine would refuse."""
    data, rollout = config.data, config.rollout
    longest = data.max_prompt_tokens + rollout.max_tokens
    sequence = f"data.max_prompt_tokens={data.max_prompt_tokens} + rollout.max_tokens={rollout.max_tokens}"
    parallel = config.parallel
    problems = cut_problems(shape.text, tp=parallel.tp, chunks=parallel.pp * parallel.chunks_per_stage)
    if longest > shape.text.positions:
        problems.append(
            f"{sequence} is more than the model's {shape.text.positions} positions (max_position_embeddings); "
            "lower one of them"
        )
    needed = cache_gib(shape.text, longest, config.model.dtype, parallel.tp)
    if rollout.kv_cache_gib < needed:
        problems.append(
            f"rollout.kv_cache_gib={rollout.kv_cache_gib:g} holds no sequence of {sequence}; set at least "
            f"{rounded_up(needed):g}, and more for several at once"
        )
    if problems:
        raise ConfigError("; ".join(problems))


def cut_problems(text: TextShape, *, tp: int, chunks: int) -> list[str]:
    """One sentence for each reason why the model cannot be cut so; chunks: pipeline stages times their chunks."""
    sizes = {
        "attention heads": text.heads, "key/value heads": text.kv_heads, "feed-forward columns": text.ffn,
        "vocabulary entries": text.vocab,
    }  # fmt: skip
    problems = [
        f"parallel.tp={tp} does not divide the model's {size} {what}; choose a divisor"
        for what, size in sizes.items()
        if size % tp
    ]
    if chunks > text.layers:
        problems.append(f"{chunks} pipeline chunks are more than the model's {text.layers} layers; choose fewer")
    return problems


def cache_gib(text: TextShape, tokens: int, dtype: str, tp: int) -> float:
    """GiB of KV cache on a rank without which vLLM does not start: one sequence of so many tokens, and a block that it
    keeps for itself."""
    heads = max(1, text.kv_heads // tp)
    a_token = 2 * text.layers * heads * text.head_dim * (2 if dtype == "bfloat16" else 4)
    return (math.ceil(tokens / BLOCK) + 1) * BLOCK * a_token / GIB


def rounded_up(gib: float) -> float:
    """To two figures."""
    digit = 10.0 ** (math.floor(math.log10(gib)) - 1)
    return round(math.ceil(gib / digit) * digit, 12)
