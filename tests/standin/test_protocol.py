"""The stand-in through pysc2's own controller: the same fights as smac_sim_v0, and the API's rules."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pysc2", reason="pysc2 is not installed")

import reader
from smac_reader import SETUP

from smix_pz.envs import smac_sim_v0
from smix_pz.envs.battle.state import RULES
from smix_pz.standin.world import shown
from smix_pz.version import __version__

RNG_SEED, GAME_SEED = 3, 12
STEPS = 45  # of each map, in at least two battles


@pytest.fixture(scope="module")
def process(installed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SC2PATH", str(installed))
        running = reader.start()
    yield running
    running.close()


@pytest.fixture
def controller(process):
    """A controller without a game."""
    from pysc2.lib.protocol import Status

    yield process.controller
    if process.controller.status in (Status.in_game, Status.ended):
        process.controller.leave()


@pytest.fixture
def game(controller):
    reader.create(controller, "3m", GAME_SEED)
    return controller


def near_a_limit(units, close=1e-5):
    places = np.array([[unit["x"], unit["y"]] for unit in units])
    distance = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    return bool((np.minimum(np.abs(distance - 6), np.abs(distance - 9)) < close).any())


@pytest.mark.parametrize("map_name", SETUP)
def test_same_fight_two_readers(controller, map_name):
    """SMAC's formulas on what the protocol says, against smac_sim_v0 on the same seed and actions."""
    rng = np.random.default_rng(RNG_SEED)
    reader.create(controller, map_name, GAME_SEED, SETUP[map_name][2])
    battle = reader.Battle(controller, map_name)
    twin = smac_sim_v0.parallel_env(map_name, strict=True, dead_agents="stay")
    agents = twin.possible_agents
    twin.reset(seed=GAME_SEED)
    compared = 0
    for step in range(STEPS):
        # The courses are equal bit by bit, as far as 32-bit numbers can show.
        units = twin.battles.units[0]
        for axis in ("x", "y", "health"):
            expected = units[axis].astype(np.float32) if axis == "health" else shown(units[axis])
            found = np.array([unit[axis] for unit in battle.units], np.float32)
            np.testing.assert_array_equal(found[units["health"] > 0], expected[units["health"] > 0])
        if not near_a_limit(battle.units):
            compared += 1
            assert battle.masks() == twin.battles.mask[0].tolist()
            np.testing.assert_allclose(battle.observations(), twin.battles.obs[0], atol=1e-5)
            np.testing.assert_allclose(battle.state(), twin.battles.state[0], atol=1e-5)
        if not twin.agents or step == STEPS // 2:  # the battle's end, and once before it
            battle.end()
            twin.reset()
            continue
        masks = np.array(battle.masks()) & twin.battles.mask[0]
        actions = [int(rng.choice(np.flatnonzero(row))) for row in masks]
        target = 6 + int(masks[:, 6:].sum(0).argmax())
        if step % 3:  # most of the time the fight is a real one
            actions = [target if row[target] else action for row, action in zip(masks, actions, strict=True)]
        reward, code = battle.step(actions)
        _, rewards, terminations, _, infos = twin.step(dict(zip(agents, actions, strict=True)))
        assert reward == pytest.approx(rewards[agents[0]], abs=1e-5)
        assert (code is not None) == terminations[agents[0]]
        assert (code == 1) == infos[agents[0]]["battle_won"]
    assert compared >= STEPS - 5  # nearly all: a distance can stay near a limit while two units stand


def test_it_says_what_it_is(process, game):
    ping = game.ping()
    assert ping.game_version == f"smix standin {RULES}"
    assert ping.data_version == f"smix_pz {__version__}, not StarCraft II"
    assert ping.base_build == ping.data_build == 0
    assert process.version.build_version == 99999
    assert list(game.game_info().mod_names) == [f"smix standin {RULES}, not StarCraft II"]


