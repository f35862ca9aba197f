"""A job that is killed and started again is the same job: parameters, record lines, streams."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

import smix_pz
from smix_pz.checkpoints import CheckpointStore
from smix_pz.config import TrainConfig
from smix_pz.records import read_record
from smix_pz.rollout import Collector
from smix_pz.training import TrainResult, train

SETTINGS: dict[str, Any] = {
    "env": "tiny_envs:Chance", "seeds": (3, 5, 8), "steps": 300, "eval_every": 60, "eval_episodes": 3,
    "batch_size": 8, "hidden_dim": 8, "mixing_embed_dim": 4, "qtran_embed_dim": 6, "epsilon_steps": 200,
    "target_update_episodes": 24, "buffer_size": 40, "checkpoint_every": 0.0, "progress": False,
}  # fmt: skip


def job(out: Path, **changes: Any) -> TrainConfig:
    return TrainConfig(**{**SETTINGS, "out": out, **changes})


@contextmanager
def killed_after(groups: int) -> Iterator[None]:
    """Training episodes stop with Ctrl-C in the middle of the group after so many."""
    collect = Collector.collect
    done = 0

    def dying(self: Collector, params: Any, epsilon: Any, exploration: Any, seeding: Any) -> Any:
        nonlocal done
        if len(exploration) and done == groups:
            collect(self, params, epsilon, exploration, seeding)  # the streams have moved when the signal comes
            raise KeyboardInterrupt
        done += bool(len(exploration))  # evaluations have none
        return collect(self, params, epsilon, exploration, seeding)

    with mock.patch.object(Collector, "collect", dying):
        yield


def lines(out: Path, seed: int) -> list[dict[str, Any]]:
    """A record's lines without clock times."""
    found = [json.loads(line) for line in (out / f"seed-{seed:04d}.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("started", "wall_seconds", "extended")} for line in found]


def files(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*"))


def assert_same_job(one: Path, other: Path, results: tuple[TrainResult, TrainResult]) -> None:
    assert results[0].config.seeds == results[1].config.seeds
    for index, seed in enumerate(results[0].config.seeds):
        assert lines(one, seed) == lines(other, seed)
        ours, theirs = (result.policies[index].params for result in results)
        assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
        saved = smix_pz.load(other / f"seed-{seed:04d}.safetensors").params
        assert all(torch.equal(ours[name], saved[name]) for name in ours)
        assert list(results[0].records[index].metrics) == list(results[1].records[index].metrics)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainResult]:
    """The job without interruption."""
    out = tmp_path_factory.mktemp("whole")
    return out, train(job(out))


@pytest.mark.parametrize("kills", [(1,), (7,), (30,), (2, 5, 9), (12, 25)], ids=str)
def test_killed_and_resumed(kills: tuple[int, ...], whole: tuple[Path, TrainResult], tmp_path: Path) -> None:
    """Once or repeatedly: before the first update, in the middle, when some runs have already finished."""
    for groups in kills:
        with killed_after(groups), pytest.raises(KeyboardInterrupt):
            train(job(tmp_path))
        assert list(tmp_path.glob("job-*/state-*.safetensors"))
    result = train(job(tmp_path))
    assert_same_job(whole[0], tmp_path, (whole[1], result))
    assert files(tmp_path) == files(whole[0])


def test_killed_when_some_runs_have_left(whole: tuple[Path, TrainResult], tmp_path: Path) -> None:
    """Their records are finished, their policies saved; the rest goes on without them."""
    groups = [record.metrics[-1]["train/episodes"] // 4 for record in whole[1].records]
    assert len(set(groups)) > 1
    with killed_after(min(groups)), pytest.raises(KeyboardInterrupt):
        train(job(tmp_path))
    ended = [read_record(tmp_path / f"seed-{seed:04d}.jsonl").finished for seed in SETTINGS["seeds"]]
    assert any(ended) and not all(ended)
    assert_same_job(whole[0], tmp_path, (whole[1], train(job(tmp_path))))


@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [
        ("qtran", {}),
        ("iql-r", {"optimizer": "adam", "agent_network": "ff"}),
        ("coma", {"buffer_size": None}),
        ("coma-r", {"coma_critic_dim": 6, "coma_critic_update": "sequential", "optimizer": "adam"}),
    ],
)
@pytest.mark.parametrize("groups", [1, 10, 25])
def test_other_algorithms_resume(algorithm: str, changes: dict[str, Any], groups: int, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    settings = {"algorithm": algorithm, "coma_epsilon_steps": 200, **changes}
    uninterrupted = train(job(one, **settings))
    with killed_after(groups), pytest.raises(KeyboardInterrupt):
        train(job(other, **settings))
    assert_same_job(one, other, (uninterrupted, train(job(other, **settings))))


def test_what_the_checkpoint_does_not_know_is_cut_off(whole: tuple[Path, TrainResult], tmp_path: Path) -> None:
    """A torn line, and whole lines written after the checkpoint: they are written anew, once."""
    with killed_after(20), pytest.raises(KeyboardInterrupt):
        train(job(tmp_path))
    record = tmp_path / "seed-0005.jsonl"
    known = record.read_bytes()
    record.write_bytes(known + b'{"kind": "metrics", "t_env": 999, "step": 999}\n{"kind": "metr')
    assert read_record(record).metrics[-1]["step"] == 999  # the reader drops the torn line only
    assert_same_job(whole[0], tmp_path, (whole[1], train(job(tmp_path))))


def test_killed_between_checkpoints(whole: tuple[Path, TrainResult], tmp_path: Path) -> None:
    """Evaluations since the checkpoint are repeated, not doubled."""
    saves = 0
    save = CheckpointStore.save

    def early_only(self: CheckpointStore, trainer: Any, **options: Any) -> None:
        nonlocal saves
        saves += 1
        if saves <= 10:
            save(self, trainer, **options)

    with mock.patch.object(CheckpointStore, "save", early_only), killed_after(25), pytest.raises(KeyboardInterrupt):
        train(job(tmp_path))
    assert saves > 20
    assert_same_job(whole[0], tmp_path, (whole[1], train(job(tmp_path))))


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "changes", [{"learning_rate": 1e-3}, {"steps": 299}, {"algorithm": "vdn"}, {"env": "tiny_envs:Masked"}], ids=str
)
def test_another_jobs_results_are_left_alone(changes: dict[str, Any], tmp_path: Path) -> None:
    """Neither continued nor written over: the setting that differs is named."""
    with killed_after(10), pytest.raises(KeyboardInterrupt):
        train(job(tmp_path))
    before = content(tmp_path)
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=f"{name} = .*this job has {value!r}"):
        train(job(tmp_path, **changes))
    assert content(tmp_path) == before


def test_a_finished_job_is_not_repeated_over_itself(tmp_path: Path) -> None:
    train(job(tmp_path))
    before = content(tmp_path)
    with pytest.raises(ValueError, match=r"seed-0003\.jsonl holds a finished run"):
        train(job(tmp_path))
    assert content(tmp_path) == before


def test_other_seeds_checkpoint_is_not_used(tmp_path: Path) -> None:
    """Seeds 3, 6, 8 start anew beside what 3, 5, 8 left, and leave it there."""
    with killed_after(10), pytest.raises(KeyboardInterrupt):
        train(job(tmp_path / "mixed"))
    left = {path: path.read_bytes() for path in (tmp_path / "mixed").glob("job-*/*.safetensors")}
    found = train(job(tmp_path / "mixed", seeds=(3, 6, 8)))
    assert left and {path: path.read_bytes() for path in left} == left
    expected = train(job(tmp_path / "fresh", seeds=(3, 6, 8)))
    assert_same_job(tmp_path / "fresh", tmp_path / "mixed", (expected, found))


def test_where_and_how_it_is_shown_may_change(whole: tuple[Path, TrainResult], tmp_path: Path) -> None:
    """Another folder and another checkpoint interval are still the same job."""
    with killed_after(10), pytest.raises(KeyboardInterrupt):
        train(job(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = train(job(tmp_path / "new", checkpoint_every=1000.0))
    assert_same_job(whole[0], tmp_path / "new", (whole[1], result))


@pytest.mark.parametrize("lost", [False, True])
def test_killed_before_the_first_timed_checkpoint(whole: tuple[Path, TrainResult], tmp_path: Path, lost: bool) -> None:
    """There is the one from the start; and a job that has lost it begins again."""
    with killed_after(5), pytest.raises(KeyboardInterrupt):
        train(job(tmp_path, checkpoint_every=1000.0))
    (checkpoint,) = tmp_path.glob("job-*/state-*.safetensors")
    if lost:
        checkpoint.unlink()
    assert not read_record(tmp_path / "seed-0003.jsonl").finished
    assert_same_job(whole[0], tmp_path, (whole[1], train(job(tmp_path))))


def test_a_resumed_job_finds_its_records(tmp_path: Path) -> None:
    """In memory, the result of a resumed job has the same paths as any other."""
    groups = min(r.metrics[-1]["train/episodes"] // 4 for r in train(job(tmp_path / "one")).records)
    with killed_after(groups), pytest.raises(KeyboardInterrupt):
        train(job(tmp_path / "two"))
    result = train(job(tmp_path / "two"))
    assert [record.path for record in result.records] == [tmp_path / "two" / f"seed-{s:04d}.jsonl" for s in (3, 5, 8)]


def test_killed_just_after_a_run_has_finished(tmp_path: Path) -> None:
    """Before any checkpoint: the job starts anew or goes on, but does not call itself another job's results."""
    with mock.patch.object(CheckpointStore, "save", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        train(job(tmp_path, checkpoint_every=1000.0))
    train(job(tmp_path, checkpoint_every=1000.0))
