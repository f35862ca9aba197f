"""The doctor: what it finds, what it advises, and that nothing makes it fall over."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from smix_pz import doctor

STARCRAFT_PACKAGES = ("smac", "pysc2", "s2clientprotocol", "absl", "portpicker", "websocket")


@pytest.fixture
def patient(tmp_path, monkeypatch):
    """An environment of which every part is known: packages in `site`, StarCraft in `StarCraftII`, versions as told."""
    site, versions, loaded = tmp_path / "site", {"protobuf": "7.36.2"}, []
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    for name in STARCRAFT_PACKAGES:  # what another test has imported would be found instead of what lies in `site`
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("SC2PATH", str(tmp_path / "StarCraftII"))
    monkeypatch.delenv(doctor.PROTOBUF_VARIABLE, raising=False)
    find = doctor.find_package

    def only_here(name):
        spec = find(name)
        here = spec is not None and any(str(site) in place for place in spec.submodule_search_locations or ())
        return spec if here or name not in STARCRAFT_PACKAGES else None

    monkeypatch.setattr(doctor, "find_package", only_here)
    monkeypatch.setattr(doctor, "version_of", lambda name: versions.get(name))
    monkeypatch.setattr(doctor, "loaded_protobuf", lambda: loaded[0] if loaded else None)

    class Patient:
        folder, game = site, tmp_path / "StarCraftII"

        @staticmethod
        def write(name, text=""):
            path = site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            importlib.invalidate_caches()

        @staticmethod
        def install_game(build=75689, maps=doctor.SMAC_MAPS):
            binary = tmp_path / "StarCraftII" / "Versions" / f"Base{build:05d}" / "SC2_x64"
            binary.parent.mkdir(parents=True)
            binary.write_text("")
            binary.chmod(0o755)
            for name in maps:
                path = tmp_path / "StarCraftII" / "Maps" / "SMAC_Maps" / f"{name}.SC2Map"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("")

    Patient.versions, Patient.loaded = versions, loaded
    monkeypatch.setattr("platform.system", lambda: "Linux")
    return Patient


def lines():
    """The report's lines by the name of what they are about, and the last one."""
    *parts, verdict = doctor.report().splitlines()
    return {line[8:26].strip(): line for line in parts}, verdict


def test_one_line_each_and_a_verdict(patient):
    parts, verdict = lines()
    assert list(parts) == [
        *("python", "torch", "numba", "pettingzoo", "gymnasium", "smac", "pysc2", "s2clientprotocol", "protobuf"),
        *("pysc2's needs", "StarCraft II", "StarCraft builds", "SMAC's maps"),
    ]
    assert all(line.startswith(("ok ", "missing ")) for line in parts.values())
    assert all(("->" in line) == line.startswith("missing") for line in parts.values())
    assert parts["torch"].startswith("ok") and ("cpu" in parts["torch"] or "(" in parts["torch"])
    assert "smac_sim_v0 can run: yes" in verdict and "smac_v0 (StarCraft II) can run: no (smac, pysc2" in verdict


def test_everything_there(patient):
    for name in STARCRAFT_PACKAGES:
        patient.write(f"{name}/__init__.py")
    patient.write("smac/env/starcraft2/starcraft2.py")
    patient.write("s2clientprotocol/common_pb2.py", "DESCRIPTOR = 1")
    patient.install_game()
    parts, verdict = lines()
    assert [name for name, line in parts.items() if not line.startswith("ok")] == []
    assert "75689" in parts["StarCraft builds"] and "23 of 23" in parts["SMAC's maps"]
    assert "smac_v0 will choose the python one" in parts["protobuf"]
    assert verdict.endswith("smac_v0 (StarCraft II) can run: yes.")
    (patient.game / "Maps" / "SMAC_Maps" / "corridor.SC2Map").unlink()
    parts, verdict = lines()
    assert "22 of 23" in parts["SMAC's maps"] and "missing: corridor ->" in parts["SMAC's maps"]
    assert verdict.endswith("yes, on the maps that are there.")


def test_the_other_smac(patient):
    patient.write("smac/__init__.py", "raise ImportError('the doctor must not import it')")
    patient.write("smac/facade/__init__.py")
    patient.versions["smac"] = "2.3.1"
    line = lines()[0]["smac"]
    assert "AutoML" in line and "2.3.1" in line
    assert "pip uninstall smac, then pip install --no-deps git+https://github.com/oxwhirl/smac.git" in line


