"""Where the coefficients of the compiled tanh in smix_pz/algorithms/unroll_cpu.py come from.

    python perf/tanh_fit.py

x P(x^2) / Q(x^2), with P and Q of degree 4 and Q(0) = 1, is fitted to tanh on [0, 9]. Least squares of
x P - tanh(x) (Q - 1) = tanh(x) is linear in the coefficients; dividing its residual by the last round's Q makes it the
fraction's own error, and Lawson's reweighting (C. L. Lawson, 1961: each round multiplies a point's weight by its error)
moves from the least square to the least largest error. Prints the coefficients beside the ones in use.
"""

from __future__ import annotations

import numpy as np

from smix_pz.algorithms import unroll_cpu

LIMIT, DEGREE, POINTS, ROUNDS = 9.0, 4, 4000, 200


def fit() -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients of P and Q in powers of x^2, [DEGREE + 1] each, and the largest error at the points."""
    x = LIMIT * 0.5 * (1.0 - np.cos(np.pi * (np.arange(POINTS) + 0.5) / POINTS))  # denser at both ends
    powers = (x[:, None] / LIMIT) ** (2 * np.arange(DEGREE + 1))  # of a number of at most 1: far better conditioned
    target, weight, q = np.tanh(x), np.ones(POINTS), np.ones(POINTS)
    columns = np.concatenate([x[:, None] * powers, -target[:, None] * powers[:, 1:]], axis=1)
    best = (np.empty(0), np.empty(0), np.inf)
    for _ in range(ROUNDS):
        rows = columns * (weight / q)[:, None]
        scale = np.abs(rows).max(axis=0)
        found = np.linalg.lstsq(rows / scale, target * weight / q, rcond=None)[0] / scale
        above, below = found[: DEGREE + 1], np.concatenate([[1.0], found[DEGREE + 1 :]])
        q = powers @ below
        error = np.abs(x * (powers @ above) / q - target)
        if error.max() < best[2]:
            best = (above, below, float(error.max()))
        weight = weight * np.sqrt(0.3 + error / error.max())  # damped: the plain rule swings
        weight /= weight.mean()
    in_squares = LIMIT ** (-2.0 * np.arange(DEGREE + 1))
    return best[0] * in_squares, best[1] * in_squares, best[2]


def main() -> None:
    """Fit and print."""
    above, below, error = fit()
    print(f"largest error {error:.1e}")
    for name, found, used in (("P", above, unroll_cpu._P), ("Q", below, unroll_cpu._Q)):
        print(f"{name} fitted", " ".join(f"{value:.9g}" for value in found))
        print(f"{name} in use", " ".join(f"{value:.9g}" for value in used))


if __name__ == "__main__":
    main()
