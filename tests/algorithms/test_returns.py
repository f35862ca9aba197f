"""Return estimators against forward sums, hand-computed numbers and each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle.returns import delta_sum, lambda_sum, n_step_sum, traced_sum
from torch import Tensor

from smix_pz.algorithms.returns import (
    ESTIMATORS,
    Kind,
    ReturnEstimator,
    corrected_return,
    lambda_return,
    monte_carlo_return,
    n_step_return,
    one_step_return,
)
from smix_pz.algorithms.theory import TeamMDP, policy_values, random_mdp, update

T = 6


def episodes(ends: list[tuple[int, bool]], n_values: int, seed: int = 0, padding: float | None = None) -> list[Tensor]:
    """rewards, terminated, filled [B, T, 1] and v_next [B, T, X] of episodes given as (length, terminated)."""
    rng = np.random.default_rng(seed)
    rewards = torch.from_numpy(rng.normal(size=(len(ends), T, 1)))
    v_next = torch.from_numpy(rng.normal(size=(len(ends), T, n_values)))
    terminated, filled = (torch.zeros(len(ends), T, 1, dtype=torch.bool) for _ in range(2))
    for b, (length, over) in enumerate(ends):
        filled[b, :length] = True
        terminated[b, length - 1] = over
        if padding is not None:
            rewards[b, length:], v_next[b, length:], terminated[b, length:] = padding, padding, True
            if over:
                v_next[b, length - 1] = padding
    return [rewards, terminated, filled, v_next]


def values_of(ends: tuple[int, bool], v_next: Tensor) -> list[float]:
    """The values at times 0 to length of one episode; that at 0 is not used by any return, that of an end is 0."""
    length, over = ends
    values = [0.0, *v_next[:length].tolist()]
    if over:
        values[length] = 0.0
    return values


ENDS = st.lists(st.tuples(st.integers(1, T), st.booleans()), min_size=1, max_size=5)
FRACTION = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0))


@given(ends=ENDS, n_values=st.sampled_from([1, 3]), gamma=FRACTION, td_lambda=FRACTION, seed=st.integers(0, 10**6))
def test_lambda_return_is_the_forward_sum(
    ends: list[tuple[int, bool]], n_values: int, gamma: float, td_lambda: float, seed: int
) -> None:
    """Equation 9 and, shifted by the value of the start, equation 16."""
    rewards, terminated, filled, v_next = episodes(ends, n_values, seed)
    found = lambda_return(rewards, terminated, filled, v_next, gamma, td_lambda)
    assert found.shape == v_next.shape
    for b, (length, _) in enumerate(ends):
        pay = rewards[b, :length, 0].tolist()
        for x in range(n_values):
            values = values_of(ends[b], v_next[b, :, x])
            for t in range(length):
                assert found[b, t, x] == pytest.approx(lambda_sum(pay, values, t, gamma, td_lambda), abs=1e-12)
                assert found[b, t, x] == pytest.approx(delta_sum(pay, values, t, gamma, td_lambda), abs=1e-12)
        assert not found[b, length:].any()


@given(ends=ENDS, n_values=st.sampled_from([1, 3]), gamma=FRACTION, n=st.integers(1, T + 2), seed=st.integers(0, 10**6))
def test_n_step_return_is_the_forward_sum(
    ends: list[tuple[int, bool]], n_values: int, gamma: float, n: int, seed: int
) -> None:
    rewards, terminated, filled, v_next = episodes(ends, n_values, seed)
    found = n_step_return(rewards, terminated, filled, v_next, gamma, n)
    for b, (length, _) in enumerate(ends):
        pay = rewards[b, :length, 0].tolist()
        for x in range(n_values):
            values = values_of(ends[b], v_next[b, :, x])
            for t in range(length):
                assert found[b, t, x] == pytest.approx(n_step_sum(pay, values, t, n, gamma), abs=1e-12)
        assert not found[b, length:].any()


@pytest.mark.parametrize(
    ("terminated", "expected"),
    [
        # 1 + .99 * 5 = 5.95;  1 + .99 (.2 * 5 + .8 * 5.95) = 6.7024;  1 + .99 (.2 * 5 + .8 * 6.7024) = 7.29830
        pytest.param(False, [7.2983008, 6.7024, 5.95], id="truncated"),
        # 1;  1 + .99 (.2 * 5 + .8 * 1) = 2.782;  1 + .99 (.2 * 5 + .8 * 2.782) = 4.193344
        pytest.param(True, [4.193344, 2.782, 1.0], id="terminated"),
    ],
)
def test_three_steps_padded_to_six(terminated: bool, expected: list[float]) -> None:
    """The case that the public lambda target gets wrong: 4.99 / 3.78 / 2.27 instead of 7.30 / 6.70 / 5.95."""
    ones = torch.ones(1, T, 1, dtype=torch.float64)
    filled = torch.arange(T).reshape(1, T, 1) < 3
    over = (torch.arange(T).reshape(1, T, 1) == 2) & terminated
    found = lambda_return(ones, over, filled, 5 * ones, 0.99, 0.8)
    assert found[0, :, 0].tolist() == pytest.approx([*expected, 0.0, 0.0, 0.0], abs=1e-9)


ALL = [ReturnEstimator(kind, td_lambda=0.7, n_step=3) for kind in ESTIMATORS]


@pytest.mark.parametrize("padding", [math.nan, 1e30, -math.inf])
@pytest.mark.parametrize("estimator", ALL, ids=lambda e: e.kind)
def test_padding_changes_nothing(estimator: ReturnEstimator, padding: float) -> None:
    """Neither what is behind an end, nor the value at a termination."""
    ends = [(1, True), (2, False), (3, True), (T, False), (T, True), (5, False)]
    clean, spoilt = episodes(ends, 2), episodes(ends, 2, padding=padding)
    assert not torch.equal(clean[3], spoilt[3])
    found, expected = (
        estimator(*data, 0.9, *corrections(ends, 2, rubbish)) for data, rubbish in ((spoilt, padding), (clean, None))
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_identities() -> None:
    """Lambda 0 and n = 1 are one step, lambda 1 and n >= T Monte-Carlo."""
    data = episodes([(1, True), (2, False), (T, True), (T, False), (4, False)], 2)
    rewards, terminated, filled, v_next = data
    goes_on = filled & ~terminated
    one_step = torch.where(filled, rewards + 0.9 * torch.where(goes_on, v_next, 0.0), 0.0)
    for found in (
        lambda_return(*data, 0.9, 0.0), n_step_return(*data, 0.9, 1), one_step_return(*data, 0.9),
        ReturnEstimator("one-step")(*data, 0.9), ReturnEstimator("peng", td_lambda=0.0)(*data, 0.9),
    ):  # fmt: skip
        torch.testing.assert_close(found, one_step)
    monte_carlo = lambda_return(*data, 0.9, 1.0)
    for found in (n_step_return(*data, 0.9, T), n_step_return(*data, 0.9, 99), monte_carlo_return(*data, 0.9),
                  ReturnEstimator("monte-carlo")(*data, 0.9)):  # fmt: skip
        torch.testing.assert_close(found, monte_carlo)
    assert not torch.allclose(monte_carlo, one_step)
    # Terminated episodes: nothing but discounted rewards.
    discounted = sum(0.9**k * rewards[2, k, 0] for k in range(T))
    torch.testing.assert_close(monte_carlo[2, 0], discounted.expand(2))


def corrections(ends: list[tuple[int, bool]], n_values: int, rubbish: float | None = None) -> list[Tensor]:
    """q_next and trace_next [B, T, X]; rubbish where the next step is not filled."""
    rng = np.random.default_rng(1)
    q, trace = (torch.from_numpy(rng.uniform(0.1, 1.5, (len(ends), T, n_values))) for _ in range(2))
    if rubbish is not None:
        for b, (length, _) in enumerate(ends):
            q[b, length - 1 :], trace[b, length - 1 :] = rubbish, rubbish
    return [q, trace]


@given(ends=ENDS, n_values=st.sampled_from([1, 3]), gamma=FRACTION, seed=st.integers(0, 10**6))
def test_corrected_return_is_the_forward_sum(
    ends: list[tuple[int, bool]], n_values: int, gamma: float, seed: int
) -> None:
    """Equations 7 and 8."""
    rewards, terminated, filled, v_next = episodes(ends, n_values, seed)
    q, trace = corrections(ends, n_values)
    found = corrected_return(rewards, terminated, filled, v_next, gamma, q, trace)
    for b, (length, over) in enumerate(ends):
        pay = rewards[b, :length, 0].tolist()
        for x in range(n_values):
            expected = values_of(ends[b], v_next[b, :, x])
            taken = [0.7, *q[b, :length, x].tolist()]  # that at time 0 cancels
            if over:
                taken[length] = 0.0
            traces = [0.0, *trace[b, :length, x].tolist()]
            for t in range(length):
                wanted = traced_sum(pay, expected, taken, traces, t, gamma)
                assert found[b, t, x] == pytest.approx(wanted, rel=1e-9, abs=1e-9)
        assert not found[b, length:].any()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # pi = .6, mu = .3, lambda = .5: c = .5, .5 * .6 = .3, .5 * 1, .5 * 2; G1 = 2 + .5 * 6 = 5 (truncated);
        # G0 = 1 + .5 (4 + c (5 - 3)) = 3 + c
        ("q-lambda", 3.5), ("tree-backup", 3.3), ("retrace", 3.5), ("importance-sampling", 4.0),
    ],
)  # fmt: skip
def test_two_steps_by_hand(kind: Kind, expected: float) -> None:
    estimator = ReturnEstimator(kind, td_lambda=0.5)
    pi, mu = torch.tensor([[[0.6], [0.0]]]).double(), torch.tensor([[[0.3], [1.0]]]).double()
    pay, v = torch.tensor([[[1.0], [2.0]]]).double(), torch.tensor([[[4.0], [6.0]]]).double()
    filled, over = torch.ones(1, 2, 1, dtype=torch.bool), torch.zeros(1, 2, 1, dtype=torch.bool)
    q = torch.tensor([[[3.0], [99.0]]]).double()
    found = estimator(pay, over, filled, v, 0.5, q, estimator.traces(pi, mu))
    assert found[0, :, 0].tolist() == pytest.approx([expected, 5.0])


def test_on_policy_with_the_taken_values_all_are_the_lambda_return() -> None:
    """Where v is q, and pi and mu are 1: SMIX's return."""
    data = episodes([(1, True), (2, False), (T, True), (T, False)], 2)
    wanted = lambda_return(*data, 0.9, 0.7)
    for kind in ("q-lambda", "tree-backup", "retrace", "importance-sampling"):
        estimator = ReturnEstimator(kind, td_lambda=0.7)
        ones = torch.ones_like(data[3])
        torch.testing.assert_close(estimator(*data, 0.9, data[3], estimator.traces(ones, ones)), wanted)


