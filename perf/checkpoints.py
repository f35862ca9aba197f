"""What checkpoints cost: seconds and bytes of each, against writing the whole replay every time.

    python perf/checkpoints.py --map 3m --runs 10 --groups 40

A stack of runs trains on a map of smac_sim_v0 with its replay filled beforehand (the same group of episodes again and
again: what is in it does not matter here). After every ten groups one checkpoint is written as training does it, the
new episodes only, and one with all of the replay, into an empty folder. Both take turns in the same process.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import tyro

from smix_pz.checkpoints import CheckpointStore
from smix_pz.config import TrainConfig
from smix_pz.training import Trainer


def main(map: str = "3m", runs: int = 10, groups: int = 40, capacity: int = 1500, algorithm: str = "smix") -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            env="smac_sim_v0", env_kwargs={"map_name": map}, algorithm=algorithm, seeds=tuple(range(runs)),
            buffer_size=capacity, steps=10**9, eval_every=10**9, eval_episodes=1, checkpoint_every=1e9, progress=False,
            out=Path(folder) / "out",
        )  # fmt: skip
        with Trainer(config) as trainer:
            assert trainer.store is not None
            loop = trainer.groups()
            next(loop), next(loop)
            while trainer.replay.size < capacity:
                size = trainer.replay.size
                trainer.replay.add(trainer.replay.storage.map(lambda field, s=size: field[:, : min(s, capacity - s)]))
            trainer.episodes = capacity
            trainer.store.save(trainer)
            parts, wholes, added, total = [], [], 0, 0
            for _ in range(groups // 10):
                for _ in range(10):
                    next(loop)
                whole = CheckpointStore(Path(folder) / "whole", 1)
                started = time.perf_counter()
                whole.save(trainer)
                wholes.append(time.perf_counter() - started)
                total = sum(path.stat().st_size for path in whole.folder.iterdir())
                for path in whole.folder.iterdir():
                    path.unlink()
                started = time.perf_counter()
                state = trainer.store.save(trainer)
                parts.append(time.perf_counter() - started)
                newest = max(trainer.store.folder.glob("replay-*"))
                added = state.stat().st_size + newest.stat().st_size
        row = dataclasses.asdict(trainer.algorithm)["buffer_size"]
        print(f"{algorithm} on {map}, {runs} runs, replay of {row} episodes each, full")
        print(f"  a checkpoint as it is written: {statistics.median(parts):.3f} s, {added / 2**20:.1f} MiB")
        print(f"  with the whole replay:         {statistics.median(wholes):.3f} s, {total / 2**20:.1f} MiB")


if __name__ == "__main__":
    tyro.cli(main)
