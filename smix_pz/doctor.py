"""`smix-pz doctor`: what is installed, what is missing, and what to do about it.

Uses the standard library alone and imports none of the packages it reports on but PyTorch (to name the device), so it
works whatever is missing or broken. `smix_pz.envs.starcraft` asks the same checks before it starts StarCraft II.
"""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Finding", "Notice", "findings", "main", "read_notice", "report", "starcraft_findings"]

SMAC_SOURCE = "git+https://github.com/oxwhirl/smac.git"
INSTALL_SMAC = f"pip install --no-deps {SMAC_SOURCE}"
INSTALL_PYSC2 = "pip install --no-deps pysc2==4.0.0"
INSTALL_REST = "pip install s2clientprotocol protobuf absl-py portpicker websocket-client"
PROTOBUF_VARIABLE = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
OLDEST_BUILD = 55958  # 3.16.1, the first that pysc2 can talk to
GUIDE = "docs/smac-v0.md"

# SMAC specification, section 1.
SMAC_MAPS = (
    *("3m", "8m", "25m", "2s3z", "3s5z", "2m_vs_1z", "2s_vs_1sc", "3s_vs_3z", "1c3s5z", "MMM", "5m_vs_6m", "8m_vs_9m"),
    *("10m_vs_11m", "27m_vs_30m", "MMM2", "3s5z_vs_3s6z", "3s_vs_4z", "3s_vs_5z", "corridor", "6h_vs_8z"),
    *("so_many_baneling", "bane_vs_bane", "2c_vs_64zg"),
)

# Where StarCraft II is looked for without SC2PATH (the same places as pysc2).
DEFAULT_FOLDERS = {
    "Linux": "~/StarCraftII",
    "Darwin": "/Applications/StarCraft II",
    "Windows": "C:/Program Files (x86)/StarCraft II",
}
BINARIES = {"Linux": "SC2_x64", "Darwin": "SC2.app/Contents/MacOS/SC2", "Windows": "SC2_x64.exe"}


# The stand-in for StarCraft II (smix_pz.standin) is known by a notice in its folder.
STANDIN_NAME = "smix standin"
STANDIN_NOTICE = "smix-standin.json"


@dataclass(frozen=True)
class Notice:
    """What a stand-in's folder says of itself.

    Attributes:
        title: what it calls itself, such as "smix standin r1".
        smix_pz: version of the package that wrote the folder.
        build: number in the name of its folder `Versions/Base<build>`. Blizzard has no such build.
        python: the interpreter that the launcher starts.
        preset, jitter: of the battles.
    """

    title: str
    smix_pz: str
    build: int
    python: str
    preset: str
    jitter: float


def read_notice(folder: Path) -> Notice | None:
    """The notice of a folder; None where it holds none, or a damaged one."""
    try:
        values = json.loads((folder / STANDIN_NOTICE).read_text(encoding="utf-8"))
        values.pop("about", None)
        notice = Notice(**values)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return notice if str(notice.title).startswith(STANDIN_NAME) else None


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        ok: whether it is as it should be.
        found: what was found.
        remedy: what to do where it is not ok.
    """

    name: str
    ok: bool
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{'ok' if self.ok else 'missing':<8}{self.name:<18}{self.found}"
        return line if self.ok else f"{line} -> {self.remedy}"


def version_of(distribution: str) -> str | None:
    """Installed version of a distribution, None if there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def find_package(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where a top-level package would be imported from, without importing it; None if nowhere."""
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # ValueError: in sys.modules without a spec, as stand-ins are
        return None


def package_folders(name: str) -> list[Path]:
    """Folders of a top-level package, empty if there is none."""
    spec = find_package(name)
    return [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]


def check_package(name: str, remedy: str, distribution: str | None = None) -> Finding:
    """Whether a package can be found, and its version."""
    version = version_of(distribution or name)
    if find_package(name) is None:
        return Finding(name, False, "not installed", remedy)
    return Finding(name, True, version or "of unknown version")


def check_python() -> Finding:
    """Python's own version."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("python", sys.version_info >= (3, 10), found, "smix_pz needs Python 3.10 or newer.")


def check_torch() -> Finding:
    """PyTorch and the device it would use."""
    finding = check_package("torch", "pip install torch (not needed by the environments alone)")
    if not finding.ok:
        return finding
    try:
        import torch

        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {torch.get_num_threads()} threads"
        )
    except Exception as error:
        return Finding("torch", False, f"{finding.found}, but its import fails: {error}", "reinstall torch.")
    return Finding("torch", True, f"{finding.found} ({device})")


