"""Returns of one episode as the paper writes them: forward sums over all n, one number at a time."""

from __future__ import annotations

from collections.abc import Sequence


def n_step_sum(rewards: Sequence[float], values: Sequence[float], t: int, n: int, gamma: float) -> float:
    """G^(n)_t = r[t] + gamma r[t+1] + ... + gamma^n v[t+n], cut at the episode's end.

    ``values[t]`` is the value at time t, for t = 0 to len(rewards); the last one is zero if the episode terminated.
    """
    n = min(n, len(rewards) - t)
    return sum(gamma**k * rewards[t + k] for k in range(n)) + gamma**n * values[t + n]


def lambda_sum(rewards: Sequence[float], values: Sequence[float], t: int, gamma: float, td_lambda: float) -> float:
    """Equation 9: (1 - lambda) sum_n lambda^(n-1) G^(n), the last return taking the weight that remains."""
    longest = len(rewards) - t
    total = sum(
        (1 - td_lambda) * td_lambda ** (n - 1) * n_step_sum(rewards, values, t, n, gamma) for n in range(1, longest)
    )
    return total + td_lambda ** (longest - 1) * n_step_sum(rewards, values, t, longest, gamma)


def delta_sum(rewards: Sequence[float], values: Sequence[float], t: int, gamma: float, td_lambda: float) -> float:
    """Equation 16 with all ratios one: Q(t) + sum_k (lambda gamma)^(k-t) delta_k."""
    steps = range(t, len(rewards))
    delta = {k: rewards[k] + gamma * values[k + 1] - values[k] for k in steps}
    return values[t] + sum((td_lambda * gamma) ** (k - t) * delta[k] for k in steps)


def traced_sum(
    rewards: Sequence[float],
    expected: Sequence[float],
    taken: Sequence[float],
    traces: Sequence[float],
    t: int,
    gamma: float,
) -> float:
    """Equations 7 and 8: Q(t) + sum_k (prod_{i=t+1..k} gamma c_i) delta_k, delta_k = r[k] + gamma E Q(k+1) - Q(k).

    ``expected``, ``taken`` and ``traces`` are of the times 0 to len(rewards); the last value is zero if the episode
    terminated, and the last trace is not looked at.
    """
    total = taken[t]
    for k in range(t, len(rewards)):
        weight = 1.0
        for i in range(t + 1, k + 1):
            weight *= gamma * traces[i]
        total += weight * (rewards[k] + gamma * expected[k + 1] - taken[k])
    return total
