"""What this machine has, and what a job needs of it: cores, memory, disk."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from smix_pz import envs
from smix_pz.algorithms import resolve
from smix_pz.algorithms.replay import EpisodeReplay
from smix_pz.benchmarks.suite import Job
from smix_pz.config import TrainConfig
from smix_pz.envs.registry import series_arguments
from smix_pz.memory import available_bytes, readable
from smix_pz.records import plain

# A process with PyTorch and Numba, before it has any data of its own (measured: docs/studies.md).
PROCESS_BYTES = 450 * 2**20
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Need:
    """What a job takes, in bytes.

    Attributes:
        memory: of its process at its largest: PyTorch itself, the replay, and one update.
        disk: of its checkpoints while it runs, mostly the replay.
    """

    memory: int
    disk: int


def need_of(config: TrainConfig) -> Need:
    """An estimate of what a job takes, without starting it."""
    kwargs = json.dumps(plain(config.env_kwargs), sort_keys=True)
    spec = _spec(config.env, kwargs, config.episode_limit)
    algorithm = resolve(config.algorithm, config)
    capacity = max(algorithm.buffer_size, config.parallel_episodes)
    n_runs, limit = len(config.seeds), spec.episode_limit
    state_dim = spec.state_dim if algorithm.uses_state else 0
    episode = EpisodeReplay.estimate_bytes(
        1, 1, episode_limit=limit, n_agents=spec.n_agents, n_actions=spec.n_actions, obs_dim=spec.obs_dim,
        state_dim=state_dim, obs_dtype=torch.uint8 if spec.obs_dtype == "uint8" else torch.float32,
        keep_behaviour=algorithm.returns.needs_behaviour,
    )  # fmt: skip
    replay = n_runs * capacity * episode
    drawn = min(config.batch_size if algorithm.buffer_size else capacity, capacity)
    batch = n_runs * config.updates_per_group * drawn * episode
    # One update: inputs, gates, hidden states, values of every agent at every time, online and target, with gradients.
    rows = n_runs * drawn * (limit + 1)
    update = 4 * rows * (spec.n_agents * (2 * spec.obs_dim + 24 * config.hidden_dim + 6 * spec.n_actions))
    update += 4 * rows * (4 * state_dim + config.mixing_embed_dim * (spec.n_agents + 4) * 3)
    return Need(PROCESS_BYTES + replay + 2 * batch + update, int(1.1 * replay) + 2**20 * n_runs)


@lru_cache(maxsize=64)
def _spec(env: str, env_kwargs: str, episode_limit: int | None) -> envs.TeamSpec:
    options = {"episode_limit": episode_limit, "reward": "mean", **series_arguments(env, json.loads(env_kwargs))}
    vector = envs.make_vector_env(env, 1, **options)
    try:
        return vector.team_spec
    finally:
        vector.close()


def cores() -> int:
    """Cores that this process may use, a container's share counted in."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        if quota != "max":
            found = min(found, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return found


def available_memory() -> int | None:
    """Bytes of memory that are free for new processes; None where nothing says."""
    return available_bytes(torch.device("cpu"))


@dataclass(frozen=True)
class Sizing:
    """How a list of jobs is laid on this machine.

    Attributes:
        workers: processes at the same time.
        memory: bytes that their estimates together may take; None: unknown.
        needs: one for each job.
    """

    workers: int
    memory: int | None
    needs: tuple[Need, ...]

    def say(self) -> str:
        """One line for people."""
        if not self.needs:
            return "nothing to run"
        largest = max(need.memory for need in self.needs)
        disk = sum(need.disk for need in self.needs)
        room = "unknown memory" if self.memory is None else f"{readable(self.memory)} of memory for them"
        return (
            f"{self.workers} process(es) at a time on {cores()} core(s), {room}; estimate: a job takes up to "
            f"{readable(largest)} of memory, all of them up to {readable(disk)} of disk for checkpoints"
        )


def size(jobs: Sequence[Job], workers: int | None = None) -> Sizing:
    """How many jobs run at a time: as many as cores allow, and as memory does for the largest ones.

    Args:
        workers: the most processes; None: one for each core that the jobs' threads leave.
    """
    needs = tuple(need_of(job.config) for job in jobs)
    threads = max((job.config.threads for job in jobs), default=1)
    most = workers or max(1, cores() // threads)
    free = available_memory()
    memory = None if free is None else int(0.9 * free)
    fit, total = 0, 0
    for need in sorted((need.memory for need in needs), reverse=True):
        total += need
        fit += memory is None or total <= memory
    return Sizing(max(1, min(most, len(jobs), fit)) if jobs else 0, memory, needs)
