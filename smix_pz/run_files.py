"""What runs leave below ``config.out``: where it lies, whether it is finished, and what a job may not overwrite."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from smix_pz.checkpoints import CheckpointStore
from smix_pz.config import TrainConfig
from smix_pz.jobs import job_folder, out_of, read_json, write_json
from smix_pz.provenance import recorded_settings
from smix_pz.records import RunRecord, read_record


def record_path(config: TrainConfig, seed: int) -> Path:
    """Where a run's record lies below ``config.out``."""
    return out_of(config) / f"seed-{seed:04d}.jsonl"


def policy_path(config: TrainConfig, seed: int) -> Path:
    """Where a run's trained policy lies."""
    return record_path(config, seed).with_suffix(".safetensors")


def best_policy_path(config: TrainConfig, seed: int) -> Path:
    """Where a run's policy with the best evaluation lies."""
    return record_path(config, seed).with_suffix(".best.safetensors")


def describe_job(config: TrainConfig) -> dict[str, Any]:
    """What ``job.json`` says."""
    return {"seeds": list(config.seeds), "config": comparable_settings(config)}


def conclude(config: TrainConfig, store: CheckpointStore | None = None, seconds: float | None = None) -> None:
    """All runs of a job have finished: drop what is not needed any more, and set the done-marker, last."""
    if store is None:
        store = CheckpointStore(job_folder(config), config.keep_checkpoints)
        store.scan()
    if config.keep_final is None:
        most = shutil.disk_usage(job_folder(config)).free / 10
    else:
        most = config.keep_final * 2**30
    kept = store.finish(most)
    done = {"seeds": list(config.seeds), "steps": config.steps, "seconds": seconds, "extendable": kept}
    write_json(job_folder(config) / "done.json", done)


def can_go_on(config: TrainConfig) -> bool:
    """Whether a job can be asked for ``config.steps``: not if it has finished with fewer and did not keep its end."""
    done = read_json(job_folder(config) / "done.json")
    return done is None or done["steps"] >= config.steps or done.get("extendable", True)


def comparable_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that runs have to share to be runs of the same thing; as they stand in a record."""
    settings: dict[str, Any] = json.loads(json.dumps(recorded_settings(config)))
    return settings


def check_records(config: TrainConfig) -> None:
    """Raise ValueError if all these runs have finished, or ``config.out`` holds runs of theirs with other settings."""
    records = [read_if_any(record_path(config, seed)) for seed in config.seeds]
    for record in records:
        if record is not None:
            check_same_settings(record, config)
    if all(record is not None and has_finished(record, config) for record in records):
        assert records[0] is not None
        raise ValueError(f"{records[0].path} holds a finished run; choose another out, or move it away")


def check_not_overwriting(config: TrainConfig) -> None:
    """Raise ValueError if ``config.out`` holds finished runs of these seeds, which a job from the start would lose."""
    for seed in config.seeds:
        path = record_path(config, seed)
        record = read_if_any(path)
        if record is None or not record.finished:
            continue
        if has_finished(record, config):
            raise ValueError(f"{path} holds a finished run; choose another out, or move it away")
        raise ValueError(
            f"{path} holds a run of {steps_of(record):,} steps, whose last checkpoint was not kept "
            f"(see keep_final), so it cannot be extended to {config.steps:,}; "
            "move it away to train it from the start, or choose another out"
        )


def steps_of(record: RunRecord) -> int:
    """The number of steps that a record's run was asked for."""
    return int(record.run["config"]["steps"])


def has_finished(record: RunRecord, config: TrainConfig) -> bool:
    """Whether the run has made the steps that ``config`` asks for."""
    return record.finished and steps_of(record) == config.steps


def read_if_any(path: Path) -> RunRecord | None:
    """The record at ``path``; None if there is none, or it was killed before its first line was whole."""
    if not path.is_file():
        return None
    try:
        return read_record(path)
    except ValueError:
        if path.read_bytes().count(b"\n"):
            raise
        return None


def check_same_settings(record: RunRecord, config: TrainConfig) -> None:
    """Raise ValueError, naming the first setting that differs, if a record was made with other settings.

    Fewer steps are no difference: the run can be extended.
    """
    there = record.run["config"]
    for key, here in comparable_settings(config).items():
        if there.get(key) != here and not (key == "steps" and there[key] < here):
            raise ValueError(
                f"{record.path} was made with {key} = {there.get(key)!r}, this job has {here!r}; "
                "choose another out, or move those results away"
            )
