"""Checkpoints: the whole state of a training job in one file, written atomically; a resumed job is the same job.

The file holds parameters, targets, optimizer statistics, replay, counters, records' lengths and every random
stream. It is made between two groups of episodes, where no environment is inside an episode. Loading executes
nothing (``weights_only``).
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from smix_pz.episodes import EpisodeBatch
from smix_pz.files import atomic_path
from smix_pz.policy import Policy
from smix_pz.provenance import recorded_settings

if TYPE_CHECKING:
    from smix_pz.training import Trainer

_FORMAT = 2


def save_checkpoint(trainer: Trainer, path: Path) -> None:
    """Write the trainer's state."""
    learner, replay = trainer.learner, trainer.replay
    plain = {
        "format": _FORMAT,
        "config": _identity(trainer),
        "episodes": trainer.episodes,
        "seconds": trainer.seconds(),
        "n_updates": learner.n_updates,
        "episodes_at_sync": learner.episodes_at_sync,
        "replay_size": replay.size,
        "replay_next": replay.next,
        "active": [run.index for run in trainer.active],
        "runs": [run.state() for run in trainer.runs],
    }
    tensors: dict[str, Any] = {
        "parameters": learner.stack.buffer,
        "optimizer": learner.optimizer.state,
        # Only the filled part of the ring.
        "replay": {f.name: getattr(replay.storage, f.name)[:, : replay.size] for f in fields(EpisodeBatch)},
        "metrics": dict(trainer.metrics),
    }
    with atomic_path(path) as temporary:
        torch.save({"plain": json.dumps(plain), "tensors": _detached(tensors)}, temporary)


def load_checkpoint(trainer: Trainer, path: Path) -> bool:
    """Put a trainer where the checkpoint was made. False if there is none, or it is of another job."""
    if not path.is_file():
        return False
    stored = torch.load(path, map_location=trainer.device, weights_only=True)
    plain, tensors = json.loads(stored["plain"]), stored["tensors"]
    if plain["format"] != _FORMAT or plain["config"] != _identity(trainer):
        return False
    from smix_pz.training import policy_path

    for run, state in zip(trainer.runs, plain["runs"], strict=True):
        run.restore(state, trainer)
        if run.end:
            run.policy = Policy.load(policy_path(trainer.config, run.seed))
    keep = [trainer.runs[index] for index in plain["active"]]
    if len(keep) < len(trainer.runs):
        trainer.keep_rows(torch.tensor(plain["active"], device=trainer.device))
    trainer.active = keep
    learner, replay = trainer.learner, trainer.replay
    learner.stack.buffer.copy_(tensors["parameters"])
    learner.optimizer.load(tensors["optimizer"])
    learner.n_updates, learner.episodes_at_sync = plain["n_updates"], plain["episodes_at_sync"]
    replay.size, replay.next = plain["replay_size"], plain["replay_next"]
    for name, field in tensors["replay"].items():
        getattr(replay.storage, name)[:, : replay.size] = field
    trainer.episodes, trainer.metrics = plain["episodes"], tensors["metrics"]
    trainer.seconds_before = plain["seconds"]
    return True


def remove_checkpoint(path: Path) -> None:
    """Nothing is left to resume."""
    path.unlink(missing_ok=True)


def _identity(trainer: Trainer) -> dict[str, Any]:
    """What has to be equal for a checkpoint to continue a job."""
    settings = {**recorded_settings(trainer.config), "seeds": trainer.config.seeds}
    identity: dict[str, Any] = json.loads(json.dumps({**settings, "engine": dict(trainer.spec.engine)}))
    return identity


def _detached(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _detached(item) for key, item in value.items()}
    return value.detach().clone()
