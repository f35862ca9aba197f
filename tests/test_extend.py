"""A finished job that is asked for more steps is the job that was asked for them at once, bit for bit."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import assert_same_job, content, job, killed_after

import smix_pz
from smix_pz.records import read_record
from smix_pz.training import train


def extended(out: Path, lengths: tuple[int, ...], **changes: Any) -> Any:
    for steps in lengths:
        result = train(job(out, steps=steps, checkpoint_every=1000.0, **changes))
    return result


@pytest.mark.parametrize(
    "lengths",
    [
        (120, 300),  # evaluations lie on the grid
        (130, 300),  # the short job's last evaluation does not
        (47, 110, 300),  # twice; the first time before the replay is full
        (1, 300),  # before the first update
    ],
    ids=str,
)
@pytest.mark.parametrize("algorithm", ["smix", "coma-r"])
def test_more_steps(lengths: tuple[int, ...], algorithm: str, tmp_path: Path) -> None:
    settings = {"algorithm": algorithm, "coma_epsilon_steps": 200, "absolute_episodes": 5}
    once = train(job(tmp_path / "once", **settings))
    ends = {record.end["t_env"] for record in once.records}
    assert len(ends) > 1  # runs leave the stack one by one, and are back in it when it is extended
    result = extended(tmp_path / "parts", lengths, **settings)
    assert_same_job(tmp_path / "once", tmp_path / "parts", (once, result))
    for seed in (3, 5, 8):
        one, other = (read_record(tmp_path / name / f"seed-{seed:04d}.jsonl") for name in ("once", "parts"))
        assert [more["from_steps"] for more in other.run["extended"]] == list(lengths[:-1])
        assert {k: v for k, v in one.end.items() if k != "wall_seconds"} == {
            k: v for k, v in other.end.items() if k != "wall_seconds"
        }
        best = [smix_pz.load(tmp_path / name / f"seed-{seed:04d}.best.safetensors") for name in ("once", "parts")]
        assert all(torch.equal(best[0].params[name], best[1].params[name]) for name in best[0].params)
        assert best[0].about == best[1].about


@pytest.mark.parametrize("groups", [1, 3, 12])
def test_killed_while_it_is_extended(groups: int, tmp_path: Path) -> None:
    """Before the first new checkpoint, between two, and when runs have finished again."""
    once = train(job(tmp_path / "once"))
    train(job(tmp_path / "parts", steps=150))
    with killed_after(groups), pytest.raises(KeyboardInterrupt):
        train(job(tmp_path / "parts", checkpoint_every=1000.0 if groups == 1 else 0.0))
    assert_same_job(tmp_path / "once", tmp_path / "parts", (once, train(job(tmp_path / "parts"))))


@pytest.mark.parametrize("groups", [5, 10])
def test_an_unfinished_job_can_be_asked_for_more(groups: int, tmp_path: Path) -> None:
    once = train(job(tmp_path / "once"))
    with killed_after(groups), pytest.raises(KeyboardInterrupt):
        train(job(tmp_path / "parts", steps=130))
    assert_same_job(tmp_path / "once", tmp_path / "parts", (once, train(job(tmp_path / "parts"))))


def test_what_a_finished_job_keeps(tmp_path: Path) -> None:
    """One state and its replay: the episodes that the ring held, each once."""
    train(job(tmp_path, steps=300))
    (folder,) = tmp_path.glob("job-*")
    names = sorted(path.name for path in folder.iterdir())
    assert names[:1] == ["done.json"] and len([n for n in names if n.startswith("end-")]) == 1
    assert json.loads((folder / "done.json").read_text())["extendable"] is True
    spans = [tuple(map(int, n.split(".")[0].split("-")[1:])) for n in names if n.startswith("replay-")]
    assert not [n for n in names if n.startswith("state-")]
    for (_, stop), (start, _) in itertools.pairwise(spans):
        assert stop == start
    end = int(next(n for n in names if n.startswith("end-")).split(".")[0].split("-")[1])
    assert spans[-1][1] == end and 40 <= end - spans[0][0] < 44  # buffer_size is 40, a group 4


@pytest.mark.parametrize("changes", [{"keep_final": 0.0}, {"keep_final": 1e-6}, {}], ids=str)
def test_without_its_end_it_cannot_be_extended(changes: dict[str, Any], tmp_path: Path) -> None:
    """Refused, and everything stays as it is; so also when somebody has removed it."""
    train(job(tmp_path, steps=120, **changes))
    (folder,) = tmp_path.glob("job-*")
    if not changes:
        for path in folder.glob("replay-*"):
            path.unlink()
        with pytest.warns(UserWarning, match="is missing"), pytest.raises(ValueError, match="cannot be extended"):
            train(job(tmp_path, steps=300))
        return
    assert not list(folder.glob("*.safetensors"))
    assert json.loads((folder / "done.json").read_text())["extendable"] is False
    before = content(tmp_path)
    with pytest.raises(ValueError, match=r"120 steps, whose last checkpoint was not kept .* extended to 300"):
        train(job(tmp_path, steps=300))
    assert content(tmp_path) == before
    shutil.rmtree(tmp_path)
    assert train(job(tmp_path, steps=300)).records[0].finished


@pytest.mark.parametrize("factor", [9, 11])
def test_an_end_is_kept_up_to_a_tenth_of_the_free_disk(
    factor: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default. Runs of equal seeds have checkpoints of equal size, so a first job tells how large one is."""
    train(job(tmp_path / "first", steps=120))
    (folder,) = (tmp_path / "first").glob("job-*")
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    usage = shutil.disk_usage(tmp_path)._replace(free=factor * size)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    train(job(tmp_path / "second", steps=120))
    (folder,) = (tmp_path / "second").glob("job-*")
    assert json.loads((folder / "done.json").read_text())["extendable"] is (factor > 10)
    assert bool(list(folder.glob("*.safetensors"))) is (factor > 10)


def test_fewer_steps_are_refused(tmp_path: Path) -> None:
    train(job(tmp_path, steps=120))
    before = content(tmp_path)
    with pytest.raises(ValueError, match="steps = 120, this job has 60"):
        train(job(tmp_path, steps=60))
    assert content(tmp_path) == before
