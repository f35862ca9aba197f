"""The native vector forms: they play as the PettingZoo forms do, and end as Gymnasium's vector environments do."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from smix_pz.envs import ENVS, make_native_env, make_team_env, make_vector_env

UNLIKE = np.random.default_rng(5).normal(size=(2, 4, 3))
CASES = [
    ("matrix_game_v0", {"m": 1}, None),
    ("matrix_game_v0", {"m": 5}, None),
    ("matrix_game_v0", {"m": 6}, 3),
    ("payoff_game_v0", {"payoff": "climbing"}, None),
    ("payoff_game_v0", {"payoff": UNLIKE}, None),
    ("two_step_game_v0", {}, None),
    ("two_step_game_v0", {}, 1),
]
case = pytest.mark.parametrize(
    ("name", "arguments", "limit"), CASES, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(CASES)]
)


def random_actions(rng, envs, stay=0.0):
    """Legal joint actions [n, N]; with probability `stay` all agents of a game play 0, so that long games happen."""
    spec = envs.team_spec
    actions = rng.integers(0, spec.agent_actions, (envs.num_envs, spec.n_agents))
    actions[rng.random(envs.num_envs) < stay] = 0
    return actions


def same(one, other):
    """Whether two nested results agree in keys, types and every number."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype == object:
        return one.shape == other.shape and all(
            same(a, b) if a is not None else b is None for a, b in zip(one.ravel(), other.ravel(), strict=True)
        )
    return one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "arguments", "length"),
    [("matrix_game_v0", {"m": m}, m) for m in (1, 2, 3)] + [("two_step_game_v0", {}, 2)],
)
def test_every_play_agrees_with_the_pettingzoo_form(name, arguments, length):
    plays = np.array(list(product(product((0, 1), repeat=2), repeat=length)))  # [4 ** length, length, 2]
    compare(name, arguments, plays)


def test_every_play_of_three_agents_with_unlike_actions():
    plays = np.array([[joint] for joint in np.ndindex(UNLIKE.shape)])
    compare("payoff_game_v0", {"payoff": UNLIKE}, plays)


@pytest.mark.parametrize("m", [7, 20])
def test_long_random_plays_agree(m):
    rng = np.random.default_rng(m)
    plays = np.repeat(rng.integers(0, 2, (60, 1, 1)), m, axis=1).repeat(2, axis=2)
    slips = rng.random(plays.shape) < 0.03
    compare("matrix_game_v0", {"m": m}, np.where(slips, 1 - plays, plays))


def compare(name, arguments, plays):
    """Play `plays` [games, moves, agents] in both forms and compare every number of every step."""
    envs = make_vector_env(name, len(plays), vectorization="native", **arguments)
    observations, _ = envs.reset(seed=list(range(len(plays))))
    trace = [(observations, None, None)]
    for move in range(plays.shape[1]):
        observations, rewards, terminations, truncations, _ = envs.step(plays[:, move])
        assert not truncations.any()
        trace.append((observations, rewards, terminations))
    game = ENVS[name].module.parallel_env(**arguments)
    for index, play in enumerate(plays):
        single, _ = game.reset(seed=index)
        check_row(trace[0][0], index, game, single)
        for move, joint in enumerate(play):
            observations, rewards, terminations = trace[move + 1]
            if game.agents:
                single, paid, ended, _, _ = game.step(dict(zip(game.agents, map(int, joint), strict=True)))
                assert set(paid.values()) == {rewards[index]}
                assert set(ended.values()) == {terminations[index]}
            else:
                assert rewards[index] == 0 and not terminations[index]  # held at its end
            check_row(observations, index, game, single)


def check_row(observations, index, game, single):
    assert np.array_equal(observations["obs"][index], np.stack([single[agent] for agent in game.possible_agents]))
    assert np.array_equal(observations["state"][index], game.state())
    counts = [game.action_space(agent).n for agent in game.possible_agents]
    assert observations["action_mask"][index].sum(axis=1).tolist() == counts


