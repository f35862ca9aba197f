"""Other people's environments in the team view: sizes, and steps per second of one copy under random legal play.

Seconds are those of the processor, so that what else runs on the machine counts little.

    python perf/environments.py     # needs mpe2, lbforaging, rware, pymunk and supersuit, which `make install` brings

An environment whose package is missing is said to be missing.
"""

from __future__ import annotations

import os
import time
import warnings
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from smix_pz.envs import make_vector_env

GREY_84 = ("color_reduction_v0:full", "resize_v1:x_size=84,y_size=84", "dtype_v0:float32", "normalize_obs_v0")
PICTURES = {"preprocess": GREY_84, "state": "observations"}
# name, reward rule, further arguments
TRIED: tuple[tuple[str, str | None, dict[str, Any]], ...] = (
    ("mpe2.simple_spread_v3", "mean", {}),
    ("mpe2.simple_speaker_listener_v4", None, {}),
    ("mpe2.simple_reference_v3", "mean", {}),
    ("lbforaging:Foraging-5x5-2p-1f-v3", "sum", {}),
    ("lbforaging:Foraging-8x8-2p-3f-v3", "sum", {}),
    ("rware:rware-tiny-2ag-v2", "sum", {}),
    ("pettingzoo.sisl.pursuit_v5", "sum", {}),
    ("pettingzoo.butterfly.knights_archers_zombies_v11", "sum", {}),
    ("pettingzoo.butterfly.cooperative_pong_v6", "sum", PICTURES),
    ("pettingzoo.butterfly.pistonball_v6", "mean", {**PICTURES, "continuous": False}),
    ("CartPole-v1", None, {}),
    ("mpe2.simple_tag_v3", None, {}),
    ("pettingzoo.sisl.multiwalker_v9", None, {}),
)
SECONDS = 2.0


def play(name: str, rule: str | None, options: dict[str, Any]) -> tuple[str, ...]:
    """Cells of one row: agents, actions, observation, state, limit, steps per second."""
    envs = make_vector_env(name, 1, reward=rule, **options)
    spec, rng = envs.team_spec, np.random.default_rng(0)
    observation, _ = envs.reset(seed=0)
    steps, started = 0, time.process_time()
    while time.process_time() - started < SECONDS:
        mask = observation["action_mask"]
        actions = np.where(mask != 0, rng.random(mask.shape), -1.0).argmax(-1)
        observation, _, terminated, truncated, _ = envs.step(actions)
        steps += 1
        if terminated[0] or truncated[0]:
            observation, _ = envs.reset()
    rate = steps / (time.process_time() - started)
    envs.close()
    sizes = (spec.n_agents, spec.n_actions, spec.obs_dim, spec.state_dim, spec.episode_limit)
    return (*(f"{size:,}" for size in sizes), f"{rate:,.0f}")


def main() -> None:
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    warnings.simplefilter("ignore")
    table = Table("environment", "reward", "N", "A", "O", "S", "limit", "steps/s")
    for name, rule, options in TRIED:
        try:
            table.add_row(name, rule or "shared", *play(name, rule, options))
        except (ImportError, ValueError, TypeError) as error:
            table.add_row(name, rule or "shared", str(error)[:60])
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
