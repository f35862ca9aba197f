"""Launching jobs on this machine: worker processes, as many as its cores and memory allow."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from smix_pz.benchmarks.live import LiveView
from smix_pz.benchmarks.resources import Sizing, size
from smix_pz.benchmarks.suite import Job
from smix_pz.config import TrainConfig
from smix_pz.jobs import JobsFailed
from smix_pz.memory import readable
from smix_pz.stopping import StopRequest, stop_request
from smix_pz.training import train

# How often a job is started again whose process died without a word (killed for memory, a crashed simulator).
_RETRIES = 2
# How long workers have for their last checkpoint when the study is stopped; a second Ctrl-C ends them at once.
_GRACE = 600.0  # seconds


@dataclass(frozen=True)
class Launch:
    """How jobs are run.

    Attributes:
        launcher: local processes, a Ray cluster, or a script for Slurm.
        workers: most jobs at a time; None: as many as cores and memory (local) or the cluster (Ray) allow.
        address: Ray's: of a running cluster, "auto", or None for one on this machine.
        gpus: Ray's and Slurm's: GPUs of a job, for Ray a fraction if several jobs share one.
        retries: Ray's: how often a job is started again that was lost with its node.
        slurm: lines of options for sbatch, such as "--partition=long".
    """

    launcher: Literal["local", "ray", "slurm"] = "local"
    workers: int | None = None
    address: str | None = None
    gpus: float = 0.0
    retries: int = 3
    slurm: tuple[str, ...] = ()


def launch(jobs: Sequence[Job], out: Path, how: Launch, console: Console | None = None) -> bool:
    """Run every job, in this order; returns whether they were run (a script for Slurm only says how they will be).

    Args:
        out: the study's folder, in which its list of jobs lies.
        console: for the progress; None: the terminal's error stream.

    Raises:
        JobsFailed: one or more jobs failed; the message holds each error. Finished runs keep their records.
        Stopped: a signal came; every job was saved.
    """
    console = console or Console(stderr=True)
    if not jobs:
        return True
    if how.launcher == "slurm":
        from smix_pz.benchmarks.launch_slurm import write_array

        console.print(write_array(jobs, out, how), highlight=False, soft_wrap=True, markup=False)
        return False
    if how.launcher == "ray":
        from smix_pz.benchmarks.launch_ray import run_ray

        run_ray(jobs, out, how, console)
    else:
        run_local(jobs, out, how.workers, console)
    return True


def run_local(jobs: Sequence[Job], out: Path, workers: int | None = None, console: Console | None = None) -> None:
    """Train every job in processes of this machine; see ``launch``."""
    console = console or Console(stderr=True)
    sizing = size(jobs, workers)
    console.print(sizing.say(), highlight=False, soft_wrap=True)
    if sizing.memory is not None and (large := max(n.memory for n in sizing.needs)) > sizing.memory:
        console.print(
            f"the largest job may take {readable(large)}, more than there is; a smaller --stack or buffer_size "
            "takes less",
            style="yellow", soft_wrap=True,
        )  # fmt: skip
    with LiveView(out, console) as view, stop_request() as request:
        errors = _Pool(jobs, sizing, view).run(request)
        request.raise_if_any()
    if errors:
        raise JobsFailed(f"{len(errors)} of {len(jobs)} jobs failed:\n" + "\n".join(errors))


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    job: int | None = None


class _Pool:
    """Worker processes that train one job after the other; one that dies is replaced, and its job started again."""

    def __init__(self, jobs: Sequence[Job], sizing: Sizing, view: LiveView) -> None:
        self._jobs, self._sizing, self._view = jobs, sizing, view
        self._context = multiprocessing.get_context("spawn")  # fork and PyTorch's threads do not go together
        self._waiting = list(range(len(jobs)))
        self._workers: list[_Worker] = []
        self._deaths = dict.fromkeys(range(len(jobs)), 0)
        self._errors: list[str] = []

    def run(self, request: StopRequest) -> list[str]:
        """Train them all, or until a signal comes; returns what went wrong."""
        try:
            while (self._waiting or any(w.job is not None for w in self._workers)) and not request.signum:
                self._hand_out()
                self._listen()
                self._view.update()
            if request.signum:
                self._view.say("stopping: every job writes a checkpoint first")
                self._stop(signal.SIGTERM)
        finally:
            self._stop(signal.SIGKILL if any(w.job is not None for w in self._workers) else signal.SIGTERM)
        return self._errors

    def _hand_out(self) -> None:
        """Give waiting jobs to workers, as far as their estimates fit into memory; a job alone always may."""
        while self._waiting:
            busy = [w.job for w in self._workers if w.job is not None]
            if len(busy) >= self._sizing.workers:
                return
            used = sum(self._sizing.needs[job].memory for job in busy)
            room = self._sizing.memory
            fits = (j for j in self._waiting if room is None or not busy or used + self._sizing.needs[j].memory <= room)
            index = next(fits, None)
            if index is None:
                return
            worker = next((w for w in self._workers if w.job is None), None) or self._start()
            worker.pipe.send(self._jobs[index].config)
            worker.job = index
            self._waiting.remove(index)

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs,))
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _listen(self) -> None:
        handles = [handle for w in self._workers for handle in (w.pipe, w.process.sentinel)]
        multiprocessing.connection.wait(handles, timeout=self._view.interval)
        for worker in list(self._workers):
            try:
                while worker.pipe.poll():
                    self._heard(worker, worker.pipe.recv())
            except (EOFError, OSError):
                pass
            if not worker.process.is_alive():
                self._died(worker)

    def _heard(self, worker: _Worker, error: str) -> None:
        assert worker.job is not None
        if error:
            self._errors.append(f"{self._jobs[worker.job].label}: {error}")
            self._view.say(f"failed: {self._errors[-1]}")
        worker.job = None

    def _died(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.pipe.close()
        if worker.job is None:
            return
        index, code = worker.job, worker.process.exitcode
        self._deaths[index] += 1
        words = f"its process died ({_exit_words(code)})"
        if self._deaths[index] <= _RETRIES:
            self._view.say(f"{self._jobs[index].label}: {words}; it goes on from its last checkpoint")
            self._waiting.insert(0, index)
        else:
            self._errors.append(f"{self._jobs[index].label}: {words}, {self._deaths[index]} times")

    def _stop(self, signum: int) -> None:
        for worker in self._workers:
            if worker.process.is_alive():
                os.kill(worker.process.pid, signum)
        until = time.monotonic() + _GRACE
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            worker.pipe.close()
        self._workers = [w for w in self._workers if w.process.is_alive()]
        for worker in self._workers:
            worker.process.kill()


def _exit_words(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name}, perhaps for want of memory" if name == "SIGKILL" else name
    return f"exit status {code}"


def _work(pipe: Connection) -> None:
    """Train what comes through the pipe, one job after the other; answer each with "" or what went wrong."""
    # Ctrl-C is the parent's, who asks for an end by SIGTERM. When the parent is gone, end: a resumed study must not
    # meet a writer of the killed one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def watch() -> None:
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    while True:
        try:
            config: TrainConfig = pipe.recv()
        except EOFError:
            return
        try:
            train(config)
        except KeyboardInterrupt:
            return
        except BaseException as error:
            pipe.send(f"{type(error).__name__}: {error}")
        else:
            pipe.send("")
