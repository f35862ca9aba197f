"""Studies on a real Ray cluster of several nodes on this machine, one of which is lost in the middle."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from smix_pz.benchmarks.launch import Launch, launch, run_local
from smix_pz.benchmarks.launch_ray import apply_changes, train_on_node
from smix_pz.benchmarks.live import read_statuses
from smix_pz.benchmarks.suite import Job, load_study, plan, remaining, write_plan
from smix_pz.jobs import JobsFailed, job_folder
from smix_pz.records import read_record, read_records
from smix_pz.stopping import Stopped

ray = pytest.importorskip("ray")


def jobs_in(out: Path, **changes: Any) -> list[Job]:
    small = {"runs": 2, "steps": 1500, "eval_every": 500, "algorithms": ["smix", "vdn"], "expressivity": {}}
    settings = {"checkpoint_every": 0.2, "hidden_dim": 16}
    jobs = plan(load_study("matrix_game", {**small, "settings": settings, **changes}), out, stack=1)
    write_plan(jobs, out)
    return remaining(jobs)


def quiet() -> Console:
    return Console(file=open(os.devnull, "w"))


def numbers(out: Path) -> dict[str, Any]:
    """What runs have measured and become: records' metrics and policies' parameters, by file."""
    import smix_pz

    found: dict[str, Any] = {}
    for record in read_records(out):
        assert record.path is not None and record.finished
        policy = smix_pz.load(record.path.with_suffix(".safetensors"))
        found[str(record.path.relative_to(out))] = (
            record.metrics,
            {name: param.numpy().tobytes() for name, param in policy.params.items()},
        )
    return found


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The study without Ray."""
    out = tmp_path_factory.mktemp("local")
    run_local(jobs_in(out), out, 1, quiet())
    return numbers(out)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head node that takes no jobs, and two nodes of one core each."""
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 80 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    made.workers = [made.add_node(num_cpus=1, **memory) for _ in range(2)]
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_job_that_fails_is_named_and_the_others_are_finished(cluster: Any, tmp_path: Path) -> None:
    """What it wrote before is gathered."""
    jobs = jobs_in(tmp_path, algorithms=["vdn"], steps=300)
    jobs += [job for job in jobs_in(tmp_path, algorithms=["smix"], steps=300, runs=1, settings={"learning_rate": 1e30})]
    with pytest.raises(JobsFailed, match=r"1 of 3 jobs failed:\nsmix: Diverged: .*no longer finite"):
        launch(jobs, tmp_path, Launch("ray", address=cluster.address, workers=2), quiet())
    assert len(read_records(tmp_path / "records" / "vdn")) == 2
    assert list((tmp_path / "records" / "smix").glob("job-*/state-*"))


def test_a_method_in_a_file_travels_to_the_nodes(cluster: Any, tmp_path: Path) -> None:
    """They share no folder with this process, and have never heard of it."""
    from smix_pz.algorithms import ALGORITHMS
    from smix_pz.benchmarks.study import run_study

    plugin = tmp_path / "rays_method.py"
    plugin.write_text(
        "from dataclasses import replace\n"
        "from smix_pz.algorithms import ALGORITHMS, register\n"
        "register(replace(ALGORITHMS['vdn'], name='rays', buffer_size=64, summary='VDN with a short memory'))\n"
    )
    small = {"runs": 1, "steps": 200, "eval_every": 100, "algorithms": ["rays"], "expressivity": {}, "claims": []}
    try:
        study = load_study("matrix_game", small, plugins=[str(plugin)])
        run_study(study, tmp_path / "out", how=Launch("ray", address=cluster.address), console=quiet())
    finally:
        ALGORITHMS.pop("rays", None)
        sys.modules.pop("rays_method", None)
    (record,) = read_records(tmp_path / "out" / "records")
    assert record.finished and record.run["composition"]["buffer_size"] == 64


def test_ctrl_c_saves_and_gathers_every_job(
    cluster: Any, local: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called again, on this machine this time, the study goes on from there."""
    from smix_pz.benchmarks import launch_ray

    monkeypatch.setattr(launch_ray, "SYNC_EVERY", 0.2)

    def interrupting(out: Path, changes: dict[str, bytes | None]) -> None:
        apply_changes(out, changes)
        if any("/state-" in name and "state-0000000000" not in name for name in changes) and not stopped:
            stopped.append(1)
            os.kill(os.getpid(), signal.SIGINT)

    stopped: list[int] = []
    monkeypatch.setattr(launch_ray, "apply_changes", interrupting)
    jobs = jobs_in(tmp_path, settings={"checkpoint_every": 0.5, "hidden_dim": 16})
    with pytest.raises(Stopped):
        launch(jobs, tmp_path, Launch("ray", address=cluster.address), quiet())
    states = [status.status for status in read_statuses(tmp_path)]
    assert "stopped" in states and "running" not in states
    assert (tmp_path / "jobs.json").is_file() and len(remaining(jobs)) >= 1
    run_local(remaining(jobs), tmp_path, 1, quiet())
    assert numbers(tmp_path) == local


