"""The policies that come with the package: there, small, loadable by name, and as good as docs/results.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import smix_pz
from smix_pz.cli import main

ROOT = Path(__file__).parents[1]
NAMES = sorted(smix_pz.pretrained())


def said() -> dict[str, float]:
    """Name -> the win rate that the docs give."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    return {
        name: float(rate) for name, rate in re.findall(r"^\| `(smix-\w+)` \|.*?\| (\d\.\d+) \[", text, re.MULTILINE)
    }


def test_there_are_three_and_the_docs_name_them() -> None:
    assert len(NAMES) >= 3 and sorted(said()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_plays_as_well_as_the_docs_say(name: str) -> None:
    """Within four standard errors of 64 episodes; and its film is there."""
    policy = smix_pz.load(name)
    algorithm, map_name = name.split("-")
    assert policy.about["algorithm"] == algorithm and policy.about["env_kwargs"]["map_name"] == map_name
    assert smix_pz.pretrained()[name].stat().st_size < 2**20
    rate = smix_pz.evaluate(policy, episodes=64, seed=1).won.mean()
    expected = said()[name]
    assert abs(rate - expected) <= 4 * max(0.02, (expected * (1 - expected) / 64) ** 0.5)
    assert (ROOT / "docs" / "images" / f"{name}.gif").is_file()


def test_the_command_knows_their_names(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["evaluate", NAMES[0], "--episodes", "2"])
    assert "smix" in capsys.readouterr().out
    main(["render", str(tmp_path / "film.gif"), "--player", NAMES[0], "--size", "160"])
    assert (tmp_path / "film.gif").stat().st_size > 1000


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(FileNotFoundError, match=f"did you mean '{NAMES[0]}'"):
        smix_pz.load(NAMES[0] + "x")
