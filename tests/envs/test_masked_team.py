"""masked_team_v0: its rules by hand, its values by brute force, its mistakes, PettingZoo's tests and the team view."""

from __future__ import annotations

import re
import sys
import warnings
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, render_test, seed_test
from pettingzoo.test.state_test import state_test

from smix_pz.envs import TeamEnv, make_team_env, make_vector_env, masked_team_v0
from smix_pz.envs.drawing import Window

AGENTS = ("scout_0", "porter_0", "guard_0")
# In the order of the one-hot in observations, as docs/environments.md gives it; not taken from the module.
PLACES = "camp field gorge road meadow swamp bog ledge plateau peak summit over".split()
BEST = [(1, 0, 0), (0, 1, 1), (1, 0, 3), (None, 2, 3), (None, 1, 2)]
DOCS = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")
MISTAKES = ("truncation_ends", "termination_continues", "masks_ignored", "leavers_unpaid")


class Coins:
    """In place of a random stream: gives what it is told, and counts."""

    def __init__(self, *values):
        self.values, self.tossed = list(values), 0

    def random(self):
        self.tossed += 1
        return self.values.pop(0) if self.values else 1.0


def joint(env, actions):
    """{agent: action} of the agents who are there; None stands for one who is not."""
    return {agent: action for agent, action in zip(AGENTS, actions, strict=True) if agent in env.agents}


def play(actions, coins=(), **arguments):
    """Results of step for joint actions, all of which are played."""
    env = masked_team_v0.parallel_env(**arguments)
    env.reset(seed=0)
    env.np_random = Coins(*coins)
    results = []
    for one in actions:
        assert env.agents
        results.append(env.step(joint(env, one)))
    return env, results


def place_of(env):
    return PLACES[int(env.state()[: len(PLACES)].argmax())]


# The rules, by hand -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "rewards", "places"),
    [
        (BEST, [0, 0, 2, 3, 5], "gorge ledge peak summit over"),
        ([*BEST[:3], (None, 1, 0), (None, 1, 3)], [0, 0, 2, 0, 2], "gorge ledge peak summit over"),
        ([*BEST[:3], (None, 2, 0), (None, 0, 1)], [0, 0, 2, 1, 0], "gorge ledge peak summit over"),
        ([*BEST[:3], (None, 1, 3), (None, 0, 2)], [0, 0, 2, 2, 2], "gorge ledge peak summit over"),
        ([*BEST[:2], (0, 0, 3), (0, 1, 2)], [0, 0, 0, 5], "gorge ledge plateau over"),
        ([*BEST[:2], (0, 0, 3), (0, 0, 2)], [0, 0, 0, 2], "gorge ledge plateau over"),
        ([*BEST[:2], (0, 0, 3), (0, 0, 1)], [0, 0, 0, 0], "gorge ledge plateau over"),
        ([(0, 0, 0), (0, 0, 0)], [0, 4], "field road"),
        ([(0, 0, 0), (0, 1, 0), (0, 1, 3)], [0, 0, 7], "field road over"),
        ([(0, 0, 0), (0, 1, 0), (0, 0, 3)], [0, 0, 3], "field road over"),
        ([(0, 0, 0), (0, 1, 0), (0, 0, 2)], [0, 0, 0], "field road over"),
        ([(0, 0, 0), (0, 2, 0), (1, 2, 3)], [0, 6, 0], "field meadow over"),
        ([(1, 0, 0), (0, 1, 2), (0, 1, 1), (1, 0, 0)], [0, 11, -8, 0], "gorge swamp bog over"),
        ([(1, 0, 0), (0, 1, 2), (0, 0, 1), (1, 0, 0)], [0, 11, -9, 0], "gorge swamp bog over"),
        ([(1, 0, 0), (0, 1, 2), (0, 0, 0), (1, 0, 0)], [0, 11, -10, 0], "gorge swamp bog over"),
    ],
)
def test_whole_episodes(actions, rewards, places):
    env, results = play(actions)
    assert [result[1][AGENTS[1]] for result in results] == rewards
    for _, paid, *_ in results:
        assert len(set(paid.values())) == 1  # all who acted are paid alike
    shown = [PLACES[int(result[0]["porter_0"]["observation"].argmax())] for result in results]
    assert shown == places.split()
    assert env.agents == [] and not any(any(result[3].values()) for result in results)
    for result in results[:-1]:
        assert not result[2]["porter_0"] and not result[2]["guard_0"]
    assert all(results[-1][2].values())  # a termination, of all who were left
    with pytest.raises(RuntimeError, match="ended"):
        env.step({"porter_0": 0})
    assert env.step({}) == ({}, {}, {}, {}, {})


