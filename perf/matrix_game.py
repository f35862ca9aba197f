"""What training on the m-step matrix game costs, where the time goes, and how it grows with the stacked runs.

    python perf/matrix_game.py --steps 3000       # the table of docs/performance.md, about a minute
    python perf/matrix_game.py --stacks 1 20 --algorithms smix qtran --regime per_episode

Everything is measured in one process, in turn, so the numbers compare with each other; on one thread unless asked.
Exploration falls as in the study, but over half of the shorter run, so that short and long episodes have the study's
share.

*naive* is the same learning problem written the usual way: one run at a time, torch.nn modules, autograd, every
padded step of every episode evaluated (perf/naive.py), with our collector and replay. Its ratio to a stack is what
stacking, the tree of histories and the hand-written gradient are worth together.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from naive import make_naive
from rich.console import Console
from rich.table import Table

from smix_pz.benchmarks.suite import load_study, study_presets
from smix_pz.config import TrainConfig
from smix_pz.provenance import machine, versions
from smix_pz.training import Trainer

PARTS = ("acting", "environment", "sampling", "updating", "evaluating", "rest")


def measure(
    algorithm: str, n_runs: int, regime: dict[str, Any], steps: int, m: int, naive: bool = False, threads: int = 1
) -> dict:
    """Seconds by part, environment steps and updates of one training job."""
    config = TrainConfig(
        env="matrix_game_v0", env_kwargs={"m": m}, algorithm=algorithm, seeds=tuple(range(n_runs)), steps=steps,
        epsilon_steps=steps // 2, eval_every=max(1, steps // 10), eval_episodes=1, progress=False,
        threads=threads, **regime,
    )  # fmt: skip
    trainer = Trainer(config)
    if naive:
        make_naive(trainer)
    spent: Counter[str] = Counter()

    def timed(owner: Any, name: str, part: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                spent[part] += time.perf_counter() - start

        setattr(owner, name, outer)

    def watch() -> None:
        timed(trainer.collector, "collect", "collect")
        timed(trainer.collector.env, "step", "environment")
        timed(trainer.collector.env, "reset", "environment")

    keep_rows = trainer.keep_rows

    def keep_and_watch(*args: Any) -> None:
        keep_rows(*args)
        watch()

    trainer.keep_rows = keep_and_watch  # a smaller stack has a new collector
    watch()
    timed(trainer.replay, "sample_many", "sampling")
    timed(trainer.learner, "update_many", "updating")
    timed(trainer, "_evaluate_due", "evaluating")
    start = time.perf_counter()
    try:
        trainer.run()
        seconds = time.perf_counter() - start
    finally:
        trainer.close()
    spent["acting"] = spent.pop("collect") - spent["environment"]
    spent["rest"] = seconds - sum(spent.values())
    env_steps = sum(run.t_env for run in trainer.runs)
    return {"seconds": seconds, "steps": env_steps, "updates": trainer.learner.n_updates * n_runs, "spent": spent}


def main() -> None:
    """Measure and print."""
    study = load_study("matrix_game")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--algorithms", nargs="+", default=list(study.algorithms))
    parser.add_argument("--stacks", nargs="+", type=int, default=[1, 2, 5, 10, 20, 50])
    parser.add_argument("--regime", nargs="+", choices=sorted(study_presets("matrix_game")), default=["paper"])
    parser.add_argument("--steps", type=int, default=4000, help="environment steps of each run")
    parser.add_argument("--m", type=int, default=5)
    parser.add_argument("--threads", nargs="+", type=int, default=[1], help="PyTorch threads")
    parser.add_argument("--no-naive", action="store_true")
    options = parser.parse_args()
    console = Console(width=140)
    console.print(f"{machine()['processor']}, {versions()}", highlight=False)
    for regime in options.regime:
        settings = study_presets("matrix_game")[regime]
        measure(options.algorithms[0], 1, settings, 500, options.m)  # warm up: imports, allocator, caches
        table = Table(title=f"regime {regime} {settings}, m = {options.m}, {options.steps} steps a run")
        for heading in (
            "algorithm",
            "runs",
            "threads",
            "steps/s",
            "x one run",
            "ms/group",
            *(f"{part} %" for part in PARTS),
        ):
            table.add_column(heading, justify="right")
        for algorithm in options.algorithms:
            base = None
            cases = [(n, False, threads) for n in options.stacks for threads in options.threads]
            if not options.no_naive and algorithm in ("qmix", "smix"):
                cases.insert(0, (1, True, 1))
            for n_runs, naive, threads in cases:
                found = measure(algorithm, n_runs, settings, options.steps, options.m, naive, threads)
                rate = found["steps"] / found["seconds"]
                base = rate if base is None and n_runs == 1 and not naive else base
                groups = found["updates"] / n_runs / settings["updates_per_group"]
                table.add_row(
                    algorithm, "naive" if naive else str(n_runs), str(threads), f"{rate:,.0f}",
                    "" if base is None else f"{rate / base:.1f}", f"{1e3 * found['seconds'] / groups:.2f}",
                    *(f"{found['spent'][part] / found['seconds']:.0%}" for part in PARTS),
                )  # fmt: skip
        console.print(table)


if __name__ == "__main__":
    main()
