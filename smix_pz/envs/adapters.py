"""Other kinds of environments as PettingZoo ParallelEnvs, so that the team view can take them.

- `SingleAgentTeam`: a Gymnasium environment of one agent is a team of one.
- `TupleTeam` (`from_gymnasium_tuple`): a multi-agent Gymnasium environment whose observations, actions and rewards are
  tuples with an entry for each agent, as in `lbforaging` and `rware`.
- A turn-based (AEC) PettingZoo environment through PettingZoo's own conversion, which is valid where its metadata say
  "is_parallelizable": agents act in turn, but nothing happens before the last one has.

`as_parallel` chooses.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import aec_to_parallel

__all__ = ["SingleAgentTeam", "TupleTeam", "as_parallel", "from_gymnasium_tuple"]

LIMIT_ATTRIBUTES = ("max_episode_steps", "_max_episode_steps", "max_steps", "episode_limit")

StepResult = tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]


def as_parallel(env: Any) -> Any:
    """`env` as a ParallelEnv, where there is a valid way; anything else comes back as it is.

    Raises:
        TypeError: a turn-based environment whose agents' actions take effect one by one.
    """
    if isinstance(env, AECEnv):
        if not (getattr(env, "metadata", None) or {}).get("is_parallelizable", False):
            raise TypeError(
                f"{env} is turn-based (AEC), and its metadata do not say that it is_parallelizable: an agent's action "
                "takes effect before the next one chooses, so the agents of a team could not act at the same time. "
                "What would work: an environment with a parallel_env."
            )
        return aec_to_parallel(env)
    if isinstance(env, gymnasium.Env):
        return TupleTeam(env) if isinstance(env.action_space, spaces.Tuple) else SingleAgentTeam(env)
    return env


def from_gymnasium_tuple(env: Any, *, episode_limit: int | None = None, **env_kwargs: Any) -> TupleTeam:
    """A tuple-style multi-agent Gymnasium environment as a ParallelEnv.

    Args:
        env: such an environment, a factory of one, or an id of Gymnasium's registry; "package:id" imports the package
            first, as in "lbforaging:Foraging-8x8-2p-3f-v3".
        episode_limit: most steps in an episode; None: the environment's own.
        **env_kwargs: of the id or factory.

    Raises:
        TypeError: its actions are no tuple of one space for each agent.
    """
    made = gymnasium.make(env, **env_kwargs) if isinstance(env, str) else env if _made(env) else env(**env_kwargs)
    return TupleTeam(made, episode_limit=episode_limit)


def _made(env: Any) -> bool:
    return isinstance(env, gymnasium.Env)


class _GymnasiumTeam(ParallelEnv):
    """What both adapters share: names, spaces, seeds, limits, pictures."""

    def __init__(self, env: gymnasium.Env, observations: tuple, actions: tuple, episode_limit: int | None) -> None:
        self.env = env
        self.possible_agents = [f"agent_{index}" for index in range(len(actions))]
        self.agents: list[str] = []
        self._observation_spaces = dict(zip(self.possible_agents, observations, strict=True))
        self._action_spaces = dict(zip(self.possible_agents, actions, strict=True))
        self.render_mode = env.render_mode
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        self.metadata = {**env.metadata, "name": name, "is_parallelizable": True}
        own = _own_limit(env)
        if own is not None or episode_limit is not None:
            self.episode_limit = own if episode_limit is None else episode_limit
        self._own_limit = own
        self._steps = 0

    def __str__(self) -> str:
        return str(self.metadata["name"])

    @property
    def unwrapped(self) -> Any:
        """The Gymnasium environment at the core, which tells the team view which package plays."""
        return self.env.unwrapped

    def observation_space(self, agent: str) -> spaces.Space:
        """The agent's space, the same object at each call."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """The agent's space, the same object at each call."""
        return self._action_spaces[agent]

    def render(self) -> Any:
        """What the environment renders."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _split(self, info: Any) -> dict[str, dict[str, Any]]:
        """The infos of the present agents: each gets what the environment said to all."""
        shared = {key: value for key, value in info.items() if not _per_agent(value, len(self.possible_agents))}
        infos = {agent: dict(shared) for agent in self.possible_agents}
        for key, value in info.items():
            if key not in shared:
                for agent, own in zip(self.possible_agents, value, strict=True):
                    infos[agent][key] = own
        return infos


