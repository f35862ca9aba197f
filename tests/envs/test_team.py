"""The team view on small scripted environments, with expectations worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from pettingzoo import ParallelEnv
from pettingzoo.utils import wrappers
from pettingzoo.utils.conversions import aec_to_parallel, parallel_to_aec

from smix_pz.envs import TeamEnv, make_vector_env, matrix_game_v0


def box(width, low=-9.0, high=9.0):
    return spaces.Box(low, high, (width,), np.float32)


class Scripted(ParallelEnv):
    """Tells a story: `frames` are (observations, infos) at the reset and, for each step after it,
    (observations, rewards, terminations, truncations, infos); an agent flagged in a frame is gone afterwards."""

    metadata = {"name": "scripted_v0"}  # noqa: RUF012

    def __init__(self, observation_spaces, action_spaces, frames, limit=10, state=None):
        self.possible_agents = list(action_spaces)
        self._observation_spaces, self._action_spaces = observation_spaces, action_spaces
        self.frames, self.episode_limit, self.sent = frames, limit, []
        if state is not None:
            self.state_space, self._state = state

    def observation_space(self, agent):
        return self._observation_spaces[agent]

    def action_space(self, agent):
        return self._action_spaces[agent]

    def reset(self, seed=None, options=None):
        self.time, self.agents = 0, self.possible_agents[:]
        observations, infos = self.frames[0]
        self.agents = [agent for agent in self.possible_agents if agent in observations]
        self.seen = set(self.agents)
        return observations, infos

    def step(self, actions):
        self.sent.append(actions)
        self.time += 1
        frame = self.frames[self.time]
        self.agents = [agent for agent in self.agents if not (frame[2].get(agent) or frame[3].get(agent))]
        # an agent may also be born
        self.agents += [agent for agent in frame[0] if agent not in frame[1] and agent not in self.seen]
        self.seen |= set(self.agents)
        return frame


class WithState(Scripted):
    def state(self):
        return self._state(self.time)


def frame(observations, rewards, terminated=(), truncated=(), infos=None):
    observations = {agent: np.array(row, np.float32) for agent, row in observations.items()}
    return (
        observations,
        rewards,
        {agent: agent in terminated for agent in rewards},
        {agent: agent in truncated for agent in rewards},
        infos or {agent: {} for agent in rewards},
    )


def start(observations, infos=None):
    observations = {agent: np.array(row, np.float32) for agent, row in observations.items()}
    return observations, infos or {agent: {} for agent in observations}


UNLIKE_SPACES = ({"a": box(2), "b": box(1)}, {"a": spaces.Discrete(2), "b": spaces.Discrete(3)})


def test_unlike_spaces_are_padded_and_masked():
    frames = [start({"a": [1, 2], "b": [3]}), frame({"a": [4, 5], "b": [6]}, {"a": 1.0, "b": 1.0})]
    team = TeamEnv(Scripted(*UNLIKE_SPACES, frames))
    spec = team.team_spec
    assert (spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim) == (2, 3, 2, 4)
    assert spec.agent_names == ("a", "b") and spec.agent_actions == (2, 3) and spec.episode_limit == 10
    view, info = team.reset(seed=0)
    assert view["obs"].tolist() == [[1, 2], [3, 0]] and view["obs"].dtype == np.float32
    assert view["action_mask"].tolist() == [[1, 1, 0], [1, 1, 1]] and view["action_mask"].dtype == np.int8
    assert view["state"].tolist() == [1, 2, 3, 0]  # no state(): all observations one after the other
    assert info == {}
    view, reward, terminated, truncated, _ = team.step(np.array([1, 2]))
    assert view["obs"].tolist() == [[4, 5], [6, 0]]
    assert (reward, terminated, truncated) == (1.0, False, False)
    assert team.env.sent == [{"a": 1, "b": 2}]
    with pytest.raises(ValueError, match="action 2 of a is outside its actions 0 to 1"):
        team.step(np.array([2, 0]))


def test_a_dying_agents_last_reward_and_observation_are_kept():
    frames = [
        start({"a": [1, 1], "b": [2]}),
        frame({"a": [3, 3], "b": [4]}, {"a": 10.0, "b": 1.0}, terminated="b"),
        frame({"a": [5, 5], "b": [9]}, {"a": 20.0}),  # what is still told of b, the dead, is not shown
        frame({"a": [7, 7]}, {"a": 30.0}, terminated="a"),
    ]
    team = TeamEnv(Scripted(*UNLIKE_SPACES, frames), reward="sum")
    team.reset(seed=0)
    view, reward, terminated, truncated, _ = team.step(np.array([1, 2]))
    assert reward == 11.0 and not terminated and not truncated
    assert view["obs"].tolist() == [[3, 3], [4, 0]]  # b's last observation
    assert view["action_mask"].tolist() == [[1, 1, 0], [1, 0, 0]]  # but it acts no more
    view, reward, terminated, _, _ = team.step(np.array([0, 0]))
    assert reward == 20.0 and not terminated
    assert view["obs"].tolist() == [[5, 5], [0, 0]]
    assert view["action_mask"].tolist() == [[1, 1, 0], [1, 0, 0]]
    view, reward, terminated, truncated, _ = team.step(np.array([1, 2]))  # b's 2 is nobody's action
    assert (reward, terminated, truncated) == (30.0, True, False)
    assert view["obs"].tolist() == [[7, 7], [0, 0]]
    assert team.env.sent == [{"a": 1, "b": 2}, {"a": 0}, {"a": 1}]
    with pytest.raises(RuntimeError, match="reset"):
        team.step(np.array([0, 0]))


def test_rewards_are_those_of_agents_alive_before_the_step():
    frames = [
        start({"a": [0, 0], "b": [0]}),
        frame({"a": [0, 0], "b": [0]}, {"a": 2.0, "b": 4.0}, terminated="b"),
        frame({"a": [0, 0]}, {"a": 2.0}),
    ]
    team = TeamEnv(Scripted(*UNLIKE_SPACES, frames), reward="mean")
    team.reset()
    assert team.step(np.array([0, 0]))[1] == 3.0
    assert team.step(np.array([0, 0]))[1] == 2.0  # the dead do not count, not even as zero
    told = []
    team = TeamEnv(Scripted(*UNLIKE_SPACES, frames), reward=lambda paid: told.append(paid) or max(paid.values()))
    team.reset()
    assert team.step(np.array([0, 0]))[1] == 4.0
    assert team.step(np.array([0, 0]))[1] == 2.0
    assert told == [{"a": 2.0, "b": 4.0}, {"a": 2.0}]


def test_an_agent_may_be_born_later():
    frames = [
        start({"a": [1, 1]}),
        frame({"a": [2, 2], "b": [3]}, {"a": 1.0}),
        frame({"a": [4, 4], "b": [5]}, {"a": 1.0, "b": 1.0}),
    ]
    team = TeamEnv(Scripted(*UNLIKE_SPACES, frames))
    view, _ = team.reset()
    assert view["obs"].tolist() == [[1, 1], [0, 0]] and view["action_mask"].tolist() == [[1, 1, 0], [1, 0, 0]]
    view, *_ = team.step(np.array([0, 0]))
    assert view["obs"].tolist() == [[2, 2], [3, 0]] and view["action_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    team.step(np.array([0, 2]))
    assert team.env.sent == [{"a": 0}, {"a": 0, "b": 2}]


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        ("ab", "", (True, False)),
        ("", "ab", (False, True)),
        ("a", "b", (False, True)),  # the survivor was cut off, so there was more to come
        ("ab", "ab", (True, False)),  # both flags: it is over, nothing to bootstrap from
    ],
)
def test_how_the_last_agents_end_is_how_the_team_ends(terminated, truncated, expected):
    frames = [
        start({"a": [0, 0], "b": [0]}),
        frame({"a": [1, 1], "b": [1]}, {"a": 1.0, "b": 1.0}, terminated, truncated),
    ]
    team = TeamEnv(Scripted(*UNLIKE_SPACES, frames))
    team.reset()
    assert team.step(np.array([0, 0]))[2:4] == expected


def test_masks_of_a_truncated_episodes_last_observation_are_the_environments():
    mask = {"action_mask": np.array([0, 1], np.int8)}
    nothing = {"action_mask": np.array([0, 0, 0], np.int8)}
    frames = [
        start({"a": [0, 0], "b": [0]}),
        frame({"a": [1, 1], "b": [1]}, {"a": 1.0, "b": 1.0}, "", "ab", infos={"a": mask, "b": nothing}),
    ]
    team = TeamEnv(Scripted(*UNLIKE_SPACES, frames))
    team.reset()
    view, *_ = team.step(np.array([0, 0]))
    assert view["action_mask"].tolist() == [[0, 1, 0], [1, 0, 0]]  # b reports none: the placeholder


def test_the_episode_limit_truncates():
    frames = [start({"a": [0, 0], "b": [0]})] + [frame({"a": [1, 1], "b": [1]}, {"a": 1.0, "b": 1.0})] * 3
    team = TeamEnv(Scripted(*UNLIKE_SPACES, frames), episode_limit=2)
    team.reset()
    assert team.step(np.array([0, 0]))[2:4] == (False, False)
    view, _, terminated, truncated, _ = team.step(np.array([0, 0]))
    assert (terminated, truncated) == (False, True)
    assert view["action_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]  # a learner bootstraps from here
    team.reset()
    assert team.step(np.array([0, 0]))[2:4] == (False, False)  # the count began anew


def test_termination_at_the_limit_is_termination():
    frames = [start({"a": [0, 0], "b": [0]}), frame({"a": [1, 1], "b": [1]}, {"a": 1.0, "b": 1.0}, "ab")]
    team = TeamEnv(Scripted(*UNLIKE_SPACES, frames), episode_limit=1)
    team.reset()
    assert team.step(np.array([0, 0]))[2:4] == (True, False)


def test_actions_that_do_not_start_at_zero():
    actions = {"a": spaces.Discrete(2, start=1), "b": spaces.Discrete(3, start=-1)}
    frames = [start({"a": [0, 0], "b": [0]}), frame({"a": [1, 1], "b": [1]}, {"a": 1.0, "b": 1.0})]
    team = TeamEnv(Scripted(UNLIKE_SPACES[0], actions, frames))
    team.reset()
    team.step(np.array([1, 2]))
    assert team.env.sent == [{"a": 2, "b": 1}]


def test_masks_in_observations_and_infos_are_both_read():
    masked = spaces.Dict({"observation": box(2), "action_mask": spaces.Box(0, 1, (3,), np.int8)})
    observations = {
        "a": {"observation": np.array([1, 2], np.float32), "action_mask": np.array([0, 1, 1], np.int8)},
        "b": np.array([3], np.float32),
        "c": {"observation": np.array([4, 5], np.float32), "action_mask": np.array([1, 1, 0], np.int8)},
    }
    infos = {"a": {}, "b": {"action_mask": np.array([1, 0, 1])}, "c": {"action_mask": [False, True, True]}}
    env = Scripted(
        {"a": masked, "b": box(1), "c": masked}, dict.fromkeys("abc", spaces.Discrete(3)), [(observations, infos)]
    )
    team = TeamEnv(env)
    assert team.team_spec.obs_dim == 2  # the mask is no part of the observation
    view, _ = team.reset()
    assert view["obs"].tolist() == [[1, 2], [3, 0], [4, 5]]
    assert view["action_mask"].tolist() == [[0, 1, 1], [1, 0, 1], [0, 1, 0]]


def test_an_agent_without_a_legal_action_is_an_error():
    infos = {"a": {"action_mask": np.zeros(2, np.int8)}, "b": {}}
    team = TeamEnv(Scripted(*UNLIKE_SPACES, [start({"a": [0, 0], "b": [0]}, infos)]))
    with pytest.raises(ValueError, match="a is alive, but its action mask allows no action"):
        team.reset()
    infos = {"a": {"action_mask": np.ones(5, np.int8)}, "b": {}}
    team = TeamEnv(Scripted(*UNLIKE_SPACES, [start({"a": [0, 0], "b": [0]}, infos)]))
    with pytest.raises(ValueError, match="mask of a has 5 entries, expected 2"):
        team.reset()


def test_composite_observations_are_flattened():
    composite = spaces.Dict({"grid": spaces.Box(0, 5, (2, 2), np.float32), "kind": spaces.Discrete(3)})
    pair = spaces.Tuple((spaces.MultiBinary(2), box(1)))
    observations = {
        "a": {"grid": np.array([[1, 2], [3, 4]], np.float32), "kind": 2},
        "b": (np.array([1, 0], np.int8), np.array([7], np.float32)),
    }
    env = Scripted({"a": composite, "b": pair}, dict.fromkeys("ab", spaces.Discrete(2)), [(observations, {})])
    view, _ = TeamEnv(env).reset()
    assert view["obs"].tolist() == [[1, 2, 3, 4, 0, 0, 1], [1, 0, 7, 0, 0, 0, 0]]


def test_a_reported_state_is_used():
    state = (spaces.Box(0, 100, (2, 2), np.float64), lambda time: np.full((2, 2), 10.0 + time))
    frames = [start({"a": [0, 0], "b": [0]}), frame({"a": [1, 1], "b": [1]}, {"a": 1.0, "b": 1.0})]
    team = TeamEnv(WithState(*UNLIKE_SPACES, frames, state=state))
    assert team.team_spec.state_dim == 4
    view, _ = team.reset()
    assert view["state"].tolist() == [10] * 4 and view["state"].dtype == np.float32
    view, *_ = team.step(np.array([0, 0]))
    assert view["state"].tolist() == [11] * 4


def test_a_state_space_without_a_state_falls_back_to_observations():
    state = (box(7), None)
    team = TeamEnv(Scripted(*UNLIKE_SPACES, [start({"a": [1, 2], "b": [3]})], state=state))
    assert team.team_spec.state_dim == 4
    assert team.reset()[0]["state"].tolist() == [1, 2, 3, 0]


def test_wrappers_do_not_hide_that_there_is_no_state():
    state = (box(7), None)
    env = Scripted(*UNLIKE_SPACES, [start({"a": [1, 2], "b": [3]})], state=state)
    env.render_mode = None
    # Before the first reset this wrapper refuses to be asked for a state at all.
    team = TeamEnv(aec_to_parallel(wrappers.OrderEnforcingWrapper(parallel_to_aec(env))))
    assert team.reset()[0]["state"].tolist() == [1, 2, 3, 0]


def test_unlike_rewards_need_a_rule():
    frames = [start({"a": [0, 0], "b": [0]}), frame({"a": [1, 1], "b": [1]}, {"a": 1.0, "b": -1.0})]
    team = TeamEnv(Scripted(*UNLIKE_SPACES, frames))
    team.reset()
    with pytest.raises(ValueError, match=r"a 1\.0, b -1\.0.*mean.*sum"):
        team.step(np.array([0, 0]))


def test_battle_won_is_told_to_the_team():
    def told(*values):
        infos = dict(zip("ab", ({"battle_won": value, "other": 3} for value in values), strict=True))
        return frame({"a": [1, 1], "b": [1]}, {"a": 1.0, "b": 1.0}, infos=infos)

    frames = [start({"a": [0, 0], "b": [0]}), told(False, False), told(False, True), told(True, True)]
    team = TeamEnv(Scripted(*UNLIKE_SPACES, frames))
    assert team.reset()[1] == {}
    assert [team.step(np.array([0, 0]))[4] for _ in range(3)] == [
        {"battle_won": False},
        {"battle_won": True},
        {"battle_won": True},
    ]


def test_environments_that_are_refused():
    observations, actions = UNLIKE_SPACES
    frames = [start({"a": [0, 0], "b": [0]})]
    with pytest.raises(TypeError, match=r"action space of b is Box.*expected Discrete"):
        TeamEnv(Scripted(observations, {**actions, "b": box(2)}, frames))
    with pytest.raises(TypeError, match=r"observation of a has the space.*cannot be flattened"):
        TeamEnv(Scripted({**observations, "a": spaces.Sequence(box(1))}, actions, frames))
    with pytest.raises(ValueError, match="pass episode_limit="):
        TeamEnv(Scripted(observations, actions, frames, limit=None))
    with pytest.raises(ValueError, match="no possible_agents"):
        TeamEnv(Scripted({}, {}, frames))
    with pytest.raises(TypeError, match="expected a ParallelEnv, got str"):
        TeamEnv("matrix_game_v0")
    with pytest.raises(ValueError, match="reward rule 'men' is not known; did you mean 'mean'"):
        TeamEnv(Scripted(observations, actions, frames), reward="men")
    with pytest.raises(TypeError, match="callable"):
        TeamEnv(Scripted(observations, actions, frames), reward=3)


def test_a_team_action_of_the_wrong_form():
    team = TeamEnv(Scripted(*UNLIKE_SPACES, [start({"a": [0, 0], "b": [0]})]))
    team.reset()
    for action in ([0], [0.0, 1.0], 3, [[0, 0]]):
        with pytest.raises(ValueError, match="2 integers, one for each of"):
            team.step(np.array(action))


@pytest.mark.parametrize("attribute", ["episode_limit", "max_cycles", "max_steps"])
def test_the_limit_is_found_on_the_environment(attribute):
    env = Scripted(*UNLIKE_SPACES, [start({"a": [0, 0], "b": [0]})], limit=None)
    setattr(env, attribute, 7)
    assert TeamEnv(env).team_spec.episode_limit == 7
    assert TeamEnv(env, episode_limit=3).team_spec.episode_limit == 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("arguments", [{"m": 1}, {"m": 5}])
def test_gymnasiums_checker_accepts_the_team_view(arguments):
    # With unlike numbers of actions the checker cannot apply: it samples actions without looking at the mask.
    check_env(TeamEnv(matrix_game_v0.parallel_env(**arguments)), skip_render_check=True)


def test_observations_lie_in_the_space_that_was_announced():
    frames = [
        start({"a": [1, -2], "b": [3]}),
        frame({"a": [9, -9], "b": [4]}, {"a": 1.0, "b": 1.0}, terminated="b"),
        frame({"a": [5, 5]}, {"a": 1.0}),
    ]
    observations = {"a": box(2), "b": spaces.Box(2, 5, (1,), np.float32)}
    team = TeamEnv(Scripted(observations, UNLIKE_SPACES[1], frames))
    views = [team.reset()[0], team.step(np.array([0, 0]))[0], team.step(np.array([0, 0]))[0]]
    assert all(team.observation_space.contains(view) for view in views)  # b's zero too, though b itself never sees it


def test_an_environments_object_and_its_class_give_the_same():
    one = make_vector_env(matrix_game_v0.parallel_env(m=3))
    other = make_vector_env(matrix_game_v0.parallel_env, m=3)
    for envs in (one, other):
        envs.reset(seed=[0])
    for actions in ([[0, 0]], [[0, 0]], [[1, 1]]):
        assert [str(part) for part in one.step(actions)] == [str(part) for part in other.step(actions)]
