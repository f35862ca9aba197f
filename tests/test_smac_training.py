"""SMAC's maps in the harness: training, evaluation on another engine of the same layout, the command's short forms."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import smix_pz
from smix_pz.baselines import PLAYER_NAMES, evaluate_player
from smix_pz.cli import main
from smix_pz.envs.battle.players import PLAYERS
from smix_pz.envs.registry import find_entry, series_arguments, shared_arguments, turns

SHORT = {
    "env": "smac_sim_v0",
    "steps": 150,
    "eval_every": 150,
    "eval_episodes": 3,
    "batch_size": 2,
    "hidden_dim": 8,
    "progress": False,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("smac")
    kwargs = {"map_name": "2m_vs_1z", "jitter": 0.05}
    smix_pz.train(smix_pz.TrainConfig(env_kwargs=kwargs, seeds=(0, 1), out=out, **SHORT))
    return out


def test_records_name_the_engine_and_report_win_rates(trained: Path) -> None:
    record = smix_pz.records.read_record(trained / "seed-0001.jsonl")
    assert record.finished
    engine = record.run["engine"]
    assert (engine["name"], engine["rules"], engine["preset"]) == ("smix_pz/smac_sim-v0", "r1", "liberty")
    assert all(0.0 <= row["eval/win_rate"] <= 1.0 for row in record.metrics)


def test_a_stacked_seed_is_what_it_is_alone(trained: Path, tmp_path: Path) -> None:
    kwargs = {"map_name": "2m_vs_1z", "jitter": 0.05}
    alone = smix_pz.train(smix_pz.TrainConfig(env_kwargs=kwargs, seeds=(1,), out=tmp_path, **SHORT)).records[0]
    stacked = smix_pz.records.read_record(trained / "seed-0001.jsonl")
    assert [row["t_env"] for row in alone.metrics] == [row["t_env"] for row in stacked.metrics]
    for a, b in zip(alone.metrics, stacked.metrics, strict=True):
        assert a["eval/return"] == pytest.approx(b["eval/return"], abs=1e-4)


def test_a_policy_plays_on_another_form_of_the_same_map(trained: Path) -> None:
    policy = smix_pz.load(trained / "seed-0000.safetensors")
    own = smix_pz.evaluate(policy, episodes=5, seed=3)
    # The PettingZoo form under a foreign name: map_name and jitter are carried over, as they would be to smac_v0.
    foreign = smix_pz.evaluate(policy, episodes=5, seed=3, env="smix_pz.envs.smac_sim_v0:parallel_env")
    np.testing.assert_allclose(foreign.returns, own.returns, rtol=1e-6)
    np.testing.assert_array_equal(foreign.lengths, own.lengths)
    with pytest.raises(ValueError, match="the policy was trained on"):
        smix_pz.evaluate(policy, episodes=1, map_name="3m")


def test_the_names_known_without_compiled_code_are_the_players() -> None:
    assert set(PLAYER_NAMES) == set(PLAYERS)


def test_arguments_that_go_along_to_the_real_smac() -> None:
    taken = shared_arguments("smac_v0", {"map_name": "3m", "jitter": 0.0, "obs_last_action": True})
    assert taken == {"map_name": "3m", "obs_last_action": True}
    assert series_arguments("smac_v0", {"map_name": "3m"}) == {"reseed": "once", "map_name": "3m"}
    assert series_arguments("smac_v0", {"reseed": "relaunch"}) == {"reseed": "relaunch"}
    assert turns("smac_v0", 32) == 4 and turns("smac_sim_v0", 32) == 32
    entry = find_entry("smac_v0")
    assert entry is not None and "reseed" in entry.arguments


def test_evaluation_in_turns_plays_as_many_episodes_as_asked(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smix_pz.policy.turns", lambda env, episodes: min(3, episodes))
    summary = smix_pz.evaluate(smix_pz.load(trained / "seed-0000.safetensors"), episodes=7)
    assert summary.returns.shape == summary.won.shape == (1, 7)
    monkeypatch.undo()  # the same seeds, all at once
    np.testing.assert_array_equal(
        smix_pz.evaluate(smix_pz.load(trained / "seed-0000.safetensors"), episodes=7).lengths, summary.lengths
    )


def test_the_command_takes_a_map_and_a_scripted_player(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["evaluate", "nearest", "--map", "2m_vs_1z", "--episodes", "4"])
    shown = capsys.readouterr().out
    expected = evaluate_player("nearest", 4, 0, env_kwargs={"map_name": "2m_vs_1z"}).returns.mean()
    assert f"{expected:.3f}" in shown and "nearest on smac_sim_v0" in shown
    main(["render", str(tmp_path / "a.gif"), "--map", "2m_vs_1z", "--player", "random", "--size", "200"])
    assert (tmp_path / "a.gif").read_bytes()[:6] == b"GIF89a"
    words = ["train", "--env", "smac_sim_v0", "--map", "3m", "--steps", "60", "--eval-every", "60"]
    main([*words, "--eval-episodes", "2", "--no-progress"])
    assert "win_rate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "nearest", "--map", "3n"], "3m"),
        (["evaluate", "nearest", "--env", "matrix_game_v0"], "only knows smac_sim_v0"),
        (["train", "--env", "smac_sim_v0", "--map", "4m"], "map"),
        (["render", "film.avi", "--map", "3m"], ".gif"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("smac") is not None, reason="there is a package called smac")
def test_without_starcraft_the_command_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--env", "smac_v0", "--map", "3m"])
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert "smac_v0 cannot run: smac: not installed. Remedy: pip install" in shown and "Traceback" not in shown


def test_doctor_says_what_can_run(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    assert "smac_sim_v0 can run: yes" in capsys.readouterr().out
