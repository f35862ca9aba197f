"""What the team view asks of an environment it did not make: spaces, state, limit, version, and its rewards' rule."""

from __future__ import annotations

import importlib.metadata
import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv

from smix_pz.envs.checks import check_choice
from smix_pz.envs.pictures import brightest, image_shape
from smix_pz.version import __version__

RewardRule = str | Callable[[dict[str, float]], float] | None

MOST_COMBINATIONS = 512  # of a MultiDiscrete action space
LIMIT_ATTRIBUTES = ("episode_limit", "max_cycles", "max_steps", "max_episode_steps")
PARALLEL_MEMBERS = ("possible_agents", "reset", "step", "observation_space", "action_space")


def shared_reward(rewards: dict[str, float]) -> float:
    """The number that all agents received; ValueError naming two agents who differ."""
    (first, value), *others = rewards.items()
    for other, another in others:
        if another != value:
            opposed = (
                " Some gain what others lose: if this is a game of sides against each other, no team can play it; hold "
                "the other side's agents inside the environment, or take a cooperative one."
                if min(rewards.values()) < 0 < max(rewards.values())
                else " (If these are sides against each other, no rule makes them a team; a cooperative environment, "
                "or one that plays the other side itself, would work.)"
            )
            raise ValueError(
                f"the agents are paid unlike rewards: {first} {value!r}, {other} {another!r}. A team has one reward: "
                'say how to make it with reward="mean", "sum", "first" or a callable from {agent: reward} to a number '
                '(--team-reward on the command line), or pay each agent its own with "individual", which independent '
                f"learners (iql) can learn from.{opposed}"
            )
    return value


REWARD_RULES: Mapping[str, Callable[[dict[str, float]], float]] = {
    "mean": lambda rewards: sum(rewards.values()) / len(rewards),
    "sum": lambda rewards: sum(rewards.values()),
    "first": lambda rewards: next(iter(rewards.values())),
    # What is reported of the team; the agents' own rewards are in the info "agent_rewards".
    "individual": lambda rewards: sum(rewards.values()) / len(rewards),
}


def reward_function(rule: RewardRule) -> Callable[[dict[str, float]], float]:
    """The function behind a reward rule: None, a name in `REWARD_RULES`, or a callable."""
    if rule is None:
        return shared_reward
    if callable(rule):
        return rule
    if not isinstance(rule, str):
        raise TypeError(
            f"reward must be None, {', '.join(REWARD_RULES)} or a callable from {{agent: reward}}, got {rule!r}."
        )
    return REWARD_RULES[check_choice("reward rule", rule, REWARD_RULES)]


def check_parallel(env: Any) -> None:
    """Raise TypeError unless `env` is a ParallelEnv (or looks like one), ValueError if it has no agents."""
    if not isinstance(env, ParallelEnv):
        missing = [name for name in PARALLEL_MEMBERS if not hasattr(env, name)]
        if missing:
            raise TypeError(f"expected a ParallelEnv, got {type(env).__name__} without {', '.join(missing)}.")
    if not getattr(env, "possible_agents", None):
        raise ValueError(f"{env} names no possible_agents: a team needs to know its agents before it plays.")


class ActionReader:
    """Translates an agent's actions: the learner's index, 0 to n - 1, to what the environment takes.

    A small MultiDiscrete space is enumerated, its last number counting fastest.

    Raises:
        TypeError: another kind of space, naming the agent and the space. ValueError: too many combinations.
    """

    def __init__(self, env: Any, agent: Any) -> None:
        space = env.action_space(agent)
        self._start = 0
        self._shape: tuple[int, ...] = ()
        if isinstance(space, spaces.Discrete):
            self.n, self._start = int(space.n), int(space.start)
            return
        if not isinstance(space, spaces.MultiDiscrete):
            raise TypeError(
                f"the action space of {agent} is {space}, expected Discrete, or a small MultiDiscrete: the algorithms "
                "choose one action of a few. Many environments have an argument for that, such as "
                "continuous_actions=False or continuous=False; no algorithm here can use continuous actions."
            )
        self._shape = tuple(int(n) for n in np.ravel(space.nvec))
        self._first, self._layout, self._dtype = np.ravel(space.start), space.nvec.shape, space.dtype
        self.n = math.prod(self._shape)
        if self.n > MOST_COMBINATIONS:
            raise ValueError(
                f"the action space of {agent} is {space}, {self.n} combinations; at most {MOST_COMBINATIONS} are "
                "enumerated. Fewer choices, or an environment that takes them one after the other, would work."
            )

    def __call__(self, index: int) -> Any:
        """The environment's action number `index`."""
        if not self._shape:
            return index + self._start
        numbers = np.array(np.unravel_index(index, self._shape)) + self._first
        return numbers.reshape(self._layout).astype(self._dtype)


