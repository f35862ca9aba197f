"""PettingZoo's own tests on our small games, in the parallel and the AEC form.

Those on masked_team_v0, smac_v0 and smac_sim_v0 are in test_masked_team.py, smac_contract.py and test_smac_sim.py.
"""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
from pettingzoo.test import (
    api_test,
    parallel_api_test,
    parallel_seed_test,
    render_test,
    seed_test,
)
from pettingzoo.test.max_cycles_test import max_cycles_test
from pettingzoo.test.state_test import state_test

from smix_pz.envs import ENVS

UNLIKE = np.arange(24.0).reshape(2, 3, 4)  # three agents with 2, 3 and 4 actions
CASES = [
    ("matrix_game_v0", {}),
    ("matrix_game_v0", {"m": 1}),
    ("matrix_game_v0", {"m": 12}),
    ("payoff_game_v0", {}),
    ("payoff_game_v0", {"payoff": UNLIKE}),
    ("payoff_game_v0", {"payoff": [1.0, 2.0, 3.0]}),
    ("two_step_game_v0", {}),
]
TABULAR = sorted({name for name, _ in CASES})
case = pytest.mark.parametrize(("name", "arguments"), CASES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(CASES)])


def module(name):
    return ENVS[name].module


@case
def test_parallel_api(name, arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(module(name).parallel_env(**arguments), num_cycles=100)


@case
def test_aec_api(name, arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # PettingZoo wishes observations of more than one number, and states that change; the payoff game has neither.
        warnings.filterwarnings("ignore", message=".*single number.*")
        api_test(module(name).env(**arguments), num_cycles=100)


@case
def test_seeds(name, arguments):
    parallel_seed_test(partial(module(name).parallel_env, **arguments))
    seed_test(partial(module(name).env, **arguments))


@case
def test_state(name, arguments):
    state_test(module(name).env(**arguments), module(name).parallel_env(**arguments))


@case
def test_render(name, arguments):
    pytest.importorskip("pygame")
    # At PettingZoo's pace of two pictures a second this test would take minutes.
    factory = partial(module(name).env, **arguments)
    game = module(name).parallel_env
    game.metadata["render_fps"], fps = 10_000, game.metadata["render_fps"]
    try:
        render_test(factory)
    finally:
        game.metadata["render_fps"] = fps


def test_max_cycles_for_the_one_game_whose_length_is_an_argument():
    class Module:
        """Players who repeat one joint action reach the end: the action spaces are seeded until they do so."""

        @staticmethod
        def parallel_env(max_cycles):
            return _Staying(module("matrix_game_v0").parallel_env(m=max_cycles))

        @staticmethod
        def env(max_cycles):
            from pettingzoo.utils.conversions import parallel_to_aec

            return parallel_to_aec(_Staying(module("matrix_game_v0").parallel_env(m=max_cycles)))

    max_cycles_test(Module)


class _Staying:
    """The game with every action turned into 0, so that random play lasts its m steps."""

    def __init__(self, env):
        self._env = env

    def __getattr__(self, name):
        return getattr(self._env, name)

    def step(self, actions):
        return self._env.step(dict.fromkeys(actions, 0))


@case
def test_infos_carry_masks_of_each_agents_own_actions(name, arguments):
    env = module(name).parallel_env(**arguments)
    _, infos = env.reset(seed=0)
    _, _, _, _, after = env.step({agent: 0 for agent in env.agents})
    for given in (infos, after):
        for agent in env.possible_agents:
            mask = given[agent]["action_mask"]
            assert mask.dtype == np.int8
            assert mask.tolist() == [1] * env.action_space(agent).n


@case
def test_illegal_actions_are_refused(name, arguments):
    env = module(name).parallel_env(**arguments)
    with pytest.raises(RuntimeError, match="before reset"):
        env.step({})
    env.reset()
    legal = {agent: 0 for agent in env.agents}
    for wrong in (99, -1, 0.5, "0", None):
        with pytest.raises(ValueError, match="agent_0 is outside Discrete"):
            env.step({**legal, "agent_0": wrong})
    with pytest.raises(ValueError, match="one action for each"):
        env.step({"agent_0": 0, "stranger": 0})
    with pytest.raises(AssertionError):
        aec = module(name).env(**arguments)
        aec.reset()
        aec.step(99)
    assert env.moves == 0  # nothing was played


def test_a_finished_game_waits_for_reset():
    env = module("matrix_game_v0").parallel_env(m=1)
    env.reset()
    env.step({"agent_0": 0, "agent_1": 0})
    assert env.agents == []
    assert env.step({}) == ({}, {}, {}, {}, {})
    with pytest.raises(RuntimeError, match="ended"):
        env.step({"agent_0": 0, "agent_1": 0})


@pytest.mark.parametrize("name", TABULAR)
def test_a_seed_renews_np_random_and_no_seed_keeps_it(name):
    env = module(name).parallel_env()
    env.reset(seed=3)
    first = env.np_random.random()
    env.reset()
    second = env.np_random.random()
    assert first != second
    env.reset(seed=3)
    assert env.np_random.random() == first
    assert env.np_random_seed == 3


@pytest.mark.parametrize("name", TABULAR)
def test_pictures_need_no_pygame_and_follow_the_play(name, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ImportError, match=r"pip install smix-pz\[human\]"):
        module(name).parallel_env(render_mode="human")
    env = module(name).parallel_env(render_mode="rgb_array")
    env.reset()
    before = env.render()
    env.step({agent: 0 for agent in env.agents})
    after = env.render()
    yellow = np.array([255, 209, 102], np.uint8)
    assert before.dtype == np.uint8 and before.shape[2] == 3
    assert before.std() > 10  # not blank
    assert (before == yellow).all(axis=2).sum() == 0
    assert (after == yellow).all(axis=2).sum() > 300  # the cell just played


def test_text_shows_the_cell_just_played():
    env = module("matrix_game_v0").parallel_env(m=2, render_mode="ansi")
    env.reset()
    env.step({"agent_0": 0, "agent_1": 0})
    assert env.render().splitlines() == [
        "2-step matrix game",
        "step 1 of 2 | branch (0, 0) | last joint action (0, 0) | return 1",
        "  step 1: pick a branch",
        "    [1] 0 ",
        "     0  1 ",
        "> (0, 0), step 2",
        "     1  1 ",
        "     1  4 ",
        "  (1, 1), step 2",
        "     0  0 ",
        "     0  1 ",
    ]


def test_unknown_render_mode_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'rgb_array'"):
        module("two_step_game_v0").parallel_env(render_mode="rgb")


def test_three_agents_are_drawn_as_one_table_for_each_action_of_the_third():
    env = module("payoff_game_v0").parallel_env(payoff=np.arange(12).reshape(2, 3, 2), render_mode="ansi")
    env.reset()
    env.step({"agent_0": 1, "agent_1": 2, "agent_2": 1})
    assert env.render().splitlines()[2:] == [
        "  agent_2: 0",
        "      0   2   4 ",
        "      6   8  10 ",
        "  agent_2: 1",
        "      1   3   5 ",
        "      7   9 [11]",
    ]


def test_of_many_tables_those_near_the_play_are_drawn():
    env = module("payoff_game_v0").parallel_env(payoff=np.zeros((2, 2, 5, 7)), render_mode="ansi")
    env.reset()
    env.step({"agent_0": 0, "agent_1": 1, "agent_2": 4, "agent_3": 6})
    assert "35 tables, 10 shown" in env.render()
    assert "agent_2: 4, agent_3: 6\n     0 [0]" in env.render()
