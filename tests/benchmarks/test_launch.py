"""Launching on this machine: sizes, deaths, stops, the table of all jobs; and Slurm's script, run by hand."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from smix_pz.benchmarks import launch as launching
from smix_pz.benchmarks import resources
from smix_pz.benchmarks.launch import Launch, launch, run_local
from smix_pz.benchmarks.live import duration, read_statuses, status_table, summary
from smix_pz.benchmarks.resources import Need, need_of, size
from smix_pz.benchmarks.suite import Job, load_study, plan, read_plan, remaining, write_plan
from smix_pz.cli import main
from smix_pz.config import TrainConfig
from smix_pz.jobs import JobsFailed, is_done, job_folder, read_json
from smix_pz.records import read_records

ROOT = Path(__file__).resolve().parents[2]


def jobs_in(out: Path, stack: int = 1, **changes: Any) -> list[Job]:
    small = {"runs": 2, "steps": 300, "eval_every": 100, "algorithms": ["vdn"], "expressivity": {}}
    jobs = plan(load_study("matrix_game", {**small, **changes}), out, stack=stack)
    write_plan(jobs, out)
    return remaining(jobs)


def quiet() -> Console:
    return Console(file=open(os.devnull, "w"))


def text_of(printable: Any) -> str:
    console = Console(width=160, record=True, file=open(os.devnull, "w"))
    console.print(printable)
    return console.export_text()


# Extending a study ------------------------------------------------------------------------------------------------


def test_more_runs_and_more_steps(tmp_path: Path) -> None:
    """5 runs, then 8, then more steps: nothing is repeated, and the stacks stay as they were begun."""
    run_local(jobs_in(tmp_path, stack=3, runs=4), tmp_path, 1, quiet())
    before = {r.path: r.path.read_bytes() for r in read_records(tmp_path) if r.path}
    more = jobs_in(tmp_path, stack=3, runs=6)
    assert [job.config.seeds for job in more] == [(4, 5)]
    run_local(more, tmp_path, 1, quiet())
    assert {path: path.read_bytes() for path in before} == before
    fewer = plan(load_study("matrix_game", {"runs": 2, "algorithms": ["vdn"], "expressivity": {}}), tmp_path)
    assert [(job.config.seeds, job.seeds) for job in fewer] == [((0, 1, 2), (0, 1))]
    longer = jobs_in(tmp_path, stack=3, runs=6, steps=400)
    assert [job.config.seeds for job in longer] == [(0, 1, 2), (3,), (4, 5)]
    run_local(longer, tmp_path, 1, quiet())
    records = read_records(tmp_path)
    assert len(records) == 6 and all(r.finished and r.metrics[-1]["step"] == 400 for r in records)
    assert jobs_in(tmp_path, stack=3, runs=6, steps=400) == []


def test_what_cannot_be_extended_is_said_before_any_work(tmp_path: Path) -> None:
    """Both jobs are named, and nothing is touched."""
    settings = {"settings": {"keep_final": 0.0}}
    run_local(jobs_in(tmp_path, stack=1, runs=2, **settings), tmp_path, 1, quiet())
    before = {path: path.read_bytes() for path in (tmp_path / "records").rglob("*") if path.is_file()}
    why = r"2 of 3 jobs cannot be extended to 400 steps.* \(see keep_final\): vdn.*, vdn"
    with pytest.raises(ValueError, match=why):
        jobs_in(tmp_path, stack=1, runs=3, steps=400, **settings)
    assert {path: path.read_bytes() for path in before} == before


# Local processes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cores", "memory", "threads", "asked", "expected"),
    [(8, 100, 1, None, 4), (2, 100, 1, None, 2), (8, 100, 4, None, 2), (8, 25, 1, None, 2), (8, 100, 1, 3, 3),
     (8, 1, 1, None, 1), (1, 100, 4, None, 1), (8, None, 1, None, 4)],
)  # fmt: skip
def test_workers_fit_cores_and_memory(
    cores: int, memory: int | None, threads: int, asked: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four jobs of 10 GiB each; nine tenths of the free memory may be used."""
    gib = 2**30
    monkeypatch.setattr(resources, "cores", lambda: cores)
    monkeypatch.setattr(resources, "available_memory", lambda: None if memory is None else memory * gib)
    monkeypatch.setattr(resources, "need_of", lambda config: Need(10 * gib, gib))
    jobs = [Job(TrainConfig(threads=threads))] * 4
    assert size(jobs, asked).workers == expected


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_the_estimate_covers_what_a_job_takes(tmp_path: Path) -> None:
    """Measured in a process of its own, and no more than three times too large."""
    settings = {
        "env": "smac_sim_v0", "env_kwargs": {"map_name": "3m"}, "seeds": (0, 1, 2, 3), "steps": 1500,
        "eval_every": 1500, "eval_episodes": 1, "buffer_size": 1000, "progress": False,
    }  # fmt: skip
    script = (
        "from smix_pz.config import TrainConfig; from smix_pz.training import train\n"
        f"train(TrainConfig.from_dict({settings!r}))\n"
        # Not getrusage, which counts the parent's memory at the fork.
        "print(next(int(row.split()[1]) * 1024 for row in open('/proc/self/status') if row.startswith('VmHWM')))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    measured, estimate = int(done.stdout.split()[-1]), need_of(TrainConfig.from_dict(settings)).memory
    assert measured <= estimate <= 3 * measured, (measured / 2**20, estimate / 2**20)


def _deadly(pipe: Any) -> None:
    """A worker that is killed the first time it meets a job, in its middle."""
    from smix_pz.training import Trainer

    collect = Trainer._count

    def count(self: Trainer, summary: Any) -> None:
        collect(self, summary)
        if self.episodes == 40:
            for number in range(int(os.environ.get("DEATHS", "1"))):
                mark = Path(str(self.config.out)) / f"killed-{self.config.seeds[0]}-{number}"
                if not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

    Trainer._count = count  # type: ignore[method-assign]
    launching._work(pipe)


def test_a_worker_that_dies_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the system takes it for want of memory: the job goes on, and so do the others."""
    monkeypatch.setattr(launching._Pool, "_start", _start_deadly)
    said = tmp_path / "said.txt"
    with said.open("w") as file:
        run_local(jobs_in(tmp_path), tmp_path, 1, Console(file=file, width=200))
    assert said.read_text().count("SIGKILL, perhaps for want of memory); it goes on from its last checkpoint") == 2
    assert all(record.finished for record in read_records(tmp_path)) and len(read_records(tmp_path)) == 2


def test_a_job_whose_process_dies_each_time_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching._Pool, "_start", _start_deadly)
    monkeypatch.setenv("DEATHS", "9")
    with pytest.raises(JobsFailed, match=r"1 of 1 jobs failed:\nvdn: its process died \(SIGKILL.*\), 3 times"):
        run_local(jobs_in(tmp_path, runs=1), tmp_path, 1, quiet())


def _start_deadly(self: launching._Pool) -> launching._Worker:
    ours, theirs = self._context.Pipe()
    process = self._context.Process(target=_deadly, args=(theirs,))
    process.start()
    theirs.close()
    worker = launching._Worker(process, ours)
    self._workers.append(worker)
    return worker


def test_a_job_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    jobs[0] = dataclasses.replace(jobs[0], config=dataclasses.replace(jobs[0].config, learning_rate=1e30))
    with pytest.raises(JobsFailed, match=r"1 of 2 jobs failed:\nvdn: Diverged"):
        run_local(jobs, tmp_path, 1, quiet())
    assert [record.finished for record in read_records(tmp_path)] == [False, True]
    assert [s.status for s in read_statuses(tmp_path)] == ["failed", "finished"]
    assert read_statuses(tmp_path)[0].error.startswith("Diverged")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_study_is_stopped_in_good_order(signum: signal.Signals, tmp_path: Path) -> None:
    """The command ends with the signal's status, after every job has saved; called again it goes on."""
    words = [
        "study", "matrix_game", "--out", str(tmp_path), "--runs", "1", "--algorithms", "vdn", "--steps", "20000",
        "--no-expressivity", "--workers", "1",
    ]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "smix_pz.cli", *words], stderr=subprocess.PIPE, cwd=ROOT)
    (job,) = plan(
        load_study("matrix_game", {"runs": 1, "algorithms": ["vdn"], "expressivity": {}, "steps": 20000}), tmp_path
    )
    beat = job_folder(job.config) / "heartbeat.json"
    deadline = time.monotonic() + 60
    while (read_json(beat) or {}).get("steps", 0) == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signum)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signum, said
    assert b"every job writes a checkpoint first" in said and b"the same command goes on" in said
    assert [s.status for s in read_statuses(tmp_path)] == ["stopped"]
    states = [int(p.name.split("-")[1].split(".")[0]) for p in job_folder(job.config).glob("state-*")]
    assert max(states) > 0


