"""make_vector_env, the registries, and the hold at the end of an episode."""

from __future__ import annotations

import subprocess
import sys
import threading

import gymnasium
import numpy as np
import pettingzoo
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from pettingzoo import ParallelEnv

import smix_pz.envs
from smix_pz.envs import ENVS, NativeVectorEnv, TeamEnv, make_vector_env, masked_team_v0, matrix_game_v0
from smix_pz.envs.starcraft import StarCraftUnavailable, find_smac
from smix_pz.version import __version__

KINDS = ("native", "sync", "async")


class RockPaperScissors(ParallelEnv):
    """Two players against each other: no team."""

    metadata = {"name": "rps_v9"}  # noqa: RUF012
    possible_agents = ["a", "b"]  # noqa: RUF012
    max_cycles = 4

    def __init__(self, bonus=0.0):
        self.bonus = bonus

    def observation_space(self, agent):
        return spaces.Box(0, 1, (1,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(3)

    def reset(self, seed=None, options=None):
        self.agents, self.time = self.possible_agents[:], 0
        return {agent: np.zeros(1, np.float32) for agent in self.agents}, {agent: {} for agent in self.agents}

    def step(self, actions):
        self.time += 1
        won = [0.0, 1.0, -1.0][(actions["a"] - actions["b"]) % 3]
        agents, over = self.agents, self.time == self.max_cycles
        self.agents = [] if over else agents
        return (
            {agent: np.ones(1, np.float32) for agent in agents},
            {"a": won + self.bonus, "b": -won + self.bonus},
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, over),
            {agent: {"battle_won": won > 0} for agent in agents},
        )


def rollout(envs, seeds, steps, rng_seed=0):
    """All that a vector environment returns under random legal actions."""
    rng = np.random.default_rng(rng_seed)
    observations, _ = envs.reset(seed=seeds)
    trace = [{key: value.copy() for key, value in observations.items()}]
    for _ in range(steps):
        mask = observations["action_mask"]
        actions = (rng.random(mask.shape) * mask).argmax(axis=-1)
        observations, rewards, terminations, truncations, _ = envs.step(actions)
        trace.append({**{key: value.copy() for key, value in observations.items()}, "r": rewards.copy()})
        trace[-1] |= {"t": terminations.copy(), "c": truncations.copy()}
    return trace


def assert_same_trace(one, other):
    for step, (a, b) in enumerate(zip(one, other, strict=True)):
        for key in a:
            assert np.array_equal(a[key], b[key]), (step, key)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("limit", "cut"), [(None, False), (2, True)])
def test_an_ended_episode_is_held_until_reset(kind, limit, cut):
    envs = make_vector_env("matrix_game_v0", 3, m=3, vectorization=kind, episode_limit=limit)
    try:
        assert envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED
        assert envs.team_spec.episode_limit == (limit or 3)
        envs.reset(seed=[5, 6, 7])
        ends = np.zeros((8, 3), bool)
        for step in range(8):
            # game 0 fails at once, game 1 stays on its branch, game 2 fails at its second step
            actions = np.array([[0, 1], [0, 0], [0, 1] if step == 1 else [0, 0]])
            observations, rewards, terminations, truncations, infos = envs.step(actions)
            ends[step] = terminations | truncations
            assert (truncations.any() and not terminations[1]) if cut and step == 1 else not truncations.any()
            if step == 3:
                held = {key: value.copy() for key, value in observations.items()}
            if step >= 3:
                assert rewards.tolist() == [0, 0, 0] and infos == {}
                assert all(np.array_equal(observations[key], held[key]) for key in held)
        assert ends.sum(axis=0).tolist() == [1, 1, 1]  # each ends once
        assert ends.argmax(axis=0).tolist() == [0, 1 if cut else 2, 1]
        assert held["state"].argmax(axis=1).tolist() == [1, 2 if cut else 3, 2]  # the steps that were played
        # every explicit reset begins anew, with seeds or without
        for seed in (None, [8, 9, 10], 3, [None, 4, None]):
            observations, _ = envs.reset(seed=seed)
            assert observations["state"].argmax(axis=1).tolist() == [0, 0, 0]
            for _ in range(4):
                envs.step(np.array([[0, 1], [0, 0], [0, 1]]))
        envs.reset()
        assert envs.step(np.zeros((3, 2), int))[1].tolist() == [1, 1, 1]
    finally:
        envs.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_of_some_leaves_the_others(kind):
    envs = make_vector_env("matrix_game_v0", 2, m=3, vectorization=kind)
    try:
        envs.reset(seed=[1, 2])
        envs.step(np.array([[0, 1], [1, 1]]))
        options = {"reset_mask": np.array([True, False])}
        observations, _ = envs.reset(seed=[3, None], options=options)
        assert observations["state"].argmax(axis=1).tolist() == [0, 1]
        assert "reset_mask" in options  # the caller's dictionary is the caller's
        assert envs.step(np.array([[1, 1], [1, 1]]))[1].tolist() == [1, 1]
    finally:
        envs.close()


