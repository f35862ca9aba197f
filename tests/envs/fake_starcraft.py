"""Stand-ins for StarCraft II, which is not available here: the battles are those of smac_sim_v0's engine.

- `FakeStarCraft2Env` has the interface of SMAC's `StarCraft2Env` and its way of launching, resetting, restarting and
  (mis)counting, as the SMAC specification describes it in sections 5, 10 and 11. `FakeSmacEnv` is smac_v0 on top of it.
- `FakeRunConfig` stands in for pysc2's: what it starts answers the requests that SMAC's own `StarCraft2Env` sends.

Both "launch" a real process that sleeps, so that a process that is left over is found, and both break where `Faults`
says so. Pids are written to the file named by FAKE_STARCRAFT_PIDS.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import numpy as np

from smix_pz.envs import smac_v0
from smix_pz.envs.battle.battles import Battles
from smix_pz.envs.battle.layout import Layout, LayoutOptions
from smix_pz.envs.battle.maps import MAPS, find_map
from smix_pz.envs.battle.scenario import make_scenario
from smix_pz.envs.battle.state import ORDER_ATTACK, ORDER_HEAL, ORDER_MOVE, ORDER_STOP
from smix_pz.envs.starcraft import Smac, StarCraftDied, watched

PIDS = "FAKE_STARCRAFT_PIDS"
LAYOUT_OPTIONS = set(LayoutOptions.__dataclass_fields__)
FIRST_RL_TYPE = 1970  # SMAC's maps give their copies of the units consecutive ids of their own


class FakeConnectionError(Exception):
    """What pysc2's protocol.ConnectionError is to SMAC."""


class Faults:
    """Which calls go wrong: {"launch": {2}} breaks the second launch of all, {"step": {5, 6}} the fifth and sixth step.

    Calls: launch, spawn, observe, step, kill, close. Steps are requests to the game: those of a reset count too.
    """

    def __init__(self, **calls):
        self.calls = {name: set(numbers) for name, numbers in calls.items()}
        self.count = Counter()

    def hits(self, name):
        self.count[name] += 1
        return self.count[name] in self.calls.get(name, ())


def living_pids(path):
    """Those of the launched processes that still run."""
    pids = [int(line) for line in path.read_text().split()] if path.exists() else []
    return [pid for pid in pids if _lives(pid)]


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class FakeProcess:
    """A process and the controller that talks to it, as pysc2's StarcraftProcess."""

    def __init__(self, faults, controller):
        if faults.hits("launch"):
            raise FakeConnectionError("no answer from the new process")
        self.faults, self.controller = faults, controller
        self._proc = subprocess.Popen(["sleep", "600"])
        with open(os.environ[PIDS], "a") as file:
            file.write(f"{self._proc.pid}\n")

    def close(self):
        if self.faults.hits("close"):
            raise OSError("the process does not answer")
        with suppress(ProcessLookupError):
            os.kill(self._proc.pid, signal.SIGKILL)  # as the game obeys whoever has its connection, a forked child too
        self._proc.wait()


class World:
    """What the game computes: a battle, its map's respawn script, and faults."""

    def __init__(self, map_name, seed, faults, battles=None):
        self.faults = faults
        self.dead = False
        scenario = make_scenario(map_name)
        self.battles = battles or Battles(Layout(scenario, LayoutOptions()), 1, threads=1)
        self.battles.seed([seed] if seed is not None else None)
        self.battles.reset()
        self.units = self.battles.units[0]
        if faults.hits("spawn"):
            self.units["health"][0] = 0.0  # a unit that will not appear

    def ask(self, name):
        """Every request passes here; once the game is dead, all fail."""
        if self.dead or self.faults.hits(name):
            self.dead = True
            raise FakeConnectionError(f"the game died in {name}")

    def kill(self, indices):
        self.ask("kill")
        self.units["health"][list(indices)] = 0.0

    def respawn_if_empty(self):
        """The maps' script: when the last unit has died, all are created again."""
        if not (self.units["health"] > 0).any():
            self.battles.reset()


