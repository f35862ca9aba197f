"""Wilson's score interval of a share; a leaf, because environments' evidence and studies' tables both need it."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval (low, high) of a share (Wilson, 1927): the p with |successes / trials - p| <= z sigma(p).

    Raises:
        ValueError: no trials, or successes that are not between 0 and trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials (episodes); expected at least 1 trial")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, weight = successes / trials, z * z / trials
    middle = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight * weight / 4) / (1 + weight)
    # The ends 0 and 1 are exact where they belong, and not what rounding leaves of them.
    return 0.0 if successes == 0 else middle - half, 1.0 if successes == trials else middle + half
