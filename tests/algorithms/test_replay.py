"""The replay ring against a deque of episodes, and what drawing from it promises."""

from __future__ import annotations

from collections import deque
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle.batches import random_batch

from smix_pz.algorithms.replay import EpisodeReplay
from smix_pz.episodes import EpisodeBatch

SHAPE = {"n_agents": 2, "n_actions": 3, "obs_dim": 3, "state_dim": 4}
T = 4
CPU = torch.device("cpu")


def make(n_runs: int, capacity: int, **shape: int) -> EpisodeReplay:
    return EpisodeReplay(n_runs, capacity, episode_limit=T, **{**SHAPE, **shape}, device=CPU)


def numbered(n_runs: int, first: int, count: int) -> EpisodeBatch:
    """Random episodes whose first reward says which one it is: number + run / 10."""
    batch = random_batch(np.random.default_rng(first), n_runs=n_runs, n_episodes=count, n_steps=T, **SHAPE)
    batch.rewards[:, :, 0, 0] = torch.arange(first, first + count) + torch.arange(n_runs)[:, None] / 10
    return batch


def numbers(batch: EpisodeBatch, run: int) -> list[int]:
    return [round(float(x) - run / 10) for x in batch.rewards[run, :, 0, 0]]


@given(capacity=st.integers(1, 9), groups=st.lists(st.integers(1, 9), min_size=1, max_size=8), seed=st.integers(0, 999))
def test_ring_is_a_deque(capacity: int, groups: list[int], seed: int) -> None:
    """The most recent episodes stay, every field of them, in every run."""
    replay = make(2, capacity)
    model: deque[EpisodeBatch] = deque(maxlen=capacity)
    added = 0
    for count in (min(c, capacity) for c in groups):
        batch = numbered(2, added, count)
        replay.add(batch)
        model.extend(batch.map(lambda field, k=k: field[:, k : k + 1]) for k in range(count))
        added += count
        assert replay.size == len(model)
        everything = replay.sample(replay.size, [np.random.default_rng([seed, r]) for r in range(2)])
        for r in range(2):
            drawn = numbers(everything, r)
            kept = [numbers(one, r)[0] for one in model]
            assert sorted(drawn) == kept == list(range(added - len(model), added))
            for f in fields(EpisodeBatch):
                stored = getattr(everything, f.name)[r]
                original = torch.cat([getattr(model[kept.index(k)], f.name)[r] for k in drawn])
                assert torch.equal(stored.to(original.dtype), original), f.name


def test_bytes_are_as_estimated() -> None:
    for n_actions, n_runs, capacity in ((3, 1, 7), (128, 2, 3), (129, 3, 2)):
        replay = make(n_runs, capacity, n_actions=n_actions)
        shape = {**SHAPE, "n_actions": n_actions}
        assert replay.nbytes == EpisodeReplay.estimate_bytes(n_runs, capacity, episode_limit=T, **shape)
        assert replay.nbytes == sum(
            getattr(replay.storage, f.name).element_size() * getattr(replay.storage, f.name).numel()
            for f in fields(EpisodeBatch)
        )
    # Bytes for pixels, and no state where nobody reads it.
    pictures = {**SHAPE, "obs_dim": 100, "state_dim": 0, "obs_dtype": torch.uint8}
    replay = EpisodeReplay(2, 3, episode_limit=T, **pictures, device=CPU)  # type: ignore[arg-type]
    assert replay.nbytes == EpisodeReplay.estimate_bytes(2, 3, episode_limit=T, **pictures)  # type: ignore[arg-type]
    assert replay.storage.obs.nbytes == 2 * 3 * (T + 1) * SHAPE["n_agents"] * 100 and not replay.storage.state.nbytes


@pytest.mark.parametrize("n_actions", [3, 128, 129, 300])
def test_every_action_fits(n_actions: int) -> None:
    """The compact integer holds the largest action."""
    replay = make(1, 4, n_actions=n_actions)
    batch = random_batch(np.random.default_rng(0), n_episodes=4, n_steps=T, **{**SHAPE, "n_actions": n_actions})
    batch.actions.fill_(n_actions - 1)
    replay.add(batch)
    assert (replay.sample(4, [np.random.default_rng(0)]).actions.long() == n_actions - 1).all()


def test_drawing_is_uniform_and_without_replacement() -> None:
    replay = make(1, 10)
    replay.add(numbered(1, 0, 8))  # not yet full
    counts = np.zeros(10)
    rng = np.random.default_rng(0)
    n_draws = 2000
    for _ in range(n_draws):
        drawn = numbers(replay.sample(3, [rng]), 0)
        assert len(set(drawn)) == 3
        counts[drawn] += 1
    assert not counts[8:].any()
    expected = n_draws * 3 / 8
    spread = np.sqrt(n_draws * (3 / 8) * (5 / 8))
    assert (np.abs(counts[:8] - expected) < 4 * spread).all()


