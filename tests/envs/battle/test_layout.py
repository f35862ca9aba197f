"""SMAC's layout against the specification's numbers and against a slow reader written from its text alone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from smac_reader import BODY, SlowSmac

from smix_pz.envs.battle.layout import Layout, LayoutOptions
from smix_pz.envs.battle.maps import MAPS
from smix_pz.envs.battle.scenario import make_scenario
from smix_pz.envs.battle.state import (
    BATTLE,
    DEFEAT,
    DRAW,
    MAP_SIZE,
    ONGOING,
    ORDER_ATTACK,
    ORDER_HEAL,
    ORDER_MOVE,
    ORDER_STOP,
    UNIT,
    WIN,
)

# SMAC specification, section 1, both tables: A, E, n_actions, obs, state, max_reward, limit; then obs with the last
# action, obs with all four extras, state without last actions, state made of observations, obs without any health.
SIZES = """
    3m                3  3  9   30   48  365  60    48   66   21   90   24
    8m                8  8 14   80  168  640 120   178  196   56  640   64
    25m              25 25 31  250  950 1575 150   994 1012  175 6250  200
    2s3z              5  5 11   80  120 1020 120   124  142   65  400   60
    3s5z              8  8 14  128  216 1510 150   226  244  104 1024   96
    2m_vs_1z          2  1  7   16   26  360 150    23   41   12   32   12
    2s_vs_1sc         2  1  7   17   27  510 300    24   42   13   34   12
    3s_vs_3z          3  3  9   36   54  680 150    54   72   27  108   24
    1c3s5z            9  9 15  162  270 1870 180   282  300  135 1458  126
    MMM              10 10 16  160  290 1015 150   304  322  130 1600  140
    5m_vs_6m          5  6 12   55   98  530  70   103  121   38  275   44
    8m_vs_9m          8  9 15   85  179  695 120   190  208   59  680   68
    10m_vs_11m       10 11 17  105  243  805 150   258  276   73 1050   84
    27m_vs_30m       27 30 36  285 1170 1850 180  1221 1239  198 7695  228
    MMM2             10 12 18  176  322 1205 180   338  356  142 1760  154
    3s5z_vs_3s6z      8  9 15  136  230 1670 170   241  259  110 1088  102
    3s_vs_4z          3  4 10   42   61  840 200    62   80   31  126   28
    3s_vs_5z          3  5 11   48   68 1000 250    70   88   35  144   32
    corridor          6 24 30  156  282 1280 400   306  324  102  936  120
    6h_vs_8z          6  8 14   78  140 1480 150   148  166   56  468   56
    so_many_baneling  7 32 38  202  397 1480 100   430  448  131 1414  156
    bane_vs_bane     24 24 30  336  984 1260 200  1026 1044  264 8064  288
    2c_vs_64zg        2 64 70  332  342 3080 400   402  420  202  664  264
