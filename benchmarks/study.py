"""Does reflection learn, and against what? The embedded run and its plain-GRPO control over seeds.

Every run is `torchrun srpo_fast/train.py` in a process of its own; an interrupted study goes on where it stopped, and a
finished run is not repeated. The last line of stdout, also written to benchmarks/results/, is one JSON document.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.options import at_least

CONFIGS = {"SRPO": Path("configs/embedded.yaml"), "GRPO": Path("configs/embedded_grpo.yaml")}
RESULT = Path("benchmarks/results/embedded_study.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=at_least(0), nargs="+", default=[0, 1, 2])
    parser.add_argument("--root", type=Path, default=Path("runs/study"))
    parser.add_argument("--ranks", type=at_least(1), default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    runs = [
        {"method": method, "seed": seed, **finished_run(options.root, method, seed, options.ranks)}
        for seed in options.seeds
        for method in CONFIGS
    ]
    document = {"runs": runs, "gain": gain(runs), "commit": commit(), "ranks": options.ranks}
    Console().print(table(runs))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


def finished_run(root: Path, method: str, seed: int, ranks: int) -> dict[str, Any]:
    """The summary of a run, which is made or finished first."""
    run = root / f"{method.lower()}_seed{seed}"
    summary = run / "summary.json"
    if not (summary.exists() and "srpo" in json.loads(summary.read_text())["heldout"]):
        print(f"--- {method}, seed {seed} ---", flush=True)
        command = [
            Path(sys.executable).with_name("torchrun"), "--standalone", "--nproc-per-node", str(ranks),
            "srpo_fast/train.py", "--config", CONFIGS[method], f"run.dir={run}", f"run.seed={seed}",
        ]  # fmt: skip
        subprocess.run(command, check=True)
    return json.loads(summary.read_text())


def gain(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """SRPO's second-answer accuracy minus the cold start's, sampled at temperature 1, in points."""
    heldout = [run["heldout"] for run in runs if run["method"] == "SRPO"]
    points = [100 * (h["srpo"]["acc2"] - h["sft"]["acc2"]) for h in heldout]
    error = statistics.stdev(points) / math.sqrt(len(points)) if len(points) > 1 else None
    return {"points": points, "mean": statistics.mean(points), "standard_error": error, "least": min(points)}


def table(runs: list[dict[str, Any]]) -> Table:
    out = Table(title="Held-out accuracy in %, sampled at temperature 1 (greedy)", title_justify="left")
    for column in ("run", "seed", "base", "SFT 1st", "SFT 2nd", "final 1st", "final 2nd", "minutes"):
        out.add_column(column, justify="right")
    for run in runs:
        held = run["heldout"]
        out.add_row(
            run["method"], str(run["seed"]), percent(held["base"], 1), percent(held.get("sft"), 1),
            percent(held.get("sft"), 2), percent(held["srpo"], 1), percent(held["srpo"], 2),
            f"{sum(run['seconds'].values()) / 60:.1f}",
        )  # fmt: skip
    return out


def percent(held: dict[str, Any] | None, answer: int) -> str:
    if held is None or held[f"acc{answer}"] is None:
        return "-"
    return f"{100 * held[f'acc{answer}']:.1f} ({100 * held[f'greedy_acc{answer}']:.1f})"


def commit() -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
