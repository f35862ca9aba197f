"""Scripted players as baselines: what a rule of thumb reaches on an environment, in the terms of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from smix_pz import envs
from smix_pz.envs.registry import find_entry, find_source, series_arguments
from smix_pz.names import check_name
from smix_pz.rollout import EpisodeSummary

RANDOM = "random"
SCRIPTED_ENV = "smac_sim_v0"
# The names of `battle.players.PLAYERS`, known here without importing compiled code.
PLAYER_NAMES = ("random", "nearest", "focus-fire", "heuristic")


def is_player(name: str) -> bool:
    """Whether `name` is a scripted player's."""
    return name in PLAYER_NAMES


def evaluate_player(
    player: str,
    episodes: int = 32,
    seed: int = 0,
    *,
    env: Any = None,
    env_kwargs: Mapping[str, Any] | None = None,
    reward: Any = None,
    episode_limit: int | None = None,
    preprocess: Sequence[Any] = (),
) -> EpisodeSummary:
    """Let a scripted player play.

    Args:
        player: "random" on any environment; "nearest", "focus-fire" or "heuristic" on smac_sim_v0.
        episodes: how many. seed: of the environments and of the random player.
        env: None: smac_sim_v0. env_kwargs: its arguments. reward, episode_limit, preprocess: as for
            `make_vector_env`.

    Returns:
        Returns, lengths and wins, arrays [1, episodes].

    Raises:
        ValueError: an unknown player, or one that does not know the environment.
    """
    check_name("player", player, PLAYER_NAMES)
    name = SCRIPTED_ENV if env is None else env
    entry = find_entry(name) if isinstance(name, str) else None
    if player != RANDOM and (entry is None or entry.name != SCRIPTED_ENV):
        raise ValueError(f"the player {player!r} only knows {SCRIPTED_ENV}, got the environment {name!r}; use 'random'")
    keywords = series_arguments(name, env_kwargs or {})
    form = "auto" if player == RANDOM else "native"  # the scripted players read the battles themselves
    vector = envs.make_vector_env(
        find_source(name).copied(),
        episodes,
        reward=reward,
        episode_limit=episode_limit,
        vectorization=form,
        preprocess=preprocess,
        state="observations" if preprocess else None,  # no player here reads a state, which may be a picture
        **keywords,
    )
    try:
        act = _random(episodes, seed) if player == RANDOM else _scripted(player, vector, episodes, seed)
        seeds = np.random.default_rng(seed).integers(0, 2**31 - 1, episodes)
        observation, _ = vector.reset(seed=[int(one) for one in seeds])
        running = np.ones(episodes, bool)
        returns, lengths, won = np.zeros(episodes), np.zeros(episodes, np.int64), np.full(episodes, np.nan)
        for _ in range(vector.team_spec.episode_limit):
            observation, rewards, terminated, truncated, infos = vector.step(act(observation["action_mask"]))
            returns[running] += rewards[running]
            lengths += running
            ended = running & (terminated | truncated)
            if "battle_won" in infos:
                won[ended] = np.asarray(infos["battle_won"])[ended]
            if "aborted" in infos:
                aborted = ended & np.asarray(infos["aborted"], bool)
                returns[aborted] = won[aborted] = np.nan
            running &= ~ended
            if not running.any():
                break
        return EpisodeSummary(returns[None], lengths[None], won[None])
    finally:
        vector.close()


def _random(episodes: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)

    def act(mask: np.ndarray) -> np.ndarray:
        return np.where(mask != 0, rng.random(mask.shape), -1.0).argmax(-1)

    return act


def _scripted(player: str, vector: Any, episodes: int, seed: int) -> Any:
    from smix_pz.envs.battle.players import PLAYERS

    battles = vector.unwrapped.battles
    scripted = PLAYERS[player](battles.scenario, episodes, seed)

    def act(mask: np.ndarray) -> np.ndarray:
        return scripted.act(battles.units, battles.battles, mask)

    return act