def test_the_scout_dies_is_paid_and_the_others_play_on():
    env, results = play(BEST[:3])
    observations, rewards, terminations, truncations, infos = results[-1]
    assert rewards == {"scout_0": 2.0, "porter_0": 2.0, "guard_0": 2.0}
    assert terminations == {"scout_0": True, "porter_0": False, "guard_0": False}
    assert not any(truncations.values())
    assert env.agents == ["porter_0", "guard_0"]
    assert observations["scout_0"]["observation"].tolist() == [0, 0, 0, 1, 0, 0]
    assert observations["scout_0"]["action_mask"].tolist() == infos["scout_0"]["action_mask"].tolist() == [1, 0]
    assert env.state()[-3:].tolist() == [0, 1, 1]
    for part in env.step({"porter_0": 2, "guard_0": 3}):
        assert set(part) == {"porter_0", "guard_0"}
    with pytest.raises(ValueError, match=r"one action for each of \['porter_0', 'guard_0'\]"):
        env.step({"scout_0": 0, "porter_0": 1, "guard_0": 2})


def test_the_first_shaky_move_truncates_all():
    env, results = play(BEST[:2], coins=[0.49])
    observations, rewards, terminations, truncations, infos = results[-1]
    assert env.agents == [] and env.moves == 2 < env.episode_limit
    assert not any(terminations.values()) and all(truncations.values()) and len(truncations) == 3
    assert set(rewards.values()) == {0.0} and place_of(env) == "ledge"
    # what a learner bootstraps from looks as it does where the episode goes on
    _, going_on = play(BEST[:2], coins=[0.5])
    assert not any(going_on[-1][3].values())
    for agent in AGENTS:
        for key in ("observation", "action_mask"):
            assert np.array_equal(observations[agent][key], going_on[-1][0][agent][key])
        assert infos[agent]["action_mask"].sum() == {"scout_0": 2, "porter_0": 1, "guard_0": 1}[agent]


def test_the_second_shaky_move_kills_one_and_truncates_the_others():
    env, results = play(BEST[:3], coins=[0.5, 0.49])
    _, rewards, terminations, truncations, _ = results[-1]
    assert env.agents == [] and set(rewards.values()) == {2.0}
    assert terminations == {"scout_0": True, "porter_0": False, "guard_0": False}
    assert truncations == {"scout_0": False, "porter_0": True, "guard_0": True}


def test_coins_are_tossed_on_shaky_moves_alone_and_come_from_the_seed():
    for actions, tosses in ((BEST, 2), ([(0, 0, 0), (0, 1, 0), (0, 1, 3)], 0), ([*BEST[:2], (0, 0, 3), (0, 1, 2)], 1)):
        assert play(actions)[0].np_random.tossed == tosses

    def lengths(env, first_seed):
        found = []
        for episode in range(400):
            env.reset(seed=None if episode and first_seed is None else (first_seed or 0) + episode)
            for one in BEST:
                if env.agents:
                    env.step(joint(env, one))
            found.append(env.moves)
        return found

    env = masked_team_v0.parallel_env()
    one = lengths(env, 7)
    assert one == lengths(masked_team_v0.parallel_env(), 7)  # each episode from its seed
    assert one != lengths(env, 1007)
    unseeded = lengths(env, None)  # only the first reset is seeded: the stream goes on
    assert set(one) == set(unseeded) == {2, 3, 5}
    for found in (one, unseeded):  # half, a quarter, a quarter; 400 draws have a standard deviation below 0.025
        assert abs(found.count(2) / 400 - 0.5) < 0.1 and abs(found.count(3) / 400 - 0.25) < 0.1
    assert set(lengths(masked_team_v0.parallel_env(cut=0), 0)) == {5}
    assert set(lengths(masked_team_v0.parallel_env(cut=1), 0)) == {2}