@pytest.mark.parametrize(
    ("name", "arguments"), [("matrix_game_v0", {"m": 4}), ("payoff_game_v0", {}), ("two_step_game_v0", {})]
)
def test_native_sync_and_async_are_the_same_game(name, arguments):
    traces, specs = [], []
    for kind in KINDS:
        envs = make_vector_env(name, 6, vectorization=kind, **arguments)
        traces.append(rollout(envs, list(range(6)), 7))
        specs.append(envs.team_spec)
        envs.close()
    assert_same_trace(traces[0], traces[1])
    assert_same_trace(traces[0], traces[2])
    assert specs[0] == specs[1] == specs[2]
    assert specs[0].engine == {"name": ENVS[name].env_id, "version": __version__, "rules": "r1"}
    assert specs[0].env_id == ENVS[name].env_id


def test_auto_is_native_where_that_serves():
    assert isinstance(make_vector_env("matrix_game_v0", 2), NativeVectorEnv)
    assert isinstance(make_vector_env("matrix_game_v0", 2, reward="mean"), NativeVectorEnv)
    envs = make_vector_env("matrix_game_v0", 2, m=2, reward="sum")
    assert not isinstance(envs.unwrapped, NativeVectorEnv)
    envs.reset(seed=0)
    assert envs.step(np.zeros((2, 2), int))[1].tolist() == [2, 2]
    envs = make_vector_env("matrix_game_v0", 2, render_mode="rgb_array")
    envs.reset(seed=0)
    assert [picture.ndim for picture in envs.render()] == [3, 3]


def test_simple_spread_is_the_same_in_one_process_and_in_many():
    pytest.importorskip("mpe2")
    traces = []
    for kind in ("sync", "async"):
        envs = make_vector_env("mpe2.simple_spread_v3", 3, reward="mean", N=2, max_cycles=6, vectorization=kind)
        traces.append(rollout(envs, [11, 12, 13], 9))
        envs.close()
    assert_same_trace(*traces)
    cut = np.array([step["c"] for step in traces[0][1:]])
    assert cut.sum(axis=0).tolist() == [1, 1, 1] and cut[5].all()
    assert not np.array_equal(traces[0][0]["obs"][0], traces[0][0]["obs"][1])  # seeds differ, so do the games
    spec = envs.team_spec
    assert (spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim, spec.episode_limit) == (2, 5, 12, 24, 6)
    import mpe2

    assert dict(spec.engine) == {"name": "mpe2/simple_spread-v3", "version": mpe2.__version__}


def test_resets_without_seeds_follow_from_the_last_seeds():
    pytest.importorskip("mpe2")
    firsts = []
    for _ in range(2):
        envs = make_vector_env("mpe2.simple_spread_v3", 2, reward="mean")
        envs.reset(seed=[1, 2])
        firsts.append([envs.reset()[0]["obs"].copy() for _ in range(2)])
    assert np.array_equal(firsts[0], firsts[1])
    assert not np.array_equal(firsts[0][0], firsts[0][1])


def test_the_team_view_of_simple_spread_is_what_mpe2_plays():
    pytest.importorskip("mpe2")
    from mpe2 import simple_spread_v3

    envs = make_vector_env(simple_spread_v3, 1, reward="mean", N=2)
    game = simple_spread_v3.parallel_env(N=2)
    observations, _ = envs.reset(seed=[3])
    single, _ = game.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(25):
        assert np.array_equal(observations["obs"][0], np.stack([single["agent_0"], single["agent_1"]]))
        assert np.array_equal(observations["state"][0], game.state())
        actions = rng.integers(0, 5, 2)
        observations, rewards, _, truncations, _ = envs.step(actions[None])
        single, paid, _, cut, _ = game.step({"agent_0": actions[0], "agent_1": actions[1]})
        assert rewards[0] == (paid["agent_0"] + paid["agent_1"]) / 2
        assert truncations[0] == cut["agent_0"]
    assert truncations[0]