class FakeStarCraft2Env:
    """SMAC's StarCraft2Env with a `World` in place of the game; see the module."""

    def __init__(self, faults, map_name="8m", seed=None, continuing_episode=False, **options):
        row = find_map(map_name)
        self.faults, self.map_name, self._seed = faults, map_name, seed
        self.continuing_episode = continuing_episode
        chosen = {key: value for key, value in options.items() if key in LAYOUT_OPTIONS}
        self.layout = Layout(make_scenario(map_name), LayoutOptions(**chosen))
        self.options = self.layout.options
        self.n_agents, self.n_enemies, self.episode_limit = row.n_allies, row.n_enemies, row.limit
        self.reward_death_value, self.reward_win = self.options.reward_death_value, self.options.reward_win
        self.max_reward = self.n_enemies * self.reward_death_value + self.reward_win
        self.agents, self.enemies = {}, {}
        self._episode_count = self._episode_steps = 0
        self.battles_won = self.battles_game = self.timeouts = self.force_restarts = 0
        self._sc2_proc = self._controller = self.renderer = self._obs = None
        self.previous_ally_units = self.previous_enemy_units = None

    def get_env_info(self):
        return {
            "state_shape": self.layout.state_dim,
            "obs_shape": self.layout.obs_dim,
            "n_actions": self.layout.n_actions,
            "n_agents": self.n_agents,
            "episode_limit": self.episode_limit,
        }

    def _launch(self):
        self.world = World(self.map_name, self._seed, self.faults, Battles(self.layout, 1, threads=1))
        controller = SimpleNamespace(
            step=self._advance, ping=lambda: SimpleNamespace(game_version="4.10.0"), observe=self._observe
        )
        self._sc2_proc = FakeProcess(self.faults, controller)
        self._controller = controller

    def _advance(self, count=1):
        self.world.ask("step")
        self.world.respawn_if_empty()

    def _observe(self):
        self.world.ask("observe")
        return self.world.units

    def reset(self):
        self._episode_steps = 0
        if self._episode_count == 0:
            self._launch()  # and whatever ran before runs on
        else:
            self._restart()
        try:
            self._obs = self._controller.observe()
            self.init_units()
        except FakeConnectionError:
            self.full_restart()
        return self.get_obs(), self.get_state()

    def _restart(self):
        try:
            living = [i for i, unit in [*self.agents.items(), *self._enemy_items()] if unit.health > 0]
            self.world.kill(living)
            self._controller.step(2)
        except FakeConnectionError:
            self.full_restart()

    def _enemy_items(self):
        return [(self.n_agents + index, unit) for index, unit in self.enemies.items()]

    def full_restart(self):
        self._sc2_proc.close()
        self._launch()
        self.force_restarts += 1

    def init_units(self):
        while True:
            rows, kinds = self._obs, self.layout.scenario.kinds
            views = [
                SimpleNamespace(
                    health=float(row["health"]),
                    health_max=float(kinds["health"][row["kind"]]),
                    shield_max=float(kinds["shield"][row["kind"]]),
                )
                for row in rows
            ]
            here = [view for view in views if view.health > 0]
            self.agents = dict(enumerate(views[: self.n_agents]))
            self.enemies = dict(enumerate(views[self.n_agents :]))
            if self._episode_count == 0:
                self.max_reward += sum(view.health_max + view.shield_max for view in self.enemies.values())
            if len(here) == len(views):
                self.world.battles.look()
                return
            try:
                self._controller.step(1)
                self._obs = self._controller.observe()
            except FakeConnectionError:
                self.full_restart()
                self.reset()

    def step(self, actions):
        masks = self.get_avail_actions()
        for agent, action in enumerate(actions):
            assert masks[agent][action] == 1, f"Agent {agent} cannot perform action {action}"
        battles = self.world.battles
        try:
            battles.begin(np.array([actions], np.int64))
            battles.run(self.options.step_mul)
            self._controller.step(self.options.step_mul)
            self._obs = self._controller.observe()
        except FakeConnectionError:
            self.full_restart()
            return 0, True, {}
        reward = float(battles.finish()[0])
        battles.look()
        for index, view in [*self.agents.items(), *self._enemy_items()]:
            view.health = float(self._obs["health"][index])
        self._episode_steps += 1
        battle = battles.battles[0]
        info = {
            "battle_won": bool(battle["result"] == 1),
            "dead_allies": sum(view.health == 0 for view in self.agents.values()),
            "dead_enemies": sum(view.health == 0 for view in self.enemies.values()),
        }
        terminated = bool(battle["result"] != 0)
        if terminated:
            self.battles_game += 1
            self.battles_won += int(info["battle_won"])
        elif self._episode_steps >= self.episode_limit:
            terminated = True
            self.battles_game += 1
            self.timeouts += 1
            if self.continuing_episode:
                info["episode_limit"] = True
        self._episode_count += int(terminated)
        if self.options.reward_scale:  # by what it believes to be the greatest return
            reward *= self.layout.max_reward / self.max_reward
        return reward, terminated, info

    def get_obs(self):
        obs = self.world.battles.obs[0].copy()
        # SMAC's vectors are longer by one than announced if they hold the time step: a zero stands before it
        return list(np.insert(obs, -1, 0.0, axis=1) if self.options.obs_timestep_number else obs)

    def get_state(self):
        return (
            np.concatenate(self.get_obs()) if self.options.obs_instead_of_state else self.world.battles.state[0].copy()
        )

    def get_avail_actions(self):
        return self.world.battles.mask[0].tolist()

    def get_stats(self):
        return {"battles_won": self.battles_won, "win_rate": self.battles_won / self.battles_game}

    def save_replay(self):
        with open(os.environ[PIDS] + ".SC2Replay", "w") as file:
            file.write("replay")

    def render(self, mode="human"):
        self.renderer = SimpleNamespace(close=lambda: None, mode=mode)
        return np.full((4, 6, 3), self._episode_steps, np.uint8) if mode == "rgb_array" else None

    def close(self):
        if self._sc2_proc:
            self._sc2_proc.close()


