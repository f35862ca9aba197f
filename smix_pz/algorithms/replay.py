"""Replay of whole episodes: the most recent ones of each run, in compact dtypes, in one block of memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from smix_pz.episodes import EpisodeBatch


class EpisodeReplay:
    """A ring of ``capacity`` episodes for each of R runs.

    Masks and ends are stored as bool, actions as the smallest integer that holds them; observations as they come
    (float32, images uint8), state, rewards and probabilities as float32. ``sample`` returns them as stored.
    """

    def __init__(
        self,
        n_runs: int,
        capacity: int,
        *,
        episode_limit: int,
        n_agents: int,
        n_actions: int,
        obs_dim: int,
        state_dim: int,
        obs_dtype: torch.dtype = torch.float32,
        device: torch.device,
        n_rewards: int = 1,
        keep_behaviour: bool = True,
    ) -> None:
        """n_rewards: 1, or N where agents are paid each their own. ``keep_behaviour`` False drops the probabilities of
        actions: that field is then [..., 0] wide."""
        self.capacity, self.size, self.next = capacity, 0, 0
        lead = (n_runs, capacity)
        shapes = _layout(episode_limit, n_agents, n_actions, obs_dim, state_dim, obs_dtype, n_rewards, keep_behaviour)
        self.storage = EpisodeBatch(
            **{name: torch.zeros(*lead, *shape, dtype=dtype, device=device) for name, (shape, dtype) in shapes.items()}
        )

    @staticmethod
    def estimate_bytes(
        n_runs: int,
        capacity: int,
        *,
        episode_limit: int,
        n_agents: int,
        n_actions: int,
        obs_dim: int,
        state_dim: int,
        obs_dtype: torch.dtype = torch.float32,
        n_rewards: int = 1,
        keep_behaviour: bool = True,
    ) -> int:
        """Bytes that a replay of this size takes, without building it."""
        shapes = _layout(episode_limit, n_agents, n_actions, obs_dim, state_dim, obs_dtype, n_rewards, keep_behaviour)
        return n_runs * capacity * sum(math.prod(shape) * dtype.itemsize for shape, dtype in shapes.values())

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(getattr(self.storage, f.name).nbytes for f in fields(EpisodeBatch))

    def add(self, batch: EpisodeBatch) -> None:
        """Store [R, K, ...] episodes, over the oldest where the ring is full."""
        n_new = batch.history.shape[1]
        if n_new > self.capacity:
            raise ValueError(f"{n_new} episodes at once do not fit a replay of {self.capacity}")
        first = min(n_new, self.capacity - self.next)
        for piece, start in ((slice(0, first), self.next), (slice(first, n_new), 0)):
            length = piece.stop - piece.start
            if length:
                for f in fields(EpisodeBatch):
                    stored, new = getattr(self.storage, f.name), getattr(batch, f.name)
                    stored[:, start : start + length] = new[:, piece, ..., : stored.shape[-1]]
        self.next = (self.next + n_new) % self.capacity
        self.size = min(self.size + n_new, self.capacity)

    def can_sample(self, batch_size: int) -> bool:
        """Whether a batch can be drawn: with a small ring (on-policy) all of it is one."""
        return self.size >= min(batch_size, self.capacity)

    def sample(self, batch_size: int, rngs: Sequence[np.random.Generator]) -> EpisodeBatch:
        """Draw episodes without replacement, each run by its own generator: [R, B, ...].

        B is ``batch_size``, or the whole ring where that is smaller.
        """
        return self.sample_many(1, batch_size, rngs).map(lambda field: field[0])

    def sample_many(self, n_batches: int, batch_size: int, rngs: Sequence[np.random.Generator]) -> EpisodeBatch:
        """What ``sample`` would return if called n times, in fields [U, R, B, ...]."""
        n = min(batch_size, self.capacity)
        if not self.can_sample(batch_size):
            raise ValueError(f"a batch of {n} episodes cannot be drawn from {self.size}")
        drawn = [[rng.choice(self.size, n, replace=False, shuffle=False) for _ in range(n_batches)] for rng in rngs]
        index = np.swapaxes(np.array(drawn), 0, 1) + self.capacity * np.arange(len(rngs))[:, None]
        flat_index = torch.from_numpy(index.reshape(-1)).to(self.storage.obs.device)

        def take(field: Tensor) -> Tensor:
            return field.flatten(0, 1).index_select(0, flat_index).unflatten(0, index.shape)

        return self.storage.map(take)

    def select(self, keep: Tensor) -> None:
        """Go on with the chosen runs only (increasing).

        Their episodes move to the front of the same memory: a copy of all of it would need it twice, and would touch
        what no episode has filled yet.
        """
        places = keep.tolist()
        assert places == sorted(places), places

        def move(field: Tensor) -> Tensor:
            for to, place in enumerate(places):
                if to != place:
                    field[to, : self.size] = field[place, : self.size]
            return field[: len(places)]

        self.storage = self.storage.map(move)


def _layout(
    episode_limit: int,
    n_agents: int,
    n_actions: int,
    obs_dim: int,
    state_dim: int,
    obs_dtype: torch.dtype,
    n_rewards: int,
    keep_behaviour: bool,
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and dtype of every field of one episode."""
    t, n = episode_limit, n_agents
    return {
        "obs": ((t + 1, n, obs_dim), obs_dtype),
        "state": ((t + 1, state_dim), torch.float32),
        "avail_actions": ((t + 1, n, n_actions), torch.bool),
        "actions": ((t + 1, n), torch.int8 if n_actions <= 128 else torch.int16),
        "behaviour": ((t + 1, n if keep_behaviour else 0), torch.float32),
        "rewards": ((t, n_rewards), torch.float32),
        "terminated": ((t, 1), torch.bool),
        "filled": ((t, 1), torch.bool),
        "history": ((t + 1,), torch.int64),
    }