"""
ROWS = [line.split() for line in SIZES.strip().splitlines()]
EXTRAS = ("obs_last_action", "obs_pathing_grid", "obs_terrain_height", "obs_timestep_number")
SWITCHES = (*EXTRAS, "obs_all_health", "obs_own_health", "obs_instead_of_state")
SWITCHES += ("state_last_action", "state_timestep_number")


def layout_of(name, **options):
    return Layout(make_scenario(name), LayoutOptions(**options))


def test_every_map_is_in_the_table():
    assert len(ROWS) == 23 and {row[0] for row in ROWS} == set(MAPS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_sizes(row):
    name, *numbers = row
    agents, enemies, actions, obs, state, best, limit, last, extras, bare, joined, blind = map(int, numbers)
    layout = layout_of(name)
    scenario = layout.scenario
    assert (scenario.n_agents, scenario.n_enemies, scenario.map.limit) == (agents, enemies, limit)
    assert (layout.n_actions, layout.obs_dim, layout.state_dim) == (actions, obs, state)
    assert layout.max_reward == scenario.max_reward == best
    assert layout.divisor == best / 20
    assert layout_of(name, obs_last_action=True).obs_dim == last
    assert layout_of(name, **dict.fromkeys(EXTRAS, True)).obs_dim == extras
    assert layout_of(name, state_last_action=False).state_dim == bare
    assert layout_of(name, obs_instead_of_state=True).state_dim == joined
    assert layout_of(name, obs_all_health=False, obs_own_health=False).obs_dim == blind
    # Health of all implies one's own; the timestep is one more entry of either.
    assert layout_of(name, obs_own_health=False).obs_dim == obs
    assert layout_of(name, state_timestep_number=True).state_dim == state + 1


@pytest.mark.parametrize("name", MAPS)
def test_names_are_as_many_as_entries_and_differ(name):
    for options in ({}, dict.fromkeys(EXTRAS, True), {"obs_all_health": False}, {"obs_instead_of_state": True}):
        layout = layout_of(name, **options)
        scenario = layout.scenario
        for agent in range(scenario.n_agents):
            names = layout.obs_names(agent)
            assert len(names) == layout.obs_dim == len(set(names))
            assert len(layout.action_names(agent)) == layout.n_actions
        names = layout.state_names()
        assert len(names) == layout.state_dim == len(set(names))


def test_names_mean_what_the_specification_says():
    # The index examples of sections 3.2 and 3.3.
    names = layout_of("3m").obs_names(1)
    assert names[:4] == ["move_north", "move_south", "move_east", "move_west"]
    assert names[4:9] == [f"enemy_0/{entry}" for entry in ("available", "distance", "x", "y", "health")]
    assert names[14] == "enemy_2/available" and names[18] == "enemy_2/health"
    assert names[19] == "ally marine_0/visible" and names[24] == "ally marine_2/visible"
    assert names[28] == "ally marine_2/health" and names[29] == "own/health"
    names = layout_of("3m").state_names()
    assert names[:4] == [f"ally marine_0/{entry}" for entry in ("health", "cooldown", "x", "y")]
    assert names[11] == "ally marine_2/y" and names[12] == "enemy_0/health" and names[20] == "enemy_2/y"
    assert names[21] == "ally marine_0/last no-op" and names[47] == "ally marine_2/last attack enemy_2"

    names = layout_of("2s3z").obs_names(0)
    row = ["available", "distance", "x", "y", "health", "shield", "is_zealot", "is_stalker"]
    assert names[4:12] == [f"enemy_0/{entry}" for entry in row] and names[43] == "enemy_4/is_stalker"
    row = ["visible", "distance", "x", "y", "health", "shield", "is_stalker", "is_zealot"]
    assert names[44:52] == [f"ally stalker_1/{entry}" for entry in row] and names[75] == "ally zealot_2/is_zealot"
    assert names[76:] == ["own/health", "own/shield", "own/is_stalker", "own/is_zealot"]

    layout = layout_of("MMM")
    names = layout.obs_names(9)
    assert names[4] == "enemy_0/heal marauder_0 available" and names[4 + 8 * 9] == "enemy_9/unused"
    assert names[9:12] == ["enemy_0/is_marauder", "enemy_0/is_marine", "enemy_0/is_medivac"]
    assert names[83] == "enemy_9/is_medivac" and names[84] == "ally marauder_0/visible"
    assert names[155] == "ally marine_6/is_medivac" and names[156] == "own/health"
    assert layout.action_names(9)[6:] == [
        "heal marauder_0",
        "heal marauder_1",
        *(f"heal marine_{i}" for i in range(7)),
        "unused 15",
    ]
    assert layout.action_names(0)[15] == "attack enemy_9"
    assert layout.state_names()[9 * 7 + 1] == "ally medivac_0/energy"
    assert layout.state_names()[8 * 7 + 1] == "ally marine_6/cooldown"

    names = layout_of("2m_vs_1z").obs_names(0)
    assert [names[i] for i in (4, 9, 10, 14, 15)] == [
        "enemy_0/available",
        "enemy_0/shield",
        "ally marine_1/visible",
        "ally marine_1/health",
        "own/health",
    ]
    names = layout_of("3m", **dict.fromkeys(EXTRAS, True), move_amount=3).obs_names(0)
    assert names[4:6] == ["pathing/+0,+6", "pathing/+0,-6"] and names[8:10] == ["pathing/+3,+3", "pathing/-3,-3"]
    assert names[12] == "height/+0,+6" and names[20] == "height/+0,+0" and names[-1] == "timestep"


# -- random battles ----------------------------------------------------------------------------------------------------


def random_battles(layout, count, rng):
    """Units in every condition: dead, hurt, next to walls, on the map's edge, exactly at the two ranges."""
    scenario = layout.scenario
    units = np.zeros((count, scenario.n_units), UNIT)
    # Nothing but what SMAC shows may matter, so the rest is filled with whatever.
    for field in UNIT.names:
        if UNIT[field].kind == "i":
            units[field] = rng.integers(0, 5, units.shape)
        else:
            units[field] = rng.uniform(-50, 50, units.shape)
    most = scenario.kinds[scenario.unit_kind]
    units["kind"] = scenario.unit_kind
    units["health"] = np.where(rng.random(units.shape) < 0.3, most["health"], most["health"] * rng.random(units.shape))
    units["health"][rng.random(units.shape) < rng.uniform(0, 0.6, (count, 1))] = 0.0
    units["shield"] = most["shield"] * rng.choice([0.0, 0.37, 1.0], units.shape)
    units["energy"] = rng.uniform(0, 200, units.shape)
    units["cooldown"] = rng.choice([0.0, 1.0, 37.2], units.shape) * rng.random(units.shape)
    wide = rng.uniform(0, MAP_SIZE, (*units.shape, 2))
    middle = rng.uniform(8, 24, (count, 1, 2))
    near = np.clip(middle + rng.normal(0, 4, wide.shape), 0, MAP_SIZE)
    place = np.where(rng.random((count, 1, 1)) < 0.3, wide, near)
    # Pythagorean offsets of length 6 and 9, whole and in tenths, from unit 0; cells' corners; the outermost cells.
    offsets = np.array([(3.6, 4.8), (4.8, -3.6), (-5.4, 7.2), (0, 9), (-6, 0), (7.2, 5.4), (9, 0), (0, -6)])
    chosen = offsets[rng.integers(0, len(offsets), units.shape)]
    centre = np.round(np.clip(place[:, :1], 10, 22), 1)
    place = np.where(rng.random((*units.shape, 1)) < 0.25, centre + chosen, place)
    place[:, 0] = centre[:, 0]
    place = np.where(rng.random((*units.shape, 1)) < 0.05, np.round(place), place)
    place = np.where(rng.random((*units.shape, 1)) < 0.05, rng.choice([0.0, 0.4, 31.7, 32.0], (*units.shape, 1)), place)
    units["x"], units["y"] = place[..., 0], place[..., 1]
    battles = np.zeros(count, BATTLE)
    battles["steps"] = rng.integers(0, scenario.map.limit, count)
    return units, battles