def test_a_late_guard_joins_by_the_first_step_and_changes_nothing_else():
    env = masked_team_v0.parallel_env(cut=0, late_guard=True)
    observations, infos = env.reset(seed=0)
    assert env.agents == list(observations) == list(infos) == ["scout_0", "porter_0"]
    assert env.state()[-3:].tolist() == [1, 1, 0]
    with pytest.raises(ValueError, match="one action for each"):
        env.step({"scout_0": 1, "porter_0": 0, "guard_0": 0})
    observations, rewards, terminations, _, infos = env.step({"scout_0": 1, "porter_0": 0})
    assert env.agents == list(AGENTS)
    assert rewards == dict.fromkeys(AGENTS, 0.0) and not any(terminations.values())
    assert infos["guard_0"]["action_mask"].tolist() == [0, 1, 1, 0]
    assert env.state()[-3:].tolist() == [1, 1, 1]
    assert observations["guard_0"]["observation"].tolist() == env.state().tolist()
    others = [env.step(joint(env, one)) for one in BEST[1:]]
    _, known = play(BEST, late_guard=False, cut=0)
    assert [one[1:4] for one in others] == [one[1:4] for one in known[1:]]
    env.reset()
    assert env.agents == ["scout_0", "porter_0"]  # away again


# Masks ------------------------------------------------------------------------------------------------------------


def legal_by_place():
    """What masks allow at every place that can be reached, seen in play: {place: per agent}."""
    seen = {}
    for episode in episodes():
        for step in episode:
            seen[step.place] = step.legal
    return seen


def test_masks_are_those_of_the_rules():
    assert legal_by_place() == {
        "camp": ((0, 1), (0,), (0,)),
        "field": ((0,), (0, 1, 2), (0,)),
        "gorge": ((0,), (1,), (1, 2)),
        "road": ((0,), (0, 1), (2, 3)),
        "meadow": ((0, 1), (2,), (0, 1, 2, 3)),
        "swamp": ((0,), (0, 1), (0, 1)),
        "bog": ((1,), (0,), (0,)),
        "ledge": ((0, 1), (0,), (3,)),
        "plateau": ((0,), (0, 1), (1, 2)),
        "peak": ((), (1, 2), (0, 3)),
        "summit": ((), (0, 1), (1, 2, 3)),
    }


def test_the_docstrings_map_has_these_masks():
    rows = re.findall(r"^\| (\w+) +\| ([\d ]+|dead +)\| ([\d ]+)\| ([\d ]+)\|", masked_team_v0.__doc__, re.MULTILINE)
    told = {
        name: tuple(tuple(map(int, one.split())) if one.strip() != "dead" else () for one in legal)
        for name, *legal in rows
    }
    assert told == {**legal_by_place(), "over": ((0,), (0,), (0,))}


def test_an_illegal_action_becomes_the_lowest_legal_one_and_is_counted():
    env = masked_team_v0.parallel_env(cut=0)
    _, infos = env.reset(seed=0)
    assert [infos[agent]["illegal_actions"] for agent in AGENTS] == [0, 0, 0]
    *_, infos = env.step({"scout_0": 1, "porter_0": 2, "guard_0": 3})
    assert place_of(env) == "gorge"
    assert [infos[agent]["illegal_actions"] for agent in AGENTS] == [0, 1, 1]
    *_, infos = env.step({"scout_0": 1, "porter_0": 0, "guard_0": 0})  # guard: 1 is the lowest legal one, not 0
    assert place_of(env) == "ledge"
    assert [infos[agent]["illegal_actions"] for agent in AGENTS] == [1, 2, 2]
    _, rewards, _, _, infos = env.step({"scout_0": 1, "porter_0": 0, "guard_0": 3})
    assert rewards["guard_0"] == 2 and infos["porter_0"]["illegal_actions"] == 2
    env.step({"porter_0": 0, "guard_0": 0})  # porter: 1
    assert env.total == 2
    _, infos = env.reset()
    assert infos["guard_0"]["illegal_actions"] == 0


