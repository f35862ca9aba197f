"""Environments that are no ParallelEnv: Gymnasium's of one agent and in tuples, turn-based ones; and what teams do with
MultiDiscrete actions, success infos and reward rules."""

from __future__ import annotations

import logging

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo.utils.conversions import parallel_to_aec
from tiny_envs import Dice

from smix_pz.envs import TeamEnv, make_vector_env, matrix_game_v0, team
from smix_pz.envs.adapters import SingleAgentTeam, TupleTeam, from_gymnasium_tuple


class Pair(gymnasium.Env):
    """Two agents in tuples. Each is paid its own action; agent 1 has three actions and sees two numbers."""

    observation_space = spaces.Tuple((spaces.Box(0, 9, (1,), np.float32), spaces.Box(0, 9, (2,), np.float32)))
    action_space = spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3, start=1)))

    def __init__(self, ends="limit", shared=False):
        self.ends, self.shared, self.max_steps = ends, shared, 4

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.first = 0, float(self.np_random.integers(9))
        return self._seen(), {"winner": (0, 0)}

    def step(self, action):
        self.steps += 1
        paid = float(sum(action)) if self.shared else [float(a) for a in action]
        early = self.ends == "early" and self.steps == 2
        over = early or self.steps >= self.max_steps
        ended = [over, over] if self.ends == "each" else over
        return self._seen(), paid, ended, False, {"winner": action, "is_success": early}

    def _seen(self):
        return np.array([self.first], np.float32), np.array([self.first, self.steps], np.float32)


def play(env, actions, **options):
    """(observation, reward, terminated, truncated, info) of each step of a team."""
    found = TeamEnv(env, **options)
    found.reset(seed=3)
    return found, [found.step(np.array(action)) for action in actions]