def as_dicts(scenario, row):
    """One battle for the slow reader."""
    fields = ("x", "y", "health", "shield", "energy", "cooldown")
    types = scenario.unit_types
    return [{"type": types[u], **{field: float(row[u][field]) for field in fields}} for u in range(len(types))]


def random_options(rng):
    options = {name: bool(rng.integers(2)) for name in SWITCHES}
    options["obs_instead_of_state"] &= bool(rng.integers(2))
    if not (options["obs_pathing_grid"] or options["obs_terrain_height"]):
        options["move_amount"] = float(rng.choice([1.5, 2.0, 3.3]))
    else:
        options["move_amount"] = int(rng.integers(1, 5))
    return options


def on_random_ground(scenario, rng):
    """The scenario with walls and heights of chance, so that every cell matters."""
    ground = replace(
        scenario.terrain,
        pathable=(rng.random((MAP_SIZE, MAP_SIZE)) < 0.6).astype(np.uint8),
        height=rng.integers(0, 256, (MAP_SIZE, MAP_SIZE)).astype(np.uint8),
    )
    return replace(scenario, terrain=ground)


def read_all(layout, units, battles, last_action):
    """What `read` writes into arrays full of rubbish."""
    count, agents = last_action.shape
    obs = np.full((count, agents, layout.obs_dim), 7.5, np.float32)
    state = np.full((count, layout.state_dim), -3.5, np.float32)
    mask = np.full((count, agents, layout.n_actions), 9, np.int8)
    layout.read(units, battles, last_action, obs, state, mask, 0, count)
    return obs, state, mask


