"""Scripted players: they choose SMAC's actions for whole batches of battles, compiled.

`PLAYERS` names them; each is made as `Player(scenario, num_battles, seed)` and asked by `act`, which returns a legal
action for every agent. `Heuristic.heuristic_orders` is the raw form of SMAC's own heuristic: it gives orders without
looking at what is available, which is what SMAC's option heuristic_ai does.

Source: SMAC specification, section 2 (actions, availability, the heuristic). Distances are between centres. Where two
candidates are equal in all that a rule looks at, the lower number is chosen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numba import njit

from smix_pz.envs.battle.scenario import Scenario
from smix_pz.envs.battle.state import BATTLE, ORDER_ATTACK, ORDER_HEAL, ORDER_MOVE, UNIT, WEAPON_NONE
from smix_pz.envs.checks import check_int
from smix_pz.names import check_name

__all__ = ["PLAYERS", "FocusFire", "Heuristic", "Nearest", "Player", "Random", "find_player"]

NO_OP, STOP, NORTH, SOUTH, EAST, WEST, FIRST_TARGET = range(7)
SIGHT = 9.0  # SMAC's, of every unit: it sees what is nearer than this

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_NO_MASK = np.zeros((0, 0, 0), np.int8)
_S30, _S27, _S31, _S32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)


# The kernels. `units` is one battle's UNIT [U], `legal` one agent's row of the mask, int8 [n_actions]. What a scenario
# says of its units comes as arrays: healer [A] (its targets are allies), patient [A] (may be healed), reaches [A, E]
# (its weapon can hit that enemy), health_max [U].


@njit(cache=True, nogil=True)
def _squared_distance(a, b):  # type: ignore[no-untyped-def]
    dx, dy = a["x"] - b["x"], a["y"] - b["y"]
    return dx * dx + dy * dy


@njit(cache=True, nogil=True)
def _approach(units, legal, i, j):  # type: ignore[no-untyped-def]
    """The legal move of unit i towards unit j: along the larger axis, else along the other one, else stop."""
    dx, dy = units[j]["x"] - units[i]["x"], units[j]["y"] - units[i]["y"]
    along_x = EAST if dx > 0.0 else WEST
    along_y = NORTH if dy > 0.0 else SOUTH
    can_x = dx != 0.0 and legal[along_x] != 0
    can_y = dy != 0.0 and legal[along_y] != 0
    if can_x and (abs(dx) > abs(dy) or not can_y):
        return along_x
    return along_y if can_y else STOP


@njit(cache=True, nogil=True)
def _nearest_target(units, n_agents, reaches, i):  # type: ignore[no-untyped-def]
    """The nearest living enemy that agent i's weapon can hit, -1 if there is none."""
    best, best_distance = -1, np.inf
    for j in range(reaches.shape[1]):
        if reaches[i, j] and units[n_agents + j]["health"] > 0.0:
            distance = _squared_distance(units[i], units[n_agents + j])
            if distance < best_distance:
                best, best_distance = j, distance
    return best


@njit(cache=True, nogil=True)
def _tend(units, legal, i, patient, health_max):  # type: ignore[no-untyped-def]
    """A healer's action: heal whom it may and who lacks most health, else go to whom lacks most, or to the nearest."""
    heal, go = -1, -1
    heal_missing, heal_distance, go_missing, go_distance = 0.0, np.inf, 0.0, np.inf
    for j in range(patient.shape[0]):
        if j == i or not patient[j] or not units[j]["health"] > 0.0:
            continue
        missing = max(health_max[j] - units[j]["health"], 0.0)
        distance = _squared_distance(units[i], units[j])
        slot = FIRST_TARGET + j
        if missing > 0.0 and slot < legal.shape[0] and legal[slot] != 0:
            if missing > heal_missing or (missing == heal_missing and distance < heal_distance):
                heal, heal_missing, heal_distance = j, missing, distance
        if go < 0 or missing > go_missing or (missing == go_missing and distance < go_distance):
            go, go_missing, go_distance = j, missing, distance
    if heal >= 0:
        return FIRST_TARGET + heal
    return _approach(units, legal, i, go) if go >= 0 else STOP


