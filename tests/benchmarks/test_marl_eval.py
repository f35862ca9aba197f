"""The export in marl-eval's layout, as its README draws it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_runs import run, runs

from smix_pz.benchmarks.marl_eval import missing_from_export, to_marl_eval, write_marl_eval

ABSOLUTE = {"absolute/win_rate": 0.75, "absolute/return": 15.0, "absolute/episodes": 320, "absolute/step": 20_000}


def test_layout(tmp_path: Path) -> None:
    tasks = {"3m": {"smix": runs("smix", [1.0, 0.5], end=ABSOLUTE), "qmix": runs("qmix", [0.25])}}
    tasks["3m"]["qmix"].append(run("qmix", 1, [0.0], finished=False))
    made = json.loads(write_marl_eval(tasks, tmp_path / "m.json").read_text())
    assert list(made) == ["smac_sim_v0"] and list(made["smac_sim_v0"]) == ["3m"]
    algorithms = made["smac_sim_v0"]["3m"]
    assert list(algorithms["smix"]) == ["seed_0", "seed_1"] and list(algorithms["qmix"]) == ["seed_0"]
    first = algorithms["smix"]["seed_0"]
    assert list(first) == ["step_0", "step_1", "step_2", "absolute_metrics"]
    assert first["step_2"] == {"step_count": 40_000, "return": [20.0], "win_rate": [1.0]}
    assert first["absolute_metrics"] == {"return": [15.0], "win_rate": [0.75]}
    assert "absolute_metrics" not in algorithms["qmix"]["seed_0"]
    assert missing_from_export(tasks) == ["run qmix on smac_sim_v0, seed 1"]


def test_nothing_finished_is_refused() -> None:
    with pytest.raises(ValueError, match="no finished run"):
        to_marl_eval({"3m": {"qmix": [run("qmix", 1, [0.0], finished=False)]}})


def test_marl_evals_own_check_accepts_it() -> None:
    diagnose = pytest.importorskip("marl_eval.utils.diagnose_data_errors", reason="marl-eval is an optional reference")
    tasks = {name: {k: runs(k, [1.0, 0.5], name, end=ABSOLUTE) for k in ("smix", "qmix")} for name in ("3m", "8m")}
    found = diagnose.DiagnoseData(to_marl_eval(tasks)).check_data()
    assert all(part["valid_algorithms"] and part["valid_runs"] and part["valid_steps"] for part in found.values())
