"""The way to SMAC and StarCraft II: find them, import them, and watch over the game's process.

`find_smac` checks everything that can be checked without starting the game, and says what is wrong and what to do.
What it returns makes `StarCraft2Env` objects of a subclass that is changed in four ways (see `watched`), because SMAC's
own handling of a crash loses processes and episodes (SMAC specification, section 11).
"""

from __future__ import annotations

import importlib
import os
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

from smix_pz.doctor import (
    INSTALL_REST,
    PROTOBUF_VARIABLE,
    check_protobuf,
    loaded_protobuf,
    map_path,
    maps_remedy,
    needs_python_protobuf,
    standin,
    starcraft_findings,
    version_of,
)
from smix_pz.envs.checks import nearest
from smix_pz.standin.identity import is_standin

__all__ = ["Smac", "StarCraftDied", "StarCraftUnavailable", "find_smac", "import_smac", "watched"]

SPAWN_LOOPS = 1000  # game loops (a minute) for all units to appear; SMAC itself would wait for ever


class StarCraftUnavailable(RuntimeError):
    """SMAC or StarCraft II cannot be used here; the message says why, and what to do."""


class StarCraftDied(Exception):
    """The game's process died, or went where no episode can go on."""


@dataclass(frozen=True)
class Smac:
    """SMAC as it is installed here, for one map.

    Attributes:
        make: makes a watched `StarCraft2Env` (which does not start the game yet) from its keywords.
        params: SMAC's parameters of the map: n_agents, n_enemies, limit, a_race, b_race, unit_type_bits, map_type.
        crashes: exceptions that mean that the game's process is lost.
        rules: what plays, such as "StarCraft II build 75689", or "smac on smix standin r1".
        versions: of the packages.
        standin: what the game's folder calls itself if it is a stand-in (docs/standin.md); None: StarCraft II.
    """

    make: Callable[..., Any]
    params: Mapping[str, Any]
    crashes: tuple[type[BaseException], ...]
    rules: str
    versions: Mapping[str, str | None] = field(default_factory=dict)
    standin: str | None = None

    def check_running(self, game_version: str | None) -> None:
        """Raise StarCraftUnavailable if the game that was started calls itself something else than its folder does:
        records would name the wrong engine."""
        running = game_version if game_version is not None and is_standin(game_version) else None
        if running != self.standin:
            raise StarCraftUnavailable(
                f"smac_v0 cannot run: the game that was started calls itself {game_version!r}, but its folder says "
                f"{self.standin or 'StarCraft II'!r}. Remedy: `smix-pz standin install` renews a stand-in's folder "
                "(needed after each update of smix_pz that changes its rules)."
            )


def import_smac() -> type:
    """Import SMAC's `StarCraft2Env`, protobuf's trap avoided where it can be.

    Raises:
        StarCraftUnavailable: it cannot be imported.
    """
    if needs_python_protobuf() and loaded_protobuf() is None and not os.environ.get(PROTOBUF_VARIABLE):
        os.environ[PROTOBUF_VARIABLE] = "python"  # must stand before the first import, and reaches child processes
    try:
        return importlib.import_module("smac.env.starcraft2.starcraft2").StarCraft2Env
    except ModuleNotFoundError as error:
        raise StarCraftUnavailable(
            f"SMAC needs the package {error.name!r}, which is not installed: {INSTALL_REST}."
        ) from error
    except TypeError as error:
        if "Descriptors" not in str(error):
            raise
        finding = check_protobuf()
        remedy = finding.remedy or f"export {PROTOBUF_VARIABLE}=python before Python starts."
        raise StarCraftUnavailable(
            f"protobuf {finding.found} cannot read Blizzard's messages (s2clientprotocol): {remedy}"
        ) from error
    except Exception as error:
        if not type(error).__module__.startswith("absl.flags"):
            raise
        raise StarCraftUnavailable(
            f"SMAC parses absl's flags when it is imported, and they refused: {error} Make the first smac_v0 before "
            "your own flags are marked as required, or give those a default; two definitions of one flag cannot live "
            "in one process."
        ) from error


def find_smac(map_name: str, game_version: str | None = None) -> Smac:
    """Check SMAC, pysc2, StarCraft II and the map, in this order, without starting the game.

    Args:
        map_name: a map of SMAC's registry (`smac.env.starcraft2.maps.smac_maps.map_param_registry`).
        game_version: such as "4.10"; None: the newest installed.

    Raises:
        StarCraftUnavailable: something is missing; the message names the remedy.
        ValueError: unknown map or version.
    """
    for finding in starcraft_findings():
        if not finding.ok:
            raise StarCraftUnavailable(
                f"smac_v0 cannot run: {finding.name}: {finding.found}. Remedy: {finding.remedy} "
                "(`smix-pz doctor` shows everything; smac_sim_v0 needs no StarCraft.)"
            )
    made = watched(import_smac())
    registry = importlib.import_module("smac.env.starcraft2.maps.smac_maps").get_smac_map_registry()
    if map_name not in registry:
        raise ValueError(f"SMAC knows no map {map_name!r}{nearest(str(map_name), registry)}")
    build = _check_version(game_version)
    if not map_path(map_name).is_file():
        raise StarCraftUnavailable(f"smac_v0 cannot run: no file {map_path(map_name)}. Remedy: {maps_remedy()}")
    maps = importlib.import_module("pysc2.maps")
    try:
        maps.get(map_name)
    except Exception as error:
        raise StarCraftUnavailable(
            f"pysc2 cannot tell which map {map_name!r} is: {type(error).__name__}: {error}. Two packages that define "
            "it, such as smac and smacv2, cannot be imported in one process: use one of them."
        ) from error
    versions = {"smac": version_of("smac"), "pysc2": version_of("pysc2")}
    notice = standin()
    rules = f"StarCraft II build {build}" if notice is None else f"smac on {notice.title}"
    return Smac(made, registry[map_name], _crashes(), rules, versions, None if notice is None else notice.title)


