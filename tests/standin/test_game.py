"""Requests in, responses out, without a connection: whatever comes in, there is an answer, and the game lives on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smix_pz.standin.game import Game
from smix_pz.standin.messages import load_messages

M = load_messages()
REQUESTS = [field.name for field in M.Request.DESCRIPTOR.oneofs_by_name["request"].fields]
SUPPORTED = {
    *("ping", "create_game", "join_game", "restart_game", "leave_game", "quit", "step", "action", "observation"),
    *("debug", "game_info", "data", "available_maps"),
}


def ask(game, request=None, **fields):
    """The response to one request, given as keywords."""
    request = request or M.Request(**fields)
    return M.Response.FromString(game.answer(request.SerializeToString()))


def creation(path="SMAC_Maps/3m.SC2Map", players=(1, 2), **fields):
    request = M.RequestCreateGame(local_map=M.LocalMap(map_path=path), random_seed=1, **fields)
    for kind in players:
        request.player_setup.add(type=kind)
    return request


JOIN = M.RequestJoinGame(race=1, options=M.InterfaceOptions(raw=True))


@pytest.fixture
def game():
    return Game()


@pytest.fixture
def playing(game):
    assert not ask(game, create_game=creation()).create_game.HasField("error")
    assert ask(game, join_game=JOIN).join_game.player_id == 1
    return game


def test_statuses(game):
    status = M.Status
    assert ask(game, ping=M.RequestPing()).status == status.launched
    assert ask(game, create_game=creation()).status == status.init_game
    assert ask(game, join_game=JOIN).status == status.in_game
    assert ask(game, leave_game=M.RequestLeaveGame()).status == status.launched
    response = ask(game, quit=M.RequestQuit())
    assert response.status == status.quit and response.HasField("quit") and game.over


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("state", ["launched", "created", "playing"])
def test_every_request_has_an_answer_in_every_state(name, state):
    """Either an answer of its own kind or an error, with the request's id and a status; and a ping afterwards."""
    game = Game()
    if state != "launched":
        ask(game, create_game=creation())
    if state == "playing":
        ask(game, join_game=JOIN)
    request = M.Request(id=41)
    getattr(request, name).SetInParent()
    response = ask(game, request)
    assert response.id == 41 and response.HasField("status")
    assert (response.WhichOneof("response") == name) != bool(response.error)
    if name not in SUPPORTED:
        assert len(response.error) == 1 and name in response.error[0] and "smix standin" in response.error[0]
    assert ask(game, ping=M.RequestPing()).ping.game_version.startswith("smix standin")


def test_what_a_state_does_not_allow_is_refused(game):
    for name in ("step", "action", "observation", "debug", "game_info", "data", "restart_game", "leave_game"):
        request = M.Request()
        getattr(request, name).SetInParent()
        assert "needs a game" in ask(game, request).error[0]
    assert "created" in ask(game, join_game=JOIN).error[0]
    ask(game, create_game=creation())
    assert "twice" in ask(game, create_game=creation()).error[0]


@settings(max_examples=300)
@given(data=st.binary(max_size=60))
def test_garbage_is_answered(data):
    game = Game()
    response = M.Response.FromString(game.answer(data))
    assert response.HasField("status") and (response.error or response.WhichOneof("response"))
    assert ask(game, ping=M.RequestPing()).ping.game_version


@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_request_is_answered_and_the_game_goes_on(data):
    """A real request with one byte changed."""
    game = Game()
    ask(game, create_game=creation())
    ask(game, join_game=JOIN)
    observed = ask(game, observation=M.RequestObservation()).observation.observation.raw_data
    action = M.Request(action=M.RequestAction())
    command = action.action.actions.add().action_raw.unit_command
    command.ability_id, command.target_world_space_pos.x, command.target_world_space_pos.y = 16, 3.0, 16.0
    command.unit_tags.append(observed.units[0].tag)
    original = bytearray(action.SerializeToString())
    place = data.draw(st.integers(0, len(original) - 1))
    original[place] = data.draw(st.integers(0, 255))
    assert M.Response.FromString(game.answer(bytes(original))).HasField("status")
    if not game.over:
        assert not ask(game, step=M.RequestStep(count=8)).error
        response = ask(game, observation=M.RequestObservation())
        assert not response.error
        assert all(0 <= u.pos.x <= 32 and 0 <= u.pos.y <= 32 for u in response.observation.observation.raw_data.units)


@pytest.mark.parametrize("ability", [16, 23])
@pytest.mark.parametrize("place", [float("nan"), float("inf"), -float("inf"), 3e38, -3e38])
def test_points_that_are_nowhere_are_refused(playing, place, ability):
    """The engine would be left without a direction, and the unit without a place."""
    units = ask(playing, observation=M.RequestObservation()).observation.observation.raw_data.units
    for axis in ("x", "y"):
        request = M.RequestAction()
        command = request.actions.add().action_raw.unit_command
        command.ability_id = ability
        command.unit_tags.append(units[0].tag)
        command.target_world_space_pos.x = command.target_world_space_pos.y = 16.0
        setattr(command.target_world_space_pos, axis, place)
        assert list(ask(playing, action=request).action.result) == [M.ActionResult.MustTargetVisibleLocation]
    ask(playing, step=M.RequestStep(count=8))
    after = ask(playing, observation=M.RequestObservation()).observation.observation.raw_data.units
    assert (after[0].pos.x, after[0].pos.y) == (units[0].pos.x, units[0].pos.y)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (creation(""), "MissingMap"),
        (creation("SMAC_Maps/3mm.SC2Map"), "InvalidMapName"),
        (creation(players=()), "MissingPlayerSetup"),
        (creation(players=(1, 1)), "InvalidPlayerSetup"),
        (creation(players=(2,)), "InvalidPlayerSetup"),
    ],
)
def test_bad_games_are_refused_and_a_good_one_can_follow(game, request_, error):
    response = ask(game, create_game=request_)
    numbers = M.ResponseCreateGame.DESCRIPTOR.enum_types_by_name["Error"].values_by_name
    assert response.create_game.error == numbers[error].number and response.create_game.error_details
    assert response.status == M.Status.launched
    assert not ask(game, create_game=creation()).create_game.HasField("error")


