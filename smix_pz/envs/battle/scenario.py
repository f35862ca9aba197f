"""A scenario: one of SMAC's maps with everything that stays as it is while its battles are played.

Source: SMAC specification, sections 1 and 1.1 (who is agent number i, which one-hot entry is which type).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np

from smix_pz.envs.battle.maps import MAPS, BattleMap, Group, find_map
from smix_pz.envs.battle.terrain import Terrain, terrain
from smix_pz.envs.battle.units import PRESETS, kind_table
from smix_pz.names import check_name

__all__ = ["Scenario", "make_scenario"]

# SMAC's maps use copies of the units with ids of their own; agents are sorted by those, so in this order (1.1).
ALLY_TYPE_ORDER = (
    "colossus",
    "stalker",
    "zealot",
    "marauder",
    "marine",
    "medivac",
    "baneling",
    "zergling",
    "hydralisk",
)

# One-hot entry of an enemy by its type; what is not named has the last one (1.1). In "stalkers_and_zealots" it is the
# reverse of the allies' order: SMAC does the same.
ENEMY_TYPE_INDEX: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "stalkers_and_zealots": {"zealot": 0, "stalker": 1},
        "colossi_stalkers_zealots": {"colossus": 0, "stalker": 1},
        "MMM": {"marauder": 0, "marine": 1},
        "bane": {"baneling": 0},
    }
)


@dataclass(frozen=True)
class Scenario:
    """A map with its units in agent order. A agents (allies) come first, E enemies after them, U = A + E.

    Attributes:
        map: the map.
        preset: preset of unit statistics.
        terrain: its ground.
        unit_names: type of each row of `kinds`; the allies' types in agent order, then the enemies' other types.
        kinds: `KIND` [n_kinds].
        unit_kind: int32 [U], row of `kinds` of each unit. Allies in agent order (by type, then as created), enemies in
            order of creation.
        n_agents: A.
        n_enemies: E.
        agent_names: "marine_0" and so on, counted within a type in agent order.
        ally_spawn: float64 [A, 2], the point at which each ally is created; aligned with `unit_kind`. Agents of one
            type are sorted by position once the units have been spread, which may swap them.
        enemy_spawn: float64 [E, 2], the same for the enemies.
        created: int32 [U], which of its side's units each one is in order of creation.
        type_index: int32 [U], which entry of the type one-hot is 1; 0 where the map has no type feature.
        ally_shield: whether allies have a shield feature (the race's, not the unit's).
        enemy_shield: the same for enemies.
        mmm: whether SMAC's medivac rules hold (heal actions, energy in the state, who has won).
        max_reward: SMAC's best return before scaling, with its default rewards.
    """

    map: BattleMap
    preset: str
    terrain: Terrain
    unit_names: tuple[str, ...]
    kinds: np.ndarray
    unit_kind: np.ndarray
    n_agents: int
    n_enemies: int
    agent_names: tuple[str, ...]
    ally_spawn: np.ndarray
    enemy_spawn: np.ndarray
    created: np.ndarray
    type_index: np.ndarray
    ally_shield: bool
    enemy_shield: bool
    mmm: bool
    max_reward: float

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copies and pickles of a map's own scenario are that scenario: copied arrays could be written to, and the
        kernels would be compiled a second time for them."""
        if MAPS.get(self.map.name) is self.map and self is _make_scenario(self.map.name, self.preset):
            return make_scenario, (self.map.name, self.preset)
        return super().__reduce_ex__(protocol)

    @property
    def n_units(self) -> int:
        return self.n_agents + self.n_enemies

    @property
    def unit_types(self) -> tuple[str, ...]:
        """Type name of each unit, [U]."""
        return tuple(self.unit_names[kind] for kind in self.unit_kind)

    def best_return(self, death_value: float, win: float) -> float:
        """Rewards of a flawless battle before scaling: every kill, the victory, and all that the enemies can lose."""
        enemies = self.kinds[self.unit_kind[self.n_agents :]]
        return float(self.n_enemies * death_value + win + (enemies["health"] + enemies["shield"]).sum())


def _spread(groups: Sequence[Group]) -> list[tuple[str, float, float]]:
    return [(group.unit, group.x, group.y) for group in groups for _ in range(group.count)]


def _counted_names(types: Sequence[str]) -> tuple[str, ...]:
    count: Counter[str] = Counter()
    names = []
    for unit in types:
        names.append(f"{unit}_{count[unit]}")
        count[unit] += 1
    return tuple(names)


def make_scenario(map_name: str, preset: str = "liberty") -> Scenario:
    """The scenario of a map; equal arguments give the same object, whose arrays are read-only.

    Args:
        map_name: one of SMAC's 23 maps.
        preset: "liberty" or "lotv", the unit statistics.

    Raises:
        ValueError: unknown map or preset.
    """
    find_map(map_name)
    check_name("preset of unit statistics", preset, PRESETS)
    return _make_scenario(map_name, preset)


@cache
def _make_scenario(map_name: str, preset: str) -> Scenario:
    battle = find_map(map_name)
    created_allies = _spread(battle.allies)
    order = sorted(range(len(created_allies)), key=lambda i: ALLY_TYPE_ORDER.index(created_allies[i][0]))  # stable
    allies = [created_allies[i] for i in order]
    enemies = _spread(battle.enemies)
    ally_types = [unit for unit, _, _ in allies]
    enemy_types = [unit for unit, _, _ in enemies]
    unit_names = tuple(dict.fromkeys(ally_types + enemy_types))
    kinds = kind_table(unit_names, preset)
    unit_kind = np.array([unit_names.index(unit) for unit in ally_types + enemy_types], np.int32)

    type_index = np.zeros(len(unit_kind), np.int32)
    if battle.type_bits:
        known = ENEMY_TYPE_INDEX[battle.map_type]
        # `unit_names` begins with the allies' types in their own order, and their ids are consecutive.
        type_index[:] = [unit_names.index(unit) for unit in ally_types] + [
            known.get(unit, battle.type_bits - 1) for unit in enemy_types
        ]
    lost = kinds[unit_kind[len(allies) :]]
    scenario = Scenario(
        map=battle,
        preset=preset,
        terrain=terrain(battle.terrain),
        unit_names=unit_names,
        kinds=kinds,
        unit_kind=unit_kind,
        n_agents=len(allies),
        n_enemies=len(enemies),
        agent_names=_counted_names(ally_types),
        ally_spawn=np.array([point for _, *point in allies]),
        enemy_spawn=np.array([point for _, *point in enemies]),
        created=np.array([*order, *range(len(enemies))], np.int32),
        type_index=type_index,
        ally_shield=battle.ally_race == "P",
        enemy_shield=battle.enemy_race == "P",
        mmm=battle.map_type == "MMM",
        max_reward=float(10 * len(enemies) + 200 + (lost["health"] + lost["shield"]).sum()),
    )
    for array in (kinds, unit_kind, scenario.ally_spawn, scenario.enemy_spawn, scenario.created, type_index):
        array.setflags(write=False)
    return scenario