def slow_of(layout, name, **options):
    ground = layout.scenario.terrain
    return SlowSmac(name, ground.pathable.tolist(), ground.height.tolist(), **options)


@pytest.mark.parametrize("name", MAPS)
def test_read_is_what_the_slow_reader_reads(name):
    rng = np.random.default_rng(list(MAPS).index(name))
    count = 2 if make_scenario(name).n_units > 40 else 5
    seen = {"mask": 0, "row": 0}
    for case in range(7):
        options = random_options(rng) if case else {}
        scenario = make_scenario(name) if case < 2 else on_random_ground(make_scenario(name), rng)
        layout = Layout(scenario, LayoutOptions(**options))
        slow = slow_of(layout, name, **options)
        units, battles = random_battles(layout, count, rng)
        last_action = rng.integers(0, layout.n_actions, (count, scenario.n_agents)).astype(np.int32)
        last_action[rng.random(count) < 0.3] = -1
        obs, state, mask = read_all(layout, units, battles, last_action)
        for k in range(count):
            row = as_dicts(scenario, units[k])
            steps = int(battles[k]["steps"])
            expected = [slow.mask(row, i) for i in range(slow.a)]
            assert mask[k].tolist() == expected
            np.testing.assert_allclose(
                obs[k], [slow.observation(row, last_action[k], steps, i) for i in range(slow.a)], rtol=2e-7
            )
            np.testing.assert_allclose(state[k], slow.state(row, last_action[k], steps), rtol=2e-7)
            seen["mask"] += int(mask[k, :, 6:].sum())
            seen["row"] += int((obs[k] != 0).sum())
    assert seen["mask"] > 5 and seen["row"] > 100  # the comparison was about something


@pytest.mark.parametrize("name", ["3m", "MMM2", "2s_vs_1sc", "bane_vs_bane"])
def test_reader_and_layout_agree_on_who_is_who(name):
    scenario = make_scenario(name)
    slow = SlowSmac(name, [], [])
    assert list(scenario.unit_types) == slow.ally_types + slow.enemy_types
    assert [scenario.kinds[kind]["health"] for kind in scenario.unit_kind] == [
        BODY[unit][0] for unit in slow.ally_types + slow.enemy_types
    ]


def test_read_stays_within_its_range():
    layout = layout_of("2s3z")
    units, battles = random_battles(layout, 6, np.random.default_rng(1))
    last_action = np.zeros((6, 5), np.int32)
    whole = read_all(layout, units, battles, last_action)
    parts = tuple(np.full_like(array, 5) for array in whole)
    layout.read(units, battles, last_action, *parts, 2, 4)
    for part, full in zip(parts, whole, strict=True):
        assert (part[:2] == 5).all() and (part[4:] == 5).all()
        assert np.array_equal(part[2:4], full[2:4])


def standing(layout, places, **changes):
    """One battle of unhurt units at given places."""
    scenario = layout.scenario
    units = np.zeros((1, scenario.n_units), UNIT)
    most = scenario.kinds[scenario.unit_kind]
    for field in ("health", "shield"):
        units[field] = units[f"seen_{field}"] = most[field]
    units["energy"] = most["energy_start"]
    units["x"], units["y"] = np.array(places, float).T
    for field, values in changes.items():
        units[field] = values
    return units, np.zeros(1, BATTLE)


def test_sight_is_less_than_9_and_shooting_up_to_6():
    layout = layout_of("3m")
    places = [(5, 16), (14, 16), (5.4, 16.5), (11, 16), (14.000001, 16), (10.4, 19.2)]
    units, battles = standing(layout, places)
    obs, _, mask = read_all(layout, units, battles, np.full((1, 3), -1, np.int32))
    assert obs[0, 0, 19:24].tolist() == [0, 0, 0, 0, 0]  # the second marine stands exactly 9 away
    assert obs[0, 0, 24] == 1
    # Enemies at exactly 6, beyond 9, and (5.4, 3.2) away, whose distance is 6.277.
    assert mask[0, 0, 6:].tolist() == [1, 0, 0]
    assert obs[0, 0, 4:9].tolist() == [1, np.float32(6 / 9), np.float32(6 / 9), 0, 1]
    assert obs[0, 0, 9:14].tolist() == [0, 0, 0, 0, 0]
    assert obs[0, 0, 14:16].tolist() == [0, np.float32(np.hypot(5.4, 3.2) / 9)]


