"""Made-up runs for tests of tables, comparisons and exports: every number is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smix_pz.records import RunRecord

SIM = {"name": "smix_pz/smac_sim-v0", "version": "0.1.0", "rules": "r1", "preset": "liberty"}
REAL = {"name": "smac", "version": "5.0.12"}


def run(
    algorithm: str,
    seed: int,
    rates: Sequence[float],
    map_name: str = "3m",
    *,
    finished: bool = True,
    every: int = 20_000,
    engine: Any = SIM,
    config: Any = None,
    end: Any = None,
) -> RunRecord:
    """A run with these win rates on its grid; its returns are 20 times as large."""
    rows = tuple(
        {"t_env": every * k + 5, "step": every * k, "eval/win_rate": rate, "eval/return": 20 * rate}
        for k, rate in enumerate(rates)
    )
    header = {
        "algorithm": algorithm,
        "env": "smac_sim_v0" if engine is SIM else "smac_v0",
        "env_kwargs": {"map_name": map_name},
        "engine": engine,
        "seed": seed,
        "config": config or {"steps": every * (len(rates) - 1)},
    }
    return RunRecord(header, rows, finished, {"wall_seconds": 1.0, **(end or {})} if finished else {})


def runs(algorithm: str, finals: Sequence[float], map_name: str = "3m", **options: Any) -> list[RunRecord]:
    """One run for each final win rate; on its way it has half of it."""
    return [run(algorithm, seed, [0.0, value / 2, value], map_name, **options) for seed, value in enumerate(finals)]