def test_strict_refuses_illegal_actions_and_plays_nothing():
    env = masked_team_v0.parallel_env(cut=0, strict=True)
    env.reset(seed=0)
    env.step({"scout_0": 1, "porter_0": 0, "guard_0": 0})
    with pytest.raises(ValueError, match=r"action 3 of guard_0 is illegal at gorge; its legal actions are \[1, 2\]"):
        env.step({"scout_0": 0, "porter_0": 1, "guard_0": 3})
    assert env.moves == 1 and place_of(env) == "gorge"
    *_, infos = env.step({"scout_0": 0, "porter_0": 1, "guard_0": 1})
    assert infos["guard_0"]["illegal_actions"] == 0


def test_actions_that_no_agent_has_are_refused():
    env = masked_team_v0.parallel_env()
    with pytest.raises(RuntimeError, match="before reset"):
        env.step({})
    env.reset()
    for agent, wrong in product(AGENTS, (99, -1, 0.5, "0", None)):
        with pytest.raises(ValueError, match=rf"of {agent} is outside Discrete\(\d\): expected an integer from 0"):
            env.step({**dict.fromkeys(AGENTS, 0), agent: wrong})
    for actions in ({"scout_0": 0}, {**dict.fromkeys(AGENTS, 0), "cook_0": 0}):
        with pytest.raises(ValueError, match="one action for each"):
            env.step(actions)
    assert env.moves == 0


# Values -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """What was seen of one step, through the environment's surface alone."""

    place: str
    legal: tuple
    actions: tuple
    reward: float
    acted: int
    left: int
    shaky: bool
    shown: str


@cache
def episodes():
    """All episodes of legal joint actions, tuples of Step: every sequence is played from the start."""
    found, open_ends = [], [()]
    while open_ends:
        sequence = open_ends.pop()
        env = masked_team_v0.parallel_env()
        observations, _ = env.reset(seed=0)
        coins = env.np_random = Coins()  # 1.0 for ever: never cut
        steps = []
        for actions in (*sequence, None):
            legal = tuple(
                tuple(np.flatnonzero(observations[agent]["action_mask"]).tolist()) if agent in env.agents else ()
                for agent in AGENTS
            )
            if actions is None:
                break
            place, acted, tossed = place_of(env), env.agents, coins.tossed
            observations, rewards, _, truncations, _ = env.step(joint(env, actions))
            assert not any(truncations.values())
            (reward,) = {rewards[agent] for agent in acted}
            shaky = coins.tossed > tossed
            steps.append(Step(place, legal, actions, reward, len(acted), len(env.agents), shaky, place_of(env)))
        if env.agents:
            open_ends += [(*sequence, actions) for actions in product(*(one or (0,) for one in legal))]
        else:
            found.append(tuple(steps))
    return found


def worth(steps, gamma, mistake, cut, forced):
    """What a learner who makes the mistake takes these last steps of an episode to be worth, the first one forced."""
    total, discount = 0.0, 1.0
    so_far = [] if forced else [0.0]
    for step in steps:
        stops = cut if step.shaky else 0.0
        reward = step.reward
        if mistake == "leavers_unpaid":
            reward *= (1.0 - stops) * step.left / step.acted
        total += discount * reward
        so_far.append(total)
        discount *= gamma * (1.0 - stops if mistake == "truncation_ends" else 1.0)
    if mistake == "termination_continues" and steps[-1].shown != "over":
        total += discount * brute_force(steps[-1].shown, gamma, mistake, cut)
    # an illegal action is taken to end it all, at any time, for nothing
    return max(so_far) if mistake == "masks_ignored" else total


