"""The tables of units, maps and grounds against numbers typed from the specification, and the ways round cliffs."""

from __future__ import annotations

import heapq
import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from smix_pz.envs.battle.maps import MAPS, find_map
from smix_pz.envs.battle.scenario import make_scenario
from smix_pz.envs.battle.state import (
    ARMORED,
    BIOLOGICAL,
    KIND,
    LAYER_AIR,
    LAYER_COLOSSUS,
    LAYER_GROUND,
    LIGHT,
    MAP_SIZE,
    MASSIVE,
    MECHANICAL,
    STRUCTURE,
    WEAPON_BLAST,
    WEAPON_NONE,
    WEAPON_SWEEP,
)
from smix_pz.envs.battle.terrain import TERRAINS, terrain
from smix_pz.envs.battle.units import PRESETS, UNITS, kind_table

# Section 6.1: stock id, life, shield, armour, speed per loop, radius, separation, sight; section 3.3: cooldown scale.
BODIES = """
    marine         48   45    0  0  0.1406  .375   .375   9  15
    marauder       51  125    0  1  0.1406  .5625  .5    10  25
    medivac        54  150    0  1  0.1719  .75    .75   11  15
    stalker        74   80   80  1  0.1846  .625   .625  10  35
    zealot         73  100   50  1  0.1406  .5     .375   9  22
    colossus        4  200  150  1  0.1406  1      .75   10  24
    spine_crawler  98  300    0  2  0       .875   .875  11  15
    zergling      105   35    0  0  0.1846  .375   .375   8  11
    baneling        9   30    0  0  0.15625 .375   .375   8   1
    hydralisk     107   80    0  0  0.1406  .625   .5     9  10
"""
# Section 6.2: damage, bonus, hits, range, period in loops, damage point in loops (of seconds * 16), scan range,
# ground, air.
WEAPONS = """
    marine          6   0  1  5     13.77  0.8    5  1 1
    marauder       10  10  1  6     24     0      6  1 0
    medivac         0   0  1  0      0     0      5  0 0
    stalker        10   4  1  6     23.04  2.672  6  1 1
    zealot          8   0  2  0.1   19.2   0      5  1 0
    colossus       20   0  2  6     35.2   1.328  6  1 0
    spine_crawler  25   5  1  7     25.6   5.328  7  1 0
    zergling        5   0  1  0.1   11.14  2.672  5  1 0
    baneling       20  15  1  0.25   0     0      5  1 0
    hydralisk      12   0  1  5     13.28  3.328  5  1 1
"""


def table(text):
    rows = [line.split() for line in text.strip().splitlines()]
    return {row[0]: [float(cell) for cell in row[1:]] for row in rows}


@pytest.mark.parametrize("name", table(BODIES))
def test_bodies(name):
    row = kind_table([name])[0]
    columns = ("stock_id", "health", "shield", "armor", "speed", "radius", "separation", "sight", "cooldown_scale")
    assert [row[column] for column in columns] == pytest.approx(table(BODIES)[name], abs=5e-5)
    # Shields come back 0.125 each loop after 160 quiet ones; zerg life 0.0171 each loop.
    shield = (0.125, 160) if row["shield"] else (0, 0)
    assert (row["shield_regen"], row["shield_delay"]) == shield
    zerg = name in ("spine_crawler", "zergling", "baneling", "hydralisk")
    assert row["health_regen"] == pytest.approx(0.0171 if zerg else 0, abs=5e-5)
    layers = {"medivac": LAYER_AIR, "colossus": LAYER_COLOSSUS}
    assert row["layer"] == layers.get(name, LAYER_GROUND)
    assert (row["flying"], row["ground_target"]) == ((1, 0) if name == "medivac" else (0, 1))


@pytest.mark.parametrize("name", table(WEAPONS))
def test_weapons(name):
    row = kind_table([name])[0]
    columns = ("damage", "bonus", "hits", "range", "period", "damage_point", "scan_range", "hits_ground", "hits_air")
    assert [row[column] for column in columns] == pytest.approx(table(WEAPONS)[name], abs=5e-3)
    assert row["range_slop"] == (0 if name in ("colossus", "spine_crawler") else 1)
    assert row["missile_speed"] == 0


