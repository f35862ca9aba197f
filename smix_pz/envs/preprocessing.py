"""SuperSuit's wrappers by name, applied in order to a ParallelEnv before the team view.

    preprocess(env, ["color_reduction_v0:full", "resize_v1:x_size=84,y_size=84", "frame_stack_v1:4"])

`smix_pz.steps` says how a step is written. Names and arguments are checked before any environment is made; whether a
wrapper can take this environment's observations, when it is made, which is before any work starts. SuperSuit is
imported where there are steps, and only there.

What SuperSuit offers and is refused here is refused with what to do instead (`REFUSED`): the team view pads, keeps the
dead and makes many copies itself.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gymnasium import spaces

from smix_pz.envs.adapters import as_parallel
from smix_pz.envs.checks import check_keywords, nearest
from smix_pz.envs.foreign import check_parallel, find_episode_limit
from smix_pz.steps import join_step, parse_step, step_text

__all__ = ["REFUSED", "STEPS", "Step", "check_steps", "preprocess"]

# Name -> what the wrapper needs of an observation space, for where its own error does not say; None: it leaves
# observations alone.
STEPS: Mapping[str, str | None] = MappingProxyType(
    {
        "agent_indicator_v0": "a Box of one dimension or a picture, the same for all agents (which it tells apart)",
        "clip_reward_v0": None,
        "color_reduction_v0": "a picture [height, width, 3]",
        "delay_observations_v0": "a Box",
        "dtype_v0": "a Box",
        "flatten_v0": "a Box",
        "frame_skip_v0": None,
        "frame_stack_v1": "a Box of one to three dimensions, or Discrete",
        "frame_stack_v2": "a Box of one to three dimensions, or Discrete",
        "max_observation_v0": "a Box",
        "normalize_obs_v0": "a Box of float32 or float64 with finite bounds: put dtype_v0:float32 before it",
        "reshape_v0": "a Box, and a shape of as many entries",
        "resize_v1": "a picture [height, width] or [height, width, channels]",
        "sticky_actions_v0": None,
    }
)
_REPEATS_ACTIONS = ("frame_skip_v0", "sticky_actions_v0")
_TAKES_DISCRETE = ("frame_stack_v1", "frame_stack_v2")

_WRAP = "it takes a function: wrap the environment in a factory of your own and give that as the environment"
_VECTOR = "the team view makes its own copies of an environment"
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "black_death_v3": "the team view keeps agents that died itself: zero observation, no part in the loss",
        "pad_observations_v0": "the team view pads unlike observations itself",
        "pad_action_space_v0": "the team view pads unlike action spaces itself, and masks what an agent does not have",
        "clip_actions_v0": "it is for continuous actions, which no algorithm here has",
        "scale_actions_v0": "it is for continuous actions, which no algorithm here has",
        "nan_noop_v0": "no action here is NaN",
        "nan_random_v0": "no action here is NaN",
        "nan_zeros_v0": "no action here is NaN",
        "action_lambda_v1": _WRAP,
        "observation_lambda_v0": _WRAP,
        "reward_lambda_v0": _WRAP,
        "concat_vec_envs_v1": _VECTOR,
        "gym_vec_env_v0": _VECTOR,
        "pettingzoo_env_to_vec_env_v1": _VECTOR,
        "stable_baselines3_vec_env_v0": _VECTOR,
        "stable_baselines_vec_env_v0": _VECTOR,
        "vectorize_aec_env_v0": _VECTOR,
    }
)


@dataclass(frozen=True)
class Step:
    """One wrapper with its arguments by name."""

    name: str
    wrapper: Callable[..., Any]
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        return join_step(self.name, self.arguments)


def check_steps(steps: Sequence[Any] | str) -> tuple[Step, ...]:
    """Look up names and arguments.

    steps: each a text or a mapping, see `smix_pz.steps`; a single text is one step.

    Raises:
        ValueError: a name that is not known (the nearest is named) or that has no place here (with the reason).
        TypeError: an argument that the wrapper does not take (with those it does), or one that is missing.
        ImportError: steps without SuperSuit.
    """
    texts = [step_text(step) for step in ([steps] if isinstance(steps, (str, Mapping)) else steps)]
    return tuple(_step(text) for text in texts)


def preprocess(env: Any, steps: Sequence[Any] | str) -> Any:
    """`env` inside the named wrappers, the first one innermost.

    env: a ParallelEnv, or what can be made one (`smix_pz.envs.adapters`). Without steps it comes back as it is.

    Raises:
        ValueError: what `check_steps` refuses; a wrapper that cannot take the observations, or that repeats actions of
            an environment with masks. The message names the step, the agent and the space.
        TypeError, ImportError: as for `check_steps`.
    """
    checked = check_steps(steps)
    if not checked:
        return env
    env = as_parallel(env)
    check_parallel(env)
    try:
        limit: int | None = find_episode_limit(env)
    except ValueError:
        limit = None  # the team view asks for one
    for number, step in enumerate(checked, start=1):
        env = _wrap(env, step, f"preprocessing step {number}, {step}")
        if limit is not None:
            # SuperSuit's wrappers may hide the limit, or change it.
            limit = math.ceil(limit / _fewest(step.arguments)) if step.name == "frame_skip_v0" else limit
            env.episode_limit = limit
    return env


def _step(text: str) -> Step:
    name, values, keywords = parse_step(text)
    if name in REFUSED:
        raise ValueError(f"preprocessing step {name!r} has no place here: {REFUSED[name]}.")
    if name not in STEPS:
        raise ValueError(f"preprocessing step {name!r} is not known{nearest(name, STEPS)} All: {', '.join(STEPS)}.")
    supersuit = _supersuit()
    wrapper = getattr(supersuit, name)
    signature = wrapper.parallel_wrapper.__init__ if hasattr(wrapper, "parallel_wrapper") else wrapper
    names = [parameter for parameter in inspect.signature(signature).parameters if parameter not in ("self", "env")]
    if len(values) > len(names):
        takes = f"takes {len(names)} argument(s), {', '.join(names)}" if names else "takes no arguments"
        raise TypeError(f"preprocessing step {text!r}: {name} {takes}; got {len(values)} values.")
    check_keywords(f"preprocessing step {name}", _of_names(names), keywords)
    given = dict(zip(names, values, strict=False))
    twice = given.keys() & keywords.keys()
    if twice:
        raise TypeError(f"preprocessing step {text!r} gives {', '.join(sorted(twice))} twice.")
    arguments = given | keywords
    for parameter in inspect.signature(signature).parameters.values():
        if parameter.name in names and parameter.default is parameter.empty and parameter.name not in arguments:
            raise TypeError(
                f"preprocessing step {text!r} lacks {parameter.name!r}; {name} takes {', '.join(names)}, as in "
                f"{name}:{','.join(f'{one}=...' for one in names)}."
            )
    # SuperSuit takes tuples alone where there are several numbers (a shape, a range of frames).
    return Step(name, wrapper, {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()})


def _of_names(names: Sequence[str]) -> Callable[..., Any]:
    """A function whose keywords are `names`, for `check_keywords`."""

    def function() -> None: ...

    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


def _supersuit() -> Any:
    try:
        import supersuit
    except ImportError as error:
        raise ImportError('preprocess needs SuperSuit: pip install "smix-pz[supersuit]".') from error
    return supersuit


def _wrap(env: Any, step: Step, what: str) -> Any:
    if STEPS[step.name] is not None:
        for agent in env.possible_agents:
            _check_space(env.observation_space(agent), agent, step, what)
    if step.name in _REPEATS_ACTIONS:
        _check_repeatable(env, what, step)
    try:
        wrapped = step.wrapper(env, **step.arguments)
        for agent in env.possible_agents:
            wrapped.observation_space(agent)
    except Exception as error:  # assertions without a message, for the most part
        agent = env.possible_agents[0]
        needs = STEPS[step.name]
        raise ValueError(
            f"{what}: SuperSuit refuses{f' ({error})' if str(error) else ''}. {step.name} "
            f"{f'needs {needs}; ' if needs else ''}the observation of {agent} is {env.observation_space(agent)!r}."
        ) from error
    return wrapped


def _check_space(space: spaces.Space, agent: Any, step: Step, what: str) -> None:
    if isinstance(space, spaces.Box) or (isinstance(space, spaces.Discrete) and step.name in _TAKES_DISCRETE):
        two = isinstance(space, spaces.Box) and len(space.shape) == 2 and step.arguments.get("stack_dim", -1) == 0
        if two and step.name in _TAKES_DISCRETE:
            raise ValueError(
                f"{what}: SuperSuit puts pictures without channels in the wrong places at stack_dim=0; use "
                "stack_dim=-1, or reshape_v0 them to one channel before."
            )
        return
    hint = "Give the environment an observation that is one array."
    if isinstance(space, spaces.Dict) and "action_mask" in space.spaces:
        hint = (
            "Its masks can come in infos instead, beside an observation that is an array: environments of this package "
            "do that with flat_obs=True (--env-kwargs flat_obs=true), others may have such an argument too."
        )
    raise ValueError(
        f"{what}: SuperSuit takes arrays, and cannot take the observation of {agent}, a {type(space).__name__} of "
        f"{', '.join(map(str, getattr(space, 'spaces', [space])))}. {hint}"
    )


def _check_repeatable(env: Any, what: str, step: Step) -> None:
    """Raise ValueError if the environment has masks, which a repeated action may break; or what frame_skip_v0 lacks."""
    has_masks = any("action_mask" in getattr(env.observation_space(a), "spaces", {}) for a in env.possible_agents)
    if not has_masks:
        _, infos = env.reset(seed=0)
        has_masks = any("action_mask" in info for info in infos.values())
    if has_masks:
        raise ValueError(
            f"{what}: {step.name} plays actions again that were chosen earlier, and this environment has action masks, "
            "by which they may have become illegal. Leave the step out."
        )
    if step.name == "frame_skip_v0" and getattr(env.unwrapped, "np_random", None) is None:
        raise ValueError(
            f"{what}: SuperSuit draws from the environment's own np_random, and {env} has none. Leave the step out, or "
            "repeat actions inside the environment."
        )


def _fewest(arguments: Mapping[str, Any]) -> int:
    """Frames that a step of frame_skip_v0 takes at least."""
    num_frames = arguments["num_frames"]
    return int(num_frames[0] if isinstance(num_frames, (list, tuple)) else num_frames)
