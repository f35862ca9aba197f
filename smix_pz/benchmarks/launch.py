"""Launching jobs on this machine: one process for each core, progress read from the records."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from smix_pz.benchmarks.suite import Job
from smix_pz.config import TrainConfig
from smix_pz.training import record_path, train


def run_local(jobs: Sequence[Job], workers: int | None = None) -> None:
    """Train every job; a job that fails is reported after the others have finished.

    Args:
        workers: processes; None: one for each core that this process may use.

    Raises:
        RuntimeError: one or more jobs failed; the message holds each error. Finished runs keep their records.
    """
    workers = min(workers or _cores(), len(jobs))
    if workers < 1:
        return
    console = Console(stderr=True)
    context = multiprocessing.get_context("spawn")  # fork and PyTorch's threads do not go together
    errors: list[str] = []
    with ProcessPoolExecutor(workers, context, _begin_worker) as pool, _display(console, jobs) as display:
        futures: dict[Future[None], Job] = {pool.submit(_work, job.config): job for job in jobs}
        try:
            pending = set(futures)
            while pending:
                finished, pending = wait(pending, timeout=display.interval, return_when=FIRST_COMPLETED)
                for future in finished:
                    error = future.exception()
                    if error is not None:
                        errors.append(f"{futures[future].label}: {type(error).__name__}: {error}")
                display.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
    if errors:
        raise RuntimeError(f"{len(errors)} of {len(jobs)} jobs failed:\n" + "\n".join(errors))


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it is gone: a resumed study must not meet a writer of the killed one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(config: TrainConfig) -> None:
    train(config)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _display:
    """A bar on a terminal, a line every 15 seconds elsewhere; progress is read from the ends of the records."""

    def __init__(self, console: Console, jobs: Sequence[Job]) -> None:
        self._console, self._jobs = console, jobs
        self._started = self._said = time.perf_counter()
        self.interval = 1.0 if console.is_terminal else 5.0
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[detail]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> _display:
        self._bar.start()
        self._task = self._bar.add_task("", total=1.0, detail="")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self) -> None:
        """Show how far the jobs are, weighting each by its steps."""
        now = time.perf_counter()
        if not self._console.is_terminal and now - self._said < 15.0:
            return
        self._said = now
        done = total = 0
        busy = []
        for job in self._jobs:
            steps, seeds = job.config.steps, job.config.seeds
            made = sum(min(_last_step(record_path(job.config, seed)), steps) for seed in seeds)
            done, total = done + made, total + steps * len(seeds)
            if 0 < made < steps * len(seeds):
                busy.append(f"{job.label} {made / (steps * len(seeds)):.0%}")
        self._bar.update(self._task, completed=done / total, detail=", ".join(busy))
        if not self._console.is_terminal:
            elapsed = now - self._started
            self._console.print(f"{elapsed:5.0f} s  {done / total:4.0%}  {', '.join(busy)}", highlight=False)


def _last_step(path: Path) -> int:
    """The nominal step of a record's last whole line; 0 if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 2048))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return 0
    for line in reversed(lines):
        if b'"t_env"' in line:
            return int(line.split(b'"t_env": ')[1].split(b",")[0].rstrip(b"}"))
    return 0
