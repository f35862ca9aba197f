"""Scripted players in studies, and studies whose measure is another metric than the return."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from scipy import stats

from smix_pz.benchmarks import tables
from smix_pz.benchmarks.baselines import BaselineResult, baseline_path, play_baselines, read_baselines
from smix_pz.benchmarks.study import run_study
from smix_pz.benchmarks.suite import Study, load_study
from smix_pz.benchmarks.table import ABSENT
from smix_pz.intervals import wilson_interval

TINY = {
    "algorithms": ("qmix",),
    "runs": 1,
    "steps": 200,
    "eval_every": 200,
    "eval_episodes": 2,
    "baselines": ("random", "focus-fire"),
    "baseline_episodes": 6,
    "settings": {"batch_size": 2},
}


def tiny(**changes: object) -> Study:
    return load_study("smac_3m", {**TINY, **changes})


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (173, 320), (1, 1)])
def test_wilson_interval_is_scipys(successes: int, trials: int) -> None:
    reference = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((reference.low, reference.high))


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (3, 2), (-1, 4)])
def test_wilson_interval_refuses_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes of {trials} trials"):
        wilson_interval(successes, trials)


def test_players_play_once_and_again_only_when_the_plan_changes(tmp_path: Path) -> None:
    study = tiny()
    assert read_baselines(study, study.task_list()[0], tmp_path) == []
    play_baselines(study, tmp_path)
    first = read_baselines(study, study.task_list()[0], tmp_path)
    assert [result.name for result in first] == ["random", "focus-fire"]
    assert all(len(result.returns) == len(result.won or ()) == 6 for result in first)
    assert "rules r1" in first[0].engine and "smac_sim" in first[0].engine
    path = baseline_path(tmp_path, "random")
    marked = {**json.loads(path.read_text()), "returns": [1.0] * 6}
    path.write_text(json.dumps(marked))
    play_baselines(study, tmp_path)
    assert read_baselines(study, study.task_list()[0], tmp_path)[0].returns == (1.0,) * 6  # it was not played again
    longer = tiny(baseline_episodes=7)
    assert read_baselines(longer, longer.task_list()[0], tmp_path) == []
    play_baselines(longer, tmp_path)
    assert len(read_baselines(longer, longer.task_list()[0], tmp_path)[0].returns) == 7


def test_the_table_of_players_shows_means_and_intervals() -> None:
    won = tuple(index < 2 for index in range(8))
    results = [
        BaselineResult("nearest", "e", {}, "engine x", 0, tuple(map(float, range(8))), (5,) * 8, won),
        BaselineResult("random", "e", {}, "engine x", 0, (1.0, 3.0), (4, 6), None),
    ]
    first, second = tables.baseline_table(results).rows
    assert first["win_rate"] == 0.25 and first["return"] == 3.5 and first["length"] == 5.0
    half = stats.t.ppf(0.975, 7) * stats.sem(range(8))
    assert first["return_high"] == pytest.approx(3.5 + half)
    assert second["win_rate"] is None and second["length"] == 5.0
    assert ABSENT in list(tables.baseline_table(results).text_rows())[1]


def test_a_study_of_win_rates_runs_to_its_report(tmp_path: Path) -> None:
    console = Console(width=140, record=True)
    path = run_study(tiny(), tmp_path, workers=1, command="test", console=console)
    shown = console.export_text()
    assert "eval/win_rate" in shown and "focus-fire" in shown and "Scripted players" in shown
    report = path.read_text()
    assert "Learning curves: mean return of greedy play" in report and "Scripted players" in report
    assert (tmp_path / "figures" / "learning_curves.png").is_file()
    assert (tmp_path / "figures" / "learning_curves_return.png").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ("eval/winrate",)}, "did you mean 'eval/win_rate'"),
        ({"metrics": ()}, "metrics is empty"),
        ({"baselines": ("focusfire",)}, "did you mean 'focus-fire'"),
        ({"baseline_episodes": 0}, "baseline_episodes is 0"),
    ],
)
def test_bad_plans_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)
