"""
# One-step payoff game

| Import             | `from smix_pz.envs import payoff_game_v0`                                      |
|--------------------|--------------------------------------------------------------------------------|
| Creation           | `make("parallel", "smix_pz/payoff_game-v0", payoff="qtran")`                   |
| Actions            | Discrete                                                                       |
| Parallel API       | Yes                                                                            |
| Manual Control     | No                                                                             |
| Agents             | `agents= ['agent_0', ...]` (one for each axis of the payoff)                   |
| Action Shape       | `Discrete(payoff.shape[i])` for agent i                                        |
| Action Values      | 0 to `payoff.shape[i] - 1`                                                     |
| Observation Shape  | `(1,)`                                                                         |
| Observation Values | 1                                                                              |
| State Shape        | `(1,)`                                                                         |
| State Values       | 1                                                                              |

Every agent acts once, all are paid what the table says, and the game is over. What a learner's values are after
training shows which tables its mixer can represent.

### Rules (r1)

The joint action (a0, a1, ...) pays `payoff[a0, a1, ...]` to the team; the game is then over (terminated). There is
nothing to see: observation and state are the constant [1.0], before the step and after it.

### Arguments

`payoff`: the name of a table in `PAYOFFS`, or numbers as an array or nested lists with one axis for each agent. The
agents may have unlike numbers of actions.

| Name      | Table                                     | What it shows                                            |
|-----------|-------------------------------------------|----------------------------------------------------------|
| qtran     | [[8, -12, -12], [-12, 0, 0], [-12, 0, 0]] | non-monotonic: VDN, QMIX miss the 8 (Son et al. 2019)    |
| monotonic | [[0, 0, 0], [0, 1, 2], [0, 2, 8]]         | rises in each action, but is no sum: QMIX yes, VDN no    |
| additive  | [[0, 1, 2], [2, 3, 4], [4, 5, 6]]         | 2 * a0 + a1: all of them                                 |
| climbing  | [[11, -30, 0], [-30, 7, 6], [0, 0, 5]]    | miscoordination is punished (Claus and Boutilier 1998)   |

`render_mode`: None, "human" (needs pygame-ce), "rgb_array" or "ansi".

### Version History

* v0: first release, rules r1 (0.1.0)
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from pettingzoo import AECEnv
from pettingzoo.utils import wrappers
from pettingzoo.utils.conversions import parallel_to_aec

from smix_pz.envs.checks import check_choice
from smix_pz.envs.drawing import Panel, Scene
from smix_pz.envs.tabular import TabularParallelEnv, game_metadata
from smix_pz.envs.tabular_vector import TabularVectorEnv, payoff_game_tables

__all__ = ["PAYOFFS", "RULES", "check_payoff", "env", "parallel_env", "raw_env", "vector_env"]

RULES = "r1"
MAX_PANELS = 10  # of three or more agents' tables, a picture shows at most so many slices


def _table(rows: list[list[float]]) -> np.ndarray:
    table = np.array(rows, np.float64)
    table.setflags(write=False)
    return table


PAYOFFS: Mapping[str, np.ndarray] = MappingProxyType(
    {
        "qtran": _table([[8, -12, -12], [-12, 0, 0], [-12, 0, 0]]),
        "monotonic": _table([[0, 0, 0], [0, 1, 2], [0, 2, 8]]),
        "additive": _table([[0, 1, 2], [2, 3, 4], [4, 5, 6]]),
        "climbing": _table([[11, -30, 0], [-30, 7, 6], [0, 0, 5]]),
    }
)


def env(**keywords: Any) -> AECEnv:
    """AEC form inside PettingZoo's standard wrappers; keywords as for `parallel_env`."""
    return wrappers.OrderEnforcingWrapper(wrappers.AssertOutOfBoundsWrapper(raw_env(**keywords)))


def raw_env(payoff: Any = "qtran", render_mode: str | None = None) -> AECEnv:
    """AEC form without wrappers; arguments as for `parallel_env`."""
    return parallel_to_aec(parallel_env(payoff, render_mode))


def vector_env(
    num_envs: int = 1,
    *,
    payoff: Any = "qtran",
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    episode_limit: int | None = None,
) -> TabularVectorEnv:
    """Native vector form: `num_envs` games advanced together.

    Args:
        num_envs: how many games.
        payoff: a name in `PAYOFFS` or numbers with one axis for each agent.
        autoreset_mode: what happens to a game that has ended, see `smix_pz.envs.vector`.
        episode_limit: has no effect beyond 1, the game's length.
    """
    tables = payoff_game_tables(check_payoff(payoff))
    return TabularVectorEnv("smix_pz/payoff_game-v0", RULES, tables, num_envs, autoreset_mode, episode_limit)