def test_game_info(controller):
    """Sizes and grids of section 7: the lane is open from y = 8 to 23."""
    reader.create(controller, "2s3z", races="PP")
    info = controller.game_info()
    assert (info.map_name, info.local_map_path) == ("2s3z", "SMAC_Maps/2s3z.SC2Map")
    raw = info.start_raw
    assert (raw.map_size.x, raw.map_size.y) == (32, 32)
    corners = raw.playable_area
    assert (corners.p0.x, corners.p0.y, corners.p1.x, corners.p1.y) == (0, 0, 32, 32)
    pathable, _ = reader.grids(info)
    assert [sum(pathable[x][y] for x in range(32)) for y in range(32)] == [0] * 8 + [32] * 16 + [0] * 8
    assert [(p.player_id, p.type, p.race_actual) for p in info.player_info] == [(1, 1, 3), (2, 2, 3)]
    assert info.player_info[1].difficulty == reader.DIFFICULTY and info.options.raw


def test_grids_that_are_not_symmetric(controller):
    """2s_vs_1sc, section 7: the pentagon narrows northwards; 2c_vs_64zg: the plateau lies in the north."""
    reader.create(controller, "2s_vs_1sc", races="PZ")
    pathable, _ = reader.grids(controller.game_info())
    assert [x for x in range(8, 20) if pathable[x][23]] == list(range(12, 16))
    assert [x for x in range(8, 20) if pathable[x][8]] == list(range(8, 20))
    controller.leave()
    reader.create(controller, "2c_vs_64zg", races="PZ")
    _, height = reader.grids(controller.game_info())
    assert height[16][16] > height[16][8] > 0


def test_unit_data(controller):
    """RequestData against section 6: bodies, weapons and ids."""
    reader.create(controller, "MMM", races="TT")
    data = controller.data_raw()
    units = {unit.name: unit for unit in data.units}
    ids = [units[f"RL_{name}"].unit_id for name in ("Marauder", "Marine", "Medivac")]
    assert ids == list(range(ids[0], ids[0] + 3)) and ids[0] >= 5000
    assert {unit.unit_id: unit.name for unit in data.units if unit.unit_id < 5000} == {
        **{48: "Marine", 51: "Marauder", 54: "Medivac"}
    }
    marine, marauder, medivac = units["Marine"], units["RL_Marauder"], units["Medivac"]
    assert (marine.movement_speed, marine.armor, marine.sight_range, marine.race) == (2.25, 0, 9, 1)
    (gun,) = marine.weapons
    assert (gun.type, gun.damage, gun.attacks, gun.range) == (3, 6, 1, 5) and gun.speed == pytest.approx(0.8608)
    (grenade,) = marauder.weapons
    assert grenade.type == 1 and [(b.attribute, b.bonus) for b in grenade.damage_bonus] == [(2, 10)]  # Armored
    assert list(marine.attributes) == [1, 3] and not medivac.weapons  # Light, Biological
    assert {ability.ability_id: ability.target for ability in data.abilities} == {4: 1, 16: 2, 23: 4, 386: 3}


def observe(controller):
    return controller.observe().observation.raw_data


def side(raw, owner):
    return [unit for unit in raw.units if unit.owner == owner]


def command(ability, tags, point=None, target=None, queue=False):
    from s2clientprotocol import sc2api_pb2 as api

    action = api.Action()
    raw = action.action_raw.unit_command
    raw.ability_id, raw.queue_command = ability, queue
    raw.unit_tags.extend(tags)
    if point is not None:
        raw.target_world_space_pos.x, raw.target_world_space_pos.y = point
    if target is not None:
        raw.target_unit_tag = target
    return action


def kill(controller, units):
    from s2clientprotocol import debug_pb2 as debug

    controller.debug(debug.DebugCommand(kill_unit=debug.DebugKillUnit(tag=[unit.tag for unit in units])))


def test_units_are_told_in_full(controller):
    reader.create(controller, "MMM", 1, "TT")
    raw = observe(controller)
    allies, enemies = side(raw, 1), side(raw, 2)
    # In order of creation, which is not the agents' order.
    first = min(unit.unit_type for unit in allies)
    assert [unit.unit_type - first for unit in allies] == [1] * 7 + [0] * 2 + [2]
    assert [unit.unit_type for unit in enemies] == [48] * 7 + [51] * 2 + [54]
    for unit in (*allies, *enemies):
        assert unit.display_type == 1 and unit.alliance == (1 if unit.owner == 1 else 4) and unit.build_progress == 1
        assert unit.health == unit.health_max > 0 and unit.shield_max == 0 and unit.cloak == 3
        assert 0 <= unit.facing < 2 * np.pi and not unit.orders
    medivac = allies[-1]
    assert (medivac.energy, medivac.energy_max, medivac.radius, medivac.is_flying) == (50, 200, 0.75, True)
    assert medivac.pos.z > allies[0].pos.z
    assert all(np.cos(unit.facing) > 0.9 for unit in allies) and all(np.cos(unit.facing) < -0.9 for unit in enemies)


