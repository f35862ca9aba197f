"""The statistics of every unit in SMAC's maps, in the units of measure of the game's own data.

A time is a "normal" second (16 game loops), a speed is cells per normal second. `kind_table` converts to loops.
Source: SMAC specification, section 6 (bodies 6.1, weapons 6.2) and section 3.3 (cooldown scales). Numbers that the
specification could not establish are marked "unknown" or "inferred" beside them.

Two presets: "liberty", the base data that all of SMAC's maps depend on, and "lotv", the later ladder balance that
SMAClite and SMAX use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from smix_pz.envs.battle.state import (
    ARMORED,
    BIOLOGICAL,
    KIND,
    LAYER_AIR,
    LAYER_COLOSSUS,
    LAYER_GROUND,
    LIGHT,
    LOOPS_PER_SECOND,
    MASSIVE,
    MECHANICAL,
    STRUCTURE,
    WEAPON_BLAST,
    WEAPON_DIRECT,
    WEAPON_NONE,
    WEAPON_SWEEP,
)
from smix_pz.names import check_name

__all__ = ["PRESETS", "UNITS", "UnitType", "kind_table"]

# An idle or attack-moving unit looks this far for enemies, or as far as its weapon reaches (6.2). The LotV data raise
# the minimum to 5.5, 6.5 or 7.5; which unit gets which is unknown, so both presets use the base number.
MINIMUM_SCAN_RANGE = 5.0


@dataclass(frozen=True)
class UnitType:
    """One type of unit. Times in normal seconds, speeds in cells per normal second, lengths in cells."""

    name: str
    stock_id: int
    attributes: int  # bits LIGHT ... MASSIVE
    health: float
    speed: float
    radius: float
    separation: float
    sight: float
    cooldown_scale: float  # SMAC's divisor of the cooldown in the state, in loops (3.3)
    shield: float = 0.0
    shield_regen: float = 0.0
    shield_delay: float = 0.0
    armor: float = 0.0
    health_regen: float = 0.0
    acceleration: float = 1000.0  # in effect instant; cells per second, per second
    layer: int = LAYER_GROUND
    flying: bool = False
    energy: float = 0.0
    energy_start: float = 0.0
    energy_regen: float = 0.0
    weapon: int = WEAPON_NONE
    hits_ground: bool = False
    hits_air: bool = False
    damage: float = 0.0
    bonus: float = 0.0
    bonus_against: int = 0
    structure_damage: float = 0.0
    hits: int = 1
    hit_gap: float = 0.0
    range: float = 0.0
    range_slop: float = 1.0
    period: float = 0.0
    damage_point: float = 0.0
    hit_delay: float = 0.0
    missile_speed: float = 0.0  # unknown for every missile weapon; 0: the hit is instant
    sweep_length: float = 0.0
    sweep_width: float = 0.0
    blast_radius: float = 0.0
    blast_on_death: bool = False
    heal_rate: float = 0.0
    heal_cost: float = 0.0  # energy for each point of health
    heal_range: float = 0.0
    heal_scan: float = 0.0
    heal_minimum: float = 0.0

    @property
    def scan_range(self) -> float:
        """Distance (edge to edge) within which it acquires targets."""
        return max(MINIMUM_SCAN_RANGE, self.range)


LIBERTY = (
    UnitType(
        name="marine",
        stock_id=48,
        attributes=LIGHT | BIOLOGICAL,
        health=45.0,
        speed=2.25,
        radius=0.375,
        separation=0.375,
        sight=9.0,
        cooldown_scale=15.0,
        weapon=WEAPON_DIRECT,
        hits_ground=True,
        hits_air=True,
        damage=6.0,
        range=5.0,
        period=0.8608,
        damage_point=0.05,
    ),
    UnitType(
        name="marauder",
        stock_id=51,
        attributes=ARMORED | BIOLOGICAL,
        health=125.0,
        armor=1.0,
        speed=2.25,
        radius=0.5625,
        separation=0.5,  # inferred: the data's default
        sight=10.0,
        cooldown_scale=25.0,
        weapon=WEAPON_DIRECT,  # a missile of unknown speed
        hits_ground=True,
        damage=10.0,
        bonus=10.0,
        bonus_against=ARMORED,
        range=6.0,
        period=1.5,
    ),
    UnitType(
        name="medivac",
        stock_id=54,
        attributes=ARMORED | MECHANICAL,
        health=150.0,
        armor=1.0,
        speed=2.75,
        acceleration=2.3125,
        radius=0.75,
        separation=0.75,
        sight=11.0,
        cooldown_scale=15.0,  # SMAC's "any other"; in the MMM maps the state shows energy / 200 instead
        layer=LAYER_AIR,
        flying=True,
        energy=200.0,
        energy_start=50.0,
        energy_regen=0.5625,
        heal_rate=9.0,
        heal_cost=0.33,
        heal_range=4.0,
        heal_scan=6.0,
        heal_minimum=5.0,  # unknown; the game has "a small minimum", SMAClite uses 5
    ),
    UnitType(
        name="stalker",
        stock_id=74,
        attributes=ARMORED | MECHANICAL,
        health=80.0,
        shield=80.0,
        shield_regen=2.0,
        shield_delay=10.0,
        armor=1.0,
        speed=2.9531,
        radius=0.625,
        separation=0.625,
        sight=10.0,
        cooldown_scale=35.0,
        weapon=WEAPON_DIRECT,  # a missile of unknown speed
        hits_ground=True,
        hits_air=True,
        damage=10.0,
        bonus=4.0,
        bonus_against=ARMORED,
        range=6.0,
        period=1.44,
        damage_point=0.167,
    ),
    UnitType(
        name="zealot",
        stock_id=73,
        attributes=LIGHT | BIOLOGICAL,
        health=100.0,
        shield=50.0,
        shield_regen=2.0,
        shield_delay=10.0,
        armor=1.0,
        speed=2.25,
        radius=0.5,
        separation=0.375,
        sight=9.0,
        cooldown_scale=22.0,
        weapon=WEAPON_DIRECT,
        hits_ground=True,
        damage=8.0,
        hits=2,
        hit_gap=0.28,
        range=0.1,
        period=1.2,
    ),
    UnitType(
        name="colossus",
        stock_id=4,
        attributes=ARMORED | MECHANICAL | MASSIVE,
        health=200.0,
        shield=150.0,
        shield_regen=2.0,
        shield_delay=10.0,
        armor=1.0,
        speed=2.25,
        radius=1.0,
        separation=0.75,
        sight=10.0,
        cooldown_scale=24.0,
        # A target of ground and of air weapons. No unit here has an air weapon that cannot hit the ground, so that
        # `flying` stays False.
        layer=LAYER_COLOSSUS,
        weapon=WEAPON_SWEEP,
        hits_ground=True,
        damage=20.0,
        hits=2,  # two lances, opposite directions, at once
        hit_delay=0.25,
        range=6.0,
        range_slop=0.0,
        period=2.2,
        damage_point=0.083,
        sweep_length=1.25,
        sweep_width=0.15,
    ),
    UnitType(
        name="spine_crawler",
        stock_id=98,
        attributes=ARMORED | BIOLOGICAL | STRUCTURE,
        health=300.0,
        health_regen=0.2734,
        armor=2.0,
        speed=0.0,
        radius=0.875,
        separation=0.875,
        sight=11.0,
        cooldown_scale=15.0,
        weapon=WEAPON_DIRECT,  # a tentacle, in the data a missile of unknown speed
        hits_ground=True,
        damage=25.0,
        bonus=5.0,
        bonus_against=ARMORED,
        range=7.0,
        range_slop=0.0,
        period=1.6,
        damage_point=0.333,
    ),
    UnitType(
        name="zergling",
        stock_id=105,
        attributes=LIGHT | BIOLOGICAL,
        health=35.0,
        health_regen=0.2734,
        speed=2.9531,  # no metabolic boost
        radius=0.375,
        separation=0.375,
        sight=8.0,
        cooldown_scale=11.0,
        weapon=WEAPON_DIRECT,
        hits_ground=True,
        damage=5.0,
        range=0.1,
        period=0.696,
        damage_point=0.167,
    ),
    UnitType(
        name="baneling",
        stock_id=9,
        attributes=BIOLOGICAL,
        health=30.0,
        health_regen=0.2734,
        speed=2.5,
        radius=0.375,
        separation=0.375,
        sight=8.0,
        cooldown_scale=1.0,
        weapon=WEAPON_BLAST,
        hits_ground=True,
        damage=20.0,
        bonus=15.0,
        bonus_against=LIGHT,
        structure_damage=80.0,
        range=0.25,
        blast_radius=2.2,
        blast_on_death=True,  # the data's death response; not verified in SMAC's maps, and SMAClite omits it
    ),
    UnitType(
        name="hydralisk",
        stock_id=107,
        attributes=LIGHT | BIOLOGICAL,
        health=80.0,  # SMAC's copy of the unit fixes 80 in every version
        health_regen=0.2734,
        speed=2.25,
        radius=0.625,
        separation=0.5,
        sight=9.0,
        cooldown_scale=10.0,
        weapon=WEAPON_DIRECT,  # a missile of unknown speed; the melee form (range 0.5) deals the same and is left out
        hits_ground=True,
        hits_air=True,
        damage=12.0,
        range=5.0,
        period=0.83,
        damage_point=0.208,
    ),
)

# What Legacy of the Void's multiplayer data change (6.2).
LOTV_CHANGES: Mapping[str, Mapping[str, float | int]] = {
    "stalker": {"damage": 13.0, "bonus": 5.0, "period": 1.87},
    "colossus": {"damage": 10.0, "bonus": 5.0, "bonus_against": LIGHT, "range": 7.0, "period": 1.5},
    "spine_crawler": {"period": 1.85},
    "hydralisk": {"period": 0.825},  # game version 4.10; 0.75 in 4.6.2
}


def _by_name(units: Iterable[UnitType]) -> Mapping[str, UnitType]:
    return MappingProxyType({unit.name: unit for unit in units})


UNITS: Mapping[str, Mapping[str, UnitType]] = MappingProxyType(
    {
        "liberty": _by_name(LIBERTY),
        "lotv": _by_name(replace(unit, **LOTV_CHANGES.get(unit.name, {})) for unit in LIBERTY),  # type: ignore[arg-type]
    }
)
PRESETS = tuple(UNITS)

# Columns of KIND that are not a field of UnitType as it stands: what a field is multiplied by.
_PER_SECOND = 1.0 / LOOPS_PER_SECOND
_SCALES = {
    "speed": _PER_SECOND,
    "acceleration": _PER_SECOND * _PER_SECOND,
    "health_regen": _PER_SECOND,
    "shield_regen": _PER_SECOND,
    "energy_regen": _PER_SECOND,
    "heal_rate": _PER_SECOND,
    "missile_speed": _PER_SECOND,
    "shield_delay": LOOPS_PER_SECOND,
    "period": LOOPS_PER_SECOND,
    "damage_point": LOOPS_PER_SECOND,
    "hit_delay": LOOPS_PER_SECOND,
    "hit_gap": LOOPS_PER_SECOND,
}


def kind_table(names: Iterable[str], preset: str = "liberty") -> np.ndarray:
    """The units' statistics in loops and cells, `KIND` [len(names)], one row for each name in the order given.

    Raises:
        ValueError: unknown preset or unit.
    """
    check_name("preset of unit statistics", preset, PRESETS)
    units = UNITS[preset]
    wanted = list(names)
    table = np.zeros(len(wanted), KIND)
    for row, name in enumerate(wanted):
        check_name("unit", name, units)
        unit = units[name]
        for column in KIND.names or ():
            if column == "ground_target":
                value: float = not unit.flying
            else:
                value = getattr(unit, column) * _SCALES.get(column, 1)
            table[row][column] = value
    return table
