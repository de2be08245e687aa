"""Where the tensors of a Hugging Face directory are in vLLM's Qwen2.5-VL."""

_STACKED = {"q_proj": "qkv_proj", "gate_proj": "gate_up_proj"}  # the first of the tensors that vLLM keeps as one
_PREFIXES = {"model.": "language_model.model.", "lm_head.": "language_model.lm_head."}


def engine_name(hf_names: tuple[str, ...]) -> str:
    """vLLM's name of the parameter in which these published tensors lie on one another (policy/name_map.py).

    Those of the vision tower, which the engine is without, keep theirs.
    """
    name = hf_names[0]
    if name.startswith("visual."):
        return name
    prefix = next(prefix for prefix in _PREFIXES if name.startswith(prefix))
    name = _PREFIXES[prefix] + name.removeprefix(prefix)
    for first, stacked in _STACKED.items():
        name = name.replace(f".{first}.", f".{stacked}.")
    return name
