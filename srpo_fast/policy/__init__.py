"""The trained model: everything that imports Megatron."""

import warnings

# Megatron says many times that Transformer Engine and Apex are absent; our layer spec does not want them
warnings.filterwarnings("ignore", message="(Transformer Engine and )?Apex (is|are) not installed")
warnings.filterwarnings("ignore", message="full scope is deprecated")  # of a default of its own
# what its optimizer and checkpoints call is deprecated in torch, which a user of this one can do nothing about
for _message in (
    r"`torch\.distributed\.(reduce_scatter_tensor|all_gather_into_tensor)` is deprecated",
    "`load_state_dict` is deprecated",
    "Please use DTensor instead and we are deprecating ShardedTensor",
):
    warnings.filterwarnings("ignore", message=_message, category=FutureWarning)

from srpo_fast.policy.model import NotFinite, Policy  # noqa: E402

__all__ = ["NotFinite", "Policy"]
