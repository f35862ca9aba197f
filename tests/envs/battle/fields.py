"""Battles laid out by hand: units where a test wants them, orders in its words, the engine's loops one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from smix_pz.envs.battle import engine
from smix_pz.envs.battle.evidence import fresh_units
from smix_pz.envs.battle.scenario import Scenario
from smix_pz.envs.battle.state import (
    BATTLE,
    ORDER_ATTACK,
    ORDER_ATTACK_MOVE,
    ORDER_HEAL,
    ORDER_HUNT,
    ORDER_MOVE,
    ORDER_NONE,
    ORDER_STOP,
    UNIT,
)
from smix_pz.envs.battle.terrain import terrain
from smix_pz.envs.battle.units import kind_table

Unit = tuple[str, float, float]  # type, x, y

ORDERS = {"attack-move": ORDER_ATTACK_MOVE, "segment": ORDER_ATTACK_MOVE, "hunt": ORDER_HUNT, "none": ORDER_NONE}


class Field:
    """`count` equal battles on a terrain, all units passive unless told otherwise. Allies come first.

    `units` is the UNIT array [count, U], `kinds` a KIND table of its own that a test may change.
    """

    def __init__(
        self,
        allies: Sequence[Unit],
        enemies: Sequence[Unit] = (),
        *,
        ground: str = "open",
        passive: tuple[bool, bool] = (True, True),
        count: int = 1,
        seed: int = 0,
        preset: str = "liberty",
    ) -> None:
        everyone = [*allies, *enemies]
        names = list(dict.fromkeys(name for name, _, _ in everyone))
        self.allies = len(allies)
        self.kinds = kind_table(names, preset)
        self.terrain = terrain(ground)
        rows = [names.index(name) for name, _, _ in everyone]
        self.units = fresh_units(self.kinds, rows, [place for _, *place in everyone], len(allies), passive, count)
        self.battles = np.zeros(count, BATTLE)
        self.battles["random"] = np.random.SeedSequence(seed).generate_state(count, np.uint64)

    def play(self, loops: int = 1) -> Field:
        engine.advance(
            self.units,
            self.battles,
            self.kinds,
            self.allies,
            self.terrain.pathable,
            self.terrain.waypoints,
            self.terrain.margin,
            loops,
            np.ones(len(self.units), bool),
            0,
            len(self.units),
        )
        return self

    def set(self, unit: int, **values: float) -> Field:
        for name, value in values.items():
            self.units[name][:, unit] = value
        return self

    def get(self, name: str, unit: int) -> Any:
        """A field of one unit in the first battle."""
        return self.units[name][0, unit].item()

    def stop(self, unit: int) -> Field:
        return self.set(unit, order=ORDER_STOP, order_target=-1)

    def move(self, unit: int, x: float, y: float) -> Field:
        return self.set(unit, order=ORDER_MOVE, order_target=-1, order_x=x, order_y=y)

    def attack(self, unit: int, target: int) -> Field:
        return self.set(unit, order=ORDER_ATTACK, order_target=target)

    def heal(self, unit: int, target: int) -> Field:
        return self.set(unit, order=ORDER_HEAL, order_target=target)

    def attack_move(self, unit: int, x: float, y: float) -> Field:
        return self.set(unit, order=ORDER_ATTACK_MOVE, order_target=-1, order_x=x, order_y=y)

    def hunt(self, unit: int) -> Field:
        return self.set(unit, order=ORDER_HUNT, order_target=-1)

    def place(self, unit: int) -> tuple[float, float]:
        return self.get("x", unit), self.get("y", unit)

    def distance(self, first: int, second: int) -> float:
        (ax, ay), (bx, by) = self.place(first), self.place(second)
        return float(np.hypot(ax - bx, ay - by))

    def lost(self, unit: int) -> tuple[float, float]:
        """What a unit lacks of a whole one's (shield, health), in the first battle."""
        kind = self.kinds[self.get("kind", unit)]
        return float(kind["shield"] - self.get("shield", unit)), float(kind["health"] - self.get("health", unit))


def spawned(
    scenario: Scenario,
    count: int,
    *,
    seed: int | Sequence[int] = 0,
    jitter: float = 0.1,
    passive: tuple[bool, bool] = (True, False),
) -> tuple[np.ndarray, np.ndarray]:
    """(units [count, U], battles [count]) of a scenario at their start; one seed for all streams, or one each."""
    units = np.zeros((count, scenario.n_units), UNIT)
    battles = np.zeros(count, BATTLE)
    if isinstance(seed, int):
        battles["random"] = np.random.SeedSequence(seed).generate_state(count, np.uint64)
    else:
        battles["random"] = np.array(seed, np.uint64)
    respawn(scenario, units, battles, jitter=jitter, passive=passive)
    return units, battles


def respawn(
    scenario: Scenario,
    units: np.ndarray,
    battles: np.ndarray,
    *,
    jitter: float = 0.1,
    passive: tuple[bool, bool] = (True, False),
    lo: int = 0,
    hi: int | None = None,
) -> None:
    order = scenario.map.order
    ends = order.points or ((0.0, 0.0),)
    engine.spawn(
        units,
        battles,
        scenario.unit_kind,
        scenario.kinds,
        scenario.n_agents,
        np.concatenate([scenario.ally_spawn, scenario.enemy_spawn]).astype(np.float64),
        scenario.created,
        ORDERS[order.kind],
        np.array([ends[0], ends[-1]], np.float64),
        np.array(passive, np.int32),
        jitter,
        scenario.terrain.pathable,
        scenario.terrain.margin,
        np.ones(len(units), bool),
        lo,
        len(units) if hi is None else hi,
    )


def advance(
    scenario: Scenario, units: np.ndarray, battles: np.ndarray, loops: int, lo: int = 0, hi: int | None = None
) -> None:
    engine.advance(
        units,
        battles,
        scenario.kinds,
        scenario.n_agents,
        scenario.terrain.pathable,
        scenario.terrain.waypoints,
        scenario.terrain.margin,
        loops,
        np.ones(len(units), bool),
        lo,
        len(units) if hi is None else hi,
    )