def test_orders_facing_and_targets(game):
    raw = observe(game)
    walker, fighter, other = side(raw, 1)
    enemy = side(raw, 2)[0]
    actions = [
        command(16, [walker.tag], point=(walker.pos.x, walker.pos.y + 2)),
        command(23, [fighter.tag], target=enemy.tag),
        command(4, [other.tag]),
    ]
    for action in actions:
        assert list(game.act(action).result) == [1]
    game.step(8)
    units = {unit.tag: unit for unit in observe(game).units}
    (order,) = units[walker.tag].orders
    assert order.ability_id == 16 and order.target_world_space_pos.y == pytest.approx(walker.pos.y + 2)
    # 2.25 cells a second of 16 loops: 1.125 in 8 loops (section 6.1)
    assert units[walker.tag].pos.y == pytest.approx(walker.pos.y + 1.125, abs=1e-5)
    assert units[walker.tag].facing == pytest.approx(np.pi / 2, abs=1e-3)
    (order,) = units[fighter.tag].orders
    assert (order.ability_id, order.target_unit_tag) == (23, enemy.tag)
    assert units[fighter.tag].engaged_target_tag == enemy.tag
    assert not units[other.tag].orders
    game.step(8)  # 2 cells are not yet walked after 16 loops at 0.140625; they are after 15
    assert [unit.pos.y for unit in observe(game).units if unit.tag == walker.tag] == pytest.approx([walker.pos.y + 2])


def test_attack_move_to_a_point(game):
    unit = side(observe(game), 1)[0]
    assert list(game.act(command(23, [unit.tag], point=(unit.pos.x + 3, unit.pos.y))).result) == [1]
    game.step(8)
    (now,) = (other for other in observe(game).units if other.tag == unit.tag)
    assert now.pos.x == pytest.approx(unit.pos.x + 1.125, abs=1e-4)


def test_general_ability_ids(game):
    """pysc2's Move_screen (3794), Stop_quick (3665) and Attack_screen (3674) mean the same."""
    raw = observe(game)
    unit, enemy = side(raw, 1)[0], side(raw, 2)[0]
    for action in (command(3794, [unit.tag], point=(3, 16)), command(3665, [unit.tag])):
        assert list(game.act(action).result) == [1]
    assert list(game.act(command(3674, [unit.tag], target=enemy.tag)).result) == [1]


@pytest.mark.parametrize(
    ("what", "result"),
    [
        ("unknown ability", 2),
        ("queued", 4),
        ("move without a point", 84),
        ("move to a unit", 2),
        ("attack without a target", 81),
        ("attack a friend", 106),
        ("heal with a marine", 2),
        ("heal an enemy", 105),
        ("a unit of the enemy", 88 - 1),
        ("a unit that is not there", 3),
        ("a target that is not there", 36),
    ],
)
def test_refused_commands(game, what, result):
    """A refused command has an ActionResult other than Success, shows among the action errors once, and changes
    nothing."""
    raw = observe(game)
    mine, friend, enemy = side(raw, 1)[0], side(raw, 1)[1], side(raw, 2)[0]
    action = {
        "unknown ability": command(380, [mine.tag]),
        "queued": command(16, [mine.tag], point=(5, 16), queue=True),
        "move without a point": command(16, [mine.tag]),
        "move to a unit": command(16, [mine.tag], target=friend.tag),
        "attack without a target": command(23, [mine.tag]),
        "attack a friend": command(23, [mine.tag], target=friend.tag),
        "heal with a marine": command(386, [mine.tag], target=friend.tag),
        "heal an enemy": command(386, [mine.tag], target=enemy.tag),
        "a unit of the enemy": command(16, [enemy.tag], point=(5, 16)),
        "a unit that is not there": command(16, [17], point=(5, 16)),
        "a target that is not there": command(23, [mine.tag], target=17),
    }[what]
    assert list(game.act(action).result) == [result]
    seen = game.observe()
    assert [(error.ability_id, error.result) for error in seen.action_errors] == [
        (action.action_raw.unit_command.ability_id, result)
    ]
    assert not game.observe().action_errors
    before = {unit.tag: (unit.pos.x, unit.pos.y) for unit in side(raw, 1)}
    game.step(4)
    assert {unit.tag: (unit.pos.x, unit.pos.y) for unit in side(observe(game), 1)} == before