def check_smac() -> Finding:
    """SMAC, which shares its name with an AutoML package on PyPI; told apart by their files."""
    folders = package_folders("smac")
    if not folders and find_package("smac") is None:
        return Finding("smac", False, "not installed", f"{INSTALL_SMAC} (the smac on PyPI is another package).")
    if any((folder / "env" / "starcraft2" / "starcraft2.py").is_file() for folder in folders):
        return Finding("smac", True, f"StarCraft Multi-Agent Challenge {version_of('smac') or ''} in {folders[0]}")
    place = folders[0] if folders else "a single file"
    if any((folder / "facade").is_dir() for folder in folders):
        found = f"AutoML's hyperparameter optimiser {version_of('smac') or ''} in {place}, not StarCraft's"
        return Finding("smac", False, found, f"pip uninstall smac, then {INSTALL_SMAC}.")
    if any((folder / "smac" / "env" / "starcraft2").is_dir() for folder in folders):
        found = f"a clone of its repository in {place}, which is not installed"
        remedy = f"pip install --no-deps {place}, and do not run Python from the folder above."
        return Finding("smac", False, found, remedy)
    found = f"something else named smac in {place}"
    return Finding("smac", False, found, f"rename or uninstall it, then {INSTALL_SMAC}.")


def check_pysc2() -> Finding:
    """pysc2."""
    return check_package("pysc2", f"{INSTALL_PYSC2} (--no-deps: what it asks for cannot all be installed together).")


def check_rest() -> Finding:
    """What SMAC and pysc2 import besides."""
    needed = {"absl": "absl-py", "portpicker": "portpicker", "websocket": "websocket-client"}
    missing = [shown for name, shown in needed.items() if find_package(name) is None]
    if missing:
        return Finding("pysc2's needs", False, f"not installed: {', '.join(missing)}", f"{INSTALL_REST}.")
    found = ", ".join(f"{shown} {version_of(shown) or 'of unknown version'}" for shown in needed.values())
    return Finding("pysc2's needs", True, found)


def check_s2clientprotocol() -> Finding:
    """Blizzard's messages."""
    return check_package("s2clientprotocol", f"{INSTALL_REST}.")


def loaded_protobuf() -> str | None:
    """The implementation of protobuf that this process has already imported; None if it has imported none."""
    module = sys.modules.get("google.protobuf.internal.api_implementation")
    try:
        return None if module is None else str(module.Type())
    except Exception:
        return "of unknown implementation"


def needs_python_protobuf() -> bool:
    """Whether Blizzard's messages load with protobuf's Python implementation only.

    They do if they were generated by a protoc older than 3.20 (such a file does not use protobuf's `builder`) and
    protobuf is 4 (4.21) or newer.
    """
    version = version_of("protobuf")
    if version is None or not version.split(".")[0].isdigit() or int(version.split(".")[0]) < 4:
        return False
    for folder in package_folders("s2clientprotocol"):
        try:
            return "_builder" not in (folder / "common_pb2.py").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
    return True


