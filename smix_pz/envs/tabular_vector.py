"""The three small games as lookup tables, so that one step of many games costs a handful of array operations.

A game with few positions is a table: position x joint action -> next position, reward, end. The tables below are
written from the rules in `docs/environments.md` independently of the PettingZoo forms (`matrix_game_v0` and its
neighbours, which play the rules move by move); the tests play both against each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gymnasium.vector import AutoresetMode

from smix_pz.envs.checks import check_int
from smix_pz.envs.spec import TeamSpec
from smix_pz.envs.vector import NativeVectorEnv, Observation
from smix_pz.version import __version__


@dataclass(frozen=True)
class GameTables:
    """One game of P positions and J joint actions; position 0 is the start.

    A joint action's index is its actions read as the digits of a number, the first agent's leading.

    Attributes:
        next_position: int [P, J].
        reward: float64 [P, J].
        ended: bool [P, J], whether the game terminates by this joint action.
        features: float32 [P, O], each agent's observation of a position, which is also the state.
        agent_actions: each agent's number of actions; their product is J.
        length: most moves in one game.
    """

    next_position: np.ndarray
    reward: np.ndarray
    ended: np.ndarray
    features: np.ndarray
    agent_actions: tuple[int, ...]
    length: int


class TabularVectorEnv(NativeVectorEnv):
    """`num_envs` games of one table. An `episode_limit` shorter than the game truncates it."""

    def __init__(
        self,
        env_id: str,
        rules: str,
        tables: GameTables,
        num_envs: int,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        episode_limit: int | None = None,
    ) -> None:
        limit = tables.length if episode_limit is None else check_int("episode_limit", episode_limit, 1)
        n_agents = len(tables.agent_actions)
        width = tables.features.shape[1]
        spec = TeamSpec(
            n_agents=n_agents,
            n_actions=max(tables.agent_actions),
            obs_dim=width,
            state_dim=width,
            episode_limit=limit,
            agent_names=tuple(f"agent_{index}" for index in range(n_agents)),
            agent_actions=tables.agent_actions,
            engine={"name": env_id, "version": __version__, "rules": rules},
            env_id=env_id,
        )
        super().__init__(spec, num_envs, autoreset_mode)
        self._limit = limit if limit < tables.length else None
        sizes = np.array(tables.agent_actions, np.int64)
        self._digits = np.append(np.cumprod(sizes[:0:-1])[::-1], 1).astype(np.int64)
        self._joint = int(sizes.prod())
        self._next = tables.next_position.astype(np.int64).ravel()
        self._reward = tables.reward.astype(np.float64).ravel()
        self._ended = tables.ended.astype(bool).ravel()
        self._state = tables.features.astype(np.float32)
        self._obs = np.repeat(self._state[:, None, :], n_agents, axis=1)
        legal = np.arange(spec.n_actions) < sizes[:, None]
        self._mask = np.repeat(legal.astype(np.int8)[None], self.num_envs, axis=0)
        self._position = np.zeros(self.num_envs, np.int64)
        self._moves = np.zeros(self.num_envs, np.int64)

    def _start(self, which: np.ndarray | None) -> None:
        if which is None:
            self._position = np.zeros(self.num_envs, np.int64)
            self._moves = np.zeros(self.num_envs, np.int64)
        else:
            self._position[which] = 0
            self._moves[which] = 0

    def _advance(self, actions: np.ndarray, active: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cell = self._position * self._joint
        cell += actions @ self._digits
        position, rewards, terminations = self._next[cell], self._reward[cell], self._ended[cell]
        if active is None:
            self._position = position
        else:
            self._position = np.where(active, position, self._position)
            rewards *= active
            terminations &= active
        if self._limit is None:
            return rewards, terminations, np.zeros(self.num_envs, bool)
        self._moves += 1 if active is None else active
        truncations = (self._moves >= self._limit) & ~terminations
        if active is not None:
            truncations &= active
        return rewards, terminations, truncations

    def _observe(self) -> Observation:
        return {
            "obs": self._obs[self._position],
            "state": self._state[self._position],
            "action_mask": self._mask.copy(),
        }


def matrix_game_tables(m: int) -> GameTables:
    """The m-step matrix game: 5 positions for each of 0 to m moves (branch still open, then its four codes)."""
    branch_open, joint = 0, np.arange(4)
    n_positions = 5 * (m + 1)
    next_position = np.tile(np.arange(n_positions)[:, None], (1, 4))
    reward = np.zeros((n_positions, 4))
    ended = np.ones((n_positions, 4), bool)
    final = np.array([1.0, 1.0, 1.0, 4.0])
    for moves in range(m):
        for code in range(5):
            row = 5 * moves + code
            taken = joint + 1 if code == branch_open else np.full(4, code)
            next_position[row] = 5 * (moves + 1) + taken
            on_branch = np.isin(joint, (0, 3)) & (taken == joint + 1)
            reward[row] = on_branch
            ended[row] = ~on_branch
            if moves == m - 1:
                ended[row] = True
                if code == 1 or m == 1:
                    reward[row] = final
    features = np.zeros((n_positions, m + 1 + 4), np.float32)
    for moves in range(m + 1):
        for code in range(5):
            features[5 * moves + code, moves] = 1
            if code != branch_open:
                features[5 * moves + code, m + code] = 1
    return GameTables(next_position, reward, ended, features, (2, 2), m)


def payoff_game_tables(payoff: np.ndarray) -> GameTables:
    """A one-step game: the payoff array itself, read row by row; both positions look alike."""
    reward = np.vstack([payoff.ravel(), np.zeros(payoff.size)])
    next_position = np.ones((2, payoff.size), np.int64)
    ended = np.ones((2, payoff.size), bool)
    return GameTables(next_position, reward, ended, np.ones((2, 1), np.float32), payoff.shape, 1)


def two_step_game_tables() -> GameTables:
    """The two-step game: positions start, 2A, 2B, then the same two once more, ended."""
    next_position = np.array([[1, 1, 2, 2], [3, 3, 3, 3], [4, 4, 4, 4], [3, 3, 3, 3], [4, 4, 4, 4]])
    reward = np.array([[0, 0, 0, 0], [7, 7, 7, 7], [0, 1, 1, 8], [0, 0, 0, 0], [0, 0, 0, 0]], np.float64)
    ended = np.array([[False] * 4] + [[True] * 4] * 4)
    features = np.eye(3, dtype=np.float32)[[0, 1, 2, 1, 2]]
    return GameTables(next_position, reward, ended, features, (2, 2), 2)