def brute_force(place, gamma, mistake, cut, actions=None):
    """Best worth of all ends of episodes that begin at the place (with the joint action)."""
    return max(
        worth(episode[t:], gamma, mistake, cut, forced=actions is not None)
        for episode in episodes()
        for t, step in enumerate(episode)
        if step.place == place and actions in (None, step.actions)
    )


def test_there_are_so_many_episodes():
    lengths = [len(episode) for episode in episodes()]
    # by hand: field 1 + 4 + 8, swamp 4, plateau 4, summit 4 * 6
    assert (lengths.count(2), lengths.count(3), lengths.count(4), lengths.count(5)) == (1, 12, 8, 24)
    assert len(lengths) == 45 and masked_team_v0.parallel_env().episode_limit == 5
    assert max(sum(step.reward for step in episode) for episode in episodes()) == 10
    best = [episode for episode in episodes() if sum(step.reward for step in episode) == 10]
    assert [[step.actions for step in episode] for episode in best] == [[tuple(a or 0 for a in one) for one in BEST]]


@pytest.mark.parametrize("mistake", [None, *MISTAKES])
@pytest.mark.parametrize(("gamma", "cut"), [(1, 0.5), (0.99, 0.5), (0.9, 0.3), (0.5, 1.0), (0.0, 0.0)])
def test_values_by_brute_force(mistake, gamma, cut):
    assert masked_team_v0.PLACES == tuple(PLACES)
    values = masked_team_v0.optimal_values(gamma, mistake, cut=cut)
    table = masked_team_v0.action_values(gamma, mistake, cut=cut)
    assert values.shape == (12,) and table.shape == (12, 2, 3, 4) and values.dtype == table.dtype == np.float64
    legal = legal_by_place()
    for index, place in enumerate(PLACES[:-1]):
        assert values[index] == pytest.approx(brute_force(place, gamma, mistake, cut), abs=1e-12), place
        options = set(product(*(one or (0,) for one in legal[place])))
        for actions in np.ndindex(2, 3, 4):
            if actions in options:
                expected = brute_force(place, gamma, mistake, cut, actions)
                assert table[(index, *actions)] == pytest.approx(expected, abs=1e-12), (place, actions)
            else:
                assert table[(index, *actions)] == -np.inf
    assert values[-1] == 0 and np.isfinite(table[-1]).sum() == 1 and table[-1, 0, 0, 0] == 0


def test_each_mistake_has_a_value_and_a_greedy_return_of_its_own():
    """And the docstring and docs/environments.md tell them."""
    assert tuple(masked_team_v0.MISTAKES) == MISTAKES
    rows = []
    for mistake in (None, *MISTAKES):
        values = [float(masked_team_v0.optimal_values(gamma, mistake)[0]) for gamma in (1.0, 0.99)]
        for gamma in (1.0, 0.99, 0.95, 0.9):
            table = masked_team_v0.action_values(gamma, mistake)
            env = masked_team_v0.parallel_env(cut=0, strict=True)
            env.reset(seed=0)
            while env.agents:
                here = table[PLACES.index(place_of(env))]
                env.step(joint(env, np.unravel_index(here.argmax(), here.shape)))
            if gamma == 1.0:
                total = env.total
            assert env.total == total, (mistake, gamma)
        rows.append((mistake or "right", f"{values[0]:g}", f"{round(values[1], 4):g}", f"{total:g}"))
    assert rows == [
        ("right", "10", "9.6741", "10"),
        ("truncation_ends", "7", "6.8607", "7"),
        ("termination_continues", "11", "10.8207", "4"),
        ("masks_ignored", "11", "10.89", "3"),
        ("leavers_unpaid", "6", "5.94", "6"),
    ]
    for name, one, other, total in rows:
        line = rf"\| {name} +\|[^|]*\| {re.escape(one)} +\| {re.escape(other)} +\|[^|]*\| {total} +\|"
        assert re.search(line, masked_team_v0.__doc__), name
        assert re.search(rf"\| {name}[^|]* \| {re.escape(one)} \| {re.escape(other)} \| {total} \|", DOCS), name


