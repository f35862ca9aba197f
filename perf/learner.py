"""Seconds for one gradient update on 32 full-length episodes of SMAC's shapes: pymarl's learners beside ours, in turn.

    git clone https://github.com/oxwhirl/pymarl PATH
    python perf/learner.py --pymarl PATH                 # all shapes; --shapes 3m 2s3z --algorithms qmix to choose

Episodes are random numbers in SMAC's layout that all run to the time limit (the hardest case for us: nothing repeats
and nothing is padded). Both use double-q and two-layer hypernets; pymarl's learners are used as they are, from its src
folder. Without --pymarl, ours alone are measured. Each learner has a process of its own, set up as it is when it
trains (ours keeps freed memory, smix_pz/memory.py), and they make one update each in turn, the others waiting.

The arithmetic is counted from the layers' sizes: matrix products alone, forward for online and target network, twice
that again backward for the online one. The machine's peak is that of a 1024 x 1024 product on the same threads.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import types
import warnings
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from smix_pz.algorithms import ALGORITHMS, make_learner
from smix_pz.config import Hyperparameters
from smix_pz.episodes import EpisodeBatch, history_keys
from smix_pz.memory import keep_freed_memory
from smix_pz.provenance import machine, versions

EPISODES = 32
# map -> agents, actions, observation, state, time limit (SMAC's sizes)
SHAPES: Mapping[str, tuple[int, int, int, int, int]] = {
    "3m": (3, 9, 30, 48, 60),
    "2s3z": (5, 11, 80, 120, 120),
    "25m": (25, 31, 250, 1200, 150),
}


def random_episodes(n_runs: int, shape: tuple[int, int, int, int, int], seed: int = 0) -> EpisodeBatch:
    """Full-length episodes [R, 32, ...]; every action legal."""
    n, a, o, s, t = shape
    rng = np.random.default_rng(seed)
    lead = (n_runs, EPISODES)
    obs = torch.from_numpy(rng.random((*lead, t + 1, n, o), np.float32))
    state = torch.from_numpy(rng.random((*lead, t + 1, s), np.float32))
    avail = torch.ones(*lead, t + 1, n, a, dtype=torch.bool)
    actions = torch.from_numpy(rng.integers(a, size=(*lead, t + 1, n)))
    over = torch.zeros(*lead, t, 1, dtype=torch.bool)
    return EpisodeBatch(
        obs=obs, state=state, avail_actions=avail, actions=actions, behaviour=torch.ones(*lead, t + 1, n),
        rewards=torch.from_numpy(rng.random((*lead, t, 1), np.float32)), terminated=over,
        filled=torch.ones_like(over), history=history_keys(obs, state, avail, actions),
    )  # fmt: skip


def ours(algorithm: str, n_runs: int, shape: tuple[int, int, int, int, int]) -> Callable[[], Any]:
    """A function that makes one update of all runs."""
    n, a, o, s, _ = shape
    hyper = Hyperparameters(hypernet_layers=2, **({"coma_critic_update": "sequential"} if algorithm == "coma" else {}))
    learner = make_learner(
        ALGORITHMS[algorithm], n_agents=n, n_actions=a, obs_dim=o, state_dim=s, hyper=hyper,
        rngs=[np.random.default_rng(seed) for seed in range(n_runs)], device=torch.device("cpu"),
    )  # fmt: skip
    batch = random_episodes(n_runs, shape)
    epsilon = torch.full((n_runs,), 0.1)

    def update() -> None:
        learner.update(batch)
        learner.update_policy(batch, epsilon)

    return update


def pymarls(checkout: Path, algorithm: str, shape: tuple[int, int, int, int, int]) -> Callable[[], Any]:
    """A function that makes one update of pymarl's learner."""
    import yaml

    if str(checkout / "src") not in sys.path:
        sys.path.insert(0, str(checkout / "src"))
    from components.episode_buffer import EpisodeBatch as TheirBatch
    from components.transforms import OneHot
    from controllers import REGISTRY as CONTROLLERS
    from learners import REGISTRY as LEARNERS

    n, a, o, s, t = shape
    settings: dict[str, Any] = {}
    for name in ("default", f"algs/{algorithm}"):
        settings |= yaml.safe_load((checkout / "src" / "config" / f"{name}.yaml").read_text())
    settings |= {
        "use_cuda": False, "device": "cpu", "n_agents": n, "n_actions": a, "state_shape": s,
        "learner_log_interval": 10**12, "target_update_interval": 10**12,
    }  # fmt: skip
    args = types.SimpleNamespace(**settings)
    scheme = {
        "state": {"vshape": s},
        "obs": {"vshape": o, "group": "agents"},
        "actions": {"vshape": (1,), "group": "agents", "dtype": torch.long},
        "avail_actions": {"vshape": (a,), "group": "agents", "dtype": torch.int},
        "reward": {"vshape": (1,)},
        "terminated": {"vshape": (1,), "dtype": torch.uint8},
    }
    groups, preprocess = {"agents": n}, {"actions": ("actions_onehot", [OneHot(out_dim=a)])}
    batch = TheirBatch(scheme, groups, EPISODES, t + 1, preprocess=preprocess)
    one = random_episodes(1, shape).runs([0])
    batch.update(
        {
            "state": one.state[0], "obs": one.obs[0], "actions": one.actions[0, ..., None],
            "avail_actions": one.avail_actions[0].int(),
            "reward": torch.cat((one.rewards[0], torch.zeros(EPISODES, 1, 1)), 1),
            "terminated": torch.zeros(EPISODES, t + 1, 1, dtype=torch.uint8),
        }
    )  # fmt: skip
    mac = CONTROLLERS[args.mac](batch.scheme, groups, args)
    quiet = types.SimpleNamespace(console_logger=types.SimpleNamespace(info=lambda *_: None), log_stat=lambda *_: None)
    learner = LEARNERS[args.learner](mac, batch.scheme, quiet, args)
    if algorithm == "coma":
        mac.init_hidden(EPISODES)
        mac.action_selector.epsilon = 0.1
    episodes = iter(range(1, 10**9))
    return lambda: learner.train(batch, 0, next(episodes))