def check_protobuf() -> Finding:
    """protobuf, and whether the implementation that would be used can read Blizzard's messages."""
    version = version_of("protobuf")
    if version is None:
        return Finding("protobuf", False, "not installed", f"{INSTALL_REST}.")
    loaded, chosen = loaded_protobuf(), os.environ.get(PROTOBUF_VARIABLE)
    if not needs_python_protobuf():
        return Finding("protobuf", True, f"{version}, any implementation will do")
    if loaded == "python" or (loaded is None and chosen == "python"):
        return Finding("protobuf", True, f"{version}, python implementation")
    if loaded is None and not chosen:
        return Finding("protobuf", True, f"{version}, fast implementation; smac_v0 will choose the python one")
    if loaded is None:
        found = f"{version}, and {PROTOBUF_VARIABLE}={chosen}, which cannot read s2clientprotocol"
        return Finding("protobuf", False, found, f"export {PROTOBUF_VARIABLE}=python, or unset it.")
    found = f"{version}, already imported here in its {loaded} implementation, which cannot read s2clientprotocol"
    remedy = (
        f"export {PROTOBUF_VARIABLE}=python before Python starts, or make the first smac_v0 before whatever imports "
        "google.protobuf (TensorBoard does)."
    )
    return Finding("protobuf", False, found, remedy)


def starcraft_folder() -> tuple[Path, str]:
    """Where StarCraft II is looked for, and why there."""
    given = os.environ.get("SC2PATH")
    if given:
        return Path(given).expanduser(), "SC2PATH"
    default = DEFAULT_FOLDERS.get(platform.system(), DEFAULT_FOLDERS["Linux"])
    return Path(default).expanduser(), "SC2PATH is not set"


def standin() -> Notice | None:
    """The notice of the stand-in for StarCraft II, if that is what the folder holds."""
    return read_notice(starcraft_folder()[0])


def _renew() -> str:
    return f"smix-pz standin install {starcraft_folder()[0]}"


def builds(folder: Path) -> list[int]:
    """Installed builds, oldest first, by the names of their folders `Versions/Base<build>`."""
    try:
        names = [path.name for path in (folder / "Versions").iterdir()]
    except OSError:
        return []
    numbers = [name.removeprefix("Base") for name in names if name.startswith("Base")]
    return sorted(int(number) for number in numbers if number.isdigit())


def check_folder() -> Finding:
    """StarCraft II's folder."""
    folder, why = starcraft_folder()
    notice = standin()
    if notice is not None:
        return Finding("StarCraft II", True, f"{folder} ({why}): {notice.title}, not StarCraft II but smix_pz's engine")
    if folder.is_dir():
        return Finding("StarCraft II", True, f"{folder} ({why})")
    if why == "SC2PATH":
        remedy = f"point SC2PATH at the folder that holds Versions and Maps, or install StarCraft II: {GUIDE}."
        return Finding("StarCraft II", False, f"SC2PATH is {folder}, which is no folder", remedy)
    remedy = f"install StarCraft II ({GUIDE}), then export SC2PATH=/where/it/is/StarCraftII."
    return Finding("StarCraft II", False, f"no folder {folder}, and {why}", remedy)


def check_builds() -> Finding:
    """The game's builds, and whether the newest can be run."""
    folder, _ = starcraft_folder()
    found = builds(folder)
    name = "StarCraft builds"
    notice = standin()
    if notice is not None:
        return _check_launcher(name, folder, notice)
    if not found:
        remedy = f"unpack StarCraft II so that {folder / 'Versions'}/Base<build> exists: {GUIDE}."
        return Finding(name, False, f"none in {folder / 'Versions'}", remedy)
    shown = ", ".join(str(build) for build in found)
    if found[-1] < OLDEST_BUILD:
        return Finding(name, False, shown, f"install build {OLDEST_BUILD} (3.16.1) or newer; 75689 is 4.10: {GUIDE}.")
    binary = folder / "Versions" / f"Base{found[-1]:05d}" / BINARIES.get(platform.system(), BINARIES["Linux"])
    if not binary.is_file():
        return Finding(name, False, f"{shown}, but no {binary}", f"unpack StarCraft II again, in whole: {GUIDE}.")
    if not os.access(binary, os.X_OK):
        return Finding(name, False, f"{shown}, but {binary} may not be executed", f'chmod +x "{binary}".')
    return Finding(name, True, shown)


