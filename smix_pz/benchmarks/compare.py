"""Two folders of records side by side: final values, the chance that one does better, and what differs in settings.

Runs are matched by task (the map, or the environment with its arguments) and curve (the folder's name in a study, else
the algorithm). Runs of different engines stand beside each other with their values; a difference between them would say
as much of the engines as of the methods, so none is computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smix_pz.benchmarks import statistics
from smix_pz.benchmarks.alignment import check_group, engine_label
from smix_pz.benchmarks.paper import finals
from smix_pz.benchmarks.table import ABSENT, Column, Table, interval_text
from smix_pz.benchmarks.tables import BOOTSTRAP_SEED
from smix_pz.names import check_name
from smix_pz.records import RunRecord, read_records

Cell = tuple[str, str]  # task, curve
Side = dict[Cell, list[RunRecord]]
METRICS = ("eval/win_rate", "eval/return", "eval/episode_length")


@dataclass(frozen=True)
class FolderComparison:
    """Tables of ``compare``: final values side by side, and every setting in which the two sides differ."""

    values: Table
    settings: Table


def read_side(folder: Path) -> Side:
    """The runs below a study's folder, or a folder that training wrote, by task and curve.

    Raises:
        ValueError: no folder, or no records in it, or one cell's runs are no replications of each other.
    """
    root = folder / "records" if (folder / "records").is_dir() else folder
    if not root.is_dir():
        raise ValueError(f"no folder at {folder}")
    side: Side = {}
    for record in read_records(root):
        assert record.path is not None
        parts = record.path.relative_to(root).parts
        if parts[0] == "expressivity":
            continue
        # In a study a curve's runs share a folder, whose name says more than the algorithm's: lambda-0.5.
        curve = parts[-2] if len(parts) > 1 else str(record.run.get("algorithm"))
        side.setdefault((_task(record), curve), []).append(record)
    if not side:
        raise ValueError(f"{folder} holds no records; expected a study's folder, or one that training wrote")
    for (task, curve), records in side.items():
        check_group(f"{curve} on {task}", records)
    return side


def compare(first: Path, second: Path, metric: str | None = None) -> FolderComparison:
    """Compare what two folders hold.

    Args:
        metric: of the last evaluation; None: the win rate where all runs have one, else the return.

    Raises:
        ValueError: a folder without records, an unknown metric, or no task and curve that both folders have.
    """
    sides = {"first": read_side(Path(first)), "second": read_side(Path(second))}
    a, b = sides.values()
    both = [cell for cell in a if cell in b]
    if not both:
        have = (", ".join(sorted({f"{curve} on {task}" for task, curve in side})) for side in (a, b))
        raise ValueError(f"nothing to compare: {first} has {next(have)}; {second} has {next(have)}")
    if metric is not None:
        check_name("metric", metric, METRICS)
    everything = [record for side in (a, b) for cell in both for record in side[cell] if record.metrics]
    chosen = metric or (METRICS[0] if all(record.series(METRICS[0])[0] for record in everything) else METRICS[1])
    rows = [_row(cell, a[cell], b[cell], chosen) for cell in both]
    notes = (
        f"{chosen}, last evaluation of finished runs, mean and 95% bootstrap percentile interval over runs (n). "
        "Difference: first less second; P: a run of the first does better than one of the second, ties count one half. "
        "Both with bootstrap intervals, runs of each side resampled.",
    )
    columns = (
        Column("task", ("task",), align="left"),
        Column("curve", ("curve",), align="left"),
        Column("first", ("first", "first_low", "first_high", "first_n"), interval_text),
        Column("second", ("second", "second_low", "second_high", "second_n"), interval_text),
        Column("difference", ("difference", "difference_low", "difference_high"), interval_text),
        Column("P(first is better)", ("p", "p_low", "p_high"), interval_text),
        Column("remark", ("remark",), align="left"),
    )
    warnings = [
        f"only in the {name}: {', '.join(f'{curve} on {task}' for task, curve in side if (task, curve) not in both)}"
        for name, side in sides.items()
        if any(cell not in both for cell in side)
    ]
    warnings += [
        f"{name}: {curve} on {task}: {sum(not r.finished for r in side[task, curve])} of {len(side[task, curve])} runs "
        "unfinished"
        for name, side in sides.items()
        for task, curve in both
        if not all(record.finished for record in side[task, curve])
    ]
    title = f"first: {Path(first).name}, second: {Path(second).name}"
    return FolderComparison(Table(title, columns, tuple(rows), notes, tuple(warnings)), _settings(both, a, b))


def _row(cell: Cell, x: Sequence[RunRecord], y: Sequence[RunRecord], metric: str) -> dict[str, Any]:
    row: dict[str, Any] = {"task": cell[0], "curve": cell[1], "remark": ""}
    values = {"first": finals(x, metric), "second": finals(y, metric)}
    for name, ends in values.items():
        row |= {name: math.nan, f"{name}_low": math.nan, f"{name}_high": math.nan, f"{name}_n": len(ends)}
        if len(ends):
            found = statistics.estimate(ends, np.random.default_rng(BOOTSTRAP_SEED))
            row |= {name: found.value[0], f"{name}_low": found.low[0], f"{name}_high": found.high[0]}
    keys = ("difference", "difference_low", "difference_high", "p", "p_low", "p_high")
    row |= dict.fromkeys(keys, math.nan)
    engines = engine_label(x[0]), engine_label(y[0])
    remarks = []
    if engines[0] != engines[1]:
        remarks.append(f"different engines, not compared: {engines[0]} and {engines[1]}")
    elif all(map(len, values.values())):
        rng = np.random.default_rng(BOOTSTRAP_SEED)
        found_p = statistics.probability_of_improvement(values["first"], values["second"], rng)
        low, high = statistics.difference_interval(values["first"], values["second"], rng)
        row |= {"difference": float(values["first"].mean() - values["second"].mean())}
        row |= {"difference_low": low, "difference_high": high}
        row |= {"p": found_p.probability, "p_low": found_p.low, "p_high": found_p.high}
        if not statistics.can_tell(*found_p.n):
            remarks.append("too few runs to tell")
    if _flat(x[0]).get("steps") != _flat(y[0]).get("steps"):
        remarks.append("runs of different length")
    row["remark"] = "; ".join(remarks)
    return row


def _settings(cells: Sequence[Cell], a: Side, b: Side) -> Table:
    """One row per setting and pair of values; cells that share a difference share its row."""
    found: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        left, right = (_values(side[cell]) for side in (a, b))
        for key in dict.fromkeys([*left, *right]):
            pair = left.get(key, "not stated"), right.get(key, "not stated")
            if pair[0] != pair[1]:
                found.setdefault((key, *pair), []).append(cell)
    rows = [
        {"setting": key, "first": x, "second": y, "where": _where(there, cells)} for (key, x, y), there in found.items()
    ]
    columns = tuple(Column(name, (name,), align="left") for name in ("setting", "first", "second", "where"))
    note = "Everything that the records' headers state, seeds, times and number of stacked runs left out."
    return Table("What differs", columns, tuple(rows), (note,) if rows else ("Nothing: " + note,))


def _where(there: Sequence[Cell], cells: Sequence[Cell]) -> str:
    if len(there) == len(cells):
        return "everywhere"
    return ", ".join(f"{curve} on {task}" for task, curve in there)


def _values(records: Sequence[RunRecord]) -> dict[str, str]:
    """Setting -> its value in a cell's runs; several, where they differ."""
    flat = [_flat(record) for record in records]
    keys = dict.fromkeys(key for one in flat for key in one)
    return {key: " / ".join(dict.fromkeys(str(one.get(key, "not stated")) for one in flat)) for key in keys}


def _flat(record: RunRecord) -> dict[str, Any]:
    run = record.run
    flat = {"environment": run.get("env"), "algorithm": run.get("algorithm"), "engine": engine_label(record)}
    for part in ("env_kwargs", "config", "composition", "versions", "machine"):
        values = run.get(part)
        if isinstance(values, Mapping):
            flat |= _leaves(values, "composition." if part == "composition" else "")
    flat["git commit"] = run.get("git_commit")
    return {key: value for key, value in flat.items() if key not in ("env", "env_kwargs", "composition.summary")}


def _leaves(values: Mapping[str, Any], before: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            made |= _leaves(value, f"{before}{key}.")
        else:
            made[f"{before}{key}"] = value
    return made


def _task(record: RunRecord) -> str:
    arguments = record.run.get("env_kwargs") or {}
    if "map_name" in arguments:
        return str(arguments["map_name"])
    rest = ", ".join(f"{key}={value}" for key, value in sorted(arguments.items()))
    return f"{record.run.get('env', ABSENT)}" + (f" ({rest})" if rest else "")
