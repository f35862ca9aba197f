"""Scripted players against choices worked out by hand, against a slow reading of their rules, and as distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chisquare

from smix_pz.envs.battle.maps import MAPS
from smix_pz.envs.battle.players import PLAYERS, FocusFire, Heuristic, Nearest, Player, Random, find_player
from smix_pz.envs.battle.scenario import Scenario, make_scenario
from smix_pz.envs.battle.state import BATTLE, ORDER_ATTACK, ORDER_HEAL, ORDER_MOVE, ORDER_STOP, UNIT

NO_OP, STOP, NORTH, SOUTH, EAST, WEST = range(6)


def fresh(scenario: Scenario, count: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Healthy units, all at (0, 0), and a mask in which the living may stop and move but reach nobody."""
    units = np.zeros((count, scenario.n_units), UNIT)
    units["kind"] = scenario.unit_kind
    units["owner"] = np.arange(scenario.n_units) >= scenario.n_agents
    units["health"] = scenario.kinds["health"][scenario.unit_kind]
    units["shield"] = scenario.kinds["shield"][scenario.unit_kind]
    battles = np.zeros(count, BATTLE)
    battles["steps"] = 1
    mask = np.zeros((count, scenario.n_agents, 6 + scenario.n_enemies), np.int8)
    mask[:, :, STOP : WEST + 1] = 1
    return units, battles, mask


def put(units: np.ndarray, places: dict[int, tuple[float, float]]) -> None:
    for index, (x, y) in places.items():
        units["x"][:, index], units["y"][:, index] = x, y


def open_targets(scenario: Scenario, units: np.ndarray, mask: np.ndarray) -> None:
    """Write what SMAC makes available of units (its section 2): targets within 6, no-op alone for the dead."""
    types = scenario.unit_types
    agents = scenario.n_agents
    for b, i in np.ndindex(mask.shape[:2]):
        me = units[b, i]
        if me["health"] <= 0:
            mask[b, i] = 0
            mask[b, i, NO_OP] = 1
            continue
        heals = types[i] == "medivac"
        for slot in range(scenario.n_enemies):
            at = slot if heals else agents + slot
            if heals and (slot >= agents or types[slot] == "medivac"):
                continue
            other = units[b, at]
            far = math.dist((me["x"], me["y"]), (other["x"], other["y"]))
            mask[b, i, 6 + slot] = other["health"] > 0 and far <= 6