def _check_launcher(name: str, folder: Path, notice: Notice) -> Finding:
    """Whether the stand-in's launcher is there, and the Python that it starts."""
    launcher = folder / "Versions" / f"Base{notice.build:05d}" / BINARIES.get(platform.system(), BINARIES["Linux"])
    if not os.access(launcher, os.X_OK):
        return Finding(name, False, f"none, and no launcher {launcher}", f"{_renew()}.")
    if not os.access(notice.python, os.X_OK):
        found = f"none; the launcher starts {notice.python}, which is not there"
        return Finding(name, False, found, f"{_renew()}, with the smix-pz that is to be started.")
    return Finding(name, True, f"none; the launcher starts {notice.python}")


def map_path(map_name: str) -> Path:
    """Where the file of one of SMAC's maps must be."""
    return starcraft_folder()[0] / "Maps" / "SMAC_Maps" / f"{map_name}.SC2Map"


def maps_remedy() -> str:
    """How to install SMAC's maps."""
    target = starcraft_folder()[0] / "Maps"
    if standin() is not None:
        return f"{_renew()}."
    return (
        f'copy the folder smac/env/starcraft2/maps/SMAC_Maps of SMAC\'s repository to "{target}" (pip does not install '
        f"it): {GUIDE}."
    )


def check_maps() -> Finding:
    """SMAC's maps."""
    missing = [name for name in SMAC_MAPS if not map_path(name).is_file()]
    count = f"{len(SMAC_MAPS) - len(missing)} of {len(SMAC_MAPS)} in {map_path('3m').parent}"
    if not missing:
        return Finding("SMAC's maps", True, count)
    shown = f"; missing: {', '.join(missing)}" if len(missing) < len(SMAC_MAPS) else ""
    return Finding("SMAC's maps", False, count + shown, maps_remedy())


ENVIRONMENT_CHECKS: tuple[Callable[[], Finding], ...] = (
    lambda: check_package("numba", "pip install numba (smac_sim_v0 needs it).", "numba"),
    lambda: check_package("pettingzoo", "pip install 'pettingzoo>=1.27'."),
    lambda: check_package("gymnasium", "pip install 'gymnasium>=1.2'."),
)
PYTHON_CHECKS: tuple[Callable[[], Finding], ...] = (
    check_smac,
    check_pysc2,
    check_s2clientprotocol,
    check_protobuf,
    check_rest,
)
GAME_CHECKS: tuple[Callable[[], Finding], ...] = (check_folder, check_builds)


def starcraft_findings() -> Iterator[Finding]:
    """What must be ok for smac_v0 to run, in the order in which to put it right; the maps aside."""
    for check in (*PYTHON_CHECKS, *GAME_CHECKS):
        yield check()


def findings() -> list[Finding]:
    """Everything the doctor looks at. A check that fails by itself is a finding too."""
    checks = (check_python, check_torch, *ENVIRONMENT_CHECKS, *PYTHON_CHECKS, *GAME_CHECKS, check_maps)
    return [_guarded(check) for check in checks]


def _guarded(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # a broken installation must not keep the doctor from the next patient
        name = getattr(check, "__name__", "check").removeprefix("check_")
        return Finding(name, False, f"the check failed: {type(error).__name__}: {error}", "reinstall it.")


def report() -> str:
    """The report: a line for each finding, and what can run."""
    found = findings()
    by_name = {finding.name: finding for finding in found}
    bad = [finding.name for finding in found if not finding.ok]
    simulator = [name for name in ("python", "numba", "pettingzoo", "gymnasium") if name in bad]
    game = [name for name in by_name if name in bad and name not in ("torch", "numba")]
    maps_some = by_name.get("SMAC's maps")
    if game == ["SMAC's maps"] and maps_some is not None and not maps_some.found.startswith("0 "):
        verdict = "yes, on the maps that are there"
    else:
        verdict = "yes" if not game else f"no ({', '.join(game)})"
    notice = standin()
    plays = "StarCraft II" if notice is None else f"{notice.title}, not StarCraft II"
    lines = [str(finding) for finding in found]
    lines.append(
        f"smac_sim_v0 can run: {'yes' if not simulator else 'no (' + ', '.join(simulator) + ')'}; "
        f"smac_v0 ({plays}) can run: {verdict}."
    )
    return "\n".join(lines)


def main() -> int:
    """Print the report; the exit status is 0 whatever it says."""
    print(report())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
