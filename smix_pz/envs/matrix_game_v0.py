"""
# m-step matrix game

| Import             | `from smix_pz.envs import matrix_game_v0`                                      |
|--------------------|--------------------------------------------------------------------------------|
| Creation           | `make("parallel", "smix_pz/matrix_game-v0", m=5)`                              |
| Actions            | Discrete                                                                       |
| Parallel API       | Yes                                                                            |
| Manual Control     | No                                                                             |
| Agents             | `agents= ['agent_0', 'agent_1']` (2)                                           |
| Action Shape       | `Discrete(2)`                                                                  |
| Action Values      | 0 or 1                                                                         |
| Observation Shape  | `(m + 5,)`                                                                     |
| Observation Values | 0 or 1                                                                         |
| State Shape        | `(m + 5,)`                                                                     |
| State Values       | 0 or 1                                                                         |

Two agents must find the branch that pays most at its very end, past a branch that pays as much on the way. The game of
Fig. 3 and 4 of the SMIX(lambda) paper (Yao et al.), taken from MAVEN (Mahajan et al., 2019).

### Rules (r1)

The first joint action picks a branch: (0, 0) and (1, 1) pay 1, any other joint action pays 0 and ends the game. From
then on, repeating the branch's joint action pays 1; anything else pays 0 and ends the game. The m-th step on branch
(0, 0) is different: whatever is played, it pays `[[1, 1], [1, 4]][a0][a1]`. After the m-th step the game is over
(terminated, never truncated). The best return is m + 3 (top-left at each step, then bottom-right); staying on branch
(1, 1) returns m.

With m = 1 the first step is also the last, and no branch has been picked. Our reading: that step pays branch (0, 0)'s
final table, so the best return is still m + 3 = 4; the safe return m = 1 is then any other joint action. (Playing
(1, 1) throughout returns m for m >= 2 only.)

Uniformly random play returns 2/3 + (4/3) / 4**(m - 1) in expectation for m >= 2, 7/4 for m = 1; at m = 10 that is
0.666672, which is 2/3 to five digits, not exactly.

### Observation and state

One-hot of the steps played (0 to m), joined to the one-hot of the first joint action, `2 * a0 + a1`. The second part
is all zeros before the first step. Every agent observes the whole state.

### Arguments

`m`: number of steps, an integer of at least 1.

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

from smix_pz.envs.checks import check_int
from smix_pz.envs.drawing import Panel, Scene
from smix_pz.envs.tabular import TabularParallelEnv, game_metadata
from smix_pz.envs.tabular_vector import TabularVectorEnv, matrix_game_tables

__all__ = ["FINAL_PAYOFF", "RULES", "env", "parallel_env", "raw_env", "vector_env"]

RULES = "r1"
FINAL_PAYOFF = ((1.0, 1.0), (1.0, 4.0))


def env(**keywords: Any) -> AECEnv:
    """AEC form inside PettingZoo's standard wrappers; keywords as for `parallel_env`."""
    return wrappers.OrderEnforcingWrapper(wrappers.AssertOutOfBoundsWrapper(raw_env(**keywords)))


def raw_env(m: int = 5, render_mode: str | None = None) -> AECEnv:
    """AEC form without wrappers; arguments as for `parallel_env`."""
    return parallel_to_aec(parallel_env(m, render_mode))


def vector_env(
    num_envs: int = 1,
    *,
    m: int = 5,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    episode_limit: int | None = None,
) -> TabularVectorEnv:
    """Native vector form: `num_envs` games advanced together.

    Args:
        num_envs: how many games.
        m: steps of a game.
        autoreset_mode: what happens to a game that has ended, see `smix_pz.envs.vector`.
        episode_limit: truncates games after this many steps; None leaves them their m.
    """
    tables = matrix_game_tables(check_steps(m))
    return TabularVectorEnv("smix_pz/matrix_game-v0", RULES, tables, num_envs, autoreset_mode, episode_limit)


def check_steps(m: Any) -> int:
    """Return m; raise TypeError if it is not an integer, ValueError if it is less than 1."""
    return check_int("m (steps of the matrix game)", m, 1)


class parallel_env(TabularParallelEnv):
    """The m-step matrix game as a ParallelEnv.

    Args:
        m: steps of a game, at least 1.
        render_mode: None, "human", "rgb_array" or "ansi".

    Raises:
        TypeError: m is not an integer.
        ValueError: m < 1, or an unknown render_mode.
    """

    metadata = game_metadata("matrix_game_v0", RULES)

    def __init__(self, m: int = 5, render_mode: str | None = None) -> None:
        self.m = check_steps(m)
        super().__init__((2, 2), self.m + 5, self.m, render_mode)

    def _begin(self) -> None:
        self.branch: tuple[int, ...] | None = None

    def _play(self, joint: tuple[int, ...]) -> tuple[float, bool]:
        last = self.moves == self.m - 1
        before = self.branch
        if before is None:
            self.branch = joint
        if last and (before == (0, 0) or self.m == 1):
            return FINAL_PAYOFF[joint[0]][joint[1]], True
        stays = joint in ((0, 0), (1, 1)) and joint == self.branch
        return (1.0 if stays else 0.0), last or not stays

    def state(self) -> np.ndarray:
        """One-hot of the steps played joined to the one-hot of the branch, float32 [m + 5]."""
        state = np.zeros(self.m + 5, np.float32)
        state[self.moves] = 1.0
        if self.branch is not None:
            state[self.m + 1 + 2 * self.branch[0] + self.branch[1]] = 1.0
        return state

    def _scene(self) -> Scene:
        ended = self._begun and not self.agents
        played = self._panel_of_step(self.moves)
        coming = None if ended else self._panel_of_step(self.moves + 1)
        panels = [
            Panel(title, cells, title == coming, self.last_joint if title == played else None)
            for title, cells in self._panels().items()
        ]
        return Scene(
            title=f"{self.m}-step matrix game",
            status=(
                f"step {self.moves} of {self.m}" + (", ended" if ended else ""),
                f"branch {self.branch or 'not picked'}",
                f"last joint action {self.last_joint or 'none'}",
                f"return {self.total:g}",
            ),
            panels=tuple(panels),
        )

    @property
    def _middle(self) -> str:
        return "step 2" if self.m == 3 else f"steps 2 to {self.m - 1}"

    def _panels(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        final = tuple(tuple(f"{pay:g}" for pay in row) for row in FINAL_PAYOFF)
        stay = {"(0, 0)": (("1", "0"), ("0", "0")), "(1, 1)": (("0", "0"), ("0", "1"))}
        if self.m == 1:
            return {"the only step": final}
        panels = {"step 1: pick a branch": (("1", "0"), ("0", "1"))}
        if self.m > 2:
            panels |= {f"{branch}, {self._middle}": cells for branch, cells in stay.items()}
        return panels | {f"(0, 0), step {self.m}": final, f"(1, 1), step {self.m}": stay["(1, 1)"]}

    def _panel_of_step(self, step: int) -> str | None:
        if step == 0:
            return None
        if self.m == 1:
            return "the only step"
        if step == 1:
            return "step 1: pick a branch"
        return f"{self.branch}, step {self.m}" if step == self.m else f"{self.branch}, {self._middle}"
