"""The estimators' study: its problem, its moments and its claims against independent numbers."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from smix_pz.algorithms.returns import ESTIMATORS, Kind, ReturnEstimator
from smix_pz.algorithms.theory import epsilon_greedy, optimal_values, policy_values, random_mdp, update
from smix_pz.benchmarks.estimator_study import claims, courses, matrix_game, measure, moments, run_estimators
from smix_pz.envs import matrix_game_v0

TABULAR = {
    "one-step": "one_step", "lambda": "smix", "q-lambda": "q_lambda", "tree-backup": "tree_backup",
    "retrace": "retrace", "importance-sampling": "importance",
}  # fmt: skip


@pytest.mark.parametrize("m", [2, 3, 4])
def test_the_table_is_the_environment(m: int) -> None:
    """Every sequence of joint actions pays the same in both and ends at the same time."""
    mdp, env = matrix_game(m), matrix_game_v0.parallel_env(m=m)
    for sequence in itertools.product(range(4), repeat=m):
        env.reset()
        state = 0
        for joint in sequence:
            _, rewards, *_ = env.step({a: int(c) for a, c in zip(env.agents, divmod(joint, 2), strict=True)})
            assert set(rewards.values()) == {mdp.reward[state, joint]}
            onward = mdp.transition[state, joint]
            assert bool(env.agents) == bool(onward.any())
            if not env.agents:
                break
            state = int(onward.argmax())
    best = optimal_values(mdp)[0].max()
    assert best == pytest.approx(sum(mdp.gamma**k for k in range(m - 1)) + 4 * mdp.gamma ** (m - 1))


@pytest.mark.parametrize("kind", TABULAR)
def test_the_mean_is_the_tabular_operator(kind: Kind) -> None:
    """Equation 7's closed form, on a random process with chance in it."""
    rng = np.random.default_rng(1)
    mdp = random_mdp(rng, n_states=4, acyclic=True)
    pi, mu = rng.dirichlet(np.ones(4), 4), rng.dirichlet(np.ones(4), 4)
    q = rng.normal(size=(2, 4, 4))
    for state, joint in itertools.product(range(4), range(4)):
        played = courses(mdp, mu, state, joint)
        assert played.probability.sum() == pytest.approx(1.0)
        mean, _ = moments(ReturnEstimator(kind, td_lambda=0.7), mdp, q, pi, mu, played)
        expected = [update(TABULAR[kind], mdp, table, pi, mu, 0.7)[state, joint] for table in q]
        np.testing.assert_allclose(mean, expected, atol=1e-9)


def test_the_variance_is_that_of_sampled_play() -> None:
    """Monte-Carlo returns of the matrix game, drawn step by step."""
    mdp = matrix_game(3)
    mu = epsilon_greedy(optimal_values(mdp), 0.4, 2, 2)
    rng, found = np.random.default_rng(0), []
    for _ in range(20_000):
        state, joint, total, weight = 0, 0, 0.0, 1.0
        while True:
            total += weight * mdp.reward[state, joint]
            weight *= mdp.gamma
            if not mdp.transition[state, joint].any():
                break
            state = int(mdp.transition[state, joint].argmax())
            joint = int(rng.choice(4, p=mu[state]))
        found.append(total)
    q = policy_values(mdp, mu)[None]
    mean, variance = moments(ReturnEstimator("monte-carlo"), mdp, q, mu, mu, courses(mdp, mu, 0, 0))
    assert mean[0] == pytest.approx(q[0, 0, 0])
    spread = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - mean[0]) < 4 * spread
    assert np.var(found) == pytest.approx(variance[0], rel=0.05)


def test_the_study_writes_its_files_and_its_claims_follow_from_the_numbers(tmp_path: Path) -> None:
    console = Console(record=True, width=120)
    page = run_estimators(tmp_path, seed=3, quick=True, console=console).read_text()
    assert page.count("data:image/svg+xml") == len(ESTIMATORS)
    assert len(list((tmp_path / "figures").glob("*.png"))) == len(ESTIMATORS)
    found = json.loads((tmp_path / "estimators.json").read_text())
    again = measure(np.random.default_rng(3), found["draws"])
    assert again == {key: found[key] for key in again}
    assert [claim.verdict for claim in claims(found)] == ["holds"] * 5
    spoiled = copy.deepcopy(found)
    spoiled["behaviour"]["1.0"]["retrace"]["right values"]["bias"][3] = 0.1
    spoiled["behaviour"]["1.0"]["importance-sampling"]["wrong values"]["bias"][-1] = 0.1
    spoiled["behaviour"]["1.0"]["importance-sampling"]["wrong values"]["deviation"][-1] = 0.0
    spoiled["behaviour"]["0.05"]["lambda"]["right values"]["bias"][8] = 9.0
    spoiled["behaviour"]["0.05"]["lambda"]["wrong values"]["bias"][8] = 9.0
    assert [claim.verdict for claim in claims(spoiled)] == ["does not hold"] * 5
