"""SMAC's own class on the stand-in: what it computes equals smac_sim_v0 on the same seed and actions, on every map.

Needs the public `smac` package, which is on no registry; docs/standin.md says with which commit this was run, and how
often. STANDIN_STEPS is how many steps each map is played (at least four episodes), STANDIN_LOG a file for the counts.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from smix_pz.doctor import find_package
from smix_pz.envs import smac_sim_v0
from smix_pz.envs.battle.maps import MAPS
from smix_pz.envs.starcraft import import_smac

pytestmark = pytest.mark.skipif(
    find_package("smac") is None or find_package("pysc2") is None, reason="SMAC and pysc2 are not installed"
)

STEPS = int(os.environ.get("STANDIN_STEPS", "100"))
CLOSE = 1e-5  # 32-bit positions can make a difference to who is in range if a distance is this near to a limit
OPTIONS = {
    "3m": {"obs_last_action": True, "obs_pathing_grid": True, "obs_terrain_height": True},
    "2s3z": {"obs_instead_of_state": True},
    "3s5z": {"reward_only_positive": False},
    "MMM": {"obs_all_health": False, "obs_own_health": False, "state_timestep_number": True},
    "8m": {"reward_sparse": True},
    "2c_vs_64zg": {"obs_pathing_grid": True},
    "2m_vs_1z": {"move_amount": 1.5},
}


def concentrated_fire(masks):
    """Everybody attacks the enemy that most can reach; who cannot goes east, or stops."""
    reach = masks[:, 6:].sum(0)
    target = 6 + int(reach.argmax()) if reach.any() else 4
    return [target if row[target] else 0 if row[0] else 4 if row[4] else 1 for row in masks]


def random_play(masks, rng):
    return [int(rng.choice(np.flatnonzero(row))) for row in masks]


def near_a_limit(env):
    """Whether a distance is so near to 6 or 9 that rounding positions could decide what is in range."""
    units = env.battles.units[0]
    x, y = units["x"], units["y"]
    distance = np.hypot(x[:, None] - x[None], y[:, None] - y[None])
    return bool((np.minimum(np.abs(distance - 6), np.abs(distance - 9)) < CLOSE).any())


def compare(smac, twin, skipped):
    masks = np.array(smac.get_avail_actions())
    if near_a_limit(twin):
        skipped.append(smac._episode_steps)
    else:
        np.testing.assert_array_equal(masks, twin.battles.mask[0])
        np.testing.assert_allclose(np.array(smac.get_obs()), twin.battles.obs[0], atol=1e-5)
        np.testing.assert_allclose(smac.get_state(), twin.battles.state[0], atol=1e-5)
    return masks & twin.battles.mask[0]


@pytest.mark.parametrize(("map_name", "options"), [*((name, {}) for name in MAPS), *OPTIONS.items()])
def test_same_fight_two_readers(map_name, options, standin_folder):
    rng = np.random.default_rng(11)
    smac = import_smac()(map_name=map_name, seed=7, continuing_episode=True, **options)
    twin = smac_sim_v0.parallel_env(map_name, strict=True, dead_agents="stay", **options)
    agents, skipped, steps, episodes, ends = twin.possible_agents, [], 0, 0, set()
    try:
        while steps < STEPS or episodes < 4:
            smac.reset()
            twin.reset(seed=7 if episodes == 0 else None)
            masks, over = compare(smac, twin, skipped), False
            while not over:
                actions = random_play(masks, rng) if episodes % 2 or rng.random() < 0.1 else concentrated_fire(masks)
                reward, over, info = smac.step(actions)
                _, rewards, terminations, truncations, infos = twin.step(dict(zip(agents, actions, strict=True)))
                steps += 1
                assert reward == pytest.approx(rewards[agents[0]], abs=1e-5)
                terminated, truncated = terminations[agents[0]], truncations[agents[0]]
                assert over == (terminated or truncated)
                assert info.pop("episode_limit", False) == truncated
                assert info == {key: infos[agents[0]][key] for key in info}
                assert set(info) == {"battle_won", "dead_allies", "dead_enemies"}
                masks = compare(smac, twin, skipped)
            episodes += 1
            ends.add((info["battle_won"], truncated))
    finally:
        smac.close()
    assert len(skipped) <= 1 + steps // 100, f"{len(skipped)} of {steps} steps were too close to a limit"
    assert smac.max_reward == pytest.approx(smac.n_enemies * 10 + 200 + twin_health(twin))
    if "STANDIN_LOG" in os.environ:
        with open(os.environ["STANDIN_LOG"], "a") as file:
            file.write(f"{map_name} {options} {steps} steps, {episodes} episodes, {len(skipped)} skipped, {ends}\n")


def twin_health(twin):
    kinds, units = twin.battles.scenario.kinds, twin.battles.scenario.unit_kind
    enemies = kinds[units[twin.battles.scenario.n_agents :]]
    return (enemies["health"] + enemies["shield"]).sum()


def test_smac_reads_terrain_height_upside_down(standin_folder):
    """As it does with newer versions of the game; on maps that are symmetric nothing is to be seen of it."""
    smac = import_smac()(map_name="2c_vs_64zg")
    try:
        smac.reset()
        height = smac_sim_v0.parallel_env("2c_vs_64zg").battles.scenario.terrain.height
        assert (height != height[:, ::-1]).any()
        np.testing.assert_allclose(smac.terrain_height * 255, height[:, ::-1])
    finally:
        smac.close()
