"""The figures of a step that come from its groups."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, pstdev

from torch import Tensor

from srpo_fast.batch import Group, HeldOut, Transitions
from srpo_fast.monitor.samples import REWARD_PARTS


def rollout_metrics(groups: Sequence[Group], kept_P: Tensor, engines: int) -> dict[str, float]:
    """Means over all completions sampled, dropped groups included; kept_P: [P] bool."""
    completions = [c for group in groups for c in group.completions]
    scores = [s for group in groups for s in group.scores]
    transitions = Transitions.of(scores)
    return {
        "rollout/reward_mean": fmean(s.total for s in scores),
        "rollout/reward_std": pstdev(s.total for s in scores),
        **{f"rollout/reward_{part}": fmean(getattr(s, part) for s in scores) for part in REWARD_PARTS},
        "rollout/reward_errors": fmean(s.failure is not None for s in scores),
        "rollout/unparsable_golds": fmean("unparsable_gold" in s.reasons for s in scores),
        "rollout/acc_first": fmean(s.first_correct for s in scores),
        "rollout/acc_second": fmean(s.second_correct for s in scores),
        **{f"rollout/transitions_{t}": getattr(transitions, t) / len(scores) for t in ("rr", "wr", "rw", "ww")},
        "rollout/images": float(sum(len(group.prompt.question.images) for group in groups)),
        "rollout/completion_tokens_mean": fmean(len(c.token_ids) for c in completions),
        "rollout/finished": fmean(c.is_finished for c in completions),
        "rollout/groups_kept": float(kept_P.float().mean()),
        "rollout/groups_right": fmean(all(s.second_correct for s in group.scores) for group in groups),
        "rollout/groups_wrong": fmean(not any(s.second_correct for s in group.scores) for group in groups),
        "rollout/engine_balance": _engine_balance(groups, engines),
        "rollout/stale_tokens": float(sum(v != c.policy_version for c in completions for v in c.token_versions)),
    }


def validation_metrics(measured: HeldOut) -> dict[str, float]:
    """Accuracy on the validation questions, for the curves; an answer that is not given is left out."""
    figures = {
        "validation/acc_first": measured.acc1,
        "validation/acc_second": measured.acc2,
        "validation/greedy_acc_first": measured.greedy_acc1,
        "validation/greedy_acc_second": measured.greedy_acc2,
    }
    return {key: value for key, value in figures.items() if value is not None}


def _engine_balance(groups: Sequence[Group], engines: int) -> float:
    """Tokens sampled by the busiest engine over the mean of all engines: 1 when all did as much."""
    tokens: Counter[int] = Counter()
    for group in groups:
        tokens[group.engine] += sum(len(completion.token_ids) for completion in group.completions)
    return max(tokens.values()) * engines / tokens.total()
