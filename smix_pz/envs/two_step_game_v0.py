"""
# Two-step game

| Import             | `from smix_pz.envs import two_step_game_v0`                                    |
|--------------------|--------------------------------------------------------------------------------|
| Creation           | `make("parallel", "smix_pz/two_step_game-v0")`                                 |
| Actions            | Discrete                                                                       |
| Parallel API       | Yes                                                                            |
| Manual Control     | No                                                                             |
| Agents             | `agents= ['agent_0', 'agent_1']` (2)                                           |
| Action Shape       | `Discrete(2)`                                                                  |
| Action Values      | 0 or 1                                                                         |
| Observation Shape  | `(3,)`                                                                         |
| Observation Values | 0 or 1                                                                         |
| State Shape        | `(3,)`                                                                         |
| State Values       | 0 or 1                                                                         |

The first action of one agent chooses between a safe table and one that must be coordinated on. The game of the QMIX
paper (Rashid et al., 2018, section 5): a mixer that cannot represent the second table takes the safe 7, not the 8.

### Rules (r1)

At the first step agent_0's action alone picks the table, 0 for 2A and 1 for 2B, and the reward is 0. At the second
step the joint action pays `[[7, 7], [7, 7]]` (2A) or `[[0, 1], [1, 8]]` (2B), and the game is over (terminated). The
best return is 8, the safe one 7.

### Observation and state

One-hot of (start, 2A, 2B). After the second step it stays at the table just played. Every agent observes the whole
state.

### Arguments

`render_mode`: None, "human" (needs pygame-ce), "rgb_array" or "ansi".

### Version History

* v0: first release, rules r1 (0.1.0)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from pettingzoo import AECEnv
from pettingzoo.utils import wrappers
from pettingzoo.utils.conversions import parallel_to_aec

from smix_pz.envs.drawing import Panel, Scene
from smix_pz.envs.tabular import TabularParallelEnv, game_metadata
from smix_pz.envs.tabular_vector import TabularVectorEnv, two_step_game_tables

__all__ = ["RULES", "SECOND_PAYOFF", "env", "parallel_env", "raw_env", "vector_env"]

RULES = "r1"
TABLES = ("2A", "2B")
SECOND_PAYOFF = {"2A": ((7.0, 7.0), (7.0, 7.0)), "2B": ((0.0, 1.0), (1.0, 8.0))}


def env(**keywords: Any) -> AECEnv:
    """AEC form inside PettingZoo's standard wrappers; keywords as for `parallel_env`."""
    return wrappers.OrderEnforcingWrapper(wrappers.AssertOutOfBoundsWrapper(raw_env(**keywords)))


def raw_env(render_mode: str | None = None) -> AECEnv:
    """AEC form without wrappers; arguments as for `parallel_env`."""
    return parallel_to_aec(parallel_env(render_mode))


def vector_env(
    num_envs: int = 1,
    *,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    episode_limit: int | None = None,
) -> TabularVectorEnv:
    """Native vector form: `num_envs` games advanced together.

    Args:
        num_envs: how many games.
        autoreset_mode: what happens to a game that has ended, see `smix_pz.envs.vector`.
        episode_limit: truncates games after this many steps; None leaves them their 2.
    """
    tables = two_step_game_tables()
    return TabularVectorEnv("smix_pz/two_step_game-v0", RULES, tables, num_envs, autoreset_mode, episode_limit)


class parallel_env(TabularParallelEnv):
    """The two-step game as a ParallelEnv.

    Args:
        render_mode: None, "human", "rgb_array" or "ansi".

    Raises:
        ValueError: an unknown render_mode.
    """

    metadata = game_metadata("two_step_game_v0", RULES)

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__((2, 2), 3, 2, render_mode)

    def _begin(self) -> None:
        self.table: str | None = None

    def _play(self, joint: tuple[int, ...]) -> tuple[float, bool]:
        if self.table is None:
            self.table = TABLES[joint[0]]
            return 0.0, False
        return SECOND_PAYOFF[self.table][joint[0]][joint[1]], True

    def state(self) -> np.ndarray:
        """One-hot of (start, 2A, 2B), float32 [3]."""
        position = 0 if self.table is None else 1 + TABLES.index(self.table)
        return np.eye(3, dtype=np.float32)[position]

    def _scene(self) -> Scene:
        over = self._begun and not self.agents
        first = Panel(
            "step 1: agent_0 picks the table",
            (("to 2A", "to 2A"), ("to 2B", "to 2B")),
            coming=self.moves == 0,
            chosen=self.last_joint if self.moves == 1 else None,
        )
        panels = [first]
        for name, payoff in SECOND_PAYOFF.items():
            here = self.table == name
            panels.append(
                Panel(
                    f"step 2: table {name}",
                    tuple(tuple(f"{pay:g}" for pay in row) for row in payoff),
                    coming=here and not over,
                    chosen=self.last_joint if here and over else None,
                )
            )
        status = (
            f"step {self.moves} of 2" + (", ended" if over else ""),
            f"table {self.table or 'not picked'}",
            f"last joint action {self.last_joint or 'none'}",
            f"return {self.total:g}",
        )
        return Scene("two-step game", status, tuple(panels))
