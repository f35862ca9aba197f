"""A job's folder on disk: what it is, how far it is, whether it is done, and who is at it.

========================== ============================================================================================
file                       content
========================== ============================================================================================
``job.json``               seeds and settings, written once
``heartbeat.json``         steps, speed, newest evaluation; rewritten every few seconds, for ``smix-pz status``
``done.json``              written last: records, policies and the last checkpoint are in place
``state-*``, ``replay-*``  checkpoints, see ``smix_pz.checkpoints``
``lock``                   held while a process trains the job
========================== ============================================================================================

Every one is written atomically, and none holds an absolute path: a folder can be moved.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from smix_pz.config import TrainConfig
from smix_pz.files import write_text

_LOCK_WAIT = 10.0  # seconds; a worker whose parent was killed is gone well before


class JobBusy(OSError):
    """Another process trains this job."""


class JobsFailed(RuntimeError):
    """One or more jobs failed; the others were finished."""


def out_of(config: TrainConfig) -> Path:
    """``config.out``, which has to be there."""
    if config.out is None:
        raise ValueError("out is None; records, policies and checkpoints need a folder")
    return config.out


def job_name(seeds: tuple[int, ...]) -> str:
    """The folder's name: first and last seed, and a sum that tells apart stacks that share those."""
    return f"job-{seeds[0]:04d}-{seeds[-1]:04d}-{zlib.crc32(repr(seeds).encode()):08x}"


def job_folder(config: TrainConfig) -> Path:
    """Where a job's own files lie, below ``config.out``."""
    return out_of(config) / job_name(config.seeds)


def write_json(path: Path, values: Mapping[str, Any], *, durable: bool = True) -> None:
    """Write one JSON object atomically."""
    write_text(path, json.dumps(values, indent=1) + "\n", durable=durable)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read one JSON object; None if there is none that is whole."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def stacks_in(out: Path) -> list[tuple[int, ...]]:
    """The stacks of seeds that jobs in this folder were begun with, in the order of their folders' names."""
    found = (read_json(path) for path in sorted(out.glob("job-*/job.json")))
    return [tuple(int(seed) for seed in job["seeds"]) for job in found if job is not None]


def is_done(config: TrainConfig) -> bool:
    """Whether the job's done-marker is there, for this many steps."""
    done = read_json(job_folder(config) / "done.json")
    return done is not None and done["steps"] == config.steps


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the job's lock, so that two processes never write the same records.

    The kernel releases it when the process ends, however it ends. Where a file system has no locks, there are none.

    Raises:
        JobBusy: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        until = time.monotonic() + _LOCK_WAIT
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise JobBusy(
                        f"another process is training the job in {folder}; wait for it, or stop it first"
                    ) from None
                time.sleep(0.1)
                continue
            except OSError:
                pass
            break
        yield


class Heartbeat:
    """Says in a small file how a job is doing; never stops the job (a full disk stops it elsewhere)."""

    def __init__(self, folder: Path | None, config: TrainConfig, every: float = 2.0) -> None:
        self.path = None if folder is None else folder / "heartbeat.json"
        self._config, self._every = config, every
        self._last = -1e9
        self._speed = 0.0
        self._mark: tuple[float, int] | None = None

    def beat(
        self,
        status: str,
        steps: Mapping[int, int],
        values: Mapping[int, Mapping[str, float]],
        seconds: float,
        **more: Any,
    ) -> None:
        """Write it, if the last one is old enough or the status is another than "running".

        Args:
            status: running, stopped, failed or finished.
            steps: environment steps of each seed. values: newest evaluation of each seed.
            seconds: wall time of the job so far.
        """
        now = time.monotonic()
        if self.path is None or (status == "running" and now - self._last < self._every):
            return
        made = sum(min(count, self._config.steps) for count in steps.values())
        if self._mark is None:
            self._mark = (now, made)
        elif made > self._mark[1] and now - self._mark[0] >= 1.0:
            speed = (made - self._mark[1]) / (now - self._mark[0])
            # Runs fast or slow by turns: learning begins, battles get longer, evaluations come between.
            self._speed = speed if not self._speed else 0.7 * self._speed + 0.3 * speed
            self._mark = (now, made)
        self._last = now
        content = {
            "status": status,
            "steps": made,
            "steps_wanted": self._config.steps * len(steps),
            "speed": round(self._speed, 2),
            "latest": _means(values),
            "seconds": round(seconds, 1),
            "updated": time.time(),
            "pid": os.getpid(),
            **more,
        }
        with suppress(OSError):
            write_json(self.path, content, durable=False)


def _means(values: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """Means over runs of the metrics that all of them have."""
    rows = [row for row in values.values() if row]
    if not rows:
        return {}
    names = [name for name in rows[0] if name.startswith("eval/") and all(name in row for row in rows)]
    return {name: sum(row[name] for row in rows) / len(rows) for name in names}