# The table --------------------------------------------------------------------------------------------------------


def beat(job: Job, **values: Any) -> None:
    content = {"status": "running", "steps": 150, "steps_wanted": 300, "speed": 10.0, "latest": {}, "updated": 1000.0}
    folder = job_folder(job.config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "heartbeat.json").write_text(json.dumps({**content, **values}))


def test_status_of_a_study_elsewhere(tmp_path: Path) -> None:
    """From files alone: who runs, who was not heard of, who is done."""
    jobs = jobs_in(tmp_path, runs=6)
    beat(jobs[0], latest={"eval/return": 4.5, "eval/win_rate": 0.25})
    beat(jobs[1], updated=0.0)
    beat(jobs[2], status="failed", error="Diverged: no")
    beat(jobs[3], status="stopped")
    beat(jobs[4], status="finished", steps=300)
    (job_folder(jobs[4].config) / "done.json").write_text(json.dumps({"steps": 300, "seeds": [4]}))
    found = read_statuses(tmp_path, now=1001.0)
    assert [s.status for s in found] == ["running", "silent", "failed", "stopped", "finished", "waiting"]
    assert found[0].seconds_left == 15.0 and found[1].seconds_left is None
    assert summary(found) == (
        "50% of 1,800 steps, 90 s left at 10 steps/s; 6 jobs: 1 finished, 1 running, 1 waiting, 1 silent, 1 stopped, "
        "1 failed"
    ).replace("90 s", duration(90))
    shown = text_of(status_table(found))
    assert "0.250" in shown and "4.500" in shown and "silent for 17 min" in shown
    assert "2 finished" not in shown and "... 1 waiting, 1 finished" in text_of(status_table(found, most=4))


