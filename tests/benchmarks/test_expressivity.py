"""What the expressivity page shows, against closed forms."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from smix_pz.benchmarks.expressivity import learned_table
from smix_pz.config import TrainConfig
from smix_pz.policy import Policy
from smix_pz.run_files import policy_path
from smix_pz.training import train

TABLE = [[4.0, -2.0], [1.0, 3.0], [0.0, 5.0]]  # three actions against two; no sum of two vectors


def learn(algorithm: str, out: Path) -> tuple[np.ndarray, tuple[int, ...]]:
    config = TrainConfig(
        env="payoff_game_v0", env_kwargs={"payoff": TABLE}, algorithm=algorithm, steps=9600, parallel_episodes=32,
        updates_per_group=3, epsilon_finish=1.0, learning_rate=2e-3, eval_every=9600, eval_episodes=1,
        progress=False, out=out,
    )  # fmt: skip
    train(config)
    return learned_table(Policy.load(policy_path(config, 0)))


def test_vdn_learns_the_least_squares_sum_and_qtran_the_table(tmp_path: Path) -> None:
    truth = np.array(TABLE)
    # Least squares of the table on sums f(a) + g(b): what a sum can represent best under uniform play.
    cells = list(itertools.product(range(3), range(2)))
    design = np.array([[a == i for i in range(3)] + [b == j for j in range(2)] for a, b in cells], float)
    weights, *_ = np.linalg.lstsq(design, truth.ravel(), rcond=None)
    best_sum = (design @ weights).reshape(3, 2)

    vdn, vdn_greedy = learn("vdn", tmp_path / "vdn")
    assert vdn.shape == (3, 2)
    np.testing.assert_allclose(vdn, best_sum, atol=0.7)
    assert vdn_greedy == np.unravel_index(best_sum.argmax(), best_sum.shape)
    assert np.abs(vdn - truth).max() > 2.0

    qtran, _ = learn("qtran", tmp_path / "qtran")
    np.testing.assert_allclose(qtran, truth, atol=1.0)