@case
@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("n", [1, 5])
def test_autoreset_modes_are_gymnasiums(name, arguments, limit, mode, n):
    native = make_native_env(name, n, mode, limit, **arguments)
    reference = SyncVectorEnv([lambda: make_team_env(name, episode_limit=limit, **arguments)] * n, autoreset_mode=mode)
    assert native.metadata["autoreset_mode"] is mode
    assert native.single_observation_space == reference.single_observation_space
    assert native.observation_space == reference.observation_space
    assert native.single_action_space == reference.single_action_space
    assert native.action_space == reference.action_space
    assert native.team_spec == reference.envs[0].unwrapped.team_spec
    rng = np.random.default_rng(0)
    assert all(map(same, native.reset(seed=1), reference.reset(seed=1)))
    ends = 0
    for _ in range(60):
        actions = random_actions(rng, native, stay=0.7)
        ours, theirs = native.step(actions), reference.step(actions)
        assert all(map(same, ours, theirs))
        over = ours[2] | ours[3]
        ends += over.sum()
        if mode is AutoresetMode.DISABLED and over.any():
            # Gymnasium takes the mask out of the dictionary it is given, hence two dictionaries.
            ours, theirs = (envs.reset(options={"reset_mask": over}) for envs in (native, reference))
            assert all(map(same, ours, theirs))
    assert ends > 5


def test_disabled_holds_only_what_has_ended():
    envs = make_native_env("matrix_game_v0", 2, AutoresetMode.DISABLED, m=3)
    envs.reset(seed=[1, 2])
    held, rewards, terminations, _, _ = envs.step([[0, 1], [0, 0]])
    assert rewards.tolist() == [0, 1] and terminations.tolist() == [True, False]
    for action, reward, ended in ([0, 0], 1, False), ([1, 1], 4, True), ([0, 0], 0, False):
        observations, rewards, terminations, truncations, infos = envs.step([[0, 0], action])
        assert np.array_equal(observations["obs"][0], held["obs"][0])
        assert rewards.tolist() == [0, reward] and terminations.tolist() == [False, ended]
        assert not truncations.any() and infos == {}
    observations, _ = envs.reset(options={"reset_mask": np.array([True, False])})
    assert observations["state"][0].argmax() == 0 and observations["state"][1].argmax() == 3
    observations, rewards, _, _, _ = envs.step([[1, 1], [1, 1]])
    assert rewards.tolist() == [1, 0]


def test_results_are_not_shared_between_steps():
    envs = make_native_env("matrix_game_v0", 2, AutoresetMode.DISABLED, m=3)
    first, _ = envs.reset(seed=0)
    kept = {key: value.copy() for key, value in first.items()}
    observations, rewards, *_ = envs.step(np.zeros((2, 2), int))
    for value in (*observations.values(), rewards):
        value[:] = 7  # what a caller does to results must not reach the games
    observations, rewards, *_ = envs.step(np.zeros((2, 2), int))
    assert rewards.tolist() == [1, 1] and observations["action_mask"].max() == 1
    assert same(first, kept)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8])
def test_any_integer_type_is_an_action(dtype):
    envs = make_native_env("payoff_game_v0", 2, payoff=UNLIKE)
    envs.reset()
    rewards = envs.step(np.array([[1, 3, 2], [0, 0, 1]], dtype))[1]
    assert rewards.tolist() == [UNLIKE[1, 3, 2], UNLIKE[0, 0, 1]]


@pytest.mark.parametrize(
    ("actions", "error", "message"),
    [
        ([[0, 0, 0], [0, 0, 3]], ValueError, "action 3 of agent_2 in game 1 is outside its actions 0 to 2"),
        ([[2, 0, 0], [0, 0, 0]], ValueError, "action 2 of agent_0 in game 0"),
        ([[0, -1, 0], [0, 0, 0]], ValueError, "action -1 of agent_1 in game 0"),
        ([[0, 0], [0, 0]], ValueError, "shape"),
        ([[0.0, 0, 0], [0, 0, 0]], TypeError, "integers"),
    ],
)
def test_actions_that_are_refused(actions, error, message):
    envs = make_native_env("payoff_game_v0", 2, payoff=UNLIKE)
    with pytest.raises(RuntimeError, match="before reset"):
        envs.step(np.zeros((2, 3), int))
    envs.reset()
    with pytest.raises(error, match=message):
        envs.step(actions)


def test_seeds_and_masks_that_are_refused():
    envs = make_native_env("two_step_game_v0", 3)
    with pytest.raises(ValueError, match="3 games, got 2"):
        envs.reset(seed=[1, 2])
    with pytest.raises(RuntimeError, match="first reset"):
        envs.reset(options={"reset_mask": np.array([True, False, False])})
    envs.reset(seed=np.int64(4))
    assert envs.np_random_seed == 4
    for mask in ([True, False, False], np.array([1, 0, 0]), np.array([True])):
        with pytest.raises(ValueError, match="boolean array of shape"):
            envs.reset(options={"reset_mask": mask})
    with pytest.raises(ValueError, match="at least one"):
        envs.reset(options={"reset_mask": np.zeros(3, bool)})
    with pytest.raises(ValueError, match="did you mean 'Disabled'"):
        make_native_env("two_step_game_v0", 3, "disabled")
