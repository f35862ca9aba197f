"""Runs as rows of one array: records on a common evaluation grid, and which of them may stand in one group.

Nothing is interpolated: a point that a run does not have is NaN, and grids that differ are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smix_pz.names import nearest
from smix_pz.records import RunRecord

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Aligned:
    """Runs on one grid.

    Attributes:
        steps: ``[P]`` the nominal evaluation grid, in environment steps, increasing.
        values: ``[R, P]`` one metric; NaN where the run has no such point.
        seeds: ``R`` seeds, in the order of the rows (None where the record states none).
    """

    steps: FloatArray
    values: FloatArray
    seeds: tuple[int | None, ...]

    @property
    def n_missing(self) -> IntArray:
        """``[P]`` how many runs lack each point."""
        return np.isnan(self.values).sum(axis=0)

    @property
    def missing(self) -> dict[int | None, list[float]]:
        """Seed -> the grid steps that its run lacks; complete runs do not appear."""
        gaps = [np.isnan(row) for row in self.values]
        return {seed: self.steps[gap].tolist() for seed, gap in zip(self.seeds, gaps, strict=True) if gap.any()}


def align(records: Sequence[RunRecord], metric: str, steps: ArrayLike | None = None) -> Aligned:
    """Put runs on a common evaluation grid.

    Args:
        records: the runs; their metric lines carry the nominal grid ``step``.
        metric: a metric name, such as ``"eval/return"``.
        steps: the grid; by default ``common_grid(records, metric)``.

    Raises:
        ValueError: no records, no run carries the metric, a run has a point that is not on the grid (the runs were
            evaluated on different grids), or a run has a point twice.
    """
    grid = common_grid(records, metric) if steps is None else np.asarray(steps, dtype=float)
    if grid.ndim != 1 or (np.diff(grid) <= 0).any():
        raise ValueError(f"steps must be a one-dimensional increasing grid, got shape {grid.shape}: {grid}")
    position = {step: index for index, step in enumerate(grid.tolist())}
    values = np.full((len(records), grid.size), np.nan)
    for row, record in zip(values, records, strict=True):
        for step, value in zip(*record.series(metric), strict=True):
            if step not in position:
                nearest = grid[np.abs(grid - step).argmin()] if grid.size else "none: the grid is empty"
                raise ValueError(
                    f"{describe(record)} has {metric!r} at step {step:g}, which is not on the grid of {grid.size} "
                    f"steps (nearest: {nearest}); runs evaluated on different grids cannot be aligned"
                )
            row[position[step]] = value
    return Aligned(grid, values, tuple(record.run.get("seed") for record in records))


def common_grid(records: Sequence[RunRecord], metric: str) -> FloatArray:
    """The grid of the run with most points ``[P]``; shorter runs must lie on it, which ``align`` checks.

    Not the union of all grids: that would accept runs evaluated at different steps and call every point missing.

    Raises:
        ValueError: no records, no run carries ``metric``, or a run has a point twice.
    """
    if not records:
        raise ValueError("no records: expected at least one run")
    grids = [record.series(metric)[0] for record in records]
    for record, grid in zip(records, grids, strict=True):
        repeated = [step for step, count in Counter(grid).items() if count > 1]
        if repeated:
            raise ValueError(f"{describe(record)} has {metric!r} more than once at step {repeated[0]:g}")
    longest = max(grids, key=len)
    if not longest:
        known = sorted(
            {name for record in records for row in record.metrics for name in row} - {"kind", "t_env", "step"}
        )
        raise ValueError(f"none of {len(records)} runs carries the metric {metric!r}; {nearest(metric, known)}")
    return np.sort(np.asarray(longest, dtype=float))


def engine_label(record: RunRecord) -> str:
    """What simulated the run, with its rules version, as one line; a header may hold text or a mapping."""
    engine = record.run.get("engine")
    if not isinstance(engine, Mapping):
        return str(engine) if engine else "engine not stated"
    rest = {key: value for key, value in engine.items() if key not in ("name", "version")}
    head = " ".join(str(engine[key]) for key in ("name", "version") if engine.get(key) is not None)
    tail = ", ".join(f"{key} {value}" for key, value in rest.items() if value is not None)
    return f"{head} ({tail})" if head and tail else head or tail or "engine not stated"


def describe(record: RunRecord) -> str:
    """A run's name in messages: algorithm, environment, seed. No path: reports travel between machines."""
    return f"run {record.run.get('algorithm', '?')} on {record.run.get('env', '?')}, seed {record.run.get('seed', '?')}"


def check_group(label: str, records: Sequence[RunRecord]) -> None:
    """Refuse to average what is not a replication: one engine, one environment, one algorithm, each seed once.

    Raises:
        ValueError: names the field and the values that differ, or the seed that occurs twice.
    """
    fields: dict[str, Callable[[RunRecord], Any]] = {
        "engine": engine_label,
        "env": lambda record: record.run.get("env"),
        "env_kwargs": lambda record: record.run.get("env_kwargs"),
        "algorithm": lambda record: record.run.get("algorithm"),
    }
    for name, of in fields.items():
        found = list(dict.fromkeys(str(of(record)) for record in records))
        if len(found) > 1:
            raise ValueError(f"group {label!r} mixes {name} {found[0]!r} and {found[1]!r}; give each its own group")
    seeds = Counter(record.run.get("seed") for record in records)
    repeated = sorted(str(seed) for seed, count in seeds.items() if count > 1 and seed is not None)
    if repeated:
        raise ValueError(
            f"group {label!r} has more than one record of seed {', '.join(repeated)}; expected one per seed"
        )


def split_by_engine(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Engine label -> its runs, in order of first appearance."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(engine_label(record), []).append(record)
    return groups
