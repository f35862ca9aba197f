"""The command, called as a user would."""

from __future__ import annotations

from pathlib import Path

import pytest

from smix_pz.algorithms import ALGORITHMS
from smix_pz.cli import main
from smix_pz.records import read_record


def test_train_then_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "train --env matrix_game_v0 --env-kwargs m=2 --algorithm vdn --seeds 3 5 --steps 200 --eval-every 100"
    main([*words.split(), "--eval-episodes", "2", "--out", str(tmp_path)])
    record = read_record(tmp_path / "seed-0005.jsonl")
    assert record.finished and record.run["env_kwargs"] == {"m": 2} and record.run["seed"] == 5
    assert [row["step"] for row in record.metrics] == [0, 100, 200]
    capsys.readouterr()
    main(["evaluate", str(tmp_path / "seed-0005.safetensors"), "--episodes", "3"])
    shown = capsys.readouterr().out
    assert f"{record.metrics[-1]['eval/return']:.3f}" in shown  # a deterministic game: the same return


def test_train_from_a_file_with_an_override(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("env_kwargs: {m: 2}\nalgorithm: iql\nsteps: 100\nseeds: [1]\neval_every: 50\neval_episodes: 1\n")
    main(["train", "--config", str(file), "--algorithm", "qmix", "--out", str(tmp_path / "out")])
    record = read_record(tmp_path / "out" / "seed-0001.jsonl")
    assert record.run["algorithm"] == "qmix" and record.run["config"]["steps"] == 100


def test_train_never_overwrites_a_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--steps", "60", "--eval-every", "60", "--eval-episodes", "1", "--out", str(tmp_path)]
    main(words)
    before = (tmp_path / "seed-0000.jsonl").read_bytes()
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2 and "finished run" in capsys.readouterr().err
    assert (tmp_path / "seed-0000.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train --algorithm smixx", "did you mean 'smix'"),
        ("train --env matrix_gam_v0", "did you mean 'matrix_game_v0'"),
        ("train --env-kwargs m=0", "at least 1"),
        ("train --env-kwargs steps=4", "takes no argument 'steps'"),
        ("train --env-kwargs m", "KEY=VALUE"),
        ("train --device cudaa", "device"),
        ("train --td-lambda 2", "td_lambda is 2.0"),
        ("study matrix_gam", "did you mean 'matrix_game'"),
        ("evaluate nowhere.safetensors", "no policy at"),
        ("report nowhere", "no study file"),
    ],
)
def test_bad_input_is_one_clear_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    streams = capsys.readouterr()
    assert stop.value.code == 2 and message in " ".join((streams.err + streams.out).split())


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    main(["algorithms"])
    main(["envs"])
    shown = capsys.readouterr().out
    assert "matrix_game_v0" in shown and all(name[:5] in shown for name in ALGORITHMS)


def test_study_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "study matrix_game --m 3 --runs 1 --steps 100 --eval-every 100 --algorithms vdn --no-expressivity --workers 1"
    )
    main([*words.split(), "--out", str(tmp_path)])
    assert "report:" in capsys.readouterr().out
    (tmp_path / "report.html").unlink()
    main(["report", str(tmp_path)])
    page = (tmp_path / "report.html").read_text()
    assert "optimal (m + 3)" in page or "m=3" in page


def test_a_study_with_other_arguments_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = "study table3 --maps 2s_vs_1sc --env-kwargs preset=lotv --algorithms vdn --runs 1 --steps 100 --workers 1"
    main([*words.split(), "--eval-every", "100"])
    (path,) = Path("results", "table3-preset=lotv", "records").rglob("*.jsonl")
    run = read_record(path).run
    assert run["env_kwargs"] == {"map_name": "2s_vs_1sc", "preset": "lotv"} and "lotv" in str(run["engine"])


def test_a_scripted_player_with_a_reward_rule(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "random", "--env", "tiny_envs:Competitive", "--episodes", "2"]
    with pytest.raises(SystemExit):
        main(words)
    assert "unlike rewards" in capsys.readouterr().err
    main([*words, "--team-reward", "first"])
    assert "1.000" in capsys.readouterr().out  # the first agent is paid 1 in its one step


def test_preprocessing_is_trained_with_kept_and_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line into record and policy; evaluation and films wrap the environment again."""
    words = "train --env masked_team_v0 --env-kwargs flat_obs=true cut=0 --algorithm vdn --steps 20 --eval-every 20"
    words += " --preprocess pad_observations_v0"
    with pytest.raises(SystemExit):
        main(words.split())
    assert "the team view pads unlike observations itself" in " ".join(capsys.readouterr().err.split())
    words = words.replace("pad_observations_v0", "frame_stack_v1:2 clip_reward_v0:upper_bound=2")
    main([*words.split(), "--eval-episodes", "2", "--out", str(tmp_path)])
    record = read_record(tmp_path / "seed-0000.jsonl")
    assert record.run["config"]["preprocess"] == ["frame_stack_v1:2", "clip_reward_v0:upper_bound=2"]
    assert "supersuit" in record.run["versions"]
    policy = str(tmp_path / "seed-0000.safetensors")
    capsys.readouterr()
    main(["evaluate", policy, "--episodes", "2"])
    assert f"{record.metrics[-1]['eval/return']:.3f}" in capsys.readouterr().out
    main(["render", str(tmp_path / "film.gif"), "--player", policy])
    assert (tmp_path / "film.gif").stat().st_size > 0
    with pytest.raises(SystemExit):
        main(["evaluate", policy, "--preprocess", "flatten_v0"])
    assert "a policy plays as it was trained" in " ".join(capsys.readouterr().err.split())


def test_random_play_with_preprocessing_and_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "evaluate random --env tiny_envs:Constant --episodes 3 --preprocess clip_reward_v0:upper_bound=0.25"
    main(words.split())
    assert "0.250" in capsys.readouterr().out  # 1.5, clipped
    film = str(tmp_path / "spread.gif")
    words = f"render {film} --player random --env mpe2.simple_spread_v3 --env-kwargs max_cycles=2 --team-reward mean"
    main(words.split())
    assert "ended after 2 steps" in capsys.readouterr().out
