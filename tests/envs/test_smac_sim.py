"""smac_sim_v0: its three forms agree, no result depends on batch or threads, and the laws of perf/soak.py hold.

What it has in common with smac_v0 (sizes, names, infos, ends, strictness) is tested by smac_contract.py.
"""

from __future__ import annotations

import copy
import importlib.util
import multiprocessing
import os
import pickle
import subprocess
import sys
import warnings
from dataclasses import fields
from functools import partial
from itertools import pairwise
from pathlib import Path

import gymnasium
import numpy as np
import pettingzoo
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, render_test, seed_test
from pettingzoo.test.state_test import state_test

from smix_pz import __version__
from smix_pz.envs import make_native_env, make_team_env, make_vector_env, smac_sim_v0
from smix_pz.envs.battle import battles as battles_module
from smix_pz.envs.battle.layout import LayoutOptions
from smix_pz.envs.battle.maps import MAPS
from smix_pz.envs.battle.players import PLAYERS

ROOT = Path(__file__).parents[2]
NAME = "smac_sim_v0"
# Every kind of map: marines, shields and types, medivacs, a structure, banelings that die of their own attack.
SOME_MAPS = ("3m", "2s3z", "MMM", "2m_vs_1z", "bane_vs_bane", "so_many_baneling")


def load_soak():
    spec = importlib.util.spec_from_file_location("soak", ROOT / "perf" / "soak.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


soak = load_soak()


def random_legal(rng, mask):
    """Uniform legal actions [...] of masks [..., A]."""
    return np.where(mask != 0, rng.random(mask.shape), -1.0).argmax(-1)


def same(one, other):
    """Whether two nested results agree in keys, types and every number."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if one is None or other is None:
        return one is other
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype == object:
        return one.shape == other.shape and all(map(same, one.ravel(), other.ravel()))
    return one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one, other)


# PettingZoo's own tests -------------------------------------------------------------------------------------------
#
# parallel_api_test and api_test choose legal actions, by the mask in the observation or else in the info.
# parallel_seed_test, seed_test, state_test and render_test ignore masks: their illegal actions become stop.
# max_cycles_test does not apply: the length of a battle is the map's, no argument.

CASES = [
    {"map_name": "3m", "flat_obs": True},
    {"map_name": "3m", "dead_agents": "stay"},
    {"map_name": "2s3z", "obs_last_action": True, "obs_timestep_number": True, "obs_instead_of_state": True},
    {"map_name": "MMM", "flat_obs": True, "dead_agents": "stay"},
    {"map_name": "2m_vs_1z"},
    {"map_name": "bane_vs_bane", "preset": "lotv"},
]
case = pytest.mark.parametrize("arguments", CASES, ids=[f"{one['map_name']}-{i}" for i, one in enumerate(CASES)])


@case
def test_pettingzoos_own(arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # PettingZoo finds masks in Dict observations, and wishes that these were arrays all the same.
        warnings.filterwarnings("ignore", message=".*should be gymnasium.spaces.box or gymnasium.spaces.discrete")
        warnings.filterwarnings("ignore", message="Observation is not a NumPy array")
        warnings.filterwarnings("ignore", message="Observation numpy array is all zeros")  # of the dead
        parallel_api_test(smac_sim_v0.parallel_env(**arguments), num_cycles=100)
        api_test(smac_sim_v0.env(**arguments), num_cycles=200)
        parallel_seed_test(partial(smac_sim_v0.parallel_env, **arguments), num_cycles=20)
        seed_test(partial(smac_sim_v0.env, **arguments), num_cycles=20)
        state_test(smac_sim_v0.env(**arguments), smac_sim_v0.parallel_env(**arguments))


def test_pettingzoos_rendering(monkeypatch):
    pytest.importorskip("pygame")
    from smix_pz.envs.drawing import Window

    show = Window.show
    shown = []

    def hurried(self, image, title, frames_per_second):
        shown.append(image)
        show(self, image, title, 10_000.0)  # at its own pace this test would take minutes

    monkeypatch.setattr(Window, "show", hurried)
    render_test(partial(smac_sim_v0.env, map_name="2m_vs_1z"))
    env = smac_sim_v0.parallel_env("3m", render_mode="human")
    env.reset(seed=1)
    shown.clear()
    env.step(dict.fromkeys(env.agents, 4))
    assert len(shown) == 4  # two loops each, and they show the march east
    assert all((one != other).any() for one, other in pairwise(shown))
    env.close()


# The three forms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("map_name", SOME_MAPS)
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_vector_form_is_gymnasiums_over_the_pettingzoo_form(map_name, mode):
    """Every number and every info, over several battles of each game, dead agents and all."""
    limit = 35 if map_name == "2s3z" else None  # so that some are truncated
    native = make_native_env(NAME, 3, mode, limit, map_name=map_name)
    reference = SyncVectorEnv(
        [partial(make_team_env, NAME, episode_limit=limit, map_name=map_name)] * 3, autoreset_mode=mode
    )
    assert native.observation_space == reference.observation_space
    assert native.action_space == reference.action_space
    assert native.team_spec == reference.envs[0].unwrapped.team_spec
    scripted = PLAYERS["focus-fire"](native.battles.scenario, 3)
    rng = np.random.default_rng(0)
    ours, theirs = native.reset(seed=7), reference.reset(seed=7)
    ends, truncated, partly_dead = np.zeros(3, int), 0, 0
    while ends.min() < 3:
        assert all(map(same, ours, theirs))
        mask = ours[0]["action_mask"]
        actions = random_legal(rng, mask)
        clever = ends % 2 == 1
        actions[clever] = scripted.act(native.battles.units, native.battles.battles, mask)[clever]
        careless = (rng.random(actions.shape) < 0.05) & (mask[..., 0] == 0)
        actions[careless] = rng.integers(0, mask.shape[2], careless.sum())  # of the living, also illegal ones
        ours, theirs = native.step(actions), reference.step(actions)
        assert all(map(same, ours, theirs))
        over = ours[2] | ours[3]
        ends += over
        truncated += int(ours[3].sum())
        dead = (ours[0]["action_mask"][..., 0] == 1).sum(1)
        partly_dead += int(((dead > 0) & ~over).sum())
        if mode is AutoresetMode.DISABLED and over.any():
            # Gymnasium takes the mask out of the dictionary it is given, hence two dictionaries.
            ours, theirs = (envs.reset(options={"reset_mask": over}) for envs in (native, reference))
    assert partly_dead > 0
    assert truncated > 0 or map_name != "2s3z"


@pytest.mark.parametrize(
    ("map_name", "options"),
    [
        ("3m", {}),
        ("MMM", {"reward_only_positive": False, "step_mul": 5}),
        ("2s3z", {"dead_agents": "stay", "obs_timestep_number": True, "obs_last_action": True, "move_amount": 3}),
        ("corridor", {"flat_obs": True, "jitter": 0.4, "preset": "lotv"}),
        ("3s5z", {"heuristic_ai": True, "heuristic_rest": True, "reward_sparse": True}),
        ("2s_vs_1sc", {"obs_pathing_grid": True, "obs_terrain_height": True, "reward_clip": True}),
    ],
)
def test_held_forms_agree_to_the_end(map_name, options):
    """What learners get: `make_vector_env` native and sync, each battle held at its end until the last one's."""
    ours_only = {key: value for key, value in options.items() if key not in ("dead_agents", "flat_obs")}
    native = make_vector_env(NAME, 4, vectorization="native", map_name=map_name, **ours_only)
    sync = make_vector_env(NAME, 4, vectorization="sync", map_name=map_name, **options)
    assert native.team_spec == sync.team_spec
    assert native.metadata["autoreset_mode"] is sync.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    rng = np.random.default_rng(1)
    for _ in range(2):
        seeds = [int(seed) for seed in rng.integers(0, 2**31, 4)]
        assert all(map(same, native.reset(seed=seeds), sync.reset(seed=seeds)))
        over = np.zeros(4, bool)
        seen = native._observe()
        for _ in range(native.team_spec.episode_limit):
            actions = random_legal(rng, seen["action_mask"])
            ours, theirs = native.step(actions), sync.step(actions)
            for one, other in zip(ours[:4], theirs[:4], strict=True):
                assert same(one, other)
            going = ~over
            for key in ("battle_won", "dead_allies", "dead_enemies", "illegal_actions"):
                assert np.array_equal(ours[4][f"_{key}"], going)
                if going.any():
                    assert np.array_equal(ours[4][key][going], theirs[4][key][going])
            seen, over = ours[0], over | ours[2] | ours[3]
            if over.all():
                break
        assert over.all()
    native.close(), sync.close()


def test_the_aec_form_plays_the_same_battle():
    parallel, aec = smac_sim_v0.parallel_env("3m"), smac_sim_v0.env(map_name="3m")
    rng = np.random.default_rng(3)
    observations, _ = parallel.reset(seed=3)
    aec.reset(seed=3)
    total = dict.fromkeys(parallel.possible_agents, 0.0)
    while parallel.agents:
        actions = {agent: int(random_legal(rng, observations[agent]["action_mask"])) for agent in parallel.agents}
        for agent in list(aec.agents):
            seen, _, terminated, truncated, _ = aec.last()
            assert aec.agent_selection == agent
            assert same(seen, observations[agent])
            assert not terminated and not truncated
            aec.step(actions[agent])
        observations, rewards, terminations, truncations, _ = parallel.step(actions)
        for agent, reward in rewards.items():
            assert aec.rewards[agent] == reward
            assert (aec.terminations[agent], aec.truncations[agent]) == (terminations[agent], truncations[agent])
            total[agent] += reward
        assert np.array_equal(parallel.state(), aec.state())
        while aec.agents and (aec.terminations[aec.agent_selection] or aec.truncations[aec.agent_selection]):
            aec.step(None)
    assert not aec.agents and max(total.values()) > 0.0


def test_copies_and_pickles_play_on_alike():
    env = smac_sim_v0.parallel_env("3m")
    env.reset(seed=5)
    for _ in range(8):
        env.step(dict.fromkeys(env.agents, 1))
    twins = [env, copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    # One scenario: kernels are not compiled again for arrays that can be written to.
    assert all(twin.battles.scenario is env.battles.scenario for twin in twins)
    results = []
    for twin in twins:
        played = []
        while twin.agents:
            result = twin.step(dict.fromkeys(twin.agents, 1))
            played.append((twin.agents[:], result[1:], twin.state().tolist()))
        results.append(str(played))
    assert len(set(results)) == 1
    assert "'marine_0': True" in results[0] and not env.agents  # somebody died, and left


def test_results_without_copy_are_written_again_and_equal():
    kept, fast = (make_native_env(NAME, 4, "SameStep", map_name="3m", copy=copied) for copied in (True, False))
    a, b = kept.reset(seed=1)[0], fast.reset(seed=1)[0]
    rng, finals, memory = np.random.default_rng(0), 0, b["obs"]
    for _ in range(80):
        actions = random_legal(rng, a["action_mask"])
        one, other = kept.step(actions), fast.step(actions)
        assert all(map(same, one, other))
        assert np.shares_memory(other[0]["obs"], memory) and not np.shares_memory(one[0]["obs"], memory)
        a = one[0]
        for final in one[4].get("final_obs", []):
            finals += final is not None
            assert final is None or not np.shares_memory(final["obs"], a["obs"])
    assert finals >= 4


# Independence -----------------------------------------------------------------------------------------------------


def course(map_name, count, seeds, steps=25, **arguments):
    """Everything that is seen of a batch, as one array [count, ...]; actions are a function of the battle's seed."""
    env = make_native_env(NAME, count, map_name=map_name, **arguments)
    seen, _ = env.reset(seed=seeds)
    streams = [np.random.default_rng(seed) for seed in seeds]
    kept = []
    for _ in range(steps):
        actions = np.stack([random_legal(rng, mask) for rng, mask in zip(streams, seen["action_mask"], strict=True)])
        seen, rewards, terminations, truncations, infos = env.step(actions)
        scalars = [rewards, terminations, truncations, infos["battle_won"], infos["dead_enemies"]]
        kept.append(np.concatenate([seen["obs"].reshape(count, -1), seen["state"], np.stack(scalars, 1)], 1))
    env.close()
    return np.stack(kept, 1)


@pytest.mark.parametrize(("map_name", "large"), [("3m", 1100), ("MMM", 300), ("2c_vs_64zg", 60)])
def test_no_result_depends_on_batch_place_or_threads(map_name, large):
    seeds = list(range(100, 100 + large))
    whole = course(map_name, large, seeds, threads=1)
    for threads in (2, 3):
        made = make_native_env(NAME, large, map_name=map_name, threads=threads)
        assert len(made.battles._pieces) > 2  # or else one thread would do it all
        assert np.array_equal(course(map_name, large, seeds, threads=threads), whole)
    assert np.array_equal(course(map_name, 7, seeds[:7]), whole[:7])
    assert np.array_equal(course(map_name, 1, seeds[5:6]), whole[5:6])
    backwards = course(map_name, large, seeds[::-1], threads=2)
    assert np.array_equal(backwards[::-1], whole)
    assert len(np.unique(whole[:7, 3], axis=0)) == 7  # and unlike seeds are unlike battles


def _played_in_a_child(connection, seeds):
    connection.send(course("3m", len(seeds), seeds, threads=2))
    connection.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_makes_threads_of_its_own():
    seeds = list(range(700))
    expected = course("3m", 700, seeds, threads=2)
    assert battles_module._pool is not None  # threads have been at work in this process
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_played_in_a_child, args=(sender, seeds))
    child.start()
    assert receiver.poll(120), "the child waits for threads that did not survive the fork"
    assert np.array_equal(receiver.recv(), expected)
    child.join(30)
    assert child.exitcode == 0
    assert np.array_equal(course("3m", 700, seeds, threads=2), expected)  # and ours are alive


def test_processes_play_what_one_process_plays():
    factories = [partial(make_team_env, NAME, map_name="2m_vs_1z")] * 2
    apart, together = AsyncVectorEnv(factories), SyncVectorEnv(factories)
    try:
        one, other = apart.reset(seed=3), together.reset(seed=3)
        rng = np.random.default_rng(0)
        for _ in range(40):
            assert all(map(same, one, other))
            actions = random_legal(rng, one[0]["action_mask"])
            one, other = apart.step(actions), together.step(actions)
    finally:
        apart.close()
        together.close()


def test_number_of_threads(monkeypatch):
    for given_number, expected in (("1", 1), ("5", 5)):
        monkeypatch.setenv("SMIX_PZ_THREADS", given_number)
        assert make_native_env(NAME, 2).battles.threads == expected
        assert make_native_env(NAME, 2, threads=3).battles.threads == 3
    for wrong in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("SMIX_PZ_THREADS", wrong)
        with pytest.raises(ValueError, match=f"SMIX_PZ_THREADS must be an integer of at least 1, got '{wrong}'"):
            make_native_env(NAME, 2)
    monkeypatch.delenv("SMIX_PZ_THREADS")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert make_native_env(NAME, 2).battles.threads == cores
    with pytest.raises(ValueError, match="threads must be an integer of at least 1, got 0"):
        make_native_env(NAME, 2, threads=0)
    with pytest.raises(TypeError, match="threads must be an integer"):
        make_native_env(NAME, 2, threads="2")


# Laws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("map_name", list(MAPS))
def test_laws_of_long_random_play(map_name):
    """Every law of perf/soak.py at every step; `perf/soak.py` itself plays a million."""
    tally = soak.play(map_name, 3000, 32, illegal=0.1, focus=0.3, threads=1)
    assert tally.watched == tally.steps >= 3000 and tally.episodes > 0 and tally.illegal > 0
    assert tally.longest <= MAPS[map_name].limit


class NotAsPlayed(smac_sim_v0.BattleVectorEnv):
    """Tells other things than what happened; the watch has to notice each of them."""

    def __init__(self, lie):
        super().__init__(smac_sim_v0._make_battles("3m", "liberty", 0.1, 16, {}, 1))
        self.lie = lie

    def step(self, actions):
        if self.lie == "moved dead":
            units = self.battles.units
            dead = units["health"] <= 0
            units["x"][dead] += 0.1
        if self.lie == "carried out":
            self.battles.mask[:] = 1
        seen, rewards, terminations, truncations, infos = super().step(actions)
        if self.lie == "reward":
            rewards[rewards > 0] += 0.001
        elif self.lie == "mask":
            seen["action_mask"][..., 0] |= seen["action_mask"][..., 1]
        elif self.lie == "won":
            infos["battle_won"] |= terminations
        elif self.lie == "dead":
            infos["dead_allies"] = np.maximum(infos["dead_allies"] - 1, 0)
        elif self.lie == "obs":
            seen["obs"][0, 0, 0] = np.nan
        elif self.lie == "state":
            seen["state"][3, 2] = -2.5
        elif self.lie == "end":
            truncations |= terminations
        return seen, rewards, terminations, truncations, infos


@pytest.mark.parametrize(
    ("lie", "law"),
    [
        ("reward", "the reward is not"),
        ("mask", "no-op"),
        ("won", "battle_won"),
        ("dead", "dead allies are miscounted"),
        ("obs", "obs is not finite"),
        ("state", "state is outside"),
        ("end", "truncated"),
        ("moved dead", "a dead unit was moved"),
        ("carried out", "an illegal action was carried out"),
    ],
)
def test_broken_laws_are_noticed(monkeypatch, lie, law):
    monkeypatch.setattr(smac_sim_v0, "vector_env", lambda *_, **__: NotAsPlayed(lie))
    with pytest.raises(soak.LawBroken, match=law):
        soak.play("3m", 3000, 16, illegal=0.1)


def option_values(draw):
    """Any of SMAC's options, in every combination that it allows."""
    values = {}
    for one in fields(LayoutOptions):
        if one.type == "bool":
            values[one.name] = draw(st.booleans())
    values["move_amount"] = draw(st.sampled_from([1, 2, 3, 5]))
    values["step_mul"] = draw(st.sampled_from([1, 4, 8, 11]))
    values["reward_death_value"] = draw(st.sampled_from([0, 10, 3.5]))
    values["reward_win"] = draw(st.sampled_from([0, 200, 50.25]))
    values["reward_defeat"] = draw(st.sampled_from([0, -5, -200]))
    values["reward_negative_scale"] = draw(st.sampled_from([0.0, 0.5, 2.0]))
    values["reward_scale_rate"] = draw(st.sampled_from([1, 20, 0.5]))
    return values


def expected_reward(options, scenario, was, now, result):
    """SMAC specification, section 4, for one battle: units before and after, result 1 won, 2 lost, else neither."""
    total, damage, kills, ally_damage, ally_deaths = 0.0, 0.0, 0, 0.0, 0
    kinds = scenario.kinds[scenario.unit_kind]
    for u in range(scenario.n_units):
        if u >= scenario.n_agents:
            total += kinds[u]["health"] + kinds[u]["shield"] + options["reward_death_value"]
        if was[u]["health"] <= 0:
            continue
        died = now[u]["health"] <= 0
        lost = was[u]["health"] + was[u]["shield"] - (0.0 if died else now[u]["health"] + now[u]["shield"])
        if u < scenario.n_agents:
            ally_damage, ally_deaths = ally_damage + lost, ally_deaths + died
        else:
            damage, kills = damage + lost, kills + died
    if options["reward_sparse"]:
        reward = {1: 1.0, 2: -1.0}.get(result, 0.0)
    else:
        reward = damage + kills * options["reward_death_value"]
        if not options["reward_only_positive"]:
            reward -= options["reward_negative_scale"] * (ally_damage + ally_deaths * options["reward_death_value"])
        else:
            reward = max(reward, 0.0) if options["reward_clip"] else abs(reward)
        reward += {1: options["reward_win"], 2: options["reward_defeat"]}.get(result, 0.0)
    scale = (total + options["reward_win"]) / options["reward_scale_rate"] if options["reward_scale"] else 1.0
    return reward / scale


@settings(max_examples=60)
@given(st.data())
def test_laws_under_any_options(data):
    map_name = data.draw(st.sampled_from(sorted(MAPS)))
    options = option_values(data.draw)
    seed = data.draw(st.integers(0, 2**32 - 1))
    preset, jitter = data.draw(st.sampled_from(["liberty", "lotv"])), data.draw(st.sampled_from([0, 0.1, 1.0]))
    env = make_native_env(NAME, 2, "Disabled", map_name=map_name, preset=preset, jitter=jitter, **options)
    battles, scenario, rng = env.battles, env.battles.scenario, np.random.default_rng(seed)
    seen, _ = env.reset(seed=[seed, seed + 1])
    assert env.observation_space.contains(seen)
    watch, over = soak.Watch(env), np.zeros(2, bool)
    watch._rewards_and_ends = lambda *_: None  # they know SMAC's default rewards alone
    if options["heuristic_ai"]:
        watch._actions = lambda: None  # the caller's actions are remembered, but not carried out
    for _ in range(40):
        actions = random_legal(rng, seen["action_mask"])
        wild = rng.random(actions.shape) < 0.2
        actions[wild] = rng.integers(0, env.team_spec.n_actions, wild.sum())
        watch.before(actions, over)
        was = battles.units.copy()
        seen, rewards, terminated, truncated, infos = env.step(actions)
        assert env.observation_space.contains(seen)
        told = {key: np.where(over, battles.battles[key], infos[key]) for key in ("dead_allies", "dead_enemies")}
        watch.after(seen, rewards, terminated, truncated, told)
        assert not (terminated & truncated).any()
        for k in range(2):
            result = int(battles.battles["result"][k])
            expected = 0.0 if over[k] else expected_reward(options, scenario, was[k], battles.units[k], result)
            assert rewards[k] == pytest.approx(expected, abs=1e-9)
        if options["reward_only_positive"] and not options["reward_sparse"] and options["reward_defeat"] == 0:
            assert (rewards >= 0).all()
        over |= terminated | truncated
        if over.all():
            break


def test_a_flawless_victory_returns_20():
    """Marines do not regenerate: every victory pays all of 20, whatever it cost."""
    wins = 0
    for map_name in ("3m", "8m", "25m"):
        env = make_vector_env(NAME, 32, map_name=map_name)
        player = PLAYERS["focus-fire"](env.battles.scenario, 32)
        seen, _ = env.reset(seed=list(range(32)))
        returns, won = np.zeros(32), np.zeros(32, bool)
        for _ in range(env.team_spec.episode_limit):
            actions = player.act(env.battles.units, env.battles.battles, seen["action_mask"])
            seen, rewards, _, _, infos = env.step(actions)
            returns, won = returns + rewards, won | infos["battle_won"]
        assert returns[won] == pytest.approx(20.0, abs=1e-9)
        assert (returns[~won] < 20.0 - 200 / 92.5).all()
        wins += won.sum()
    assert wins > 20


# Options through the environment ----------------------------------------------------------------------------------


def test_jitter_0_makes_all_starts_alike():
    for jitter, alike in ((0, True), (0.1, False)):
        env = make_native_env(NAME, 2, map_name="3m", jitter=jitter)
        seen, _ = env.reset(seed=[1, 2])
        assert np.array_equal(seen["state"][0], seen["state"][1]) is alike
        assert np.abs(seen["state"][0] - seen["state"][1]).max() * 32 < 2.0


def test_presets_are_different_units():
    """A stalker's weapon: 23.04 loops from shot to shot (Liberty), 29.92 (Legacy of the Void); section 6.2."""
    longest = {}
    for preset in ("liberty", "lotv"):
        env = make_native_env(NAME, 8, map_name="3s_vs_3z", preset=preset)
        player = PLAYERS["nearest"](env.battles.scenario, 8)
        seen, _ = env.reset(seed=0)
        found = 0.0
        for _ in range(40):
            seen, *_ = env.step(player.act(env.battles.units, env.battles.battles, seen["action_mask"]))
            found = max(found, float(env.battles.units["cooldown"][:, :3].max()))
        longest[preset] = found
    assert 15 < longest["liberty"] <= 23.04 + 2 < longest["lotv"] <= 29.92 + 2


def test_state_made_of_observations():
    env = smac_sim_v0.parallel_env("2s3z", obs_instead_of_state=True, dead_agents="stay")
    observations, infos = env.reset(seed=2)
    rng, died = np.random.default_rng(0), False
    while env.agents:
        rows = np.concatenate([observations[agent]["observation"] for agent in env.possible_agents])
        assert np.array_equal(env.state(), rows)
        actions = {agent: int(random_legal(rng, infos[agent]["action_mask"])) for agent in env.agents}
        observations, _, _, _, infos = env.step(actions)
        died = died or any(infos[agent]["dead_allies"] for agent in infos)
    assert died


def test_the_environments_own_player():
    """heuristic_ai: whatever is asked for, SMAC's script plays; without heuristic_rest it chases through the mask."""
    outcomes = {}
    for rest in (False, True):
        env = make_vector_env(NAME, 16, map_name="8m", heuristic_ai=True, heuristic_rest=rest)
        env.reset(seed=list(range(16)))
        won, returns, over = np.zeros(16, bool), np.zeros(16), np.zeros(16, bool)
        orders = set()
        for _ in range(120):
            _, rewards, terminated, truncated, infos = env.step(np.ones((16, 8), np.int64))  # "stop", all the time
            if not over.any():
                orders |= set(env.battles.units["order"][:, :8].ravel().tolist())
            over |= terminated | truncated
            won, returns = won | infos["battle_won"], returns + rewards
            living = env.battles.units["health"][:, :8] > 0
            assert (env.battles.last_action[living] == 1).all()  # what the caller asked for is what is remembered
        outcomes[rest] = (won, returns, orders)
        assert over.all() and returns.min() > 1.0  # agents that stand there earn nothing at all
    assert 2 not in outcomes[False][2] and 3 in outcomes[False][2]  # attacks alone: the engine walks them there
    assert {2, 3} <= outcomes[True][2]  # moves where the mask does not offer the attack
    obeyed = make_vector_env(NAME, 16, map_name="8m", heuristic_ai=False, heuristic_rest=True)
    obeyed.reset(seed=list(range(16)))
    for _ in range(120):
        assert (obeyed.step(np.ones((16, 8), np.int64))[1] == 0.0).all()


@pytest.mark.parametrize("limit", [1, 5])
def test_own_episode_limit_of_the_vector_form(limit):
    env = smac_sim_v0.vector_env(3, map_name="3m", episode_limit=limit)
    env.reset(seed=0)
    assert env.team_spec.episode_limit == limit
    for step in range(1, 2 * limit + 2):
        _, _, terminated, truncated, _ = env.step(np.ones((3, 3), np.int64))
        assert truncated.tolist() == [step % (limit + 1) == limit] * 3  # each (limit + 1)th call only resets
        assert not terminated.any()


def test_a_battle_decided_in_its_last_step_is_not_truncated():
    env = smac_sim_v0.vector_env(1, map_name="3m")
    env.reset(seed=[2])
    length = 1
    while not env.step(np.ones((1, 3), np.int64))[2].any():
        length += 1
    for limit, ends in ((length, (True, False)), (length - 1, (False, True))):
        env = smac_sim_v0.vector_env(1, map_name="3m", episode_limit=limit)
        env.reset(seed=[2])
        for _ in range(limit):
            _, _, terminated, truncated, _ = env.step(np.ones((1, 3), np.int64))
        assert (terminated.item(), truncated.item()) == ends


@pytest.mark.parametrize("dead_agents", ["leave", "stay"])
def test_who_dies_in_the_last_step_is_terminated_and_the_others_truncated(dead_agents):
    env = smac_sim_v0.parallel_env("3m", dead_agents=dead_agents)
    env.reset(seed=1)
    while True:
        ahead = copy.deepcopy(env)
        _, _, _, _, infos = ahead.step(dict.fromkeys(ahead.agents, 1))
        if infos["marine_0"]["dead_allies"]:
            break
        env.step(dict.fromkeys(env.agents, 1))
    dead = {f"marine_{i}" for i in np.flatnonzero(ahead.battles.units["health"][0, :3] <= 0)}
    assert 0 < len(dead) < 3
    env.battles.battles["steps"] = 59  # of 60
    _, _, terminations, truncations, _ = env.step(dict.fromkeys(env.agents, 1))
    if dead_agents == "stay":
        dead = set()
    assert terminations == {agent: agent in dead for agent in env.possible_agents}
    assert truncations == {agent: agent not in dead for agent in env.possible_agents}
    assert env.agents == []


# Pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("map_name", "step_mul"), [("MMM", 8), ("bane_vs_bane", 5)])
def test_a_filmed_battle_takes_the_same_course(map_name, step_mul):
    plain = smac_sim_v0.parallel_env(map_name, step_mul=step_mul)
    filmed = smac_sim_v0.parallel_env(map_name, step_mul=step_mul, render_mode="rgb_array")
    rng = np.random.default_rng(0)
    one, other = plain.reset(seed=9), filmed.reset(seed=9)
    assert len(filmed.snapshots) == 1 and plain.snapshots == []
    steps, loops = 0, -(-step_mul // 2)
    while plain.agents:
        assert all(map(same, one, other)) and plain.agents == filmed.agents
        actions = {agent: int(random_legal(rng, one[-1][agent]["action_mask"])) for agent in plain.agents}
        one, other = plain.step(actions), filmed.step(actions)
        assert np.array_equal(plain.state(), filmed.state())
        assert np.array_equal(plain.battles.units, filmed.battles.units)
        steps += 1
        assert len(filmed.snapshots) == loops
        played = [int(battle["loop"]) for _, battle in filmed.snapshots]
        begun = (steps - 1) * step_mul
        if plain.agents:
            assert played == [min(begun + 2 * (n + 1), begun + step_mul) for n in range(loops)]
        units, battle = filmed.snapshots[-1]
        assert np.array_equal(units, filmed.battles.units[0]) and battle == filmed.battles.battles[0]
    assert all(map(same, one, other)) and steps > 10


def test_pictures():
    env = smac_sim_v0.parallel_env("3m", render_mode="rgb_array")
    env.reset(seed=1)
    before = env.render()
    assert before.dtype == np.uint8 and before.ndim == 3 and before.shape[2] == 3
    assert min(before.shape[:2]) >= 200 and before.std() > 10
    env.step(dict.fromkeys(env.agents, 4))
    after = env.render()
    assert after.shape == before.shape and (after != before).any()
    assert np.array_equal(after, env.render())  # looking changes nothing
    team = gymnasium.make("smix_pz/smac_sim-v0", map_name="3m", render_mode="rgb_array")
    team.reset(seed=1)
    assert np.array_equal(team.render(), before)
    silent = smac_sim_v0.parallel_env("3m")
    silent.reset()
    with pytest.warns(UserWarning, match="render_mode is None"):
        assert silent.render() is None


def test_a_window_needs_pygame_and_pictures_do_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ImportError, match=r"pip install smix-pz\[human\]"):
        smac_sim_v0.parallel_env(render_mode="human")
    env = smac_sim_v0.parallel_env(render_mode="rgb_array")
    env.reset()
    assert env.render() is not None


# Errors, names, records -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [smac_sim_v0.parallel_env, smac_sim_v0.env, partial(make_vector_env, NAME)])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"map_name": "3n"}, ValueError, "did you mean '3m'"),
        ({"map_name": "27m_vs_30"}, ValueError, "did you mean '27m_vs_30m'"),
        ({"map_name": "mmm2"}, ValueError, "did you mean 'MMM2'"),
        ({"map_name": 3}, (TypeError, ValueError), "3"),
        ({"preset": "librty"}, ValueError, "did you mean 'liberty'"),
        ({"jitter": 1.5}, ValueError, "from 0 to 1, got 1.5; the nearest is 1"),
        ({"jitter": -0.1}, ValueError, "got -0.1; the nearest is 0"),
        ({"jitter": float("nan")}, ValueError, "got nan"),
        ({"jitter": "0.1"}, TypeError, "jitter must be a number"),
        ({"jitter": True}, TypeError, "jitter must be a number"),
        ({"obs_last_actoin": True}, TypeError, "did you mean 'obs_last_action'"),
        ({"obs_last_action": 1}, TypeError, "did you mean True"),
        ({"step_mul": 0}, ValueError, "at least 1"),
        ({"move_amount": 1.5, "obs_pathing_grid": True}, ValueError, "the nearest is 2"),
        ({"reward_death_value": 0, "reward_win": -400}, ValueError, "reward_scale"),
    ],
)
def test_arguments_that_are_refused(make, arguments, error, message):
    with pytest.raises(error, match=message):
        make(**arguments)


