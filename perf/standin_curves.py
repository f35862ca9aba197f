"""pymarl's learning curve on the stand-in beside this package's on smac_sim_v0, as a figure and a table.

    python perf/standin_curves.py pymarl/results/sacred/1/info.json results/qmix_3m --out docs/images/standin_curves

The first argument is what pymarl's logger wrote, the second a folder of our records. pymarl tests every 10,000 steps,
at the end of the episode in which it passes them; its points are put at the nominal step, as ours are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from smix_pz.benchmarks import plots
from smix_pz.records import RunRecord, read_records

EVERY = 10_000
METRIC = "eval/win_rate"


def read_pymarl(path: Path, last: float) -> RunRecord:
    """pymarl's greedy win rate as a record; points behind step `last` are left out."""
    info = json.loads(path.read_text())
    steps, values = info["test_battle_won_mean_T"], info["test_battle_won_mean"]
    rows = [
        {"t_env": t, "step": EVERY * (t // EVERY), METRIC: float(value)}
        for t, value in zip(steps, values, strict=True)
        if EVERY * (t // EVERY) <= last
    ]
    return RunRecord({"algorithm": "qmix", "env": "3m", "engine": "smac on smix standin"}, tuple(rows), True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pymarl", type=Path)
    parser.add_argument("ours", type=Path)
    parser.add_argument("--last", type=float, default=float("inf"), help="the last step to show")
    parser.add_argument("--out", type=Path, default=Path("standin_curves"))
    given = parser.parse_args()
    ours = read_records(given.ours)
    shown = min(given.last, max(record.metrics[-1]["step"] for record in ours))
    peer = read_pymarl(given.pymarl, shown)
    shown = min(shown, peer.metrics[-1]["step"])
    ours = [
        RunRecord(record.run, tuple(row for row in record.metrics if 0 < row["step"] <= shown), True) for record in ours
    ]
    peer = RunRecord(peer.run, tuple(row for row in peer.metrics if row["step"] > 0), True)
    groups = {"pymarl's QMIX, SMAC on the stand-in": [peer], "our QMIX, smac_sim_v0": ours}
    title = "QMIX on 3m: greedy win rate, 32 episodes a point"
    figure = plots.learning_curves(groups, METRIC, title=title, individual=True)
    print(*plots.save(figure, given.out))
    table = Table("steps", *groups)
    for step in (20_000, 50_000, 100_000, 150_000, 200_000, 250_000, 300_000, 350_000, 400_000):
        if step <= shown:
            cells = [
                ", ".join(f"{row[METRIC]:.2f}" for record in records for row in record.metrics if row["step"] == step)
                for records in groups.values()
            ]
            table.add_row(f"{step:,}", *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
