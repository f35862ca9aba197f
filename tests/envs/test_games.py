"""The rules of the three games, against hand-written play and closed forms."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from smix_pz.envs import make_vector_env, matrix_game_v0, payoff_game_v0, two_step_game_v0

JOINT = list(product((0, 1), repeat=2))


def play(env, joint_actions):
    """Rewards and observations of joint actions until the game ends."""
    observations, _ = env.reset(seed=0)
    seen, rewards = [observations["agent_0"]], []
    for joint in joint_actions:
        if not env.agents:
            break
        observations, reward, terminations, truncations, _ = env.step(dict(zip(env.agents, joint, strict=True)))
        assert len(set(reward.values())) == 1 and not any(truncations.values())
        assert len(set(terminations.values())) == 1
        rewards.append(reward["agent_0"])
        seen.append(observations["agent_0"])
    return rewards, seen


def rules(m, sequence):
    """Rewards of the m-step matrix game, from the text of the rules: a slow reference that shares no code."""
    rewards = []
    for step in range(1, m + 1):
        here = sequence[step - 1]
        if step == m and (m == 1 or sequence[0] == (0, 0)):
            return [*rewards, 4 if here == (1, 1) else 1]
        if here != sequence[0] or here not in ((0, 0), (1, 1)):
            return [*rewards, 0]
        rewards.append(1)
    return rewards


@pytest.mark.parametrize("m", [1, 2, 5, 10])
def test_best_and_safe_returns(m):
    env = matrix_game_v0.parallel_env(m=m)
    rewards, _ = play(env, [(0, 0)] * (m - 1) + [(1, 1)])
    assert len(rewards) == m and sum(rewards) == m + 3
    safe = [(1, 1)] * m if m > 1 else [(0, 0)]  # with one step there is no branch to stay on
    rewards, _ = play(env, safe)
    assert len(rewards) == m and sum(rewards) == m


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_every_play_of_the_matrix_game_pays_what_the_rules_say(m):
    env = matrix_game_v0.parallel_env(m=m)
    returns = []
    for sequence in product(JOINT, repeat=m):
        rewards, _ = play(env, sequence)
        assert rewards == rules(m, sequence), sequence
        returns.append(sum(rewards))
    assert max(returns) == m + 3
    assert Fraction(int(sum(returns)), 4**m) == random_play(m)


def random_play(m):
    """Expected return of uniformly random play: one half for the first step, then a quarter of it each step, ..."""
    if m == 1:
        return Fraction(7, 4)
    on_some_branch = sum(Fraction(1, 2) * Fraction(1, 4) ** k for k in range(m - 1))
    at_the_last_step = Fraction(1, 4) ** (m - 1) * (Fraction(7, 4) + Fraction(1, 4))
    return on_some_branch + at_the_last_step


def test_random_play_of_ten_steps_is_worth_two_thirds():
    assert random_play(10) == Fraction(2, 3) + Fraction(4, 3) / 4**9
    assert float(random_play(10)) == pytest.approx(2 / 3, abs=1e-5)
    envs = make_vector_env("matrix_game_v0", 20_000, m=10)
    envs.reset(seed=0)
    rng, returns = np.random.default_rng(0), np.zeros(20_000)
    for _ in range(10):
        returns += envs.step(rng.integers(0, 2, (20_000, 2)))[1]
    standard_error = returns.std() / np.sqrt(returns.size)
    assert abs(returns.mean() - 2 / 3) < 4 * standard_error
    assert standard_error < 0.01


def test_observation_of_the_matrix_game_is_step_and_branch():
    _, seen = play(matrix_game_v0.parallel_env(m=3), [(1, 1), (1, 1), (1, 0)])
    assert [row.tolist() for row in seen] == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0, 1],
        [0, 0, 1, 0, 0, 0, 0, 1],
        [0, 0, 0, 1, 0, 0, 0, 1],
    ]
    _, seen = play(matrix_game_v0.parallel_env(m=3), [(0, 1)])
    assert seen[-1].tolist() == [0, 1, 0, 0, 0, 1, 0, 0]


def test_state_is_what_agents_see():
    for env in (
        matrix_game_v0.parallel_env(m=3),
        payoff_game_v0.parallel_env(),
        two_step_game_v0.parallel_env(),
    ):
        observations, _ = env.reset()
        assert np.array_equal(env.state(), observations["agent_1"])
        assert env.state().dtype == np.float32
        observations, *_ = env.step(dict.fromkeys(env.agents, 0))
        assert np.array_equal(env.state(), observations["agent_1"])


@pytest.mark.parametrize("m", [0, -1])
def test_too_few_steps(m):
    with pytest.raises(ValueError, match=rf"m \(steps of the matrix game\) must be an integer of at least 1, got {m}"):
        matrix_game_v0.parallel_env(m=m)
    with pytest.raises(ValueError, match="at least 1"):
        make_vector_env("matrix_game_v0", 2, m=m)


@pytest.mark.parametrize("m", [2.5, "5", None, True])
def test_steps_that_are_no_integer(m):
    with pytest.raises(TypeError, match="must be an integer of at least 1"):
        matrix_game_v0.parallel_env(m=m)
    with pytest.raises(TypeError, match="must be an integer of at least 1"):
        make_vector_env("matrix_game_v0", 2, m=m)


def test_numpy_integers_are_integers():
    assert matrix_game_v0.parallel_env(m=np.int64(3)).m == 3


def test_two_step_game_by_hand():
    for first, second in product(JOINT, JOINT):
        rewards, seen = play(two_step_game_v0.parallel_env(), [first, second])
        pays = 7 if first[0] == 0 else {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 8}[second]
        assert rewards == [0, pays]
        assert [row.tolist() for row in seen] == [[1, 0, 0]] + [[0, 1, 0] if first[0] == 0 else [0, 0, 1]] * 2


def test_payoff_game_pays_the_table():
    payoff = np.random.default_rng(1).normal(size=(2, 3, 4))
    env = payoff_game_v0.parallel_env(payoff=payoff)
    assert [env.action_space(agent).n for agent in env.possible_agents] == [2, 3, 4]
    for joint in np.ndindex(payoff.shape):
        rewards, seen = play(env, [joint])
        assert rewards == [payoff[joint]]
        assert [row.tolist() for row in seen] == [[1.0], [1.0]]


def test_named_payoffs_are_what_their_names_say():
    qtran = payoff_game_v0.PAYOFFS["qtran"]
    assert qtran.tolist() == [[8, -12, -12], [-12, 0, 0], [-12, 0, 0]]
    assert not monotone(qtran) and not is_sum(qtran)
    assert monotone(payoff_game_v0.PAYOFFS["monotonic"]) and not is_sum(payoff_game_v0.PAYOFFS["monotonic"])
    assert monotone(payoff_game_v0.PAYOFFS["additive"]) and is_sum(payoff_game_v0.PAYOFFS["additive"])
    assert not monotone(payoff_game_v0.PAYOFFS["climbing"])
    with pytest.raises(ValueError, match="read-only"):
        qtran[0, 0] = 0


def is_sum(table):
    """Whether table[i, j] = f(i) + g(j)."""
    return np.allclose(table, table[:, :1] + table[:1, :] - table[0, 0])


def monotone(table):
    """Whether each agent's actions can be ordered so that the payoff never falls along any row or column."""

    def ordered(rows):
        return all((a >= b).all() or (a <= b).all() for a in rows for b in rows)

    return ordered(table) and ordered(table.T)


@pytest.mark.parametrize(
    ("payoff", "error", "message"),
    [
        ([[1, 2], [3]], ValueError, "ragged"),
        ([[1, 2], ["a", 3]], TypeError, "not real numbers"),
        ([[1, 2], [3, None]], TypeError, "not real numbers"),
        ([[1, 2j]], TypeError, "not real numbers"),
        ([[1, float("inf")]], ValueError, r"payoff\[0, 1\] is inf"),
        (3.0, ValueError, "single number"),
        ([[], []], ValueError, "no entries"),
        ("qtrn", ValueError, "did you mean 'qtran'"),
    ],
)
def test_payoffs_that_are_refused(payoff, error, message):
    with pytest.raises(error, match=message):
        payoff_game_v0.parallel_env(payoff=payoff)
    with pytest.raises(error, match=message):
        make_vector_env("payoff_game_v0", 2, payoff=payoff)
