"""Hold at end: the contract between a vector environment of `make_vector_env` and whoever collects episodes.

After an environment's episode has ended, stepping the vector environment leaves that environment where it is: the same
observation, reward 0, no end flags, no infos. Nothing begins anew by itself. Only `reset` does: of all environments, or
with `options={"reset_mask": bool [n]}` of some. So episodes can be collected to the last one's end without telling the
environments apart, and every episode begins from a seed its collector chose.

The native forms do this in their DISABLED mode (`smix_pz.envs.vector`). Gymnasium's own vector environments cannot: in
DISABLED mode they refuse to step a finished environment. Here they run in NEXT_STEP mode, and each environment inside
is a `HoldAtEnd`, which answers the vectoriser's automatic, unseeded reset with the observation it holds. An explicit
reset always carries seeds (`HoldingVectorEnv` draws those that the caller left out): that tells the two apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from smix_pz.envs.spec import TeamSpec


class HoldAtEnd(gymnasium.Wrapper):
    """Stay at the last observation of an ended episode until a reset with a seed."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._held: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin anew; but without a seed, after the end of an episode, return what is held."""
        if seed is None and self._held is not None:
            return self._held, {}
        self._held = None
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Play `action`, or return what is held with reward 0."""
        if self._held is not None:
            return self._held, 0.0, False, False, {}
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            self._held = observation
        return observation, reward, terminated, truncated, info


class HoldingVectorEnv(VectorWrapper):
    """Gymnasium's vector environment over `HoldAtEnd` environments, with the `team_spec` of the team inside.

    Its metadata says DISABLED, since that is what it does: it never begins an episode by itself.
    """

    def __init__(self, env: VectorEnv, team_spec: TeamSpec) -> None:
        super().__init__(env)
        self.team_spec = team_spec
        self.metadata = {**env.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self._seeds = np.random.default_rng()

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin all episodes anew (or those of options["reset_mask"]).

        seed: one for each environment, or an int s for s, s + 1, ...; where it is None, one is drawn from a generator
        that the last given seeds started.
        """
        given: list[int | None]
        if seed is None:
            given = [None] * self.num_envs
        elif isinstance(seed, (int, np.integer)):
            given = [int(seed) + index for index in range(self.num_envs)]
        else:
            given = [None if one is None else int(one) for one in seed]
        if len(given) != self.num_envs:
            raise ValueError(f"seed must hold one seed for each of {self.num_envs} environments, got {len(given)}.")
        known = [one for one in given if one is not None]
        if known:
            self._seeds = np.random.default_rng(known)
        drawn = [int(self._seeds.integers(2**31)) if one is None else one for one in given]
        # A copy, because Gymnasium takes reset_mask out of the dictionary it is given.
        return self.env.reset(seed=drawn, options=None if options is None else dict(options))  # type: ignore[arg-type]
