"""pymarl and this package on the m-step matrix game, in turn in one process on one thread.

    git clone https://github.com/oxwhirl/pymarl PATH
    python perf/peer_pymarl.py PATH

pymarl is used as it is, with its own settings for QMIX and QTRAN (one episode, then one update); it only gets this
game behind its environment interface, and an empty stand-in for the `smac` package, which it imports and does not use
here. Ours runs in the regime `pymarl` (the same) and `per_episode` (as many updates, four episodes at once), with one
and with 20 stacked runs. Both include their exploration schedule, squeezed into the shorter run; neither evaluates.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from matrix_game import measure
from rich.console import Console
from rich.table import Table

from smix_pz.benchmarks.suite import study_presets
from smix_pz.envs import matrix_game_v0
from smix_pz.provenance import machine, versions


class Game:
    """The matrix game behind pymarl's MultiAgentEnv interface."""

    def __init__(self, m: int = 5, **_: Any) -> None:
        self.game = matrix_game_v0.parallel_env(m=m)
        self.m = self.episode_limit = m
        self.observations: dict[str, np.ndarray] = {}

    def reset(self) -> None:
        self.observations, _ = self.game.reset()

    def step(self, actions: Any) -> tuple[float, bool, dict[str, Any]]:
        named = {name: int(a) for name, a in zip(self.game.possible_agents, actions, strict=True)}
        self.observations, rewards, terminated, _, _ = self.game.step(named)
        return rewards["agent_0"], terminated["agent_0"], {}

    def get_obs(self) -> list[np.ndarray]:
        return [self.observations[name] for name in self.game.possible_agents]

    def get_state(self) -> np.ndarray:
        return self.game.state()

    def get_avail_actions(self) -> list[list[int]]:
        return [[1, 1], [1, 1]]

    def get_env_info(self) -> dict[str, int]:
        size = self.m + 5
        return {"state_shape": size, "obs_shape": size, "n_actions": 2, "n_agents": 2, "episode_limit": self.m}

    def get_stats(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        self.game.close()


def measure_pymarl(checkout: Path, algorithm: str, steps: int, m: int) -> float:
    """Environment steps per second."""
    settings: dict[str, Any] = {}
    for name in ("default", f"algs/{algorithm}"):
        settings |= yaml.safe_load((checkout / "src" / "config" / f"{name}.yaml").read_text())
    settings |= {
        "env": "matrix_game", "env_args": {"m": m}, "t_max": steps, "use_cuda": False, "device": "cpu",
        "epsilon_anneal_time": steps // 2, "test_interval": 10**9, "test_nepisode": 1,
    }  # fmt: skip
    import envs  # pymarl's own, from its src folder
    import run as pymarl
    from utils.logging import Logger

    envs.REGISTRY["matrix_game"] = Game
    log = logging.getLogger("pymarl")
    log.setLevel(logging.ERROR)
    start = time.perf_counter()
    pymarl.run_sequential(args=types.SimpleNamespace(**settings, unique_token=""), logger=Logger(log))
    return steps / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--m", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    stand_in = types.ModuleType("smac")
    stand_in.env = types.ModuleType("smac.env")  # type: ignore[attr-defined]
    stand_in.env.MultiAgentEnv = stand_in.env.StarCraft2Env = object
    sys.modules |= {"smac": stand_in, "smac.env": stand_in.env}
    sys.path.insert(0, str(options.checkout / "src"))

    regimes = study_presets("matrix_game")
    console = Console(width=120)
    console.print(f"{machine()['processor']}, one thread; {versions()}", highlight=False)
    table = Table(title=f"environment steps per second, m = {options.m}, {options.steps} steps a run, one core")
    for heading in ("algorithm", "pymarl", "ours: regime", "runs", "steps/s", "ratio"):
        table.add_column(heading, justify="right")
    for algorithm in ("qmix", "qtran"):
        theirs = measure_pymarl(options.checkout, algorithm, options.steps, options.m)
        for regime, n_runs in (("pymarl", 1), ("pymarl", 20), ("per_episode", 20)):
            found = measure(algorithm, n_runs, regimes[regime], options.steps, options.m)
            ours = found["steps"] / found["seconds"]
            table.add_row(
                algorithm, f"{theirs:,.0f}", regime, str(n_runs), f"{ours:,.0f}", f"{ours / theirs:.1f}"
            )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