def test_what_mishandling_one_truncation_alone_costs():
    """The docstring's 3, 5 and 6: value of the best route where both, the first or the second cut counts as an end."""
    (best,) = [episode for episode in episodes() if sum(step.reward for step in episode) == 10]
    shaky = [t for t, step in enumerate(best) if step.shaky]
    assert shaky == [1, 2]
    found = []
    for ends in ((1, 2), (1,), (2,)):
        kept, total = 1.0, 0.0
        for t, step in enumerate(best):
            total += kept * step.reward
            kept *= 0.5 if t in ends else 1.0
        found.append(total)
    assert found == [3, 5, 6]
    assert "finds 3 in place of 10 for the best route, 5 if it mishandles the first" in masked_team_v0.__doc__


def test_outcomes_and_values_refuse_what_they_do_not_know():
    with pytest.raises(ValueError, match="mistake 'truncation_end' is not known; did you mean 'truncation_ends'"):
        masked_team_v0.optimal_values(0.9, "truncation_end")
    with pytest.raises(ValueError, match=r"gamma must be a number from 0 to 1, got 1\.5; the nearest is 1"):
        masked_team_v0.optimal_values(1.5)
    with pytest.raises(TypeError, match="gamma must be a number from 0 to 1, got '1'"):
        masked_team_v0.action_values("1")
    with pytest.raises(ValueError, match=r"cut must be a number from 0 to 1, got -1; the nearest is 0"):
        masked_team_v0.parallel_env(cut=-1)
    with pytest.raises(TypeError, match="cut must be a number from 0 to 1, got True"):
        masked_team_v0.parallel_env(cut=True)
    with pytest.raises(ValueError, match="place 'leg' is not known; did you mean 'ledge'"):
        masked_team_v0.outcome("leg", (0, 0, 0))
    with pytest.raises(ValueError, match=r"action 2 of guard_0 is illegal at ledge; its legal actions are \[3\]"):
        masked_team_v0.outcome("ledge", (0, 0, 2))
    with pytest.raises(ValueError, match="did you mean 'rgb_array'"):
        masked_team_v0.parallel_env(render_mode="rgb")
    with pytest.raises(TypeError, match="did you mean 'late_guard'"):
        make_vector_env("masked_team_v0", late_gard=True)


# PettingZoo's own tests -------------------------------------------------------------------------------------------

CASES = [{}, {"late_guard": True}, {"cut": 0.0}, {"cut": 1.0, "strict": True}]


