"""What smac_v0 and smac_sim_v0 have in common, as tests that take a factory.

`make(map_name, **options)` makes a ParallelEnv. The same functions run on smac_v0 with a stand-in for StarCraft, on
smac_sim_v0, and (marker `starcraft`) on smac_v0 with StarCraft II. Sizes and rewards are those of the SMAC
specification (sections 1 and 4), not of the code.

Of PettingZoo's own tests, parallel_api_test and api_test choose legal actions where the observation holds a mask.
parallel_seed_test, seed_test, state_test, max_cycles_test and render_test do not look at masks: to them illegal actions
must not be errors (strict=False).
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test
from pettingzoo.utils import wrappers
from pettingzoo.utils.conversions import parallel_to_aec

from smix_pz.envs import make_vector_env

# map: agents, observation, state, actions, limit (section 1)
SIZES = {
    "3m": (["marine_0", "marine_1", "marine_2"], 30, 48, 9, 60),
    "2s3z": (["stalker_0", "stalker_1", "zealot_0", "zealot_1", "zealot_2"], 80, 120, 11, 120),
    "2m_vs_1z": (["marine_0", "marine_1"], 16, 26, 7, 150),
    "MMM": (["marauder_0", "marauder_1", *[f"marine_{k}" for k in range(7)], "medivac_0"], 160, 290, 16, 150),
    "1c3s5z": (
        ["colossus_0", *[f"stalker_{k}" for k in range(3)], *[f"zealot_{k}" for k in range(5)]],
        *(162, 270, 15, 180),
    ),
    "bane_vs_bane": (
        [*[f"baneling_{k}" for k in range(4)], *[f"zergling_{k}" for k in range(20)]],
        *(336, 984, 30, 200),
    ),
}
# 3m: with all four extra entries, state as observations, nothing of health (section 1, second table)
OPTION_SIZES = [
    ({"obs_last_action": True}, 48, 48),
    (
        {
            "obs_last_action": True,
            "obs_pathing_grid": True,
            "obs_terrain_height": True,
            "obs_timestep_number": True,
        },
        *(66, 48),
    ),
    ({"state_last_action": False}, 30, 21),
    ({"obs_instead_of_state": True}, 30, 90),
    ({"obs_instead_of_state": True, "obs_timestep_number": True}, 31, 93),
    ({"obs_all_health": False, "obs_own_health": False}, 24, 48),
]
INFO_KEYS = {"action_mask", "battle_won", "dead_allies", "dead_enemies", "illegal_actions"}
ONLY_NO_OP = [1] + [0] * 8  # of 3m


def legal_actions(env, infos, rng):
    return {agent: int(rng.choice(np.flatnonzero(infos[agent]["action_mask"]))) for agent in env.agents}


def concentrated_fire(env, infos):
    """All shoot at the enemy that most can reach, who cannot walks east, towards the enemy."""
    reach = {agent: infos[agent]["action_mask"][6:] for agent in env.agents}
    count = np.sum(list(reach.values()), axis=0)
    if not count.any():
        return stand(env)
    target = 6 + int(np.argmax(count))
    walk = {agent: 4 if infos[agent]["action_mask"][4] else 1 for agent in env.agents}
    return {agent: target if infos[agent]["action_mask"][target] else walk[agent] for agent in env.agents}


def stand(env):
    return dict.fromkeys(env.agents, 1)


def play_to_end(env, choose):
    """The returns of `step` of one episode."""
    _, infos = env.reset()
    steps = []
    while env.agents:
        steps.append(env.step(choose(env, infos)))
        infos = steps[-1][4]
    return steps


def sizes_and_names(make, map_name):
    names, obs_dim, state_dim, n_actions, limit = SIZES[map_name]
    env = make(map_name)
    assert env.possible_agents == names
    assert env.episode_limit == limit
    assert env.state_space == spaces.Box(-2.0, 2.0, (state_dim,), np.float32)
    for name in names:
        expected = {
            "observation": spaces.Box(-1.0, 1.0, (obs_dim,), np.float32),
            "action_mask": spaces.Box(0, 1, (n_actions,), np.int8),
        }
        assert env.observation_space(name) == spaces.Dict(expected)
        assert env.observation_space(name) is env.observation_space(name)
        assert env.action_space(name) == spaces.Discrete(n_actions)
        assert env.action_space(name) is env.action_space(name)
    env.close()


def option_sizes(make, options, obs_dim, state_dim):
    env = make("3m", **options)
    assert env.state_space.shape == (state_dim,)
    assert env.observation_space("marine_0")["observation"].shape == (obs_dim,)
    observations, _ = env.reset(seed=3)
    assert env.state().shape == (state_dim,)
    assert observations["marine_2"]["observation"].shape == (obs_dim,)
    assert observations["marine_2"]["observation"].dtype == np.float32
    observations, *_ = env.step(stand(env))
    if options.get("obs_timestep_number"):  # the last entry: one of 60 steps; the one before: its own health
        assert observations["marine_2"]["observation"][-2:] == pytest.approx([1.0, 1 / 60])
    env.close()


def metadata(make):
    env = make("3m")
    assert {"human", "rgb_array"} <= set(env.metadata["render_modes"])
    assert env.metadata["is_parallelizable"] and env.metadata["shared_reward"] and env.metadata["has_win"]
    assert env.metadata["render_fps"] > 0 and env.metadata["rules"]
    assert env.metadata["name"] == str(env)
    assert env.engine["name"] == "smix_pz/" + str(env).replace("_v0", "-v0")
    assert {"version", "rules"} <= set(env.engine)
    env.close()


def reset_returns(make):
    env = make("3m")
    observations, infos = env.reset(seed=1)
    assert env.agents == env.possible_agents
    assert list(observations) == list(infos) == env.agents
    state = env.state()
    assert state.dtype == np.float32 and env.state_space.contains(state)
    # nobody is hurt, no weapon cools down, nothing was done: entries of section 3.3
    np.testing.assert_allclose(state[[0, 4, 8]], 1.0)
    np.testing.assert_allclose(state[[12, 15, 18]], 1.0)
    assert not state[21:].any()
    for agent in env.agents:
        assert env.observation_space(agent).contains(observations[agent])
        info = infos[agent]
        assert set(info) == INFO_KEYS
        np.testing.assert_array_equal(info["action_mask"], observations[agent]["action_mask"])
        assert info["action_mask"].dtype == np.int8
        assert info["action_mask"][:2].tolist() == [0, 1]  # alive: no no-op, always stop
        assert info["battle_won"] is False
        assert (info["dead_allies"], info["dead_enemies"], info["illegal_actions"]) == (0, 0, 0)
        assert observations[agent]["observation"][29] == 1.0  # its own health
    env.close()


def episodes(make, map_name, seeds):
    """Invariants of every step of random legal play."""
    env = make(map_name)
    n_agents = len(env.possible_agents)
    deaths = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        _, infos = env.reset()
        steps = 0
        while env.agents:
            before = env.agents[:]
            observations, rewards, terminations, truncations, infos = env.step(legal_actions(env, infos, rng))
            steps += 1
            for part in (observations, rewards, terminations, truncations, infos):
                assert list(part) == before
            assert len(set(rewards.values())) == 1 and next(iter(rewards.values())) >= 0.0
            assert env.state_space.contains(env.state())
            gone = [agent for agent in before if terminations[agent] or truncations[agent]]
            assert env.agents == [agent for agent in before if agent not in gone]
            for agent in before:
                assert env.observation_space(agent).contains(observations[agent])
                assert observations[agent]["action_mask"].any()
                assert infos[agent]["illegal_actions"] == 0
                assert "episode_limit" not in infos[agent] and "aborted" not in infos[agent]
                if agent in gone and env.agents:  # it has died, the others go on
                    deaths += 1
                    assert terminations[agent] and not truncations[agent]
                    assert not observations[agent]["observation"].any()
                    assert np.flatnonzero(observations[agent]["action_mask"]).tolist() == [0]
            if env.agents:
                assert infos[before[0]]["dead_allies"] == n_agents - len(env.agents)
                assert not any(info["battle_won"] for info in infos.values())
        assert 0 < steps <= env.episode_limit
        if any(truncations.values()):
            assert steps == env.episode_limit
        else:
            assert all(terminations.values())
    assert deaths > 0
    env.close()


def defeat(make):
    env = make("3m")
    # the enemy comes to where the marines are, who only stand there: they never hurt anybody
    steps = play_to_end(env, lambda env, infos: stand(env))
    assert len(steps) < 60
    _, _, terminations, truncations, infos = steps[-1]
    assert all(terminations.values()) and not any(truncations.values())
    for info in infos.values():
        assert not info["battle_won"] and (info["dead_allies"], info["dead_enemies"]) == (3, 0)
    assert sum(next(iter(step[1].values())) for step in steps) == 0.0
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.step({agent: 1 for agent in env.possible_agents})
    env.close()


def victory(make):
    """Concentrated fire wins 8m often; marines do not regenerate, so that a win returns 20 (section 4)."""
    env = make("8m")
    for _ in range(20):
        steps = play_to_end(env, concentrated_fire)
        _, _, terminations, truncations, infos = steps[-1]
        assert all(terminations.values()) and not any(truncations.values())
        total = sum(next(iter(step[1].values())) for step in steps)
        won = next(iter(infos.values()))["battle_won"]
        assert all(info["battle_won"] == won for info in infos.values())
        assert won == (next(iter(infos.values()))["dead_enemies"] == 8)
        if won:
            assert total == pytest.approx(20.0, abs=1e-4)
            env.close()
            return
        # a lost battle: all of the enemies' health and seven kills, over 640 / 20, are out of reach
        assert 0.0 <= total < (8 * 45 + 7 * 10) / 32
    raise AssertionError("no victory in 20 battles")


def step_limit(make, continuing):
    env = make("2s_vs_1sc", continuing_episode=continuing)
    # the spine crawler cannot walk, and the stalkers stand out of its reach
    steps = play_to_end(env, lambda env, infos: stand(env))
    assert len(steps) == 300
    assert not any(flag for step in steps[:-1] for part in step[2:4] for flag in part.values())
    _, _, terminations, truncations, infos = steps[-1]
    assert all(truncations.values()) and not any(terminations.values())
    assert [info.get("episode_limit") for info in infos.values()] == [True if continuing else None] * 2
    assert not any("episode_limit" in info for step in steps[:-1] for info in step[4].values())
    assert not any(info["battle_won"] for info in infos.values())
    env.close()


def illegal_actions(make):
    env = make("3m")
    _, infos = env.reset(seed=1)
    # at the start no enemy is within 6 cells; no-op is for the dead
    assert not infos["marine_0"]["action_mask"][6:].any()
    _, _, _, _, infos = env.step({"marine_0": 6, "marine_1": 0, "marine_2": 1})
    assert [infos[agent]["illegal_actions"] for agent in env.possible_agents] == [1, 1, 0]
    # what was carried out is stop: last actions are entries 21 to 47 of the state
    np.testing.assert_array_equal(env.state()[21:].reshape(3, 9).argmax(1), [1, 1, 1])
    _, _, _, _, infos = env.step({"marine_0": 8, "marine_1": 1, "marine_2": 1})
    assert [infos[agent]["illegal_actions"] for agent in env.possible_agents] == [2, 1, 0]
    _, infos = env.reset()
    assert [infos[agent]["illegal_actions"] for agent in env.possible_agents] == [0, 0, 0]
    env.close()
    strict = make("3m", strict=True)
    strict.reset(seed=1)
    with pytest.raises(ValueError, match=r"action 6 of marine_1 .*legal actions are \[1, "):
        strict.step({"marine_0": 1, "marine_1": 6, "marine_2": 1})
    strict.step(stand(strict))  # and nothing has been broken
    strict.close()


def bad_calls(make):
    env = make("3m")
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.step({"marine_0": 1})
    env.reset(seed=1)
    with pytest.raises(ValueError, match="needs an action for marine_1"):
        env.step({"marine_0": 1, "marine_2": 1})
    with pytest.raises(ValueError, match="did you mean 'marine_1'"):
        env.step({**stand(env), "marin_1": 1})
    for action in (9, -1, 1.5):
        with pytest.raises(ValueError, match="marine_2 is outside Discrete"):
            env.step({**stand(env), "marine_2": action})
    env.step({agent: np.int64(1) for agent in env.agents})
    env.close()
    with pytest.raises(TypeError, match="did you mean 'obs_last_action'"):
        make("3m", obs_last_actions=True)
    with pytest.raises(ValueError, match="did you mean 'leave'"):
        make("3m", dead_agents="leaves")
    with pytest.raises(ValueError, match="did you mean 'rgb_array'"):
        make("3m", render_mode="rgb_arry")


def dead_stay(make):
    env = make("3m", dead_agents="stay")
    _, infos = env.reset(seed=1)
    seen = 0
    for _ in range(60):
        dead = [a for a in env.agents if infos[a]["action_mask"][0]]
        actions = {agent: 0 if agent in dead else 1 for agent in env.agents}
        if dead:
            actions[dead[0]] = 1  # the dead cannot stand either
        counted = infos[dead[0]]["illegal_actions"] if dead else 0
        observations, rewards, terminations, _, infos = env.step(actions)
        assert list(observations) == env.possible_agents
        if not env.agents:
            break
        assert env.agents == env.possible_agents and not any(terminations.values())
        assert len(set(rewards.values())) == 1
        for agent in dead:
            seen += 1
            assert not observations[agent]["observation"].any()
            assert observations[agent]["action_mask"].tolist() == ONLY_NO_OP
        if dead:
            assert infos[dead[0]]["illegal_actions"] == counted + 1
    assert seen > 0 and all(terminations.values())
    env.close()


def dead_are_ignored(make):
    """Actions of agents that have left are ignored."""
    env = make("3m")
    env.reset(seed=1)
    while len(env.agents) == 3:
        env.step(stand(env))
    assert env.agents  # not all in the same step
    before = env.agents[:]
    result = env.step(dict.fromkeys(env.possible_agents, 1))
    assert list(result[1]) == before
    env.close()


def flat_observations(make):
    env = make("3m", flat_obs=True)
    assert env.observation_space("marine_0") == spaces.Box(-1.0, 1.0, (30,), np.float32)
    observations, infos = env.reset(seed=1)
    assert observations["marine_0"].shape == (30,) and infos["marine_0"]["action_mask"].shape == (9,)
    env.close()


def arrays_are_copies(make):
    env = make("3m")
    observations, _ = env.reset(seed=1)
    kept, state = observations["marine_0"]["observation"].copy(), env.state()
    was = state.copy()
    for _ in range(3):
        env.step({**stand(env), "marine_0": 4})
    np.testing.assert_array_equal(observations["marine_0"]["observation"], kept)
    np.testing.assert_array_equal(state, was)
    assert (env.state() != was).any()
    env.close()


def pettingzoo_api(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # PettingZoo finds masks in Dict observations, and wishes that these were arrays all the same.
        warnings.filterwarnings("ignore", message=".*should be gymnasium.spaces.box or gymnasium.spaces.discrete")
        warnings.filterwarnings("ignore", message="Observation is not a NumPy array")
        warnings.filterwarnings("ignore", message="Observation numpy array is all zeros")  # those who have just died
        env = make("3m")
        parallel_api_test(env, num_cycles=100)
        env.close()
        aec = wrappers.OrderEnforcingWrapper(wrappers.AssertOutOfBoundsWrapper(parallel_to_aec(make("3m"))))
        api_test(aec, num_cycles=60)
        aec.close()


def pettingzoo_seeds(make):
    """Ignores masks."""
    parallel_seed_test(lambda: make("3m"), num_cycles=30)


def team_view(make, vectorization, n_envs=2):
    """What a learner gets: masks, the dead, the winner, bounds."""
    envs = make_vector_env(make, n_envs, vectorization=vectorization, map_name="3m")
    try:
        spec = envs.team_spec
        assert (spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim) == (3, 9, 30, 48)
        assert spec.episode_limit == 60 and spec.has_win
        assert spec.agent_names == ("marine_0", "marine_1", "marine_2")
        assert envs.single_observation_space["state"] == spaces.Box(-2.0, 2.0, (48,), np.float32)
        observation, _ = envs.reset(seed=4)
        assert observation["action_mask"].dtype == np.int8
        ended, died = np.zeros(n_envs, bool), False
        for _ in range(60):
            assert envs.observation_space.contains(observation)
            alive = observation["obs"].any(-1)
            died = died or not alive[~ended].all()
            np.testing.assert_array_equal(observation["action_mask"][~alive][:, 0], 1)
            actions = np.where(alive, 1, 0)
            observation, _, terminated, truncated, infos = envs.step(actions)
            now = terminated | truncated
            if now.any():
                assert infos["_battle_won"][now].all() and not infos["battle_won"][now].any()
            ended |= now
            if ended.all():
                break
        assert ended.all() and died
    finally:
        envs.close()


CHECKS = [
    *((sizes_and_names, (map_name,)) for map_name in SIZES),
    *((option_sizes, sizes) for sizes in OPTION_SIZES),
    (metadata, ()),
    (reset_returns, ()),
    *((episodes, (map_name, range(2))) for map_name in ("3m", "2s3z", "MMM")),
    (defeat, ()),
    (victory, ()),
    (step_limit, (True,)),
    (step_limit, (False,)),
    (illegal_actions, ()),
    (bad_calls, ()),
    (dead_stay, ()),
    (dead_are_ignored, ()),
    (flat_observations, ()),
    (arrays_are_copies, ()),
    (pettingzoo_api, ()),
    (pettingzoo_seeds, ()),
    (team_view, ("sync",)),
    (team_view, ("async",)),
]
contract = pytest.mark.parametrize(
    ("check", "arguments"), CHECKS, ids=[f"{check.__name__}-{i}" for i, (check, _) in enumerate(CHECKS)]
)
