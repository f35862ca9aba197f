"""History keys and the tree of distinct histories, against dictionaries of the histories themselves."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Hashable, Iterator

import numpy as np
import pytest
import torch
from oracle.batches import random_batch, spoil_padding

from smix_pz.algorithms.histories import Distinct, HistoryTree, build_tree, distinct, rows
from smix_pz.episodes import EpisodeBatch, action_keys, history_keys


def history(batch: EpisodeBatch, r: int, b: int, t: int) -> Hashable:
    """Everything that was seen up to time t and done before it, as a plain value."""
    seen = [
        (batch.obs[r, b, k], batch.state[r, b, k], batch.avail_actions[r, b, k], batch.actions[r, b, k - 1 : k])
        for k in range(t + 1)
    ]
    return tuple(tuple(part.flatten().tolist()) for parts in seen for part in parts)


def edge(batch: EpisodeBatch, r: int, b: int, t: int) -> Hashable:
    return history(batch, r, b, t), tuple(batch.actions[r, b, t].tolist())


def needed_times(batch: EpisodeBatch) -> Iterator[tuple[int, int, int]]:
    """(run, episode, time) of every filled step, and of the final observation after a truncation."""
    n_runs, n_episodes = batch.history.shape[:2]
    for r, b in itertools.product(range(n_runs), range(n_episodes)):
        length = int(batch.filled[r, b].sum())
        over = bool(batch.terminated[r, b, length - 1])
        yield from ((r, b, t) for t in range(length + (not over)))


def mixed_batch(seed: int) -> EpisodeBatch:
    """Three runs, few scenes, so that many early histories are shared; sizes vary with the seed."""
    rng = np.random.default_rng(seed)
    return random_batch(
        rng, n_runs=3, n_episodes=int(rng.integers(1, 13)), n_steps=int(rng.integers(1, 6)), n_actions=2, n_scenes=2
    )


@pytest.mark.parametrize("seed", range(15))
def test_tree_is_that_of_a_dictionary(seed: int) -> None:
    batch = mixed_batch(seed)
    tree = build_tree(batch)
    n_times = batch.history.shape[2]
    for found, name_of in ((tree.nodes, history), (tree.edges, edge)):
        groups: dict[tuple[int, int], dict[Hashable, set[int]]] = {}
        for r, b, t in needed_times(batch):
            entry = int(found.index[r, b, t])
            groups.setdefault((r, t), {}).setdefault(name_of(batch, r, b, t), set()).add(entry)
            assert found.bounds[t] <= entry < found.bounds[t + 1]
        entries = []
        for (r, t), group in groups.items():
            for name, places in group.items():
                (place,) = places  # equal histories, one entry
                first_b, first_t = divmod(int(found.first[r, place]), n_times)
                assert first_t == t and name_of(batch, r, first_b, t) == name  # first names that history
                entries.append((r, place))
        assert len(set(entries)) == len(entries)  # unlike histories, unlike entries
        # No entry that no run uses: the largest run fills each time.
        sizes = [max(len(groups.get((r, t), {})) for r in range(3)) for t in range(n_times)]
        assert found.bounds == tuple(itertools.accumulate([s for s in sizes if s], initial=0))
        assert found.first.shape[1] == found.bounds[-1]
    check_links(batch, tree)


def check_links(batch: EpisodeBatch, tree: HistoryTree) -> None:
    """A node's parent is the node of the same episode one step before; an edge leaves the node of its own time."""
    for r, b, t in needed_times(batch):
        node = int(tree.nodes.index[r, b, t])
        assert tree.edge_node[r, tree.edges.index[r, b, t]] == node
        if t > 0:
            assert tree.parents[r, node] == tree.nodes.index[r, b, t - 1]
    for before, start, end in zip(*(tree.nodes.bounds[k:] for k in range(3)), strict=False):
        parents = tree.parents[:, start:end]  # those of entries that a run does not use, too
        assert ((parents >= before) & (parents < start)).all()


@pytest.mark.parametrize("seed", range(6))
def test_keys_are_equal_where_histories_are(seed: int) -> None:
    """Over every pair of times of a small batch, padding included."""
    rng = np.random.default_rng(seed)
    batch = random_batch(rng, n_runs=2, n_episodes=6, n_steps=3, n_actions=2, n_scenes=2)
    everywhere = list(itertools.product(range(2), range(6), range(4)))
    keys = action_keys(batch.history, batch.actions)
    shared = 0
    for one, other in itertools.combinations(everywhere, 2):
        equal = history(batch, *one) == history(batch, *other)
        assert bool(batch.history[one] == batch.history[other]) == equal
        shared += equal
        assert bool(keys[one] == keys[other]) == (edge(batch, *one) == edge(batch, *other))
    assert shared > 20


