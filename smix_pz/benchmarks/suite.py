"""Studies: a YAML file says what to run; this module plans the jobs, skips what is done, and names what is missing.

A job is a stack of seeds of one algorithm, trained as one program. Every run has its own record, so a killed study
goes on where it stopped: finished runs are not repeated, a stack with a checkpoint continues from it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from smix_pz import envs
from smix_pz.algorithms import resolve
from smix_pz.baselines import PLAYER_NAMES
from smix_pz.config import TrainConfig, from_dict
from smix_pz.files import write_text
from smix_pz.names import check_name
from smix_pz.records import RunRecord
from smix_pz.training import check_same_settings, checkpoint_path, read_if_any, record_path

EVALUATION_METRICS = ("eval/return", "eval/win_rate", "eval/episode_length")


@dataclass(frozen=True)
class Expressivity:
    """Which payoff tables each algorithm can represent, learned under uniformly random play."""

    env: str = "payoff_game_v0"
    payoffs: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()
    runs: int = 3
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """One study, as its YAML file says it.

    Attributes:
        env, env_kwargs, algorithms, runs, steps, eval_every, eval_episodes: the grid.
        regime: the chosen key of ``regimes``, which holds settings that belong together.
        settings: further settings of every job.
        reference_returns: label -> expression in the environment's arguments (whole numbers, names, + and -).
        metrics: which metrics get curves; the first one is the study's measure in tables and claims.
        baselines: scripted players that play the same environment, see ``smix_pz.baselines``.
        baseline_episodes: how many episodes each of them plays.
        claims: what the paper says; see ``smix_pz.benchmarks.claims``.
        first_seed: seeds are ``first_seed`` to ``first_seed + runs - 1``.
    """

    name: str
    title: str
    env: str
    algorithms: tuple[str, ...]
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    runs: int = 20
    steps: int = 100_000
    eval_every: int = 1000
    eval_episodes: int = 24
    regime: str = "paper"
    regimes: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    reference_returns: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ("eval/return",)
    baselines: tuple[str, ...] = ()
    baseline_episodes: int = 320
    claims: tuple[dict[str, Any], ...] = ()
    expressivity: dict[str, Any] = field(default_factory=dict)
    first_seed: int = 0

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise ValueError(f"runs is {self.runs}; a study needs 1 or more")
        if not self.algorithms:
            raise ValueError("algorithms is empty; a study needs one or more")
        if not self.metrics:
            raise ValueError("metrics is empty; a study needs one or more, such as eval/return")
        if self.baseline_episodes < 1:
            raise ValueError(f"baseline_episodes is {self.baseline_episodes}; it should be 1 or more")
        check_name("regime", self.regime, self.regimes)
        for metric in self.metrics:
            check_name("metric", metric, EVALUATION_METRICS)
        for player in self.baselines:
            check_name("baseline", player, PLAYER_NAMES)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The planned seeds, the same for every algorithm."""
        return tuple(range(self.first_seed, self.first_seed + self.runs))

    def references(self) -> dict[str, float]:
        """Reference returns as numbers."""
        return {label: _sum_of(str(text), self.env_kwargs) for label, text in self.reference_returns.items()}


@dataclass(frozen=True)
class Job:
    """A stack of seeds to train; ``config.out`` takes the records, ``payoff`` is set on the expressivity page."""

    config: TrainConfig
    payoff: str | None = None

    @property
    def label(self) -> str:
        """Short text for people."""
        return f"{self.config.algorithm} on {self.payoff}" if self.payoff else self.config.algorithm


def study_names() -> list[str]:
    """Studies that come with the package."""
    return sorted(
        p.name[:-5] for p in resources.files("smix_pz.benchmarks.studies").iterdir() if p.name[-5:] == ".yaml"
    )