def test_tuples_become_a_team():
    found, steps = play(Pair(), [[1, 2], [0, 0]], reward="sum")
    spec = found.team_spec
    assert (spec.n_agents, spec.agent_actions, spec.obs_dim, spec.state_dim, spec.episode_limit) == (2, (2, 3), 2, 4, 4)
    assert spec.engine["name"] == "test_adapters/Pair"
    # Indices 0 to 2 of agent 1 are the actions 1 to 3: paid 1 + 3, then 0 + 1.
    assert [reward for _, reward, *_ in steps] == [4.0, 1.0]
    first = np.random.Generator(np.random.PCG64(np.random.SeedSequence(3))).integers(9)
    np.testing.assert_array_equal(steps[1][0]["obs"], [[first, 0], [first, 2]])  # padded
    np.testing.assert_array_equal(steps[1][0]["action_mask"], [[1, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize("ends", ["limit", "each"])
def test_an_end_at_the_environments_own_limit_is_a_truncation(ends):
    _, steps = play(Pair(ends), [[0, 0]] * 4, reward="sum")
    assert [(terminated, truncated) for *_, terminated, truncated, _ in steps] == [(False, False)] * 3 + [(False, True)]


def test_an_end_before_it_is_a_termination_and_success_is_a_win():
    found, steps = play(Pair("early"), [[0, 0]] * 2, reward="first")
    assert [(terminated, truncated) for *_, terminated, truncated, _ in steps] == [(False, False), (True, False)]
    assert [info["battle_won"] for *_, info in steps] == [False, True]
    assert steps[0][1] == 0.0  # the first agent's
    with pytest.raises(RuntimeError):
        found.step(np.array([0, 0]))


def test_infos_in_tuples_are_dealt_out():
    env = TupleTeam(Pair())
    _, infos = env.reset(seed=1)
    assert infos == {"agent_0": {"winner": 0}, "agent_1": {"winner": 0}}
    *_, infos = env.step({"agent_0": 1, "agent_1": 3})
    assert infos["agent_1"] == {"winner": 3, "is_success": False}


def test_a_reward_for_all():
    _, steps = play(Pair(shared=True), [[1, 1]])
    assert steps[0][1] == 3.0  # 1 + 2, paid to both, and so the team's without a rule


def test_unlike_rewards_need_a_rule():
    with pytest.raises(ValueError, match=r"unlike rewards: agent_0 1.0, agent_1 2.0.*\"first\""):
        play(Pair(), [[1, 1]])
    assert play(Pair(), [[1, 1]], reward="mean")[1][0][1] == 1.5


@pytest.mark.parametrize("make", [Pair, Pair(), lambda: Pair()])
def test_from_gymnasium_tuple(make):
    env = from_gymnasium_tuple(make, episode_limit=3)
    assert env.possible_agents == ["agent_0", "agent_1"] and env.episode_limit == 3
    assert env.action_space("agent_1") is env.action_space("agent_1")
    observations, _ = env.reset(seed=0)
    assert env.observation_space("agent_1").contains(observations["agent_1"])


def test_what_is_no_tuple_is_refused():
    with pytest.raises(TypeError, match=r"expected a Tuple.*team of one"):
        from_gymnasium_tuple("CartPole-v1")
    env = Pair()
    env.observation_space = spaces.Tuple((spaces.Box(0, 1, (1,)),))
    with pytest.raises(TypeError, match="one space for each of 2 agents"):
        TupleTeam(env)


def test_a_single_agent_is_a_team_of_one():
    """The same numbers as Gymnasium's own, and its time limit is a truncation."""
    envs = make_vector_env("CartPole-v1", 2)
    assert (envs.team_spec.n_agents, envs.team_spec.n_actions, envs.team_spec.episode_limit) == (1, 2, 500)
    observation, _ = envs.reset(seed=[4, 5])
    alone = gymnasium.make("CartPole-v1")
    expected, _ = alone.reset(seed=5)
    np.testing.assert_array_equal(observation["obs"][1, 0], expected)
    over = False
    while not over:
        observation, rewards, terminated, _, _ = envs.step(np.ones((2, 1), int))
        expected, reward, over, _, _ = alone.step(1)
        np.testing.assert_array_equal(observation["obs"][1, 0], expected)
        assert rewards[1] == reward and terminated[1] == over
    short = TeamEnv(gymnasium.make("CartPole-v1", max_episode_steps=3))
    short.reset(seed=0)
    assert [short.step(np.array([k % 2]))[2:4] for k in range(3)] == [(False, False), (False, False), (False, True)]


def test_multidiscrete_actions_are_enumerated():
    """The last number counts fastest; each number has its own start."""
    dice = Dice()
    found = TeamEnv(dice, episode_limit=1)
    assert found.team_spec.n_actions == 6 and found.team_spec.obs_dim == 3
    seen = []
    for index in range(6):
        found.reset()
        _, reward, terminated, truncated, _ = found.step(np.array([index]))
        seen.append(tuple(dice.last.tolist()))
        assert reward == sum(seen[-1]) and (terminated, truncated) == (False, True)
    assert seen == [(0, 10), (0, 11), (0, 12), (1, 10), (1, 11), (1, 12)]


def test_too_many_combinations_are_refused():
    env = Dice()
    env.action_space = spaces.MultiDiscrete([30, 30])
    with pytest.raises(ValueError, match="900 combinations; at most 512"):
        TeamEnv(SingleAgentTeam(env, episode_limit=1))


def test_turn_based_environments():
    """Through PettingZoo's conversion where it is valid, with the same course; refused with the reason where not."""
    aec, parallel = TeamEnv(matrix_game_v0.env(m=3)), TeamEnv(matrix_game_v0.parallel_env(m=3))
    assert aec.team_spec.agent_actions == parallel.team_spec.agent_actions
    rng = np.random.default_rng(0)
    for _ in range(5):
        (seen, _), (expected, _) = aec.reset(seed=1), parallel.reset(seed=1)
        over = False
        while not over:
            np.testing.assert_array_equal(seen["obs"], expected["obs"])
            action = rng.integers(2, size=2)
            (seen, *ends, _), (expected, *others, _) = aec.step(action), parallel.step(action)
            assert ends == others
            over = ends[1] or ends[2]
    turns = parallel_to_aec(matrix_game_v0.parallel_env())
    turns.metadata = {**turns.metadata, "is_parallelizable": False}
    with pytest.raises(TypeError, match=r"turn-based.*would work"):
        TeamEnv(turns)


@pytest.mark.parametrize("key", ["battle_won", "win", "won", "is_success", "success"])
def test_success_under_its_usual_names(key, monkeypatch):
    game = matrix_game_v0.parallel_env(m=2)
    step = game.step

    def reporting(actions):
        *rest, _ = step(actions)
        return (*rest, {"agent_1": {key: np.bool_(actions["agent_0"] == 0)}, "agent_0": {}})

    monkeypatch.setattr(game, "step", reporting)
    found = TeamEnv(game)
    found.reset()
    assert found.step(np.array([0, 0]))[4]["battle_won"] is True
    found.reset()
    assert found.step(np.array([1, 0]))[4]["battle_won"] is False


def test_a_missing_state_is_said_once(caplog, monkeypatch):
    monkeypatch.setattr(team, "_without_state", set())
    with caplog.at_level(logging.INFO, logger="smix_pz"):
        for _ in range(3):
            TeamEnv(Pair(), reward="sum", env_id="pair")
        TeamEnv(matrix_game_v0.parallel_env())  # which has one
    assert [record.getMessage() for record in caplog.records] == [
        "pair has no state(): its agents' joined observations are the state."
    ]


@pytest.mark.parametrize(
    ("name", "rule", "agents", "actions", "limit"),
    [
        ("lbforaging:Foraging-8x8-2p-3f-v3", "sum", 2, 6, 50),
        ("rware:rware-tiny-2ag-v2", "sum", 2, 5, 500),
        ("mpe2.simple_spread_v3", "mean", 3, 5, 25),
        ("mpe2.simple_speaker_listener_v4", None, 2, 5, 25),
        ("mpe2.simple_reference_v3", "mean", 2, 50, 25),
        ("pettingzoo.sisl.pursuit_v5", "sum", 8, 5, 500),
        ("pettingzoo.butterfly.knights_archers_zombies_v11", "sum", 4, 6, 900),
    ],
)
def test_other_peoples_environments(name, rule, agents, actions, limit):
    pytest.importorskip(name.partition(":")[0].partition(".")[0])
    envs = make_vector_env(name, 2, reward=rule)
    spec = envs.team_spec
    assert (spec.n_agents, spec.n_actions, spec.episode_limit) == (agents, actions, limit)
    rng = np.random.default_rng(0)
    for _ in range(2):
        observation, _ = envs.reset(seed=[1, 2])
        ended = np.zeros(2, bool)
        for _ in range(min(limit, 120)):
            assert envs.observation_space.contains(observation)
            mask = observation["action_mask"]
            chosen = np.array([[rng.choice(np.flatnonzero(row)) for row in team_mask] for team_mask in mask])
            observation, _, terminated, truncated, _ = envs.step(chosen)
            ended |= terminated | truncated
            if ended.all():
                break
        assert ended.all() or limit > 120
    envs.close()


@pytest.mark.parametrize("name", ["mpe2.simple_tag_v3", "classic/rps_v2"])
def test_competitive_ones_are_refused_with_the_reason(name):
    pytest.importorskip("mpe2")
    with pytest.raises(ValueError, match="unlike rewards"):
        make_vector_env(name, 1)