class SingleAgentTeam(_GymnasiumTeam):
    """A Gymnasium environment of one agent, called agent_0. Its info may hold an "action_mask"."""

    def __init__(self, env: gymnasium.Env, *, episode_limit: int | None = None) -> None:
        super().__init__(env, (env.observation_space,), (env.action_space,), episode_limit)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.agents = self.possible_agents[:]
        return {"agent_0": observation}, {"agent_0": dict(info)}

    def step(self, actions: dict[str, Any]) -> StepResult:
        """Play the action of agent_0."""
        observation, reward, terminated, truncated, info = self.env.step(actions["agent_0"])
        if terminated or truncated:
            self.agents = []
        ends = {"agent_0": bool(terminated)}, {"agent_0": bool(truncated) and not terminated}
        return {"agent_0": observation}, {"agent_0": float(reward)}, *ends, {"agent_0": dict(info)}


class TupleTeam(_GymnasiumTeam):
    """A tuple-style multi-agent Gymnasium environment, agents agent_0, agent_1, ...

    All agents leave when the episode ends; where the environment reports an end for each agent, when all have ended.
    An end at exactly the environment's own step limit is a truncation: these environments report their limit as an
    end like any other, and a learner has to know the difference.
    """

    def __init__(self, env: gymnasium.Env, *, episode_limit: int | None = None) -> None:
        action_space = env.action_space
        if not isinstance(action_space, spaces.Tuple):
            raise TypeError(
                f"the action space of {env} is {action_space}, expected a Tuple with one space for each agent. An "
                "environment of one agent can be given as it is: it is a team of one."
            )
        observation_space = env.observation_space
        if not isinstance(observation_space, spaces.Tuple) or len(observation_space) != len(action_space):
            raise TypeError(
                f"the observation space of {env} is {observation_space}, expected a Tuple with one space for each of "
                f"{len(action_space)} agents."
            )
        super().__init__(env, tuple(observation_space), tuple(action_space), episode_limit)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Begin an episode."""
        observations, info = self.env.reset(seed=seed, options=options)
        self.agents, self._steps = self.possible_agents[:], 0
        return self._named(observations), self._split(info)

    def step(self, actions: dict[str, Any]) -> StepResult:
        """Play one action of each agent."""
        joint = tuple(actions[agent] for agent in self.possible_agents)
        observations, paid, terminated, truncated, info = self.env.step(joint)
        rewards = np.broadcast_to(np.asarray(paid, float), len(joint)).tolist()  # one number is everybody's
        self._steps += 1
        over, cut = bool(np.all(terminated)), bool(np.all(truncated))
        if over and self._own_limit is not None and self._steps >= self._own_limit:
            over, cut = False, True
        if over or cut:
            self.agents = []
        names = self.possible_agents
        return (
            self._named(observations),
            dict(zip(names, rewards, strict=True)),
            dict.fromkeys(names, over),
            dict.fromkeys(names, cut and not over),
            self._split(info),
        )

    def _named(self, observations: Any) -> dict[str, Any]:
        return dict(zip(self.possible_agents, observations, strict=True))


def _per_agent(value: Any, count: int) -> bool:
    """Whether an info's value is a list or tuple with an entry for each agent."""
    return isinstance(value, (list, tuple)) and len(value) == count


def _own_limit(env: gymnasium.Env) -> int | None:
    """The environment's own step limit, from its registration or an attribute."""
    values = [None if env.spec is None else env.spec.max_episode_steps]
    values += [getattr(env.unwrapped, name, None) for name in LIMIT_ATTRIBUTES]
    numbers = [v for v in values if isinstance(v, (int, np.integer)) and not isinstance(v, bool) and v > 0]
    return int(numbers[0]) if numbers else None
