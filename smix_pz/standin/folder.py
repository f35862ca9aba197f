"""`smix-pz standin install`: a folder that pysc2 takes for an installation of StarCraft II.

FOLDER/
  smix-standin.json                    what this is (`smix_pz.doctor.Notice`)
  README.txt                           the same for people
  Versions/Base99999/SC2_x64           the launcher: a shell script that starts `smix_pz.standin`
  Maps/SMAC_Maps/3m.SC2Map ...         placeholders; the map is chosen by its name
"""

from __future__ import annotations

import importlib.util
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import smix_pz
from smix_pz.doctor import BINARIES, STANDIN_NOTICE, Notice, read_notice
from smix_pz.envs.battle.maps import MAPS
from smix_pz.envs.battle.state import RULES
from smix_pz.envs.battle.units import PRESETS
from smix_pz.files import atomic_path, write_text
from smix_pz.names import check_name
from smix_pz.standin.identity import notice_text, title
from smix_pz.version import __version__

__all__ = ["BUILD", "check_needs", "install"]

BUILD = 99999  # no build of Blizzard's; pysc2 takes the highest there is
# Versions that programs ask for by name, with the numbers under which pysc2 looks for them.
NAMED_BUILDS = {"4.6.2": 69232, "4.10": 75689, "4.10.0": 75689}
NEEDS = {"google.protobuf": "protobuf", "s2clientprotocol": "s2clientprotocol", "websockets": "websockets"}

README = """\
{title}: a stand-in for StarCraft II. This is not the game.

Programs that use the StarCraft Multi-Agent Challenge (SMAC) through pysc2 run on smix_pz's embedded engine when the
environment variable SC2PATH names this folder. Nothing in it is Blizzard's: the file in Versions is a script, and the
files in Maps are placeholders. Results made with it are results of "{title}", not of StarCraft II.

Written by smix_pz {version} for the Python at {python}.
It may be deleted, and written again with: smix-pz standin install FOLDER
"""

LAUNCHER = """\
#!/bin/sh
# {title}: not StarCraft II, but smix_pz's embedded engine in its place. See README.txt three folders up.
# Settings of the client's own Python are not this Python's.
cd "$(dirname "$0")" || exit 1
unset PYTHONHOME PYTHONPATH PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION
{path}exec {python} -m smix_pz.standin --parent "$PPID" --preset {preset} --jitter {jitter} "$@"
"""

PLACEHOLDER = """\
A placeholder for SMAC's map {name}, written by smix_pz. It is not a map of StarCraft II.
"""


def check_needs() -> None:
    """Raise ImportError naming the remedy if the server could not run in this Python."""
    missing = [shown for name, shown in NEEDS.items() if _missing(name)]
    if missing:
        raise ImportError(f'the stand-in needs {", ".join(missing)}: pip install "smix-pz[standin]".')


def check_battles(preset: str, jitter: float) -> None:
    """Raise ValueError for an unknown preset, or a jitter that is out of range."""
    check_name("preset of unit statistics", preset, PRESETS)
    if not 0.0 <= jitter <= 1.0:
        raise ValueError(
            f"jitter must be a number of cells from 0 to 1, got {jitter}; the nearest is {int(jitter > 1)}."
        )


def _missing(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is None
    except (ImportError, ValueError):
        return True


def install(folder: Path, preset: str = "liberty", jitter: float = 0.1, versions: tuple[str, ...] = ()) -> Notice:
    """Write the folder; one that this has written before is renewed.

    Args:
        folder: new, empty, or written by this function.
        preset, jitter: of the battles, see `smac_sim_v0`.
        versions: game versions ("4.10", "4.6.2") that programs ask for by name, and are to find.

    Raises:
        ValueError: an unknown preset or version, a jitter out of range, or a folder that holds something else.
        ImportError: the server could not run in this Python.
        OSError: the folder cannot be written.
    """
    check_needs()
    check_battles(preset, jitter)
    for version in versions:
        check_name("game version", version, NAMED_BUILDS)
    binary = BINARIES.get(platform.system())
    if binary is None or platform.system() == "Windows":
        raise ValueError(f"the launcher is a shell script; it works on Linux and macOS, not on {platform.system()}.")
    folder = folder.expanduser().resolve()
    if folder.exists() and read_notice(folder) is None and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(
            f"{folder} holds something else than a stand-in, perhaps StarCraft II itself: name a new folder, such as "
            f"{folder.with_name(folder.name + '-standin')}."
        )
    name = title(RULES, preset)
    notice = Notice(name, __version__, BUILD, sys.executable, preset, jitter)
    # The notice first: a folder in which only half could be written is known for what it is.
    write_text(folder / STANDIN_NOTICE, notice_text(notice))
    write_text(folder / "README.txt", README.format(title=name, version=__version__, python=sys.executable))
    launcher = LAUNCHER.format(
        title=name,
        path=_path_line(),
        python=shlex.quote(sys.executable),
        preset=preset,
        jitter=jitter,
    )
    wanted = {folder / "Versions" / f"Base{build:05d}" / binary for build in _builds(versions)}
    for path in wanted:
        with atomic_path(path) as temporary:
            temporary.write_text(launcher, encoding="utf-8")
        path.chmod(0o755)
    for path in set(folder.glob(f"Versions/Base*/{binary}")) - wanted:
        path.unlink()  # of an earlier installation with other versions: the folder has been found to be ours
    for map_name in MAPS:
        write_text(folder / "Maps" / "SMAC_Maps" / f"{map_name}.SC2Map", PLACEHOLDER.format(name=map_name))
    return notice


def _path_line() -> str:
    """A line of the launcher that makes this package importable, where it is not installed.

    Not otherwise: site-packages on PYTHONPATH stand before the standard library, and the obsolete enum34, which pysc2
    asks for, would then hide Python's own enum.
    """
    words = [sys.executable, "-I", "-c", "import importlib.util as u; raise SystemExit(u.find_spec('smix_pz') is None)"]
    if subprocess.run(words, check=False, capture_output=True).returncode == 0:
        return ""
    return f"export PYTHONPATH={shlex.quote(str(Path(smix_pz.__file__).parent.parent))}\n"


def _builds(versions: tuple[str, ...]) -> set[int]:
    return {BUILD, *(NAMED_BUILDS[version] for version in versions)}


def warm_up() -> None:
    """Compile the engine now, so that the first game does not wait for it."""
    from smix_pz.standin.messages import load_messages
    from smix_pz.standin.world import World

    World(load_messages(), "3m", 0).step(1)