def test_unlike_rewards_are_found_before_any_work():
    for env in (RockPaperScissors, "mpe2.simple_tag_v3", "mpe2.simple_spread_v3", "classic/rps_v2"):
        if isinstance(env, str):
            pytest.importorskip("mpe2")
        with pytest.raises(ValueError, match=r"unlike rewards: .*reward=\"mean\", \"sum\""):
            make_vector_env(env, 2)
    envs = make_vector_env(RockPaperScissors, 2, reward="sum", bonus=1.5)
    assert envs.team_spec.has_win  # seen while probing
    envs.reset(seed=[0, 1])
    _, rewards, _, _, infos = envs.step(np.array([[1, 0], [0, 1]]))
    assert rewards.tolist() == [3, 3]
    assert infos["battle_won"].tolist() == [True, False] and infos["_battle_won"].tolist() == [True, True]


def test_ways_to_name_an_environment():
    for env in (
        "matrix_game_v0",
        "matrix_game-v0",
        "smix_pz/matrix_game-v0",
        "smix_pz/matrix_game_v0",
        "smix_pz.envs.matrix_game_v0",
        "smix_pz.envs.matrix_game_v0:parallel_env",
        matrix_game_v0,
        matrix_game_v0.parallel_env,
        lambda m: TeamEnv(matrix_game_v0.parallel_env(m)),
    ):
        envs = make_vector_env(env, 2, m=7)
        assert envs.team_spec.episode_limit == 7 and envs.num_envs == 2
        assert envs.reset(seed=[0, 1])[0]["obs"].shape == (2, 2, 12)


@pytest.mark.parametrize(
    ("env", "arguments", "error", "message"),
    [
        ("matrix_gam_v0", {}, ValueError, "did you mean 'matrix_game_v0'"),
        ("", {}, ValueError, "Environments of this package: matrix_game_v0"),
        ("no/such:thing", {}, ValueError, "is not known"),
        ("smix_pz.envs.matrix_game_v0:paralel_env", {}, ValueError, "did you mean 'parallel_env'"),
        ("json", {}, ValueError, "no parallel_env"),
        (3, {}, TypeError, "got 3"),
        ("matrix_game_v0", {"n": 3}, TypeError, "takes no argument 'n'. Choices: m, render_mode"),
        ("matrix_game_v0", {"rendermode": "ansi"}, TypeError, "did you mean 'render_mode'"),
        ("payoff_game_v0", {"payof": "qtran"}, TypeError, "did you mean 'payoff'"),
        (RockPaperScissors, {"bonsu": 1}, TypeError, "did you mean 'bonus'"),
        ("matrix_game_v0", {"vectorization": "snyc"}, ValueError, "did you mean 'sync'"),
        ("matrix_game_v0", {"vectorization": "native", "reward": "sum"}, ValueError, "cannot be had"),
        (RockPaperScissors, {"vectorization": "native"}, ValueError, "no native vector form"),
        ("matrix_game_v0", {"n_envs": 0}, ValueError, "n_envs must be an integer of at least 1"),
        ("matrix_game_v0", {"episode_limit": 0}, ValueError, "episode_limit must be an integer of at least 1"),
        ("matrix_game_v0", {"reward": "avg"}, ValueError, "Choices: first, individual, mean, sum"),
        (lambda: gymnasium.make("Pendulum-v1"), {}, TypeError, "continuous_actions=False"),
        ("CartPole-v7", {}, ValueError, "is not known"),
        (lambda: TeamEnv(matrix_game_v0.parallel_env()), {"reward": "sum"}, ValueError, "give them to the TeamEnv"),
    ],
)
def test_what_is_refused(env, arguments, error, message):
    with pytest.raises(error, match=message):
        make_vector_env(env, **arguments)


def test_names_and_arguments_of_other_packages():
    pytest.importorskip("mpe2")
    with pytest.raises(ValueError, match=r"did you mean 'mpe2\.simple_spread_v3'"):
        make_vector_env("mpe2.simple_spred_v3", reward="mean")
    with pytest.raises(TypeError, match="did you mean 'max_cycles'"):
        make_vector_env("mpe2.simple_spread_v3", reward="mean", max_cycle=5)
    with pytest.raises(TypeError, match=r"action space of agent_0 is Box.*expected Discrete"):
        make_vector_env("mpe2.simple_spread_v3", reward="mean", continuous_actions=True)