def test_attributes_and_bonuses():
    kinds = dict(zip(UNITS["liberty"], kind_table(UNITS["liberty"]), strict=True))
    attributes = {name: int(row["attributes"]) for name, row in kinds.items()}
    assert attributes == {
        "marine": LIGHT | BIOLOGICAL,
        "marauder": ARMORED | BIOLOGICAL,
        "medivac": ARMORED | MECHANICAL,
        "stalker": ARMORED | MECHANICAL,
        "zealot": LIGHT | BIOLOGICAL,
        "colossus": ARMORED | MECHANICAL | MASSIVE,
        "spine_crawler": ARMORED | BIOLOGICAL | STRUCTURE,
        "zergling": LIGHT | BIOLOGICAL,
        "baneling": BIOLOGICAL,
        "hydralisk": LIGHT | BIOLOGICAL,
    }
    bonuses = {name: int(row["bonus_against"]) for name, row in kinds.items() if row["bonus_against"]}
    assert bonuses == {"marauder": ARMORED, "stalker": ARMORED, "spine_crawler": ARMORED, "baneling": LIGHT}


def test_special_weapons():
    zealot, colossus, baneling, medivac, marine = kind_table(["zealot", "colossus", "baneling", "medivac", "marine"])
    assert (zealot["hits"], zealot["hit_gap"]) == (2, pytest.approx(4.48))
    assert (colossus["weapon"], colossus["hit_gap"], colossus["hit_delay"]) == (WEAPON_SWEEP, 0, 4)
    assert (colossus["sweep_length"], colossus["sweep_width"]) == (1.25, 0.15)
    assert (baneling["weapon"], baneling["blast_radius"], baneling["structure_damage"]) == (WEAPON_BLAST, 2.2, 80)
    assert baneling["blast_on_death"] == 1
    assert (medivac["weapon"], medivac["energy"], medivac["energy_start"]) == (WEAPON_NONE, 200, 50)
    heal = [medivac[f"heal_{column}"] for column in ("rate", "cost", "range", "scan", "minimum")]
    assert heal == [0.5625, 0.33, 4, 6, 5]
    assert medivac["energy_regen"] == pytest.approx(0.03516, abs=5e-6)
    assert medivac["acceleration"] == pytest.approx(2.3125 / 256)
    assert marine["acceleration"] > 10 * marine["speed"] and marine["heal_rate"] == 0


def test_lotv_changes_four_units_only():
    names = list(UNITS["liberty"])
    old, new = kind_table(names), kind_table(names, "lotv")
    changed = {
        (name, column): float(new[column][row])
        for row, name in enumerate(names)
        for column in KIND.names
        if old[column][row] != new[column][row]
    }
    assert changed == {
        ("stalker", "damage"): 13,
        ("stalker", "bonus"): 5,
        ("stalker", "period"): pytest.approx(29.92),
        ("colossus", "damage"): 10,
        ("colossus", "bonus"): 5,
        ("colossus", "bonus_against"): LIGHT,
        ("colossus", "range"): 7,
        ("colossus", "scan_range"): 7,
        ("colossus", "period"): 24,
        ("spine_crawler", "period"): pytest.approx(29.6),
        ("hydralisk", "period"): pytest.approx(13.2),
    }


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match="unknown map '3mm'; did you mean '3m'"):
        find_map("3mm")
    with pytest.raises(ValueError, match="did you mean 'lotv'"):
        make_scenario("3m", "LOTV")
    with pytest.raises(ValueError, match="did you mean 'marine'"):
        kind_table(["marin"])
    with pytest.raises(ValueError, match="did you mean 'lane'"):
        terrain("lanes")
    assert PRESETS == ("liberty", "lotv")


# -- maps --------------------------------------------------------------------------------------------------------------


def test_spawns_and_orders():
    # Section 7, first table.
    lane = ["3m", "8m", "25m", "5m_vs_6m", "8m_vs_9m", "10m_vs_11m", "27m_vs_30m", "2s3z", "3s5z", "3s5z_vs_3s6z"]
    lane += ["1c3s5z", "MMM", "MMM2", "3s_vs_3z", "3s_vs_4z", "3s_vs_5z"]
    for name in lane:
        scenario = make_scenario(name)
        assert (scenario.ally_spawn == (9, 16)).all() and (scenario.enemy_spawn == (23, 16)).all()
        assert (scenario.map.order.kind, scenario.map.order.points) == ("attack-move", ((9, 16),))
    others = {
        "2m_vs_1z": ([(13, 12), (19, 12)], [(16, 19)], "segment", ((13, 12), (19, 12))),
        "2s_vs_1sc": ([(11.1208, 10.338), (16.976, 10.3662)], [(13.92, 20.0397)], "none", ()),
        "6h_vs_8z": ([(14.5998, 9.49)], [(14.41, 16.7597)], "attack-move", ((14.5998, 9.49),)),
        "corridor": ([(19.0397, 19.1198)], [(27.91, 28.24)], "attack-move", ((4.47, 4.3298),)),
        "so_many_baneling": ([(11.469, 12.0234)], [(27.91, 28.24)], "attack-move", ((4.47, 4.3298),)),
        "bane_vs_bane": ([(16, 8), (16, 11)], [(16, 21), (16, 24)], "attack-move", ((16, 8),)),
        "2c_vs_64zg": ([(16, 16)], [(16, 9)], "hunt", ()),
    }
    assert sorted(lane + list(others)) == sorted(MAPS)
    for name, (allies, enemies, kind, points) in others.items():
        scenario = make_scenario(name)
        assert list(dict.fromkeys(map(tuple, scenario.ally_spawn))) == allies
        assert list(dict.fromkeys(map(tuple, scenario.enemy_spawn))) == enemies
        assert (scenario.map.order.kind, scenario.map.order.points) == (kind, points)


