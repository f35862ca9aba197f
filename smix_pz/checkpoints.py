"""Checkpoints: the whole state of a training job, written atomically; a resumed job is the same job.

A checkpoint is taken between two groups of episodes, where no environment is inside an episode. It consists of

* ``state-EPISODES.safetensors``: parameters, targets, optimizer statistics, best policies, counters, evaluations so
  far, and every random stream;
* ``replay-FROM-TO.safetensors``: the episodes of the replay, by their numbers. Every episode is written once: a new
  checkpoint adds a file with the episodes since the last one and shares the older files.

The newest ``keep_checkpoints`` stay, and with them the one called ``end``: taken when the first run of the stack has
made its steps and before it is evaluated, it holds all runs, and is what a finished job is extended from.

Files are safetensors, so loading executes nothing. Each carries a checksum of its content. One that is damaged, or of
another job, is refused with a warning and put aside, and the one before it is used.
"""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from smix_pz.episodes import EpisodeBatch
from smix_pz.files import atomic_path
from smix_pz.policy import Policy
from smix_pz.provenance import git_commit, recorded_settings, versions

if TYPE_CHECKING:
    from smix_pz.algorithms.replay import EpisodeReplay
    from smix_pz.training import Trainer

_FORMAT = "smix_pz checkpoint 3"


class Refused(ValueError):
    """A file is no checkpoint that this job can go on from; the message says why."""


class CheckpointWarning(UserWarning):
    """A checkpoint was refused, or was made by other versions."""


@dataclass(frozen=True)
class _Segment:
    """A replay file: episodes ``start`` to ``stop - 1`` of the runs ``rows``."""

    start: int
    stop: int
    rows: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"replay-{self.start:010d}-{self.stop:010d}.safetensors"


