"""What made a number: engine, algorithm, resolved settings, package versions, commit. Goes into every record."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import platform
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from smix_pz.algorithms import Algorithm
from smix_pz.config import TrainConfig
from smix_pz.envs import TeamSpec
from smix_pz.records import plain
from smix_pz.version import __version__

# Settings that say where and how to run, not what is computed.
_NOT_IN_CONFIG = {
    "out", "seeds", "progress", "tensorboard", "track", "plugins", "checkpoint_every", "keep_checkpoints", "keep_final",
}  # fmt: skip


def describe_run(config: TrainConfig, algorithm: Algorithm, spec: TeamSpec) -> dict[str, Any]:
    """The header of a record, without the seed."""
    return {
        "algorithm": config.algorithm,
        "composition": {**dataclasses.asdict(algorithm)},
        "env": spec.env_id,
        "env_kwargs": plain(config.env_kwargs),
        "engine": dict(spec.engine),
        "config": recorded_settings(config),
        "stacked_with": len(config.seeds),
        "versions": versions() | ({"supersuit": importlib.metadata.version("supersuit")} if config.preprocess else {}),
        "machine": machine(config.device),
        "git_commit": git_commit(),
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def recorded_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that say what is computed, not where or how it is shown."""
    settings: dict[str, Any] = plain({k: v for k, v in config.to_dict().items() if k not in _NOT_IN_CONFIG})
    return settings


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of what computes."""
    packages = ("torch", "numpy", "gymnasium", "pettingzoo")
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"smix_pz": __version__, "python": platform.python_version(), **found}


def machine(device: str = "cpu") -> dict[str, Any]:
    """Processor, cores and, where one is used, the GPU; no host name."""
    import os

    about: dict[str, Any] = {"processor": _processor(), "cores": os.cpu_count()}
    if device != "cpu" and torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name()
    return about


@lru_cache(maxsize=1)
def git_commit() -> str | None:
    """The checkout's commit, "+changes" appended where files differ from it; None for an installed package."""
    folder = Path(__file__).resolve().parent
    try:
        top = _git(folder, "rev-parse", "--show-toplevel")
        if Path(top) != folder.parent:
            return None  # installed inside somebody else's repository
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
