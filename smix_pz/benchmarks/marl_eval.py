"""Records in the JSON layout of marl-eval (Gorsane et al. 2022), for its own tables and plots.

The layout, from marl-eval's README: environment -> task -> algorithm -> run -> ``step_0``, ``step_1``, ...; each step
has ``step_count`` and a list of values for each metric. Here a list has one value, the mean over that evaluation's
episodes, since that is what records hold. ``absolute_metrics`` stands in a run whose absolute metric was played (preset
``standard``); marl-eval's aggregates over tasks need it.

marl-eval asks for the same number of runs and steps everywhere. Runs that are not finished are left out, and
``missing_from_export`` names them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smix_pz.benchmarks.alignment import describe
from smix_pz.files import write_text
from smix_pz.records import RunRecord

Tasks = Mapping[str, Mapping[str, Sequence[RunRecord]]]

METRICS = {"eval/return": "return", "eval/win_rate": "win_rate", "eval/episode_length": "episode_length"}


def to_marl_eval(tasks: Tasks) -> dict[str, Any]:
    """Finished runs of task -> curve -> runs; the environment's name is the record's, the run's is its seed.

    Raises:
        ValueError: no finished run.
    """
    made: dict[str, Any] = {}
    for task, groups in tasks.items():
        for name, records in groups.items():
            for record in records:
                if record.finished:
                    environment = made.setdefault(str(record.run["env"]), {})
                    algorithm = environment.setdefault(task or str(record.run["env"]), {}).setdefault(name, {})
                    algorithm[f"seed_{record.run['seed']}"] = _run(record)
    if not made:
        raise ValueError("no finished run: marl-eval's layout holds whole runs")
    return made


def missing_from_export(tasks: Tasks) -> list[str]:
    """The runs that have a record but are not finished, one line each."""
    runs = [record for groups in tasks.values() for records in groups.values() for record in records]
    return [describe(record) for record in runs if not record.finished]


def write_marl_eval(tasks: Tasks, path: Path) -> Path:
    """Write the layout as a JSON file, atomically; returns its path."""
    write_text(path, json.dumps(to_marl_eval(tasks), indent=1, allow_nan=False) + "\n")
    return path


def _run(record: RunRecord) -> dict[str, Any]:
    evaluations = [row for row in record.metrics if any(row.get(name) is not None for name in METRICS)]
    steps: dict[str, Any] = {
        f"step_{index}": {
            "step_count": int(row["step"]),
            **{short: [float(row[name])] for name, short in METRICS.items() if row.get(name) is not None},
        }
        for index, row in enumerate(evaluations)
    }
    absolute = {
        short: [float(record.end[key])]
        for name, short in METRICS.items()
        if record.end.get(key := name.replace("eval/", "absolute/")) is not None
    }
    return {**steps, "absolute_metrics": absolute} if absolute else steps