def test_probe_is_cut_towards_zero():
    layout = layout_of("3s_vs_3z")  # all cells can be walked on
    places = [(0.5, 0.5), (31.2, 31.2), (16, 16), (5, 5), (6, 6), (7, 7)]
    units, battles = standing(layout, places)
    _, _, mask = read_all(layout, units, battles, np.full((1, 3), -1, np.int32))
    # Half a cell below the edge int(-0.5) is cell 0; beyond the far edge there is none. North, south, east, west.
    assert mask[0, 0, 2:6].tolist() == [1, 1, 1, 1]
    assert mask[0, 1, 2:6].tolist() == [0, 1, 0, 1]
    lane = layout_of("3m")
    places = [(9, 23.5), (9, 8.9), (9, 22.99), (23, 10), (23, 11), (23, 12)]
    units, battles = standing(lane, places)
    _, _, mask = read_all(lane, units, battles, np.full((1, 3), -1, np.int32))
    assert mask[0, :, 2:6].tolist() == [[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]]


def test_a_medivacs_enemy_entries_are_about_healing():
    layout = layout_of("MMM")
    # The medivac and marine_6 (agent 8) stand beside enemy 3; all others far away.
    places = [(2, 9)] * 10 + [(30, 9)] * 10
    places[9], places[8], places[13] = (16, 16), (17, 16), (16, 18)
    units, battles = standing(layout, places)
    obs, state, mask = read_all(layout, units, battles, np.full((1, 10), -1, np.int32))
    assert np.flatnonzero(mask[0, 9]).tolist() == [1, 2, 3, 4, 5, 14]
    row = obs[0, 9, 4 + 8 * 3 : 4 + 8 * 4]
    assert row[0] == 0 and row[1] == np.float32(2 / 9)  # seen, but agent 3 is out of its reach
    assert obs[0, 8, 4 + 8 * 3] == 1 and mask[0, 8, 9] == 1
    assert state[0, 9 * 7 + 1] == 0.25
    places[18] = (16, 14)
    units, battles = standing(layout, places)
    obs, _, _ = read_all(layout, units, battles, np.full((1, 10), -1, np.int32))
    assert obs[0, 9, 4 + 8 * 8] == 1  # enemy 8 is in sight and agent 8 can be healed


def test_state_is_not_clipped_and_dead_agents_keep_their_last_action():
    layout = layout_of("1c3s5z", obs_timestep_number=True)
    units, battles = standing(layout, [(8, 16)] * 9 + [(24, 16)] * 9)
    units["cooldown"][0, 0] = 37.2
    units["health"][0, 1] = 0
    battles["steps"] = 45
    obs, state, mask = read_all(layout, units, battles, np.zeros((1, 9), np.int32))
    assert state[0, 1] == np.float32(1.55)
    assert state[0, 2] == -0.25  # (8 - 16) / 32
    assert not state[0, 8:16].any() and state[0, 9 * 8 + 9 * 7 + 15] == 1
    assert mask[0, 1].tolist() == [1] + [0] * 14
    assert not obs[0, 1, :-1].any() and obs[0, 1, -1] == 0.25


