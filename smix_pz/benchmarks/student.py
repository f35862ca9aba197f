"""Student's t distribution: its quantile, by the incomplete beta function."""

from __future__ import annotations

import functools
import math


@functools.cache
def student_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t with ``df`` degrees of freedom, by bisection of its tail (relative error < 1e-9).

    Raises:
        ValueError: ``probability`` outside (0, 1) or ``df`` not positive.
    """
    if not 0 < probability < 1 or not df > 0:
        raise ValueError(f"expected 0 < probability < 1 and df > 0, got probability {probability} and df {df}")
    if probability < 0.5:
        return -student_quantile(1 - probability, df)
    if probability == 0.5:
        return 0.0
    low, high = 0.0, 1.0
    while student_tail(high, df) > 1 - probability:
        low, high = high, 2 * high
    for _ in range(100):  # each step halves the bracket; doubles have 53 bits, and the first bracket starts at 0
        middle = (low + high) / 2
        low, high = (middle, high) if student_tail(middle, df) > 1 - probability else (low, middle)
    return (low + high) / 2


def student_tail(t: float, df: float) -> float:
    """P(T > t) for t >= 0: half the regularised incomplete beta function (Abramowitz and Stegun 26.7.1)."""
    return 0.5 * _incomplete_beta(df / 2, 0.5, df / (df + t * t), t * t / (df + t * t))


def _incomplete_beta(a: float, b: float, x: float, y: float) -> float:
    """I_x(a, b) with ``y = 1 - x`` given separately, so that neither loses digits near 0."""
    if x <= 0 or y <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1 - _incomplete_beta(b, a, y, x)
    log_front = a * math.log(x) + b * math.log(y) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(log_front) / (a * _beta_fraction(a, b, x))


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction 1 + d1/(1 + d2/(1 + ...)) of DLMF 8.17.22, by the modified Lentz method."""
    tiny = 1e-300
    value, c, d = 1.0, 1.0, 0.0
    for k in range(1, 2000):
        m = k // 2
        if k % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / ((1 + term * d) or tiny)
        c = (1 + term / c) or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return value