def test_what_belongs_to_one_form_alone_is_refused_by_the_other():
    with pytest.raises(ValueError, match="num_envs must be an integer of at least 1"):
        smac_sim_v0.vector_env(0)
    with pytest.raises(ValueError, match="episode_limit must be an integer of at least 1"):
        smac_sim_v0.vector_env(1, episode_limit=0)
    with pytest.raises(ValueError, match="did you mean 'NextStep'"):
        smac_sim_v0.vector_env(1, autoreset_mode="nextstep")
    with pytest.raises(TypeError, match="takes no argument 'threads'"):
        smac_sim_v0.parallel_env(threads=2)
    with pytest.raises(ValueError, match="cannot be had"):
        make_vector_env(NAME, 2, vectorization="native", render_mode="rgb_array")
    for arguments in ({"strict": True}, {"flat_obs": True}, {"dead_agents": "stay"}):
        with pytest.raises(
            ValueError, match=f"cannot be had: its native form takes no argument '{next(iter(arguments))}'"
        ):
            make_vector_env(NAME, 2, vectorization="native", **arguments)
        assert isinstance(make_vector_env(NAME, 2, **arguments).unwrapped, SyncVectorEnv)  # the form that knows it


def test_calls_of_the_vector_form_that_are_refused():
    env = smac_sim_v0.vector_env(2, map_name="3m")
    with pytest.raises(RuntimeError, match="before reset"):
        env.step(np.ones((2, 3), int))
    env.reset(seed=[1, None])
    with pytest.raises(ValueError, match="shape"):
        env.step(np.ones((2, 4), int))
    with pytest.raises(ValueError, match="action 9 of marine_2 in game 1 is outside its actions 0 to 8"):
        env.step([[1, 1, 1], [1, 1, 9]])
    with pytest.raises(TypeError, match="integers"):
        env.step(np.ones((2, 3)))
    for seeds in ([1, 2, 3], [1]):
        with pytest.raises(ValueError, match="2 games"):
            env.reset(seed=seeds)