# -- orders ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["3m", "MMM", "MMM2", "2s_vs_1sc", "so_many_baneling"])
def test_orders_are_the_slow_ones(name):
    rng = np.random.default_rng(3)
    count = 12
    for options in ({}, {"move_amount": 1.5}):
        layout = layout_of(name, **options)
        slow = slow_of(layout, name, **options)
        agents = slow.a
        units, battles = random_battles(layout, count, rng)
        before = units.copy()
        last_action = rng.integers(-1, 3, (count, agents)).astype(np.int32)
        previous = last_action.copy()
        _, _, mask = read_all(layout, units, battles, last_action)
        # Half of the actions legal, half of them anything.
        legal = (mask * rng.random(mask.shape)).argmax(-1)
        actions = np.where(rng.random(legal.shape) < 0.5, legal, rng.integers(-2, layout.n_actions + 2, legal.shape))
        illegal = np.full((count, agents), 10, np.int32)
        active = rng.random(count) < 0.7
        layout.order(units, battles, actions, mask, last_action, illegal, active, 1, count)
        for k in range(count):
            commands = slow.commands(as_dicts(layout.scenario, before[k]), mask[k].tolist(), actions[k].tolist())
            for i, (action, replaced, command) in enumerate(commands):
                unit = units[k, i].copy()
                if not active[k] or k == 0:
                    assert unit == before[k, i] and last_action[k, i] == previous[k, i] and illegal[k, i] == 10
                    continue
                assert last_action[k, i] == action and illegal[k, i] == 10 + replaced
                if command is None:
                    assert unit == before[k, i]
                    continue
                orders = {"stop": ORDER_STOP, "move": ORDER_MOVE, "heal": ORDER_HEAL, "attack": ORDER_ATTACK}
                assert unit["order"] == orders[command[0]]
                assert unit["order_target"] == (command[1] if command[0] in ("heal", "attack") else -1)
                if command[0] == "move":
                    assert (unit["order_x"], unit["order_y"]) == command[1:]
                for field in ("order", "order_target", "order_x", "order_y"):
                    unit[field] = before[k, i][field]
                assert unit == before[k, i]
            assert np.array_equal(units[k, agents:], before[k, agents:])


# -- rewards -----------------------------------------------------------------------------------------------------------


def scored(layout, units, battles):
    rewards = np.full(len(units), 99.0)
    layout.score(units, battles, rewards, np.ones(len(units), bool), 0, len(units))
    return rewards


LINE = [(9, 14), (9, 16), (9, 18), (23, 14), (23, 16), (23, 18)]


def test_worked_rewards():
    # Section 4, "Worked, 3m (k = 18.25)".
    layout = layout_of("3m")
    assert layout.divisor == 18.25
    units, battles = standing(layout, LINE)
    units["health"][0, 3] -= 12
    assert scored(layout, units, battles)[0] == pytest.approx(0.657534, abs=5e-7)
    units["health"][0, 3] = 0
    assert scored(layout, units, battles)[0] == pytest.approx(2.356164, abs=5e-7)
    units["health"][0, 4] = 0
    assert scored(layout, units, battles)[0] == pytest.approx(55 / 18.25)
    units["health"][0, 5] = 33
    scored(layout, units, battles)
    units["health"][0, 5] = 0
    assert scored(layout, units, battles)[0] == pytest.approx(13.315068, abs=5e-7)
    assert battles["result"][0] == WIN and battles["steps"][0] == 5 and battles["dead_enemies"][0] == 3

    layout = layout_of("3m", reward_only_positive=False)
    units, battles = standing(layout, LINE)
    units["health"][0, 3] -= 12
    units["health"][0, 0] -= 6
    assert scored(layout, units, battles)[0] == pytest.approx(0.493151, abs=5e-7)
    units["health"][0, 3] = 0
    units["health"][0, 0] = 0
    assert scored(layout, units, battles)[0] == pytest.approx(1.013699, abs=5e-7)

    for side, result, sign in ((slice(3, 6), WIN, 1), (slice(0, 3), DEFEAT, -1)):
        layout = layout_of("3m", reward_sparse=True)
        units, battles = standing(layout, LINE)
        units["health"][0, side] -= 1
        assert scored(layout, units, battles)[0] == 0
        units["health"][0, side] = 0
        assert scored(layout, units, battles)[0] == pytest.approx(sign * 0.054795, abs=5e-7)
        assert battles["result"][0] == result


def test_a_flawless_battle_returns_20():
    for name in ("3m", "2s3z", "so_many_baneling"):
        layout = layout_of(name)
        units, battles = standing(layout, [(9, 16)] * layout.scenario.n_units)
        agents, total = layout.scenario.n_agents, 0.0
        for enemy in range(agents, layout.scenario.n_units):
            units["shield"][0, enemy] = 0
            total += scored(layout, units, battles)[0]
            units["health"][0, enemy] = 0
            total += scored(layout, units, battles)[0]
        assert total == pytest.approx(20) and battles["result"][0] == WIN


