"""The trained model: everything that imports Megatron."""

import warnings

# Megatron says many times that Transformer Engine and Apex are absent; our layer spec does not want them
warnings.filterwarnings("ignore", message="(Transformer Engine and )?Apex (is|are) not installed")
warnings.filterwarnings("ignore", message="full scope is deprecated")  # of a default of its own

from srpo_fast.policy.model import NotFinite, Policy  # noqa: E402

__all__ = ["NotFinite", "Policy"]
