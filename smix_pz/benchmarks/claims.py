"""Claims of a paper, decided from runs: is this algorithm's measure the highest of those compared?

The verdict on one task rests on the probability of improvement over each rival (P(X > Y) + P(X = Y) / 2, bootstrap over
seeds):

* holds: its interval lies above one half against every rival;
* does not hold: it lies below one half against at least one;
* holds in part: above against one or more, and the runs do not tell it from the others;
* undecided: the runs tell it from none; always so where there are too few of them to tell (``statistics.can_tell``).

Over several tasks: holds, if it does on each; holds in part, if it does on some; does not hold, if it fails on one or
more and holds on none. A claim about runs of a given length is not tested by shorter ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smix_pz.benchmarks.alignment import Aligned, align, common_grid
from smix_pz.benchmarks.report import Claim
from smix_pz.benchmarks.statistics import can_tell, probability_of_improvement
from smix_pz.names import check_name
from smix_pz.records import RunRecord

Values = NDArray[np.float64]


def _final(runs: Aligned, until: float) -> Values:
    return runs.values[:, -1]


def _early_area(runs: Aligned, until: float) -> Values:
    return runs.values[:, runs.steps <= until].mean(axis=1)


def _area(runs: Aligned, until: float) -> Values:
    return runs.values.mean(axis=1)


# name -> (what it is called, one number for each run)
MEASURES: dict[str, tuple[str, Callable[[Aligned, float], Values]]] = {
    "final": ("{noun} at the end", _final),
    "area": ("mean {noun} over all of training", _area),
    "early_area": ("mean {noun} over the first {until:,} steps", _early_area),
}


@dataclass(frozen=True)
class _Decision:
    """A verdict on one task with what it rests on; ``about`` names the measure, ``numbers`` are those of the runs."""

    verdict: str
    about: str = ""
    numbers: str = ""
    doubts: tuple[str, ...] = ()


def decide(
    claim: Mapping[str, Any], groups: Mapping[str, Sequence[RunRecord]], metric: str = "eval/return", seed: int = 0
) -> Claim:
    """Decide one claim on one task: ``text``, ``algorithm``, ``measure`` and, where the measure needs it, ``until``.

    ``over`` names the rivals; by default all others that have finished runs.
    """
    found = _decide(claim, groups, metric, seed)
    if not found.numbers:
        return Claim(claim["text"], found.verdict, found.doubts[0])
    return Claim(claim["text"], found.verdict, "; ".join([f"{found.about}: {found.numbers}", *found.doubts]))


def _decide(claim: Mapping[str, Any], groups: Mapping[str, Sequence[RunRecord]], metric: str, seed: int) -> _Decision:
    check_name("measure", claim["measure"], MEASURES)
    name, measure = MEASURES[claim["measure"]]
    until = int(claim.get("until", 0))
    finished = {label: [r for r in records if r.finished] for label, records in groups.items()}
    ours, named = claim["algorithm"], claim.get("over")
    rivals = [label for label in finished if label != ours and finished[label] and (named is None or label in named)]
    lacking = [label for label in named or () if label not in rivals]
    if not finished.get(ours) or not rivals:
        return _Decision("not tested", doubts=(f"needs finished runs of {ours} and of one other algorithm",))
    noun = metric.rpartition("/")[2].replace("_", " ")
    compared = {label: finished[label] for label in (ours, *rivals)}
    grid = common_grid([r for records in compared.values() for r in records], metric)
    values = {label: measure(align(records, metric, grid), until) for label, records in compared.items()}
    rng = np.random.default_rng(seed)
    lows, highs, numbers, few = [], [], [f"{ours} {values[ours].mean():.2f}"], set()
    for rival in rivals:
        found = probability_of_improvement(values[ours], values[rival], rng)
        chance = f"{found.probability:.2f} [{found.low:.2f}, {found.high:.2f}]"
        numbers.append(f"{rival} {values[rival].mean():.2f} (P {chance})")
        enough = can_tell(*found.n)
        lows.append(found.low if enough else 0.0)
        highs.append(found.high if enough else 1.0)
        if not enough:
            few.add(f"{found.n[0]} runs against {found.n[1]}")
    doubts = [f"{' and '.join(sorted(few))} are too few to tell"] if few else []
    if lacking:
        doubts.append(f"no finished runs of {', '.join(lacking)}")
    if min(lows) > 0.5:
        verdict = "holds in part" if lacking else "holds"
    elif min(highs) < 0.5:
        verdict = "does not hold"
    elif max(lows) > 0.5:
        verdict = "holds in part"
    else:
        verdict = "undecided"
    about = f"{name.format(noun=noun, until=until)}, and P that a run of {ours} does better"
    return _Decision(verdict, about, ", ".join(numbers), tuple(doubts))


def decide_over_tasks(
    claim: Mapping[str, Any],
    tasks: Mapping[str, Mapping[str, Sequence[RunRecord]]],
    metric: str = "eval/return",
    *,
    steps: int = 0,
    paper_steps: int = 0,
) -> Claim:
    """Decide one claim on every task that it speaks of (``maps``; by default all), and on all of them together.

    Args:
        tasks: task -> label -> runs.
        steps, paper_steps: length of these runs and of the paper's; shorter ones test nothing, and the numbers they
            have stand as evidence only. 0: no such condition.
    """
    wanted = list(claim.get("maps") or tasks)
    if wanted == list(tasks) and len(wanted) == 1 and steps >= paper_steps:
        return decide(claim, tasks[wanted[0]], metric)
    found = {name: _decide(claim, tasks[name], metric, 0) for name in wanted if name in tasks}
    tested = {name: one for name, one in found.items() if one.numbers}
    absent = [name for name in wanted if name not in tested]
    if not tested:
        where = f" on {', '.join(absent)}" if any(absent) else ""
        why = f"needs finished runs of {claim['algorithm']} and of what it is compared with{where}"
        return Claim(claim["text"], "not tested", why)
    short = steps < paper_steps
    lines = [f"these runs have {steps:,} steps, the paper's {paper_steps:,}"] if short else []
    lines.append(next(iter(tested.values())).about + ":")
    for name, one in tested.items():
        head = [name] if name else []
        head += [] if short else [one.verdict]
        lines.append((f"{', '.join(head)}: " if head else "") + "; ".join([one.numbers, *one.doubts]))
    if absent:
        lines.append(f"not run: {', '.join(absent)}")
    verdicts = [one.verdict for one in tested.values()]
    if short:
        verdict = "not tested"
    elif all(verdict == "holds" for verdict in verdicts):
        verdict = "holds in part" if absent else "holds"
    elif any(verdict.startswith("holds") for verdict in verdicts):
        verdict = "holds in part"
    else:
        verdict = "does not hold" if "does not hold" in verdicts else "undecided"
    return Claim(claim["text"], verdict, "\n".join(lines))