def column(values: list[list[float]]) -> Tensor:
    """Values at the times after the first, and one behind the end that must not matter."""
    return torch.tensor([*values, [math.nan]], dtype=torch.float64)


TABULAR = {
    "one-step": "one_step", "lambda": "smix", "q-lambda": "q_lambda", "tree-backup": "tree_backup",
    "retrace": "retrace", "importance-sampling": "importance",
}  # fmt: skip


@pytest.mark.parametrize("kind", TABULAR)
@pytest.mark.parametrize("td_lambda", [0.6, 1.0])
def test_expectation_is_the_tabular_operator(kind: Kind, td_lambda: float) -> None:
    """Over every trajectory of a small process, weighed by its probability under mu: equation 7's closed form."""
    rng = np.random.default_rng(3)
    mdp = random_mdp(rng, n_states=4, acyclic=True)
    pi, mu = rng.dirichlet(np.ones(4), 4), rng.dirichlet(np.ones(4), 4)
    q = rng.normal(size=(4, 4))
    estimator = ReturnEstimator(kind, td_lambda=td_lambda)
    expected_value, traces = (pi * q).sum(1), estimator.traces(torch.tensor(pi), torch.tensor(mu)).numpy()
    wanted = update(TABULAR[kind], mdp, q, pi, mu, td_lambda)
    for start, action in itertools.product(range(4), range(4)):
        total = mass = 0.0
        for probability, path in trajectories(mdp, mu, start, action):
            states, actions = [s for s, _ in path], [a for _, a in path]
            pay = [[mdp.reward[s, a]] for s, a in path]
            following = list(zip(states[1:], actions[1:], strict=True))
            v = [[q[s, a] if estimator.bootstrap == "taken" else expected_value[s]] for s, a in following]
            corrected = [[[q[s, a]] for s, a in following], [[traces[s, a]] for s, a in following]]
            ends = torch.arange(len(path))[:, None] == len(path) - 1
            found = estimator(
                torch.tensor(pay).double(), ends, torch.ones_like(ends), column(v), mdp.gamma,
                *(column(one) for one in corrected),
            )  # fmt: skip
            total, mass = total + probability * float(found[0, 0]), mass + probability
        assert mass == pytest.approx(1.0)
        assert total == pytest.approx(wanted[start, action], abs=1e-9)
    if kind == "importance-sampling" and td_lambda == 1.0:  # unbiased whatever q is
        np.testing.assert_allclose(wanted, policy_values(mdp, pi))