def test_a_clone_is_no_installation(patient):
    patient.write("smac/smac/env/starcraft2/starcraft2.py")
    line = lines()[0]["smac"]
    assert "not installed" in line and f"pip install --no-deps {patient.folder / 'smac'}" in line
    patient.write("smac/__init__.py")
    (patient.folder / "smac/smac/env/starcraft2/starcraft2.py").unlink()
    (patient.folder / "smac/smac/env/starcraft2").rmdir()
    assert "something else named smac" in lines()[0]["smac"]


@pytest.mark.parametrize(
    ("version", "generated", "loaded", "variable", "expected"),
    [
        ("7.36.2", "old", None, None, "ok "),
        ("7.36.2", "old", "upb", None, "missing"),
        ("7.36.2", "old", "python", None, "ok "),
        ("7.36.2", "old", None, "python", "ok "),
        ("7.36.2", "old", None, "upb", "missing"),
        ("7.36.2", "old", None, "", "ok "),
        ("3.20.3", "old", "cpp", None, "ok "),
        ("7.36.2", "from google.protobuf.internal import builder as _builder", "upb", None, "ok "),
        (None, "old", None, None, "missing"),
    ],
)
def test_protobuf(patient, monkeypatch, version, generated, loaded, variable, expected):
    patient.versions["protobuf"] = version
    patient.write("s2clientprotocol/__init__.py")
    patient.write("s2clientprotocol/common_pb2.py", generated)
    patient.loaded[:] = [loaded] if loaded else []
    if variable is not None:
        monkeypatch.setenv(doctor.PROTOBUF_VARIABLE, variable)
    line = lines()[0]["protobuf"]
    assert line.startswith(expected)
    if expected == "missing" and version:
        assert f"export {doctor.PROTOBUF_VARIABLE}=python" in line


def test_starcrafts_folder(patient, monkeypatch):
    line = lines()[0]["StarCraft II"]
    assert f"SC2PATH is {patient.game}, which is no folder" in line and "docs/smac-v0.md" in line
    monkeypatch.delenv("SC2PATH")
    line = lines()[0]["StarCraft II"]
    assert str(Path("~/StarCraftII").expanduser()) in line and "export SC2PATH=" in line
    monkeypatch.setenv("SC2PATH", str(patient.game))
    patient.install_game(build=52910)
    parts, _ = lines()
    assert parts["StarCraft II"].startswith("ok")
    assert "52910" in parts["StarCraft builds"] and "55958 (3.16.1) or newer" in parts["StarCraft builds"]
    patient.install_game(build=75689)
    assert lines()[0]["StarCraft builds"].startswith("ok")
    binary = patient.game / "Versions" / "Base75689" / "SC2_x64"
    binary.chmod(0o644)
    assert f'chmod +x "{binary}"' in lines()[0]["StarCraft builds"]
    binary.unlink()
    assert "in whole" in lines()[0]["StarCraft builds"]


def test_a_check_that_breaks_is_a_finding(patient, monkeypatch, capsys):
    def check_numba():
        raise OSError("no such disk")

    monkeypatch.setattr(doctor, "ENVIRONMENT_CHECKS", (check_numba,))
    assert doctor.main() == 0
    shown = capsys.readouterr().out
    assert "missing numba" in shown and "OSError: no such disk" in shown
    assert "smac_sim_v0 can run: no (numba)" in shown


def test_a_torch_that_cannot_be_imported(patient, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(doctor, "find_package", lambda name: object())
    finding = doctor.check_torch()
    assert not finding.ok and "its import fails" in finding.found


def test_without_any_package_at_all(tmp_path):
    """By a Python that sees the standard library alone; the file needs nothing else."""
    done = subprocess.run(
        [sys.executable, "-S", "-I", doctor.__file__],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout.splitlines()
    assert len(shown) == 14
    for name in ("torch", "numba", "pettingzoo", "gymnasium", "smac", "pysc2", "s2clientprotocol", "protobuf"):
        assert any(line.startswith(f"missing {name} ") for line in shown)
    assert shown[-1].startswith("smac_sim_v0 can run: no (numba, pettingzoo, gymnasium); smac_v0")


def test_maps_are_smacs():
    from smix_pz.envs.battle.maps import MAPS

    assert set(doctor.SMAC_MAPS) == set(MAPS) and len(doctor.SMAC_MAPS) == 23
