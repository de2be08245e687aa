"""Weight sync three ways, in turns in one process: vLLM's reload_weights, a copy in place, and shared parameters.

Each ends with the same resets of the engine's caches, our two also with their verification. The last line of stdout is
one JSON document.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import srpo_fast  # noqa: F401 - sets the environment before torch and vLLM are imported

# isort: split
from benchmarks.machine import machine
from benchmarks.options import LEAST_ROUNDS, at_least, in_one_line
from benchmarks.timing import Spread
from srpo_fast.agreement import MAX_TOKENS, make_prompts, measure_agreement
from srpo_fast.config import OptimizerConfig, ParallelConfig, RolloutConfig
from srpo_fast.embedded.model import write_untrained_model
from srpo_fast.packing import make_packer
from srpo_fast.parallel import Parallel, start
from srpo_fast.policy import Policy
from srpo_fast.prompts import PromptEncoder
from srpo_fast.rollout import Features, VllmEngine
from srpo_fast.rollout.vllm_touch_points import plain_linears
from srpo_fast.user_error import CommandParser
from srpo_fast.weight_sync import WeightSync, fill_engine


class Bench:
    """A policy and its engine, and the three ways from one to the other."""

    def __init__(self, model_dir: Path, dtype: str, parallel: Parallel) -> None:
        self.parallel = parallel
        self.encoder = PromptEncoder.from_pretrained(model_dir, max_prompt_tokens=256)
        self.pack = make_packer(model_dir, self.encoder, OptimizerConfig(), parallel, train_vision=False)
        banned = self.encoder.banned_ids
        self.policy = Policy(model_dir, dtype=dtype, seed=0, parallel=parallel, banned_ids=banned, temperature=1.0)
        self.engine = VllmEngine(
            model_dir, RolloutConfig(max_tokens=MAX_TOKENS, kv_cache_gib=0.125, max_num_seqs=16), dtype=dtype, seed=0,
            max_prompt_tokens=256, banned_ids=banned, decode=self.encoder.decode,
            images=Features(self.policy.vision.features_for_engine), parallel=parallel,
        )  # fmt: skip
        self.parameters = self.engine.parameters()
        self.own = {name: parameter.data for name, parameter in self.parameters.items()}
        self.copying = WeightSync(self.policy, self.engine, RolloutConfig(), parallel)
        self.copying.run()
        fill_engine(self.policy, "alias", self.parameters)
        self.sharing = WeightSync(self.policy, self.engine, RolloutConfig(), parallel)
        self.sharing.run()

    def reload(self) -> float:
        """What every loop without a plan does: whole tensors by their published names."""
        self._part()
        begin = time.perf_counter()
        weights = {"weights_iterator": self.policy.hf_weights()}
        with plain_linears(self.parallel.device):
            self.engine.llm.collective_rpc("reload_weights", kwargs=weights)
        self.engine.weights_changed(self.policy.version)
        return time.perf_counter() - begin

    def copy(self) -> float:
        self._part()
        return _seconds(self.copying.run)

    def alias(self) -> float:
        fill_engine(self.policy, "alias", self.parameters)
        return _seconds(self.sharing.run)

    def difference(self) -> float:
        """The largest |engine - policy| log-prob after prompts with no, one and two images."""
        prompts = make_prompts(self.encoder)
        return measure_agreement(self.policy, self.engine, prompts, self.pack, self.parallel).largest

    def _part(self) -> None:
        """The engine's parameters are its own again."""
        for name, parameter in self.parameters.items():
            parameter.data = self.own[name]


def _seconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def measure(bench: Bench, rounds: int) -> dict[str, Any]:
    """Medians over rounds in which each way comes once, and what each leaves in the engine."""
    ways = {"reload": bench.reload, "copy": bench.copy, "alias": bench.alias}
    differences = []
    for way in ways.values():  # warms caches, and shows that the way is right
        way()
        bench.copying.verify(bench.copying.links) if way != bench.alias else bench.sharing.verify(bench.sharing.links)
        differences.append(bench.difference())
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name in list(ways)[turn % 3 :] + list(ways)[: turn % 3]:
            seconds[name].append(ways[name]())
    ratios = {name: [r / own for r, own in zip(seconds["reload"], seconds[name], strict=True)] for name in ways}
    return {
        **{f"{name}_s": Spread.of(seconds[name]).p50 for name in ways},
        "copy_speedup": Spread.of(ratios["copy"]).p50,
        "alias_speedup": Spread.of(ratios["alias"]).p50,
        "bytes_copied": bench.copying.bytes_copied,
        "shard_bytes": sum(tensor.nbytes for _, tensor in bench.policy.shards()),
        "checksum_ok": True,  # verify raised nothing
        "max_logprob_diff": max(differences),
    }


def main() -> None:
    parser = CommandParser(prog="srpo bench sync", description=__doc__)
    parser.add_argument("--model", type=Path, help="a model directory (default: the embedded model, random weights)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON document")
    parser.add_argument("--rounds", type=at_least(LEAST_ROUNDS), default=31)
    options = parser.parse_args()
    if options.model and not (options.model / "config.json").is_file():
        parser.error(f"--model: expected a Hugging Face model directory, found no config.json in {options.model}")
    with tempfile.TemporaryDirectory() as folder:
        if options.model is None:
            write_untrained_model(Path(folder), seed=0)
        bench = Bench(options.model or Path(folder), options.dtype, start(ParallelConfig()))
        found = measure(bench, options.rounds)
        for name in () if options.json else ("reload", "copy", "alias"):
            print(f"{name:<7} {found[f'{name}_s'] * 1e3:9.2f} ms")
        if not options.json:
            print(
                f"copy {found['copy_speedup']:.1f} x, alias {found['alias_speedup']:.1f} x faster than reload_weights"
            )
        print(json.dumps(found | machine()), flush=True)
        bench.engine.close()


if __name__ == "__main__":
    in_one_line(main)