def test_regeneration_pays_unless_clipped():
    for options, paid in (({}, 3 / 50), ({"reward_clip": True}, 0), ({"reward_only_positive": False}, -3 / 50)):
        layout = layout_of("3s_vs_5z", **options)
        units, battles = standing(layout, [(9, 16)] * 3 + [(23, 16)] * 5)
        units["shield"][0, 3:6] -= 20
        scored(layout, units, battles)
        units["shield"][0, 3:6] += 1
        assert scored(layout, units, battles)[0] == pytest.approx(paid)


@pytest.mark.parametrize(
    ("name", "alive", "result"),
    [
        ("3m", "", DRAW),
        ("3m", "0", WIN),
        ("3m", "3", DEFEAT),
        ("3m", "0 3", ONGOING),
        ("MMM", "", DEFEAT),  # a mutual wipe-out: the first rule
        ("MMM", "9", DEFEAT),  # only the own medivac
        ("MMM", "9 19", DEFEAT),
        ("MMM", "0 19", WIN),  # only the enemies' medivac
        ("MMM", "0 18", ONGOING),
        ("MMM", "8 9 18 19", ONGOING),
        ("MMM2", "2 21", WIN),
        ("MMM2", "2 19", ONGOING),
        ("MMM2", "9", DEFEAT),
    ],
)
def test_ends(name, alive, result):
    layout = layout_of(name)
    units, battles = standing(layout, [(9, 16)] * layout.scenario.n_units)
    units["health"] *= np.isin(np.arange(layout.scenario.n_units), [int(u) for u in alive.split()])
    battles["steps"] = layout.scenario.map.limit - 1
    scored(layout, units, battles)
    assert battles["result"][0] == result
    # The step limit counts only where the battle did not end on that step.
    assert battles["truncated"][0] == (result == ONGOING)


@pytest.mark.parametrize("name", ["3m", "2s3z", "MMM", "MMM2", "2s_vs_1sc", "2c_vs_64zg", "5m_vs_6m"])
def test_scores_are_the_slow_ones(name):
    rng = np.random.default_rng(11)
    codes = {None: ONGOING, 1: WIN, -1: DEFEAT, 0: DRAW}
    ends = set()
    for case in range(8):
        options = {
            "reward_sparse": case == 1,
            "reward_only_positive": case not in (2, 3),
            "reward_scale": case not in (3, 4),
            "reward_death_value": [10, 7.5][case % 2],
            "reward_win": [200, 50][case // 4],
            "reward_defeat": [0, -30][case % 2],
            "reward_negative_scale": [0.5, 0.8][case % 2],
            "reward_scale_rate": [20, 10][case // 4],
        }
        layout = layout_of(name, **options, reward_clip=case == 5)
        slow = slow_of(layout, name, **options)
        scenario = layout.scenario
        count, size = 10, scenario.n_units
        units, battles = standing(layout, [(9, 16)] * size)
        units, battles = np.repeat(units, count, 0), np.repeat(battles, count)
        battles["steps"] = steps = np.where(np.arange(count) < 3, scenario.map.limit - 6, 0)
        most = scenario.kinds[scenario.unit_kind]
        before = [[(float(u["health"]), float(u["shield"])) for u in row] for row in units]
        dead = [set() for _ in range(count)]
        over = [False] * count
        weakness = rng.choice([0.02, 0.2, 0.5], (count, size))
        for _ in range(20):
            alive = units["health"] > 0
            units["health"] = np.where(alive, np.clip(units["health"] + rng.normal(-4, 9, alive.shape), 1, None), 0)
            units["health"] = np.minimum(units["health"], most["health"])
            units["shield"] = most["shield"] * rng.random(alive.shape)
            units["health"][rng.random(alive.shape) < weakness] = 0.0
            if rng.random() < 0.1:
                units["health"][rng.integers(count)] = 0.0
            active = rng.random(count) < 0.8
            frozen = units.copy(), battles.copy()
            rewards = np.full(count, 99.0)
            layout.score(units, battles, rewards, active, 0, count)
            for k in range(count):
                if over[k] or not active[k]:
                    assert rewards[k] == 0 and battles[k] == frozen[1][k]
                    assert np.array_equal(units[k], frozen[0][k])
                    continue
                row = as_dicts(scenario, units[k])
                assert rewards[k] == pytest.approx(slow.reward(before[k], row, dead[k], case == 5), abs=1e-9)
                before[k] = [(unit["health"], unit["shield"]) for unit in row]
                code = slow.end_code(row)
                steps[k] += 1
                late = code is None and steps[k] >= slow.limit
                assert battles[k]["result"] == codes[code] and battles[k]["truncated"] == late
                assert battles[k]["steps"] == steps[k]
                assert battles[k]["dead_allies"] == sum(unit["health"] == 0 for unit in row[: slow.a])
                assert battles[k]["dead_enemies"] == sum(unit["health"] == 0 for unit in row[slow.a :])
                over[k] = late or code is not None
                ends.add("late" if late else code)
    assert {"late", 1, -1} <= ends or name in ("2c_vs_64zg",)


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"obs_last_action": 1}, TypeError, "obs_last_action must be True or False, got 1; did you mean True"),
        ({"reward_sparse": "yes"}, TypeError, "reward_sparse must be True or False, got 'yes'"),
        ({"step_mul": 8.0}, TypeError, "did you mean 8"),
        ({"step_mul": 0}, ValueError, "at least 1"),
        ({"move_amount": "2"}, TypeError, "move_amount must be a number"),
        ({"move_amount": True}, TypeError, "move_amount must be a number"),
        ({"move_amount": 0}, ValueError, "greater than 0"),
        ({"move_amount": float("nan")}, ValueError, "finite"),
        ({"move_amount": 2.4, "obs_pathing_grid": True}, ValueError, "whole move_amount, got 2.4; the nearest is 2"),
        ({"move_amount": 0.4, "obs_terrain_height": True}, ValueError, "the nearest is 1"),
        ({"reward_scale_rate": 0}, ValueError, "reward_scale_rate must be greater than 0"),
    ],
)
def test_bad_options_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        LayoutOptions(**options)


