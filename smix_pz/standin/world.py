"""A running game: one battle of the embedded engine, seen and commanded the way StarCraft II's raw interface does it.

Three things differ between the two and are dealt with here:

- **Units have tags.** A tag holds the unit's number and how many times the map has been filled, so that units of two
  battles never share one. Types of the allies are the consecutive ids of SMAC's own unit copies (SMAC specification,
  section 1.1), enemies have StarCraft's stock ids. Units are listed in the order in which they are created.
- **Numbers are 32-bit floats.** Positions are rounded towards zero, so that a unit never seems to stand in a cell that
  it has not reached: masks that are computed from cells agree. A point that a client computed from what it saw, such as
  "two cells north of me", is put back to the engine's precision (`restored`), so a battle takes the very course that
  the same orders give it in `smac_sim_v0`.
- **Maps fill themselves.** SMAC ends an episode by killing all units; a script in its maps then creates them anew. So
  here: when a step begins with nobody alive, its first two loops pass, and the next battle stands at its start.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np

from smix_pz.envs.battle.battles import Battles
from smix_pz.envs.battle.layout import Layout
from smix_pz.envs.battle.scenario import make_scenario
from smix_pz.envs.battle.state import (
    ARMORED,
    BIOLOGICAL,
    LIGHT,
    LOOPS_PER_SECOND,
    MAP_SIZE,
    MASSIVE,
    MECHANICAL,
    ORDER_ATTACK,
    ORDER_ATTACK_MOVE,
    ORDER_HEAL,
    ORDER_MOVE,
    ORDER_STOP,
    STRUCTURE,
    WEAPON_NONE,
)

__all__ = ["ABILITIES", "FIRST_ALLY_TYPE", "World", "restored", "shown"]

ALLY, ENEMY = 1, 2  # player ids
FIRST_ALLY_TYPE = 5000  # beyond all of Blizzard's own ids
FIRST_TAG = 0x4000  # as in the game, a tag is a number from here on, times 2**18, plus how often the number was used
TAG_SHIFT = 18
RESPAWN_LOOPS = 2  # what SMAC's reset lets pass after it has killed everybody
FLYING_HEIGHT = 3.75  # above the ground
STOP, MOVE, ATTACK, HEAL = 4, 16, 23, 386
# Ability ids, the general ones (which pysc2 calls Stop_quick, Move_screen and Attack_screen) among them.
ABILITIES = {STOP: STOP, 3665: STOP, MOVE: MOVE, 3794: MOVE, ATTACK: ATTACK, 3674: ATTACK, HEAL: HEAL}
ABILITY_NAMES = {STOP: "stop", MOVE: "move", ATTACK: "attack", HEAL: "MedivacHeal"}
ABILITY_OF_ORDER = {
    ORDER_MOVE: MOVE,
    ORDER_ATTACK: ATTACK,
    ORDER_ATTACK_MOVE: ATTACK,
    ORDER_HEAL: HEAL,
}
WITH_TARGET, WITH_POINT = (ORDER_ATTACK, ORDER_HEAL), (ORDER_MOVE, ORDER_ATTACK_MOVE)
ATTRIBUTES = {
    LIGHT: "Light",
    ARMORED: "Armored",
    BIOLOGICAL: "Biological",
    MECHANICAL: "Mechanical",
    STRUCTURE: "Structure",
    MASSIVE: "Massive",
}
RACES = {"T": "Terran", "P": "Protoss", "Z": "Zerg"}
MOST_DIGITS = 3  # of an offset that a client may have meant
FARTHEST = 1000.0  # cells: a point that is no number, or farther away, would leave the engine without a direction
TURNS_AFTER = 1e-4  # cells that a unit must have gone to be seen facing another way
_FLOAT = struct.Struct("f")
# Columns of UNIT that an observation needs.
SEEN = (
    *("health", "shield", "energy", "cooldown", "x", "y", "held", "target"),
    *("order", "order_target", "order_x", "order_y"),
)


def shown(values: np.ndarray) -> np.ndarray:
    """Numbers of at least 0 as 32-bit floats, rounded towards zero: they have the same whole part."""
    rounded = values.astype(np.float32)
    above = rounded > values
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    return rounded


def restored(point: float, seen: float, exact: float) -> float:
    """One coordinate of an ordered point in the engine's precision.

    A client that saw its unit at `seen` (a 32-bit float; in truth it is at `exact`) and wants it `offset` further sends
    `seen + offset` as a 32-bit float. If a short decimal offset explains what came, the answer is `exact + offset`.
    It never differs from `point` by more than the rounding of two 32-bit floats.
    """
    for digits in range(MOST_DIGITS + 1):
        offset = round(point - seen, digits)
        if _FLOAT.unpack(_FLOAT.pack(seen + offset))[0] == point:  # as a 32-bit float
            return exact + offset
    return point


def _is_near(point: Any) -> bool:
    """Whether a point is on the map or at least somewhere about it; false for NaN."""
    return abs(point.x) <= FARTHEST and abs(point.y) <= FARTHEST


class World:
    """A game that has been created: a map and its present battle.

    Attributes:
        loop: game loops since the game was created.
        scenario: what is played.

    Args:
        messages: as `load_messages` returns them.
        map_name: one of SMAC's 23 maps.
        seed: of all battles of this game; None: from the system.
        preset, jitter: see `smac_sim_v0`.

    Raises:
        ValueError: unknown map or preset.
    """

    def __init__(
        self, messages: SimpleNamespace, map_name: str, seed: int | None, preset: str = "liberty", jitter: float = 0.1
    ) -> None:
        self._messages = messages
        self.scenario = make_scenario(map_name, preset)
        self._battles = Battles(Layout(self.scenario), 1, jitter=jitter, threads=1)
        self._battles.seed([seed] if seed is not None else None)
        self._units = self._battles.units[0]
        scenario, count = self.scenario, self.scenario.n_units
        ally_types = list(dict.fromkeys(scenario.unit_types[: scenario.n_agents]))
        stock = scenario.kinds["stock_id"][scenario.unit_kind]
        self.unit_types: list[int] = [
            FIRST_ALLY_TYPE + ally_types.index(unit) if index < scenario.n_agents else int(stock[index])
            for index, unit in enumerate(scenario.unit_types)
        ]
        allies = np.argsort(scenario.created[: scenario.n_agents])
        self._listed: list[int] = [*allies.tolist(), *range(scenario.n_agents, count)]
        height = scenario.terrain.height / 255 * 32 - 16
        self._ground: list[list[float]] = height.tolist()
        self._aloft: list[float] = (FLYING_HEIGHT * scenario.kinds["flying"][scenario.unit_kind]).tolist()
        self._seen = self._units[list(SEEN)]  # a view
        self._exact = np.zeros((2, count))
        self._frame = self._draw_frame()
        self.loop = 0
        self._fillings = 0
        self._spawn()

    # ------------------------------------------------------------------------------------------------ time and death

    def _spawn(self) -> None:
        """Fill the map: the next battle at its start, with new tags."""
        self._battles.reset()
        self._fillings += 1
        self._empty_for = 0
        self._condemned: set[int] = set()
        self._errors: list[tuple[int, int, int]] = []
        scenario = self.scenario
        first = self._fillings & ((1 << TAG_SHIFT) - 1)
        self.tags = [((FIRST_TAG + index) << TAG_SHIFT) | first for index in range(scenario.n_units)]
        self._index = {tag: index for index, tag in enumerate(self.tags)}
        self._at_last = set(range(scenario.n_units))  # who lived when it was last observed
        self._remember_places()
        self._faced_at: list[tuple[float, float]] = list(zip(*self._exact.tolist(), strict=True))
        drawn = [self._draw(index) for index in range(scenario.n_units)]
        self._drawn = [(unit, unit.pos) for unit in drawn]
        self._orders_drawn: list[Any] = [None] * scenario.n_units

    def restart(self) -> None:
        """Begin the next battle at once; the random stream goes on."""
        self.loop = 0
        self._spawn()

    def condemn(self, tags: Iterable[int]) -> None:
        """Units that die at the beginning of the next step. Tags of nobody are ignored, as the game does."""
        self._condemned.update(self._index[tag] for tag in tags if tag in self._index)

    def step(self, loops: int) -> None:
        """Play game loops."""
        units = self._units
        if self._condemned:
            gone = list(self._condemned)
            units["health"][gone] = 0.0
            units["shield"][gone] = 0.0
            self._condemned.clear()
        left = loops
        if not (units["health"] > 0.0).any():
            passed = min(left, RESPAWN_LOOPS - self._empty_for)
            self._empty_for += passed
            left -= passed
            if self._empty_for == RESPAWN_LOOPS:
                self._spawn()
        if left:
            self._battles.run(left)
        self.loop += loops

    # ------------------------------------------------------------------------------------------------------ commands

    def command(self, command: Any) -> int:
        """Carry out a raw unit command; returns an ActionResult's number, the last one that is no success.

        An order stands until another replaces it. Points are read with `restored`.
        """
        results = self._messages.ActionResult
        ability = ABILITIES.get(command.ability_id)
        with_point, with_unit = command.HasField("target_world_space_pos"), command.HasField("target_unit_tag")
        outcome: int = results.Success
        if ability is None:
            outcome = results.NotSupported
        elif command.queue_command:
            outcome = results.CantQueueThatOrder
        elif ability == MOVE and not with_point:
            outcome = results.NotSupported if with_unit else results.MustTargetVisibleLocation
        elif ability == ATTACK and not (with_point or with_unit):
            outcome = results.MustTargetUnit
        elif ability == HEAL and not with_unit:
            outcome = results.MustTargetUnit
        elif with_point and not _is_near(command.target_world_space_pos):
            outcome = results.MustTargetVisibleLocation
        if outcome != results.Success:
            return self._failed(command, outcome)
        target = -1
        if with_unit and ability != STOP:
            target = self._index.get(command.target_unit_tag, -1)
            if target < 0 or self._units["health"][target] <= 0.0:
                return self._failed(command, results.CantTargetThatUnit)
            if ability == ATTACK and self._units["owner"][target] == 0:
                return self._failed(command, results.CantTargetFriendlyUnits)
            if ability == HEAL and self._units["owner"][target] == 1:
                return self._failed(command, results.MustTargetFriendlyUnits)
        for tag in command.unit_tags:
            index = self._index.get(tag, -1)
            if index < 0 or self._units["health"][index] <= 0.0:
                outcome = self._failed(command, results.Error, tag)
            elif self._units["owner"][index] != 0:
                outcome = self._failed(command, results.YouCantControlThatUnit, tag)
            elif ability == HEAL and self.scenario.kinds["heal_rate"][self._units["kind"][index]] <= 0.0:
                outcome = self._failed(command, results.NotSupported, tag)
            else:
                self._order(self._units[index], index, ability or STOP, target, command.target_world_space_pos)
        return outcome

    def _order(self, unit: Any, index: int, ability: int, target: int, point: Any) -> None:
        unit["order_target"] = target
        if ability == STOP:
            unit["order"] = ORDER_STOP
        elif target >= 0:
            unit["order"] = ORDER_HEAL if ability == HEAL else ORDER_ATTACK
        else:
            unit["order"] = ORDER_MOVE if ability == MOVE else ORDER_ATTACK_MOVE
            unit["order_x"] = restored(point.x, float(self._places[0, index]), float(self._exact[0, index]))
            unit["order_y"] = restored(point.y, float(self._places[1, index]), float(self._exact[1, index]))

    def _failed(self, command: Any, result: int, tag: int = 0) -> int:
        """Note a command that was refused, for the next observation."""
        tag = tag or (command.unit_tags[0] if command.unit_tags else 0)
        self._errors.append((tag, command.ability_id, result))
        return result

    # -------------------------------------------------------------------------------------------------- observations

    def _draw(self, index: int) -> Any:
        """A unit's message with what does not change during a battle."""
        enums, kind = self._messages, self.scenario.kinds[self.scenario.unit_kind[index]]
        ally = index < self.scenario.n_agents
        return enums.Unit(
            display_type=enums.DisplayType.Visible,
            alliance=enums.Alliance.Self if ally else enums.Alliance.Enemy,
            tag=self.tags[index],
            unit_type=self.unit_types[index],
            owner=ALLY if ally else ENEMY,
            pos=enums.Point(),
            facing=0.0 if ally else math.pi,  # until it moves or fights
            radius=kind["radius"],
            build_progress=1.0,
            cloak=enums.CloakState.NotCloaked,
            detect_range=0.0,
            radar_range=0.0,
            is_selected=False,
            is_on_screen=True,
            is_blip=False,
            is_powered=False,
            is_active=False,
            attack_upgrade_level=0,
            armor_upgrade_level=0,
            shield_upgrade_level=0,
            health_max=kind["health"],
            shield_max=kind["shield"],
            energy_max=kind["energy"],
            is_flying=bool(kind["flying"]),
            is_burrowed=False,
            is_hallucination=False,
        )

    def observe(self, response: Any) -> None:
        """Fill a ResponseObservation with what there is to see: everything, since the maps have no fog."""
        response.CopyFrom(self._frame)
        self._remember_places()
        xs, ys = self._places.tolist()
        rows, agents, living = self._seen.tolist(), self.scenario.n_agents, set()
        drawn = []
        for index in self._listed:
            health, shield, energy, cooldown, x, y, held, target, order, order_target, order_x, order_y = rows[index]
            if health <= 0.0:
                continue
            living.add(index)
            unit, pos = self._drawn[index]
            pos.x, pos.y, pos.z = xs[index], ys[index], self._ground[int(x)][int(y)] + self._aloft[index]
            unit.health, unit.shield, unit.energy = health, shield, energy
            # Units face whom they fight, or else where they have gone since they were last seen.
            before_x, before_y = self._faced_at[index]
            to_x, to_y = rows[target][4:6] if held and target >= 0 else (2 * x - before_x, 2 * y - before_y)
            if abs(to_x - x) + abs(to_y - y) > TURNS_AFTER:
                unit.facing = math.atan2(to_y - y, to_x - x) % math.tau
            self._faced_at[index] = (x, y)
            if index < agents:  # the game tells these of one's own units alone
                unit.weapon_cooldown = cooldown
                unit.engaged_target_tag = self.tags[target] if target >= 0 else 0
                now = (order, order_target, order_x, order_y)
                if now != self._orders_drawn[index]:
                    self._orders_drawn[index] = now
                    self._draw_order(unit, *now)
            drawn.append(unit)
        seen = response.observation
        seen.game_loop = self.loop
        seen.player_common.army_count = sum(index < agents for index in living)
        seen.raw_data.units.extend(drawn)
        if len(living) < len(self._at_last):
            seen.raw_data.event.dead_units.extend(self.tags[index] for index in sorted(self._at_last - living))
            self._at_last = living
        for tag, ability, result in self._errors:
            response.action_errors.add(unit_tag=tag, ability_id=ability, result=result)
        self._errors.clear()

    def _remember_places(self) -> None:
        """Where the client sees the units from now on, and where they are in truth; both [2, U]."""
        self._exact[0], self._exact[1] = self._units["x"], self._units["y"]
        self._places = shown(self._exact)

    def _draw_order(self, unit: Any, order: int, target: int, x: float, y: float) -> None:
        del unit.orders[:]
        if order in WITH_TARGET and target >= 0:
            unit.orders.add(ability_id=ABILITY_OF_ORDER[order], target_unit_tag=self.tags[target])
        elif order in WITH_POINT:
            where = self._messages.Point(x=x, y=y, z=0.0)
            unit.orders.add(ability_id=ABILITY_OF_ORDER[order], target_world_space_pos=where)

    def _draw_frame(self) -> Any:
        """A ResponseObservation with what is the same in all of them."""
        enums = self._messages
        common = dict.fromkeys(
            ("minerals", "vespene", "food_cap", "food_used", "food_army", "food_workers", "idle_worker_count"), 0
        )
        player = enums.PlayerCommon(player_id=ALLY, army_count=0, warp_gate_count=0, larva_count=0, **common)
        camera = enums.Point(x=MAP_SIZE / 2, y=MAP_SIZE / 2, z=0.0)
        raw = enums.ObservationRaw(player=enums.PlayerRaw(camera=camera), map_state=self._map_state())
        return enums.ResponseObservation(observation=enums.Observation(player_common=player, raw_data=raw))

    def _map_state(self) -> Any:
        """Everything is visible (2), and nowhere is creep: the engine does not model it."""
        enums, size = self._messages, self._messages.Size2DI(x=MAP_SIZE, y=MAP_SIZE)
        return enums.MapState(
            visibility=enums.ImageData(bits_per_pixel=8, size=size, data=b"\2" * MAP_SIZE**2),
            creep=enums.ImageData(bits_per_pixel=1, size=size, data=bytes(MAP_SIZE**2 // 8)),
        )

    # --------------------------------------------------------------------------------------------- what stays the same

    def start_raw(self) -> Any:
        """The map: StartRaw with sizes and grids.

        Rows of all grids run from south to north. The pathing grid has one bit for each cell, the first one in a
        byte's highest bit, as in newer versions of the game. SMAC's class turns the terrain height over, as older
        versions needed, so its option `obs_terrain_height` sees a mirrored map (docs/standin.md); its pictures expect
        the rows as they are here.
        """
        enums, terrain = self._messages, self.scenario.terrain
        size = enums.Size2DI(x=MAP_SIZE, y=MAP_SIZE)
        pathing = np.packbits(terrain.pathable.astype(bool).T, axis=1).tobytes()
        corners = enums.RectangleI(p0=enums.PointI(x=0, y=0), p1=enums.PointI(x=MAP_SIZE, y=MAP_SIZE))
        return enums.StartRaw(
            map_size=size,
            pathing_grid=enums.ImageData(bits_per_pixel=1, size=size, data=pathing),
            terrain_height=enums.ImageData(
                bits_per_pixel=8, size=size, data=np.ascontiguousarray(terrain.height.T).tobytes()
            ),
            placement_grid=enums.ImageData(bits_per_pixel=1, size=size, data=bytes(MAP_SIZE**2 // 8)),
            playable_area=corners,
            start_locations=[enums.Point2D(x=float(x), y=float(y)) for x, y in self.scenario.enemy_spawn[:1]],
        )

    def abilities(self) -> list[Any]:
        """AbilityData of the commands that units obey."""
        enums = self._messages
        targets = enums.AbilityData.DESCRIPTOR.enum_types_by_name["Target"].values_by_name
        of = {STOP: "None", MOVE: "Point", ATTACK: "PointOrUnit", HEAL: "Unit"}
        return [
            enums.AbilityData(
                ability_id=ability,
                link_name=name,
                friendly_name=name.capitalize(),
                available=True,
                target=targets[of[ability]].number,
            )
            for ability, name in ABILITY_NAMES.items()
        ]

    def unit_data(self) -> list[Any]:
        """UnitTypeData of the types in this game. Speeds and periods are in "normal" seconds, as in the game's data."""
        first_of_type = {unit_type: index for index, unit_type in reversed(list(enumerate(self.unit_types)))}
        return [self._type_data(unit_type, first_of_type[unit_type]) for unit_type in sorted(first_of_type)]

    def _type_data(self, unit_type: int, index: int) -> Any:
        enums, scenario = self._messages, self.scenario
        kind, name = scenario.kinds[scenario.unit_kind[index]], scenario.unit_types[index]
        ally = index < scenario.n_agents
        shown_name = "".join(word.capitalize() for word in name.split("_"))
        race = RACES[scenario.map.ally_race if ally else scenario.map.enemy_race]
        data = enums.UnitTypeData(
            unit_id=unit_type,
            name=f"RL_{shown_name}" if ally else shown_name,
            available=True,
            race=getattr(enums.Race, race),
            sight_range=kind["sight"],
            movement_speed=kind["speed"] * LOOPS_PER_SECOND,
            armor=kind["armor"],
            attributes=self._attributes(kind["attributes"]),
        )
        if kind["weapon"] != WEAPON_NONE:
            ground, air = bool(kind["hits_ground"]), bool(kind["hits_air"])
            weapon = data.weapons.add(
                type=3 if ground and air else 1 if ground else 2,  # Weapon.TargetType: Any, Ground, Air
                damage=kind["damage"],
                attacks=int(kind["hits"]),
                range=kind["range"],
                speed=kind["period"] / LOOPS_PER_SECOND,
            )
            if kind["bonus"] > 0.0:
                for attribute in self._attributes(kind["bonus_against"]):
                    weapon.damage_bonus.add(attribute=attribute, bonus=kind["bonus"])
        return data

    def _attributes(self, bits: int) -> list[int]:
        return [getattr(self._messages.Attribute, name) for bit, name in ATTRIBUTES.items() if bits & bit]
