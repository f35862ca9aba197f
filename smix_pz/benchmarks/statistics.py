"""Statistics over independent runs, in NumPy alone.

Seeds are the unit of replication. A run's evaluation episodes are averaged before anything here sees them (a record
holds one number per grid point), and every interval is over runs. Arrays are ``values [R, P]``: ``R`` runs by ``P``
points of the evaluation grid; a point that a run does not have is NaN. Nothing is interpolated.

============ ============================================== =================================================
name         definition                                     source
============ ============================================== =================================================
bootstrap    percentile interval, whole runs resampled      Efron and Tibshirani 1993, chapter 13
student      mean +- t quantile * s / sqrt(R)               Student 1908; quantile by the incomplete beta
iqm          mean of what is left after cutting floor(R/4)  Agarwal et al. 2021; the same number as
             runs from each end                             ``scipy.stats.trim_mean(x, 0.25)`` and rliable
improvement  P(X > Y) + P(X = Y) / 2                        Agarwal et al. 2021; Mann and Whitney 1947
stratified   runs resampled within each task                Agarwal et al. 2021, section 4.1
profile      share of runs with a score above tau           Agarwal et al. 2021, section 4.2
welch        difference of two means from summaries         Welch 1947; degrees of freedom by Satterthwaite 1946
============ ============================================== =================================================
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smix_pz.benchmarks.student import student_quantile
from smix_pz.names import check_name

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LEVEL = 0.95
RESAMPLES = 2000
CHUNK = 4_000_000  # resampled numbers held at once (32 MB): long curves are worked through in slices of points

Interval = Literal["bootstrap", "student"]
Missing = Literal["nan", "omit"]


# --- one number per run -------------------------------------------------------------------------------------------


def final_value(values: FloatArray, last: int = 1) -> FloatArray:
    """Mean of the ``last`` grid points of each run, values ``[R, P]`` -> ``[R]``; NaN where one of them is missing.

    Raises:
        ValueError: ``last`` is not between 1 and P.
    """
    if not 1 <= last <= values.shape[-1]:
        raise ValueError(f"last must be between 1 and the grid's {values.shape[-1]} points, got {last}")
    return values[..., -last:].mean(axis=-1)


def area_under_curve(values: FloatArray) -> FloatArray:
    """Mean over the grid of each run, values ``[R, P]`` -> ``[R]``, in the metric's unit; NaN where a point is missing.

    Every grid point weighs the same, so the area divides out the length of training.
    """
    return values.mean(axis=-1)


@dataclass(frozen=True)
class Crossing:
    """When runs first reached a threshold.

    Attributes:
        steps: ``[R]`` first grid step at or above the threshold; NaN where never or unknown.
        reached: runs that did.
        never: runs with a complete curve below the threshold.
        unknown: runs with a missing point before they were seen to reach it: they may have, unobserved.
    """

    steps: FloatArray
    reached: int
    never: int
    unknown: int

    @property
    def median(self) -> float:
        """Median over the runs that reached it; NaN if none did."""
        return float(np.median(self.steps[~np.isnan(self.steps)])) if self.reached else math.nan


def steps_to_threshold(steps: FloatArray, values: FloatArray, threshold: float) -> Crossing:
    """First grid step with ``value >= threshold`` per run, steps ``[P]``, values ``[R, P]``."""
    above = values >= threshold  # NaN compares false
    first = np.where(above.any(axis=1), above.argmax(axis=1), values.shape[1])
    before = np.arange(values.shape[1]) < first[:, None]
    unknown = (np.isnan(values) & before).any(axis=1)
    reached = above.any(axis=1) & ~unknown
    found = np.full(len(values), np.nan)
    found[reached] = steps[first[reached]]
    return Crossing(found, int(reached.sum()), int((~above.any(axis=1) & ~unknown).sum()), int(unknown.sum()))


# --- over runs ----------------------------------------------------------------------------------------------------


def mean(values: FloatArray) -> FloatArray:
    """Mean over runs, values ``[..., R, P]`` -> ``[..., P]``."""
    return values.mean(axis=-2)


def median(values: FloatArray) -> FloatArray:
    """Median over runs, values ``[..., R, P]`` -> ``[..., P]``."""
    return np.median(values, axis=-2)


def std(values: FloatArray) -> FloatArray:
    """Standard deviation over runs (divisor R - 1), values ``[..., R, P]`` -> ``[..., P]``; NaN for one run."""
    if values.shape[-2] < 2:
        return np.full(values.shape[:-2] + values.shape[-1:], np.nan)
    return values.std(axis=-2, ddof=1)


def iqm(values: FloatArray) -> FloatArray:
    """Interquartile mean over runs, values ``[..., R, P]`` -> ``[..., P]``.

    ``floor(R / 4)`` runs are cut from each end and the rest averaged with equal weights: the definition of
    ``scipy.stats.trim_mean(x, 0.25)``, which rliable uses too. Below four runs nothing is cut.
    """
    cut = values.shape[-2] // 4
    kept = np.sort(values, axis=-2)[..., cut : values.shape[-2] - cut, :]
    return kept.mean(axis=-2)


STATISTICS: Mapping[str, Callable[[FloatArray], FloatArray]] = {"mean": mean, "median": median, "iqm": iqm}


@dataclass(frozen=True)
class Estimate:
    """A statistic over runs with its interval, per grid point.

    Attributes:
        value: ``[P]`` NaN where a run is missing (unless the caller asked to omit missing runs).
        low: ``[P]`` lower end; NaN where fewer than two runs are present: one run says nothing about spread.
        high: ``[P]`` upper end.
        n: ``[P]`` runs present at each point.
        n_runs: runs there should be.
        method: how the interval was made, fit for a caption.
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray
    n: IntArray
    n_runs: int
    method: str

    @property
    def complete(self) -> NDArray[np.bool_]:
        """``[P]`` whether every run is present."""
        return self.n == self.n_runs