@njit(cache=True, nogil=True)
def _play_random(streams, mask, actions, lo, hi):  # type: ignore[no-untyped-def]
    """One draw of the battle's SplitMix64 stream for each agent that has a choice."""
    n_agents, n_actions = mask.shape[1], mask.shape[2]
    for b in range(lo, hi):
        state = streams[b]
        for i in range(n_agents):
            legal = mask[b, i]
            count = 0
            for action in range(n_actions):
                count += legal[action] != 0
            pick = 0
            if count > 1:
                state += _GOLDEN
                z = (state ^ (state >> _S30)) * _MIX1
                z = (z ^ (z >> _S27)) * _MIX2
                z ^= z >> _S31
                # 32 random bits times count: uniform on 0 ... count - 1 to within count / 2**32.
                pick = np.int64(((z >> _S32) * np.uint64(count)) >> _S32)
            # The chosen action is how many actions come before the legal one number `pick`. Counted to the row's end:
            # a branch on a random number costs more than the rest of the row.
            chosen, passed = 0, 0
            for action in range(n_actions):
                passed += legal[action] != 0
                chosen += passed <= pick
            actions[b, i] = chosen if count > 0 else NO_OP
        streams[b] = state


@njit(cache=True, nogil=True)
def _play_nearest(batch, mask, actions, healer, patient, reaches, health_max, lo, hi):  # type: ignore[no-untyped-def]
    n_agents = healer.shape[0]
    for b in range(lo, hi):
        units = batch[b]
        for i in range(n_agents):
            legal = mask[b, i]
            if legal[NO_OP] != 0:
                actions[b, i] = NO_OP
                continue
            if healer[i]:
                actions[b, i] = _tend(units, legal, i, patient, health_max)
                continue
            best, best_distance = -1, np.inf
            for j in range(reaches.shape[1]):
                if reaches[i, j] and legal[FIRST_TARGET + j] != 0:
                    distance = _squared_distance(units[i], units[n_agents + j])
                    if distance < best_distance:
                        best, best_distance = j, distance
            if best >= 0:
                actions[b, i] = FIRST_TARGET + best
                continue
            best = _nearest_target(units, n_agents, reaches, i)
            actions[b, i] = _approach(units, legal, i, n_agents + best) if best >= 0 else STOP


@njit(cache=True, nogil=True)
def _play_focus_fire(batch, mask, actions, healer, patient, reaches, health_max, lo, hi):  # type: ignore[no-untyped-def]
    n_agents = healer.shape[0]
    for b in range(lo, hi):
        units = batch[b]
        for i in range(n_agents):
            legal = mask[b, i]
            if legal[NO_OP] != 0:
                actions[b, i] = NO_OP
                continue
            if healer[i]:
                actions[b, i] = _tend(units, legal, i, patient, health_max)
                continue
            shoot, shoot_left, shoot_distance = -1, np.inf, np.inf
            go, go_left, go_distance = -1, np.inf, np.inf
            for j in range(reaches.shape[1]):
                enemy = units[n_agents + j]
                if not reaches[i, j] or not enemy["health"] > 0.0:
                    continue
                left = enemy["health"] + enemy["shield"]
                distance = _squared_distance(units[i], enemy)
                if legal[FIRST_TARGET + j] != 0:
                    if left < shoot_left or (left == shoot_left and distance < shoot_distance):
                        shoot, shoot_left, shoot_distance = j, left, distance
                elif distance < SIGHT * SIGHT:
                    if left < go_left or (left == go_left and distance < go_distance):
                        go, go_left, go_distance = j, left, distance
            if shoot >= 0:
                actions[b, i] = FIRST_TARGET + shoot
                continue
            if go < 0:
                go = _nearest_target(units, n_agents, reaches, i)
            actions[b, i] = _approach(units, legal, i, n_agents + go) if go >= 0 else STOP


@njit(cache=True, nogil=True)
def _keep_target(units, i, kept, healer, patient, reaches, health_max):  # type: ignore[no-untyped-def]
    """Whom SMAC's heuristic has agent i attack or heal: `kept` as long as that makes sense, else the nearest; or -1.

    The number of an ally for a healer, of an enemy for others.
    """
    n_agents = healer.shape[0]
    if not healer[i]:
        if kept >= 0 and units[n_agents + kept]["health"] > 0.0:
            return kept
        return _nearest_target(units, n_agents, reaches, i)
    if kept >= 0 and 0.0 < units[kept]["health"] < health_max[kept]:
        return kept
    best, best_distance = -1, np.inf
    for j in range(n_agents):
        if j != i and patient[j] and 0.0 < units[j]["health"] < health_max[j]:
            distance = _squared_distance(units[i], units[j])
            if distance < best_distance:
                best, best_distance = j, distance
    return best


