"""The evidence's own arithmetic, and what it says of the engine: returns that follow from lives, readable tables."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from smix_pz.envs import smac_sim_v0
from smix_pz.envs.battle import evidence
from smix_pz.envs.battle.evidence import (
    PAPER_HEURISTIC,
    SCRIPTED,
    Played,
    mirrored_table,
    play_scripted,
    players_table,
    returns_table,
)
from smix_pz.envs.battle.maps import MAPS
from smix_pz.envs.battle.state import RULES
from smix_pz.intervals import wilson_interval


@pytest.mark.parametrize(("wins", "episodes"), [(0, 10), (3, 10), (10, 10), (43, 100), (1, 2), (1999, 2000)])
def test_wilson_bounds_solve_the_equation_that_defines_them(wins: int, episodes: int) -> None:
    # |share - p| = z sqrt(p (1 - p) / n) at both ends, where the share itself is not the end.
    share = wins / episodes
    low, high = wilson_interval(wins, episodes)
    assert 0 <= low <= share <= high <= 1
    for p in (low, high):
        assert abs(share - p) == pytest.approx(1.959963984540054 * math.sqrt(p * (1 - p) / episodes), abs=1e-9)
    assert (low == 0) == (wins == 0) and (high == 1) == (wins == episodes)


def test_wilson_by_hand() -> None:
    # 0 of 10: z^2 / (n + z^2) = 3.8415 / 13.8415.
    assert wilson_interval(0, 10)[1] == pytest.approx(0.277533, abs=1e-6)
    with pytest.raises(ValueError, match="episodes"):
        wilson_interval(0, 0)


# Players that win some of each map, and what their wins return.
WON = [("3m", "focus-fire"), ("8m", "nearest"), ("2s3z", "nearest"), ("3s5z", "raw heuristic")]


@pytest.mark.parametrize(("name", "player"), WON)
def test_a_flawless_win_returns_20(name: str, player: str) -> None:
    played = play_scripted(player, name, 40, seed=3)
    flawless = played.won & ~played.gained
    assert flawless.sum() >= 5
    assert np.abs(played.returns[flawless] - 20).max() < 1e-9
    assert (played.returns[~played.won] < 20).all()


@pytest.mark.parametrize(
    ("name", "player"),
    [*WON, ("MMM", "focus-fire"), ("corridor", "nearest"), ("2s_vs_1sc", "random"), ("bane_vs_bane", "random")],
)
def test_returns_follow_from_lives(name: str, player: str) -> None:
    played = play_scripted(player, name, 24, seed=5)
    assert np.abs(played.returns - played.expected).max() < 1e-6
    assert played.lengths.min() >= 1 and played.lengths.max() <= MAPS[name].limit


def test_the_exceptions_to_20() -> None:
    # MMM is won while the enemy medivac lives: 150 life and 10 for its death of 1015, in parts of 20, stay unpaid.
    mmm = play_scripted("focus-fire", "MMM", 60, seed=1)
    short = mmm.returns[mmm.won & ~mmm.gained]
    assert len(short) and short.min() >= 20 * (1 - 160 / 1015) - 1e-9 and short.min() < 20 - 1e-3
    # Zerglings and shields regenerate; where more comes back in a step than goes, the absolute value pays for it.
    corridor = play_scripted("nearest", "corridor", 60, seed=1)
    more = corridor.won & corridor.gained
    assert more.any() and (corridor.returns[more] > 20).all()


@pytest.mark.parametrize("name", ["2m_vs_1z", "3s_vs_3z"])
def test_stepping_back_between_shots_wins_what_standing_loses(name: str) -> None:
    # The lesson of these maps: zealots hit hard and have to come close, shooters are as fast or faster.
    assert not play_scripted("nearest", name, 30, seed=2).won.any()
    assert play_scripted("kiter", name, 30, seed=2).won.mean() > 0.8


def test_taking_turns_wins_what_standing_loses_by_the_ladders_statistics() -> None:
    """The trick that SMAC's docs name for 2s_vs_1sc; by the base data the spine crawler is too fast for it alone."""
    won = {
        (player, preset): play_scripted(player, "2s_vs_1sc", 60, seed=2, preset=preset).won.mean()
        for player in ("focus-fire", "alternating", "resting")
        for preset in ("liberty", "lotv")
    }
    assert won["focus-fire", "lotv"] == won["focus-fire", "liberty"] == won["alternating", "liberty"] == 0
    assert won["alternating", "lotv"] > 0.6 and won["resting", "lotv"] > 0.9 and 0 < won["resting", "liberty"] < 0.4