def gflop(shape: tuple[int, int, int, int, int], hidden: int = 64, embed: int = 32, hyper: int = 64) -> float:
    """Multiplications and additions of one QMIX update's matrix products, in 1e9."""
    n, a, o, s, t = shape
    agent = (o + a + n) * hidden + 2 * hidden * 3 * hidden + hidden * a
    mixer = s * (2 * hyper + 2 * embed) + hyper * (n * embed + embed) + embed + n * embed + embed
    forward = 2.0 * EPISODES * (t + 1) * (n * agent + mixer)
    return forward * (2 + 2) / 1e9  # online and target forward; gradients by inputs and by weights


def peak(seconds: float = 1.0) -> float:
    """GFLOP/s of large products on the threads in use."""
    x, y = torch.rand(1024, 1024), torch.rand(1024, 1024)
    out = torch.empty(1024, 1024)
    torch.mm(x, y, out=out)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        torch.mm(x, y, out=out)
        count += 1
    return 2.0 * 1024**3 * count / (time.perf_counter() - start) / 1e9


def serve(pipe: Connection, threads: int, keep_memory: bool, make: Callable[..., Any], *arguments: Any) -> None:
    """In a process of its own: makes an update whenever it is asked to, and answers with the seconds."""
    warnings.filterwarnings("ignore", module="components")  # pymarl's, about its own indexing
    torch.set_num_threads(threads)
    if keep_memory:
        keep_freed_memory()
    update = make(*arguments)
    while pipe.recv():
        start = time.perf_counter()
        update()
        pipe.send(time.perf_counter() - start)


def in_turn(contenders: list[tuple[Any, ...]], threads: int, rounds: int) -> list[float]:
    """The fastest of several updates of each, made in turn so that all see the same machine."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    for contender in contenders:
        here, there = context.Pipe()
        context.Process(target=serve, args=(there, threads, *contender), daemon=True).start()
        pipes.append(here)
    best = [float("inf")] * len(pipes)
    for k in range(rounds + 2):
        for index, pipe in enumerate(pipes):
            pipe.send(True)
            seconds = pipe.recv()
            if k > 1:  # the first two warm up
                best[index] = min(best[index], seconds)
    for pipe in pipes:
        pipe.send(False)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pymarl", type=Path)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--algorithms", nargs="+", default=["qmix", "qtran", "coma"])
    parser.add_argument("--runs", nargs="+", type=int, default=[1, 10])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=120)
    found = peak()
    console.print(f"{machine()['processor']}, {options.threads} threads, peak {found:.0f} GFLOP/s; {versions()}")
    columns = ["algorithm", "shape", "pymarl s"]
    columns += [f"ours, {runs} run{'s' * (runs > 1)}: s a run (ratio)" for runs in options.runs]
    table = Table(*columns, "qmix arithmetic at peak s", title="one update on 32 full-length episodes")
    for algorithm in options.algorithms:
        for name in options.shapes:
            shape = SHAPES[name]
            contenders: list[tuple[Any, ...]] = [(True, ours, algorithm, runs, shape) for runs in options.runs]
            if options.pymarl:
                contenders.insert(0, (False, pymarls, options.pymarl, algorithm.removesuffix("-r"), shape))
            seconds = in_turn(contenders, options.threads, options.rounds)
            theirs = seconds.pop(0) if options.pymarl else float("nan")
            each = [value / runs for value, runs in zip(seconds, options.runs, strict=True)]
            cells = [f"{value:.4f} ({theirs / value:.1f}x)" for value in each]
            table.add_row(algorithm, name, f"{theirs:.4f}", *cells, f"{gflop(shape) / found:.4f}")
    console.print(table)


if __name__ == "__main__":
    main()