@njit(cache=True, nogil=True)
def _play_heuristic(  # type: ignore[no-untyped-def]
    batch, battles, mask, actions, memory, healer, patient, reaches, health_max, lo, hi
):
    n_agents, n_actions = mask.shape[1], mask.shape[2]
    for b in range(lo, hi):
        units = batch[b]
        if battles[b]["steps"] == 0:
            memory[b] = -1  # a battle that was begun anew without `reset`
        for i in range(n_agents):
            legal = mask[b, i]
            if legal[NO_OP] != 0:
                actions[b, i] = NO_OP
                continue
            target = _keep_target(units, i, memory[b, i], healer, patient, reaches, health_max)
            memory[b, i] = target
            slot = FIRST_TARGET + target
            if target < 0:
                actions[b, i] = STOP
            elif slot < n_actions and legal[slot] != 0:
                actions[b, i] = slot
            else:
                actions[b, i] = _approach(units, legal, i, target if healer[i] else n_agents + target)


@njit(cache=True, nogil=True)
def _order_heuristic(  # type: ignore[no-untyped-def]
    batch, memory, active, rest, mask, move_amount, healer, patient, reaches, health_max, lo, hi
):
    n_agents = healer.shape[0]
    for b in range(lo, hi):
        if not active[b]:
            continue
        units = batch[b]
        for i in range(n_agents):
            unit = units[i]
            if not unit["health"] > 0.0:
                continue
            target = _keep_target(units, i, memory[b, i], healer, patient, reaches, health_max)
            memory[b, i] = target
            if target < 0:
                continue
            at = target if healer[i] else n_agents + target
            slot = FIRST_TARGET + target
            if not rest or (slot < mask.shape[2] and mask[b, i, slot] != 0):
                unit["order"] = ORDER_HEAL if healer[i] else ORDER_ATTACK
                unit["order_target"] = at
                continue
            dx, dy = units[at]["x"] - unit["x"], units[at]["y"] - unit["y"]
            unit["order"] = ORDER_MOVE
            unit["order_target"] = -1
            unit["order_x"], unit["order_y"] = unit["x"], unit["y"]
            if abs(dx) > abs(dy):
                unit["order_x"] += move_amount if dx > 0.0 else -move_amount
            else:
                unit["order_y"] += move_amount if dy > 0.0 else -move_amount


