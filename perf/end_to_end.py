"""How long ten seeds take end to end on the embedded SMAC: ours, stacked, beside the same learner written plainly.

    python perf/end_to_end.py                          # ten seeds of SMIX on 3m, 1 million steps each
    python perf/end_to_end.py --steps 50000            # shorter; the time for 1 million is then estimated

One process for each core, everything included: playing, learning, evaluating every 20,000 steps with 24 episodes (the
paper's protocol: 4 episodes at once, then one update), writing records, checkpoints and policies. Ours shares the seeds
among the processes as stacks; *plain* is one seed in each process with the learner of perf/naive.py (torch.nn modules,
autograd, every padded step) on our engine and collector, so the ratio is the learner's and the stack's alone. Plain
runs are short (--plain-steps): its time for all seeds is estimated from its speed. Episodes become longer or shorter as
teams learn, so short measurements are estimates; --steps 1000000 is the thing itself.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from smix_pz.benchmarks.resources import cores
from smix_pz.config import TrainConfig
from smix_pz.provenance import machine, versions
from smix_pz.training import Trainer, train


def config(options: dict[str, Any], seeds: range, steps: int, out: Path | None) -> TrainConfig:
    """One job of the paper's protocol."""
    return TrainConfig(
        env="smac_sim_v0", env_kwargs={"map_name": options["map"]}, algorithm=options["algorithm"], steps=steps,
        seeds=tuple(seeds), eval_every=20_000, eval_episodes=24, parallel_episodes=4,
        updates_per_group=options["updates"], threads=1, progress=False, out=out,
    )  # fmt: skip


def ours(options: dict[str, Any], seeds: range, out: Path) -> list[float]:
    """Train a stack; the last win rate of each seed."""
    result = train(config(options, seeds, options["steps"], out))
    return [record.series("eval/win_rate")[1][-1] for record in result.records]


def plain(options: dict[str, Any], seeds: range, out: Path) -> list[float]:
    """Train one seed the plain way."""
    from naive import make_naive

    trainer = Trainer(config(options, seeds, options["plain_steps"], None))
    make_naive(trainer)
    try:
        trainer.run()
    finally:
        trainer.close()
    return []


def wall(function: Any, options: dict[str, Any], shares: list[range], folder: Path) -> tuple[float, list[float]]:
    """Seconds until all processes are done, once they have all started, and what they return."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(shares), mp_context=context) as pool:
        list(pool.map(_warm, [options["map"]] * len(shares)))
        start = time.perf_counter()
        waiting = [pool.submit(function, options, share, folder / f"{share.start}") for share in shares]
        found = [value for future in waiting for value in future.result()]
        return time.perf_counter() - start, found


def _warm(map_name: str) -> None:
    """Imports, and the engine compiled: once for an installation, not for a run."""
    with tempfile.TemporaryDirectory() as folder:
        train(config({"map": map_name, "algorithm": "smix", "updates": 1}, range(1), 200, Path(folder) / "warm"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--map", default="3m")
    parser.add_argument("--algorithm", default="smix", choices=["smix", "qmix"], help="what perf/naive.py knows")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--plain-steps", type=int, default=20_000, help="0: ours alone")
    parser.add_argument("--updates", type=int, default=1, help="for every four episodes")
    parser.add_argument("--workers", type=int, default=cores())
    options = vars(parser.parse_args())
    runs, workers, steps = options["runs"], min(options["workers"], options["runs"]), options["steps"]
    console = Console(width=120)
    console.print(f"{machine()['processor']}, {workers} processes; {versions()}", highlight=False)
    edges = [runs * k // workers for k in range(workers + 1)]
    stacks = [range(a, b) for a, b in pairwise(edges)]
    table = Table(
        "",
        "steps",
        "wall time",
        "steps/s",
        f"{runs} seeds x 1M steps",
        title=f"{options['algorithm']}, {options['map']}",
    )
    rows = [("ours, stacks of " + " and ".join(str(len(s)) for s in stacks), ours, stacks, steps)]
    if options["plain_steps"]:
        rows.append(
            (f"plain, {workers} seeds", plain, [range(k, k + 1) for k in range(workers)], options["plain_steps"])
        )
    with tempfile.TemporaryDirectory() as folder:
        for name, function, shares, n_steps in rows:
            seconds, found = wall(function, options, shares, Path(folder))
            total = n_steps * sum(map(len, shares))
            minutes = runs * 1e6 / (total / seconds) / 60
            said = "" if n_steps == 1_000_000 and function is ours else "estimated "
            table.add_row(name, f"{total:,}", f"{seconds:.0f} s", f"{total / seconds:,.0f}", f"{said}{minutes:.0f} min")
            if found:
                console.print(f"last evaluations, win rates: {' '.join(f'{value:.2f}' for value in sorted(found))}")
    console.print(table)


if __name__ == "__main__":
    main()