class CheckpointStore:
    """The checkpoints of one job, in its folder."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self._keep = folder, keep
        self._segments: list[_Segment] = []  # of the replay as it is on disk, oldest first
        self._needs: dict[str, list[str]] = {}  # state file -> the replay files that belong to it, oldest first

    # Writing ----------------------------------------------------------------------------------------------------

    def save(self, trainer: Trainer, *, end: bool = False) -> Path:
        """Write the trainer's state; older checkpoints that are not to be kept are removed afterwards.

        Raises:
            OSError: the disk is full or the folder cannot be written; earlier checkpoints are as they were.
        """
        name = f"{'end' if end else 'state'}-{trainer.episodes:010d}.safetensors"
        try:
            self._save_replay(trainer)
            write_tensors(self.folder / name, *_state_of(trainer, self._segments))
        except OSError as error:
            good = self.newest()
            raise OSError(
                error.errno,
                f"cannot write a checkpoint: {error.strerror}; "
                + (f"the last good one is {good.name}" if good else "there is no earlier one"),
                str(self.folder / name),
            ) from error
        self._needs[name] = [segment.name for segment in self._segments]
        self._prune()
        return self.folder / name

    def _save_replay(self, trainer: Trainer) -> None:
        replay, episodes = trainer.replay, trainer.episodes
        oldest = episodes - replay.size
        kept = [segment for segment in self._segments if segment.stop > oldest]
        start = max(oldest, kept[-1].stop if kept else 0)
        if start < episodes:
            segment = _Segment(start, episodes, tuple(run.index for run in trainer.active))
            about = {"kind": "replay", "start": start, "stop": episodes, "rows": list(segment.rows)}
            write_tensors(self.folder / segment.name, about, _ring_read(replay, start, episodes))
            kept.append(segment)
        self._segments = kept

    def _prune(self) -> None:
        """Remove what no checkpoint to be kept needs."""
        states = sorted((name for name in self._needs if name.startswith("state-")), reverse=True)
        ends = sorted((name for name in self._needs if name.startswith("end-")), reverse=True)
        self._keep_only(states[: self._keep] + ends[:1])

    def _keep_only(self, states: list[str]) -> None:
        self._needs = {name: self._needs[name] for name in states}
        needed = set(states).union(*self._needs.values())
        for path in self.folder.glob("*.safetensors"):
            # A name that begins with a dot is what a killed process was writing.
            if path.name not in needed and path.name.lstrip(".").startswith(("state-", "end-", "replay-")):
                path.unlink(missing_ok=True)

    def finish(self, most_bytes: float) -> bool:
        """The job is done: keep its end for an extension if it takes at most so many bytes. Whether it was kept."""
        ends = sorted((name for name in self._needs if name.startswith("end-")), reverse=True)[:1]
        names = ends + [part for name in ends for part in self._needs[name]]
        there = [self.folder / name for name in names if (self.folder / name).is_file()]
        kept = bool(ends) and len(there) == len(names) and sum(path.stat().st_size for path in there) <= most_bytes
        self._keep_only(ends if kept else [])
        return kept

    # Reading ----------------------------------------------------------------------------------------------------

    def newest(self) -> Path | None:
        """The newest state file that is known to be whole."""
        found = sorted(self._needs, key=_episodes_in)
        return self.folder / found[-1] if found else None

    def load(self, trainer: Trainer) -> bool:
        """Put a trainer where the newest usable checkpoint was made; False if there is none.

        A checkpoint of fewer steps than are wanted now is used if all runs were still in the stack, as in a job that
        was asked for more steps from the beginning.

        Raises:
            ValueError: the job was asked for more steps before.
        """
        found: list[tuple[Path, dict[str, Any], list[_Segment]]] = []
        for path in self._candidates():
            try:
                about, tensors = read_tensors(path)
                segments = self._check(path, about, trainer)
                if not found and not (about["steps"] < trainer.config.steps and any(r["end"] for r in about["runs"])):
                    parts = [(segment, self._read_segment(segment)) for segment in segments]
                    _restore(trainer, about, tensors, parts)
                    found.append((path, about, segments))
            except Refused as error:
                aside = path.with_suffix(".refused")
                path.replace(aside)
                warnings.warn(
                    f"{error}; it was put aside as {aside.name}, and the checkpoint before it is looked for",
                    CheckpointWarning,
                    stacklevel=2,
                )
                continue
            self._needs[path.name] = [segment.name for segment in segments]
        if not found:
            self._needs = {}
            return False
        path, about, segments = found[0]
        self._segments = segments
        # What is beyond it is of an attempt that is gone on from elsewhere; the next checkpoint removes it.
        self._needs = {n: parts for n, parts in self._needs.items() if _episodes_in(n) <= about["episodes"]}
        now = {"smix_pz", "torch", "numpy"}
        if others := [f"{n} {about['versions'][n]}" for n in sorted(now) if about["versions"].get(n) != versions()[n]]:
            warnings.warn(
                f"{path.name} was made by {', '.join(others)}; going on with other versions, so bits may differ",
                CheckpointWarning,
                stacklevel=2,
            )
        return True

    def scan(self) -> None:
        """Learn which checkpoints there are, without going on from one."""
        for path in self._candidates():
            try:
                about, _ = read_tensors(path)
            except Refused:
                continue
            self._needs[path.name] = [
                _Segment(start, stop, tuple(rows)).name for start, stop, rows in about["segments"]
            ]

    def _candidates(self) -> list[Path]:
        """State files, newest first."""
        paths = [*self.folder.glob("state-*.safetensors"), *self.folder.glob("end-*.safetensors")]
        return sorted(paths, key=lambda path: (_episodes_in(path.name), path.name), reverse=True)

    def _check(self, path: Path, about: dict[str, Any], trainer: Trainer) -> list[_Segment]:
        if about.get("kind") != "state":
            raise Refused(f"{path} is no state of a job")
        ours = identity(trainer)
        for key in sorted({*ours, *about["identity"]}):
            if ours.get(key) != about["identity"].get(key):
                raise Refused(
                    f"{path} is of another job: its {key} is {about['identity'].get(key)!r}, "
                    f"this job's {ours.get(key)!r}"
                )
        if about["steps"] > trainer.config.steps:
            raise ValueError(
                f"{path} is of a job of steps = {about['steps']}, this job has {trainer.config.steps}; "
                "ask for as many or more, or choose another out"
            )
        return [_Segment(start, stop, tuple(rows)) for start, stop, rows in about["segments"]]

    def _read_segment(self, segment: _Segment) -> dict[str, Tensor]:
        about, tensors = read_tensors(self.folder / segment.name)
        there = (about.get("kind"), about.get("start"), about.get("stop"), tuple(about.get("rows", ())))
        if there != ("replay", segment.start, segment.stop, segment.rows):
            raise Refused(f"{self.folder / segment.name} holds {there}, not the episodes of its name")
        return tensors


def identity(trainer: Trainer) -> dict[str, Any]:
    """What has to be equal for a checkpoint to continue a job; the number of steps may grow."""
    settings = {**recorded_settings(trainer.config), "seeds": trainer.config.seeds, "engine": dict(trainer.spec.engine)}
    settings.pop("steps")
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _state_of(trainer: Trainer, segments: list[_Segment]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    learner = trainer.learner
    about = {
        "kind": "state",
        "identity": identity(trainer),
        "versions": versions(),
        "steps": trainer.config.steps,
        "episodes": trainer.episodes,
        "seconds": trainer.seconds(),
        "n_updates": learner.n_updates,
        "episodes_at_sync": learner.episodes_at_sync,
        "replay_size": trainer.replay.size,
        "segments": [[segment.start, segment.stop, list(segment.rows)] for segment in segments],
        "active": [run.index for run in trainer.active],
        "runs": [run.state() for run in trainer.runs],
    }
    tensors = {"parameters": learner.stack.buffer}
    tensors |= {f"optimizer/{name}": value for name, value in learner.optimizer.state.items()}
    tensors |= {f"metrics/{name}": value for name, value in trainer.metrics.items()}
    for run in trainer.runs:
        for kind, policy in (("final", run.policy), ("best", run.best_policy)):
            if policy is not None:
                tensors |= {f"{kind}/{run.index}/{name}": value for name, value in policy.params.items()}
    return about, tensors


def _restore(
    trainer: Trainer,
    about: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    parts: list[tuple[_Segment, dict[str, Tensor]]],
) -> None:
    expected = (2, len(about["active"]), trainer.learner.stack.buffer.shape[2])
    if tuple(tensors["parameters"].shape) != expected:
        raise Refused(f"its parameters have shape {tuple(tensors['parameters'].shape)}; {expected} was expected")
    if len(about["active"]) < len(trainer.runs):
        trainer.keep_rows(torch.tensor(about["active"], device=trainer.device))
    trainer.active = [trainer.runs[index] for index in about["active"]]
    learner, replay = trainer.learner, trainer.replay
    learner.stack.buffer.copy_(tensors["parameters"])
    learner.optimizer.load({n.split("/", 1)[1]: t for n, t in tensors.items() if n.startswith("optimizer/")})
    learner.n_updates, learner.episodes_at_sync = about["n_updates"], about["episodes_at_sync"]
    trainer.episodes, trainer.seconds_before = about["episodes"], about["seconds"]
    trainer.metrics = {n.split("/", 1)[1]: t.to(trainer.device) for n, t in tensors.items() if n.startswith("metrics/")}
    oldest = trainer.episodes - about["replay_size"]
    replay.size, replay.next = about["replay_size"], trainer.episodes % replay.capacity
    for segment, stored in parts:
        rows = [segment.rows.index(index) for index in about["active"]]
        _ring_write(replay, {name: field[rows] for name, field in stored.items()}, segment.start, oldest)
    for run, state in zip(trainer.runs, about["runs"], strict=True):
        run.restore(state)
        for kind in ("final", "best"):
            prefix = f"{kind}/{run.index}/"
            params = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            if params:
                policy = Policy.of_run(trainer.config, trainer.spec, trainer.algorithm, run.seed, learner.agent, params)
                setattr(run, {"final": "policy", "best": "best_policy"}[kind], policy)
    if about["steps"] < trainer.config.steps:
        for run in trainer.runs:
            more = {"from_steps": about["steps"], "versions": versions(), "git_commit": git_commit()}
            run.header = {
                **run.header,
                "config": {**run.header["config"], "steps": trainer.config.steps},
                "extended": [*run.header.get("extended", ()), more],
            }


def _ring_read(replay: EpisodeReplay, start: int, stop: int) -> dict[str, Tensor]:
    """Episodes by their numbers, counted from the job's first: each field [R, stop - start, ...]."""
    index = torch.arange(start, stop, device=replay.storage.obs.device) % replay.capacity
    return {f.name: getattr(replay.storage, f.name).index_select(1, index) for f in fields(EpisodeBatch)}


