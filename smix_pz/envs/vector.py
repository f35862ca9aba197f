"""Native vector forms: many games in one object, advanced together by array operations.

`NativeVectorEnv` owns what every such form needs: the spaces, the check of actions, the seeds, and what happens to a
game that has ended. A subclass brings three functions (`_start`, `_advance`, `_observe`) and knows nothing of resets.

What happens to a game that has ended depends on the autoreset mode, as in Gymnasium:

- NEXT_STEP (the default): the next call of `step` begins the game anew, ignores the action and pays 0.
- SAME_STEP: the same call begins it anew; the last observation is in `infos["final_obs"]`.
- DISABLED: it stays where it is. Every further `step` returns its last observation, reward 0 and no end flags, until
  `reset` is called. Gymnasium leaves this case undefined; see `smix_pz.envs.hold` for the contract.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from smix_pz.envs.checks import check_choice, check_int
from smix_pz.envs.spec import TeamSpec, team_action_space, team_observation_space

Observation = dict[str, np.ndarray]
StepResult = tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class NativeVectorEnv(VectorEnv):
    """Base of the native vector forms: `n` games of one team.

    Observations: obs float32 [n, N, O], state float32 [n, S], action_mask int8 [n, N, A]. Actions: integers [n, N].
    Rewards float64 [n], terminations and truncations bool [n].

    Raises:
        TypeError: actions that are not integers.
        ValueError: actions of another shape, or outside an agent's own actions.
    """

    def __init__(
        self,
        team_spec: TeamSpec,
        num_envs: int,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        single_observation_space: spaces.Dict | None = None,
    ) -> None:
        self.num_envs = check_int("num_envs", num_envs, 1)
        self.team_spec = team_spec
        if isinstance(autoreset_mode, str):
            check_choice("autoreset_mode", autoreset_mode, [mode.value for mode in AutoresetMode])
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"autoreset_mode": self.autoreset_mode, "render_modes": []}
        self.single_observation_space = single_observation_space or team_observation_space(team_spec)
        self.single_action_space = team_action_space(team_spec)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._shape = (self.num_envs, team_spec.n_agents)
        # Read as unsigned, a negative action is larger than any limit: one comparison checks both ends.
        self._limits = np.array(team_spec.agent_actions, np.uint64)
        self._over = np.zeros(self.num_envs, bool)
        self._any_over = False
        self._begun = False
        self._pending_seeds: list[int] = []

    @property
    def np_random(self) -> np.random.Generator:
        """The generator that the last seeds started."""
        if self._np_random is None and self._pending_seeds:
            self._np_random = np.random.default_rng(self._pending_seeds)
        return super().np_random

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._np_random = value

    @abstractmethod
    def _start(self, which: np.ndarray | None) -> None:
        """Put the games where `which` [n] is true (all of them if None) at their first position."""

    @abstractmethod
    def _advance(self, actions: np.ndarray, active: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Play actions [n, N] in the games where `active` [n] is true (all if None); leave the others alone.

        Returns fresh arrays: rewards float64 [n], terminations bool [n], truncations bool [n]; 0 and False where not
        active.
        """

    @abstractmethod
    def _observe(self) -> Observation:
        """Fresh observations of all games as they stand."""

    def _infos(self, active: np.ndarray | None) -> dict[str, Any]:
        """What else there is to say of the games as they stand, in Gymnasium's form: arrays [n], each with its mask.

        active: bool [n], the games to speak of: those that were played or begun just now; None: all.
        """
        return {}

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin all games anew, or with options={"reset_mask": bool [n]} only those where the mask is true."""
        self._take_seed(seed)
        mask = None if options is None else options.get("reset_mask")
        if mask is None:
            self._start(None)
            self._over = np.zeros(self.num_envs, bool)
        else:
            mask = self._checked_mask(mask)
            if not self._begun and not mask.all():
                raise RuntimeError("the first reset must be of all games: call reset() without reset_mask first.")
            self._start(mask)
            self._over = self._over & ~mask
        self._any_over = bool(self._over.any())
        self._begun = True
        return self._observe(), self._infos(mask)

    def step(self, actions: Any) -> StepResult:
        """Play actions [n, N]; returns observations, rewards [n], terminations [n], truncations [n], infos."""
        if not self._begun:
            raise RuntimeError(f"{type(self).__name__}.step() was called before reset().")
        actions = self._checked_actions(actions)
        active = ~self._over if self._any_over else None
        if active is not None and self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self._start(self._over)
        rewards, terminations, truncations = self._advance(actions, active)
        ended = terminations | truncations
        held = self.autoreset_mode is AutoresetMode.DISABLED
        # Only a game that is held has nothing to say; one that began anew speaks of its first position.
        infos = self._infos(active if held else None)
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            if ended.any():
                final = self._final_infos(ended)
                self._start(ended)
                infos = self._infos(None) | final
        else:
            self._over = (self._over | ended) if held and active is not None else ended
            self._any_over = bool(self._over.any())
        return self._observe(), rewards, terminations, truncations, infos

    def _final_infos(self, ended: np.ndarray) -> dict[str, Any]:
        """The infos that Gymnasium's own vector environments give where SAME_STEP begins games anew."""
        last = self._observe()
        final = np.full(self.num_envs, None, dtype=object)
        for index in np.flatnonzero(ended):
            final[index] = {key: value[index].copy() for key, value in last.items()}
        return {
            "final_obs": final,
            "_final_obs": ended.copy(),
            "final_info": self._infos(ended),
            "_final_info": ended.copy(),
        }

    def _take_seed(self, seed: int | Sequence[int | None] | None) -> None:
        if seed is None:
            return
        if isinstance(seed, (int, np.integer)):
            self._np_random, self._np_random_seed = seeding.np_random(int(seed))
            return
        if len(seed) != self.num_envs:
            raise ValueError(f"seed must hold one seed for each of the {self.num_envs} games, got {len(seed)}.")
        given = [int(one) for one in seed if one is not None]
        if given:
            # The generator is made when it is asked for: seeding one takes longer than playing a step.
            self._np_random, self._np_random_seed, self._pending_seeds = None, given[0], given

    def _checked_mask(self, mask: Any) -> np.ndarray:
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            shape = getattr(mask, "shape", None)
            raise ValueError(
                f"options['reset_mask'] must be a boolean array of shape ({self.num_envs},), "
                f"got {type(mask).__name__} of shape {shape}."
            )
        if not mask.any():
            raise ValueError("options['reset_mask'] must be true for at least one game.")
        return mask

    def _checked_actions(self, actions: Any) -> np.ndarray:
        actions = np.asarray(actions)
        if actions.dtype.kind not in "iu":
            raise TypeError(f"actions must be integers, got an array of {actions.dtype}.")
        if actions.shape != self._shape:
            raise ValueError(f"actions must have shape {self._shape} (games, agents), got {actions.shape}.")
        actions = actions.astype(np.int64)
        if (actions.view(np.uint64) >= self._limits).any():
            game, agent = np.argwhere(actions.view(np.uint64) >= self._limits)[0]
            raise ValueError(
                f"action {actions[game, agent]} of {self.team_spec.agent_names[agent]} in game {game} is outside its "
                f"actions 0 to {self._limits[agent] - 1}."
            )
        return actions
