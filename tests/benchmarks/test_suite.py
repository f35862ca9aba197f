"""Planning, resuming and protecting studies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from smix_pz.benchmarks import study as study_module
from smix_pz.benchmarks.study import run_study
from smix_pz.benchmarks.suite import Study, load_study, plan, records_of, remaining, study_presets
from smix_pz.records import read_records

SMALL: dict[str, Any] = {"runs": 2, "steps": 300, "eval_every": 100, "algorithms": ["smix", "vdn"], "expressivity": {}}


def small(**changes: Any) -> Study:
    return load_study("matrix_game", {**SMALL, **changes})


def quiet() -> Console:
    return Console(file=open(os.devnull, "w"))


def test_the_shipped_study_is_figure_4() -> None:
    study = load_study("matrix_game")
    assert study.env_kwargs == {"m": 5} and study.runs == 20 and study.steps == 100_000
    assert set(study.algorithms) == {"qmix", "smix", "qtran"}
    assert study.references() == {"optimal (m + 3)": 8.0, "safe (m)": 5.0}
    assert study_presets("matrix_game")["paper"] == {"parallel_episodes": 4, "updates_per_group": 1}


def test_plan_covers_every_seed_once(tmp_path: Path) -> None:
    jobs = plan(small(runs=5), tmp_path, stack=2)
    for name in SMALL["algorithms"]:
        seeds = [s for job in jobs if job.config.algorithm == name for s in job.config.seeds]
        assert sorted(seeds) == [0, 1, 2, 3, 4]
        assert all(len(job.config.seeds) <= 2 for job in jobs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithms": ["smixx"]}, "did you mean 'smix'"),
        ({"preset": "papr"}, "did you mean 'paper'"),
        ({"env_kwargs": {"m": 0}}, "m .* at least 1"),
        ({"runs": 0}, "runs is 0"),
        ({"stepps": 3}, "did you mean 'steps'"),
        ({"settings": {"learning_rte": 1.0}}, "did you mean 'learning_rate'"),
    ],
)
def test_bad_settings_are_refused_before_any_work(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(small(**changes), tmp_path)
    assert not list(tmp_path.iterdir())


def test_unknown_study_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'matrix_game'"):
        load_study("matrix_gane")


def test_a_study_runs_reports_and_is_not_repeated(tmp_path: Path) -> None:
    study = small()
    path = run_study(study, tmp_path, workers=1, console=quiet())
    assert path.is_file() and "Learning curves" in path.read_text()
    records = read_records(tmp_path / "records")
    assert len(records) == 4 and all(record.finished for record in records)
    assert all([row["step"] for row in record.metrics] == [0, 100, 200, 300] for record in records)
    before = {r.path: (r.path.stat().st_mtime_ns, r.path.read_bytes()) for r in records if r.path}
    assert remaining(plan(study, tmp_path)) == []
    run_study(study, tmp_path, workers=1, console=quiet())
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    # More runs are added to those there are.
    more = remaining(plan(small(runs=3), tmp_path))
    assert [job.config.seeds for job in more] == [(2,), (2,)]


def test_what_stops_a_study_before_its_first_record_is_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not that there is nothing to report."""

    def stop(*_: Any) -> None:
        raise RuntimeError("the machine is on fire")

    monkeypatch.setattr(study_module, "launch", stop)
    with pytest.raises(RuntimeError, match="on fire"):
        run_study(small(), tmp_path, workers=1, console=quiet())


def test_results_made_with_other_settings_are_never_mixed_or_overwritten(tmp_path: Path) -> None:
    run_study(small(runs=1, algorithms=["vdn"]), tmp_path, workers=1, console=quiet())
    with pytest.raises(ValueError, match="steps = 300, this job has 200"):
        remaining(plan(small(runs=1, algorithms=["vdn"], steps=200), tmp_path))
    with pytest.raises(ValueError, match=r"gamma = 0\.99, this job has 0\.9"):
        remaining(plan(small(runs=1, algorithms=["vdn"], settings={"gamma": 0.9}), tmp_path))


def test_a_killed_study_resumes_to_the_records_of_an_undisturbed_one(tmp_path: Path) -> None:
    study = small(steps=3000, eval_every=500, algorithms=["smix"], settings={"checkpoint_every": 0.0})
    run_study(study, tmp_path / "calm", workers=1, console=quiet())
    script = (
        "from pathlib import Path; from rich.console import Console\n"
        "from smix_pz.benchmarks.study import run_study; from smix_pz.benchmarks.suite import load_study\n"
        "if __name__ == '__main__':\n"
        f"    study = load_study({str(tmp_path / 'calm' / 'study.yaml')!r})\n"
        f"    run_study(study, Path({str(tmp_path / 'killed')!r}), workers=1, console=Console(stderr=True))\n"
    )
    (tmp_path / "run.py").write_text(script)
    process = subprocess.Popen([sys.executable, str(tmp_path / "run.py")], stderr=subprocess.DEVNULL)
    first = tmp_path / "killed" / "records" / "smix" / "seed-0000.jsonl"
    deadline = time.monotonic() + 60
    while not (first.is_file() and first.read_bytes().count(b"\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)  # its worker notices and ends
    jobs = plan(study, tmp_path / "killed")
    assert not all(record.finished for record in records_of(jobs[0])), "the kill came too late to test anything"
    run_study(study, tmp_path / "killed", workers=1, console=quiet())
    calm, killed = (read_records(tmp_path / name / "records") for name in ("calm", "killed"))
    assert [r.metrics for r in calm] == [r.metrics for r in killed]
    assert not list((tmp_path / "killed").rglob("state-*"))