def test_status_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a study's folder, and on that of `smix-pz train`, which has no plan."""
    run_local(jobs_in(tmp_path, runs=1), tmp_path, 1, quiet())
    for folder in (tmp_path, tmp_path / "records"):
        main(["status", str(folder), "--json"])
        (row,) = json.loads(capsys.readouterr().out)
        assert (row["status"], row["made"], row["wanted"], row["seeds"]) == ("finished", 300, 300, [0])
        assert row["latest"]["eval/return"] == read_records(tmp_path)[0].metrics[-1]["eval/return"]
    main(["status", str(tmp_path)])
    assert "100% of 300 steps; 1 jobs: 1 finished" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path / "nowhere")])


# Slurm ------------------------------------------------------------------------------------------------------------

# A method that is no part of the package: it has to be imported wherever a job runs.
PLUGIN = """from dataclasses import replace
from smix_pz.algorithms import ALGORITHMS, register
register(replace(ALGORITHMS["vdn"], name="NAME", buffer_size=64, summary="VDN with a short memory"))
"""


def test_a_slurm_array_runs_each_job_by_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The script is run as Slurm would, once for each place; a second call has nothing left. A plugin goes along."""
    plugin = tmp_path / "slurm_method.py"
    plugin.write_text(PLUGIN.replace("NAME", "slurms"))
    words = [
        "study", "matrix_game", "--out", str(tmp_path / "a study"), "--runs", "2", "--stack", "1",
        "--plugin", str(plugin), "--algorithms", "slurms", "--steps", "300", "--eval-every", "100", "--no-expressivity",
        "--launcher", "slurm", "--slurm=--partition=long",
        "--workers", "7", "--gpus", "0.5",
    ]  # fmt: skip
    main(words)
    script = tmp_path / "a study" / "slurm" / "array.sbatch"
    text = script.read_text()
    options = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    assert "--array=0-1%7" in options and "--partition=long" in options and "--gpus-per-task=1" in options
    assert "--cpus-per-task=1" in options and "--signal=B:TERM@120" in options
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    moved = tmp_path / "moved"
    (tmp_path / "a study").rename(moved)
    for place in ("1", "0", "0"):
        done = subprocess.run(
            ["bash", "slurm/array.sbatch"], cwd=moved, capture_output=True, text=True,
            env={**os.environ, "SLURM_ARRAY_TASK_ID": place, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert "job 0 (slurms) is done" in done.stdout
    assert all(record.finished for record in read_records(moved)) and len(read_records(moved)) == 2
    assert all(is_done(job.config) for job in read_plan(moved))
    capsys.readouterr()
    main([str(moved) if word.endswith("a study") else word for word in words])
    assert "0 to do" in capsys.readouterr().out and (moved / "report.html").is_file()


def test_slurm_names_places_of_what_is_left(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, runs=6)
    launch([jobs[k] for k in (5, 0, 1, 3)], tmp_path, Launch("slurm"), quiet())
    assert "#SBATCH --array=0-1,3,5\n" in (tmp_path / "slurm" / "array.sbatch").read_text()
    with pytest.raises(ValueError, match="no option of sbatch"):
        launch(jobs, tmp_path, Launch("slurm", slurm=("partition=long",)), quiet())


def test_a_place_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs_in(tmp_path)
    for folder, place, message in ((tmp_path, "2", "has jobs 0 to 1"), (tmp_path / "x", "0", "holds no jobs.json")):
        with pytest.raises(SystemExit):
            main(["job", str(folder), place])
        assert message in capsys.readouterr().err.replace("\n", " ")
