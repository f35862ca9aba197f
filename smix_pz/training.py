"""train(config): collect, store, sample, update, evaluate, record, checkpoint.

All seeds of a job train as one program along the run axis. A run that has made its steps leaves the stack.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smix_pz import envs
from smix_pz.algorithms import Algorithm, Learner, check_individual, make_learner, resolve
from smix_pz.algorithms.replay import EpisodeReplay
from smix_pz.checkpoints import CheckpointStore
from smix_pz.config import TrainConfig
from smix_pz.envs.registry import find_source, series_arguments, turns
from smix_pz.files import remove_leftovers
from smix_pz.jobs import Heartbeat, job_folder, locked, write_json
from smix_pz.labels import is_found_by_name
from smix_pz.memory import available_bytes, keep_freed_memory, readable
from smix_pz.plugins import load_plugin
from smix_pz.policy import Policy
from smix_pz.progress import Progress
from smix_pz.provenance import describe_run
from smix_pz.records import RecordWriter, RunRecord
from smix_pz.rollout import Collector, EpisodeSummary, collect_summaries
from smix_pz.run_files import (
    best_policy_path,
    check_not_overwriting,
    check_records,
    conclude,
    describe_job,
    policy_path,
    read_if_any,
    record_path,
)
from smix_pz.stopping import StopRequest, stop_request
from smix_pz.trackers import Tracker, open_trackers

# A finished run is worth a checkpoint, but runs of a stack finish shortly one after another.
_FINISHED_MIN_AGE = 10.0  # seconds

_DTYPES = {"float32": torch.float32, "uint8": torch.uint8}

STREAMS = ("init", "exploration", "replay", "env", "eval", "absolute")


class Diverged(FloatingPointError):
    """A loss or a parameter is no longer a number; the checkpoints from before are on disk."""


@dataclass(frozen=True)
class TrainResult:
    """What a job made: for each seed its record and its greedy policy.

    Attributes:
        records: one for each seed, in the order of ``config.seeds``.
        policies: likewise.
        seconds: wall time of this call.
    """

    config: TrainConfig
    records: tuple[RunRecord, ...]
    policies: tuple[Policy, ...]
    seconds: float


def train(config: TrainConfig | Any, **settings: Any) -> TrainResult:
    """Train one algorithm on one environment with every seed of ``config``.

    Args:
        config: a :class:`TrainConfig`, or an environment: ``train("its.module", algorithm="qmix", steps=50_000)``.
        settings: fields of TrainConfig; over those of ``config``, if that is one.

    Nothing starts before the whole configuration has been checked. With ``config.out`` each run appends to its own
    record, policies are saved as safetensors, and a job that was killed resumes from its last checkpoint. A finished
    job that is asked for more steps is extended. SIGTERM and Ctrl-C end it after the group of episodes that is being
    played, with a checkpoint.

    Raises:
        ValueError, TypeError: bad settings; the message names the value and what was expected.
        Diverged: a loss is no longer a number. OSError: a file cannot be written. In both cases the last good state is
            on disk.
        JobBusy: another process trains the same job.
        Stopped: a signal came (a KeyboardInterrupt).
    """
    with Trainer(_as_config(config, settings)) as trainer:
        return trainer.run()


def _as_config(config: TrainConfig | Any, settings: Mapping[str, Any]) -> TrainConfig:
    given = config.fields() if isinstance(config, TrainConfig) else {"env": config}
    if "env" in settings and not isinstance(config, TrainConfig):
        raise TypeError(f"train() was given two environments, {config!r} and env={settings['env']!r}")
    return TrainConfig.from_dict({**given, **settings})


class Trainer:
    """The state of a training job, and the loop over it."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        with ExitStack() as opened:
            self._build(config, opened)
            self._opened = opened.pop_all()  # from here on, close() closes it

    def _build(self, config: TrainConfig, opened: ExitStack) -> None:
        for plugin in config.plugins:
            load_plugin(plugin)
        algorithm = resolve(config.algorithm, config)
        if config.out is not None:
            check_records(config)
        # A group is stored whole, so the ring holds at least one; on-policy rows keep, and learn from, that one alone.
        capacity = max(algorithm.buffer_size, config.parallel_episodes)
        self.batch_size = config.batch_size if algorithm.buffer_size else capacity
        self.algorithm: Algorithm = dataclasses.replace(algorithm, buffer_size=capacity)
        self.device = _device(config.device)
        self.env_options: dict[str, Any] = {
            "reward": config.team_reward,
            "episode_limit": config.episode_limit,
            "state": config.team_state,
            "preprocess": config.preprocess,
            **series_arguments(config.env, config.env_kwargs),
        }
        self._source = find_source(config.env).copied()  # an object stays as it is: its copies are played
        n_runs = len(config.seeds)
        self.runs = [_Run(index, seed, _streams(seed)) for index, seed in enumerate(config.seeds)]
        self.active = list(self.runs)  # in the order of the stack's rows
        self._env = self._make_env(n_runs * config.parallel_episodes)
        opened.callback(lambda: self._env.close())  # whichever it is by then
        self.spec = self._env.team_spec
        check_individual(algorithm, self.spec.n_rewards)
        self._eval_env = self._make_env(turns(config.env, config.eval_episodes))
        opened.callback(self._eval_env.close)
        if not self.algorithm.uses_state:
            self.spec = dataclasses.replace(self.spec, state_dim=0)  # so that nobody stores it
        sizes = {
            "n_agents": self.spec.n_agents,
            "n_actions": self.spec.n_actions,
            "obs_dim": self.spec.obs_dim,
            "state_dim": self.spec.state_dim,
        }
        stored: dict[str, Any] = {
            **sizes,
            "episode_limit": self.spec.episode_limit,
            "obs_dtype": _DTYPES[self.spec.obs_dtype],
            "n_rewards": self.spec.n_rewards,
            "keep_behaviour": self.algorithm.returns.needs_behaviour,
        }
        check_memory(config, capacity, self.batch_size, self._eval_env.num_envs, stored, self.device)
        opened.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(config.threads)
        self.learner: Learner = make_learner(
            self.algorithm,
            **sizes,
            obs_image=self.spec.obs_image,
            obs_scale=self.spec.obs_scale,
            hyper=config,
            rngs=self._stream("init"),
            device=self.device,
        )
        size = EpisodeReplay.estimate_bytes(n_runs, capacity, **stored)
        self.progress = Progress(config, n_runs)
        opened.callback(self.progress.close)
        self.progress.note(
            f"{config.algorithm} on {config.env_name}: {n_runs} run(s) of {config.steps:,} steps, "
            f"replay {readable(size)} ({capacity:,} episodes a run)"
        )
        if not is_found_by_name(config.env_name):
            self.progress.note(
                f"The environment has no import path, so records and policies call it {config.env_name!r}. A policy "
                "still loads, acts and exports anywhere; evaluate(policy, env=...) needs the environment again."
            )
        self.replay = EpisodeReplay(n_runs, capacity, **stored, device=self.device)
        if self.device.type == "cpu":  # after the replay, whose untouched pages should cost nothing
            opened.callback(keep_freed_memory())
        self.collector = Collector(
            self._env, self.spec, self.learner.agent, n_runs, self.device, self.learner.exploration.behaviour
        )
        self.evaluator = Collector(self._eval_env, self.spec, self.learner.agent, 1, self.device)
        self.metrics: dict[str, Tensor] = {}  # of the newest update, each [R]
        self.episodes = 0  # of each run still in the stack
        self.seconds_before = 0.0  # spent by earlier attempts at this job
        self._started = time.perf_counter()
        self._saved = time.perf_counter()
        for run in self.runs:
            opened.callback(run.close)
        self.folder = None if config.out is None else job_folder(config)
        self.store: CheckpointStore | None = None
        self.heartbeat = Heartbeat(self.folder, config)
        if self.folder is None:
            self._begin_records()
            return
        opened.enter_context(locked(self.folder))
        self._clear_leftovers()
        self.store = CheckpointStore(self.folder, config.keep_checkpoints)
        if self.store.load(self):
            self._resume_records()
        else:
            check_not_overwriting(config)
            write_json(self.folder / "job.json", describe_job(config))
            self._begin_records()
            # A first one at once: a kill just after a run has finished must find something to go on from.
            self._checkpoint(min_age=0.0)
        (self.folder / "done.json").unlink(missing_ok=True)

    # The loop ---------------------------------------------------------------------------------------------------

    def run(self) -> TrainResult:
        """Train to the end; in the main thread, stop at the next whole state when SIGTERM or Ctrl-C comes."""
        with ExitStack() as stack:
            # Without a folder there is nothing to save, and Ctrl-C acts at once as usual.
            request = stack.enter_context(stop_request()) if self.store is not None else StopRequest()
            for _ in stack.enter_context(closing(self.groups())):
                if request.signum:
                    self.save()
                    request.raise_if_any()
        return self._result()

    def groups(self) -> Generator[None, None, None]:
        """Train to the end, pausing between groups of episodes, where the state is whole."""
        try:
            yield from self._groups()
        except (KeyboardInterrupt, GeneratorExit):
            self._beat("stopped")
            raise
        except BaseException as error:
            self._beat("failed", error=f"{type(error).__name__}: {error}")
            raise
        self._conclude()

    def _groups(self) -> Generator[None, None, None]:
        config = self.config
        while self.active:
            # 1. Evaluate the runs whose next grid point has come; the first is step 0.
            self._check_numbers()
            self._keep_end()
            self._evaluate_due()
            retired = self._retire_finished()
            if not self.active:
                break
            self._checkpoint(min_age=_FINISHED_MIN_AGE if retired else config.checkpoint_every)
            self._beat("running")
            yield
            # 2. Collect one group of whole episodes, each run with its own exploration.
            epsilon = self._epsilon()
            batch, summary = self.collector.collect(
                self.learner.stack.params, epsilon, self._stream("exploration"), self._stream("env")
            )
            self.replay.add(batch)
            self._count(summary)
            # 3. Learn values from replayed episodes and then, where there is a policy of its own, that from the group.
            # (A group that broke down whole teaches nothing, and an on-policy row has nothing else.)
            if self.replay.can_sample(self.batch_size) and summary.lengths.any():
                batches = self.replay.sample_many(config.updates_per_group, self.batch_size, self._stream("replay"))
                self.metrics = self.learner.update_many(batches)
                self.metrics |= self.learner.update_policy(batch, torch.from_numpy(epsilon).to(batch.rewards))
            self.learner.sync_target(self.episodes)
            self.progress.update(self.runs, config.steps)

    def _count(self, summary: EpisodeSummary) -> None:
        self.episodes += self.collector.n_envs
        for row, run in enumerate(self.active):
            run.t_env += int(summary.lengths[row].sum())
            run.train_returns.extend(value for value in summary.returns[row].tolist() if not np.isnan(value))
            run.train_lengths.extend(summary.lengths[row].tolist())

    def _epsilon(self) -> np.ndarray:
        """[R]: linear in each run's own steps, as they were when the group begins."""
        return self.learner.exploration.epsilon(np.array([run.t_env for run in self.active]))

    def _evaluate_due(self) -> None:
        for row, run in enumerate(self.active):
            if run.t_env < min(run.next_eval, self.config.steps):
                continue
            params = self.learner.stack.runs(slice(row, row + 1))
            summary = collect_summaries(self.evaluator, params, self.config.eval_episodes, run.streams["eval"])
            step = min(run.t_env // self.config.eval_every * self.config.eval_every, self.config.steps)
            run.next_eval = step + self.config.eval_every
            if run.t_env >= self.config.steps:
                step = self.config.steps
            values = evaluation_metrics(summary) | self._train_metrics(row, run)
            run.record(step, values)
            self._keep_best(row, run, step, values)
            self.progress.evaluated(run, values)

    def _keep_best(self, row: int, run: _Run, step: int, values: Mapping[str, float]) -> None:
        """Keep the run's policy if it is its best so far: by win rate where there is one, then by return."""
        score = [values.get("eval/win_rate", 0.0), values["eval/return"]]
        if run.best and score <= run.best["score"]:
            return
        run.best = {"step": step, "score": score}
        run.best_policy = self._policy_of(row, run)

    def _absolute_metrics(self, run: _Run) -> dict[str, float]:
        """The absolute metric (Gorsane et al. 2022): new greedy episodes with the best policy; {} if none are asked."""
        episodes = self.config.absolute_episodes
        if episodes is None:
            return {}
        assert run.best_policy is not None
        params = {name: param[None].to(self.device) for name, param in run.best_policy.params.items()}
        summary = collect_summaries(self.evaluator, params, episodes, run.streams["absolute"])
        found = {name.replace("eval/", "absolute/"): value for name, value in evaluation_metrics(summary).items()}
        return {**found, "absolute/episodes": episodes, "absolute/step": run.best["step"]}

    def _policy_of(self, row: int, run: _Run) -> Policy:
        params = {k: v[0].clone().cpu() for k, v in self.learner.stack.runs(slice(row, row + 1)).items()}
        return Policy.of_run(self.config, self.spec, self.algorithm, run.seed, self.learner.agent, params)

    def _train_metrics(self, row: int, run: _Run) -> dict[str, float]:
        values: dict[str, float] = {
            "train/episodes": self.episodes,
            "train/updates": self.learner.n_updates,
            "train/epsilon": float(self._epsilon()[row]),
        }
        if run.train_returns:
            values["train/return"] = float(np.mean(run.train_returns))
            values["train/episode_length"] = float(np.mean(run.train_lengths))
            run.train_returns.clear()
            run.train_lengths.clear()
        return values | {f"train/{name}": float(value[row]) for name, value in self.metrics.items()}

    def save(self) -> None:
        """Write a checkpoint now; to be called between groups."""
        self._checkpoint(min_age=0.0)

    def _checkpoint(self, *, min_age: float, end: bool = False) -> None:
        """Save the job if its last checkpoint is older than ``min_age`` seconds."""
        if self.store is not None and time.perf_counter() - self._saved >= min_age:
            self._check_numbers(thorough=True)  # never over a good one
            self.store.save(self, end=end)
            self._saved = time.perf_counter()

    def _keep_end(self) -> None:
        """Save the state in which the first runs have made their steps, and none has been evaluated for the last time.

        A job that is asked for more steps later goes on from here, as if it had been asked for them at once.
        """
        whole = len(self.active) == len(self.runs)
        if whole and self.config.keep_final != 0 and any(run.t_env >= self.config.steps for run in self.active):
            self._checkpoint(min_age=0.0, end=True)

    def _check_numbers(self, *, thorough: bool = False) -> None:
        """Raise Diverged if the newest losses are not finite; on a GPU, where asking costs a wait, only if thorough."""
        if not thorough and self.device.type != "cpu":
            return
        bad = torch.zeros(len(self.active), dtype=torch.bool, device=self.device)
        for name in _WATCHED:
            if name in self.metrics:
                bad |= ~torch.isfinite(self.metrics[name])
        if thorough:
            bad |= ~torch.isfinite(self.learner.stack.online).all(1)
        if bool(bad.any()):
            seeds = [run.seed for run, lost in zip(self.active, bad.tolist(), strict=True) if lost]
            good = self.store.newest() if self.store is not None else None
            raise Diverged(
                f"{self.config.algorithm} on {self.config.env}: the loss or the parameters of seed(s) "
                f"{', '.join(map(str, seeds))} are no longer finite after {self.learner.n_updates:,} updates "
                f"(learning_rate {self.config.learning_rate:g}, grad_clip {self.config.grad_clip:g})"
                + (f"; the last good state is {good}" if good is not None else "")
            )

    def _beat(self, status: str, **more: Any) -> None:
        steps = {run.seed: run.t_env for run in self.runs}
        values = {run.seed: run.metrics[-1] if run.metrics else {} for run in self.runs}
        self.heartbeat.beat(status, steps, values, self.seconds(), **more)

    def _conclude(self) -> None:
        if self.config.out is not None:
            conclude(self.config, self.store, self.seconds())
        self._beat("finished")

    def _retire_finished(self) -> bool:
        """Runs that have made their steps leave the stack, so that the others do not wait for them."""
        finished = [row for row, run in enumerate(self.active) if run.t_env >= self.config.steps]
        if not finished:
            return False
        for row in finished:
            run = self.active[row]
            run.policy = self._policy_of(row, run)
            absolute = self._absolute_metrics(run)
            self._save_policies(run)
            run.finish(self.seconds(), absolute)
        keep = [row for row in range(len(self.active)) if row not in finished]
        self.active = [self.active[row] for row in keep]
        if self.active:
            self.keep_rows(torch.tensor(keep, device=self.device))
        return True

    def keep_rows(self, keep: Tensor) -> None:
        """Go on with these rows of the stack."""
        self.learner.select(keep)
        self.replay.select(keep)
        self.metrics = {name: value[keep] for name, value in self.metrics.items()}
        self._env.close()
        self._env = self._make_env(len(keep) * self.config.parallel_episodes)
        self.collector = self.collector.select(self._env, len(keep))

    # Streams, files, ends ---------------------------------------------------------------------------------------

    def _stream(self, name: str) -> list[np.random.Generator]:
        return [run.streams[name] for run in self.active]

    def _make_env(self, n_envs: int) -> envs.TeamVectorEnv:
        return envs.make_vector_env(self._source, n_envs, **self.env_options)

    def seconds(self) -> float:
        """Wall time of this job, earlier attempts counted in."""
        return self.seconds_before + time.perf_counter() - self._started

    def _save_policies(self, run: _Run) -> None:
        if self.config.out is not None and run.policy is not None:
            run.policy.save(policy_path(self.config, run.seed))
            if run.best_policy is not None:
                run.best_policy.save(best_policy_path(self.config, run.seed))

    def _clear_leftovers(self) -> None:
        for run in self.runs:
            for path in (record_path, policy_path, best_policy_path):
                remove_leftovers(path(self.config, run.seed))

    def _begin_records(self) -> None:
        header = describe_run(self.config, self.algorithm, self.spec)
        for run in self.runs:
            run.header = {**header, "seed": run.seed}
            if self.config.out is not None:
                run.open(record_path(self.config, run.seed), self.config)

    def _resume_records(self) -> None:
        """Make the records what they were when the checkpoint was made; what they hold beyond it is made again."""
        for run in self.runs:
            path = record_path(self.config, run.seed)
            record = read_if_any(path) if run.end else None
            if record is not None and record.finished and policy_path(self.config, run.seed).is_file():
                continue
            run.open(path, self.config, resumed=True)
            if run.end:
                self._save_policies(run)
                run.finish_again()

    def _result(self) -> TrainResult:
        return TrainResult(
            self.config,
            tuple(run.as_record(self.config) for run in self.runs),
            tuple(run.policy for run in self.runs if run.policy is not None),
            self.seconds(),
        )

    def close(self) -> None:
        """Release environments, files and the display; leave PyTorch's threads as they were."""
        self._opened.close()

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_memory(
    config: TrainConfig, capacity: int, batch_size: int, n_eval: int, stored: Mapping[str, Any], device: torch.device
) -> None:
    """Raise ValueError if a job's episodes could not be held, naming a buffer_size that could.

    Counted are the episodes that can be played at all, one step each at the least, a sampled batch, and those that
    are just being played. stored: what ``EpisodeReplay.estimate_bytes`` wants to know.
    """
    free = available_bytes(device)
    if free is None:
        return
    n_runs, each = len(config.seeds), EpisodeReplay.estimate_bytes(1, 1, **stored)
    capacity = min(capacity, config.steps + config.parallel_episodes)
    beside = n_runs * (min(batch_size, capacity) * config.updates_per_group + config.parallel_episodes) + n_eval
    needed = (n_runs * capacity + beside) * each
    if needed <= free:
        return
    fits = int(0.9 * free / each - beside) // n_runs
    remedy = "fewer seeds, a smaller batch_size or eval_episodes, a shorter episode_limit or smaller observations"
    if fits >= config.parallel_episodes:
        remedy = f"buffer_size {fits} would; so would {remedy}"
    raise ValueError(
        f"buffer_size {capacity} does not fit: {n_runs} run(s) of {capacity:,} episodes, {readable(each)} each, and "
        f"what is sampled and played beside them need {readable(needed)}, free are {readable(free)}; {remedy}"
    )


@dataclass
class _Run:
    """One seed's own counters, record and, at the end, policy."""

    index: int
    seed: int
    streams: dict[str, np.random.Generator]
    t_env: int = 0
    next_eval: int = 0
    header: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    end: dict[str, Any] = dataclasses.field(default_factory=dict)
    train_returns: list[float] = dataclasses.field(default_factory=list)
    train_lengths: list[float] = dataclasses.field(default_factory=list)
    policy: Policy | None = None
    best: dict[str, Any] = dataclasses.field(default_factory=dict)  # step and score of the best evaluation
    best_policy: Policy | None = None
    writer: RecordWriter | None = None
    trackers: list[Tracker] = dataclasses.field(default_factory=list)

    def open(self, path: Path, config: TrainConfig, *, resumed: bool = False) -> None:
        """Open the record, with the header and, if resumed, the metrics that this run has."""
        self.writer = RecordWriter(path, self.header, metrics=self.metrics if resumed else None)
        self.trackers = open_trackers(config, self.header, path, resumed_at=self.t_env if resumed else None)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        self.metrics.append({"t_env": self.t_env, "step": step, **values})
        if self.writer is not None:
            self.writer.metrics(self.t_env, step, values)
        for tracker in self.trackers:
            tracker.log(values, self.t_env)

    def finish(self, seconds: float, absolute: Mapping[str, float]) -> None:
        self.end = {"status": "finished", "t_env": self.t_env, "wall_seconds": round(seconds, 3), **absolute}
        self.finish_again()

    def finish_again(self) -> None:
        """Write the end that this run has had."""
        if self.writer is not None:
            self.writer.end(**{key: value for key, value in self.end.items() if key != "status"})
        self.close(finished=True)

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            **{name: getattr(self, name) for name in _RUN_STATE},
            "streams": {name: rng.bit_generator.state for name, rng in self.streams.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        for name in _RUN_STATE:
            setattr(self, name, state[name])
        for name, stream in state["streams"].items():
            self.streams[name].bit_generator.state = stream

    def as_record(self, config: TrainConfig) -> RunRecord:
        path = record_path(config, self.seed) if config.out is not None else None
        return RunRecord(self.header, tuple(self.metrics), bool(self.end), self.end, path)

    def close(self, *, finished: bool = False) -> None:
        if self.writer is not None:
            self.writer.close()
        for tracker in self.trackers:
            tracker.close(finished=finished)
        self.trackers = []


_RUN_STATE = ("t_env", "next_eval", "header", "metrics", "end", "train_returns", "train_lengths", "best")
# Metrics that are numbers as long as a run is well.
_WATCHED = ("loss", "grad_norm", "policy_loss", "policy_grad_norm")


def evaluation_metrics(summary: EpisodeSummary) -> dict[str, float]:
    """Standard metrics of one run's evaluation episodes (arrays [1, E])."""
    whole = ~np.isnan(summary.returns)
    if not whole.any():
        raise RuntimeError("every evaluation episode was aborted: the environment breaks down; see its own messages")
    returns, won = summary.returns[whole], summary.won[whole]
    values = {
        "eval/return": float(returns.mean()),
        "eval/return_std": float(returns.std()),
        "eval/episode_length": float(summary.lengths[whole].mean()),
    }
    if not np.isnan(won).any():
        values["eval/win_rate"] = float(won.mean())
    if not whole.all():
        values["eval/aborted"] = float((~whole).sum())
    return values


def _streams(seed: int) -> dict[str, np.random.Generator]:
    """A run's own random streams; nothing draws from a global generator."""
    children = np.random.SeedSequence(seed).spawn(len(STREAMS))
    return {name: np.random.default_rng(child) for name, child in zip(STREAMS, children, strict=True)}


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; expected 'cpu', 'cuda', 'cuda:0', ... or 'auto'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {name!r}, but PyTorch sees no GPU here; expected 'cpu' or 'auto'")
    return device
