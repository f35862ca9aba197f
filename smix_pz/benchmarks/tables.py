"""The tables of a study, built from records; ``table`` says what a table is and how it is written.

============================ ===================================================================================
builder                      one row per
============================ ===================================================================================
``summary_table``            algorithm and engine: final value, area, threshold, missing seeds
``comparison_table``         algorithm, against a baseline: probability of improvement, difference of means
``expressivity_table``       payoff table and algorithm: error of the learned table, greedy joint action
``baseline_table``           scripted player: return and win rate over its episodes
============================ ===================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smix_pz.benchmarks import statistics
from smix_pz.benchmarks.alignment import align, check_group, common_grid, describe, engine_label, split_by_engine
from smix_pz.benchmarks.baselines import BaselineResult
from smix_pz.benchmarks.table import ABSENT, NBSP, Column, Table, interval_text, number, ranges
from smix_pz.intervals import wilson_interval
from smix_pz.names import nearest
from smix_pz.records import RunRecord

Groups = Mapping[str, Sequence[RunRecord]]
Planned = Mapping[str, Sequence[int]] | Sequence[int] | None

SMALL = 10  # runs; below, the coverage of a 95% percentile interval falls under 90% on normal data (docs/statistics.md)
BOOTSTRAP_SEED = 0  # a report of the same records shows the same intervals each time it is written


# --- what is missing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Roll:
    """The roll-call of one group: seeds ``planned``, ``finished``, begun but ``unfinished``, and ``absent``."""

    planned: tuple[int, ...]
    finished: tuple[int, ...]
    unfinished: tuple[int, ...]
    absent: tuple[int, ...]

    def __str__(self) -> str:
        parts = {"no record": self.absent, "unfinished": self.unfinished}
        return "; ".join(f"{word}: {ranges(seeds)}" for word, seeds in parts.items() if seeds) or "none"


def roll_call(records: Sequence[RunRecord], planned: Sequence[int] | None = None) -> Roll:
    """Which of the planned seeds have finished; ``planned`` is by default the seeds that have a record."""
    seeds = {finished: [_seed(r) for r in records if r.finished is finished] for finished in (True, False)}
    known = seeds[True] + seeds[False]
    expected = tuple(sorted(set(known) | set(planned or ())))
    absent = tuple(seed for seed in expected if seed not in known)
    return Roll(expected, tuple(sorted(seeds[True])), tuple(sorted(seeds[False])), absent)


def missing_runs(groups: Groups, planned: Planned = None) -> tuple[str, ...]:
    """One sentence per group and engine with absent or unfinished runs; empty when all is there.

    ``planned`` is the seeds of every group, or seeds by group; each engine of a group is expected to have them all.
    """
    rolls = [(_name(label, engine), roll) for label, engine, _, roll in _split(groups, planned)]
    return tuple(
        f"{name}: {len(roll.finished)} of {len(roll.planned)} planned runs finished; {roll}"
        for name, roll in rolls
        if roll.absent or roll.unfinished or not roll.planned
    )


# --- summary ------------------------------------------------------------------------------------------------------


def summary_table(
    groups: Groups,
    metric: str = "eval/return",
    threshold: float | None = None,
    *,
    planned: Planned = None,
    interval: statistics.Interval = "bootstrap",
    last: int = 1,
    title: str = "Summary",
    seed: int = BOOTSTRAP_SEED,
) -> Table:
    """One row per algorithm and engine; records of different engines never share a row.

    Args:
        groups: label -> runs of one algorithm on one environment.
        metric: the metric of the final value, the area and the threshold.
        threshold: what counts as solved, in the metric's unit; None leaves those columns out.
        planned: the seeds that should be there, for all groups or by label; by default those that have a record.
        interval: of the final mean, ``"bootstrap"`` or ``"student"``.
        last: the final value is the mean of this many last evaluations.
        title: heading.
        seed: of the bootstrap.

    Raises:
        ValueError: no records at all, a group mixes environments or algorithms or repeats a seed, or grids differ.
    """
    split = _split(groups, planned)
    if not any(records for _, _, records, _ in split):
        raise ValueError(f"no records in groups {list(groups)}: a summary needs at least one run")
    rng = np.random.default_rng(seed)
    grids = _grids(split, metric)
    rows = []
    for label, engine, records, roll in split:
        check_group(label, records)
        steps, values = _curves(records, metric, grids.get(engine))
        rows.append(
            {
                "algorithm": label,
                "engine": engine,
                "finished": len(roll.finished),
                "planned": len(roll.planned),
                **_final(statistics.final_value(values, last), threshold, interval, rng),
                **_area(statistics.area_under_curve(values), interval, rng),
                **_crossing(steps, values, threshold),
                **_absolute(records, metric, interval, rng),
                "missing": str(roll),
            }
        )
    solved = () if threshold is None else _threshold_columns(threshold)
    absolute = _ABSOLUTE if any(row["absolute_n"] for row in rows) else ()
    columns = (*_HEAD, *_FINAL, *absolute, *solved[:1], *_AREA, *solved[1:], *_TAIL)
    notes: tuple[str, ...] = (
        f"{metric}: {_final_phrase(last)}; {statistics.method('mean', interval)}. A run without its last evaluation "
        "has no final value: n says how many have one. Area is the mean over the evaluation grid of complete runs.",
    )
    if absolute:
        notes += ("Absolute metric: new episodes with each run's policy of its best evaluation (Gorsane et al. 2022).",)
    if interval == "bootstrap" and any(1 < row["final_n"] < SMALL for row in rows):
        notes += (f"Percentile intervals of fewer than {SMALL} runs are too narrow: with 5 they cover about 83%.",)
    return Table(title, columns, tuple(rows), notes, missing_runs(groups, planned))


def _final(
    final: NDArray[np.float64], threshold: float | None, interval: statistics.Interval, rng: np.random.Generator
) -> dict[str, Any]:
    """Statistics of the final values ``[R]`` of the runs that have one."""
    present = final[~np.isnan(final)]
    if not present.size:
        keys = ("final_mean", "final_low", "final_high", "final_std", "final_median", "final_iqm", "best", "worst")
        return {**dict.fromkeys(keys, math.nan), "final_n": 0, "solved": 0}
    found = statistics.estimate(present, rng, interval=interval)
    return {
        "final_mean": float(found.value[0]),
        "final_low": float(found.low[0]),
        "final_high": float(found.high[0]),
        "final_n": int(present.size),
        "final_std": float(statistics.std(present[:, None])[0]),
        "final_median": float(np.median(present)),
        "final_iqm": float(statistics.iqm(present[:, None])[0]),
        "best": float(present.max()),
        "worst": float(present.min()),
        "solved": 0 if threshold is None else int((present >= threshold).sum()),
    }


def _absolute(
    records: Sequence[RunRecord], metric: str, interval: statistics.Interval, rng: np.random.Generator
) -> dict[str, Any]:
    name = metric.replace("eval/", "absolute/")
    present = np.array([record.end[name] for record in records if record.end.get(name) is not None])
    if not present.size:
        return {"absolute": math.nan, "absolute_low": math.nan, "absolute_high": math.nan, "absolute_n": 0}
    found = statistics.estimate(present, rng, interval=interval)
    ends = {"absolute": found.value, "absolute_low": found.low, "absolute_high": found.high}
    return {**{key: float(value[0]) for key, value in ends.items()}, "absolute_n": int(present.size)}


def _area(area: NDArray[np.float64], interval: statistics.Interval, rng: np.random.Generator) -> dict[str, Any]:
    present = area[~np.isnan(area)]
    if not present.size:
        return {"area": math.nan, "area_low": math.nan, "area_high": math.nan, "area_n": 0}
    found = statistics.estimate(present, rng, interval=interval)
    ends = {"area": found.value, "area_low": found.low, "area_high": found.high}
    return {**{key: float(value[0]) for key, value in ends.items()}, "area_n": int(present.size)}


def _crossing(steps: NDArray[np.float64], values: NDArray[np.float64], threshold: float | None) -> dict[str, Any]:
    if threshold is None or not len(values):
        return {"steps_median": math.nan, "reached": 0, "unknown": 0, "runs": len(values)}
    found = statistics.steps_to_threshold(steps, values, threshold)
    return {"steps_median": found.median, "reached": found.reached, "unknown": found.unknown, "runs": len(values)}


def _threshold_columns(threshold: float) -> tuple[Column, Column]:
    return (
        Column(f"runs ending ≥ {number(threshold)}", ("solved", "final_n"), lambda k, n: f"{k}{NBSP}of{NBSP}{n}"),
        Column(f"steps to reach {number(threshold)} (median; runs)", _STEP_KEYS, _steps_text),
    )


def _steps_text(median: float, reached: int, unknown: int, runs: int) -> str:
    doubt = f", {unknown} unknown" if unknown else ""
    return f"{number(median, 0)} ({reached}{NBSP}of{NBSP}{runs}{doubt})"


# --- comparison ---------------------------------------------------------------------------------------------------


def comparison_table(
    groups: Groups,
    baseline: str,
    metric: str = "eval/return",
    *,
    last: int = 1,
    title: str | None = None,
    seed: int = BOOTSTRAP_SEED,
) -> Table:
    """Every group against ``baseline``, on final values of the runs that have one; unpaired, seeds are the unit.

    Raises:
        ValueError: unknown baseline, more than one engine or environment, or what ``align`` and ``check_group`` refuse.
    """
    if baseline not in groups:
        raise ValueError(f"unknown baseline {baseline!r}; {nearest(baseline, groups)}")
    everything = [record for records in groups.values() for record in records]
    for name, of in {"engine": engine_label, "environment": _environment}.items():
        found = list(dict.fromkeys(of(record) for record in everything))
        if len(found) > 1:
            raise ValueError(f"cannot compare runs of {name} {found[0]!r} and {found[1]!r}; make one table for each")
    grid = common_grid(everything, metric)
    finals = {label: _finals(label, records, metric, grid, last) for label, records in groups.items()}
    empty = [label for label, final in finals.items() if not final.size]
    if baseline in empty:
        raise ValueError(f"baseline {baseline!r} has no run with a final value of {metric!r}")
    rng = np.random.default_rng(seed)
    rows = [
        _comparison(label, final, finals[baseline], rng)
        for label, final in finals.items()
        if label != baseline and final.size
    ]
    columns = (
        Column("algorithm", ("algorithm",), align="left"),
        Column("runs", ("n", "n_baseline"), lambda n, m: f"{n} vs {m}"),
        Column(f"P(better than {baseline}) [95% interval]", ("probability", "low", "high"), interval_text),
        Column(
            "difference of means [95% interval]", ("difference", "difference_low", "difference_high"), interval_text
        ),
    )
    notes: tuple[str, ...] = (
        f"{metric}, {_final_phrase(last)}. P is over pairs of runs, ties count one half; {statistics.RESAMPLES} "
        "bootstrap resamples of the runs of each side, percentile intervals. 0.5 is no difference.",
    )
    warnings = (*missing_runs(groups), *(f"{label}: no run has a final value; not compared" for label in empty))
    return Table(title or f"Against {baseline}", columns, tuple(rows), notes, warnings)


def _finals(
    label: str, records: Sequence[RunRecord], metric: str, grid: NDArray[np.float64], last: int
) -> NDArray[np.float64]:
    check_group(label, records)
    final = statistics.final_value(_curves(records, metric, grid)[1], last)
    return final[~np.isnan(final)]


def _comparison(
    label: str, x: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.Generator
) -> Mapping[str, Any]:
    found = statistics.probability_of_improvement(x, y, rng)
    low, high = statistics.difference_interval(x, y, rng)
    return {
        "algorithm": label,
        "n": len(x),
        "n_baseline": len(y),
        "probability": found.probability,
        "low": found.low,
        "high": found.high,
        "difference": float(x.mean() - y.mean()),
        "difference_low": low,
        "difference_high": high,
    }


# --- expressivity -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValueTable:
    """What one algorithm learned about a one-step payoff table, for every run.

    Attributes:
        algorithm: name.
        payoff_name: name of the payoff table.
        truth: ``[A1, A2, ...]`` one axis per agent.
        learned: ``[R, A1, A2, ...]`` joint value of every joint action; one run may leave out ``R``.
        greedy: ``R`` joint actions, chosen by the agents themselves (not the argmax of ``learned``).
        seeds: ``R`` seeds; by default 0, 1, ...
    """

    algorithm: str
    payoff_name: str
    truth: NDArray[np.float64]
    learned: NDArray[np.float64]
    greedy: tuple[tuple[int, ...], ...]
    seeds: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        truth, learned = np.asarray(self.truth, dtype=float), np.asarray(self.learned, dtype=float)
        learned = learned[None] if learned.ndim == truth.ndim else learned
        greedy = tuple(tuple(int(a) for a in np.atleast_1d(joint)) for joint in np.atleast_2d(np.asarray(self.greedy)))
        seeds = tuple(int(seed) for seed in self.seeds) or tuple(range(len(learned)))
        name = f"value table of {self.algorithm!r} on {self.payoff_name!r}"
        if learned.shape[1:] != truth.shape or not len(learned):
            raise ValueError(f"{name}: learned must be [runs, {truth.shape}] like the truth, got {learned.shape}")
        if not len(greedy) == len(seeds) == len(learned):
            raise ValueError(f"{name}: {len(learned)} runs, but {len(greedy)} greedy actions and {len(seeds)} seeds")
        for joint in greedy:
            if len(joint) != truth.ndim or any(not 0 <= a < n for a, n in zip(joint, truth.shape, strict=True)):
                raise ValueError(f"{name}: greedy joint action {joint} is outside the table of shape {truth.shape}")
        for key, value in {"truth": truth, "learned": learned, "greedy": greedy, "seeds": seeds}.items():
            object.__setattr__(self, key, value)

    @property
    def errors(self) -> NDArray[np.float64]:
        """``[R]`` largest absolute difference between the learned and the true table."""
        return np.abs(self.learned - self.truth).reshape(len(self.learned), -1).max(axis=1)

    @property
    def optimal(self) -> NDArray[np.bool_]:
        """``[R]`` whether the greedy joint action has the largest true payoff."""
        return np.array([bool(np.isclose(self.truth[joint], self.truth.max())) for joint in self.greedy])


def expressivity_table(tables: Sequence[ValueTable], *, title: str = "Learned joint values") -> Table:
    """One row per payoff table and algorithm: how far the learned table is from the truth, and where greedy ends.

    Raises:
        ValueError: no tables, or the same algorithm twice for one payoff table.
    """
    names = [(table.payoff_name, table.algorithm) for table in tables]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"expected one value table per payoff and algorithm, got {names}")
    rows = tuple(
        {
            "payoff": table.payoff_name,
            "algorithm": table.algorithm,
            "seeds": table.seeds,
            "error_mean": float(table.errors.mean()),
            "error_worst": float(table.errors.max()),
            "greedy_payoff": float(np.mean([table.truth[joint] for joint in table.greedy])),
            "best_payoff": float(table.truth.max()),
            "optimal": int(table.optimal.sum()),
            "runs": len(table.learned),
        }
        for table in tables
    )
    columns = (
        Column("payoff table", ("payoff",), align="left"),
        Column("algorithm", ("algorithm",), align="left"),
        Column("largest error, mean over seeds", ("error_mean",), number),
        Column("worst seed", ("error_worst",), number),
        Column(
            "payoff of greedy, mean (best)", ("greedy_payoff", "best_payoff"), lambda a, b: f"{number(a)} ({number(b)})"
        ),
        Column("greedy is optimal", ("optimal", "runs"), lambda k, n: f"{k} of {n} seeds"),
        Column("seeds", ("seeds",), lambda seeds: ranges(seeds), align="left"),
    )
    notes = ("Largest error: the largest absolute difference over all joint actions between learned and true value.",)
    return Table(title, columns, rows, notes)


# --- text ---------------------------------------------------------------------------------------------------------


def baseline_table(results: Sequence[BaselineResult], *, title: str = "Scripted players") -> Table:
    """One row per scripted player: mean return and win rate over its episodes, with 95% intervals.

    The episode is the unit here: a scripted player does not learn, so there are no runs to average over. The interval
    of a win rate is Wilson's score interval, that of a mean return Student's t.
    """
    rows = []
    for result in results:
        returns = np.array(result.returns)
        mean = statistics.estimate(returns[:, None], np.random.default_rng(BOOTSTRAP_SEED), interval="student")
        won = (
            None
            if result.won is None
            else (float(np.mean(result.won)), *wilson_interval(sum(result.won), len(result.won)))
        )
        rows.append(
            {
                "player": result.name,
                "engine": result.engine,
                "episodes": len(returns),
                "return": float(mean.value[0]),
                "return_low": float(mean.low[0]),
                "return_high": float(mean.high[0]),
                "win_rate": None if won is None else won[0],
                "win_low": None if won is None else won[1],
                "win_high": None if won is None else won[2],
                "length": float(np.mean(result.lengths)),
            }
        )
    columns = (
        Column("player", ("player",), align="left"),
        Column("engine", ("engine",), align="left"),
        Column("win rate", ("win_rate", "win_low", "win_high"), _share_text),
        Column("return", ("return", "return_low", "return_high"), interval_text),
        Column("length", ("length",), number),
        Column("episodes", ("episodes",)),
    )
    notes = ("Intervals are 95%, over episodes: Wilson's for win rates, Student's t for mean returns.",)
    return Table(title, columns, tuple(rows), notes)


def _share_text(value: float | None, low: float | None, high: float | None) -> str:
    return ABSENT if value is None or low is None or high is None else interval_text(value, low, high)


_STEP_KEYS = ("steps_median", "reached", "unknown", "runs")
_HEAD = (
    Column("algorithm", ("algorithm",), align="left"),
    Column("engine", ("engine",), align="left"),
    Column("runs finished", ("finished", "planned"), lambda k, n: f"{k}{NBSP}of{NBSP}{n}"),
)
_FINAL = (
    Column("final mean [95% interval] (n)", ("final_mean", "final_low", "final_high", "final_n"), interval_text),
    Column("std", ("final_std",), number),
    Column("median", ("final_median",), number),
    Column("IQM", ("final_iqm",), number),
    Column("best run", ("best",), number),
    Column("worst run", ("worst",), number),
)
_AREA = (Column("area under curve [95% interval] (n)", ("area", "area_low", "area_high", "area_n"), interval_text),)
_ABSOLUTE = (
    Column(
        "absolute metric [95% interval] (n)", ("absolute", "absolute_low", "absolute_high", "absolute_n"), interval_text
    ),
)
_TAIL = (Column("missing seeds", ("missing",), align="left"),)


def _final_phrase(last: int) -> str:
    return (
        "final value is the last evaluation" if last == 1 else f"final value is the mean of the last {last} evaluations"
    )


def _split(groups: Groups, planned: Planned) -> list[tuple[str, str, list[RunRecord], Roll]]:
    """(label, engine, runs, roll) for every row; a label without any record keeps a row, so that it is seen."""
    if isinstance(planned, Mapping) and (unknown := [label for label in planned if label not in groups]):
        raise ValueError(f"planned names the group {unknown[0]!r}; {nearest(unknown[0], groups)}")
    rows = []
    for label, records in groups.items():
        seeds = planned.get(label) if isinstance(planned, Mapping) else planned
        for engine, runs in (split_by_engine(records) or {ABSENT: []}).items():
            rows.append((label, engine, runs, roll_call(runs, seeds)))
    return rows


def _grids(split: Sequence[tuple[str, str, list[RunRecord], Roll]], metric: str) -> dict[str, NDArray[np.float64]]:
    """Engine -> the grid shared by all its runs, so that a group of unfinished runs does not end early unnoticed."""
    runs: dict[str, list[RunRecord]] = {}
    for _, engine, records, _ in split:
        runs.setdefault(engine, []).extend(records)
    return {engine: common_grid(records, metric) for engine, records in runs.items() if records}


def _curves(
    records: Sequence[RunRecord], metric: str, grid: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(steps ``[P]``, values ``[R, P]``); a group without records has no rows."""
    if not records or grid is None:
        return np.zeros(1), np.empty((0, 1))
    aligned = align(records, metric, grid)
    return aligned.steps, aligned.values


def _environment(record: RunRecord) -> str:
    return f"{record.run.get('env')} {record.run.get('env_kwargs') or ''}".strip()


def _name(label: str, engine: str) -> str:
    return label if engine == ABSENT else f"{label} ({engine})"


def _seed(record: RunRecord) -> int:
    seed = record.run.get("seed")
    if seed is None:
        raise ValueError(f"{describe(record)} states no seed; a group's runs are told apart by it")
    return int(seed)
