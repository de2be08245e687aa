"""Fifty steps of the embedded run in every layout and both kinds of sync: is the engine the policy after each of them?

After every sync all parameters are compared bit by bit, and every trained token's log-prob of the engine with the
policy's. The base policy of `make train` is needed. The last line of stdout is one JSON document.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from benchmarks.machine import machine

LAYOUTS = {
    "tp1": (1, ()),
    "tp2": (2, ("parallel.tp=2",)),
    "tp2_sp": (2, ("parallel.tp=2", "parallel.sequence_parallel=true")),
    "pp2": (2, ("parallel.pp=2",)),
    "dp2": (2, ("parallel.distributed_optimizer=true",)),
}
MODELS = {"tied": "frozen", "untied": "trained"}  # and what becomes of their vision tower
STEPS = 50
SHORT = (
    f"steps={STEPS}", "data.prompts_per_step=8", "rollout.group_size=4", "rollout.checked_share=1", "save_every=50",
    "evaluation.every=0", "evaluation.questions=1", "reflection=null", "cold_start=null", "reward.max_flat_steps=null",
)  # fmt: skip


def write_models(base: Path, folder: Path) -> None:
    """The base policy as it is, and with a head of its own, which begins as the embedding."""
    shutil.copytree(base, folder / "tied")
    shutil.copytree(base, folder / "untied")
    config = json.loads((base / "config.json").read_text())
    for part in (config, config.get("text_config", {})):
        part["tie_word_embeddings"] = False
    (folder / "untied" / "config.json").write_text(json.dumps(config))
    tensors = load_file(base / "model.safetensors")
    embedding = next(name for name in tensors if name.endswith("embed_tokens.weight"))
    save_file(
        tensors | {"lm_head.weight": tensors[embedding].clone()},
        folder / "untied" / "model.safetensors",
        metadata={"format": "pt"},
    )


def run(folder: Path, layout: str, mode: str, model: str) -> dict[str, Any]:
    """What the steps of one run say; a sync that fails ends the run, and this."""
    ranks, arguments = LAYOUTS[layout]
    run_dir = folder / f"{layout}-{mode}-{model}"
    command = [
        str(Path(sys.executable).with_name("srpo")), "train", "--ranks", str(ranks), f"run.dir={run_dir}",
        f"model.path={folder / model}", f"model.train_vision={str(MODELS[model] == 'trained').lower()}",
        f"rollout.weights={mode}", *arguments, *SHORT,
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{run_dir.name} ended with {done.returncode}: {done.stderr[-2000:]}")
    steps = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    trained = [step for step in steps if "rollout/mismatch_max" in step]
    return {
        "layout": layout, "mode": mode, "model": model, "tower": MODELS[model], "steps": len(steps),
        "steps_that_trained": len(trained),
        "tokens_compared": sum(step["train/loss_tokens"] for step in trained),
        "mean_logprob_diff": max(step["rollout/mismatch_abs"] for step in trained),  # of the worst step
        "max_logprob_diff": max(step["rollout/mismatch_max"] for step in trained),
        "sync_s": sorted(step["time/sync_s"] for step in steps)[len(steps) // 2],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="the base policy: runs/embedded_base/seed...")
    parser.add_argument("--layouts", nargs="+", default=list(LAYOUTS), choices=LAYOUTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_models(options.base, Path(folder))
        runs = []
        for layout, mode, model in product(options.layouts, ("copy", "alias"), MODELS):
            runs.append(run(Path(folder), layout, mode, model))
            print(f"{layout:<7}{mode:<6}{model:<7} {runs[-1]['max_logprob_diff']:.1e}", file=sys.stderr)
    print(json.dumps({"runs": runs} | machine()))


if __name__ == "__main__":
    main()