def trajectories(
    mdp: TeamMDP, mu: np.ndarray, state: int, action: int
) -> Iterator[tuple[float, list[tuple[int, int]]]]:
    """Every course from (state, action) to the episode's end, with its probability."""
    onward = mdp.transition[state, action]
    yield 1.0 - onward.sum(), [(state, action)]
    for after in np.flatnonzero(onward):
        for choice in range(mu.shape[1]):
            for probability, path in trajectories(mdp, mu, int(after), choice):
                yield onward[after] * mu[after, choice] * probability, [(state, action), *path]


def test_estimator_chooses_by_kind() -> None:
    data = episodes([(T, False), (3, True)], 1)
    ignoring = ReturnEstimator("n-step", td_lambda=0.5, n_step=2)
    torch.testing.assert_close(ignoring(*data, 0.9), n_step_return(*data, 0.9, 2))
    ignoring = ReturnEstimator("lambda", td_lambda=0.5, n_step=2)
    torch.testing.assert_close(ignoring(*data, 0.9), lambda_return(*data, 0.9, 0.5))


@pytest.mark.parametrize("bad", [{"td_lambda": 1.5}, {"td_lambda": -0.1}, {"td_lambda": math.nan}, {"n_step": 0}])
def test_estimator_rejects(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))} is .*should"):
        ReturnEstimator("lambda", **bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("estimator", ALL, ids=lambda e: e.kind)
def test_agents_own_rewards_are_columns(estimator: ReturnEstimator) -> None:
    """Rewards [B, T, N]: as if each agent's were a team's of its own."""
    ends = [(1, True), (2, False), (T, True), (5, False)]
    _, terminated, filled, v_next = episodes(ends, 3)
    rewards = torch.from_numpy(np.random.default_rng(4).normal(size=(4, T, 3)))
    correction = corrections(ends, 3)
    found = estimator(rewards, terminated, filled, v_next, 0.9, *correction)
    for x in range(3):
        one = slice(x, x + 1)
        alone = estimator(
            rewards[..., one], terminated, filled, v_next[..., one], 0.9, *(c[..., one] for c in correction)
        )
        torch.testing.assert_close(found[..., one], alone)
