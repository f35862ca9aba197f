"""Scripted players in a study: they play the study's environment once, and their results lie beside its records."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smix_pz import envs
from smix_pz.baselines import evaluate_player
from smix_pz.benchmarks.alignment import engine_label
from smix_pz.files import write_text
from smix_pz.records import RunRecord, plain

if TYPE_CHECKING:
    from smix_pz.benchmarks.suite import Study, Task

BASELINE_SEED = 0


@dataclass(frozen=True)
class BaselineResult:
    """What a scripted player reached.

    Attributes:
        name: the player's. env, env_kwargs, seed: what it played.
        engine: the engine in words, with its rules.
        returns, lengths: of each episode. won: of each episode, None where the environment does not say.
    """

    name: str
    env: str
    env_kwargs: dict[str, Any]
    engine: str
    seed: int
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    won: tuple[bool, ...] | None

    @property
    def metrics(self) -> dict[str, float]:
        """Means under the names that evaluations have in records."""
        values = {"eval/return": float(np.mean(self.returns)), "eval/episode_length": float(np.mean(self.lengths))}
        if self.won is not None:
            values["eval/win_rate"] = float(np.mean(self.won))
        return values


def baseline_path(out: Path, name: str, task: str = "") -> Path:
    """Where a player's result on a task lies in a study's folder."""
    return out / "records" / task / "baselines" / f"{name}.json"


def play_baselines(study: Study, out: Path) -> None:
    """Let the study's players play every task, where there is no result of the same plan yet."""
    for task in study.task_list():
        for name in study.baselines:
            if _read(study, task, out, name) is None:
                result = _play(name, task, study.baseline_episodes)
                write_text(baseline_path(out, name, task.name), json.dumps(asdict(result)) + "\n")


def _play(name: str, task: Task, episodes: int) -> BaselineResult:
    summary = evaluate_player(name, episodes, BASELINE_SEED, env=task.env, env_kwargs=task.env_kwargs)
    whole = ~np.isnan(summary.returns[0])
    if not whole.any():
        raise RuntimeError(f"every episode of the player {name!r} was aborted")
    won = summary.won[0][whole]
    return BaselineResult(
        name,
        task.env,
        plain(task.env_kwargs),
        _engine(task),
        BASELINE_SEED,
        tuple(summary.returns[0][whole].tolist()),
        tuple(summary.lengths[0][whole].tolist()),
        None if np.isnan(won).any() else tuple(bool(one) for one in won),
    )


def read_baselines(study: Study, task: Task, out: Path) -> list[BaselineResult]:
    """The results on a task that there are, in the study's order."""
    return [result for name in study.baselines if (result := _read(study, task, out, name)) is not None]


def _read(study: Study, task: Task, out: Path, name: str) -> BaselineResult | None:
    path = baseline_path(out, name, task.name)
    if not path.is_file():
        return None
    values = json.loads(path.read_text())
    for key in ("returns", "lengths", "won"):
        values[key] = None if values[key] is None else tuple(values[key])
    result = BaselineResult(**values)
    same = (result.env, result.env_kwargs, result.seed) == (task.env, plain(task.env_kwargs), BASELINE_SEED)
    return result if same and len(result.returns) == study.baseline_episodes else None


def _engine(task: Task) -> str:
    vector = envs.make_vector_env(task.env, 1, **task.env_kwargs)
    try:
        engine = dict(vector.team_spec.engine)
    finally:
        vector.close()
    return engine_label(RunRecord({"engine": engine}))
