"""Statistics over tasks and from summaries: against SciPy, brute force, and rliable where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from smix_pz.benchmarks import statistics

RNG = np.random.default_rng(7)
SCORES = [np.clip(RNG.normal(centre, 0.2, size=10), 0, 1) for centre in (0.2, 0.5, 0.9)]
OTHERS = [np.clip(RNG.normal(centre, 0.2, size=10), 0, 1) for centre in (0.1, 0.5, 0.6)]
TAUS = np.linspace(0, 1, 21)


def fresh() -> np.random.Generator:
    return np.random.default_rng(0)


def test_aggregates_by_scipy_and_by_hand() -> None:
    matrix = np.stack(SCORES, axis=1)  # [R, M], as rliable has it
    assert statistics.task_iqm(SCORES) == pytest.approx(scipy.stats.trim_mean(matrix, 0.25, axis=None))
    assert statistics.task_mean(SCORES) == pytest.approx(matrix.mean())
    assert statistics.task_median(SCORES) == pytest.approx(np.median(matrix.mean(axis=0)))
    assert statistics.optimality_gap(SCORES) == pytest.approx(np.mean(1 - matrix))
    assert statistics.optimality_gap([np.array([0.5, 2.0])]) == pytest.approx(
        0.25
    )  # what is above the best is the best


def test_runs_are_resampled_within_their_task() -> None:
    """Tasks far apart, runs of a task all equal: the mean cannot vary, as it would if tasks were resampled."""
    found = statistics.aggregate([np.zeros(5), np.ones(5)], fresh(), "mean")
    assert (found.value[0], found.low[0], found.high[0]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("statistic", statistics.AGGREGATES)
def test_the_interval_is_that_of_a_plain_loop(statistic: str) -> None:
    found = statistics.aggregate(SCORES, fresh(), statistic, resamples=4000)
    rng = np.random.default_rng(1)
    of = statistics.AGGREGATES[statistic]
    drawn = [of([rng.choice(task, len(task)) for task in SCORES]) for _ in range(4000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.low[0] == pytest.approx(low, abs=0.01) and found.high[0] == pytest.approx(high, abs=0.01)
    assert found.low[0] < found.value[0] < found.high[0]


def test_tasks_may_have_unlike_numbers_of_runs_and_no_missing_ones() -> None:
    found = statistics.aggregate([SCORES[0][:4], SCORES[1]], fresh(), "mean")
    assert found.value[0] == pytest.approx((SCORES[0][:4].mean() + SCORES[1].mean()) / 2) and found.n == (4, 10)
    assert np.isnan(statistics.aggregate([SCORES[0][:1], SCORES[1]], fresh()).low[0])
    with pytest.raises(ValueError, match="task 1 lacks 1 of 2 runs"):
        statistics.aggregate([SCORES[0], np.array([0.5, np.nan])], fresh())
    with pytest.raises(ValueError, match="did you mean 'iqm'"):
        statistics.aggregate(SCORES, fresh(), "iqn")
    with pytest.raises(ValueError, match="no tasks"):
        statistics.aggregate([], fresh())


def test_profiles_count_the_runs_above() -> None:
    runs = [np.array([0.0, 0.5, 0.5, 1.0]), np.array([0.25, 1.0])]
    found = statistics.performance_profile(runs, [0.0, 0.25, 0.5, 0.99, 1.0], fresh())
    np.testing.assert_allclose(found.value, [5 / 6, 4 / 6, 2 / 6, 2 / 6, 0])
    assert ((found.low <= found.value) & (found.value <= found.high)).all()


def test_improvement_over_tasks_is_the_mean_of_mann_whitney() -> None:
    found = statistics.improvement_over_tasks(SCORES, OTHERS, fresh())
    one = [scipy.stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)) for x, y in zip(SCORES, OTHERS, strict=True)]
    assert found.probability == pytest.approx(np.mean(one)) and found.low < found.probability < found.high
    same = statistics.improvement_over_tasks(SCORES, SCORES, fresh())
    assert same.probability == 0.5
    with pytest.raises(ValueError, match="3 tasks and y 2"):
        statistics.improvement_over_tasks(SCORES, OTHERS[:2], fresh())


@pytest.mark.parametrize(("n", "m"), [(1, 30), (2, 7), (2, 8), (3, 3), (3, 5), (4, 4), (5, 5)])
def test_too_few_runs_is_what_the_exact_test_says(n: int, m: int) -> None:
    smallest = scipy.stats.mannwhitneyu(np.arange(n) + 100.0, np.arange(m), method="exact").pvalue
    assert statistics.can_tell(n, m) == (smallest <= 0.05)


@pytest.mark.parametrize(("n", "m"), [(10, 10), (3, 10), (2, 2)])
def test_welch_by_scipy(n: int, m: int) -> None:
    x, y = RNG.normal(1, 2, n), RNG.normal(0, 1, m)
    sides = [(float(side.mean()), float(side.std(ddof=1)), len(side)) for side in (x, y)]
    wanted = scipy.stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    assert statistics.welch_interval(*sides) == pytest.approx((wanted.low, wanted.high))


def test_welch_at_its_edges() -> None:
    assert statistics.welch_interval((99, 0, 10), (0, 0, 10)) == (99, 99)
    assert np.isnan(statistics.welch_interval((99, 0, 1), (0, 0, 10))).all()


def test_std_by_numpy() -> None:
    values = RNG.normal(size=(6, 3))
    np.testing.assert_allclose(statistics.std(values), np.std(values, axis=0, ddof=1))
    assert np.isnan(statistics.std(values[:1])).all()


def test_against_rliable() -> None:
    metrics = pytest.importorskip("rliable.metrics", reason="rliable is an optional reference")
    library = pytest.importorskip("rliable.library")
    matrix, other = np.stack(SCORES, axis=1), np.stack(OTHERS, axis=1)
    names = {
        "mean": metrics.aggregate_mean,
        "median": metrics.aggregate_median,
        "iqm": metrics.aggregate_iqm,
        "optimality gap": metrics.aggregate_optimality_gap,
    }
    for name, theirs in names.items():
        ours = statistics.aggregate(SCORES, fresh(), name)
        assert ours.value[0] == pytest.approx(theirs(matrix))
        # rliable 1.2's own intervals need a release of arch from before NumPy 2; its resampling is written out here.
        rng = np.random.default_rng(1)
        drawn = [theirs(np.stack([rng.choice(task, len(task)) for task in SCORES], axis=1)) for _ in range(2000)]
        np.testing.assert_allclose([ours.low[0], ours.high[0]], np.quantile(drawn, [0.025, 0.975]), atol=0.015)
    ours_p = statistics.improvement_over_tasks(SCORES, OTHERS, fresh()).probability
    assert ours_p == pytest.approx(metrics.probability_of_improvement(matrix, other))
    profile = statistics.performance_profile(SCORES, TAUS, fresh()).value
    np.testing.assert_allclose(profile, library.score_distributions(matrix, TAUS))
