"""Jobs that are killed, stopped, damaged, or cannot go on: what is on disk is whole, and they go on from it."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_resume import assert_same_job, content, job, killed_after, lines

from smix_pz.checkpoints import CheckpointStore, read_tensors
from smix_pz.config import TrainConfig
from smix_pz.jobs import JobBusy, job_folder, locked
from smix_pz.records import read_record
from smix_pz.training import Diverged, TrainResult, train

LONG: dict[str, Any] = {"steps": 1500, "eval_every": 100, "eval_episodes": 8, "checkpoint_every": 0.02}
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["smix_pz.training"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainResult]:
    """The long job without interruption."""
    out = tmp_path_factory.mktemp("whole")
    return out, train(job(out, **LONG))


def start(config: TrainConfig, target: Callable[..., Any] = train) -> Any:
    """Train in a process of its own, and wait until it has begun."""
    process = _CONTEXT.Process(target=target, args=(config,))
    process.start()
    begun = job_folder(config) / "heartbeat.json"
    deadline = time.monotonic() + 60
    while not begun.is_file() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    return process


def test_kill_9_at_random_moments(whole: tuple[Path, TrainResult], tmp_path: Path) -> None:
    """Again and again, while it computes, writes checkpoints, records and policies; from folder to folder."""
    rng = np.random.default_rng(0)
    kills, out = 0, tmp_path / "folder-0"
    while kills < 6:
        process = start(job(out, **LONG))
        time.sleep(float(rng.uniform(0.0, 0.3)))
        process.kill()
        process.join()
        if process.exitcode == 0:
            break  # it was faster
        kills += 1
        moved = tmp_path / f"folder-{kills}"
        out.rename(moved)
        out = moved
        (job_folder(job(out)) / "heartbeat.json").unlink(missing_ok=True)
    assert kills >= 2
    if not all(read_record(out / f"seed-{seed:04d}.jsonl").finished for seed in (3, 5, 8)):
        train(job(out, **LONG))
    for seed in (3, 5, 8):
        assert lines(whole[0], seed) == lines(out, seed)
    assert not [path for path in out.rglob(".*")], "temporary files were left"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_with_a_checkpoint(
    signum: signal.Signals, whole: tuple[Path, TrainResult], tmp_path: Path
) -> None:
    config = job(tmp_path, **{**LONG, "checkpoint_every": 1e6})
    process = start(config)
    time.sleep(0.2)
    os.kill(process.pid, signum)
    process.join(30)
    assert process.exitcode not in (None, 0, -signum)  # it ended by itself, and not as if it had finished
    (state,) = [p for p in job_folder(config).glob("state-*") if not p.name.startswith("state-0000000000.")]
    assert read_tensors(state)[0]["episodes"] > 0
    assert json.loads((job_folder(config) / "heartbeat.json").read_text())["status"] == "stopped"
    assert_same_job(whole[0], tmp_path, (whole[1], train(config)))


def test_two_processes_never_train_the_same_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from smix_pz import jobs

    monkeypatch.setattr(jobs, "_LOCK_WAIT", 0.2)
    config = job(tmp_path)
    with locked(job_folder(config)), pytest.raises(JobBusy, match="another process is training"):
        train(config)
    assert train(config).records[0].finished


# Damage -----------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    """One bit in the middle of the data, where no length or name would show it."""
    data = bytearray(path.read_bytes())
    data[-len(data) // 4] ^= 1
    path.write_bytes(bytes(data))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "bit": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello"),
    "pickle": lambda path: torch.save({"parameters": torch.zeros(3)}, path),
    "another's": lambda path: save_file({"parameters": torch.zeros(3)}, path),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("part", ["state", "replay"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(damage: str, part: str, tmp_path: Path) -> None:
    once = train(job(tmp_path / "once"))
    with killed_after(15), pytest.raises(KeyboardInterrupt):
        train(job(tmp_path / "out"))
    folder = job_folder(job(tmp_path / "out"))
    newest = sorted(folder.glob(f"{part}-*"))[-1]
    DAMAGE[damage](newest)
    with pytest.warns(UserWarning, match=r"(damaged|format).*put aside"):
        result = train(job(tmp_path / "out"))
    assert_same_job(tmp_path / "once", tmp_path / "out", (once, result))
    assert list(folder.glob("*.refused"))


def test_with_no_whole_checkpoint_it_begins_again(tmp_path: Path) -> None:
    once = train(job(tmp_path / "once"))
    with killed_after(15), pytest.raises(KeyboardInterrupt):
        train(job(tmp_path / "out"))
    for path in job_folder(job(tmp_path / "out")).glob("state-*"):
        flip(path)
    with pytest.warns(UserWarning, match="damaged"):
        result = train(job(tmp_path / "out"))
    assert_same_job(tmp_path / "once", tmp_path / "out", (once, result))


def test_a_checkpoint_of_another_job_is_refused(tmp_path: Path) -> None:
    """Put there by hand, where records say nothing."""
    for name, rate in (("other", 1e-3), ("out", 5e-4)):
        with killed_after(9), pytest.raises(KeyboardInterrupt):
            train(job(tmp_path / name, learning_rate=rate))
    folder = job_folder(job(tmp_path / "out"))
    newest = sorted(folder.glob("state-*"))[-1]
    shutil.copy(job_folder(job(tmp_path / "other")) / newest.name, newest)
    with pytest.warns(UserWarning, match=r"another job: its learning_rate is 0.001, this job's 0.0005"):
        result = train(job(tmp_path / "out"))
    assert_same_job(tmp_path / "once", tmp_path / "out", (train(job(tmp_path / "once")), result))


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_checkpoints_stay(keep: int, tmp_path: Path) -> None:
    """So many, each with all the replay that it needs; nothing else."""
    with killed_after(15), pytest.raises(KeyboardInterrupt):
        train(job(tmp_path, keep_checkpoints=keep))
    folder = job_folder(job(tmp_path))
    states = sorted(folder.glob("state-*"))
    assert [read_tensors(path)[0]["episodes"] for path in states] == [60 - 4 * k for k in range(keep)][::-1]
    needed = {(start, stop) for path in states for start, stop, _ in read_tensors(path)[0]["segments"]}
    there = {tuple(map(int, p.name.split(".")[0].split("-")[1:])) for p in folder.glob("replay-*")}
    assert there == needed


# It cannot go on --------------------------------------------------------------------------------------------------


def _with_small_files(config: TrainConfig) -> None:
    """No file may grow beyond some kilobytes: the system refuses to write, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_with_small_files.limit, resource.RLIM_INFINITY))  # type: ignore[attr-defined]
    train(config)


