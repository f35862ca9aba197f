"""The folder that SC2PATH names: written, recognised, renewed, and never in place of something else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import smix_pz
from smix_pz import cli, doctor
from smix_pz.envs.battle.maps import MAPS
from smix_pz.envs.battle.state import RULES
from smix_pz.standin import folder

TITLE = f"smix standin {RULES}"


@pytest.fixture(autouse=True)
def linux(monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Linux")


def test_what_is_written(tmp_path):
    place = tmp_path / "a folder" / "it's new"
    notice = folder.install(place)
    assert notice == doctor.read_notice(place) and notice.title == TITLE and notice.python == sys.executable
    launcher = place / "Versions" / "Base99999" / "SC2_x64"
    assert os.access(launcher, os.X_OK)
    maps = {path.stem: path.read_text() for path in (place / "Maps" / "SMAC_Maps").glob("*.SC2Map")}
    assert set(maps) == set(MAPS) and len(maps) == 23
    # Whatever is opened says what it is.
    texts = [launcher.read_text(), (place / "README.txt").read_text(), (place / "smix-standin.json").read_text()]
    for text in (*texts, *maps.values()):
        assert "smix" in text and "not" in text and "StarCraft II" in text


def test_the_launcher_starts_whatever_surrounds_it(tmp_path):
    """Spaces and quotes in its path, a client's own Python settings, and modules in the working directory."""
    place = tmp_path / "a folder" / "it's new"
    folder.install(place)
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in ("numpy", "smix_pz", "websockets", "numba", "enum"):
        (hostile / f"{name}.py").write_text("raise RuntimeError('the wrong module')")
    surroundings = {
        **os.environ,
        **{"PYTHONPATH": str(hostile), "PYTHONHOME": str(hostile), "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
    }
    launcher = place / "Versions" / "Base99999" / "SC2_x64"
    done = subprocess.run(
        [str(launcher), "-listen", "10.0.0.1", "-port", "1"],
        **{"env": surroundings, "cwd": hostile, "capture_output": True, "text": True, "check": False, "timeout": 60},
    )
    assert done.returncode == 2 and "loopback" in done.stderr


def test_site_packages_are_put_before_the_standard_library_only_where_they_must(tmp_path, monkeypatch):
    """pysc2 asks for enum34, whose enum would hide Python's own."""
    folder.install(tmp_path / "SC2")
    launcher = tmp_path / "SC2" / "Versions" / "Base99999" / "SC2_x64"
    assert "export PYTHONPATH" not in launcher.read_text()
    monkeypatch.setattr(folder.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1))
    folder.install(tmp_path / "SC2")
    assert f"export PYTHONPATH={Path(smix_pz.__file__).parent.parent}\n" in launcher.read_text()


def test_it_is_renewed(tmp_path):
    folder.install(tmp_path / "SC2", versions=("4.6.2", "4.10"))
    builds = tmp_path / "SC2" / "Versions"
    assert {path.parent.name for path in builds.glob("*/SC2_x64")} == {"Base69232", "Base75689", "Base99999"}
    assert folder.install(tmp_path / "SC2", preset="lotv").title == f"{TITLE} lotv"
    assert {path.parent.name for path in builds.glob("*/SC2_x64")} == {"Base99999"}
    assert "--preset lotv" in (builds / "Base99999" / "SC2_x64").read_text()


def test_something_else_is_left_alone(tmp_path):
    game = tmp_path / "StarCraftII"
    (game / "Versions" / "Base75689").mkdir(parents=True)
    (game / "Versions" / "Base75689" / "SC2_x64").write_text("the real one")
    with pytest.raises(ValueError, match=r"holds something else.*StarCraftII-standin"):
        folder.install(game)
    assert (game / "Versions" / "Base75689" / "SC2_x64").read_text() == "the real one"
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="holds something else"):
        folder.install(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    folder.install(tmp_path / "empty")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "lotw"}, "did you mean 'lotv'"),
        ({"jitter": -0.5}, "nearest is 0"),
        ({"versions": ("4.11",)}, r"did you mean '4.10"),
    ],
)
def test_bad_settings_write_nothing(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        folder.install(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_windows_and_missing_packages(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_missing", lambda name: name == "websockets")
    with pytest.raises(ImportError, match=r'websockets: pip install "smix-pz\[standin\]"'):
        folder.install(tmp_path / "new")
    monkeypatch.undo()
    monkeypatch.setattr("platform.system", lambda: "Windows")
    with pytest.raises(ValueError, match="Linux and macOS"):
        folder.install(tmp_path / "new")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"title": "StarCraft II"})])
def test_damaged_notices_are_none(tmp_path, text):
    (tmp_path / "smix-standin.json").write_text(text)
    assert doctor.read_notice(tmp_path) is None


def test_the_command(tmp_path, capsys):
    cli.main(["standin", "install", str(tmp_path / "SC 2")])
    shown = capsys.readouterr().out
    assert "not StarCraft II" in shown and f"export SC2PATH='{tmp_path / 'SC 2'}'" in shown
    for words, message in (
        (["standin", "install", str(tmp_path)], "holds something else"),
        (["standin", "serve", "--port", "-1"], "nearest is 0"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(words)
        assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_the_doctor_knows_it(tmp_path, monkeypatch):
    place = tmp_path / "SC2"
    folder.install(place)
    monkeypatch.setenv("SC2PATH", str(place))
    lines = {line[8:26].strip(): line for line in doctor.report().splitlines()}
    assert lines["StarCraft II"].startswith("ok") and f"{TITLE}, not StarCraft II" in lines["StarCraft II"]
    assert lines["StarCraft builds"].startswith("ok") and f"starts {sys.executable}" in lines["StarCraft builds"]
    assert lines["SMAC's maps"].startswith("ok")
    assert f"smac_v0 ({TITLE}, not StarCraft II) can run" in doctor.report().splitlines()[-1]


def test_the_doctor_knows_when_it_is_broken(tmp_path, monkeypatch):
    place = tmp_path / "SC2"
    folder.install(place)
    monkeypatch.setenv("SC2PATH", str(place))
    notice = place / "smix-standin.json"
    notice.write_text(notice.read_text().replace(sys.executable, "/gone/python"))
    finding = doctor.check_builds()
    assert not finding.ok and "/gone/python" in finding.found and f"smix-pz standin install {place}" in finding.remedy
    (place / "Versions" / "Base99999" / "SC2_x64").unlink()
    assert "no launcher" in doctor.check_builds().found
    (place / "Maps" / "SMAC_Maps" / "3m.SC2Map").unlink()
    assert f"smix-pz standin install {place}" in doctor.check_maps().remedy
