"""The paper's own accuracies in %, tables 1 to 3: base model, GRPO where the paper has it, SRPO; 7B and 32B."""

from collections.abc import Mapping

BASE_7B, GRPO_7B, SRPO_7B = "Qwen2.5-VL-7B", "GRPO 7B", "SRPO-7B"
BASE_32B, SRPO_32B = "Qwen2.5-VL-32B", "SRPO-32B"

ROWS = (BASE_7B, GRPO_7B, SRPO_7B, BASE_32B, SRPO_32B)


def _rows(*figures: float | None) -> dict[str, float]:
    return {row: figure for row, figure in zip(ROWS, figures, strict=True) if figure is not None}


PAPER: Mapping[str, Mapping[str, float]] = {  # benchmark -> row -> accuracy
    "mathvista": _rows(68.2, 72.3, 75.8, 74.7, 78.5),
    "mathverse": _rows(46.3, 52.9, 55.8, 48.5, 58.9),
    "mathvision": _rows(25.1, 30.3, 32.9, 38.4, 39.6),
    "olympiadbench": _rows(20.2, None, 22.8, 30.0, 38.5),
    "wemath": _rows(62.1, None, 71.6, 69.1, 76.4),
    "mmmu_pro": _rows(36.9, 39.9, 42.3, 49.5, 51.3),
    "mmmu": _rows(54.3, None, 57.1, 59.4, 66.1),
    "emma": _rows(21.5, None, 29.6, 31.1, 38.2),
}

UNSAID: Mapping[str, str] = {  # what the paper leaves open about its figure
    "mmmu_pro": "The paper does not say whether its figure is of the ten options, of the vision split or their mean.",
    "wemath": (
        "The paper does not say which of We-Math's scores its figure is; here it stands beside plain accuracy, and it "
        "may be score_loose below: others measure 63.5 so for Qwen2.5-VL-7B, of which the paper has 62.1."
    ),
}

MMK12_SUBJECTS: Mapping[str, Mapping[str, float]] = {  # table 2 has no total
    "math": _rows(58.4, None, 75.3, 71.6, 77.5),
    "physics": _rows(45.4, 53.5, 60.6, 59.4, 64.2),  # GRPO: table 3
    "chemistry": _rows(56.4, None, 70.3, 69.6, 77.5),
    "biology": _rows(54.0, None, 69.5, 66.6, 79.2),
}