def test_real_time_is_refused(game):
    assert "Real time" in ask(game, create_game=creation(realtime=True)).error[0]


@pytest.mark.parametrize("path", ["3m", "3m.SC2Map", "SMAC_Maps\\3m.SC2Map", "/some/where/SMAC_Maps/3m.SC2Map"])
def test_the_maps_name_decides(game, path):
    ask(game, create_game=creation(path))
    ask(game, join_game=JOIN)
    assert ask(game, game_info=M.RequestGameInfo()).game_info.map_name == "3m"


def test_a_map_by_its_battlenet_name(game):
    request = M.RequestCreateGame(battlenet_map_name="2s3z")
    request.player_setup.add(type=1)
    request.player_setup.add(type=2)
    assert not ask(game, create_game=request).create_game.HasField("error")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"race": 1}, "MissingOptions"),
        ({"options": M.InterfaceOptions(raw=True)}, "MissingParticipation"),
        ({"observed_player_id": 1, "options": M.InterfaceOptions(raw=True)}, "FeatureUnsupported"),
        ({"race": 1, "options": M.InterfaceOptions(feature_layer=M.SpatialCameraSetup())}, "FeatureUnsupported"),
        ({"race": 1, "options": M.InterfaceOptions(raw=True), "server_ports": M.PortSet()}, "FeatureUnsupported"),
    ],
)
def test_joins_that_cannot_be_served(game, fields, error):
    ask(game, create_game=creation())
    response = ask(game, join_game=M.RequestJoinGame(**fields))
    numbers = M.ResponseJoinGame.DESCRIPTOR.enum_types_by_name["Error"].values_by_name
    assert response.join_game.error == numbers[error].number
    assert ask(game, join_game=JOIN).join_game.player_id == 1


@pytest.mark.parametrize("count", [0, 10**6 + 1])
def test_steps_of_impossible_length_are_refused(playing, count):
    assert "game loops" in ask(playing, step=M.RequestStep(count=count)).error[0]
    assert ask(playing, step=M.RequestStep()).step.simulation_loop == 1  # none given: one


@pytest.mark.parametrize("kind", ["draw", "create_unit", "game_state", "end_game", "unit_value"])
def test_other_debug_commands_are_refused_as_a_whole(playing, kind):
    observed = ask(playing, observation=M.RequestObservation()).observation.observation.raw_data
    request = M.RequestDebug()
    request.debug.add().kill_unit.tag.append(observed.units[0].tag)
    command = request.debug.add()
    if kind == "game_state":
        command.game_state = 1
    else:
        getattr(command, kind).SetInParent()
    assert kind in ask(playing, debug=request).error[0]
    ask(playing, step=M.RequestStep(count=1))
    observed = ask(playing, observation=M.RequestObservation()).observation.observation.raw_data
    assert len(observed.units) == 6


def test_an_internal_fault_is_an_error_of_that_request_alone(playing, monkeypatch, capsys):
    world = playing._world
    monkeypatch.setattr(world, "step", lambda count: 1 / 0)
    response = ask(playing, step=M.RequestStep(count=8))
    assert "ZeroDivisionError" in response.error[0] and response.WhichOneof("response") is None
    assert "ZeroDivisionError" in capsys.readouterr().err
    monkeypatch.undo()
    assert ask(playing, step=M.RequestStep(count=8)).step.simulation_loop == 8


def test_the_preset_is_part_of_the_name_and_of_the_weapons():
    """Section 6.2: a stalker deals 10 (+4) in the base data, 13 (+5) on the ladder."""
    found = {}
    for preset in ("liberty", "lotv"):
        game = Game(preset)
        ask(game, create_game=creation("2s3z"))
        ask(game, join_game=JOIN)
        units = ask(game, data=M.RequestData(unit_type_id=True)).data.units
        (weapon,) = next(unit for unit in units if unit.name == "Stalker").weapons
        found[game.title.split(" ", 2)[2]] = (weapon.damage, weapon.damage_bonus[0].bonus)
    assert found == {"r1": (10, 4), "r1 lotv": (13, 5)}


def test_messages_are_blizzards():
    """Bytes that pysc2's own classes write and ours read mean the same, and the other way round."""
    api = pytest.importorskip("s2clientprotocol.sc2api_pb2")
    theirs = api.Request(id=7, step=api.RequestStep(count=8))
    assert M.Request.FromString(theirs.SerializeToString()).step.count == 8
    game = Game()
    ask(game, create_game=creation())
    ask(game, join_game=JOIN)
    data = game.answer(M.Request(observation=M.RequestObservation()).SerializeToString())
    response = api.Response.FromString(data)
    assert [unit.owner for unit in response.observation.observation.raw_data.units] == [1, 1, 1, 2, 2, 2]
    assert response.SerializeToString() == data
    assert api.Status.Name(response.status) == "in_game"
    assert {name: getattr(M.Status, name) for name in api.Status.keys()} == dict(api.Status.items())
