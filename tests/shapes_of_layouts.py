"""Run alone: maps the published models' parameters in many layouts, without memory for one of them.

Prints one JSON object: for every model and layout, what is wrong with it.
"""

import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from torch import Tensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from srpo_fast import torchvision_shim  # noqa: F401

# isort: split
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from srpo_fast.model_shape import PUBLISHED
from srpo_fast.parallel import Parallel
from srpo_fast.policy.hf_weights import HFWeights
from srpo_fast.policy.language_model import build_language_model
from srpo_fast.policy.megatron_start import start_megatron
from srpo_fast.policy.name_map import HeadLayout, canonical, rule_for
from tests.published_config import config_of

STAGES = [(1, 1), (2, 1), (3, 1), (4, 1), (2, 2)]  # pipeline stages, chunks a stage


def published(config: Qwen2_5_VLConfig) -> dict[str, Tensor]:
    """Every tensor of the Hugging Face index by name, on the meta device."""
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    return {canonical(name): parameter for name, parameter in model.named_parameters()}


def problems(config: Qwen2_5_VLConfig, index: dict[str, Tensor], tp: int, pp: int, chunks: int) -> list[str]:
    found: list[str] = []
    mapped: Counter[str] = Counter()
    layout = HeadLayout(config.text_config.num_attention_heads, config.text_config.num_key_value_heads)
    for stage in range(pp):
        parallel = Parallel(
            rank=stage * tp, world=tp * pp, tp=tp, pp=pp, chunks_per_stage=chunks, device=torch.device("cpu")
        )
        for rule, names, parameter in stage_parameters(config, parallel):
            mapped.update(names)
            sources = [index[name] for name in names]
            shards = [rule.shard(sources, tp, tp_rank, layout) for tp_rank in range(tp)]
            whole = rule.join(shards if rule.is_cut else shards[:1], layout)
            if {tuple(shard.shape) for shard in shards} != {tuple(parameter.shape)}:
                found.append(f"{names}: a rank holds {tuple(parameter.shape)}, not {tuple(shards[0].shape)}")
            if [tuple(t.shape) for t in whole] != [tuple(t.shape) for t in sources]:
                found.append(f"{names}: the shards do not make up the whole")
    language = {name for name in index if not name.startswith("visual.")}
    found += [f"{name} is mapped {mapped[name]} times" for name in language | mapped.keys() if mapped[name] != 1]
    return found


def stage_parameters(config: Qwen2_5_VLConfig, parallel: Parallel) -> list[Any]:
    dist.init_process_group("fake", store=FakeStore(), rank=parallel.rank, world_size=parallel.world)
    parallel_state.initialize_model_parallel(
        parallel.tp, parallel.pp, parallel.chunks_per_stage if parallel.chunks_per_stage > 1 else None,
        create_gloo_process_groups=False,
    )  # fmt: skip
    start_megatron(parallel, seed=0)
    with torch.device("meta"):
        chunks = build_language_model(
            config.text_config, torch.bfloat16, parallel, tied=config.tie_word_embeddings, recompute="none"
        )
    parameters = list(HFWeights(SimpleNamespace(config=config), chunks, parallel).parameters())
    parallel_state.destroy_model_parallel()
    dist.destroy_process_group()
    return parameters


def tower_problems(config: Qwen2_5_VLConfig, index: dict[str, Tensor]) -> list[str]:
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

    with torch.device("meta"):
        tower = Qwen2_5_VisionTransformerPretrainedModel(config.vision_config)
    parameters = [rule_for(f"visual.{name}", first_layer=0) for name in tower.state_dict()]
    ours = {name for _, hf_names in parameters for name in hf_names}
    return sorted(ours ^ {name for name in index if name.startswith("visual.")})


def main() -> None:
    results: dict[str, list[str]] = {}
    for model, shape in PUBLISHED.items():
        config = config_of(shape)
        index = published(config)
        results[f"{model} vision"] = tower_problems(config, index)
        for tp in (tp for tp in (1, 2, 4, 8) if config.text_config.num_key_value_heads % tp == 0):
            for pp, chunks in STAGES if model in ("7b", "32b") else STAGES[::3]:
                results[f"{model} tp{tp} pp{pp} chunks{chunks}"] = problems(config, index, tp, pp, chunks)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
