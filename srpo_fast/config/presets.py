"""What `objective: NAME` stands for: values of the sections loss, advantage and rollout that the config does not give.

Every preset is whole: what a name does not change is SRPO's own. A value in the file wins over the objective in it;
`objective=NAME` on the command line is another experiment and wins over the file's values, so that dr_grpo is Dr.GRPO
whatever config it is asked of; a value on the command line wins over all. optimizer.updates_per_step is never set here;
with one update a step every ratio is 1, and clipping (gspo, cispo, clip_high) changes nothing until it is raised.

- grpo: DeepSeekMath, arXiv 2402.03300, as SRPO runs it: token mean in each completion, then the mean over completions;
  clip 0.2; group standard deviation. SRPO's code has no KL term (DeepSeekMath: k3 at 0.04).
- dapo: arXiv 2503.14476, section 4.1: clip 0.2 / 0.28; mean over all tokens; no KL; groups all right or all wrong
  dropped and replaced; overlong completions masked, and a soft penalty over the last fifth of the length (4,096 of
  20,480 tokens). Its equation divides by the tokens of each group, its code and ours by those of the update. The paper
  samples until the batch is full; here the rounds are bounded.
- dr_grpo: arXiv 2503.20783: no division by the group's standard deviation, a constant in place of the length.
- bnpo: the name that TRL and Liger give to the mean over the tokens of a local batch. Over the whole update, which is
  what a local batch was to approximate, that is DAPO's token mean, with GRPO's other values.
- gspo: arXiv 2507.18071, section 5.1: the sequence's ratio, clip 3e-4 / 4e-4, 4 updates a step, no KL.
- cispo: MiniMax-M1, arXiv 2506.13585: the clipped ratio is a weight without gradient, no lower bound, mean over all
  tokens, no KL. The paper gives no upper bound; 5 is the one of ScaleRL, arXiv 2510.13786.
"""

from typing import Any, Literal

ObjectiveName = Literal["grpo", "dapo", "dr_grpo", "bnpo", "gspo", "cispo"]

Values = dict[str, dict[str, Any]]  # by section, then key

_SRPO: Values = {
    "loss": {
        "ratio": "token",
        "surrogate": "clipped",
        "clip_low": 0.2,
        "clip_high": 0.2,
        "normalizer": "completion",
    },
    "advantage": {
        "scale": "group_std",
        "accuracy_low": 0.1,
        "accuracy_high": 0.9,
        "drop_flat_groups": False,
        "mask_truncated": False,
        "overlong_share": 0.0,
    },
    "rollout": {"refill_rounds": 0},
}


def _changed(**sections: dict[str, Any]) -> Values:
    return {section: values | sections.get(section, {}) for section, values in _SRPO.items()}


PRESETS: dict[str, Values] = {
    "grpo": _changed(),
    "dapo": _changed(
        loss={"clip_high": 0.28, "normalizer": "token"},
        advantage={
            "accuracy_low": 0.01,  # above 0 and below 1 for groups of up to 99
            "accuracy_high": 0.99,
            "drop_flat_groups": True,
            "mask_truncated": True,
            "overlong_share": 0.2,
        },
        rollout={"refill_rounds": 4},
    ),
    "dr_grpo": _changed(loss={"normalizer": "constant"}, advantage={"scale": "none"}),
    "bnpo": _changed(loss={"normalizer": "token"}),
    "gspo": _changed(loss={"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4}),
    "cispo": _changed(loss={"surrogate": "cispo", "clip_low": 1.0, "clip_high": 4.0, "normalizer": "token"}),
}
