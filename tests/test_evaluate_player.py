"""Scripted players as baselines: against a known mean, a plain loop, and environments that break down."""

from __future__ import annotations

import numpy as np
import pytest

from smix_pz.baselines import PLAYER_NAMES, evaluate_player
from smix_pz.envs import smac_sim_v0
from smix_pz.envs.battle.players import PLAYERS


@pytest.mark.parametrize("m", [2, 3, 10])
def test_random_play_of_the_matrix_game_is_worth_two_thirds(m: int) -> None:
    """2/3 + (4/3) / 4^(m - 1): the closed form that test_games.py derives."""
    summary = evaluate_player("random", 20_000, 1, env="matrix_game_v0", env_kwargs={"m": m})
    returns = summary.returns
    assert returns.shape == summary.lengths.shape == summary.won.shape == (1, 20_000)
    error = returns.std() / np.sqrt(returns.size)
    assert error < 0.02
    assert abs(returns.mean() - (2 / 3 + 4 / 3 / 4 ** (m - 1))) < 4 * error
    assert np.isnan(summary.won).all()  # a game without victory
    assert summary.lengths.min() == 1 and summary.lengths.max() <= m


@pytest.mark.parametrize("player", ["nearest", "focus-fire", "heuristic"])
def test_a_player_on_3m_is_a_plain_loop(player: str) -> None:
    """The same battles, one after the other, through PettingZoo."""
    summary = evaluate_player(player, 6, 5, env_kwargs={"map_name": "3m"})
    env = smac_sim_v0.parallel_env("3m")
    seeds = np.random.default_rng(5).integers(0, 2**31 - 1, 6)
    for index, seed in enumerate(seeds):
        scripted = PLAYERS[player](env.battles.scenario, 1, 5)
        env.reset(seed=int(seed))
        total, length = 0.0, 0
        while env.agents:
            chosen = scripted.act(env.battles.units, env.battles.battles, env.battles.mask)[0]
            acting = env.agents[:]
            actions = {agent: int(chosen[env.possible_agents.index(agent)]) for agent in acting}
            _, rewards, _, _, infos = env.step(actions)
            total, length = total + rewards[acting[0]], length + 1
        assert summary.returns[0, index] == pytest.approx(total, abs=1e-9)
        assert summary.lengths[0, index] == length
        assert summary.won[0, index] == infos[acting[0]]["battle_won"]


@pytest.mark.parametrize("player", PLAYER_NAMES)
def test_a_seed_settles_everything(player: str) -> None:
    one, same, other = (evaluate_player(player, 8, seed, env_kwargs={"map_name": "3m"}) for seed in (0, 0, 1))
    for name in ("returns", "lengths", "won"):
        assert np.array_equal(getattr(one, name), getattr(same, name))
    assert not np.array_equal(one.returns, other.returns)
    assert set(np.unique(one.won)) <= {0.0, 1.0}


def test_random_play_keeps_to_the_masks() -> None:
    """Without native form, and cut after 5 steps."""
    summary = evaluate_player("random", 3, 0, env="tiny_envs:Masked", episode_limit=5)
    assert summary.lengths.max() <= 5
    # One that raises where a mask is ignored; its native form does not know the argument, so that it is not used.
    strict = evaluate_player("random", 2, 0, env_kwargs={"map_name": "3m", "strict": True})
    assert (strict.lengths > 5).all()


def test_aborted_episodes_have_no_return() -> None:
    summary = evaluate_player("random", 64, 0, env="test_rollout:Breaking")
    broken = np.isnan(summary.returns)
    assert 10 < broken.sum() < 54  # half of them, by chance
    assert (summary.returns[~broken] == 4.0).all()
    assert np.array_equal(summary.won, np.where(broken, np.nan, 1.0), equal_nan=True)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'nearest'"):
        evaluate_player("nearst", 1)
    with pytest.raises(ValueError, match=r"'focus-fire' only knows smac_sim_v0, got the environment 'matrix_game_v0'"):
        evaluate_player("focus-fire", 1, env="matrix_game_v0")
    with pytest.raises(ValueError, match="did you mean '3m'"):
        evaluate_player("nearest", 1, env_kwargs={"map_name": "3n"})
    with pytest.raises(ValueError, match="no argument 'strict'"):
        evaluate_player("nearest", 1, env_kwargs={"strict": True})
    with pytest.raises(ValueError, match="at least 1"):
        evaluate_player("nearest", 0)