class FakeSmacEnv(smac_v0.parallel_env):
    """smac_v0 with `FakeStarCraft2Env` in place of SMAC's. `faults`: what breaks, see `Faults`."""

    def __init__(self, map_name="3m", *, faults=None, **options):
        self.faults = faults or Faults()
        super().__init__(map_name, **options)

    def _find_smac(self, map_name, game_version):
        row = MAPS[map_name]
        params = {"n_agents": row.n_allies, "n_enemies": row.n_enemies, "map_type": row.map_type}
        return Smac(
            partial(watched(FakeStarCraft2Env), self.faults),
            params,
            (StarCraftDied, FakeConnectionError, OSError),
            "StarCraft II build 75689",
            {"smac": "1.0.0", "pysc2": "4.0.0"},
        )


class FakeRunConfig:
    """pysc2's run config, as far as SMAC uses it; what it starts is a `World` behind Blizzard's messages."""

    def __init__(self, map_name, faults=None):
        self.map_name, self.faults = map_name, faults or Faults()
        self.version = SimpleNamespace(build_version=75689)
        self.started = []

    def map_data(self, path):
        return path.encode()

    def start(self, window_size, want_rgb):
        self.started.append(FakeProcess(self.faults, FakeController(self.map_name, self.faults)))
        return self.started[-1]


class FakeController:
    """pysc2's RemoteController, as far as SMAC uses it."""

    def __init__(self, map_name, faults):
        from s2clientprotocol import raw_pb2, sc2api_pb2

        self._raw, self._api = raw_pb2, sc2api_pb2
        self.map_name, self.faults = map_name, faults
        row = find_map(map_name)
        types = smac_v0.TYPE_ORDER[row.map_type]
        scenario = make_scenario(map_name)
        self.types = [FIRST_RL_TYPE + types.index(unit) for unit in scenario.unit_types[: scenario.n_agents]]
        self.types += [int(scenario.kinds["stock_id"][kind]) for kind in scenario.unit_kind[scenario.n_agents :]]

    def create_game(self, request):
        self.world = World(self.map_name, request.random_seed or None, self.faults)

    def join_game(self, request):
        pass

    def ping(self):
        return SimpleNamespace(game_version="4.10.0")

    def game_info(self):
        info = self._api.ResponseGameInfo()
        raw, terrain = info.start_raw, self.world.battles.scenario.terrain
        raw.map_size.x = raw.map_size.y = 32
        raw.playable_area.p1.x = raw.playable_area.p1.y = 32
        raw.pathing_grid.bits_per_pixel = 1
        raw.pathing_grid.data = np.packbits(terrain.pathable.astype(bool).T, axis=1).tobytes()  # rows of constant y
        raw.terrain_height.data = bytes(32 * 32)
        return info

    def data(self):
        """What the renderer asks for: names and speeds of the unit types."""
        from pysc2.lib import static_data

        response = self._api.ResponseData()
        for unit_type in set(self.types):
            response.units.add(unit_id=unit_type, name=f"unit{unit_type}", movement_speed=1.0)
        return static_data.StaticData(response)

    def observe(self):
        self._ask("observe")
        response, kinds = self._api.ResponseObservation(), self.world.battles.scenario.kinds
        for index, row in enumerate(self.world.units):
            if row["health"] > 0:
                kind = kinds[row["kind"]]
                unit = response.observation.raw_data.units.add(
                    tag=index + 1,
                    unit_type=self.types[index],
                    owner=1 + int(row["owner"]),
                    health=row["health"],
                    health_max=kind["health"],
                    shield=row["shield"],
                    shield_max=kind["shield"],
                    energy=row["energy"],
                    weapon_cooldown=row["cooldown"],
                )
                unit.pos.x, unit.pos.y = row["x"], row["y"]
        return response

    def actions(self, request):
        for action in request.actions:
            command = action.action_raw.unit_command
            unit = self.world.units[command.unit_tags[0] - 1]
            point = command.target_world_space_pos
            unit["order"] = {4: ORDER_STOP, 16: ORDER_MOVE, 23: ORDER_ATTACK, 386: ORDER_HEAL}[command.ability_id]
            unit["order_target"] = command.target_unit_tag - 1 if command.ability_id in (23, 386) else -1
            if command.ability_id == 16:
                unit["order_x"], unit["order_y"] = point.x, point.y

    def step(self, count=1):
        self._ask("step")
        self.world.respawn_if_empty()
        if count > 2:  # two loops and fewer are those of a reset; a battle is easier to follow if they do not count
            self.world.battles.run(count)

    def debug(self, commands):
        try:
            self.world.kill(tag - 1 for command in commands for tag in command.kill_unit.tag)
        except FakeConnectionError as error:
            self._broke(error)

    def _ask(self, name):
        try:
            self.world.ask(name)
        except FakeConnectionError as error:
            self._broke(error)

    def _broke(self, error):
        from pysc2.lib import protocol

        raise protocol.ConnectionError(str(error)) from error
