"""The paper's numbers beside ours, and numbers over several tasks.

========================= ===========================================================================================
builder                   shows
========================= ===========================================================================================
``paper_table``           win rates after training in the paper's arrangement: a row for each map and source, a column
                          for each algorithm; ours first, the paper's below
``order_table``           each method against its original, map by map: the paper's difference, ours, and whether they
                          agree
``level_table``           each win rate: ours less the paper's, and whether they agree
``tasks_table``           ``tables.summary_table`` of every task, under one another
``aggregate_table``       each algorithm over all tasks: IQM, mean, median, optimality gap, probability of improvement
========================= ===========================================================================================

The paper's tables give mean, standard deviation and median over runs, in whole percent. Its runs were made on StarCraft
II, ours on the engine that each row names; they stand beside each other and are never averaged.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smix_pz.benchmarks import statistics
from smix_pz.benchmarks.alignment import align, engine_label
from smix_pz.benchmarks.table import ABSENT, NBSP, Column, Table, interval_text, number
from smix_pz.benchmarks.tables import BOOTSTRAP_SEED, Groups, missing_runs, summary_table
from smix_pz.names import check_name
from smix_pz.records import RunRecord

Tasks = Mapping[str, Groups]  # task -> label -> runs
Values = NDArray[np.float64]

METRIC = "eval/win_rate"
PAPER_RUNS = 10  # Table III: "10 independent runs" (caption of Figure 6); Table IV repeats two rows of it
PAPER_ENGINE = "StarCraft II"
SAME_LEVEL = 10.0  # points of win rate; two of 24 evaluation episodes are 8
# Label -> what the paper's table calls it. What the paper calls a pair: a method, and the original it revises.
PAPER_LABELS = {
    "smix": "SMIX",
    "qmix": "QMIX",
    **{name: name.upper() for base in ("coma", "vdn", "iql", "qtran") for name in (f"{base}-r", base)},
}
PAIRS = (("smix", "qmix"), ("coma-r", "coma"), ("vdn-r", "vdn"), ("iql-r", "iql"), ("qtran-r", "qtran"))
AGREEMENT = ("agrees", "disagrees", "unknown", "not tested")


@dataclass(frozen=True)
class PaperCell:
    """Mean, standard deviation and median over the paper's runs, in percent."""

    mean: float
    std: float
    median: float