def test_other_kinds_of_actions(game):
    from s2clientprotocol import sc2api_pb2 as api

    chat, camera, autocast, ui = api.Action(), api.Action(), api.Action(), api.Action()
    chat.action_chat.message = "glhf"
    camera.action_raw.camera_move.center_world_space.x = 5
    autocast.action_raw.toggle_autocast.ability_id = 386
    ui.action_ui.select_army.selection_add = True
    request = api.RequestAction(actions=[chat, camera, autocast, ui])
    assert list(game.actions(request).result) == [1, 1, 2, 2]


def test_the_dead_leave_and_are_told_once(game):
    raw = observe(game)
    victim = side(raw, 2)[1]
    kill(game, [victim])
    assert len(observe(game).units) == 6  # it dies with the next loop
    game.step(1)
    raw = observe(game)
    assert list(raw.event.dead_units) == [victim.tag] and victim.tag not in [unit.tag for unit in raw.units]
    assert not observe(game).event.dead_units
    kill(game, [victim])  # again, and somebody who never was
    game.step(50)
    assert len(side(observe(game), 2)) == 2  # one side's death fills no map


@pytest.mark.parametrize("loops", [(2,), (1, 1), (5,)])
def test_the_map_fills_itself_when_all_are_dead(game, loops):
    raw = observe(game)
    kill(game, raw.units)
    for number, count in enumerate(loops):
        game.step(count)
        units = observe(game).units
        assert len(units) == (6 if number == len(loops) - 1 else 0)
    assert not {unit.tag for unit in units} & {unit.tag for unit in raw.units}
    assert [unit.unit_type for unit in units] == [unit.unit_type for unit in raw.units]
    moved = max(abs(unit.pos.x - place) for unit, place in zip(side(observe(game), 2), [23] * 3, strict=True))
    # Two loops pass; what is left of a step is played, and the enemies walk west 0.14 cells a loop.
    assert (moved > 1.0) == (sum(loops) > 4) or moved < 1.6
    assert game.observe().observation.game_loop == sum(loops)


def test_seeds(controller):
    def places(seed):
        reader.create(controller, "3m", seed)
        found = []
        for _ in range(2):
            raw = observe(controller)
            found.append([(unit.pos.x, unit.pos.y) for unit in raw.units])
            kill(controller, raw.units)
            controller.step(2)
        controller.leave()
        return found

    one, same, other, free, again = places(5), places(5), places(6), places(None), places(None)
    assert one == same and one[0] != one[1]
    assert len({str(course) for course in (one, other, free, again)}) == 4


def test_restart_goes_on_with_another_battle(game):
    before = observe(game)
    game.step(8)
    assert not game.restart().need_hard_reset
    after = observe(game)
    assert len(after.units) == 6 and game.observe().observation.game_loop == 0
    assert not {unit.tag for unit in before.units} & {unit.tag for unit in after.units}


def test_leave_and_another_map(game):
    from pysc2.lib.protocol import ProtocolError, Status

    game.leave()
    assert game.status == Status.launched
    with pytest.raises(ProtocolError):
        game.observe()
    reader.create(game, "8m")
    assert len(observe(game).units) == 16


def test_replays_are_refused_and_the_game_goes_on(game):
    from pysc2.lib.protocol import ProtocolError

    with pytest.raises(ProtocolError, match="records no replays"):
        game.save_replay()
    game.step(8)
    assert game.observe().observation.game_loop == 8


def test_maps_are_listed(controller):
    paths = controller.available_maps().local_map_paths
    assert sorted(paths) == sorted(f"SMAC_Maps/{name}.SC2Map" for name in SETUP)


def test_an_unknown_map_is_refused_with_the_nearest(controller):
    from pysc2.lib.remote_controller import RequestError

    with pytest.raises(RequestError, match=r"InvalidMapName.*did you mean '3s5z'"):
        reader.create(controller, "3s5x")
    reader.create(controller, "3s5z", races="PP")
