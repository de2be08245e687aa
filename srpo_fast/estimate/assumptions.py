"""What a config does not say: how long texts are, how near to its data sheet a device gets. Each can be overridden."""

import dataclasses
from dataclasses import dataclass

from srpo_fast.config import Config, UserError
from srpo_fast.model_shape import VisionShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    # the workload of a mean step; memory is computed for full micro-batches and images of data.max_pixels instead
    prompt_tokens: float  # image tokens included
    completion_tokens: float
    image_tokens: float  # a prompt, after merging
    images_per_prompt: float = 1.0
    kept_share: float = 1.0  # of completions that the filter leaves to train on
    # shares of the data sheet; 1 is the roofline
    matmul_share: float = 0.65  # 0.80 was measured for large bf16 products on an H200; layers' are smaller
    attention_share: float = 0.40
    bandwidth_share: float = 0.90  # 0.896 was measured for copies on an H200
    link_share: float = 0.75
    # costs that no data sheet has
    decode_overhead_ms: float = 2.0  # a decode step's scheduling, launching and sampling
    network_gbs: float = 50.0  # a GPU's share of the network between machines, one direction: 400 Gb/s
    pcie_gbs: float = 63.0  # a GPU's link to the host, one direction: PCIe 5.0 x16 by its standard; 31.5 for 4.0
    gpus_per_machine: float = 8.0
    # memory that is not tensors of ours
    outside_gib: float = 2.0  # a rank: CUDA context, NCCL's buffers, cuBLAS' work space
    engine_graphs_gib: float = 1.0  # vLLM's CUDA graphs
    fragmentation_share: float = 0.05  # of what torch's allocator holds
    host_process_gib: float = 6.0  # a rank's libraries and Python objects on the host

    def at_the_roofline(self) -> "Assumptions":
        """The same work on a device as good as its data sheet."""
        return dataclasses.replace(
            self, matmul_share=1.0, attention_share=1.0, bandwidth_share=1.0, link_share=1.0, decode_overhead_ms=0.0
        )


def assume(config: Config, vision: VisionShape, overrides: list[str], *, is_cpu: bool) -> Assumptions:
    """Half of what the config's limits allow a text and an image, with `name=value` overrides."""
    prompt = config.data.max_prompt_tokens / 2
    values = {
        "prompt_tokens": prompt,
        "completion_tokens": config.rollout.max_tokens / 2,
        "image_tokens": min(max_image_tokens(config, vision) / 2, prompt),
    }
    if is_cpu:  # neither CUDA nor its caching allocator; 0.8 GiB was measured for a process with engine and policy
        values |= {"outside_gib": 0.8, "engine_graphs_gib": 0.0, "fragmentation_share": 0.0, "host_process_gib": 0.0}
    return Assumptions(**values | dict(_parse(override) for override in overrides))


def max_image_tokens(config: Config, vision: VisionShape) -> int:
    """Of one prompt's images: a longer prompt would be left out."""
    return min(config.data.max_pixels // vision.pixels_a_token, config.data.max_prompt_tokens)


def _parse(override: str) -> tuple[str, float]:
    names = [field.name for field in dataclasses.fields(Assumptions)]
    name, separator, text = override.partition("=")
    if not separator or name not in names:
        raise UserError(f"expected --assume name=value with a name among {', '.join(names)}; got {override!r}")
    try:
        value = float(text)
    except ValueError as error:
        raise UserError(f"expected --assume {name}= with a number, got {text!r}") from error
    if not 0 <= value < float("inf") or (value == 0 and name.endswith(("_share", "_gbs", "_tokens", "_machine"))):
        raise UserError(f"expected --assume {name}= with a number above 0, got {text}")
    if name.endswith("_share") and value > 1:
        raise UserError(f"expected --assume {name}= with a share, at most 1, got {text}")
    return name, value
