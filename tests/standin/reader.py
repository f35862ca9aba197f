"""A client of the stand-in that is not SMAC: pysc2's own controller, and SMAC's formulas by the slow reader.

What the protocol says is turned into what `smac_reader.SlowSmac` (written from the SMAC specification alone) takes. The
battle's rules about who is who (section 1.1) and how grids are packed (section 10.1) are applied here once more.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "envs" / "battle"))
from smac_reader import SlowSmac, types_of

STOCK = {
    **{48: "marine", 51: "marauder", 54: "medivac", 74: "stalker", 73: "zealot", 4: "colossus", 98: "spine_crawler"},
    **{105: "zergling", 9: "baneling", 107: "hydralisk"},
}
RACES = {"T": 1, "Z": 2, "P": 3}
DIFFICULTY = 7


def start(version=None):
    """pysc2's process with its controller, started as SMAC starts it."""
    from absl import flags
    from pysc2 import run_configs

    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    return run_configs.get(version=version).start(want_rgb=False)


def create(controller, map_name, seed=None, races="TT"):
    """Create and join a game as SMAC does."""
    from s2clientprotocol import sc2api_pb2 as api

    request = api.RequestCreateGame(
        local_map=api.LocalMap(map_path=os.path.join("SMAC_Maps", f"{map_name}.SC2Map"), map_data=b"placeholder"),
        realtime=False,
        random_seed=seed,
    )
    request.player_setup.add(type=api.Participant)
    request.player_setup.add(type=api.Computer, race=RACES[races[1]], difficulty=DIFFICULTY)
    controller.create_game(request)
    join = api.RequestJoinGame(race=RACES[races[0]], options=api.InterfaceOptions(raw=True, score=False))
    return controller.join_game(join)


def grids(info):
    """(pathable [x][y], height [x][y]) of a ResponseGameInfo, by section 10.1."""
    raw = info.start_raw
    width, tall = raw.map_size.x, raw.map_size.y
    assert raw.pathing_grid.bits_per_pixel == 1 and len(raw.pathing_grid.data) == width * tall // 8
    bits = [byte >> (7 - n) & 1 for byte in raw.pathing_grid.data for n in range(8)]
    pathable = [[bits[y * width + x] for y in range(tall)] for x in range(width)]
    data = raw.terrain_height.data
    height = [[data[y * width + x] for y in range(tall)] for x in range(width)]
    return pathable, height


class Battle:
    """A game seen through pysc2, read by SMAC's formulas."""

    def __init__(self, controller, map_name):
        self.controller = controller
        self.slow = SlowSmac(map_name, *grids(controller.game_info()))
        self.begin()

    def begin(self):
        """Number the units, as SMAC does at the start of an episode."""
        units = self.controller.observe().observation.raw_data.units
        allies = sorted((u for u in units if u.owner == 1), key=lambda u: (u.unit_type, u.pos.x, u.pos.y))
        enemies = [u for u in units if u.owner == 2]
        self.tags = [u.tag for u in allies + enemies]
        names = list(dict.fromkeys(self.slow.ally_types))
        self.types = [names[u.unit_type - allies[0].unit_type] for u in allies] + [STOCK[u.unit_type] for u in enemies]
        assert self.types == self.slow.ally_types + self.slow.enemy_types
        self.dead, self.steps, self.last = set(), 0, None
        self.look()
        self.before = [(u["health"], u["shield"]) for u in self.units]

    def look(self):
        """Renew `units`: a unit whose tag is missing is dead."""
        found = {u.tag: u for u in self.controller.observe().observation.raw_data.units}
        self.units = []
        for index, (tag, name) in enumerate(zip(self.tags, self.types, strict=True)):
            unit = found.get(tag)
            row = dict.fromkeys(("x", "y", "health", "shield", "energy", "cooldown"), 0.0)
            if unit is not None:
                row = {
                    **{"x": unit.pos.x, "y": unit.pos.y, "health": unit.health, "shield": unit.shield},
                    **{"energy": unit.energy, "cooldown": unit.weapon_cooldown},
                }
            elif index < len(getattr(self, "units", ())):
                row = {**self.units[index], "health": 0.0}
            self.units.append({"type": name, **row})

    def masks(self):
        return [self.slow.mask(self.units, i) for i in range(self.slow.a)]

    def observations(self):
        return [self.slow.observation(self.units, self.last, self.steps, i) for i in range(self.slow.a)]

    def state(self):
        return self.slow.state(self.units, self.last, self.steps)

    def step(self, actions):
        """Play a joint action; returns (reward, end code)."""
        from s2clientprotocol import sc2api_pb2 as api

        request = api.RequestAction()
        for index, (action, replaced, command) in enumerate(self.slow.commands(self.units, self.masks(), actions)):
            assert not replaced, f"action {action} of agent {index} is illegal"
            if command is None:
                continue
            raw = request.actions.add().action_raw.unit_command
            raw.unit_tags.append(self.tags[index])
            raw.ability_id = {"stop": 4, "move": 16, "attack": 23, "heal": 386}[command[0]]
            if command[0] == "move":
                raw.target_world_space_pos.x, raw.target_world_space_pos.y = command[1:]
            elif command[0] in ("attack", "heal"):
                raw.target_unit_tag = self.tags[command[1]]
        results = self.controller.actions(request).result
        assert list(results) == [1] * len(request.actions)
        self.controller.step(8)
        before = list(self.before)
        self.look()
        self.last, self.steps = list(actions), self.steps + 1
        reward = self.slow.reward(before, self.units, self.dead)
        self.before = [(u["health"], u["shield"]) for u in self.units]
        return reward, self.slow.end_code(self.units)

    def end(self):
        """Kill everybody, as SMAC's reset does, and number the next battle's units."""
        from s2clientprotocol import debug_pb2 as debug

        alive = [tag for tag, unit in zip(self.tags, self.units, strict=True) if unit["health"] > 0]
        self.controller.debug([debug.DebugCommand(kill_unit=debug.DebugKillUnit(tag=alive))])
        self.controller.step(2)
        self.begin()


__all__ = ["Battle", "create", "grids", "start", "types_of"]
