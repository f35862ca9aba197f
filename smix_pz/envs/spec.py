"""TeamSpec: the sizes and the names of one team, as the learner and the records need them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from smix_pz.images import Image


@dataclass(frozen=True)
class TeamSpec:
    """What a learner may know of an environment before it plays.

    Attributes:
        n_agents: N, how many agents there can be.
        n_actions: A, the largest number of actions of any agent.
        obs_dim: O, the width of an agent's observation after padding.
        state_dim: S, the width of the state.
        episode_limit: most transitions in one episode.
        agent_names: the agents in the order of the N axis.
        agent_actions: each agent's own number of actions, at most A.
        engine: what plays: "name", "version" and, where there are any, "rules". It goes into every record.
        env_id: the name this environment was asked for by.
        has_win: whether infos carry `battle_won`, as far as is known.
        n_rewards: 1, or N where agents are paid each their own ("individual"): infos carry `agent_rewards` [N].
        obs_image: shape of every agent's observation where all see images of one shape, in the order of their space
            ([H, W, C] or [C, H, W]; [H, W] as (H, W, 1)); the rows [O] hold it flat. None: anything else.
        obs_dtype: "float32", or "uint8" for images of that kind.
        obs_scale: what brings the numbers to [0, 1]: 1/255, as a rule, for uint8, else 1 (they are left as they are).
    """

    n_agents: int
    n_actions: int
    obs_dim: int
    state_dim: int
    episode_limit: int
    agent_names: tuple[str, ...]
    agent_actions: tuple[int, ...]
    engine: Mapping[str, Any] = field(default_factory=dict)
    env_id: str = ""
    has_win: bool = False
    n_rewards: int = 1
    obs_image: Image | None = None
    obs_dtype: str = "float32"
    obs_scale: float = 1.0


def team_observation_space(spec: TeamSpec, obs_bounds: Any = (0.0, 1.0), state_bounds: Any = (0.0, 1.0)) -> spaces.Dict:
    """Observation space of one team: obs [N, O] of the spec's obs_dtype, state [S] float32, action_mask [N, A] int8.

    The bounds are pairs (low, high) that broadcast to those shapes.
    """
    return spaces.Dict(
        {
            "obs": _box(obs_bounds, (spec.n_agents, spec.obs_dim), spec.obs_dtype),
            "state": _box(state_bounds, (spec.state_dim,)),
            "action_mask": spaces.Box(0, 1, (spec.n_agents, spec.n_actions), np.int8),
        }
    )


def team_action_space(spec: TeamSpec) -> spaces.MultiDiscrete:
    """Action space of one team: N indices below A. An agent's surplus actions are masked, not absent."""
    return spaces.MultiDiscrete([spec.n_actions] * spec.n_agents)


def _box(bounds: Any, shape: tuple[int, ...], dtype: str = "float32") -> gymnasium.spaces.Box:
    kind: Any = np.uint8 if dtype == "uint8" else np.float32
    low, high = (np.broadcast_to(np.asarray(bound, kind), shape).copy() for bound in bounds)
    return spaces.Box(low, high, shape, kind)
