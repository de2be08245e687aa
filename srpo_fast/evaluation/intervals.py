"""How sure an accuracy is, and the difference of two on the same items."""

import math
from collections.abc import Sequence

Z = 1.959963984540054  # 95 % of a normal distribution lie within so many standard deviations


def wilson(right: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; the whole range where nothing was counted."""
    if not total:
        return 0.0, 1.0
    share, spread = right / total, Z * Z / total
    middle = (share + spread / 2) / (1 + spread)
    reach = Z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def paired_difference(first: Sequence[bool], second: Sequence[bool]) -> tuple[float, float, float]:
    """(second - first, low, high) of the shares of right answers to the same items.

    The 95 % interval is Agresti and Min's (2005): half a pair is added to each of the four outcomes, which keeps it
    honest when few answers differ.
    """
    pairs = list(zip(first, second, strict=True))
    if not pairs:
        return 0.0, -1.0, 1.0
    gained, lost, total = pairs.count((False, True)), pairs.count((True, False)), len(pairs)
    b, c, n = gained + 0.5, lost + 0.5, total + 2
    middle, reach = (b - c) / n, Z * math.sqrt((b + c) - (b - c) ** 2 / n) / n
    return (gained - lost) / total, max(-1.0, middle - reach), min(1.0, middle + reach)
