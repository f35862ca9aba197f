"""Evaluations in TensorBoard, W&B (offline) and MLflow (a local store), read back by the libraries' own readers."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_resume import job, killed_after

from smix_pz.cli import main
from smix_pz.config import TrainConfig
from smix_pz.records import read_record
from smix_pz.training import train

Points = dict[int, list[tuple[int, float]]]  # seed -> (environment steps, return)


def expected(out: Path) -> Points:
    records = (read_record(out / f"seed-{seed:04d}.jsonl") for seed in (3, 5, 8))
    return {r.run["seed"]: [(row["t_env"], row["eval/return"]) for row in r.metrics] for r in records}


def resumed(out: Path, *track: str) -> None:
    """A job with trackers, stopped once in the middle."""
    settings: dict[str, Any] = {"track": track}
    with killed_after(12), pytest.raises(KeyboardInterrupt):
        train(job(out, **settings))
    train(job(out, **settings))


def test_tensorboard(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    resumed(tmp_path, "tensorboard")
    for seed, points in expected(tmp_path).items():
        found = events.EventAccumulator(str(tmp_path / f"seed-{seed:04d}"))
        found.Reload()
        assert [(e.step, pytest.approx(e.value)) for e in found.Scalars("eval/return")] == points


def leveldb_log(data: bytes, offset: int) -> Iterator[bytes]:
    """Records of LevelDB's log format: blocks of 32 KiB; checksum, length, type (1: whole, 2 to 4: its parts)."""
    at, parts = 0, b""
    while at + 7 <= len(data):
        room = 32768 - (at + offset) % 32768
        if room < 7:
            at += room
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        if not kind:
            return
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the files that would be sent, in W&B's own messages."""
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    resumed(tmp_path, "wandb")
    found: Points = {}
    ids: dict[int, set[str]] = {}
    for path in sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb")):
        seed = -1
        for data in leveldb_log(path.read_bytes()[7:], offset=7):  # behind W&B's own header
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                seed = int(record.run.display_name.rpartition("-")[2])
                ids.setdefault(seed, set()).add(record.run.run_id)
            if record.WhichOneof("record_type") == "history":
                row = {(i.key or "/".join(i.nested_key)): i.value_json for i in record.history.item}
                found.setdefault(seed, []).append((record.history.step.num, float(row["eval/return"])))
    points = {seed: sorted(set(values)) for seed, values in found.items()}
    assert points == expected(tmp_path)
    assert all(len(names) == 1 for names in ids.values()) and len(set.union(*ids.values())) == 3


def test_mlflow_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    resumed(tmp_path / "out", "mlflow")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("smix on tiny_envs:Chance")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 3 and {run.info.status for run in runs} == {"FINISHED"}
    found: Points = {}
    for run in runs:
        assert run.data.params["buffer_size"] == "40"
        history = {(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "eval/return")}
        found[int(run.data.params["seed"])] = sorted(history)
    assert found == expected(tmp_path / "out")


@pytest.mark.parametrize("name", ["wandb", "mlflow", "tensorboard"])
def test_a_tracker_that_is_not_installed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (name, "mlflow.tracking", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{name} is not installed: pip install 'smix-pz\[{name}\]'"):
        train(job(tmp_path, track=(name,)))


def test_an_unknown_tracker(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="did you mean 'wandb'"):
        TrainConfig(track=("wandbb",))  # type: ignore[arg-type]
    with pytest.raises(SystemExit):
        main(["train", "--track", "wandbb"])
