"""Claims of a paper, decided from runs: is this algorithm's measure the highest of those compared?

The verdict rests on the probability of improvement over each rival (P(X > Y) + P(X = Y) / 2, bootstrap over seeds):

* holds: its interval lies above one half against every rival;
* does not hold: it lies below one half against at least one;
* holds in part: above against one or more, and the runs do not tell it from the others;
* undecided: the runs tell it from none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smix_pz.benchmarks.report import Claim
from smix_pz.benchmarks.statistics import Aligned, align, common_grid, probability_of_improvement
from smix_pz.names import check_name
from smix_pz.records import RunRecord

Values = NDArray[np.float64]


def _final(runs: Aligned, until: float) -> Values:
    return runs.values[:, -1]


def _early_area(runs: Aligned, until: float) -> Values:
    return runs.values[:, runs.steps <= until].mean(axis=1)


# name -> (what it is called, one number for each run)
MEASURES: dict[str, tuple[str, Callable[[Aligned, float], Values]]] = {
    "final": ("{noun} at the end", _final),
    "early_area": ("mean {noun} over the first {until:,} steps", _early_area),
}


def decide(
    claim: Mapping[str, Any], groups: Mapping[str, Sequence[RunRecord]], metric: str = "eval/return", seed: int = 0
) -> Claim:
    """Decide one claim: ``text``, ``algorithm``, ``measure`` and, where the measure needs it, ``until``."""
    check_name("measure", claim["measure"], MEASURES)
    name, measure = MEASURES[claim["measure"]]
    until = int(claim.get("until", 0))
    finished = {label: [r for r in records if r.finished] for label, records in groups.items()}
    ours = claim["algorithm"]
    rivals = [label for label in finished if label != ours and finished[label]]
    if not finished.get(ours) or not rivals:
        return Claim(claim["text"], "not tested", f"needs finished runs of {ours} and of one other algorithm")
    noun = metric.rpartition("/")[2].replace("_", " ")
    grid = common_grid([r for records in finished.values() for r in records], metric)
    values = {label: measure(align(records, metric, grid), until) for label, records in finished.items() if records}
    rng = np.random.default_rng(seed)
    evidence = [
        f"{name.format(noun=noun, until=until)}: " + ", ".join(f"{k} {v.mean():.2f}" for k, v in values.items())
    ]
    lows, highs = [], []
    for rival in rivals:
        found = probability_of_improvement(values[ours], values[rival], rng)
        lows.append(found.low)
        highs.append(found.high)
        evidence.append(
            f"a run of {ours} does better than one of {rival} with probability {found.probability:.2f} "
            f"[{found.low:.2f}, {found.high:.2f}]"
        )
    if min(lows) > 0.5:
        verdict = "holds"
    elif min(highs) < 0.5:
        verdict = "does not hold"
    elif max(lows) > 0.5:
        verdict = "holds in part"
    else:
        verdict = "undecided"
    return Claim(claim["text"], verdict, "; ".join(evidence))
