"""`make_vector_env`: whatever a user calls an environment, as a vector environment of teams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from smix_pz.envs.checks import check_choice, check_int, check_keywords
from smix_pz.envs.foreign import RewardRule, reward_function
from smix_pz.envs.hold import HoldAtEnd, HoldingVectorEnv
from smix_pz.envs.preprocessing import check_steps
from smix_pz.envs.preprocessing import preprocess as apply_steps
from smix_pz.envs.registry import ENVS, Source, find_entry, find_source
from smix_pz.envs.spec import TeamSpec
from smix_pz.envs.team import StateRule, TeamEnv, check_state_rule
from smix_pz.envs.vector import NativeVectorEnv

# What `make_vector_env` returns: both have `team_spec`, take a seed for each environment, and hold at the end.
TeamVectorEnv = HoldingVectorEnv | NativeVectorEnv

VECTORIZATIONS = ("auto", "native", "sync", "async")
PROBE_EPISODES, PROBE_STEPS = 3, 100


def make_vector_env(
    env: Any,
    n_envs: int = 1,
    *,
    reward: RewardRule = None,
    episode_limit: int | None = None,
    vectorization: str = "auto",
    preprocess: Sequence[Any] = (),
    state: StateRule = None,
    **env_kwargs: Any,
) -> TeamVectorEnv:
    """Make `n_envs` copies of a cooperative environment, seen as teams.

    The result has an attribute `team_spec` (TeamSpec). Its observations are obs float32 [n, N, O], state float32
    [n, S] and action_mask int8 [n, N, A]; actions integers [n, N]; rewards float64 [n]; terminations and truncations
    bool [n]. An ended episode is held at its end until `reset`, see `smix_pz.envs.hold`.

    Before anything starts, a throw-away copy plays a few short episodes of random legal actions, so that unlike
    rewards and broken masks show at once. An environment whose metadata say "shared_reward": True is spared this.

    Args:
        env: one of our names ("matrix_game_v0", "smix_pz/matrix_game-v0"), an id of PettingZoo's registry, the name of
            a module with a `parallel_env` ("mpe2.simple_spread_v3") or the module, "module:callable", a factory of
            ParallelEnv or TeamEnv, or such an object (n_envs=1 plays it; more are made by copy.deepcopy).
        n_envs: how many.
        reward: how the agents' rewards make the team's: None (they must be equal), "mean", "sum", "first", "individual"
            or a callable from {agent: reward}; see `smix_pz.envs.team.TeamEnv`.
        episode_limit: most steps in an episode; None takes the environment's own.
        vectorization: "native" (one object, array operations; only ours), "sync" (one after the other), "async" (a
            process each), or "auto": native where possible, else sync.
        preprocess: SuperSuit's wrappers by name, in order, around the environment and inside the team view; see
            `smix_pz.envs.preprocessing`.
        state: None: the environment's own `state()` where it has one; "observations": its agents' joined observations
            in any case.
        **env_kwargs: arguments of the environment.

    Raises:
        ValueError: unknown name, reward rule or vectorization; unlike rewards without a rule; no episode limit; an
            object that cannot be copied; "native" where there is no native form; preprocessing that does not fit.
        TypeError: unknown argument of the environment; an action space that is not Discrete; not an environment.
    """
    n_envs = check_int("n_envs", n_envs, 1)
    if episode_limit is not None:
        episode_limit = check_int("episode_limit", episode_limit, 1)
    check_choice("vectorization", vectorization, VECTORIZATIONS)
    reward_function(reward)
    check_steps(preprocess)
    source = find_source(env)
    source.check(env_kwargs)
    view = {"reward": reward, "episode_limit": episode_limit, "state": check_state_rule(state)}
    if vectorization in ("auto", "native"):
        refusal = _why_not_native(source, view, preprocess, env_kwargs)
        if refusal is None:
            keywords = {name: value for name, value in env_kwargs.items() if name != "render_mode"}
            return make_native_env(source.env_id, n_envs, AutoresetMode.DISABLED, episode_limit, **keywords)
        if vectorization == "native":
            raise ValueError(f'vectorization="native" cannot be had: {refusal}. Use "sync", "async" or "auto".')
    if n_envs > 1 or vectorization == "async":
        source = source.copied()
    make_team = partial(_make_team, source, view, tuple(preprocess), env_kwargs)
    spec = _probed_spec(make_team, keep=source.single)
    make_held = partial(_make_held, make_team)
    vectoriser = AsyncVectorEnv if vectorization == "async" else SyncVectorEnv
    return HoldingVectorEnv(vectoriser([make_held] * n_envs), spec)


def make_team_env(
    env: Any,
    *,
    reward: RewardRule = None,
    episode_limit: int | None = None,
    preprocess: Sequence[Any] = (),
    state: StateRule = None,
    **env_kwargs: Any,
) -> gymnasium.Env:
    """Make one environment in the team view; arguments and errors as for `make_vector_env`."""
    check_steps(preprocess)
    source = find_source(env)
    source.check(env_kwargs)
    view = {"reward": reward, "episode_limit": episode_limit, "state": check_state_rule(state)}
    return _make_team(source, view, tuple(preprocess), env_kwargs)


def make_native_env(
    env: Any,
    num_envs: int = 1,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    episode_limit: int | None = None,
    **env_kwargs: Any,
) -> NativeVectorEnv:
    """Make the native vector form of one of our environments; what `gymnasium.make_vec` calls.

    env: name or id. autoreset_mode: see `smix_pz.envs.vector`.

    Raises:
        ValueError: not one of our environments, or one without a native form.
        TypeError: unknown argument of the environment.
    """
    entry = find_entry(env) if isinstance(env, str) else None
    if entry is None or entry.native is None:
        raise ValueError(f"{env!r} has no native vector form. Those that have: {', '.join(_native_names())}.")
    Source(entry.native, entry.env_id, entry.native).check(env_kwargs)
    return entry.native(num_envs, autoreset_mode=autoreset_mode, episode_limit=episode_limit, **env_kwargs)


def _native_names() -> list[str]:
    return [name for name, entry in ENVS.items() if entry.native is not None]


def _why_not_native(
    source: Source, view: Mapping[str, Any], steps: Sequence[Any], env_kwargs: Mapping[str, Any]
) -> str | None:
    """Why the native form does not serve, or None if it does."""
    reward = view["reward"]
    if source.entry is None or source.entry.native is None:
        return f"{source.env_id or 'this environment'} has no native vector form"
    if reward is not None and reward != "mean":
        return "the native forms pay the reward that all agents share, so they know no other rule than None or 'mean'"
    if steps or view["state"] is not None:
        return "the native forms know neither preprocessing nor another state than their own"
    if env_kwargs.get("render_mode") is not None:
        return "the native forms draw no pictures, so they take no render_mode"
    try:
        check_keywords("its native form", source.entry.native, env_kwargs.keys() - {"render_mode"})
    except TypeError as error:
        return str(error).partition(";")[0].rstrip(".")
    return None


def _make_team(
    source: Source, view: Mapping[str, Any], steps: tuple[Any, ...], env_kwargs: Mapping[str, Any]
) -> gymnasium.Env:
    made = source.factory(**env_kwargs)
    if isinstance(made, gymnasium.Env) and isinstance(made.unwrapped, TeamEnv):
        if steps or any(value is not None for value in view.values()):
            raise ValueError(
                "reward, episode_limit, state and preprocess belong to the ParallelEnv and its view: give them to the "
                "TeamEnv and what is inside."
            )
        return made
    return TeamEnv(apply_steps(made, steps), env_id=source.env_id, **view)


def _make_held(make_team: Callable[[], gymnasium.Env]) -> gymnasium.Env:
    return HoldAtEnd(make_team())


def _probed_spec(make_team: Callable[[], gymnasium.Env], keep: bool) -> TeamSpec:
    """Play a throw-away copy at random for a moment; whatever it raises is raised before any work has begun."""
    env = make_team()
    team = env.unwrapped
    assert isinstance(team, TeamEnv)
    spec = team.team_spec
    try:
        if not team.metadata.get("shared_reward", False):
            spec = replace(spec, has_win=_probe(env) or spec.has_win)
    finally:
        if not keep:
            env.close()
    return spec


def _probe(env: gymnasium.Env) -> bool:
    """Whether infos carried battle_won in a few random episodes."""
    rng, has_win, steps = np.random.default_rng(0), False, 0
    for episode in range(PROBE_EPISODES):
        observation, info = env.reset(seed=episode)
        ended = False
        while not ended and steps < PROBE_STEPS:
            actions = np.array([rng.choice(np.flatnonzero(row)) for row in observation["action_mask"]])
            observation, _, terminated, truncated, info = env.step(actions)
            has_win = has_win or "battle_won" in info
            ended = terminated or truncated
            steps += 1
    return has_win
