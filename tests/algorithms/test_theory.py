"""The tabular operators against sums over trajectories, their fixed points, and the closed forms beside them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from smix_pz.algorithms import theory

NAMES = list(theory.ESTIMATORS)


def case(seed: int, **kwargs: object) -> tuple[theory.TeamMDP, np.ndarray, np.ndarray, np.ndarray]:
    """A random process of 3 states, 2 agents, 2 actions, with values and two factored policies."""
    rng = np.random.default_rng(seed)
    mdp = theory.random_mdp(rng, 3, 2, 2, 0.9, **kwargs)  # type: ignore[arg-type]
    pi, mu = (theory.joint_policy(theory.random_policies(rng, 3, 2, 2)) for _ in range(2))
    return mdp, rng.normal(size=mdp.reward.shape), pi, mu


def by_trajectories(name: str, mdp: theory.TeamMDP, q: np.ndarray, pi: np.ndarray, mu: np.ndarray, lam: float):
    """Equation 7 as it is written: every trajectory of an acyclic process, its probability and its sum."""

    def trace(s: int, a: int) -> float:
        rho = pi[s, a] / mu[s, a]
        return {
            "one_step": 0.0,
            "smix": lam,
            "q_lambda": lam,
            "tree_backup": lam * pi[s, a],
            "retrace": lam * min(1.0, rho),
            "importance": lam * rho,
        }[name]

    average = mu if name == "smix" else pi
    n_states, n_joint = q.shape

    def rest(s: int, a: int, weight: float, probability: float) -> float:
        # delta of this transition, for every next state, and the trajectories that go on from there
        ends = 1.0 - mdp.transition[s, a].sum()
        total = probability * weight * ends * (mdp.reward[s, a] - q[s, a])
        for after in range(n_states):
            p = mdp.transition[s, a, after]
            if p == 0.0:
                continue
            value = sum(average[after, b] * q[after, b] for b in range(n_joint))
            total += probability * p * weight * (mdp.reward[s, a] + mdp.gamma * value - q[s, a])
            for b in range(n_joint):
                next_weight = weight * mdp.gamma * trace(after, b)
                total += rest(after, b, next_weight, probability * p * mu[after, b])
        return total

    return np.array([[q[s, a] + rest(s, a, 1.0, 1.0) for a in range(n_joint)] for s in range(n_states)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lam", [0.0, 0.8, 1.0])
def test_an_update_is_the_sum_over_all_trajectories(name: str, lam: float) -> None:
    mdp, q, pi, mu = case(1, acyclic=True)
    expected = by_trajectories(name, mdp, q, pi, mu, lam)
    np.testing.assert_allclose(theory.update(name, mdp, q, pi, mu, lam), expected, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_an_update_is_the_series_in_a_process_with_cycles(name: str) -> None:
    """Equation 7 term by term with explicit loops over states and actions, cut where the rest is below 1e-10."""
    mdp, q, pi, mu = case(2)
    average = mu if name == "smix" else pi
    delta = mdp.reward + 0.9 * np.einsum("ijk,k->ij", mdp.transition, (average * q).sum(-1)) - q
    rho = pi / mu
    trace = {
        "one_step": 0 * pi,
        "smix": 0.7 + 0 * pi,
        "q_lambda": 0.7 + 0 * pi,
        "tree_backup": 0.7 * pi,
        "retrace": 0.7 * np.minimum(1, rho),
        "importance": 0.7 * rho,
    }[name]
    expected, term = q.copy(), delta
    for _ in range(80):
        expected, term = expected + term, 0.9 * np.einsum("ijk,kl,kl->ij", mdp.transition, mu * trace, term)
    np.testing.assert_allclose(theory.update(name, mdp, q, pi, mu, 0.7), expected, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_lambda_zero_is_one_step(name: str) -> None:
    mdp, q, pi, mu = case(3)
    average = mu if name == "smix" else pi
    expected = mdp.reward + 0.9 * np.einsum("ijk,k->ij", mdp.transition, (average * q).sum(-1))
    np.testing.assert_allclose(theory.update(name, mdp, q, pi, mu, 0.0), expected, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_fixed_point_is_the_target_policys_value_but_for_smix(name: str) -> None:
    mdp, _, pi, mu = case(4)
    fixed = theory.policy_values(mdp, mu if name == "smix" else pi)
    np.testing.assert_allclose(theory.update(name, mdp, fixed, pi, mu, 0.8), fixed, atol=1e-10)


@pytest.mark.parametrize("name", ["q_lambda", "tree_backup", "retrace"])
def test_with_the_greedy_policy_the_fixed_point_is_optimal(name: str) -> None:
    mdp, _, _, mu = case(5)
    best = theory.optimal_values(mdp)
    backed_up = mdp.reward + 0.9 * mdp.transition @ best.max(-1)
    np.testing.assert_allclose(best, backed_up, atol=1e-10)
    greedy = theory.epsilon_greedy(best, 0.0, 2, 2)
    np.testing.assert_allclose(theory.update(name, mdp, best, greedy, mu, 0.8), best, atol=1e-10)


def test_equal_policies_make_smix_and_q_lambda_equal() -> None:
    mdp, q, pi, _ = case(6)
    np.testing.assert_allclose(
        theory.update("smix", mdp, q, pi, pi, 0.8), theory.update("q_lambda", mdp, q, pi, pi, 0.8), atol=1e-12
    )


def test_theorem_3_holds_and_half_its_bound_does_not() -> None:
    worst = 0.0
    for seed in range(200):
        rng = np.random.default_rng([7, seed])
        mdp, q, pi, mu = case(seed)
        lam = rng.uniform()
        if seed % 2:  # values +-1, pi on the high ones, mu on the low ones: nothing is left of the slack
            q = np.tile([1.0, 1.0, -1.0, -1.0], (3, 1))
            pi, low = np.tile([1.0, 0, 0, 0], (3, 1)), np.tile([0, 0, 0, 1.0], (3, 1))
            mu = theory.at_distance(pi, low, rng.uniform(0.1, 2.0))
        gap = np.abs(theory.update("smix", mdp, q, pi, mu, lam) - theory.update("q_lambda", mdp, q, pi, mu, lam)).max()
        bound = theory.theorem_3_bound(theory.policy_distance(pi, mu), 0.9, lam, np.abs(q).max())
        worst = max(worst, gap / bound)
    assert worst <= 1.0 + 1e-9
    assert worst > 0.999  # so half the bound would be violated


@pytest.mark.parametrize(("lam", "distance"), [(0.3, 1.9), (0.6, 1.2), (0.9, 0.5), (0.9, 0.2), (0.3, 1.0), (1.0, 0.1)])
def test_the_switching_process_diverges_where_its_closed_form_says(lam: float, distance: float) -> None:
    mdp = theory.switching_mdp(0.9)
    radii = []
    for stay in np.linspace(distance / 2, 1.0, 41):
        mu, pi = theory.switching_policy(stay), theory.switching_policy(stay - distance / 2)
        assert theory.policy_distance(pi, mu) == pytest.approx(distance)
        matrix, _ = theory.affine("q_lambda", mdp, pi, mu, lam)
        radii.append(np.abs(np.linalg.eigvals(matrix)).max())
    assert (max(radii) > 1.0) == theory.switching_diverges(lam, distance, 0.9)


def test_the_exploring_teams_distance() -> None:
    q = np.random.default_rng(8).normal(size=(4, 27))
    greedy, exploring = (theory.epsilon_greedy(q, e, 3, 3) for e in (0.0, 0.3))
    assert theory.policy_distance(greedy, exploring) == pytest.approx(theory.epsilon_greedy_distance(0.3, 3, 3))


def test_variance_of_the_product_of_independent_ratios() -> None:
    """All joint outcomes of 2 agents over 3 steps, summed one by one."""
    pi, mu = np.array([0.7, 0.2, 0.1]), np.array([0.3, 0.3, 0.4])
    outcomes = [np.prod([mu[list(o)], (pi / mu)[list(o)] ** 2]) for o in itertools.product(range(3), repeat=6)]
    assert sum(outcomes) - 1.0 == pytest.approx(theory.ratio_second_moment(pi, mu) ** 6 - 1.0)


def test_moments_of_a_return_in_a_repeated_game() -> None:
    weights, traces, rewards = np.array([0.5, 0.3, 0.2]), np.array([0.4, 1.2, 2.0]), np.array([1.0, -1.0, 0.5])
    first = second = 0.0
    for outcome in itertools.product(range(3), repeat=4):
        product, total = 1.0, 0.0
        for k in outcome:
            product *= 0.9 * traces[k]
            total += product * rewards[k]
        p = np.prod(weights[list(outcome)])
        first, second = first + p * total, second + p * total**2
    found = theory.repeated_game_moments(weights, traces, rewards, 0.9, 4)
    assert found == pytest.approx((first, second - first**2))


def test_errors_name_what_was_expected() -> None:
    mdp, q, pi, mu = case(9)
    with pytest.raises(ValueError, match="did you mean 'retrace'"):
        theory.update("retrase", mdp, q, pi, mu, 0.5)
    with pytest.raises(ValueError, match=r"lambda is 1\.5"):
        theory.update("smix", mdp, q, pi, mu, 1.5)
    with pytest.raises(ValueError, match="importance ratios need mu > 0"):
        theory.update("retrace", mdp, q, pi, np.tile([1.0, 0, 0, 0], (3, 1)), 0.5)
    with pytest.raises(ValueError, match="joint actions"):
        theory.TeamMDP(mdp.transition, mdp.reward, 0.9, 3, 2)


@pytest.mark.parametrize("seed", range(3))
def test_values_of_joint_histories_are_those_of_the_hidden_process(seed: int) -> None:
    """A decentralised team's value, by a sum over hidden states, actions and observations, one course at a time."""
    rng = np.random.default_rng(seed)
    model = theory.random_dec_pomdp(rng, horizon=3)
    mdp, knows = model.histories(0.9)
    assert mdp.reward.shape == (1 + 16 + 256, 4) and knows.max() == 1 + 4 + 16 - 1
    policy = theory.decentralised_policy(rng, knows, 2)
    # Histories of one agent that are equal to it have equal marginals, whatever the other one knows.
    marginal = policy.reshape(-1, 2, 2).sum(2)
    for own in range(knows[0].max() + 1):
        same = marginal[knows[0] == own]
        np.testing.assert_allclose(same, same[:1].repeat(len(same), 0))

    def value(node: int, hidden: int, steps: int) -> float:
        """From a joint history that has really come with this hidden state."""
        total = 0.0
        for joint in range(4):
            later = 0.0
            if steps > 1:
                for after in range(3):
                    for seen in itertools.product(range(2), repeat=2):
                        chance = model.transition[hidden, joint, after] * math.prod(
                            model.observe[i, after, o] for i, o in enumerate(seen)
                        )
                        # Children lie in the order of joint actions, then of observations.
                        first = int(np.flatnonzero(mdp.transition[node, 0])[0])
                        child = first + 4 * joint + 2 * seen[0] + seen[1]
                        later += chance * value(child, after, steps - 1)
            total += policy[node, joint] * (model.reward[hidden, joint] + 0.9 * later)
        return total

    expected = sum(model.start[hidden] * value(0, hidden, 3) for hidden in range(3))
    found = (policy[0] * theory.policy_values(mdp, policy)[0]).sum()
    assert found == pytest.approx(expected)
