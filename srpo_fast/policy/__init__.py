"""The trained model: everything that imports Megatron."""

import warnings

# Megatron says at import, four times, that Transformer Engine is absent; our layer spec does not want it
warnings.filterwarnings("ignore", message="Transformer Engine and Apex are not installed")

from srpo_fast.policy.model import Policy  # noqa: E402

__all__ = ["Policy"]