def estimate(
    values: ArrayLike,
    rng: np.random.Generator | None = None,
    *,
    statistic: str = "mean",
    interval: Interval = "bootstrap",
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    missing: Missing = "nan",
) -> Estimate:
    """A statistic over runs and its interval, at every point.

    Args:
        values: ``[R, P]``, or ``[R]`` for one number per run (then P = 1).
        rng: the bootstrap's source of randomness; needed for ``interval="bootstrap"`` only.
        statistic: a key of ``STATISTICS``.
        interval: ``"bootstrap"`` (percentile, whole runs resampled) or ``"student"`` (mean only).
        level: coverage aimed at.
        resamples: bootstrap resamples.
        missing: ``"nan"`` gives NaN at a point that any run lacks; ``"omit"`` uses the runs present, and ``n`` says
            how many those are.

    Raises:
        ValueError: an unknown option, an infinite value, or a bootstrap without a generator.
    """
    runs = np.asarray(values, dtype=float)
    runs = runs[:, None] if runs.ndim == 1 else runs
    if runs.ndim != 2 or not runs.shape[0]:
        raise ValueError(f"values must be [runs, points] with at least one run, got shape {runs.shape}")
    if np.isinf(runs).any():
        raise ValueError("values hold an infinity; expected finite numbers, or NaN for a missing point")
    check_name("statistic", statistic, STATISTICS)
    check_name("missing", missing, ("nan", "omit"))
    bounds = _interval(interval, statistic, rng, level, resamples)

    present = ~np.isnan(runs)
    value, low, high = np.full((3, runs.shape[1]), np.nan)
    # Points that lack the same runs are one problem: the bootstrap resamples the runs that are there, as whole runs.
    patterns, which = np.unique(present.T, axis=0, return_inverse=True)
    for index, rows in enumerate(patterns):
        points = np.flatnonzero(np.reshape(which, -1) == index)
        if rows.all() or (missing == "omit" and rows.any()):
            block = runs[np.ix_(rows, points)]
            value[points] = STATISTICS[statistic](block)
            if len(block) > 1:
                low[points], high[points] = bounds(block)
                constant = (block == block[0]).all(axis=0)  # without this, rounding gives a width of 1e-16
                for end in (value, low, high):
                    end[points] = np.where(constant, block[0], end[points])
    return Estimate(value, low, high, present.sum(axis=0), len(runs), method(statistic, interval, level, resamples))