def check_payoff(payoff: Any) -> np.ndarray:
    """Return the payoff table as float64 with one axis for each agent.

    Raises:
        TypeError: entries that are not numbers.
        ValueError: unknown name; ragged rows; a single number; an axis without entries; infinite or NaN entries.
    """
    if isinstance(payoff, str):
        return PAYOFFS[check_choice("payoff", payoff, PAYOFFS)]
    expected = "expected a rectangular array of numbers with one axis for each agent, or one of " + ", ".join(PAYOFFS)
    try:
        table = np.asarray(payoff)
    except ValueError:
        raise ValueError(f"payoff {payoff!r} is ragged: its rows have unlike lengths; {expected}.") from None
    if table.dtype.kind not in "iuf":
        ragged = table.dtype.kind == "O" and _has_rows(payoff)
        problem = "is ragged or holds" if ragged else "holds"
        raise TypeError(f"payoff {payoff!r} {problem} entries that are not real numbers; {expected}.")
    if table.ndim == 0:
        raise ValueError(f"payoff {payoff!r} is a single number; {expected}. The nearest is [{payoff!r}], one agent.")
    if table.size == 0:
        raise ValueError(f"payoff of shape {table.shape} has no entries: every agent needs an action; {expected}.")
    table = table.astype(np.float64)
    if not np.isfinite(table).all():
        where = tuple(int(index) for index in np.argwhere(~np.isfinite(table))[0])
        raise ValueError(f"payoff{list(where)} is {table[where]}; every entry must be finite.")
    return table


def _has_rows(payoff: Any) -> bool:
    return isinstance(payoff, (list, tuple)) and any(isinstance(row, (list, tuple)) for row in payoff)


class parallel_env(TabularParallelEnv):
    """The one-step payoff game as a ParallelEnv.

    Args:
        payoff: a name in `PAYOFFS` or numbers with one axis for each agent.
        render_mode: None, "human", "rgb_array" or "ansi".

    Raises:
        TypeError, ValueError: see `check_payoff`; an unknown render_mode.
    """

    metadata = game_metadata("payoff_game_v0", RULES)

    def __init__(self, payoff: Any = "qtran", render_mode: str | None = None) -> None:
        self.payoff = check_payoff(payoff)
        self.payoff_name = payoff if isinstance(payoff, str) else None
        super().__init__(self.payoff.shape, 1, 1, render_mode)

    def _begin(self) -> None:
        """Nothing to set: the game has one position."""

    def _play(self, joint: tuple[int, ...]) -> tuple[float, bool]:
        return float(self.payoff[joint]), True

    def state(self) -> np.ndarray:
        """The constant [1.0], float32 [1]."""
        return np.ones(1, np.float32)

    def _scene(self) -> Scene:
        status = [f"step {self.moves} of 1" + (", ended" if self._begun and not self.agents else "")]
        status += [f"last joint action {self.last_joint or 'none'}", f"return {self.total:g}"]
        others = list(product(*(range(count) for count in self.payoff.shape[2:])))
        if len(others) > MAX_PANELS:
            status.append(f"{len(others)} tables, {MAX_PANELS} shown")
            played = others.index(self.last_joint[2:]) if self.last_joint else 0
            first = min(played, len(others) - MAX_PANELS)
            others = others[first : first + MAX_PANELS]
        name = f": {self.payoff_name}" if self.payoff_name else ""
        return Scene("payoff game" + name, tuple(status), tuple(self._panel(rest) for rest in others))

    def _panel(self, rest: tuple[int, ...]) -> Panel:
        """The slice of the payoff where agents 2, 3, ... play `rest`; one agent alone gets a single column."""
        grid = self.payoff.reshape(*(*self.payoff.shape, 1)[:2], -1)  # [agent_0, agent_1, all others together]
        table = grid[:, :, np.ravel_multi_index(rest, self.payoff.shape[2:]) if rest else 0]
        title = ", ".join(f"agent_{index}: {action}" for index, action in enumerate(rest, start=2)) or "payoff"
        chosen = None
        if self.last_joint is not None and self.last_joint[2:] == rest:
            chosen = (*self.last_joint, 0)[:2]
        cells = tuple(tuple(f"{pay:g}" for pay in row) for row in table)
        return Panel(title, cells, coming=self.last_joint is None, chosen=chosen)
