"""Random batches of episodes whose histories repeat, with every kind of end, and padding that holds rubbish."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from smix_pz.episodes import EpisodeBatch, history_keys


def random_batch(
    rng: np.random.Generator,
    *,
    n_runs: int = 1,
    n_episodes: int = 8,
    n_steps: int = 5,
    n_agents: int = 2,
    n_actions: int = 3,
    obs_dim: int = 3,
    state_dim: int = 4,
    n_scenes: int = 2,
    masked: bool = True,
    dtype: torch.dtype = torch.float32,
) -> EpisodeBatch:
    """Episodes that show one of a few scenes (observations, state, masks) at each time, of random length and end.

    With few scenes, early histories repeat; with ``n_scenes`` large, none do.
    """
    lead, t = (n_runs, n_episodes), n_steps
    scene = rng.integers(n_scenes, size=(*lead, t + 1))
    obs = rng.normal(size=(n_scenes, n_agents, obs_dim)).astype(np.float32)[scene]
    state = rng.normal(size=(n_scenes, state_dim)).astype(np.float32)[scene]
    legal = np.ones((n_scenes, n_agents, n_actions), bool)
    if masked:
        legal = rng.random(legal.shape) < 0.6
        np.put_along_axis(legal, rng.integers(n_actions, size=(n_scenes, n_agents, 1)), True, axis=-1)
    avail = legal[scene]
    actions = np.where(avail, rng.random(avail.shape), -1.0).argmax(-1)
    length = rng.integers(1, t + 1, size=lead)
    time = np.arange(t)
    filled = time < length[..., None]
    terminated = (time == length[..., None] - 1) & (rng.random(lead) < 0.5)[..., None]
    rewards = rng.normal(size=(*lead, t)).astype(np.float32)
    fields = [torch.from_numpy(np.ascontiguousarray(x)) for x in (obs, state, avail, actions)]
    behaviour = np.where(avail.sum(-1) > 1, rng.uniform(0.05, 1.0, actions.shape), 1.0).astype(np.float32)
    batch = EpisodeBatch(
        *fields,
        behaviour=torch.from_numpy(behaviour),
        rewards=torch.from_numpy(rewards)[..., None],
        terminated=torch.from_numpy(terminated)[..., None],
        filled=torch.from_numpy(filled)[..., None],
        history=history_keys(*fields),
    )
    return as_dtype(batch, dtype)


def as_dtype(batch: EpisodeBatch, dtype: torch.dtype) -> EpisodeBatch:
    """The batch with its real numbers in another precision (and the keys it had)."""
    return batch.map(lambda x: x.to(dtype) if x.is_floating_point() else x)


def spoil_padding(batch: EpisodeBatch, value: float, seed: int = 0) -> EpisodeBatch:
    """The batch with rubbish wherever no method may look: numbers, masks, actions, ends and keys."""
    rng = np.random.default_rng(seed)
    unused, unfilled = ~batch.needed(), ~batch.filled

    def noise(like: torch.Tensor, high: int) -> torch.Tensor:
        return torch.from_numpy(rng.integers(0, high, size=tuple(like.shape))).to(like.dtype)

    return dataclasses.replace(
        batch,
        obs=batch.obs.masked_fill(unused[..., None, None], value),
        state=batch.state.masked_fill(unused[..., None], value),
        avail_actions=batch.avail_actions & ~unused[..., None, None],
        # The action at a final observation was not played, so its probability means nothing either.
        behaviour=torch.where(_played(batch)[..., None], batch.behaviour, value),
        actions=torch.where(unused[..., None], noise(batch.actions, batch.avail_actions.shape[-1]), batch.actions),
        rewards=batch.rewards.masked_fill(unfilled, value),
        terminated=torch.where(unfilled, noise(batch.terminated, 2), batch.terminated),
        history=torch.where(unused, noise(batch.history, 2**62), batch.history),
    )


def _played(batch: EpisodeBatch) -> torch.Tensor:
    """[R, B, T+1]: whether the action at each time was played."""
    played = torch.zeros_like(batch.needed())
    played[..., :-1] = batch.filled[..., 0]
    return played
