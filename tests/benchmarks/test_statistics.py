"""Statistics against scipy, against hand-computed numbers, and against their own law of coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from smix_pz.benchmarks import statistics as st
from smix_pz.benchmarks.student import student_quantile

# --- one number per run -------------------------------------------------------------------------------------------

CURVES = np.array([[0.0, 2.0, 4.0, 6.0], [1.0, 1.0, 1.0, 1.0], [0.0, np.nan, 5.0, 7.0], [5.0, np.nan, 1.0, 3.0]])
STEPS = np.array([0.0, 10.0, 20.0, 30.0])


def test_final_value_and_area_by_hand() -> None:
    np.testing.assert_array_equal(st.final_value(CURVES), [6, 1, 7, 3])
    np.testing.assert_array_equal(st.final_value(CURVES, last=2), [5, 1, 6, 2])
    np.testing.assert_array_equal(st.final_value(CURVES, last=3), [4, 1, np.nan, np.nan])
    np.testing.assert_array_equal(st.area_under_curve(CURVES), [3, 1, np.nan, np.nan])
    with pytest.raises(ValueError, match="between 1 and the grid's 4 points, got 5"):
        st.final_value(CURVES, last=5)


def test_steps_to_threshold_tells_never_from_unknown() -> None:
    found = st.steps_to_threshold(STEPS, CURVES, 4.0)
    # Run 2 is seen above 4 at step 20, but may have been there at 10; run 3 was above before its gap.
    np.testing.assert_array_equal(found.steps, [20, np.nan, np.nan, 0])
    assert (found.reached, found.never, found.unknown) == (2, 1, 1)
    assert found.median == 10
    assert math.isnan(st.steps_to_threshold(STEPS, CURVES, 99.0).median)


# --- over runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 10, 20, 23])
def test_iqm_is_scipys_trimmed_mean(n: int) -> None:
    values = np.random.default_rng(n).normal(size=(n, 3))
    np.testing.assert_allclose(st.iqm(values), scipy.stats.trim_mean(values, 0.25, axis=0), rtol=1e-13)


def test_iqm_by_hand() -> None:
    assert st.iqm(np.array([[100.0], [1.0], [2.0], [3.0], [4.0], [-50.0], [5.0], [0.0]])) == [2.5]


@pytest.mark.parametrize("df", [1, 2, 3, 4, 9, 19, 29, 99, 1000, 2.5])
@pytest.mark.parametrize("probability", [0.001, 0.4, 0.5, 0.6, 0.9, 0.975, 0.9999])
def test_student_quantile_against_scipy(df: float, probability: float) -> None:
    expected = scipy.stats.t.ppf(probability, df)
    assert student_quantile(probability, df) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_student_interval_against_scipy() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=(7, 5))
    found = st.estimate(values, interval="student", level=0.9)
    low, high = scipy.stats.t.interval(0.9, 6, values.mean(axis=0), scipy.stats.sem(values, axis=0))
    np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-10)


@pytest.mark.parametrize(
    ("statistic", "reference"),
    [("mean", np.mean), ("median", np.median), ("iqm", lambda x, axis: scipy.stats.trim_mean(x, 0.25, axis=axis))],
)
def test_bootstrap_against_scipy(statistic: str, reference: object) -> None:
    values = np.random.default_rng(5).gamma(2.0, size=(12, 2))
    found = st.estimate(values, np.random.default_rng(1), statistic=statistic, resamples=20_000)
    for point in range(2):
        expected = scipy.stats.bootstrap(
            (values[:, point],), reference, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
        ).confidence_interval
        width = expected.high - expected.low
        assert found.low[point] == pytest.approx(expected.low, abs=0.04 * width)
        assert found.high[point] == pytest.approx(expected.high, abs=0.04 * width)


def test_bootstrap_resamples_whole_runs() -> None:
    """Two points that are copies of each other get the same interval; so does their order when split in slices."""
    column = np.random.default_rng(0).normal(size=(9, 1))
    found = st.estimate(np.hstack([column, 10 * column]), np.random.default_rng(3))
    np.testing.assert_allclose(10 * found.low[0], found.low[1])


def test_slices_of_points_do_not_change_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(6, 11))
    whole = st.estimate(values, np.random.default_rng(4), resamples=300)
    monkeypatch.setattr(st, "CHUNK", 6 * 300 * 2)
    sliced = st.estimate(values, np.random.default_rng(4), resamples=300)
    np.testing.assert_array_equal(whole.low, sliced.low)


@pytest.mark.parametrize("interval", ["bootstrap", "student"])
def test_interval_of_the_mean_covers(interval: st.Interval) -> None:
    """400 simulated studies of 20 normal runs: about 95% of the intervals hold the true mean (bootstrap: 92%)."""
    truth, rng = 1.5, np.random.default_rng(11)
    hits = 0
    for study in range(400):
        found = st.estimate(rng.normal(truth, 2, 20), np.random.default_rng(study), interval=interval, resamples=500)
        hits += bool(found.low[0] <= truth <= found.high[0])
    assert 0.89 <= hits / 400 <= 0.975


def test_missing_runs_are_never_averaged_over_unasked() -> None:
    values = np.array([[1.0, 1.0], [3.0, np.nan], [8.0, 9.0]])
    strict = st.estimate(values, np.random.default_rng(0))
    assert strict.value[0] == 4 and math.isnan(strict.value[1]) and math.isnan(strict.low[1])
    asked = st.estimate(values, np.random.default_rng(0), missing="omit")
    assert asked.value.tolist() == [4, 5]
    assert asked.n.tolist() == [3, 2] and asked.complete.tolist() == [True, False] and asked.n_runs == 3
    assert 1 <= asked.low[1] <= asked.high[1] <= 9


@pytest.mark.parametrize("interval", ["bootstrap", "student"])
def test_one_run_has_no_interval_and_equal_runs_one_of_no_width(interval: st.Interval) -> None:
    single = st.estimate(np.array([[2.0, 3.0]]), np.random.default_rng(0), interval=interval)
    assert single.value.tolist() == [2, 3] and np.isnan([single.low, single.high]).all()
    constant = st.estimate(np.full(7, 0.1), np.random.default_rng(0), interval=interval)
    assert (constant.value[0], constant.low[0], constant.high[0]) == (0.1, 0.1, 0.1)


def test_the_same_generator_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=6)
    first, second = (st.estimate(values, np.random.default_rng(9)) for _ in range(2))
    assert first.low[0] == second.low[0] and "2000 resamples" in first.method and "95%" in first.method


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statistic": "mode"}, "unknown statistic 'mode'"),
        ({"interval": "students"}, "did you mean 'student'"),
        ({"interval": "student", "statistic": "median"}, "is for the mean"),
        ({"rng": None}, "needs rng"),
        ({"level": 95.0}, "for 95% write 0.95"),
        ({"values": np.array([1.0, np.inf])}, "infinity"),
        ({"values": np.empty((0, 3))}, "at least one run"),
    ],
)
def test_estimate_refuses(options: dict[str, object], message: str) -> None:
    arguments = {"values": np.arange(4.0), "rng": np.random.default_rng(0), **options}
    with pytest.raises(ValueError, match=message):
        st.estimate(**arguments)  # type: ignore[arg-type]


# --- comparison ---------------------------------------------------------------------------------------------------


def test_probability_of_improvement_by_hand_and_by_mann_whitney() -> None:
    x, y = [8.0, 8.0, 5.0], [5.0, 8.0]
    found = st.probability_of_improvement(x, y, np.random.default_rng(0))
    # pairs: 8>5 1, 8=8 1/2, 8>5 1, 8=8 1/2, 5=5 1/2, 5<8 0
    assert found.probability == pytest.approx(3.5 / 6)
    assert found.probability == pytest.approx(scipy.stats.mannwhitneyu(x, y).statistic / 6)
    assert 0 <= found.low <= found.probability <= found.high <= 1 and found.n == (3, 2)


def test_improvement_interval_against_scipy() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(0.5, 1, 10), rng.normal(0, 1, 8)
    found = st.probability_of_improvement(x, y, np.random.default_rng(0), resamples=8000)
    expected = scipy.stats.bootstrap(
        (x, y),
        lambda a, b: scipy.stats.mannwhitneyu(a, b).statistic / 80,
        n_resamples=2000,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.03)


def test_pairing_matters_when_seeds_share_difficulty() -> None:
    difficulty = np.random.default_rng(0).normal(0, 10, 12)
    paired = st.probability_of_improvement(difficulty + 0.1, difficulty, np.random.default_rng(0), paired=True)
    unpaired = st.probability_of_improvement(difficulty + 0.1, difficulty, np.random.default_rng(0))
    assert (paired.probability, paired.low, paired.high) == (1, 1, 1)
    assert unpaired.probability < 0.6 and unpaired.low < 0.5


def test_improvement_edges() -> None:
    rng = np.random.default_rng(0)
    equal = st.probability_of_improvement([2.0, 2.0], [2.0, 2.0], rng)
    assert (equal.probability, equal.low, equal.high) == (0.5, 0.5, 0.5)
    assert math.isnan(st.probability_of_improvement([1.0], [0.0, 2.0], rng).low)
    with pytest.raises(ValueError, match="lacks 1 of 2 runs"):
        st.probability_of_improvement([1.0, np.nan], [1.0], rng)
    with pytest.raises(ValueError, match="got 2 and 1 runs"):
        st.probability_of_improvement([1.0, 2.0], [1.0], rng, paired=True)


def test_difference_interval_against_scipy() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(1, 1, 9), rng.normal(0, 2, 14)
    expected = scipy.stats.bootstrap(
        (x, y),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = st.difference_interval(x, y, np.random.default_rng(0), resamples=20_000)
    assert found == pytest.approx((expected.low, expected.high), abs=0.06)