@pytest.mark.parametrize("field", ["obs", "state", "avail_actions", "actions"])
def test_a_key_knows_what_came_before_and_not_what_comes_after(field: str) -> None:
    """A change at time t changes keys from t on; an action's from t+1 on."""
    batch = random_batch(np.random.default_rng(0), n_episodes=4)
    shapes = [batch.obs, batch.state, batch.avail_actions, batch.actions]
    for t in range(batch.n_steps + 1):
        for agent in range(2) if field != "state" else [0]:
            changed = [x.clone() for x in shapes]
            target = changed[["obs", "state", "avail_actions", "actions"].index(field)]
            entry = target[:, :, t, agent] if field in ("state", "actions") else target[:, :, t, agent, 0]
            entry.copy_(~entry if field == "avail_actions" else (entry + 1) % 3 if field == "actions" else entry + 1e-3)
            differs = history_keys(*changed) != batch.history
            first = t + (field == "actions")
            assert differs[:, :, first:].all() and not differs[:, :, :first].any()


def test_keys_know_the_order_of_agents_and_of_times() -> None:
    """Swapped agents, swapped steps and swapped actions are other histories."""
    batch = random_batch(np.random.default_rng(1), n_scenes=50, masked=False)
    actions = torch.zeros_like(batch.actions)
    actions[..., 0, 0] = 1  # at time 0 agent 0 plays 1

    def keys(obs: torch.Tensor = batch.obs, actions: torch.Tensor = actions) -> torch.Tensor:
        return history_keys(obs, batch.state, batch.avail_actions, actions)[..., -1]

    assert (keys() != keys(obs=batch.obs.flip(-2))).all()
    swapped_times = batch.obs[:, :, [1, 0, *range(2, batch.n_steps + 1)]]
    assert (keys() != keys(obs=swapped_times)).all()
    assert (keys() != keys(actions=actions.flip(-1))).all()
    assert (keys() != keys(actions=actions.roll(1, dims=2))).all()


def test_padding_changes_nothing() -> None:
    for seed in range(5):
        batch = mixed_batch(seed)
        spoilt = spoil_padding(batch, math.nan, seed)
        clean_tree, tree = build_tree(batch), build_tree(spoilt)
        for one, other in ((clean_tree.nodes, tree.nodes), (clean_tree.edges, tree.edges)):
            assert one.bounds == other.bounds
            torch.testing.assert_close(one.first, other.first)
        torch.testing.assert_close(clean_tree.edge_node, tree.edge_node)
        torch.testing.assert_close(clean_tree.parents, tree.parents)
        check_links(batch, tree)


def test_needed_times() -> None:
    """Filled ones, and the final observation of a truncated episode."""
    batch = random_batch(np.random.default_rng(2), n_runs=2, n_episodes=20)
    expected = torch.zeros_like(batch.history, dtype=torch.bool)
    for place in needed_times(batch):
        expected[place] = True
    torch.testing.assert_close(batch.needed(), expected)


def test_distinct_on_a_case_by_hand() -> None:
    """Keys 7 7 9 at time 0; at time 1 the middle episode is over, and the others differ."""
    keys = torch.tensor([[[[7, -5], [7, 3], [9, 3]]]])
    needed = torch.tensor([[[True, True], [True, False], [True, True]]])
    (found,) = distinct(keys, needed)
    assert isinstance(found, Distinct) and found.bounds == (0, 2, 4)
    index = found.index[0]
    assert index[0, 0] == index[1, 0] != index[2, 0]
    assert {int(index[0, 0]), int(index[2, 0])} == {0, 1} and {int(index[0, 1]), int(index[2, 1])} == {2, 3}
    flat_keys = keys.flatten().tolist()
    assert [flat_keys[i] for i in found.first[0].tolist()] == [7, 9, -5, 3]


def test_tree_without_repeats_is_the_batch_packed() -> None:
    batch = random_batch(np.random.default_rng(3), n_scenes=10**4)
    tree = build_tree(batch)
    n_needed = sum(1 for _ in needed_times(batch))
    assert tree.nodes.bounds[-1] == tree.edges.bounds[-1] == n_needed
    longest = dataclasses.replace(batch, filled=torch.ones_like(batch.filled))
    assert build_tree(longest).nodes.bounds[-1] > n_needed


def test_rows_takes_each_runs_own() -> None:
    values, index = torch.arange(24.0).reshape(2, 4, 3), torch.tensor([[3, 0], [1, 1]])
    expected = torch.stack([values[r, index[r]] for r in range(2)])
    torch.testing.assert_close(rows(values, index), expected)