def student_interval(values: FloatArray, level: float = LEVEL) -> tuple[FloatArray, FloatArray]:
    """Student's interval of the mean, values ``[R, P]`` -> (low ``[P]``, high ``[P]``); NaN for one run."""
    n = len(values)
    if n < 2:
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    half = student_quantile((1 + level) / 2, n - 1) * values.std(axis=0, ddof=1) / math.sqrt(n)
    return values.mean(axis=0) - half, values.mean(axis=0) + half


def bootstrap_interval(
    values: FloatArray,
    rng: np.random.Generator,
    statistic: Callable[[FloatArray], FloatArray] = mean,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> tuple[FloatArray, FloatArray]:
    """Percentile interval, values ``[R, P]`` -> (low ``[P]``, high ``[P]``).

    Each resample draws R whole runs with replacement and uses them at every point, so a curve's points stay together.
    """
    n, points = values.shape
    drawn = rng.integers(n, size=(resamples, n))
    tails = (1 - level) / 2, (1 + level) / 2
    ends = np.empty((2, points))
    width = max(1, CHUNK // drawn.size)
    for start in range(0, points, width):
        part = slice(start, start + width)
        ends[:, part] = np.quantile(statistic(values[:, part][drawn]), tails, axis=0)
    return ends[0], ends[1]


@dataclass(frozen=True)
class Comparison:
    """Probability that X does better than Y, with its interval.

    Attributes:
        probability: P(X > Y) + P(X = Y) / 2, in [0, 1]; 0.5 is no difference.
        low: lower end of the bootstrap percentile interval; NaN where either side has fewer than two runs.
        high: upper end.
        n: runs of X and of Y.
        paired: whether run i of X was compared with run i of Y only.
        method: how the interval was made, fit for a caption.
    """

    probability: float
    low: float
    high: float
    n: tuple[int, int]
    paired: bool
    method: str = field(repr=False)


def probability_of_improvement(
    x: ArrayLike,
    y: ArrayLike,
    rng: np.random.Generator,
    *,
    paired: bool = False,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Comparison:
    """P(X > Y) + P(X = Y) / 2 over runs, x ``[Rx]``, y ``[Ry]``: one number per run, larger is better.

    Unpaired compares every run of X with every run of Y (the Mann-Whitney statistic over its maximum) and resamples
    the two sides separately. Paired compares run i with run i and resamples pairs: right where a seed fixes something
    that both algorithms share, such as the instance they are trained on.

    Raises:
        ValueError: a missing value (drop the run and say so), an empty side, or unequal lengths when paired.
    """
    left, right = _complete("x", x), _complete("y", y)
    if paired and len(left) != len(right):
        raise ValueError(f"paired comparison needs one run of each per seed, got {len(left)} and {len(right)} runs")
    if paired:
        wins = _win(left, right)
        drawn = wins[rng.integers(len(wins), size=(resamples, len(wins)))].mean(axis=1)
    else:
        wins = _win(left[:, None], right[None, :])
        weights = [rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n for n in wins.shape]
        drawn = ((weights[0] @ wins) * weights[1]).sum(axis=1)
    enough = min(len(left), len(right)) > 1
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) if enough else (math.nan, math.nan)
    unit = "pairs of runs" if paired else "the runs of each side"
    method = f"{level:.0%} bootstrap percentile interval, {resamples} resamples of {unit}"
    return Comparison(float(wins.mean()), float(low), float(high), (len(left), len(right)), paired, method)


def difference_interval(
    x: ArrayLike, y: ArrayLike, rng: np.random.Generator, *, level: float = LEVEL, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Percentile interval of mean(x) - mean(y), x ``[Rx]``, y ``[Ry]``, sides resampled separately.

    NaN where either side has fewer than two runs.
    """
    sides = _complete("x", x), _complete("y", y)
    if min(map(len, sides)) < 2:
        return math.nan, math.nan
    left, right = (side[rng.integers(len(side), size=(resamples, len(side)))].mean(axis=1) for side in sides)
    low, high = np.quantile(left - right, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


# --- over tasks ---------------------------------------------------------------------------------------------------

Scores = Sequence[ArrayLike]  # one array [R_m] for each task m: tasks may have unlike numbers of runs


def task_mean(scores: Sequence[FloatArray]) -> FloatArray:
    """Mean over tasks of the mean over runs; scores M times ``[..., R_m]`` -> ``[...]``."""
    return np.mean([task.mean(axis=-1) for task in scores], axis=0)


def task_median(scores: Sequence[FloatArray]) -> FloatArray:
    """Median over tasks of the mean over runs; scores M times ``[..., R_m]`` -> ``[...]``."""
    return np.median([task.mean(axis=-1) for task in scores], axis=0)


def task_iqm(scores: Sequence[FloatArray]) -> FloatArray:
    """Interquartile mean of all runs of all tasks together; scores M times ``[..., R_m]`` -> ``[...]``.

    A task with more runs weighs more, so compare algorithms that have the same runs on the same tasks.
    """
    return iqm(np.concatenate(scores, axis=-1)[..., None])[..., 0]


def optimality_gap(scores: Sequence[FloatArray], best: float = 1.0) -> FloatArray:
    """How far runs fall short of ``best``, on average; what lies above it counts as equal to it."""
    return best - np.minimum(np.concatenate(scores, axis=-1), best).mean(axis=-1)


AGGREGATES: Mapping[str, Callable[[Sequence[FloatArray]], FloatArray]] = {
    "mean": task_mean,
    "median": task_median,
    "iqm": task_iqm,
    "optimality gap": optimality_gap,
}


@dataclass(frozen=True)
class Aggregate:
    """A number over several tasks with its interval: ``value``, ``low``, ``high`` ``[P]``; ``n`` runs of each task."""

    value: FloatArray
    low: FloatArray
    high: FloatArray
    n: tuple[int, ...]
    method: str


def aggregate(
    scores: Scores,
    rng: np.random.Generator,
    statistic: str = "iqm",
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Aggregate:
    """A statistic over tasks with its stratified bootstrap interval: runs are resampled within each task.

    Tasks are those of the benchmark and not drawn from anything, so they are never resampled.

    Args:
        scores: one array ``[R_m]`` for each task, on scales that may be averaged (win rates).
        statistic: a key of ``AGGREGATES``.

    Raises:
        ValueError: no tasks, a missing value (drop the run and say so), or an unknown statistic.
    """
    check_name("statistic", statistic, AGGREGATES)
    tasks = _tasks(scores)
    of = AGGREGATES[statistic]
    drawn = of([task[rng.integers(len(task), size=(resamples, len(task)))] for task in tasks])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    if min(map(len, tasks)) < 2:
        low = high = math.nan
    method = f"{statistic} and {level:.0%} stratified bootstrap percentile interval, {resamples} resamples within tasks"
    value, low, high = (np.array([float(end)]) for end in (of(tasks), low, high))
    return Aggregate(value, low, high, tuple(map(len, tasks)), method)


def performance_profile(
    scores: Scores,
    taus: ArrayLike,
    rng: np.random.Generator,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Aggregate:
    """Share of all runs of all tasks whose score is above tau, for each of ``taus`` ``[P]``, with pointwise intervals.

    Raises:
        ValueError: as ``aggregate``.
    """
    tasks, grid = _tasks(scores), np.asarray(taus, dtype=float)

    def profile(parts: Sequence[FloatArray]) -> FloatArray:
        ordered = np.sort(np.concatenate(parts, axis=-1), axis=-1)
        at_most = np.stack([np.searchsorted(row, grid, side="right") for row in np.atleast_2d(ordered)])
        return 1 - at_most / ordered.shape[-1]

    drawn = profile([task[rng.integers(len(task), size=(resamples, len(task)))] for task in tasks])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    method = f"share of runs above, {level:.0%} stratified bootstrap percentile interval, {resamples} resamples"
    return Aggregate(profile(tasks)[0], low, high, tuple(map(len, tasks)), method)


def improvement_over_tasks(
    x: Scores, y: Scores, rng: np.random.Generator, *, level: float = LEVEL, resamples: int = RESAMPLES
) -> Comparison:
    """Mean over tasks of ``probability_of_improvement``, runs of both sides resampled within each task.

    Raises:
        ValueError: unlike numbers of tasks, or as ``aggregate``.
    """
    left, right = _tasks(x), _tasks(y)
    if len(left) != len(right):
        raise ValueError(f"x has {len(left)} tasks and y {len(right)}; expected the same tasks on both sides")
    values, draws = [], []
    for one, other in zip(left, right, strict=True):
        wins = _win(one[:, None], other[None, :])
        weights = [rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n for n in wins.shape]
        values.append(wins.mean())
        draws.append(((weights[0] @ wins) * weights[1]).sum(axis=1))
    low, high = np.quantile(np.mean(draws, axis=0), [(1 - level) / 2, (1 + level) / 2])
    if min(map(len, [*left, *right])) < 2:
        low = high = math.nan
    sizes = sum(map(len, left)), sum(map(len, right))
    method = f"{level:.0%} stratified bootstrap percentile interval, {resamples} resamples of the runs of each task"
    return Comparison(float(np.mean(values)), float(low), float(high), sizes, False, method)


def _tasks(scores: Scores) -> list[FloatArray]:
    if not len(scores):
        raise ValueError("no tasks: expected one array of runs for each task")
    return [_complete(f"task {index}", task) for index, task in enumerate(scores)]


# --- from summaries -----------------------------------------------------------------------------------------------


def can_tell(n: int, m: int, level: float = LEVEL) -> bool:
    """Whether n runs against m can differ at this level at all: the exact two-sided Mann-Whitney test's smallest p.

    If all n lie above all m, its p is 2 / C(n + m, n): 0.1 for three against three, 0.03 for four against four.
    """
    return min(n, m) > 0 and 2 / math.comb(n + m, n) <= 1 - level + 1e-12


def welch_interval(
    x: tuple[float, float, int], y: tuple[float, float, int], level: float = LEVEL
) -> tuple[float, float]:
    """Interval of mean(x) - mean(y) from (mean, standard deviation, runs) of each side; NaN with a single run."""
    (mean_x, std_x, n), (mean_y, std_y, m) = x, y
    if min(n, m) < 2:
        return math.nan, math.nan
    a, b = std_x**2 / n, std_y**2 / m
    difference = mean_x - mean_y
    if a + b == 0:
        return difference, difference
    df = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1))
    half = student_quantile((1 + level) / 2, df) * math.sqrt(a + b)
    return difference - half, difference + half


# --- helpers ------------------------------------------------------------------------------------------------------


def _interval(
    interval: str, statistic: str, rng: np.random.Generator | None, level: float, resamples: int
) -> Callable[[FloatArray], tuple[FloatArray, FloatArray]]:
    check_name("interval", interval, ("bootstrap", "student"))
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}; for 95% write 0.95")
    if interval == "student":
        if statistic != "mean":
            raise ValueError(f"Student's interval is for the mean, not the {statistic}; use interval='bootstrap'")
        return functools.partial(student_interval, level=level)
    if rng is None:
        raise ValueError("a bootstrap interval needs rng, a np.random.Generator such as np.random.default_rng(0)")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    return functools.partial(
        bootstrap_interval, rng=rng, statistic=STATISTICS[statistic], level=level, resamples=resamples
    )


def method(statistic: str, interval: str, level: float = LEVEL, resamples: int = RESAMPLES) -> str:
    """What an estimate shows and how its interval was made, for captions."""
    kinds = {
        "bootstrap": f"bootstrap percentile interval over runs, {resamples} resamples",
        "student": "Student t interval over runs",
    }
    return f"{statistic} and {level:.0%} {kinds[interval]}"


def _win(x: FloatArray, y: FloatArray) -> FloatArray:
    return (x > y) + 0.5 * (x == y)


def _complete(name: str, values: ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} must be one number per run, got shape {array.shape}")
    if np.isnan(array).any():
        raise ValueError(f"{name} lacks {int(np.isnan(array).sum())} of {array.size} runs; drop them and say so")
    return array
