"""Launching jobs on a Ray cluster whose nodes need share no file system.

A job is a task that trains in a scratch folder of its node and streams back every file that has changed, every few
seconds: heartbeat, records, checkpoints. The driver writes them into the study's folder, so that folder is at any time
what a local launcher would have left there. A job that is lost with its node or its process is started again elsewhere
with those files, and goes on from its last gathered checkpoint. Ray's own retries are off: they would start it anew.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from smix_pz.benchmarks.live import LiveView
from smix_pz.benchmarks.resources import need_of
from smix_pz.benchmarks.suite import Job
from smix_pz.config import TrainConfig
from smix_pz.files import atomic_path
from smix_pz.jobs import JobsFailed, is_done, job_folder, locked, out_of, read_json
from smix_pz.memory import readable
from smix_pz.run_files import best_policy_path, policy_path, record_path
from smix_pz.stopping import stop_request
from smix_pz.training import Trainer

if TYPE_CHECKING:
    from smix_pz.benchmarks.launch import Launch

SYNC_EVERY = 5.0  # seconds between two gatherings of a job's files
Changes = dict[str, bytes | None]  # file, relative to the job's out -> content, None: it is gone


@dataclass
class _Running:
    index: int
    stream: Any  # ray.ObjectRefGenerator
    held: ExitStack


def run_ray(jobs: Sequence[Job], out: Path, how: Launch, console: Console) -> None:
    """Train every job on a Ray cluster; see ``smix_pz.benchmarks.launch.launch``.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: there is no cluster at that address.
        JobsFailed: one or more jobs failed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("--launcher ray needs Ray: pip install 'smix-pz[ray]'") from error
    ours = not ray.is_initialized()
    if ours:
        ray.init(address=how.address, log_to_driver=False, configure_logging=False)
    try:
        errors = _Driver(ray, jobs, out, how, console).run()
    finally:
        if ours:
            ray.shutdown()
    if errors:
        raise JobsFailed(f"{len(errors)} of {len(jobs)} jobs failed:\n" + "\n".join(errors))


