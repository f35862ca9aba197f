"""Records on one grid: against hand-made ones, and what may not stand together."""

from __future__ import annotations

import numpy as np
import pytest

from smix_pz.benchmarks.alignment import align, check_group
from smix_pz.records import RunRecord


def run(points: dict[int, float | None], seed: int = 0, **header: object) -> RunRecord:
    metrics = tuple({"t_env": step + 7, "step": step, "eval/return": value} for step, value in points.items())
    return RunRecord({"algorithm": "smix", "env": "toy", "engine": "toy 1", "seed": seed, **header}, metrics, True)


def test_align_leaves_missing_points_missing_and_lists_them() -> None:
    aligned = align(
        [run({0: 1.0, 10: 2.0, 20: 4.0}, 3), run({0: 5.0}, 8), run({20: 1.0, 0: 0.0, 10: None}, 9)], "eval/return"
    )
    assert aligned.steps.tolist() == [0, 10, 20]
    np.testing.assert_array_equal(aligned.values, [[1, 2, 4], [5, np.nan, np.nan], [0, np.nan, 1]])
    assert aligned.missing == {8: [10.0, 20.0], 9: [10.0]}
    assert aligned.n_missing.tolist() == [0, 2, 1]


def test_a_run_without_the_metric_is_a_row_of_missing_points() -> None:
    aligned = align([run({0: 1.0, 10: 2.0}, 0), run({}, 1)], "eval/return")
    assert aligned.missing == {1: [0.0, 10.0]}


@pytest.mark.parametrize(
    ("records", "metric", "message"),
    [
        (
            [run({0: 1.0, 10: 2.0, 20: 1.0}), run({0: 1.0, 15: 2.0}, 4)],
            "eval/return",
            r"seed 4 .* step 15.*nearest: 10",
        ),
        ([run({0: 1.0})], "eval/retrun", "did you mean 'eval/return'"),
        ([], "eval/return", "no records"),
    ],
)
def test_align_refuses(records: list[RunRecord], metric: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        align(records, metric)


def test_align_refuses_a_point_twice() -> None:
    row = {"t_env": 1, "step": 10, "eval/return": 1.0}
    with pytest.raises(ValueError, match="more than once at step 10"):
        align([RunRecord({"seed": 0}, (row, row))], "eval/return")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (run({0: 1.0}, 1, engine="toy 2"), "engine 'toy 1' and 'toy 2'"),
        (run({0: 1.0}, 1, engine={"name": "toy", "version": 1, "preset": "hard"}), r"'toy 1 \(preset hard\)'"),
        (run({0: 1.0}, 1, env="other"), "env 'toy' and 'other'"),
        (run({0: 1.0}, 1, algorithm="qmix"), "algorithm 'smix' and 'qmix'"),
        (run({0: 1.0}, 0), "more than one record of seed 0"),
    ],
)
def test_a_group_is_one_experiment(other: RunRecord, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_group("smix", [run({0: 1.0}, 0), other])