def random_battles(scenario: Scenario, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Battles in mid-course. Every other one stands on a coarse grid with few healths, where rules must break ties."""
    rng = np.random.default_rng(seed)
    units, battles, mask = fresh(scenario, count)
    shape = units.shape
    coarse = (np.arange(count) % 2 == 0)[:, None]
    for axis in "xy":
        units[axis] = np.where(coarse, rng.integers(4, 16, shape), rng.uniform(2, 22, shape))
    share = np.where(coarse, rng.integers(1, 4, shape) / 3, rng.uniform(0.05, 1, shape))
    alive = rng.uniform(size=shape) < 0.7
    units["health"] *= share * alive
    units["shield"] *= np.where(coarse, rng.integers(0, 2, shape), rng.uniform(size=shape)) * alive
    mask[:, :, NORTH : WEST + 1] = rng.uniform(size=(*mask.shape[:2], 4)) < 0.6
    open_targets(scenario, units, mask)
    return units, battles, mask


class Reader:
    """The players' rules for one agent, read slowly from plain numbers."""

    def __init__(self, scenario: Scenario, units: np.ndarray, legal: np.ndarray, i: int) -> None:
        self.types, self.agents, self.size = scenario.unit_types, scenario.n_agents, scenario.n_units
        self.full = [float(scenario.kinds["health"][kind]) for kind in scenario.unit_kind]
        self.units, self.i = units, i
        self.legal = {action for action, open_ in enumerate(legal) if open_}

    def far(self, j: int) -> float:
        return math.hypot(self.units[j]["x"] - self.units[self.i]["x"], self.units[j]["y"] - self.units[self.i]["y"])

    def left(self, j: int) -> float:
        return float(self.units[j]["health"] + self.units[j]["shield"])

    @property
    def heals(self) -> bool:
        return self.types[self.i] == "medivac"

    @property
    def foes(self) -> list[int]:
        """Living enemies it can shoot at: in these maps only medivacs fly, and marauders only hit the ground."""
        living = [j for j in range(self.agents, self.size) if self.units[j]["health"] > 0]
        return [j for j in living if not (self.types[self.i] == "marauder" and self.types[j] == "medivac")]

    @property
    def friends(self) -> list[int]:
        others = [j for j in range(self.agents) if j != self.i and self.types[j] != "medivac"]
        return [j for j in others if self.units[j]["health"] > 0]

    def walk(self, j: int) -> int:
        dx = float(self.units[j]["x"] - self.units[self.i]["x"])
        dy = float(self.units[j]["y"] - self.units[self.i]["y"])
        ways = [(abs(dy), NORTH if dy > 0 else SOUTH), (abs(dx), EAST if dx > 0 else WEST)]
        ways.sort(key=lambda way: -way[0])  # stable: north and south come first among equals
        for length, action in ways:
            if length > 0 and action in self.legal:
                return action
        return STOP

    def tend(self) -> int:
        def urgency(j: int) -> tuple[float, float, int]:
            return (float(self.units[j]["health"]) - self.full[j], self.far(j), j)

        hurt = [j for j in self.friends if self.units[j]["health"] < self.full[j] and 6 + j in self.legal]
        if hurt:
            return 6 + min(hurt, key=urgency)
        return self.walk(min(self.friends, key=urgency)) if self.friends else STOP

    def nearest(self) -> int:
        if self.heals:
            return self.tend()
        open_ = [j for j in self.foes if 6 + j - self.agents in self.legal]
        if open_:
            return 6 + min(open_, key=lambda j: (self.far(j), j)) - self.agents
        return self.walk(min(self.foes, key=lambda j: (self.far(j), j))) if self.foes else STOP

    def focus_fire(self) -> int:
        if self.heals:
            return self.tend()
        open_ = [j for j in self.foes if 6 + j - self.agents in self.legal]
        if open_:
            return 6 + min(open_, key=lambda j: (self.left(j), self.far(j), j)) - self.agents
        seen = [j for j in self.foes if self.far(j) < 9]
        if seen:
            return self.walk(min(seen, key=lambda j: (self.left(j), self.far(j), j)))
        return self.walk(min(self.foes, key=lambda j: (self.far(j), j))) if self.foes else STOP

    def target(self, kept: int | None) -> int | None:
        """Unit index of the heuristic's target."""
        if self.heals:
            wanted = [j for j in self.friends if self.units[j]["health"] < self.full[j]]
        else:
            wanted = self.foes
        if kept in wanted:
            return kept
        return min(wanted, key=lambda j: (self.far(j), j), default=None)

    def heuristic(self, target: int | None) -> int:
        if target is None:
            return STOP
        action = 6 + (target if self.heals else target - self.agents)
        return action if action in self.legal else self.walk(target)


@pytest.mark.parametrize("map_name", MAPS)
@pytest.mark.parametrize("name", ["nearest", "focus-fire"])
def test_choices_are_those_of_a_slow_reading(map_name: str, name: str) -> None:
    scenario = make_scenario(map_name)
    units, battles, mask = random_battles(scenario, 40, seed=3)
    actions = PLAYERS[name](scenario, 40, 0).act(units, battles, mask)
    for b, i in np.ndindex(actions.shape):
        if units[b, i]["health"] <= 0:
            expected = NO_OP
        else:
            reader = Reader(scenario, units[b], mask[b, i], i)
            expected = reader.nearest() if name == "nearest" else reader.focus_fire()
        assert actions[b, i] == expected, (b, i)


@pytest.mark.parametrize("map_name", MAPS)
def test_heuristic_keeps_its_targets_as_a_slow_reading_does(map_name: str) -> None:
    """Three moments with the same player: the second moves everybody, the third revives and kills others."""
    scenario = make_scenario(map_name)
    count = 24
    player = Heuristic(scenario, count, 0)
    memory = np.full((count, scenario.n_agents), -1, np.int32)
    kept: dict[tuple[int, int], int | None] = {}
    n_kept_though_not_nearest = 0
    for moment in range(3):
        units, battles, mask = random_battles(scenario, count, seed=moment)
        if moment == 1:
            for field in ("health", "shield"):
                units[field] = before[field]  # noqa: F821 - set by moment 0
            mask[:, :, 0] = 0
            mask[:, :, STOP] = 1
            mask[:, :, 6:] = 0
            open_targets(scenario, units, mask)
        before = units.copy()
        actions = player.act(units, battles, mask)
        player.heuristic_orders(units, battles, memory, np.ones(count, bool), 0, count)
        for b, i in np.ndindex(actions.shape):
            if before[b, i]["health"] <= 0:
                assert actions[b, i] == NO_OP
                assert units[b, i] == before[b, i]
                continue
            reader = Reader(scenario, before[b], mask[b, i], i)
            target = kept[b, i] = reader.target(kept.get((b, i)))
            n_kept_though_not_nearest += target != reader.target(None)
            assert actions[b, i] == reader.heuristic(target), (moment, b, i)
            if target is None:
                assert units[b, i] == before[b, i]
            else:
                assert units[b, i]["order"] == (ORDER_HEAL if reader.heals else ORDER_ATTACK)
                assert units[b, i]["order_target"] == target
    assert n_kept_though_not_nearest > 0 or scenario.n_enemies == 1  # else this test saw no memory at work


@pytest.mark.parametrize("map_name", MAPS)
@pytest.mark.parametrize("name", PLAYERS)
def test_actions_are_legal(map_name: str, name: str) -> None:
    scenario = make_scenario(map_name)
    player = PLAYERS[name](scenario, 60, 5)
    for seed in range(3):
        units, battles, mask = random_battles(scenario, 60, seed)
        untouched = units.copy(), mask.copy()
        actions = player.act(units, battles, mask)
        assert actions.dtype == np.int64
        assert np.take_along_axis(mask, actions[..., None], axis=2).all()
        assert ((actions == NO_OP) == (units["health"][:, : scenario.n_agents] == 0)).all()
        assert (untouched[0] == units).all() and (untouched[1] == mask).all()


def test_nearest_and_focus_fire_by_hand() -> None:
    """3m: agent 0 has two enemies in reach, agent 1 none (two in sight), agent 2 sees nobody."""
    scenario = make_scenario("3m")
    units, battles, mask = fresh(scenario)
    put(units, {0: (10, 16), 1: (10, 20), 2: (1, 9), 3: (13, 16), 4: (15, 17), 5: (17, 22)})
    units["health"][0, 3:] = 45, 7, 30
    mask[0, 0, [6, 7]] = 1
    nearest, focus = Nearest(scenario, 1, 0), FocusFire(scenario, 1, 0)
    # Agent 0: enemy 0 is nearer, enemy 1 weaker. Agent 1: enemy 0 at (+3, -4) is nearest, enemy 1 at (+5, -3) weakest.
    # Agent 2: enemy 0 at (+12, +7) is nearest for both.
    np.testing.assert_array_equal(nearest.act(units, battles, mask), [[6, SOUTH, EAST]])
    np.testing.assert_array_equal(focus.act(units, battles, mask), [[7, EAST, EAST]])
    # A closed larger axis turns the move to the other one, and both closed ones to stop.
    mask[0, 1, SOUTH] = mask[0, 2, EAST] = mask[0, 2, NORTH] = 0
    np.testing.assert_array_equal(nearest.act(units, battles, mask), [[6, EAST, STOP]])
    # Sight ends at 9: the weakest enemy draws agent 2 northwards from 8.99 away; from 9 it sees enemy 0 alone.
    mask[0, 2, NORTH : WEST + 1] = 1
    put(units, {2: (15, 8), 3: (22, 8)})
    assert focus.act(units, battles, mask)[0, 2] == EAST
    put(units, {4: (15, 16.99)})
    assert focus.act(units, battles, mask)[0, 2] == NORTH


def test_focus_fire_counts_shields_and_breaks_ties() -> None:
    scenario = make_scenario("3s_vs_3z")
    units, battles, mask = fresh(scenario)
    mask[0, 0, 6:] = 1
    put(units, {0: (16, 16), 3: (16, 19), 4: (18, 16), 5: (16, 14)})
    units["health"][0, 3:] = 20, 60, 50
    units["shield"][0, 3:] = 50, 0, 10
    focus = FocusFire(scenario, 1, 0)
    assert focus.act(units, battles, mask)[0, 0] == 7  # 70, 60, 60 left; both 60s are 2 away: the lower number
    units["y"][0, 5] = 15
    assert focus.act(units, battles, mask)[0, 0] == 8  # now enemy 2 is nearer


def test_medivac_by_hand() -> None:
    """MMM: agents 0-1 marauders (125), 2-8 marines (45), 9 the medivac; enemy 9 is a medivac."""
    scenario = make_scenario("MMM")
    units, battles, mask = fresh(scenario)
    put(units, {i: (16, 16) for i in range(10)})
    put(units, {j: (30, 16) for j in range(10, 20)})
    put(units, {9: (16, 10), 0: (16, 15), 2: (10, 10), 5: (18, 10), 10 + 9: (17, 16)})
    units["health"][0, [0, 2, 5]] = 100, 25, 43
    mask[0, 9, 6 + np.array([0, 5, 7])] = 1
    nearest, heuristic = Nearest(scenario, 1, 0), Heuristic(scenario, 1, 0)
    for player in (nearest, FocusFire(scenario, 1, 0)):
        assert (
            player.act(units, battles, mask)[0, 9] == 6 + 0
        )  # lacks 25; agent 2 lacks 20 out of reach, agent 5 lacks 2
    assert heuristic.act(units, battles, mask)[0, 9] == 6 + 5  # the nearest that is hurt
    units["health"][0, 0] = 10
    put(units, {0: (18, 11)})
    assert heuristic.act(units, battles, mask)[0, 9] == 6 + 5  # kept until it is well
    units["health"][0, 5] = 45
    assert heuristic.act(units, battles, mask)[0, 9] == 6 + 0
    mask[0, 9, 6:] = 0
    assert nearest.act(units, battles, mask)[0, 9] == EAST  # nobody in reach: towards agent 0 at (+2, +1)
    assert heuristic.act(units, battles, mask)[0, 9] == EAST
    units["health"][0, :10] = scenario.kinds["health"][scenario.unit_kind[:10]]
    put(units, {5: (15.5, 9)})
    assert nearest.act(units, battles, mask)[0, 9] == SOUTH  # all are well: towards the nearest, agent 5
    assert heuristic.act(units, battles, mask)[0, 9] == STOP
    # Equals, as hurt and as far away: the lower number, to heal and to walk to.
    put(units, {4: (16, 7), 6: (19, 10)})
    units["health"][0, [4, 6]] = 30
    assert nearest.act(units, battles, mask)[0, 9] == SOUTH
    mask[0, 9, 6 + np.array([4, 6])] = 1
    assert nearest.act(units, battles, mask)[0, 9] == 6 + 4
    # Marauder 0 stands next to the enemy medivac and may choose it, but cannot hit it; marine 3 can.
    mask[0, [0, 3], 6 + 9] = 1
    assert nearest.act(units, battles, mask)[0, 0] == EAST
    assert nearest.act(units, battles, mask)[0, 3] == 6 + 9


def test_heuristic_orders_by_hand() -> None:
    """Orders whatever the distance; the dead, the inactive and those without a target keep theirs."""
    scenario = make_scenario("MMM")
    units, battles, _ = fresh(scenario, 3)
    put(units, {i: (4, 16) for i in range(10)})
    put(units, {10 + j: (28 - j, 16) for j in range(10)})  # enemy 9, the medivac, is nearest; then enemy 8
    units["order"] = ORDER_STOP
    units["order_target"] = -1
    units["health"][0, 4] = 0
    units["health"][0, 6] = 44
    player = Heuristic(scenario, 3, 0)
    memory = np.full((3, 10), -1, np.int32)
    player.heuristic_orders(units, battles, memory, np.array([True, False, True]), 0, 2)
    A, S, H = ORDER_ATTACK, ORDER_STOP, ORDER_HEAL
    assert units["order"][0, :10].tolist() == [A, A, A, A, S, A, A, A, A, H]
    assert units["order_target"][0, :10].tolist() == [18, 18, 19, 19, -1, 19, 19, 19, 19, 6]
    assert (units["order"][1:] == ORDER_STOP).all()  # battle 1 is not active, battle 2 not in the range
    assert memory[0].tolist() == [8, 8, 9, 9, -1, 9, 9, 9, 9, 6]
    assert (memory[1:] == -1).all()
    # Marines keep enemy 9 though enemy 0 comes nearer; the medivac has no patient left and keeps what it is doing.
    put(units, {10: (5, 16)})
    units["health"][0, 6] = 45
    units["order"][0, 9] = ORDER_MOVE
    player.heuristic_orders(units, battles, memory, np.array([True, False, True]), 0, 3)
    assert units["order_target"][0, 2] == 19 and memory[0, 9] == -1
    assert units["order"][0, 9] == ORDER_MOVE
    assert units["order_target"][2, 2] == 10
    units["health"][0, 19] = 0
    player.heuristic_orders(units, battles, memory, np.array([True, False, True]), 0, 3)
    assert units["order_target"][0, 2] == 10


def test_heuristic_orders_with_rest_walk_where_the_attack_is_not_available() -> None:
    scenario = make_scenario("MMM")
    units, battles, mask = fresh(scenario)
    put(units, {i: (10, 16) for i in range(10)} | {10 + j: (30, 30) for j in range(10)})
    put(units, {10: (13, 12), 0: (12, 12), 1: (13, 10), 2: (16, 12), 3: (14, 11), 9: (11, 15.5)})
    units["health"][0, 5] = 1
    mask[0, 4, 6] = 1
    mask[0, :, NORTH : WEST + 1] = 0  # SMAC walks into walls
    memory = np.full((1, 10), -1, np.int32)
    player = Heuristic(scenario, 1, 0)
    player.heuristic_orders(units, battles, memory, np.ones(1, bool), 0, 1, mask, 3.0)
    assert (units["order"][0, [0, 1, 2, 3, 9]] == ORDER_MOVE).all()
    assert (units["order_target"][0, [0, 1, 2, 3, 9]] == -1).all()
    points = np.stack([units["order_x"][0], units["order_y"][0]], axis=1)
    # Enemy 0 lies east of agent 0, north of 1, west of 2, (-1, +1) of 3; the patient (-1, +0.5) of the medivac.
    np.testing.assert_array_equal(points[[0, 1, 2, 3, 9]], [[15, 12], [13, 13], [13, 12], [14, 14], [8, 15.5]])
    assert (units["order"][0, 4], units["order_target"][0, 4]) == (ORDER_ATTACK, 10)
    mask[0, 9, 6 + 5] = 1
    player.heuristic_orders(units, battles, memory, np.ones(1, bool), 0, 1, mask, 3.0)
    assert (units["order"][0, 9], units["order_target"][0, 9]) == (ORDER_HEAL, 5)


def test_heuristic_forgets_where_battles_begin_anew() -> None:
    scenario = make_scenario("3m")
    units, battles, mask = fresh(scenario, 3)
    put(units, {0: (10, 16), 3: (12, 16), 4: (16, 16), 5: (20, 16)})
    mask[:, 0, 6:8] = 1
    player = Heuristic(scenario, 3, 0)
    assert (player.act(units, battles, mask)[:, 0] == 6).all()
    put(units, {3: (16, 16), 4: (12, 16)})
    assert (player.act(units, battles, mask)[:, 0] == 6).all()
    player.reset(np.array([False, True, False]))
    battles["steps"][2] = 0  # begun anew by the environment itself
    assert player.act(units, battles, mask)[:, 0].tolist() == [6, 7, 7]
    player.reset()
    assert (player.act(units, battles, mask)[:, 0] == 7).all()


# Random play.


def splitmix64(state: int) -> tuple[int, int]:
    """Next state and output of SplitMix64 (Steele, Lea, Flood, 2014), in Python's integers."""
    keep = (1 << 64) - 1
    state = (state + 0x9E3779B97F4A7C15) & keep
    z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & keep
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & keep
    return state, z ^ (z >> 31)


def test_the_reference_generator_gives_the_published_numbers() -> None:
    state, first = splitmix64(1234567)
    assert (first, splitmix64(state)[1]) == (6457827717110365317, 3203168211198807973)


def test_random_player_draws_from_the_documented_streams() -> None:
    scenario = make_scenario("2s3z")
    player = Random(scenario, 7, 11)
    states = [int(np.random.SeedSequence([11, b]).generate_state(1, np.uint64)[0]) for b in range(7)]
    for seed in range(5):
        units, battles, mask = random_battles(scenario, 7, seed)
        actions = player.act(units, battles, mask)
        for b, i in np.ndindex(actions.shape):
            choices = np.flatnonzero(mask[b, i])
            pick = 0
            if len(choices) > 1:
                states[b], drawn = splitmix64(states[b])
                pick = (drawn >> 32) * len(choices) >> 32
            assert actions[b, i] == choices[pick]


def test_random_player_is_uniform_and_successive_draws_are_independent() -> None:
    scenario = make_scenario("3m")
    units, battles, mask = fresh(scenario, 500)
    mask[:, 0, SOUTH] = 0  # 4 choices
    mask[:, 1, 6:8] = 1  # 7 choices
    mask[:, 2, STOP : WEST + 1] = 0  # one choice
    mask[:, 2, 8] = 1
    player = Random(scenario, 500, 1)
    drawn = np.stack([player.act(units, battles, mask) for _ in range(80)])  # [80, 500, 3]
    assert (drawn[:, :, 2] == 8).all()
    for agent, choices in ((0, [STOP, NORTH, EAST, WEST]), (1, [STOP, NORTH, SOUTH, EAST, WEST, 6, 7])):
        counts = [(drawn[:, :, agent] == action).sum() for action in choices]
        assert sum(counts) == 80 * 500
        assert chisquare(counts).pvalue > 1e-3
    # Pairs: of agents in one step, of steps of one battle, of neighbouring battles in one step.
    second = drawn[:, :, 1]
    pairs = [(drawn[:, :, 0], second), (second[0::2], second[1::2]), (second[:, 0::2], second[:, 1::2])]
    for left, right in pairs:
        counts = np.unique(left * 100 + right, return_counts=True)[1]
        assert len(counts) == len(np.unique(left)) * len(np.unique(right))
        assert chisquare(counts).pvalue > 1e-3


def test_random_draws_do_not_depend_on_the_batch_or_on_other_battles() -> None:
    scenario = make_scenario("8m")
    small, large, other = Random(scenario, 3, 9), Random(scenario, 40, 9), Random(scenario, 40, 10)
    same = 0
    for seed in range(6):
        units, battles, mask = random_battles(scenario, 40, seed)
        few = small.act(units[:3], battles[:3], mask[:3])
        elsewhere = mask.copy()
        elsewhere[3:] = random_battles(scenario, 40, seed + 100)[2][3:]
        pieces = np.empty((40, 8), np.int64)
        for lo, hi in ((17, 40), (0, 17)):
            large.choose(units, battles, elsewhere, pieces, lo, hi)
        np.testing.assert_array_equal(few, pieces[:3])
        same += (other.act(units, battles, mask)[:3] == few).all()
    assert same == 0


# What players refuse.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": np.zeros((2, 3, 8), np.int8)}, r"mask must be an array int8 \(2, 3, 9\), got int8 \(2, 3, 8\)"),
        ({"mask": np.zeros((2, 3, 9), bool)}, "mask must be an array int8"),
        ({"units": np.zeros((2, 5), UNIT)}, r"units must be an array UNIT \(2, 6\)"),
        ({"battles": np.zeros(3, BATTLE)}, r"battles must be an array BATTLE \(2,\)"),
        ({"battles": None}, "got NoneType"),
    ],
)
def test_arrays_of_another_shape_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    scenario = make_scenario("3m")
    units, battles, mask = fresh(scenario, 2)
    arrays = {"units": units, "battles": battles, "mask": mask} | change
    with pytest.raises(ValueError, match=message):
        Nearest(scenario, 2, 0).act(**arrays)


def test_players_are_found_by_name() -> None:
    assert list(PLAYERS) == ["random", "nearest", "focus-fire", "heuristic"]
    for name, player in PLAYERS.items():
        assert find_player(name) is player and issubclass(player, Player)
    with pytest.raises(ValueError, match="did you mean 'focus-fire'"):
        find_player("focusfire")
    with pytest.raises(ValueError, match="num_battles must be an integer of at least 1, got 0"):
        Random(make_scenario("3m"), 0, 0)
    with pytest.raises(ValueError, match="seed must be an integer of at least 0, got -1"):
        Random(make_scenario("3m"), 1, -1)