def _slowly(player: str, name: str, seed: int) -> tuple[float, int, bool]:
    """One episode of `play_scripted`, by a vector environment of one battle and nothing shared with it."""
    raw = player == evidence.RAW_HEURISTIC
    vector = smac_sim_v0.vector_env(1, map_name=name, heuristic_ai=raw)
    scripted = None if raw else evidence.PLAYERS[player](vector.battles.scenario, 1, seed)
    observation, _ = vector.reset(seed=seed)
    total, length = 0.0, 0
    while True:
        mask = observation["action_mask"]
        actions = (
            mask[:, :, 1]  # stop, or no-op of the dead
            if scripted is None
            else scripted.act(vector.battles.units, vector.battles.battles, mask)
        )
        observation, reward, terminated, truncated, infos = vector.step(actions)
        total, length = total + float(reward[0]), length + 1
        if terminated[0] or truncated[0]:
            return total, length, bool(infos["battle_won"][0])


@pytest.mark.parametrize(("name", "player"), [("3m", "focus-fire"), ("2s3z", "raw heuristic"), ("MMM", "heuristic")])
def test_episodes_are_those_of_single_environments(name: str, player: str) -> None:
    played = play_scripted(player, name, 8, seed=20)
    for index in range(8):
        total, length, won = _slowly(player, name, 20 + index)
        assert played.returns[index] == pytest.approx(total)
        assert played.lengths[index] == length and played.won[index] == won


def test_what_it_cannot_play_is_refused() -> None:
    with pytest.raises(ValueError, match="focus-fire"):
        play_scripted("focus-fyre", "3m")
    with pytest.raises(ValueError, match="2s3z"):
        play_scripted("nearest", "2s3y")
    with pytest.raises(ValueError, match="episodes"):
        play_scripted("nearest", "3m", 0)


def _played(name: str, player: str, won: list[int], returns: list[float], gained: list[int]) -> Played:
    values = np.array(returns)
    return Played(
        name,
        player,
        np.array(won, bool),
        values,
        np.ones(len(won), np.int64),
        values + np.array([0, 0, 0.5, 0]),
        np.array(gained, bool),
    )


def test_tables_by_hand() -> None:
    first = _played("3s5z", "random", [1, 1, 0, 1], [20, 20.25, 7, 20], [0, 1, 1, 0])
    second = _played("3s5z", "nearest", [0, 0, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0])
    assert players_table([first, second]).splitlines() == [
        "| map | random | nearest | paper |",
        "| --- | --: | --: | --: |",
        "| 3s5z | 75 [30, 95] | 0 [0, 49] | 42 |",
    ]
    assert returns_table([first, second]).splitlines()[2] == "| 3s5z | 2 | 20.0000 | 1 | 20.2500 | 5e-01 |"
    assert mirrored_table({"3m": (3, 1, 6), "8m": (0, 0, 2)}).splitlines()[2:] == [
        "| 3m | 3 | 1 | 6 | 75 [30, 95] |",
        "| 8m | 0 | 0 | 2 | - |",
    ]


def test_the_papers_numbers_are_of_maps_that_exist() -> None:
    assert set(PAPER_HEURISTIC) <= set(MAPS) and len(PAPER_HEURISTIC) == 14


def test_the_command_prints_what_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    evidence.main(["--only", "players", "mirrored", "--maps", "3m", "2m_vs_1z", "--episodes", "5", "--battles", "6"])
    printed = capsys.readouterr().out
    assert "rules r1" in printed.splitlines()[0] and "Time to kill" not in printed and "Returns" not in printed
    header = next(line for line in printed.splitlines() if "| random |" in line)
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["map", *SCRIPTED, "paper"]
    rows = [
        line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| 3m") or "2m_vs_1z" in line
    ]
    assert rows == ["3m", "3m", "2m_vs_1z"]
    with pytest.raises(SystemExit):
        evidence.main(["--only", "duel"])


def test_the_document_shows_the_evidence_of_these_rules() -> None:
    # Whoever changes the rules has to run the evidence anew; the header line says of which rules its tables are.
    text = (Path(__file__).parents[3] / "docs" / "smac-sim.md").read_text(encoding="utf-8")
    assert f", rules {RULES}, preset liberty, seed 0" in text
    for name in MAPS:
        assert len([line for line in text.splitlines() if line.startswith(f"| {name} |")]) >= 2, name
    for name, win_rate in PAPER_HEURISTIC.items():
        assert any(line.startswith(f"| {name} |") and line.endswith(f"] | {win_rate} |") for line in text.splitlines())


def test_it_needs_no_torch() -> None:
    code = "import sys, smix_pz.envs.battle.evidence; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