def _check_version(game_version: str | None) -> int:
    """The build that pysc2 would start."""
    run_configs = importlib.import_module("pysc2.run_configs")
    launch_error = importlib.import_module("pysc2.lib.sc_process").SC2LaunchError
    try:
        return int(run_configs.get(version=game_version).version.build_version)
    except (launch_error, OSError) as error:
        raise StarCraftUnavailable(f"pysc2 finds no StarCraft II that it can start: {error}") from error
    except ValueError as error:
        raise ValueError(f"game_version {game_version!r} is not installed: {error}") from error


def _crashes() -> tuple[type[BaseException], ...]:
    protocol = importlib.import_module("pysc2.lib.protocol")
    controller = importlib.import_module("pysc2.lib.remote_controller")
    process = importlib.import_module("pysc2.lib.sc_process")
    websocket = importlib.import_module("websocket")
    return (
        StarCraftDied,
        protocol.ConnectionError,
        protocol.ProtocolError,
        controller.ConnectError,
        controller.RequestError,
        process.SC2LaunchError,
        websocket.WebSocketException,
        OSError,
    )


@cache
def watched(starcraft: Any) -> Any:
    """A subclass of `StarCraft2Env` that loses neither processes nor episodes.

    - After a crash SMAC starts a new game at once and goes on with the old one's units, whose tags can mean units of
      the new game: the next reset would kill some of those. Here it raises `StarCraftDied` and starts nothing.
    - Every reset before the end of the first episode starts another process and leaves the last one running. Here the
      first reset that succeeds counts as the end of "no episode yet".
    - Until then every look at the units adds the enemies' health to `max_reward`, which divides all rewards. Here it is
      computed once, from its definition.
    - It waits for ever for units that do not appear. Here it gives up after `SPAWN_LOOPS` game loops.

    Closing is done once, in the process that started the game only, and does not fail.
    """

    class WatchedStarCraft2Env(starcraft):
        game_version_running: str | None = None
        _owner = -1  # the process that started the game
        _waited: int | None = None  # game loops that `init_units` has waited for units; None outside of it
        # SMAC's own, which has no types
        agents: dict[int, Any]
        enemies: dict[int, Any]
        max_reward: float
        renderer: Any
        _controller: Any
        _episode_count: int
        _sc2_proc: Any

        def _launch(self) -> None:
            self.close()
            self._owner = os.getpid()
            super()._launch()
            with suppress(Exception):  # nice to know, and no reason to fail
                self.game_version_running = self._controller.ping().game_version or None
            step = self._controller.step

            def bounded_step(count: int = 1) -> Any:
                if self._waited is not None:
                    self._waited += count
                    if self._waited > SPAWN_LOOPS:
                        raise StarCraftDied(
                            f"{len(self.agents)} of {self.n_agents} allies and {len(self.enemies)} of {self.n_enemies} "
                            f"enemies have appeared after {SPAWN_LOOPS} game loops"
                        )
                return step(count)

            self._controller.step = bounded_step

        def init_units(self) -> None:
            self._waited = 0
            try:
                super().init_units()
            finally:
                self._waited = None
            if self._episode_count == 0:
                enemies = self.enemies.values()
                bonus = self.n_enemies * self.reward_death_value + self.reward_win
                self.max_reward = bonus + sum(unit.health_max + unit.shield_max for unit in enemies)
                self._episode_count = 1

        def full_restart(self) -> None:
            raise StarCraftDied("the connection to StarCraft II broke")

        def close(self) -> None:
            process, self._sc2_proc = self._sc2_proc, None
            renderer, self.renderer = self.renderer, None
            if process is None or self._owner != os.getpid():
                return
            if renderer is not None:
                with suppress(Exception):
                    renderer.close()
            try:
                process.close()
            except Exception:
                _kill(process)
            # SMAC's atexit hook keeps this object for ever; at least let go of what is large in it.
            self._controller = self._obs = None
            self.agents.clear()
            self.enemies.clear()
            self.previous_ally_units = self.previous_enemy_units = None

    WatchedStarCraft2Env.__name__ = WatchedStarCraft2Env.__qualname__ = f"Watched{starcraft.__name__}"
    return WatchedStarCraft2Env


def _kill(process: Any) -> None:
    """The last resort, where pysc2's own way to end its process failed."""
    popen = getattr(process, "_proc", None)
    if popen is not None:
        with suppress(Exception):
            popen.kill()
            popen.wait(timeout=10)


def import_renderer() -> ModuleType:
    """Import SMAC's renderer, which needs pygame and, for pysc2's films, sk-video with scipy and pillow.

    pysc2 4.0.0 calls `random.shuffle` with a source of random numbers while it is imported. Python 3.11 has dropped
    that argument, so it is given back for the moment of the import.

    Raises:
        StarCraftUnavailable: a package is missing.
    """
    original = random.shuffle

    def shuffle(items: Any, source: Callable[[], float] | None = None) -> None:
        if source is None:
            original(items)
            return
        for last in range(len(items) - 1, 0, -1):
            other = int(source() * (last + 1))
            items[last], items[other] = items[other], items[last]

    random.shuffle = shuffle  # type: ignore[assignment]
    try:
        return importlib.import_module("smac.env.starcraft2.render")
    except ModuleNotFoundError as error:
        raise StarCraftUnavailable(
            f"SMAC's pictures need the package {error.name!r}: pip install pygame-ce scipy pillow, then "
            "pip install --no-deps sk-video; or leave out render_mode."
        ) from error
    finally:
        random.shuffle = original
