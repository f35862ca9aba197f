"""A folder that pysc2 takes for StarCraft II, for all tests of this folder."""

from __future__ import annotations

import pytest

from smix_pz.standin import folder


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    place = tmp_path_factory.mktemp("standin") / "StarCraftII"
    folder.install(place)
    return place


@pytest.fixture
def standin_folder(installed, monkeypatch):
    monkeypatch.setenv("SC2PATH", str(installed))
    return installed