def _ring_write(replay: EpisodeReplay, stored: Mapping[str, Tensor], start: int, oldest: int) -> None:
    """Put back what ``_ring_read`` took, but for episodes before ``oldest``, which the ring has forgotten."""
    skip = max(0, oldest - start)
    for name, field in stored.items():
        place = getattr(replay.storage, name)
        index = torch.arange(start + skip, start + field.shape[1], device=place.device) % replay.capacity
        place.index_copy_(1, index, field[:, skip:].to(place.device))


def _episodes_in(name: str) -> int:
    digits = name.partition("-")[2].partition(".")[0]
    return int(digits) if digits.isdigit() else -1


# Files ----------------------------------------------------------------------------------------------------------


def write_tensors(path: Path, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file with plain values beside the tensors and a checksum of both, atomically."""
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(about)
    metadata = {"format": _FORMAT, "about": text, "checksum": _checksum(text, held)}
    with atomic_path(path) as temporary:
        try:
            save_file(held, temporary, metadata)
        except OSError:
            raise
        except Exception as error:  # the library wraps what the system said
            raise OSError(None, str(error), str(path)) from error


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what ``write_tensors`` wrote.

    Raises:
        Refused: there is no such file, or it is damaged, or not one of ours.
    """
    if not path.is_file():
        raise Refused(f"{path} is missing")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise Refused(f"{path} has format {metadata.get('format')!r}; expected {_FORMAT!r}")
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
        about = json.loads(metadata["about"])
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"{path} is damaged: {error}") from error
    if metadata.get("checksum") != _checksum(metadata["about"], tensors):
        raise Refused(f"{path} is damaged: its checksum does not fit its content")
    return about, tensors


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    total = zlib.crc32(text.encode())
    for name in sorted(tensors):
        array: np.ndarray = tensors[name].numpy()
        total = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), total)
        total = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, total)
    return f"{total:08x}"