class Player(ABC):
    """One player for K battles of a scenario with A agents, E enemies and U units.

    Args:
        scenario: what is played.
        num_battles: K.
        seed: of a player that draws; the others ignore it.

    Raises:
        TypeError: num_battles or seed is not an integer.
        ValueError: num_battles < 1 or seed < 0; arrays of another shape or type in `act`.
    """

    def __init__(self, scenario: Scenario, num_battles: int, seed: int = 0) -> None:
        self.scenario = scenario
        self.num_battles = check_int("num_battles", num_battles, 1)
        self.seed = check_int("seed", seed, 0)
        agents = scenario.n_agents
        kinds = scenario.kinds[scenario.unit_kind]
        allies, enemies = kinds[:agents], kinds[agents:]
        self._healer = (allies["heal_rate"] > 0) & bool(scenario.mmm)
        self._patient = ~(allies["heal_rate"] > 0)
        in_air = (allies["hits_air"][:, None] == 1) & (enemies["flying"][None] == 1)
        on_ground = (allies["hits_ground"][:, None] == 1) & (enemies["ground_target"][None] == 1)
        self._reaches = (allies["weapon"][:, None] != WEAPON_NONE) & (in_air | on_ground)
        self._health_max = kinds["health"].copy()

    def reset(self, which: np.ndarray | None = None) -> None:  # noqa: B027 - most players remember nothing
        """Say that the battles where `which` bool [K] is true (all if None) have begun anew."""

    def act(self, units: np.ndarray, battles: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Legal actions int64 [K, A]; no-op for the dead.

        Args:
            units: UNIT [K, U].
            battles: BATTLE [K].
            mask: int8 [K, A, n_actions], 1 where an action is legal.
        """
        count, agents, enemies = self.num_battles, self.scenario.n_agents, self.scenario.n_enemies
        _check_array("units", units, UNIT, (count, agents + enemies))
        _check_array("battles", battles, BATTLE, (count,))
        _check_array("mask", mask, np.dtype(np.int8), (count, agents, FIRST_TARGET + enemies))
        actions = np.empty((count, agents), np.int64)
        self.choose(units, battles, mask, actions, 0, count)
        return actions

    @abstractmethod
    def choose(
        self, units: np.ndarray, battles: np.ndarray, mask: np.ndarray, actions: np.ndarray, lo: int, hi: int
    ) -> None:
        """`act` for the battles lo to hi - 1, written into `actions`; nothing is checked. For callers with threads."""

    def _facts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self._healer, self._patient, self._reaches, self._health_max


def _check_array(what: str, array: Any, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        names = {UNIT: "UNIT", BATTLE: "BATTLE"}
        raise ValueError(f"{what} must be an array {names.get(dtype, str(dtype))} {shape}, got {found}.")


class Random(Player):
    """Draws uniformly among the legal actions.

    Battle i has a SplitMix64 stream of its own, begun by `numpy.random.SeedSequence([seed, i])`; each living agent
    with more than one legal action takes one draw of it in agent order. So battle i's actions depend on the seed, on i
    and on what happened in battle i, not on how many battles there are. `reset` lets the streams go on.
    """

    def __init__(self, scenario: Scenario, num_battles: int, seed: int = 0) -> None:
        super().__init__(scenario, num_battles, seed)
        starts = [np.random.SeedSequence([self.seed, i]).generate_state(1, np.uint64)[0] for i in range(num_battles)]
        self._streams = np.array(starts, np.uint64)

    def choose(
        self, units: np.ndarray, battles: np.ndarray, mask: np.ndarray, actions: np.ndarray, lo: int, hi: int
    ) -> None:
        _play_random(self._streams, mask, actions, lo, hi)


class Nearest(Player):
    """Attacks the nearest enemy that it may attack, else goes to the nearest living one.

    Enemies that its weapon cannot hit (a medivac, for a marauder) do not count. A medivac heals whom it may heal and
    who lacks most health (the nearest of equals), else goes to the ally that lacks most, or to the nearest ally if all
    are well. A move is along the larger axis (north or south if they are equal), else along the other, else stop.
    """

    def choose(
        self, units: np.ndarray, battles: np.ndarray, mask: np.ndarray, actions: np.ndarray, lo: int, hi: int
    ) -> None:
        _play_nearest(units, mask, actions, *self._facts(), lo, hi)


class FocusFire(Player):
    """Attacks whom it may attack and who has least health and shield left (the nearest of equals).

    If it may attack nobody it goes to the weakest enemy nearer than 9, else to the nearest; medivacs and moves are as
    in `Nearest`.
    """

    def choose(
        self, units: np.ndarray, battles: np.ndarray, mask: np.ndarray, actions: np.ndarray, lo: int, hi: int
    ) -> None:
        _play_focus_fire(units, mask, actions, *self._facts(), lo, hi)


class Heuristic(Player):
    """SMAC's own heuristic, with its option heuristic_rest.

    A unit's target is the nearest living enemy (that its weapon can hit) and is kept until it is dead; a medivac's is
    the nearest damaged ally other than medivacs, kept until it is dead or well. A unit attacks or heals its target if
    it may, else moves towards it as in `Nearest`: the step along the other axis, where SMAC would order an unavailable
    move, is ours. A unit without a target stops.
    """

    def __init__(self, scenario: Scenario, num_battles: int, seed: int = 0) -> None:
        super().__init__(scenario, num_battles, seed)
        self._memory = np.full((num_battles, scenario.n_agents), -1, np.int32)

    def reset(self, which: np.ndarray | None = None) -> None:
        """Forget the targets of the battles where `which` bool [K] is true (all if None)."""
        self._memory[slice(None) if which is None else which] = -1

    def choose(
        self, units: np.ndarray, battles: np.ndarray, mask: np.ndarray, actions: np.ndarray, lo: int, hi: int
    ) -> None:
        _play_heuristic(units, battles, mask, actions, self._memory, *self._facts(), lo, hi)

    def heuristic_orders(
        self,
        units: np.ndarray,
        battles: np.ndarray,
        memory: np.ndarray,
        active: np.ndarray,
        lo: int,
        hi: int,
        mask: np.ndarray | None = None,
        move_amount: float = 2.0,
    ) -> None:
        """Order the allies to attack or heal their targets, as SMAC's option heuristic_ai does.

        A unit without a target keeps the order it has.

        Args:
            units: UNIT [K, U], changed: the orders of living allies.
            battles: BATTLE [K].
            memory: int32 [K, A], the kept targets, changed: the number of an ally for a medivac, of an enemy for
                others, -1 for none. The caller sets -1 where a battle begins.
            active: bool [K], the battles to look at, of lo to hi - 1.
            mask: None orders an attack however far away the target is. With int8 [K, A, n_actions], as SMAC's option
                heuristic_rest does, a unit whose attack is not available is ordered to move along the larger axis
                towards its target, whether that move is available or not.
            move_amount: cells of such a move.
        """
        rest = mask is not None
        _order_heuristic(units, memory, active, rest, mask if rest else _NO_MASK, move_amount, *self._facts(), lo, hi)


PLAYERS: Mapping[str, type[Player]] = MappingProxyType(
    {"random": Random, "nearest": Nearest, "focus-fire": FocusFire, "heuristic": Heuristic}
)


def find_player(name: str) -> type[Player]:
    """The player of that name; raise ValueError naming the nearest if there is none."""
    check_name("player", name, PLAYERS)
    return PLAYERS[name]
