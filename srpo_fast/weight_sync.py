"""Policy -> engine: after this the engine samples from exactly the policy's weights.

Whole tensors travel under their Hugging Face names, those of the vision tower if it is trained. Agreement is checked
where it matters and costs nothing: every update compares the engine's log-probs with its own before it steps.
"""

from srpo_fast.policy import Policy
from srpo_fast.rollout import RolloutEngine


class EngineMismatch(RuntimeError):
    """The engine's log-probs are not the policy's."""


def sync_weights(policy: Policy, engine: RolloutEngine) -> None:
    """A collective over all ranks: loads the policy's weights into every engine and resets its caches."""
    engine.load_weights(policy.hf_weights(), policy.version)


def check_mismatch(mean_difference: float, bound: float, step: int) -> None:
    """Raises EngineMismatch when the mean |engine - policy| log-prob of a step's tokens exceeds the bound."""
    if not mean_difference <= bound:  # also catches NaN
        raise EngineMismatch(
            f"step {step}: engine and policy disagree by {mean_difference:.2e} in log-prob on average, more than "
            f"loss.mismatch_stop={bound:.0e}; the weight sync or a cache reset failed. The last checkpoint is intact."
        )