def test_several_of_an_object_are_copies():
    """Each plays its own game, as those of a factory do; the object itself is left alone."""
    game = masked_team_v0.parallel_env(late_guard=True)
    copies = make_vector_env(game, 3)
    assert_same_trace(
        rollout(copies, [1, 2, 3], 6),
        rollout(make_vector_env(lambda: masked_team_v0.parallel_env(late_guard=True), 3), [1, 2, 3], 6),
    )
    assert game.agents == [] and copies.team_spec.env_id == "<an object of smix_pz.envs.masked_team_v0:parallel_env>"
    # One copy is the object itself.
    alone = make_vector_env(game, 1)
    alone.reset(seed=[1])
    assert game.agents == ["scout_0", "porter_0"]


def test_an_object_that_cannot_be_copied():
    game = matrix_game_v0.parallel_env()
    game.socket = threading.Lock()  # stands for what belongs to one process: a window, a connection
    make_vector_env(game, 1)
    for arguments in ({"n_envs": 2}, {"vectorization": "async"}):
        with pytest.raises(ValueError, match=r"one object.*TypeError: cannot pickle.*Pass a factory"):
            make_vector_env(game, **arguments)


def test_a_missing_dependency_is_not_called_an_unknown_name(tmp_path, monkeypatch):
    (tmp_path / "needy_v0.py").write_text("import a_package_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_package_nobody_has"):
        make_vector_env("needy_v0")


def starcraft_is_here():
    try:
        find_smac("3m")
    except StarCraftUnavailable:
        return False
    return True


def test_registries_know_our_games():
    for entry in ENVS.values():
        assert entry.env_id in pettingzoo.parallel_registry and entry.env_id in pettingzoo.aec_registry
        assert entry.env_id in gymnasium.registry
        if entry.name == "smac_v0" and not starcraft_is_here():
            with pytest.raises(StarCraftUnavailable, match="smac_v0 cannot run"):
                pettingzoo.make("parallel", entry.env_id)
            continue
        assert pettingzoo.make("parallel", entry.env_id).metadata["name"] == entry.name
        assert pettingzoo.make("aec", entry.env_id).metadata["name"] == entry.name
        team = gymnasium.make(entry.env_id)
        assert isinstance(team.unwrapped, TeamEnv)
        if entry.native is None:
            with pytest.raises(ValueError, match="no native vector form"):
                gymnasium.make_vec(entry.env_id, num_envs=8)
            continue
        envs = gymnasium.make_vec(entry.env_id, num_envs=8)
        assert isinstance(envs, NativeVectorEnv) and envs.num_envs == 8
        assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert pettingzoo.make("parallel", "smix_pz/matrix_game-v0", m=9).m == 9
    assert gymnasium.make("smix_pz/matrix_game-v0", m=9).unwrapped.team_spec.episode_limit == 9
    assert gymnasium.make_vec("smix_pz/matrix_game-v0", num_envs=2, m=9).team_spec.episode_limit == 9
    sync = gymnasium.make_vec("smix_pz/matrix_game-v0", num_envs=2, m=9, vectorization_mode="sync")
    assert sync.reset(seed=0)[0]["obs"].shape == (2, 2, 14)
    picture = gymnasium.make("smix_pz/two_step_game-v0", render_mode="rgb_array")
    picture.reset(seed=0)
    assert picture.render().shape[2] == 3
    with pytest.raises(TypeError, match="takes no argument 'mm'"):
        gymnasium.make_vec("smix_pz/matrix_game-v0", num_envs=2, mm=9)


@pytest.mark.filterwarnings("error")
def test_registering_twice_is_silent():
    smix_pz.envs.register_all()


def test_import_is_cheap():
    code = (
        "import smix_pz.envs, sys; smix_pz.envs.register_all();"
        "heavy = {'pygame', 'matplotlib', 'torch', 'mpe2'} & set(sys.modules); assert not heavy, heavy"
    )
    # A module of this package may import torch; the environments by themselves must not.
    shim = "import sys, types; p = types.ModuleType('smix_pz'); p.__path__ = ['smix_pz']; sys.modules['smix_pz'] = p;"
    subprocess.run([sys.executable, "-c", shim + code], check=True, cwd=str(smix_pz_root()))


def smix_pz_root():
    from pathlib import Path

    return Path(smix_pz.envs.__file__).parents[2]
