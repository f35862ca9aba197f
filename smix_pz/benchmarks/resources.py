"""What this machine has, and what a job needs of it: cores, memory, disk."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from smix_pz import envs
from smix_pz.algorithms import resolve
from smix_pz.algorithms.replay import EpisodeReplay
from smix_pz.benchmarks.suite import Job
from smix_pz.config import TrainConfig
from smix_pz.envs.registry import series_arguments

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
    sizes = _sizes(config.env, json.dumps(config.env_kwargs, sort_keys=True), config.episode_limit)
    limit, n_agents, n_actions, obs_dim, state_dim = sizes
    algorithm = resolve(config.algorithm, config)
    capacity = max(algorithm.buffer_size, config.parallel_episodes)
    shape = {"n_agents": n_agents, "n_actions": n_actions, "obs_dim": obs_dim, "state_dim": state_dim}
    n_runs = len(config.seeds)
    replay = EpisodeReplay.estimate_bytes(n_runs, capacity, episode_limit=limit, **shape)
    drawn = min(config.batch_size if algorithm.buffer_size else capacity, capacity)
    batch = EpisodeReplay.estimate_bytes(n_runs * config.updates_per_group, drawn, episode_limit=limit, **shape)
    # One update: inputs, gates, hidden states, values of every agent at every time, online and target, with gradients.
    rows = n_runs * drawn * (limit + 1)
    update = 4 * rows * (n_agents * (2 * obs_dim + 24 * config.hidden_dim + 6 * n_actions) + 4 * state_dim)
    update += 4 * rows * config.mixing_embed_dim * (n_agents + 4) * 3
    return Need(PROCESS_BYTES + replay + 2 * batch + update, int(1.1 * replay) + 2**20 * n_runs)


@lru_cache(maxsize=64)
def _sizes(env: str, env_kwargs: str, episode_limit: int | None) -> tuple[int, int, int, int, int]:
    options = {"episode_limit": episode_limit, "reward": "mean", **series_arguments(env, json.loads(env_kwargs))}
    vector = envs.make_vector_env(env, 1, **options)
    try:
        spec = vector.team_spec
        return spec.episode_limit, spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim
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
    """Bytes of memory that are free for new processes, a container's limit counted in; None where nothing says."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except (OSError, ValueError):
        pass
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            found.append(int(limit) - int((_CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    if not found and hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found) if found else None


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
        room = "unknown memory" if self.memory is None else f"{gib(self.memory)} of memory for them"
        return (
            f"{self.workers} process(es) at a time on {cores()} core(s), {room}; estimate: a job takes up to "
            f"{gib(largest)} of memory, all of them up to {gib(disk)} of disk for checkpoints"
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


def gib(n_bytes: float) -> str:
    """Bytes in words."""
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**29 else f"{n_bytes / 2**20:,.0f} MiB"