@pytest.mark.parametrize("arguments", CASES, ids=range(len(CASES)))
def test_pettingzoos_own(arguments):
    factories = partial(masked_team_v0.parallel_env, **arguments), partial(masked_team_v0.env, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Wishes of api_test that no environment with masks in Dict observations, or with unlike agents, can grant.
        warnings.filterwarnings("ignore", message=".*should be gymnasium.spaces.box or gymnasium.spaces.discrete")
        warnings.filterwarnings("ignore", message="Observation is not a NumPy array")
        warnings.filterwarnings("ignore", message="Observations are different shapes")
        warnings.filterwarnings("ignore", message="Agents have different observation space sizes")
        parallel_api_test(factories[0](), num_cycles=100)
        api_test(factories[1](), num_cycles=100)
        if not arguments.get("strict"):  # these two ignore masks
            parallel_seed_test(factories[0])
            state_test(factories[1](), factories[0]())
        if not arguments.get("late_guard"):  # seeds only the action spaces of those present at the start
            seed_test(factories[1])


@pytest.mark.parametrize("late_guard", [False, True])
def test_the_aec_form_plays_the_same_episodes(late_guard):
    rng = np.random.default_rng(0)
    aec = masked_team_v0.env(late_guard=late_guard, strict=True)
    parallel = masked_team_v0.parallel_env(late_guard=late_guard, strict=True)
    for seed in range(60):
        aec.reset(seed=seed)
        paid, actions = dict.fromkeys(AGENTS, 0.0), {agent: [] for agent in AGENTS}
        for agent in aec.agent_iter():
            observation, reward, terminated, truncated, _ = aec.last()
            paid[agent] += reward
            action = None
            if not (terminated or truncated):
                action = rng.choice(np.flatnonzero(observation["action_mask"]))
                actions[agent].append(action)
            aec.step(action)
        parallel.reset(seed=seed)
        while parallel.agents:
            rewards = parallel.step({agent: actions[agent].pop(0) for agent in parallel.agents})[1]
            for agent, reward in rewards.items():
                paid[agent] -= reward
        assert not any(paid.values()) and not any(actions.values())
    aec.reset()
    with pytest.raises(AssertionError):
        aec.step(99)


def test_observations_lie_in_their_spaces_and_are_nobodys_arrays():
    rng = np.random.default_rng(0)
    env = masked_team_v0.parallel_env(late_guard=True)
    assert [env.observation_space(agent)["observation"].shape for agent in AGENTS] == [(6,), (12,), (15,)]
    assert [env.action_space(agent).n for agent in AGENTS] == [2, 3, 4]
    ends = set()
    for seed in range(200):
        observations, infos = env.reset(seed=seed)
        while True:
            for agent, seen in observations.items():
                assert env.observation_space(agent).contains(seen)
                assert np.array_equal(seen["action_mask"], infos[agent]["action_mask"])
                assert seen["action_mask"].dtype == infos[agent]["action_mask"].dtype == np.int8
            assert env.state_space.contains(env.state())
            if not env.agents:
                break
            actions = {a: rng.choice(np.flatnonzero(observations[a]["action_mask"])) for a in env.agents}
            for seen in observations.values():
                seen["observation"][:] = seen["action_mask"][:] = 9  # must not reach the environment
            observations, _, _, truncations, infos = env.step(actions)
        ends.add((env.moves, any(truncations.values())))
    assert ends == {(2, False), (2, True), (3, False), (3, True), (4, False), (5, False)}


# The team view ----------------------------------------------------------------------------------------------------


def test_the_team_view_of_a_whole_episode():
    team = make_team_env("masked_team_v0", cut=0, late_guard=True)
    spec = team.unwrapped.team_spec
    assert (spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim, spec.episode_limit) == (3, 4, 15, 15, 5)
    assert spec.agent_names == AGENTS and spec.agent_actions == (2, 3, 4) and not spec.has_win
    assert spec.engine["rules"] == "r1" and spec.env_id == "smix_pz/masked_team-v0"
    view, info = team.reset(seed=0)
    assert view["action_mask"].tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    assert not view["obs"][2].any()  # the guard is not there: zeros, and the placeholder is its one legal action
    assert view["obs"][0].tolist() == [1] + 14 * [0] and info["illegal_actions"] == 0
    masks = [
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0]],  # gorge: the guard has joined
        [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]],  # ledge
        [[1, 0, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]],  # peak: the scout is dead
        [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 1]],  # summit
        [[1, 0, 0, 0]] * 3,
    ]
    actions = [(1, 0, 3), (0, 1, 1), (1, 0, 3), (1, 2, 3), (1, 1, 2)]  # of the absent, anything: it is not sent
    rewards, ends = [], []
    for one, mask in zip(actions, masks, strict=True):
        view, reward, terminated, truncated, info = team.step(np.array(one))
        assert team.observation_space.contains(view)
        assert view["action_mask"].tolist() == mask
        assert np.array_equal(view["state"], team.unwrapped.env.state())
        assert view["obs"][0].argmax() == len(rewards) + 1 or not view["obs"][0].any()
        rewards.append(reward)
        ends.append((terminated, truncated))
        if len(rewards) == 3:
            assert view["obs"][0].tolist() == [0, 0, 0, 1] + 11 * [0]  # the dying scout's last observation is kept
        elif len(rewards) > 3:
            assert not view["obs"][0].any()
    assert rewards == [0, 0, 2, 3, 5]  # the last one too, though no agent is left by then
    assert ends == [(False, False)] * 4 + [(True, False)]
    assert info["illegal_actions"] == 0