def test_agent_order_and_type_entries():
    # Section 1.1. Enemy zealots are entry 0 and stalkers 1, the reverse of the allies'.
    scenario = make_scenario("2s3z")
    assert scenario.agent_names == ("stalker_0", "stalker_1", "zealot_0", "zealot_1", "zealot_2")
    assert scenario.type_index.tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0, 0]
    scenario = make_scenario("MMM2")
    assert scenario.agent_names == ("marauder_0", "marauder_1", *(f"marine_{i}" for i in range(7)), "medivac_0")
    assert scenario.unit_types[10:] == ("marine",) * 8 + ("marauder",) * 3 + ("medivac",)
    assert scenario.type_index.tolist() == [0] * 2 + [1] * 7 + [2] + [1] * 8 + [0] * 3 + [2]
    scenario = make_scenario("1c3s5z")
    assert scenario.type_index.tolist() == [0, 1, 1, 1, 2, 2, 2, 2, 2] * 2
    scenario = make_scenario("bane_vs_bane")
    assert scenario.unit_types[:5] == ("baneling",) * 4 + ("zergling",) and scenario.unit_types[-1] == "baneling"
    assert scenario.type_index.tolist() == [0] * 4 + [1] * 20 + [1] * 20 + [0] * 4
    assert scenario.ally_spawn.tolist() == [[16, 8]] * 4 + [[16, 11]] * 20


def test_scenarios_are_shared_and_read_only():
    scenario = make_scenario("MMM")
    assert make_scenario("MMM") is scenario and make_scenario("MMM", "lotv") is not scenario
    for array in (scenario.kinds, scenario.unit_kind, scenario.ally_spawn, scenario.terrain.pathable):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(FrozenInstanceError):
        scenario.mmm = False


# -- terrain -----------------------------------------------------------------------------------------------------------

# Section 7 again, as boxes x0, x1, y0, y1 (inclusive), and how many cells they have together.
BOXES = {
    "lane": ("0 31 8 23", 512),
    "open": ("0 31 0 31", 1024),
    "octagon": ("10 21 6 25, 8 23 8 23, 6 25 10 21", 352),
    "pentagon": ("8 19 8 19, 10 17 20 21, 12 15 22 23", 168),
    "pit": ("10 19 8 19, 8 21 10 17", 152),
    "diagonal": (
        "2 7 2 7, 2 11 4 7, 4 15 8 11, 8 19 12 15, 10 19 16 17, 14 25 18 21, 16 29 22 23, 20 29 24 27, 22 29 28 29",
        300,
    ),
    "plateau": ("4 27 6 7, 2 29 8 9, 0 31 10 11, 0 3 12 13, 28 31 12 13, 0 31 14 15, 2 29 16 17, 8 23 18 19", 336),
    "corridor": (
        "2 13 1 1, 1 13 2 2, 1 12 3 10, 1 13 11 11, 2 14 12 12, 11 25 13 13, 12 26 14 14, 13 27 15 15, 13 28 16 16, "
        "12 29 17 17, 11 30 18 21, 12 30 22 22, 13 30 23 23, 14 30 24 24, 15 30 25 25, 16 30 26 26, 17 30 27 27, "
        "18 30 28 28, 19 30 29 29, 20 29 30 30",
        440,
    ),
}