def flat_box(space: spaces.Space, what: str) -> spaces.Box:
    """The one-dimensional Box that `space` flattens to; TypeError if it cannot."""
    try:
        flat = spaces.flatten_space(space)
    except NotImplementedError:
        flat = None
    if not isinstance(flat, spaces.Box):
        raise TypeError(f"{what} has the space {space}, which cannot be flattened to numbers of a fixed count.")
    return flat


def flat_row(space: spaces.Space, value: Any) -> np.ndarray:
    """The value as the float32 row of `flat_box(space)`."""
    return np.asarray(spaces.flatten(space, value)).astype(np.float32)


class ObservationReader:
    """Reads one agent's observations as a flat float32 row [width] and, where they hold one, an action mask.

    An observation with a mask is a Dict with the key "action_mask" beside another ("observation", as a rule). Images of
    uint8 stay uint8.

    Attributes:
        width: numbers in a row. low, high: their bounds [width].
        space: of the observation without its mask.
        image: the observation's shape if it has that of an image, else None. is_bytes: whether it is one of uint8.
        largest: the greatest number that it can hold; 1 where there is no bound.
    """

    def __init__(self, space: spaces.Space, agent: Any) -> None:
        self._has_mask = isinstance(space, spaces.Dict) and "action_mask" in space.spaces
        self._key: str | None = None
        if isinstance(space, spaces.Dict) and self._has_mask:
            rest = {key: part for key, part in space.spaces.items() if key != "action_mask"}
            if not rest:
                raise TypeError(f"the observation of {agent} holds an action_mask and nothing else.")
            if len(rest) == 1:
                ((self._key, space),) = rest.items()
            else:
                space = spaces.Dict(rest)
        self.space = space
        flat = flat_box(space, f"the observation of {agent}")
        self.width, self.low, self.high = int(flat.shape[0]), flat.low, flat.high
        self.image = image_shape(space)
        self.is_bytes = self.image is not None and space.dtype == np.uint8
        self.largest = brightest(flat)

    def __call__(self, observation: Any) -> tuple[np.ndarray, Any]:
        """Return the row [width] and the mask or None."""
        mask = None
        if self._has_mask:
            mask = observation["action_mask"]
            observation = observation[self._key] if self._key is not None else observation
        if self.is_bytes:
            return np.asarray(observation, np.uint8).reshape(self.width), mask
        return flat_row(self.space, observation), mask


def find_state_space(env: Any) -> spaces.Space | None:
    """The space of `state()`, or None if the environment reports no state."""
    space = getattr(env, "state_space", None)
    base = getattr(env, "unwrapped", env)
    if space is None or getattr(type(base), "state", None) in (None, ParallelEnv.state, AECEnv.state):
        return None
    try:
        env.state()
    except NotImplementedError:
        return None
    except Exception:
        return space  # asked before the first reset, an environment may fail in any way it likes
    return space


def find_episode_limit(env: Any) -> int:
    """The environment's own limit; ValueError asking for one if no attribute of `LIMIT_ATTRIBUTES` gives it.

    PettingZoo's sisl and butterfly environments keep theirs in the game that they hold as `env`.
    """
    base = getattr(env, "unwrapped", env)
    for source in (env, base, getattr(base, "env", None)):
        for name in LIMIT_ATTRIBUTES:
            value = getattr(source, name, None)
            if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value > 0:
                return int(value)
    raise ValueError(
        f"how long can an episode of {env} be? It has none of {', '.join(LIMIT_ATTRIBUTES)}: pass episode_limit=."
    )


def find_engine(env: Any) -> dict[str, Any]:
    """What plays: "name" (package/environment), "version" of that package (None if unknown), "rules" if it has any.

    An environment that knows better says so in its attribute `engine`, a mapping with at least "name" and "version".
    """
    own = getattr(getattr(env, "unwrapped", env), "engine", None)
    if isinstance(own, Mapping) and {"name", "version"} <= set(own):
        return dict(own)
    package = type(getattr(env, "unwrapped", env)).__module__.split(".")[0]
    engine = {"name": f"{package}/{canonical(str(env))}", "version": package_version(package)}
    rules = (getattr(env, "metadata", None) or {}).get("rules")
    return engine if rules is None else {**engine, "rules": rules}


def package_version(package: str) -> str | None:
    """Version of an imported package, from its metadata or its `__version__`; None if it tells neither."""
    if package == "smix_pz":
        return __version__
    own = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(own, str):
        return own
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def canonical(env_id: str) -> str:
    """The registries' spelling of an id: matrix_game_v0 becomes matrix_game-v0."""
    return re.sub(r"_v(?=\d+$)", "-v", env_id.strip())
