"""Other people's environments: train, and draw learning curves against random play from the records.

    python perf/learning_curves.py results/curves --out docs/images/environments   # trains what is missing, then draws
    python perf/learning_curves.py results/curves --only pursuit                   # one of them

One process, one thread. What has been trained is not trained again, an interrupted training goes on. Each panel shows
the mean over runs of the greedy return, with the range from the worst run to the best; the dashed line is random play.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from smix_pz.baselines import evaluate_player
from smix_pz.benchmarks.alignment import align
from smix_pz.benchmarks.plots import styles_for
from smix_pz.config import TrainConfig
from smix_pz.files import atomic_path, write_text
from smix_pz.records import RunRecord, read_record
from smix_pz.run_files import read_if_any, record_path
from smix_pz.training import train

SHARED: dict[str, Any] = {"eval_episodes": 32, "learning_rate": 1e-3, "progress": False}
TASKS = {
    "simple_spread": TrainConfig(
        **SHARED, env="mpe2.simple_spread_v3", team_reward="mean", algorithm="vdn", seeds=(0, 1), steps=40_000,
        eval_every=5_000, epsilon_steps=20_000, updates_per_group=2,
    ),
    "simple_speaker_listener": TrainConfig(
        **SHARED, env="mpe2.simple_speaker_listener_v4", algorithm="qmix", seeds=(0, 1, 2), steps=40_000,
        eval_every=5_000, epsilon_steps=20_000, updates_per_group=2,
    ),
    "foraging": TrainConfig(
        **SHARED, env="lbforaging:Foraging-5x5-2p-1f-v3", team_reward="sum", algorithm="vdn", seeds=(0, 1),
        steps=40_000, eval_every=5_000, epsilon_steps=20_000, updates_per_group=8, gamma=0.95,
        target_update_episodes=40,
    ),
    "pursuit": TrainConfig(
        **{**SHARED, "eval_episodes": 8}, env="pettingzoo.sisl.pursuit_v5",
        env_kwargs={"max_cycles": 100, "x_size": 8, "y_size": 8, "n_pursuers": 4, "n_evaders": 6},
        team_reward="sum", algorithm="vdn", seeds=(0, 1), steps=20_000, eval_every=4_000, epsilon_steps=10_000,
        updates_per_group=8, target_update_episodes=20,
    ),
}  # fmt: skip
RANDOM_EPISODES, RANDOM_TURN = 96, 32


def trained(config: TrainConfig) -> list[RunRecord]:
    """The records of every seed; runs that are not there are trained, all as one program."""
    assert config.out is not None
    missing = [s for s in config.seeds if not getattr(read_if_any(record_path(config, s)), "finished", False)]
    if missing:
        train(replace(config, seeds=tuple(missing)))
    return [read_record(record_path(config, seed)) for seed in config.seeds]


def random_play(config: TrainConfig) -> float:
    """Mean return of uniformly random legal actions; kept beside the records."""
    assert config.out is not None
    path = config.out / "random.json"
    if not path.is_file():
        returns = [
            evaluate_player(
                "random", RANDOM_TURN, seed, env=config.env, env_kwargs=config.env_kwargs, reward=config.team_reward
            ).returns
            for seed in range(RANDOM_EPISODES // RANDOM_TURN)
        ]
        write_text(path, json.dumps({"episodes": RANDOM_EPISODES, "return": float(np.mean(returns))}) + "\n")
    return float(json.loads(path.read_text())["return"])


def draw(panels: dict[str, tuple[list[RunRecord], float]]) -> Figure:
    """One panel for each environment."""
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for one, (records, chance) in zip(axes, panels.values(), strict=False):
        aligned = align(records, "eval/return")
        algorithm = str(records[0].run["algorithm"])
        color = styles_for([algorithm])[algorithm].color
        x = np.asarray(aligned.steps) / 1000
        one.fill_between(x, aligned.values.min(0), aligned.values.max(0), color=color, alpha=0.25, linewidth=0)
        one.plot(x, aligned.values.mean(0), color=color, label=f"{algorithm}, {len(records)} runs")
        one.axhline(chance, color="black", linestyle="--", linewidth=1, label="random play")
        one.set_title(str(records[0].run["config"]["env"]).split(":")[-1].split(".")[-1], fontsize=10)
        one.set_xlabel("environment steps (thousands)", fontsize=8)
        one.set_ylabel("greedy return", fontsize=8)
        one.tick_params(labelsize=8)
        one.legend(fontsize=8, frameon=False)
    for one in axes[len(panels) :]:
        one.remove()
    return figure


def main() -> None:
    """Train, draw, and print a table."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the records")
    parser.add_argument("--only", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--out", type=Path, help="a picture without its suffix; None: no picture")
    given = parser.parse_args()
    console = Console(width=140)
    table = Table("environment", "algorithm", "steps", "random play", "final greedy return of each run", "seconds")
    panels = {}
    for name in given.only:
        config = replace(TASKS[name], out=given.folder / name)
        console.print(f"{time.strftime('%H:%M:%S')} {name}")
        records = trained(config)
        panels[name] = records, random_play(config)
        last = ", ".join(f"{record.metrics[-1]['eval/return']:.2f}" for record in records)
        seconds = max(record.end["wall_seconds"] for record in records)
        table.add_row(name, config.algorithm, f"{config.steps:,}", f"{panels[name][1]:.2f}", last, f"{seconds:,.0f}")
    console.print(table)
    if given.out is not None:
        path = given.out.with_suffix(".png")
        with atomic_path(path) as temporary:
            draw(panels).savefig(temporary, format="png", dpi=90, metadata={"Software": None})
        console.print(f"picture: {path}")


if __name__ == "__main__":
    main()