class _Driver:
    """Submits jobs, gathers their files, and starts lost ones again."""

    def __init__(self, ray: Any, jobs: Sequence[Job], out: Path, how: Launch, console: Console) -> None:
        self._ray, self._jobs, self._out, self._how, self._console = ray, jobs, out, how, console
        self._waiting = list(range(len(jobs)))
        self._running: list[_Running] = []
        self._losses = dict.fromkeys(range(len(jobs)), 0)
        self._errors: list[str] = []
        self._flag = ray.remote(num_cpus=0)(_Flag).remote()
        self._task = ray.remote(train_on_node)

    def run(self) -> list[str]:
        """Train them all; returns what went wrong. Stopped by a signal, every job is saved and gathered first."""
        self._console.print(self._say(), highlight=False, soft_wrap=True)
        with LiveView(self._out, self._console) as view, stop_request() as request:
            stopping = False
            while self._running or (self._waiting and not stopping):
                while self._waiting and not stopping and len(self._running) < self._at_a_time():
                    self._submit(self._waiting.pop(0))
                streams = [running.stream for running in self._running]
                ready, _ = self._ray.wait(streams, num_returns=1, timeout=view.interval, fetch_local=False)
                for running in [r for r in self._running if any(r.stream is stream for stream in ready)]:
                    self._gather(running, view)
                view.update()
                if request.signum and not stopping:
                    view.say("stopping: every job writes a checkpoint first")
                    self._ray.get(self._flag.stop.remote())
                    stopping = True
            request.raise_if_any()
        return self._errors

    def _say(self) -> str:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        cpus, gpus = (sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU"))
        needs = [need_of(job.config) for job in self._jobs]
        return (
            f"Ray cluster of {len(nodes)} node(s), {cpus:g} CPUs, {gpus:g} GPUs: up to {self._at_a_time()} job(s) "
            f"at a time; estimate: a job takes up to {readable(max(n.memory for n in needs))} of memory, all of them "
            f"up to {readable(sum(n.disk for n in needs))} of disk for checkpoints"
        )

    def _at_a_time(self) -> int:
        """As many as the cluster has room for now, and one more: a cluster that can grow sees by it that it should."""
        if self._how.workers:
            return self._how.workers
        there = self._ray.cluster_resources()
        threads = max(job.config.threads for job in self._jobs)
        fit = int(there.get("CPU", 0.0) // threads)
        if self._how.gpus:
            fit = min(fit, int(there.get("GPU", 0.0) / self._how.gpus))
        return fit + 1

    def _submit(self, index: int) -> None:
        config = self._jobs[index].config
        held = ExitStack()
        try:
            held.enter_context(locked(job_folder(config)))  # here too nobody else may train it
        except OSError as error:
            self._fail(index, f"{type(error).__name__}: {error}")
            return
        files = {name: path.read_bytes() for name, path in _files_of(config).items()}
        config, plugins = _with_plugins(config)
        options: dict[str, Any] = {"num_cpus": config.threads, "num_returns": "streaming", "max_retries": 0}
        if self._how.gpus:
            options["num_gpus"] = self._how.gpus
        memory = need_of(config).memory
        if any(node["Alive"] and node["Resources"].get("memory", 0.0) >= memory for node in self._ray.nodes()):
            options["memory"] = memory
        remote = dataclasses.replace(config, out=None)
        stream = self._task.options(**options).remote(remote, {**files, **plugins}, self._flag, SYNC_EVERY)
        self._running.append(_Running(index, stream, held))

    def _gather(self, running: _Running, view: LiveView) -> None:
        errors = self._ray.exceptions
        index, config = running.index, self._jobs[running.index].config
        try:
            changes = self._ray.get(next(running.stream))
        except StopIteration:
            self._drop(running)
            if not is_done(config) and not _was_stopped(config):
                self._fail(index, "it ended without its done-marker", view)
        except errors.RayTaskError as error:
            self._drop(running)
            cause = error.cause if isinstance(error.cause, BaseException) else error
            self._fail(index, f"{type(cause).__name__}: {cause}", view)
        except errors.RayError as error:
            self._drop(running)
            self._losses[index] += 1
            words = f"{self._jobs[index].label}: lost with its node or process ({type(error).__name__})"
            if self._losses[index] > self._how.retries:
                self._fail(index, f"lost {self._losses[index]} times, the last time by {type(error).__name__}", view)
                return
            view.say(f"{words}; it goes on elsewhere from its last gathered checkpoint")
            self._waiting.insert(0, index)
        else:
            apply_changes(out_of(config), changes)

    def _drop(self, running: _Running) -> None:
        running.held.close()
        self._running.remove(running)

    def _fail(self, index: int, words: str, view: LiveView | None = None) -> None:
        self._errors.append(f"{self._jobs[index].label}: {words}")
        if view is not None:
            view.say(f"failed: {self._errors[-1]}")


def _was_stopped(config: TrainConfig) -> bool:
    """Whether the job says that it was stopped."""
    beat = read_json(job_folder(config) / "heartbeat.json")
    return beat is not None and beat["status"] == "stopped"


class _Flag:
    """An actor that tells tasks whether to stop."""

    def __init__(self) -> None:
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def stopped(self) -> bool:
        return self._stopped


def train_on_node(config: TrainConfig, files: dict[str, bytes], flag: Any, sync_every: float) -> Iterator[Changes]:
    """The task: train in a scratch folder that begins with ``files``, and yield what has changed there.

    Args:
        config: without ``out``.
        flag: handle of a ``_Flag``; None: never stop.
    """
    out = Path(tempfile.mkdtemp(prefix="smix-pz-"))
    try:
        for name, content in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(content)
        known = _marks(out)
        here: dict[str, Any] = {"out": out, "progress": False}
        here["plugins"] = tuple(str(out / p) if (out / p).is_file() else p for p in config.plugins)
        try:
            with Trainer(dataclasses.replace(config, **here)) as trainer:
                last = time.monotonic()
                for _ in trainer.groups():
                    if time.monotonic() - last < sync_every:
                        continue
                    if _asked_to_stop(flag):
                        trainer.save()
                        break
                    yield _changes(out, known)
                    last = time.monotonic()
        except Exception:
            yield _changes(out, known)  # its last good state, and the heartbeat that says what happened
            raise
        yield _changes(out, known)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _asked_to_stop(flag: Any) -> bool:
    if flag is None:
        return False
    import ray

    try:
        return bool(ray.get(flag.stopped.remote(), timeout=10.0))
    except ray.exceptions.RayError:
        return False  # the flag's node is lost, or slow


def _files_of(config: TrainConfig) -> dict[str, Path]:
    """What a job has on disk by now, by names relative to its ``out``."""
    out, folder = out_of(config), job_folder(config)
    paths = [path for path in folder.rglob("*") if path.is_file() and _travels(path.name)]
    for seed in config.seeds:
        own = (record_path(config, seed), policy_path(config, seed), best_policy_path(config, seed))
        paths += [path for path in own if path.is_file()]
    return {str(path.relative_to(out)): path for path in paths}


def _with_plugins(config: TrainConfig) -> tuple[TrainConfig, dict[str, bytes]]:
    """Files of plugins travel beside the job's own."""
    files = {p: f"plugins/{Path(p).name}" for p in config.plugins if Path(p).is_file()}
    changed = dataclasses.replace(config, plugins=tuple(files.get(p, p) for p in config.plugins))
    return changed, {name: Path(p).read_bytes() for p, name in files.items()}


def _travels(name: str) -> bool:
    return not name.startswith(".") and name != "lock"


def _marks(out: Path) -> dict[str, tuple[int, int, int]]:
    marks = {}
    for path in out.rglob("*"):
        relative = path.relative_to(out)
        if _travels(path.name) and relative.parts[0] not in ("wandb", "plugins") and path.is_file():
            about = path.stat()
            marks[str(relative)] = (about.st_mtime_ns, about.st_size, about.st_ino)
    return marks


def _changes(out: Path, known: dict[str, tuple[int, int, int]]) -> Changes:
    """What has changed since ``known``, which is brought up to date."""
    now = _marks(out)
    changed: Changes = {name: (out / name).read_bytes() for name, mark in now.items() if known.get(name) != mark}
    changed |= {name: None for name in known if name not in now}
    known.clear()
    known.update(now)
    return changed


def apply_changes(out: Path, changes: Changes) -> None:
    """Write what a node sent: parts before what refers to them, the done-marker last, and removals after all of it."""
    order = ("replay-", "state-", "end-", "seed-")

    def rank(name: str) -> tuple[int, str]:
        last = Path(name).name
        if changes[name] is None:
            return len(order) + 2, name
        if last == "done.json":
            return len(order) + 1, name
        return next((k for k, start in enumerate(order) if last.startswith(start)), len(order)), name

    for name in sorted(changes, key=rank):
        content = changes[name]
        if content is None:
            (out / name).unlink(missing_ok=True)
        else:
            with atomic_path(out / name, durable=name.endswith((".safetensors", "done.json"))) as temporary:
                temporary.write_bytes(content)


__all__ = ["apply_changes", "run_ray", "train_on_node"]