def paper_numbers(table: str) -> dict[tuple[str, str], PaperCell]:
    """(map, the paper's name of the algorithm) -> its numbers.

    Raises:
        ValueError: no such table.
    """
    text = resources.files("smix_pz.benchmarks.studies").joinpath("paper_win_rates.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    check_name("table of the paper", table, {row["table"] for row in rows})
    return {
        (row["map"], row["algorithm"]): PaperCell(float(row["mean"]), float(row["std"]), float(row["median"]))
        for row in rows
        if row["table"] == table
    }


def finals(records: Sequence[RunRecord], metric: str = METRIC, grid: Values | None = None) -> Values:
    """The last evaluation of each finished run that has it, ``[n]``."""
    finished = [record for record in records if record.finished]
    if not finished:
        return np.empty(0)
    values = statistics.final_value(align(finished, metric, grid).values)
    return values[~np.isnan(values)]


# --- the paper's arrangement --------------------------------------------------------------------------------------


def paper_table(
    tasks: Tasks,
    table: str,
    texts: Mapping[str, str],
    *,
    title: str,
    planned: Sequence[int],
    steps: int,
    paper_steps: int,
) -> Table:
    """Win rates in percent after training, ours and the paper's, a column for each of ``texts`` (label -> heading)."""
    numbers = paper_numbers(table)
    rows: list[dict[str, Any]] = []
    for task, groups in tasks.items():
        ours = {label: 100 * finals(groups.get(label, ())) for label in texts}
        engines = {_short_engine(record) for records in groups.values() for record in records}
        sizes = [len(values) for values in ours.values()]
        about = {
            "task": task,
            "source": "ours",
            "engine": "; ".join(sorted(engines)) or ABSENT,
            "steps": steps,
            "runs": f"{min(sizes)}–{max(sizes)}" if min(sizes) != max(sizes) else str(sizes[0]),
            "planned": len(planned),
        }
        paper = {label: numbers.get((task, PAPER_LABELS.get(label, ""))) for label in texts}
        there = {
            "task": task,
            "source": "paper",
            "engine": PAPER_ENGINE,
            "steps": paper_steps,
            "runs": str(PAPER_RUNS),
            "planned": PAPER_RUNS,
        }
        rows += [
            {**about, "statistic": "mean (±std)", **_cells({k: _mean_std(v) for k, v in ours.items()})},
            {**about, "statistic": "median", **_cells({k: (_median(v), None) for k, v in ours.items()})},
        ]
        if any(paper.values()):
            both = {k: (c.mean, c.std) if c else (math.nan, math.nan) for k, c in paper.items()}
            middle = {k: (c.median if c else math.nan, None) for k, c in paper.items()}
            rows += [
                {**there, "statistic": "mean (±std)", **_cells(both)},
                {**there, "statistic": "median", **_cells(middle)},
            ]
    columns = (
        Column("map", ("task",), align="left"),
        Column("engine", ("source", "engine"), lambda who, what: f"{who}: {what}".replace(" ", NBSP), align="left"),
        Column("win rate, %", ("statistic",), lambda text: text.replace(" ", NBSP), align="left"),
        *(Column(text, (label, f"{label}_std"), _cell_text) for label, text in texts.items()),
        Column("runs × steps", ("runs", "planned", "steps"), _size),
    )
    notes = [
        f"Last evaluation of every finished run, in percent; mean and standard deviation over runs. The paper's "
        f"numbers are those of its Table {table}, made on StarCraft II with {PAPER_RUNS} runs. A dash: no finished "
        "run, or not in the paper. Where runs differ in number, the column gives the fewest and the most of a row."
    ]
    if steps < paper_steps:
        notes.append(
            f"These runs have {steps:,} steps, the paper's {paper_steps:,}: the rows are not of one experiment."
        )
    warnings = [f"{task}: {text}" for task, groups in tasks.items() for text in missing_runs(groups, planned)]
    return Table(title, columns, tuple(rows), tuple(notes), tuple(warnings))


def _short_engine(record: RunRecord) -> str:
    """Name, rules and preset of the engine, without the package's version: what a table has room for."""
    engine = record.run.get("engine")
    if not isinstance(engine, Mapping):
        return engine_label(record)
    parts = (
        str(engine.get("name", "")).rpartition("/")[2].removesuffix("-v0"),
        engine.get("rules"),
        engine.get("preset"),
    )
    return " ".join(str(part) for part in parts if part)


def _size(runs: str, planned: int, steps: int) -> str:
    length = f"{number(steps / 1e6)}M" if steps >= 1e6 else f"{number(steps / 1e3)}k"
    return f"{runs if runs == str(planned) else f'{runs}{NBSP}of{NBSP}{planned}'}{NBSP}×{NBSP}{length}"


def _cells(values: Mapping[str, tuple[float, float | None]]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for label, (value, spread) in values.items():
        flat |= {label: value, f"{label}_std": spread}
    return flat


def _mean_std(values: Values) -> tuple[float, float]:
    if not values.size:
        return math.nan, math.nan
    return float(values.mean()), float(statistics.std(values[:, None])[0])


def _median(values: Values) -> float:
    return float(np.median(values)) if values.size else math.nan


def _cell_text(value: float, spread: float | None) -> str:
    if math.isnan(value):
        return ABSENT
    if spread is None:
        return f"{value:.0f}"
    return f"{value:.0f}{NBSP}(±{spread:.0f})" if not math.isnan(spread) else f"{value:.0f}"


# --- agreement ----------------------------------------------------------------------------------------------------


def order_table(tasks: Tasks, table: str, texts: Mapping[str, str], *, comparable: bool) -> Table:
    """Each method against its original on each map: does the one do better, by the paper's numbers and by ours?

    The paper tells a difference where Welch's 95% interval of its means, from its standard deviations, leaves out 0.
    Ours does where the 95% bootstrap interval of the probability of improvement leaves out one half, and the runs are
    enough to tell at all (``statistics.can_tell``).
    """
    numbers, rows = paper_numbers(table), []
    for task, groups in tasks.items():
        for new, old in PAIRS:
            x, y = (numbers.get((task, PAPER_LABELS[name])) for name in (new, old))
            if x is None or y is None or new not in texts or old not in texts:
                continue
            low, high = statistics.welch_interval((x.mean, x.std, PAPER_RUNS), (y.mean, y.std, PAPER_RUNS))
            theirs = (low > 0) - (high < 0)
            a, b = (100 * finals(groups.get(name, ())) for name in (new, old))
            row = {
                "task": task,
                "pair": f"{texts[new]} − {texts[old]}",
                "paper": x.mean - y.mean,
                "paper_low": low,
                "paper_high": high,
                "n": f"{len(a)} vs {len(b)}",
                **dict.fromkeys(("ours", "ours_low", "ours_high", "p", "p_low", "p_high"), math.nan),
                "verdict": "not tested",
            }
            if len(a) and len(b):
                rng = np.random.default_rng(BOOTSTRAP_SEED)
                found = statistics.probability_of_improvement(a, b, rng)
                ends = statistics.difference_interval(a, b, rng)
                row |= {"ours": float(a.mean() - b.mean()), "ours_low": ends[0], "ours_high": ends[1]}
                row |= {"p": found.probability, "p_low": found.low, "p_high": found.high}
                mine = (found.low > 0.5) - (found.high < 0.5) if statistics.can_tell(len(a), len(b)) else 0
                if comparable:
                    row["verdict"] = {1: "agrees", -1: "disagrees", 0: "unknown"}[theirs * mine]
            rows.append(row)
    columns = (
        Column("map", ("task",), align="left"),
        Column("pair", ("pair",), lambda text: text.replace(" ", NBSP), align="left"),
        Column("paper: difference, points [95%]", ("paper", "paper_low", "paper_high"), _points),
        Column("ours: difference, points [95%]", ("ours", "ours_low", "ours_high"), _points),
        Column("ours: P(first is better) [95%]", ("p", "p_low", "p_high"), interval_text),
        Column("runs", ("n",), lambda text: str(text).replace(" ", NBSP)),
        Column("verdict", ("verdict",), lambda text: text.replace(" ", NBSP), align="left"),
    )
    notes = (
        f"Differences of final win rates, in points. The paper's interval is Welch's, from its means and standard "
        f"deviations over {PAPER_RUNS} runs; ours are bootstrap intervals over runs. Agrees, disagrees: both tell a "
        "difference, in the same or the other direction. Unknown: one of them, or both, cannot tell it from chance. "
        "Not tested: no finished runs, or shorter ones than the paper's.",
    )
    return Table("Each method against its original", columns, tuple(rows), notes)


def level_table(tasks: Tasks, table: str, texts: Mapping[str, str], *, comparable: bool) -> Table:
    """Every win rate of the paper's table: ours less the paper's, with Welch's 95% interval.

    Agrees: the interval lies within ``SAME_LEVEL`` points of 0. Disagrees: it does not, and leaves out 0.
    """
    numbers, rows = paper_numbers(table), []
    for task, groups in tasks.items():
        for label, text in texts.items():
            cell = numbers.get((task, PAPER_LABELS.get(label, "")))
            if cell is None:
                continue
            ours = 100 * finals(groups.get(label, ()))
            mean, spread = _mean_std(ours)
            low, high = statistics.welch_interval((mean, spread, len(ours)), (cell.mean, cell.std, PAPER_RUNS))
            verdict = "not tested"
            if comparable and len(ours):
                near = -SAME_LEVEL <= low and high <= SAME_LEVEL
                verdict = "agrees" if near else "disagrees" if low > 0 or high < 0 else "unknown"
            row = {"task": task, "algorithm": text, "n": len(ours), "ours": mean, "ours_std": spread}
            row |= {"paper": cell.mean, "paper_std": cell.std}
            row |= {"difference": mean - cell.mean, "low": low, "high": high, "verdict": verdict}
            rows.append(row)
    columns = (
        Column("map", ("task",), align="left"),
        Column("algorithm", ("algorithm",), align="left"),
        Column("ours, %", ("ours", "ours_std"), _cell_text),
        Column("runs", ("n",)),
        Column("paper, %", ("paper", "paper_std"), _cell_text),
        Column("ours less the paper's, points [95%]", ("difference", "low", "high"), _points),
        Column("verdict", ("verdict",), lambda text: text.replace(" ", NBSP), align="left"),
    )
    notes = (
        f"Mean (±standard deviation) of final win rates, and Welch's 95% interval of their difference. Agrees: the "
        f"interval lies within {SAME_LEVEL:.0f} points. Disagrees: it does not, and leaves out 0. Unknown: neither.",
    )
    return Table("Ours beside the paper's", columns, tuple(rows), notes)


def counts(table: Table) -> dict[str, int]:
    """How many rows have each verdict."""
    found = Counter(str(row["verdict"]) for row in table.rows)
    return {verdict: found.get(verdict, 0) for verdict in AGREEMENT}


def _points(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return ABSENT
    ends = f"no{NBSP}interval" if math.isnan(low) else f"[{number(low, 0)},{NBSP}{number(high, 0)}]"
    return f"{value:+.0f}{NBSP}{ends}"


# --- several tasks ------------------------------------------------------------------------------------------------


def tasks_table(
    tasks: Tasks,
    metric: str,
    threshold: float | None,
    *,
    planned: Sequence[int],
    title: str,
) -> Table:
    """``summary_table`` of each task that has records, under one another, with the task in front."""
    rows: list[dict[str, Any]] = []
    notes: dict[str, None] = {}
    warnings: list[str] = []
    columns: tuple[Column, ...] = ()
    for task, groups in tasks.items():
        if not any(groups.values()):
            warnings.append(f"{task}: no records")
            continue
        table = summary_table(groups, metric, threshold, planned=planned)
        columns = max(columns, table.columns, key=len)
        rows += [{"task": task, **row} for row in table.rows]
        notes |= dict.fromkeys(table.notes)
        warnings += [f"{task}: {text}" for text in table.warnings]
    first = Column("task", ("task",), align="left")
    return Table(title, (first, *columns), tuple(rows), tuple(notes), tuple(warnings))


def complete_scores(tasks: Tasks, labels: Sequence[str], metric: str) -> tuple[dict[str, list[Values]], list[str]]:
    """(label -> final values for each task, labels left out): over several tasks only what has runs on all of them."""
    played = [groups for groups in tasks.values() if any(groups.values())]
    scores = {label: [finals(groups.get(label, ()), metric) for groups in played] for label in labels}
    whole = {label: arrays for label, arrays in scores.items() if arrays and all(len(array) for array in arrays)}
    return whole, [label for label in labels if label not in whole]


def aggregate_table(
    tasks: Tasks, texts: Mapping[str, str], metric: str = METRIC, *, title: str = "Over all tasks"
) -> Table:
    """Each algorithm over all tasks that have runs; algorithms without a finished run on one of them are left out.

    The probability of improvement is against the first of ``texts`` that is there.
    """
    scores, absent = complete_scores(tasks, list(texts), metric)
    rows = []
    baseline = next(iter(scores), None)
    for label, arrays in scores.items():
        row: dict[str, Any] = {"algorithm": texts[label], "tasks": len(arrays), "runs": sum(map(len, arrays))}
        for name in statistics.AGGREGATES:
            found = statistics.aggregate(arrays, np.random.default_rng(BOOTSTRAP_SEED), name)
            key = name.replace(" ", "_")
            row |= {key: found.value[0], f"{key}_low": found.low[0], f"{key}_high": found.high[0]}
        row |= {"p": math.nan, "p_low": math.nan, "p_high": math.nan}
        if baseline is not None and label != baseline:
            over = statistics.improvement_over_tasks(arrays, scores[baseline], np.random.default_rng(BOOTSTRAP_SEED))
            row |= {"p": over.probability, "p_low": over.low, "p_high": over.high}
        rows.append(row)
    names = {"iqm": "IQM", "mean": "mean", "median": "median of tasks", "optimality_gap": "optimality gap"}
    columns = (
        Column("algorithm", ("algorithm",), align="left"),
        *(Column(f"{text} [95%]", (key, f"{key}_low", f"{key}_high"), interval_text) for key, text in names.items()),
        Column(
            f"P(better than {texts[baseline] if baseline else ABSENT}) [95%]", ("p", "p_low", "p_high"), interval_text
        ),
        Column("tasks", ("tasks",)),
        Column("runs", ("runs",)),
    )
    notes = (
        f"{metric}, last evaluation, over all tasks. Intervals are stratified bootstrap percentile intervals, "
        f"{statistics.RESAMPLES} resamples of the runs of each task; tasks are not resampled. IQM: mean of the middle "
        "half of all runs. Optimality gap: how far runs fall short of 1, on average.",
    )
    warnings = tuple(
        f"{texts[label]}: no finished run on one task or more; left out of the numbers over all" for label in absent
    )
    return Table(title, columns, tuple(rows), notes, warnings)