@pytest.mark.parametrize("name", TERRAINS)
def test_grids(name):
    boxes, count = BOXES[name]
    expected = {
        (x, y)
        for box in boxes.split(", ")
        for x0, x1, y0, y1 in [map(int, box.split())]
        for x in range(x0, x1 + 1)
        for y in range(y0, y1 + 1)
    }
    assert len(expected) == count
    ground = terrain(name)
    found = {(int(x), int(y)) for x, y in np.argwhere(ground.pathable)}
    if name in ("pentagon", "pit"):
        # Walled in: whatever else can be walked on lies beyond at least two blocked cells in every direction.
        outside = found - expected
        assert len(outside) > 500 and expected <= found
        assert min(max(abs(x - u), abs(y - v)) for x, y in outside for u, v in expected) == 3
    else:
        assert found == expected
    assert ground.margin == (1 if name == "open" else 0)


def test_heights():
    # Altitude 8 is byte (8 + 16) / 32 * 255 = 191.25, 10 is 207.2, 1 is 135.5, 0 is 127.5.
    plateau = terrain("plateau").height
    assert plateau[:, 16].tolist() == [191] * 4 + [193, 197, 201] + [207] * 18 + [201, 197, 193] + [191] * 4
    assert plateau[1, 12] == plateau[16, 9] == 191 and plateau[0, 0] in (135, 136)
    for name in set(TERRAINS) - {"plateau"}:
        ground = terrain(name)
        inside = _reachable(name)
        assert (ground.height[inside] == 191).all()
    assert terrain("open").height.min() == 191
    assert terrain("pit").height[0, 0] in (127, 128)


def _reachable(name):
    """Cells of the specification's grid, without what lies beyond a wall, bool [32, 32]."""
    inside = np.zeros((MAP_SIZE, MAP_SIZE), bool)
    for box in BOXES[name][0].split(", "):
        x0, x1, y0, y1 = map(int, box.split())
        inside[x0 : x1 + 1, y0 : y1 + 1] = True
    return inside


def test_spawns_stand_on_ground_from_which_the_enemy_is_reached():
    for name in MAPS:
        scenario = make_scenario(name)
        for place in np.concatenate([scenario.ally_spawn, scenario.enemy_spawn]):
            assert scenario.terrain.pathable[int(place[0]), int(place[1])]
        ways = scenario.terrain.waypoints
        if ways.size:
            (ax, ay), (ex, ey) = scenario.ally_spawn[0].astype(int), scenario.enemy_spawn[0].astype(int)
            assert ways[ax * 32 + ay, ex * 32 + ey] != -2


def hull_meets_cell(a, b, cell):
    """Whether the hull of two unit cells and the inside of a third overlap: no axis separates them."""
    axes = ((1, 0), (0, 1), (b[1] - a[1], a[0] - b[0]))
    for axis in axes:
        if axis == (0, 0):
            continue

        def shadow(corner_of, axis=axis):
            return [axis[0] * (corner_of[0] + i) + axis[1] * (corner_of[1] + j) for i in (0, 1) for j in (0, 1)]

        hull = shadow(a) + shadow(b)
        other = shadow(cell)
        if max(hull) <= min(other) or max(other) <= min(hull):
            return False
    return True


def slow_line_is_free(pathable, a, b):
    columns = range(min(a[0], b[0]), max(a[0], b[0]) + 1)
    rows = range(min(a[1], b[1]), max(a[1], b[1]) + 1)
    return all(pathable[x][y] or not hull_meets_cell(a, b, (x, y)) for x in columns for y in rows)


def slow_distances(pathable, goal):
    """Lengths of the shortest ways to `goal` from everywhere it can be reached, without cutting corners."""

    def walkable(x, y):
        return 0 <= x < MAP_SIZE and 0 <= y < MAP_SIZE and pathable[x][y]

    best = {goal: 0.0}
    queue = [(0.0, goal)]
    while queue:
        length, (x, y) = heapq.heappop(queue)
        if length > best[x, y]:
            continue
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                cell = (x + dx, y + dy)
                if cell == (x, y) or not (walkable(*cell) and walkable(x + dx, y) and walkable(x, y + dy)):
                    continue
                longer = length + math.hypot(dx, dy)
                if longer < best.get(cell, math.inf) - 1e-9:
                    best[cell] = longer
                    heapq.heappush(queue, (longer, cell))
    return best


def octile(a, b):
    near, far = sorted((abs(a[0] - b[0]), abs(a[1] - b[1])))
    return far - near + near * math.sqrt(2)


CROOKED = [name for name in TERRAINS if terrain(name).waypoints.size]


def test_rectangles_need_no_ways():
    assert sorted(CROOKED) == sorted(set(TERRAINS) - {"lane", "open"})
    for name in ("lane", "open"):
        assert terrain(name).waypoints.shape == (0, 0)