_with_small_files.limit = 9_000  # type: ignore[attr-defined]  # bytes: records fit for a while, states with replay do not


def test_a_full_disk_stops_it_with_its_last_good_state(tmp_path: Path) -> None:
    """The system itself refuses; the error names the file, and with room again the job goes on."""
    once = train(job(tmp_path / "once"))
    config = job(tmp_path / "out")
    with killed_after(6), pytest.raises(KeyboardInterrupt):
        train(config)
    known = {path.name: path.read_bytes() for path in job_folder(config).glob("*.safetensors")}
    process = start(config, _with_small_files)
    process.join(60)
    assert process.exitcode == 1
    beat = json.loads((job_folder(config) / "heartbeat.json").read_text())
    assert beat["status"] == "failed" and "cannot write a checkpoint" in beat["error"]
    assert "File too large" in beat["error"] and "the last good one is state-0000000024.safetensors" in beat["error"]
    left = {path.name: path.read_bytes() for path in job_folder(config).glob("*.safetensors")}
    assert {name: left[name] for name in known} == known
    assert_same_job(tmp_path / "once", tmp_path / "out", (once, train(config)))


def test_a_folder_that_cannot_be_written_is_named_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        train(job(tmp_path / "file" / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("thorough", [False, True])
def test_a_run_that_diverges_stops_with_its_last_good_state(
    thorough: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run's parameters become NaN after 20 updates. What is on disk is from before, and leads there again."""
    from smix_pz.algorithms.learner import Learner

    update_many = Learner.update_many

    def spoil(self: Learner, batches: Any) -> Any:
        metrics = update_many(self, batches)
        if self.n_updates == 20:
            self.stack.online[1] = torch.nan
            if not thorough:  # else only the parameters show it
                metrics["loss"] = metrics["loss"].index_fill(0, torch.tensor(1), torch.nan)
        return metrics

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update_many", spoil)
        for _ in range(2):
            with pytest.raises(Diverged, match=r"seed\(s\) 5 are no longer finite after 20 updates .* last good state"):
                train(job(tmp_path / "out"))
            states = job_folder(job(tmp_path / "out")).glob("state-*")
            assert all(torch.isfinite(read_tensors(path)[1]["parameters"]).all() for path in states)
            beat = json.loads((job_folder(job(tmp_path / "out")) / "heartbeat.json").read_text())
            assert beat["status"] == "failed" and beat["error"].startswith("Diverged")
    once = train(job(tmp_path / "once"))
    assert_same_job(tmp_path / "once", tmp_path / "out", (once, train(job(tmp_path / "out"))))


def test_a_kill_between_the_last_record_and_the_done_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study sets the marker then, and trains nothing."""
    from smix_pz.benchmarks.suite import Job, remaining

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "finish", lambda self, most: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(job(tmp_path))
    folder = job_folder(job(tmp_path))
    records = {name: data for name, data in content(tmp_path).items() if name.endswith("jsonl")}
    assert not (folder / "done.json").is_file() and list(folder.glob("state-*"))
    assert remaining([Job(job(tmp_path))]) == []
    assert json.loads((folder / "done.json").read_text())["extendable"] and not list(folder.glob("state-*"))
    assert {name: content(tmp_path)[name] for name in records} == records
