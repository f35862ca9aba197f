"""Verdicts on a paper's claims, from made-up runs whose order is known."""

from __future__ import annotations

import numpy as np
import pytest

from smix_pz.benchmarks.claims import decide
from smix_pz.records import RunRecord

CLAIM = {"text": "x is best", "algorithm": "x", "measure": "final"}


def runs(algorithm: str, finals: list[float], early: float = 0.0) -> list[RunRecord]:
    header = {
        "algorithm": algorithm,
        "env": "e",
        "env_kwargs": {},
        "engine": {"name": "n", "version": "1"},
        "config": {},
    }
    return [
        RunRecord(
            {**header, "seed": seed},
            tuple({"t_env": s, "step": s, "eval/return": v} for s, v in ((0, 0.0), (10, early), (20, final))),
            True,
        )
        for seed, final in enumerate(finals)
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ([5.0] * 8, [1.0] * 8, "holds"),
        ([1.0] * 8, [5.0] * 8, "does not hold"),
        ([3.0] * 8, [3.0] * 8, "undecided"),
    ],
)
def test_verdict_follows_the_order(ours: list[float], theirs: list[float], verdict: str) -> None:
    assert decide(CLAIM, {"x": runs("x", ours), "y": runs("y", theirs)}).verdict == verdict


def test_every_rival_counts() -> None:
    groups = {"x": runs("x", [5.0] * 8), "y": runs("y", [1.0] * 8), "z": runs("z", [9.0] * 8)}
    assert decide(CLAIM, groups).verdict == "does not hold"


def test_better_than_one_and_equal_to_another_holds_in_part() -> None:
    groups = {"x": runs("x", [5.0] * 8), "y": runs("y", [1.0] * 8), "z": runs("z", [5.0] * 8)}
    assert decide(CLAIM, groups).verdict == "holds in part"


def test_overlapping_runs_are_undecided() -> None:
    rng = np.random.default_rng(0)
    groups = {name: runs(name, rng.normal(size=10).tolist()) for name in "xy"}
    assert decide(CLAIM, groups).verdict == "undecided"


def test_early_area_looks_at_the_beginning_only() -> None:
    claim = {**CLAIM, "measure": "early_area", "until": 10}
    groups = {"x": runs("x", [0.0] * 6, early=2.0), "y": runs("y", [9.0] * 6, early=1.0)}
    found = decide(claim, groups)
    assert found.verdict == "holds" and "x 1.00, y 0.50" in found.evidence  # means over steps 0 and 10


def test_nothing_to_compare_is_said() -> None:
    assert decide(CLAIM, {"x": runs("x", [1.0] * 3), "y": []}).verdict == "not tested"
