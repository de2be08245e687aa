"""Is `srpo estimate` right about memory? One update of a random policy on this CPU, against what was predicted.

A child process builds the policy and makes one forward, backward and optimizer step while the kernel keeps its peak
resident memory; every part is predicted by the functions that `srpo estimate` uses. The child returns freed memory to
the system at once (MALLOC_*), so that resident means live. CUDA's caching allocator keeps it instead: that is what the
estimate's fragmentation_share is for, and nothing here measures it. The last line of stdout, also written to
benchmarks/results/, is one JSON document.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULT = Path("benchmarks/results/estimate_check.json")
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
MIB = 2.0**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model and one micro-batch."""

    hidden: int = 1024
    layers: int = 8
    heads: int = 16
    kv_heads: int = 4
    ffn: int = 2816
    vocab: int = 24_576
    vision_depth: int = 4
    vision_hidden: int = 640
    vision_ffn: int = 1712
    dtype: str = "float32"
    recompute: str = "none"
    sequences: int = 4
    image_side: int = 32  # patches
    prompt_tokens: int = 288
    completion_tokens: int = 160


SMALL = Case(hidden=512, layers=4, heads=8, kv_heads=2, ffn=1408, vocab=16_384, vision_hidden=320, vision_ffn=864)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--recompute", choices=["none", "selective", "full"], default="none")
    options = parser.parse_args()
    case = Case(dtype=options.dtype, recompute=options.recompute)
    document = check(case)
    for name, part in document["parts"].items():
        sizes = f"measured {part['measured_mib']:8.1f} MiB, predicted {part['predicted_mib']:8.1f} MiB"
        print(f"{name:<22} {sizes} ({part['predicted_mib'] / part['measured_mib'] - 1:+.1%})")
    RESULT.with_stem(f"{RESULT.stem}_{case.dtype}_{case.recompute}").write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


def check(case: Case) -> dict[str, Any]:
    """Measured and predicted MiB by part; the peak is that of the whole update above an empty process."""
    with tempfile.TemporaryDirectory() as folder:
        write_random_model(Path(folder), case)
        measured = measure_in_child(Path(folder), case)
        predicted = predict(Path(folder), case)
    parts = {name: {"measured_mib": measured[name] / MIB, "predicted_mib": predicted[name] / MIB} for name in predicted}
    return {
        "parts": parts,
        "peak_error": predicted["peak"] / measured["peak"] - 1,
        "process_with_libraries_mib": measured["process"] / MIB,
        "case": asdict(case),
        "allocator": ALLOCATOR,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "megatron-core")},
    }


def write_random_model(folder: Path, case: Case) -> None:
    from srpo_fast import torchvision_shim  # noqa: F401

    # isort: split
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from srpo_fast.embedded.model import build_config, write_model
    from srpo_fast.embedded.tokenizer import build_tokenizer

    head = case.hidden // case.heads
    document = build_config(build_tokenizer()).to_dict()
    document["text_config"] |= {
        "hidden_size": case.hidden, "num_hidden_layers": case.layers, "num_attention_heads": case.heads,
        "num_key_value_heads": case.kv_heads, "intermediate_size": case.ffn, "vocab_size": case.vocab,
        "layer_types": None, "tie_word_embeddings": False,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 1e6, "mrope_section": [head // 8, head // 16 * 3, head // 16 * 3]
        },
    }  # fmt: skip
    document["vision_config"] |= {
        "depth": case.vision_depth, "hidden_size": case.vision_hidden, "intermediate_size": case.vision_ffn,
        "num_heads": case.vision_hidden // 80, "out_hidden_size": case.hidden, "fullatt_block_indexes": [1],
        "window_size": 112,
    }  # fmt: skip
    config = Qwen2_5_VLConfig(**document | {"tie_word_embeddings": False})
    write_model(Qwen2_5_VLForConditionalGeneration(config), folder)


def measure_in_child(folder: Path, case: Case) -> dict[str, float]:
    environment = os.environ | ALLOCATOR
    command = [sys.executable, "-m", "benchmarks.estimate_child", str(folder), json.dumps(asdict(case))]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def predict(folder: Path, case: Case) -> dict[str, float]:
    """Bytes by part, from the model's config.json and the micro-batch's sizes."""
    from srpo_fast.config import load_config
    from srpo_fast.estimate import memory
    from srpo_fast.estimate.assumptions import assume
    from srpo_fast.estimate.gpus import GPUS
    from srpo_fast.estimate.job import MicroBatchSize, make_job
    from srpo_fast.model_shape import find_shape

    config = load_config(
        Path("configs/embedded.yaml"),
        [f"model.dtype={case.dtype}", f"model.path={folder}", f"model.recompute={case.recompute}"],
    )
    shape = find_shape(str(folder), None)
    job = make_job(config, shape, GPUS["cpu"], 1, 1.0, assume(config, shape.vision, [], is_cpu=True))
    tokens = case.sequences * (case.prompt_tokens + case.completion_tokens)
    rows = case.sequences * case.completion_tokens
    batch = MicroBatchSize(tokens=tokens, loss_rows=rows, padded_tokens=tokens)
    patches, e = case.sequences * case.image_side**2, job.bytes_a_weight
    features = patches / shape.vision.patches_a_token * shape.vision.out_hidden * e
    resident = memory.resident(job, 0)
    held = resident["policy weights"] + resident["vision tower"] + resident["gradients"]
    images = features + patches * memory.vision_pass_a_patch(shape.vision, e)
    passes = features + sum(memory.forward_backward(job, 0, batch).values())
    step = memory.optimizer_step(job, 0)
    return {
        "weights and gradients": held,
        "images": images,
        "forward and backward": passes,
        "optimizer": resident["optimizer"],
        "optimizer's step": step,
        "peak": held + max(passes, images, resident["optimizer"] + step),
    }


if __name__ == "__main__":
    main()
