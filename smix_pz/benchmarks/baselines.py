"""Scripted players in a study: they play the study's environment once, and their results lie beside its records."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smix_pz import envs
from smix_pz.baselines import evaluate_player
from smix_pz.benchmarks.statistics import engine_label
from smix_pz.files import write_text
from smix_pz.records import RunRecord, plain

if TYPE_CHECKING:
    from smix_pz.benchmarks.suite import Study

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


def baseline_path(out: Path, name: str) -> Path:
    """Where a player's result lies in a study's folder."""
    return out / "records" / "baselines" / f"{name}.json"


def play_baselines(study: Study, out: Path) -> None:
    """Let the study's players play, where there is no result of the same plan yet."""
    for name in study.baselines:
        if _read(study, out, name) is not None:
            continue
        summary = evaluate_player(
            name, study.baseline_episodes, BASELINE_SEED, env=study.env, env_kwargs=study.env_kwargs
        )
        whole = ~np.isnan(summary.returns[0])
        if not whole.any():
            raise RuntimeError(f"every episode of the player {name!r} was aborted")
        won = summary.won[0][whole]
        result = BaselineResult(
            name,
            study.env,
            plain(study.env_kwargs),
            _engine(study),
            BASELINE_SEED,
            tuple(summary.returns[0][whole].tolist()),
            tuple(summary.lengths[0][whole].tolist()),
            None if np.isnan(won).any() else tuple(bool(one) for one in won),
        )
        write_text(baseline_path(out, name), json.dumps(asdict(result)) + "\n")


def read_baselines(study: Study, out: Path) -> list[BaselineResult]:
    """The results that there are, in the study's order."""
    return [result for name in study.baselines if (result := _read(study, out, name)) is not None]


def _read(study: Study, out: Path, name: str) -> BaselineResult | None:
    path = baseline_path(out, name)
    if not path.is_file():
        return None
    values = json.loads(path.read_text())
    for key in ("returns", "lengths", "won"):
        values[key] = None if values[key] is None else tuple(values[key])
    result = BaselineResult(**values)
    same = (result.env, result.env_kwargs, result.seed) == (study.env, plain(study.env_kwargs), BASELINE_SEED)
    return result if same and len(result.returns) == study.baseline_episodes else None


def _engine(study: Study) -> str:
    vector = envs.make_vector_env(study.env, 1, **study.env_kwargs)
    try:
        engine = dict(vector.team_spec.engine)
    finally:
        vector.close()
    return engine_label(RunRecord({"engine": engine}))