def load_study(name_or_path: str, overrides: Mapping[str, Any] | None = None) -> Study:
    """Read a study that comes with the package, or a YAML file, with some values replaced.

    Raises:
        ValueError: no such study or key (the nearest is named), or a value out of range.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"no study file at {path}")
        text = path.read_text()
    else:
        check_name("study", name_or_path, study_names())
        text = resources.files("smix_pz.benchmarks.studies").joinpath(f"{name_or_path}.yaml").read_text()
    values = yaml.safe_load(text)
    if not isinstance(values, dict):
        raise ValueError(f"{name_or_path} should hold a mapping of settings")
    return from_dict(Study, {**values, **(overrides or {})})


def save_study(study: Study, out: Path) -> None:
    """Write the resolved study beside its records, so that a report can be made from the folder alone."""
    plain = json.loads(json.dumps(dataclasses.asdict(study)))
    write_text(out / "study.yaml", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def plan(study: Study, out: Path, *, stack: int = 20) -> list[Job]:
    """Every job of a study, checked: all algorithms, settings and environments are tried before any work starts.

    Args:
        out: the study's folder; records go below ``out/records``.
        stack: most seeds trained as one program.

    Raises:
        ValueError, TypeError: bad settings; the message names the value and what was expected.
    """
    if stack < 1:
        raise ValueError(f"stack is {stack}; it should be 1 or more")
    shared = {
        "env": study.env,
        "env_kwargs": study.env_kwargs,
        "steps": study.steps,
        "eval_every": study.eval_every,
        "eval_episodes": study.eval_episodes,
        **study.regimes[study.regime],
        **study.settings,
    }
    jobs = [
        Job(TrainConfig.from_dict({**shared, "algorithm": name, "seeds": seeds, "out": out / "records" / name}))
        for name in study.algorithms
        for seeds in _chunks(study.seeds, stack)
    ]
    if study.expressivity:
        jobs += _expressivity_jobs(from_dict(Expressivity, study.expressivity), out)
    for job in jobs:
        resolve(job.config.algorithm, job.config)
    for config in {(job.config.env, str(job.config.env_kwargs)): job.config for job in jobs}.values():
        view: dict[str, Any] = {
            "reward": config.team_reward,
            "episode_limit": config.episode_limit,
            "state": config.team_state,
            "preprocess": config.preprocess,
        }
        envs.make_vector_env(config.env, 1, **view, **config.env_kwargs).close()
    return [dataclasses.replace(job, config=dataclasses.replace(job.config, progress=False)) for job in jobs]


def remaining(jobs: Sequence[Job]) -> list[Job]:
    """The jobs that still have something to do, without their finished runs.

    A stack that has a checkpoint stays whole: it knows which of its runs are finished.

    Raises:
        ValueError: the folder holds runs that were made with other settings.
    """
    left = []
    for job in jobs:
        done = {record.run["seed"] for record in records_of(job) if record.finished}
        seeds = tuple(seed for seed in job.config.seeds if seed not in done)
        if not seeds:
            continue
        if not checkpoint_path(job.config).is_file():
            job = dataclasses.replace(job, config=dataclasses.replace(job.config, seeds=seeds))
        left.append(job)
    return left


def records_of(job: Job) -> list[RunRecord]:
    """The records that a job's runs have so far.

    Raises:
        ValueError: a record was made with other settings; nothing is ever overwritten silently.
    """
    found = (read_if_any(record_path(job.config, seed)) for seed in job.config.seeds)
    records = [record for record in found if record is not None]
    for record in records:
        check_same_settings(record, job.config)
    return records


def _expressivity_jobs(page: Expressivity, out: Path) -> list[Job]:
    return [
        Job(
            TrainConfig.from_dict(
                {
                    **page.settings,
                    "env": page.env,
                    "env_kwargs": {"payoff": payoff},
                    "algorithm": name,
                    "seeds": tuple(range(page.runs)),
                    "out": out / "records" / "expressivity" / payoff / name,
                }
            ),
            payoff,
        )
        for payoff in page.payoffs
        for name in page.algorithms
    ]


def _chunks(seeds: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(seeds[start : start + size]) for start in range(0, len(seeds), size)]


def _sum_of(text: str, names: Mapping[str, Any]) -> float:
    """The value of a sum such as "m + 3"; no other arithmetic is understood."""
    total, sign = 0.0, 1.0
    for word in text.replace("+", " + ").replace("-", " - ").split():
        if word in "+-":
            sign = 1.0 if word == "+" else -1.0
        elif word in names:
            total += sign * float(names[word])
        else:
            try:
                total += sign * float(word)
            except ValueError:
                raise ValueError(f"{text!r} is no sum of numbers and {sorted(names)}") from None
    return total
