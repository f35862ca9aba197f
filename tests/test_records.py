"""Records: what is written can be read, also after a kill, and nothing that is not JSON gets in."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from smix_pz.config import TrainConfig
from smix_pz.files import atomic_path, write_text
from smix_pz.records import RecordWriter, RunRecord, read_record, read_records
from smix_pz.training import train


def write(path: Path, end: bool = True) -> RecordWriter:
    writer = RecordWriter(path, {"algorithm": "smix", "seed": 3, "config": {"out": Path("a/b"), "seeds": (1, 2)}})
    writer.metrics(0, 0, {"eval/return": 1.5})
    writer.metrics(104, 100, {"eval/return": 2.5, "train/loss": 0.25})
    if end:
        writer.end(104, wall_seconds=1.25)
    return writer


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.jsonl"
    write(path)
    record = read_record(path)
    assert isinstance(record, RunRecord) and record.finished and record.path == path
    assert record.run["algorithm"] == "smix" and record.run["config"] == {"out": "a/b", "seeds": [1, 2]}
    assert [row["t_env"] for row in record.metrics] == [0, 104]
    assert record.end == {"kind": "end", "status": "finished", "t_env": 104, "wall_seconds": 1.25}
    assert record.series("eval/return") == ([0.0, 100.0], [1.5, 2.5])
    assert record.series("eval/return", x="t_env") == ([0.0, 104.0], [1.5, 2.5])
    assert record.series("train/loss") == ([100.0], [0.25])  # the lines that carry it
    assert record.series("eval/win_rate") == ([], [])
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == ["run", "metrics", "metrics", "end"]


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    writer = RecordWriter(path, {"limit": math.inf})
    writer.metrics(0, 0, {"a": math.nan, "b": np.float32(-math.inf), "c": torch.tensor(math.nan), "d": np.int64(7)})
    writer.close()
    text = path.read_text()
    assert "NaN" not in text and "Infinity" not in text
    record = read_record(path)
    assert record.run["limit"] is None
    assert record.metrics[0] == {"kind": "metrics", "t_env": 0, "step": 0, "a": None, "b": None, "c": None, "d": 7}
    assert record.series("a") == ([], []) and record.series("d") == ([0.0], [7.0])
    assert not record.finished and record.end == {}


def test_each_line_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    writer = write(path, end=False)
    assert len(read_record(path).metrics) == 2 and path.read_bytes().endswith(b"}\n")
    writer.close()


def test_a_record_torn_anywhere_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    """At every byte: as many metrics as whole lines, finished only with its end."""
    path = tmp_path / "run.jsonl"
    write(path)
    content = path.read_bytes()
    header = content.index(b"\n") + 1
    for size in range(header, len(content)):
        path.write_bytes(content[:size])
        record = read_record(path)
        assert len(record.metrics) == min(content[:size].count(b"\n") - 1, 2) and not record.finished
    for size in (0, 1, header - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match="not a run record"):
            read_record(path)


@pytest.mark.parametrize("there", ["longer", "torn", "missing", "other"])
def test_resuming_puts_the_record_back(there: str, tmp_path: Path) -> None:
    """Whatever the file holds by then, the resumed run goes on behind what its checkpoint knows."""
    path = tmp_path / "run.jsonl"
    known = [{"t_env": 0, "step": 0, "x": 1.0}]
    writer = RecordWriter(path, {"seed": 0})
    writer.metrics(0, 0, {"x": 1.0})
    expected = path.read_bytes()
    for k in range(10, 20):
        writer.metrics(k, k, {"x": 2.0})
    writer.close()
    if there == "torn":
        path.write_bytes(expected + b'{"kind": "met')
    elif there == "missing":
        path.unlink()
    elif there == "other":
        path.write_bytes(b'{"kind": "run", "seed": 1}\n' * 9)
    resumed = RecordWriter(path, {"seed": 0}, metrics=known)
    assert path.read_bytes() == expected
    resumed.metrics(10, 10, {"x": 3.0})
    resumed.end(10)
    assert read_record(path).series("x") == ([0.0, 10.0], [1.0, 3.0])
    assert read_record(path).finished and [p.name for p in tmp_path.iterdir()] == ["run.jsonl"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named() -> None:
    """With the file: the system says only that there is no space."""
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        RecordWriter(Path("/dev/full"), {"seed": 0})


def test_writing_anew_replaces(tmp_path: Path) -> None:
    write(tmp_path / "run.jsonl")
    RecordWriter(tmp_path / "run.jsonl", {"seed": 9}).close()
    record = read_record(tmp_path / "run.jsonl")
    assert record.run["seed"] == 9 and record.metrics == () and not record.finished


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"kind": "metrics", "t_env": 0}\n', "not a run record"),
        ('{"kind": "run", "format": 99}\n', "format 99; this version reads up to 1"),
        ('{"kind": "run", "format": 1}\nnonsense\n{"kind": "end"}\n', "not JSON: b'nonsense"),
    ],
)
def test_other_files_are_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_record(path)


def test_all_records_below_a_folder(tmp_path: Path) -> None:
    for name in ("b/seed-1.jsonl", "a/seed-2.jsonl", "a/deep/seed-0.jsonl"):
        write(tmp_path / name)
    (tmp_path / "empty.jsonl").touch()  # killed before its header
    (tmp_path / "notes.txt").write_text("not a record")
    found = [record.path.relative_to(tmp_path).as_posix() for record in read_records(tmp_path) if record.path]
    assert found == ["a/deep/seed-0.jsonl", "a/seed-2.jsonl", "b/seed-1.jsonl"]
    assert read_records(tmp_path / "nothing") == []


def test_a_job_says_what_made_its_numbers(tmp_path: Path) -> None:
    """The header of a real run, and that the file holds what the result holds."""
    config = TrainConfig(
        env="matrix_game_v0", env_kwargs={"m": 2}, algorithm="smix", td_lambda=0.3, seeds=(4, 5), steps=30,
        eval_every=10, eval_episodes=2, batch_size=4, hidden_dim=8, out=tmp_path, progress=False,
    )  # fmt: skip
    result = train(config)
    records = read_records(tmp_path)
    assert [record.run["seed"] for record in records] == [4, 5]
    for record, in_memory in zip(records, result.records, strict=True):
        header = record.run
        assert header["algorithm"] == "smix" and header["env_kwargs"] == {"m": 2}
        assert header["engine"]["name"] and header["engine"]["version"] and header["stacked_with"] == 2
        assert header["config"]["td_lambda"] == 0.3 and header["config"]["updates_per_group"] == 1
        assert header["composition"]["returns"]["td_lambda"] == 0.3 and header["composition"]["buffer_size"] == 1500
        assert {"smix_pz", "torch", "numpy", "pettingzoo", "python"} <= set(header["versions"])
        assert "git_commit" in header and "out" not in header["config"]
        written = [{k: v for k, v in row.items() if k != "kind"} for row in record.metrics]
        assert written == list(in_memory.metrics) and len(written) == 4
        assert record.end["t_env"] == in_memory.end["t_env"] and record.end["wall_seconds"] > 0
        assert in_memory.path == record.path


def test_atomic_files(tmp_path: Path) -> None:
    """The old content or the new, and no rubbish left behind."""
    path = tmp_path / "sub" / "file.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        raise RuntimeError
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new" and [p.name for p in path.parent.iterdir()] == ["file.txt"]
