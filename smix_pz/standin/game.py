"""Requests in, responses out: the part of the StarCraft II API that SMAC and pysc2 use.

`Game` is one process of StarCraft as its client sees it. It has the game's states (launched, in a game, ...), refuses
what a state does not allow, and answers what it cannot do with an error that says so; whatever comes in, there is an
answer. `handlers` is the table of what it knows.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

from smix_pz.envs.battle.maps import MAPS
from smix_pz.envs.battle.state import RULES
from smix_pz.names import nearest
from smix_pz.standin.identity import title
from smix_pz.standin.messages import load_messages
from smix_pz.standin.world import RACES, World
from smix_pz.version import __version__

__all__ = ["Game", "Refused"]

MAP_FOLDER = "SMAC_Maps"
MOST_LOOPS = 1_000_000  # of one step: a client that asks for more has made a mistake
NO_REPLAYS = "The engine records no replays."


class Refused(Exception):
    """A request that is answered with an error; the message is the error."""


class Game:
    """One game process.

    Attributes:
        title: what it calls itself.
        over: whether the client asked it to quit.
        asked: kind of the last request, such as "step"; "" where it could not be read.

    Args:
        preset, jitter: of the battles, see `smac_sim_v0`.
    """

    def __init__(self, preset: str = "liberty", jitter: float = 0.1) -> None:
        self._messages: SimpleNamespace = load_messages()
        self._status: int = self._messages.Status.launched
        self._preset, self._jitter = preset, jitter
        self.title = title(RULES, preset)
        self.over = False
        self.asked = ""
        self._world: World | None = None
        self._created: Any = None  # the RequestCreateGame
        self._options: Any = None  # of the RequestJoinGame

    def answer(self, data: bytes) -> bytes:
        """The serialized Response to a serialized Request. Errors become responses; none is raised."""
        response = self._messages.Response()
        self.asked = ""
        try:
            try:
                request = self._messages.Request.FromString(data)
            except Exception as error:
                raise Refused(f"This is no SC2APIProtocol.Request: {error}.") from error
            if request.HasField("id"):
                response.id = request.id
            self._respond(request, response)
        except Refused as error:
            _clear(response)
            response.error.append(f"{self.title}: {error}")
        except Exception as error:  # a fault of ours must not end the client's game
            traceback.print_exc()
            _clear(response)
            response.error.append(f"{self.title}: internal error, {type(error).__name__}: {error}")
        response.status = self._status
        return bytes(response.SerializeToString())

    def _respond(self, request: Any, response: Any) -> None:
        name = request.WhichOneof("request")
        self.asked = name or ""
        if name is None:
            raise Refused("The request asks for nothing.")
        handler = self._handlers.get(name)
        if handler is None:
            reason = NO_REPLAYS if "replay" in name else f"It can do: {', '.join(sorted(self._handlers))}."
            raise Refused(f"{name!r} is not supported. {reason}")
        getattr(response, name).SetInParent()
        handler(self, getattr(request, name), getattr(response, name))

    def _need_world(self, what: str) -> World:
        """The world of a game that has been joined."""
        if self._world is None or self._status != self._messages.Status.in_game:
            raise Refused(f"{what!r} needs a game that has been created and joined.")
        return self._world

    # ------------------------------------------------------------------------------------------- beginning and ending

    def _ping(self, _: Any, response: Any) -> None:
        response.game_version = self.title
        response.data_version = f"smix_pz {__version__}, not StarCraft II"
        response.data_build = response.base_build = 0  # no build of Blizzard's

    def _create_game(self, request: Any, response: Any) -> None:
        errors = self._messages.ResponseCreateGame
        if self._status == self._messages.Status.init_game:
            raise Refused("'create_game' was called twice: join the game first.")
        kinds = [player.type for player in request.player_setup]
        types = self._messages.PlayerType
        path = request.local_map.map_path or request.battlenet_map_name
        name = PurePosixPath(path.replace("\\", "/")).name.removesuffix(".SC2Map")
        if not path:
            problem, details = errors.MissingMap, "No map was named; the map is chosen by the name in its path."
        elif name not in MAPS:
            problem, details = errors.InvalidMapName, f"Unknown map {path!r}; {nearest(name, MAPS)}."
        elif not kinds:
            problem, details = errors.MissingPlayerSetup, "Expected a participant and a computer."
        elif sorted(kinds) != [types.Participant, types.Computer]:
            problem, details = errors.InvalidPlayerSetup, f"Expected a participant and a computer, got types {kinds}."
        elif request.realtime:
            raise Refused("Real time is not supported: leave out realtime=True.")
        else:
            seed = request.random_seed if request.HasField("random_seed") else None
            self._world = World(self._messages, name, seed, self._preset, self._jitter)
            self._created = request
            self._status = self._messages.Status.init_game
            return
        response.error, response.error_details = problem, f"{self.title}: {details}"

    def _join_game(self, request: Any, response: Any) -> None:
        errors = self._messages.ResponseJoinGame
        if self._status != self._messages.Status.init_game:
            raise Refused("'join_game' needs a game that has been created and not joined yet.")
        options = request.options
        if request.WhichOneof("participation") is None:
            problem, details = errors.MissingParticipation, "Expected a race."
        elif request.HasField("observed_player_id"):
            problem, details = errors.FeatureUnsupported, "One can only take part."
        elif not request.HasField("options"):
            problem, details = errors.MissingOptions, "Expected options with raw=True."
        elif options.HasField("feature_layer") or options.HasField("render"):
            problem, details = (
                errors.FeatureUnsupported,
                "There are raw observations only: no feature layers, no render.",
            )
        elif request.HasField("server_ports") or request.client_ports:
            problem, details = errors.FeatureUnsupported, "A game has one client."
        else:
            self._options = options
            response.player_id = 1
            self._status = self._messages.Status.in_game
            return
        response.error, response.error_details = problem, f"{self.title}: {details}"

    def _restart_game(self, _: Any, response: Any) -> None:
        self._need_world("restart_game").restart()
        response.need_hard_reset = False

    def _leave_game(self, _: Any, __: Any) -> None:
        self._need_world("leave_game")
        self._world = None
        self._status = self._messages.Status.launched

    def _quit(self, _: Any, __: Any) -> None:
        self._world = None
        self._status = self._messages.Status.quit
        self.over = True

    # ------------------------------------------------------------------------------------------------------ the game

    def _step(self, request: Any, response: Any) -> None:
        world = self._need_world("step")
        count = request.count if request.HasField("count") else 1
        if not 1 <= count <= MOST_LOOPS:
            raise Refused(f"A step has 1 to {MOST_LOOPS} game loops, got {count}.")
        world.step(count)
        response.simulation_loop = world.loop

    def _action(self, request: Any, response: Any) -> None:
        world = self._need_world("action")
        not_supported = self._messages.ActionResult.NotSupported
        for action in request.actions:
            if action.action_raw.HasField("unit_command"):
                response.result.append(world.command(action.action_raw.unit_command))
            elif action.action_raw.HasField("camera_move") or action.HasField("action_chat"):
                response.result.append(self._messages.ActionResult.Success)  # which change nothing in the game itself
            else:
                response.result.append(not_supported)

    def _observation(self, _: Any, response: Any) -> None:
        self._need_world("observation").observe(response)

    def _debug(self, request: Any, _: Any) -> None:
        world = self._need_world("debug")
        for command in request.debug:
            kind = command.WhichOneof("command")
            if kind != "kill_unit":
                raise Refused(f"The debug command {kind!r} is not supported; kill_unit is.")
        for command in request.debug:
            world.condemn(command.kill_unit.tag)

    # ---------------------------------------------------------------------------------------------- what it can tell

    def _game_info(self, _: Any, response: Any) -> None:
        world, enums = self._need_world("game_info"), self._messages
        battle, created = world.scenario.map, self._created
        response.map_name = battle.name
        response.mod_names.append(f"{self.title}, not StarCraft II")
        response.local_map_path = created.local_map.map_path
        for number, setup in enumerate(sorted(created.player_setup, key=lambda player: player.type), 1):
            race = RACES[battle.ally_race if number == 1 else battle.enemy_race]
            player = response.player_info.add(player_id=number, type=setup.type, race_actual=getattr(enums.Race, race))
            player.race_requested = setup.race if setup.HasField("race") else player.race_actual
            if setup.HasField("difficulty"):
                player.difficulty = setup.difficulty
        response.start_raw.CopyFrom(world.start_raw())
        response.options.CopyFrom(self._options)

    def _data(self, request: Any, response: Any) -> None:
        world = self._need_world("data")
        if request.ability_id:
            response.abilities.extend(world.abilities())
        if request.unit_type_id:
            response.units.extend(world.unit_data())

    def _available_maps(self, _: Any, response: Any) -> None:
        response.local_map_paths.extend(f"{MAP_FOLDER}/{name}.SC2Map" for name in MAPS)

    _handlers: dict[str, Callable[[Game, Any, Any], None]] = {  # noqa: RUF012 (never changed)
        "ping": _ping,
        "create_game": _create_game,
        "join_game": _join_game,
        "restart_game": _restart_game,
        "leave_game": _leave_game,
        "quit": _quit,
        "step": _step,
        "action": _action,
        "observation": _observation,
        "debug": _debug,
        "game_info": _game_info,
        "data": _data,
        "available_maps": _available_maps,
    }


def _clear(response: Any) -> None:
    """Take out a half-made answer; the request's id stays."""
    kind = response.WhichOneof("response")
    if kind is not None:
        response.ClearField(kind)