@pytest.mark.parametrize(("coins", "length"), [([0.0], 2), ([1.0, 0.0], 3)])
def test_the_team_is_truncated_where_any_survivor_was_cut_off(coins, length):
    game = masked_team_v0.parallel_env()
    team = TeamEnv(game)
    team.reset(seed=0)
    game.np_random = Coins(*coins)
    for one in BEST[:length]:
        view, reward, terminated, truncated, _ = team.step(np.array([action or 0 for action in one]))
    assert (terminated, truncated) == (False, True)
    assert reward == {2: 0, 3: 2}[length]
    legal = {2: [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], 3: [[1, 0, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]]}[length]
    assert view["action_mask"].tolist() == legal  # a learner bootstraps from here


def test_rewards_are_those_of_the_agents_before_the_step():
    """Under "sum" a dying agent counts: 3 * 2, 2 * 3, 2 * 5. Read after the step they were 2 * 2, 2 * 3, nothing."""
    envs = make_vector_env("masked_team_v0", 2, reward="sum", cut=0)
    envs.reset(seed=[0, 1])
    paid = []
    for one in BEST:
        _, rewards, *_ = envs.step(np.array([[action or 0 for action in one]] * 2))
        assert rewards[0] == rewards[1]
        paid.append(rewards[0])
    assert paid == [0, 0, 6, 6, 10]


def test_illegal_actions_of_the_team_are_summed():
    team = make_team_env("masked_team_v0", cut=0)
    team.reset(seed=0)
    *_, info = team.step(np.array([1, 2, 2]))
    assert info["illegal_actions"] == 2
    *_, info = team.step(np.array([1, 1, 1]))
    *_, info = team.step(np.array([1, 0, 3]))  # the scout dies, with one to its account
    *_, info = team.step(np.array([0, 2, 3]))
    assert info["illegal_actions"] == 3


# Pictures ---------------------------------------------------------------------------------------------------------


def test_text_shows_masks_choices_and_who_is_gone():
    env = masked_team_v0.parallel_env(cut=0, late_guard=True, render_mode="ansi")
    env.reset(seed=0)
    assert env.render().splitlines() == [
        "masked team",
        "step 0 of at most 5 | at camp | in the team: scout_0, porter_0 | return 0",
        "> scout_0: next",
        "     0  1 ",
        "> porter_0: next",
        "     0  -  - ",
        "  guard_0: next",
        "     -  -  -  - ",
    ]
    for one in BEST[:3]:
        env.step(joint(env, one))
    assert env.render().splitlines() == [
        "masked team",
        "step 3 of at most 5 | at peak | in the team: porter_0, guard_0 | return 2",
        "  scout_0: at ledge, next",
        "     0 [1]",
        "     -  - ",
        "> porter_0: at ledge, next",
        "    [0] -  - ",
        "     -  1  2 ",
        "> guard_0: at ledge, next",
        "     -  -  - [3]",
        "     0  -  -  3 ",
    ]


def test_pictures_follow_the_play_and_need_no_pygame(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ImportError, match=r"pip install smix-pz\[human\]"):
        masked_team_v0.parallel_env(render_mode="human")
    env = masked_team_v0.parallel_env(render_mode="rgb_array")
    env.reset()
    before = env.render()
    env.step(dict.fromkeys(AGENTS, 0))
    after = env.render()
    yellow = np.array([255, 209, 102], np.uint8)
    assert before.dtype == np.uint8 and before.shape[2] == 3 and before.std() > 10
    assert (before == yellow).all(axis=2).sum() == 0
    assert (after == yellow).all(axis=2).sum() > 300


def test_pettingzoos_rendering(monkeypatch):
    pytest.importorskip("pygame")
    show = Window.show
    # at its own pace of two pictures a second this test would take long
    monkeypatch.setattr(Window, "show", lambda self, image, title, fps: show(self, image, title, 10_000.0))
    render_test(masked_team_v0.env)