def test_a_battle_not_begun_and_one_that_is_over():
    env = smac_sim_v0.parallel_env("3m")
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.step({})
    env.reset(seed=1)
    while env.agents:
        env.step(dict.fromkeys(env.agents, 1))
    assert env.step({}) == ({}, {}, {}, {}, {})
    with pytest.raises(AssertionError):
        aec = smac_sim_v0.env(map_name="3m")
        aec.reset()
        aec.step(9)


def test_a_refused_step_leaves_the_battle_as_it_was():
    env, twin = smac_sim_v0.parallel_env("3m", strict=True), smac_sim_v0.parallel_env("3m", strict=True)
    env.reset(seed=4), twin.reset(seed=4)
    for wrong in ({"marine_0": 1}, {**dict.fromkeys(env.agents, 1), "marine_2": 7}, dict.fromkeys(env.agents, 99)):
        with pytest.raises(ValueError, match="marine_"):
            env.step(wrong)
    actions = dict.fromkeys(env.agents, 4)
    assert all(map(same, env.step(actions), twin.step(actions)))
    assert np.array_equal(env.battles.units, twin.battles.units)


@pytest.mark.parametrize("preset", ["liberty", "lotv"])
def test_engine_rules_and_preset_go_into_the_record(preset):
    expected = {"name": "smix_pz/smac_sim-v0", "version": __version__, "rules": "r1", "preset": preset}
    for vectorization in ("native", "sync"):
        envs = make_vector_env(NAME, 1, vectorization=vectorization, map_name="2s3z", preset=preset)
        assert dict(envs.team_spec.engine) == expected
        assert envs.team_spec.env_id == "smix_pz/smac_sim-v0" and envs.team_spec.has_win
    env = smac_sim_v0.parallel_env("2s3z", preset=preset)
    assert env.metadata["preset"] == preset and env.metadata["rules"] == "r1"
    assert "preset" not in smac_sim_v0.parallel_env.metadata


def test_registries():
    assert pettingzoo.make("parallel", "smix_pz/smac_sim-v0", map_name="8m").map_name == "8m"
    assert pettingzoo.make("aec", "smix_pz/smac_sim-v0", map_name="8m").unwrapped.possible_agents[7] == "marine_7"
    team = gymnasium.make("smix_pz/smac_sim-v0", map_name="MMM")
    assert team.unwrapped.team_spec.n_agents == 10 and team.reset(seed=0)[0]["state"].shape == (290,)
    envs = gymnasium.make_vec("smix_pz/smac_sim-v0", num_envs=5, map_name="2s3z")
    assert isinstance(envs, smac_sim_v0.BattleVectorEnv)
    assert envs.reset(seed=0)[0]["obs"].shape == (5, 5, 80)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    with pytest.raises(TypeError, match="takes no argument 'mapname'"):
        gymnasium.make_vec("smix_pz/smac_sim-v0", num_envs=5, mapname="2s3z")


def test_importing_the_package_does_not_compile_anything():
    heavy = {"numba", "pygame", "smix_pz.envs.smac_sim_v0"}
    code = f"import sys, smix_pz, smix_pz.envs; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