def test_each_run_draws_by_its_own_generator() -> None:
    stacked, alone = make(3, 20), make(1, 20)
    batch = numbered(3, 0, 20)
    stacked.add(batch)
    alone.add(batch.runs([1]))
    together = stacked.sample(5, [np.random.default_rng(seed) for seed in (5, 6, 7)])
    by_itself = alone.sample(5, [np.random.default_rng(6)])
    for f in fields(EpisodeBatch):
        assert torch.equal(getattr(together, f.name)[1], getattr(by_itself, f.name)[0])
    assert len({tuple(numbers(together, r)) for r in range(3)}) == 3


def test_small_rings_are_drawn_whole() -> None:
    """On-policy: 4 newest episodes are a batch, though 32 were asked for."""
    replay = make(1, 4)
    assert not replay.can_sample(32)
    replay.add(numbered(1, 0, 3))
    assert not replay.can_sample(32) and replay.can_sample(3)
    with pytest.raises(ValueError, match="batch of 4 episodes cannot be drawn from 3"):
        replay.sample(32, [np.random.default_rng(0)])
    replay.add(numbered(1, 3, 3))
    assert replay.can_sample(32)
    assert sorted(numbers(replay.sample(32, [np.random.default_rng(0)]), 0)) == [2, 3, 4, 5]


def test_too_many_episodes_at_once() -> None:
    with pytest.raises(ValueError, match="5 episodes at once do not fit a replay of 4"):
        make(1, 4).add(numbered(1, 0, 5))


def test_stored_episodes_are_copies() -> None:
    """The collector uses its memory again."""
    replay, batch = make(1, 4), numbered(1, 0, 4)
    replay.add(batch)
    batch.rewards.fill_(-1.0)
    batch.obs.fill_(-1.0)
    drawn = replay.sample(4, [np.random.default_rng(0)])
    assert sorted(numbers(drawn, 0)) == [0, 1, 2, 3] and not (drawn.obs == -1.0).any()


def test_selected_runs_keep_their_episodes() -> None:
    """In the memory that there is: they are moved, not copied."""
    replay = make(3, 6)
    replay.add(numbered(3, 0, 4))
    place = replay.storage.obs.data_ptr()
    replay.select(torch.tensor([0, 2]))
    assert replay.storage.obs.data_ptr() == place and len(replay.storage.obs) == 2
    replay.add(numbered(3, 4, 4).runs([0, 2]))
    drawn = replay.sample(6, [np.random.default_rng(0), np.random.default_rng(1)])
    for row, run in enumerate([0, 2]):
        shifted = drawn.rewards[row, :, 0, 0] - run / 10
        assert sorted(shifted.round().int().tolist()) == [2, 3, 4, 5, 6, 7]
        torch.testing.assert_close(shifted, shifted.round(), rtol=0, atol=1e-5)


def test_many_batches_are_drawn_as_one_after_the_other() -> None:
    replay = make(2, 9)
    replay.add(numbered(2, 0, 9))
    many = replay.sample_many(3, 4, [np.random.default_rng(r) for r in range(2)])
    rngs = [np.random.default_rng(r) for r in range(2)]
    for k in range(3):
        single = replay.sample(4, rngs)
        for f in fields(EpisodeBatch):
            assert torch.equal(getattr(many.batch(k), f.name), getattr(single, f.name))
    assert [numbers(many.batch(k), 0) for k in range(3)] != [numbers(many.batch(0), 0)] * 3


def test_probabilities_are_kept_only_where_they_are_needed() -> None:
    """And the memory is the smaller for it: 4 bytes for each agent and time."""
    with_them, without = (
        EpisodeReplay(2, 5, episode_limit=T, **SHAPE, device=CPU, keep_behaviour=keep) for keep in (True, False)
    )
    assert with_them.nbytes - without.nbytes == 2 * 5 * (T + 1) * SHAPE["n_agents"] * 4
    assert without.nbytes == EpisodeReplay.estimate_bytes(2, 5, episode_limit=T, **SHAPE, keep_behaviour=False)
    for k in range(3):  # over the ring's edge
        for replay in (with_them, without):
            replay.add(numbered(2, 3 * k, 3))
    full, short = (r.sample(4, [np.random.default_rng(s) for s in range(2)]) for r in (with_them, without))
    assert short.behaviour.shape[-1] == 0 and full.behaviour.shape == full.actions.shape
    for f in fields(EpisodeBatch):
        assert f.name == "behaviour" or torch.equal(getattr(full, f.name), getattr(short, f.name))