def test_a_study_survives_the_loss_of_a_node(
    cluster: Any, local: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs go on elsewhere from what was gathered, and the results are the local ones, bit for bit."""
    from smix_pz.benchmarks import launch_ray

    monkeypatch.setattr(launch_ray, "SYNC_EVERY", 0.2)
    gathered: list[tuple[str, int]] = []

    def losing(out: Path, changes: dict[str, bytes | None]) -> None:
        """The second node is killed as soon as a job has sent a checkpoint from the middle."""
        apply_changes(out, changes)
        states = [name for name in changes if "/state-" in name and changes[name] is not None]
        gathered.extend((name, int(name.split("state-")[1].split(".")[0])) for name in states)
        begun = {path.parent for path in out.parent.rglob("state-*") if not path.name.startswith("state-0000000000")}
        if len(begun) == 2 and cluster.workers:
            cluster.remove_node(cluster.workers.pop(), allow_graceful=False)
            cluster.workers.clear()

    monkeypatch.setattr(launch_ray, "apply_changes", losing)
    jobs = jobs_in(tmp_path)
    with (tmp_path / "said.txt").open("w") as said:
        how = Launch("ray", address=cluster.address)
        launch(jobs, tmp_path, how, Console(file=said, width=200))
    assert not cluster.workers, "no node was lost, so nothing was tested"
    text = (tmp_path / "said.txt").read_text()
    assert "goes on elsewhere" in text and "3 node(s), 2 CPUs" in text
    assert numbers(tmp_path) == local
    assert all((job_folder(job.config) / "done.json").is_file() for job in jobs)
    assert remaining(jobs_in(tmp_path)) == []


def test_a_node_keeps_nothing_and_knows_no_path_of_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task itself, without Ray: what it yields, written elsewhere, is what training there would have left."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    (job,) = jobs_in(tmp_path / "study", algorithms=["vdn"], runs=1, steps=300)
    config = dataclasses.replace(job.config, out=None)
    for changes in train_on_node(config, {}, None, 0.0):
        assert str(tmp_path) not in "".join(changes)
        apply_changes(tmp_path / "gathered", changes)
    assert list(scratch.iterdir()) == []
    run_local([job], tmp_path / "study", 1, quiet())
    assert job.config.out is not None
    folders = (tmp_path / "gathered", job.config.out)
    # How the replay is cut into files depends on the clock, and a lock is not gathered.
    names = [
        {re.sub(r"(replay|end)-.*", r"\1", path.relative_to(f).as_posix()) for path in f.rglob("*")} for f in folders
    ]
    assert names[0] == {name for name in names[1] if not name.endswith("lock")}
    records = [f / "seed-0000.jsonl" for f in folders]
    assert read_record(records[0]).metrics == read_record(records[1]).metrics