@pytest.mark.parametrize("name", CROOKED)
def test_waypoints_lie_on_shortest_ways_behind_free_lines(name):
    ground = terrain(name)
    ways = ground.waypoints
    assert ways.shape == (1024, 1024) and ways.dtype == np.int16
    pathable = ground.pathable.tolist()
    rng = np.random.default_rng(4)
    for goal_id in rng.choice(np.flatnonzero(ground.pathable), 12, replace=False):
        goal = divmod(int(goal_id), 32)
        lengths = slow_distances(pathable, goal)
        for start_id in range(1024):
            start = divmod(start_id, 32)
            way = int(ways[start_id, goal_id])
            if start not in lengths:
                assert way == -2
                continue
            assert way == -1 or 0 <= way < 1024
            stop = goal if way == -1 else divmod(way, 32)
            # A waypoint is nearer by just what it takes to get there.
            assert lengths[stop] + octile(start, stop) == pytest.approx(lengths[start], abs=1e-3)
            assert stop != start or start == goal
            if rng.random() < 0.2:
                assert slow_line_is_free(pathable, start, stop)
                if way != -1:
                    assert not slow_line_is_free(pathable, start, goal)
    blocked = np.flatnonzero(ground.pathable.ravel() == 0)
    assert (ways[blocked] == -2).all()


@pytest.mark.parametrize("name", CROOKED)
def test_a_goal_in_a_wall_is_approached_by_the_free_cell_nearest_to_it(name):
    ground = terrain(name)
    ways, pathable = ground.waypoints, ground.pathable.tolist()
    free = [(x, y) for x in range(32) for y in range(32) if pathable[x][y]]
    blocked = np.flatnonzero(ground.pathable.ravel() == 0)
    known = {}
    for goal_id in np.random.default_rng(6).choice(blocked, 25, replace=False):
        goal = divmod(int(goal_id), 32)
        gaps = [math.dist(cell, goal) for cell in free]
        # From that cell it is straight on, so it is the only free one with a -1.
        (near_id,) = np.flatnonzero(ways[:, goal_id] == -1)
        near = divmod(int(near_id), 32)
        assert math.dist(near, goal) == min(gaps) and pathable[near[0]][near[1]]
        if near not in known:
            known[near] = slow_distances(pathable, near)
        lengths = known[near]
        for start in free:
            way = int(ways[start[0] * 32 + start[1], goal_id])
            if start not in lengths:
                assert way == -2
            elif start != near:
                # A waypoint is nearer by just what it takes to get there.
                stop = divmod(way, 32)
                assert way >= 0 and stop != start
                assert lengths[stop] + octile(start, stop) == pytest.approx(lengths[start], abs=1e-3)


@pytest.mark.parametrize("name", CROOKED)
def test_walking_by_waypoints_arrives_without_crossing_cliffs(name):
    ground = terrain(name)
    rng = np.random.default_rng(8)
    cells = np.argwhere(ground.pathable)
    walked = 0
    while walked < 60:
        start, goal = cells[rng.integers(len(cells), size=2)]
        goal_id = int(goal[0] * 32 + goal[1])
        if ground.waypoints[start[0] * 32 + start[1], goal_id] == -2:
            continue
        walked += 1
        place = start + rng.random(2)
        for _ in range(900):
            cell = place.astype(int)
            assert ground.pathable[cell[0], cell[1]]
            if (cell == goal).all():
                break
            way = int(ground.waypoints[cell[0] * 32 + cell[1], goal_id])
            aim = (goal if way == -1 else np.array(divmod(way, 32))) + 0.5
            offset = aim - place
            place = place + offset * min(1.0, 0.15 / np.hypot(*offset))
        else:
            pytest.fail(f"never got from {start} to {goal}")


@pytest.mark.parametrize("name", CROOKED)
def test_direct_lines_are_free_between_any_points_of_the_cells(name):
    ground = terrain(name)
    rng = np.random.default_rng(9)
    # Who stands beside a goal in a wall goes straight on too, against the wall.
    pairs = np.argwhere((ground.waypoints == -1) & (ground.pathable.ravel() != 0))
    assert len(pairs) > 300
    for a, b in pairs[rng.integers(len(pairs), size=300)]:
        start = np.array(divmod(int(a), 32)) + rng.random(2)
        end = np.array(divmod(int(b), 32)) + rng.random(2)
        points = (start + np.linspace(0, 1, 200)[:, None] * (end - start)).astype(int)
        assert ground.pathable[points[:, 0], points[:, 1]].all()