def test_a_best_return_of_nothing_cannot_scale_rewards():
    with pytest.raises(ValueError, match="positive best return"):
        layout_of("3m", reward_death_value=-100, reward_win=0)
    assert layout_of("3m", reward_death_value=-100, reward_win=0, reward_scale=False).divisor == 1


def test_defaults_are_smacs():
    options = LayoutOptions()
    assert (options.step_mul, options.move_amount) == (8, 2)
    switched_on = ("obs_all_health", "obs_own_health", "state_last_action", "reward_only_positive", "reward_scale")
    switches = [name for name, value in vars(options).items() if isinstance(value, bool)]
    assert {name for name in switches if getattr(options, name)} == set(switched_on) and len(switches) == 16
    rewards = (options.reward_death_value, options.reward_win, options.reward_defeat)
    assert (*rewards, options.reward_negative_scale, options.reward_scale_rate) == (10, 200, 0, 0.5, 20)


# -- docs/smac-layout.md -----------------------------------------------------------------------------------------------

DOCS = (Path(__file__).parents[3] / "docs" / "smac-layout.md").read_text(encoding="utf-8")


def test_the_documented_example_prints_what_it_says(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", DOCS, flags=re.DOTALL)
    exec(compile(block, "smac-layout.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*  # (.*)", block)


def test_the_documented_tables():
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in DOCS.splitlines() if line[:1] == "|"]
    maps = {row[0]: row[3:] for row in cells if len(row) == 12 and row[0] in MAPS}
    assert len(maps) == 23
    for name, *numbers in ROWS:
        agents, enemies, actions, obs, state, best, limit = map(float, numbers[:7])
        bits = make_scenario(name).map.type_bits
        assert [float(cell) for cell in maps[name]] == [
            *(limit, bits, agents, enemies, actions, obs, state, best),
            best / 20,
        ]
    options = [row for row in cells if len(row) == 5 and row[3].isdigit()]
    assert len(options) == 12
    for name, default, _, obs, state in options:
        words = name.strip("`")
        changed = {words: default == "False"} if default in ("True", "False") else {}
        if words == "both False":
            changed = {"obs_all_health": False, "obs_own_health": False}
        layout = layout_of("3m", **changed)
        assert (layout.obs_dim, layout.state_dim) == (int(obs), int(state))
