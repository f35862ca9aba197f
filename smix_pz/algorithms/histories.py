"""A sampled batch as a tree: every distinct history is evaluated once, and nothing behind an episode's end is.

Replayed episodes share beginnings: at time 0 most of them are equal, and in a small game most stay equal. The
networks are functions of the history, so equal histories have equal values, and computing one of them is exact.
*Nodes* are the distinct joint histories at each time, *edges* the distinct (history, joint action) pairs. Where
no two histories are equal the tree is the batch itself, packed without its padding.

Shapes: ``R`` runs, ``B`` episodes, ``T+1`` times, ``M`` nodes, ``E`` edges (each padded to the largest run).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smix_pz.episodes import EpisodeBatch, action_keys

_NOT_NEEDED = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Distinct:
    """The distinct keys at each time.

    Attributes:
        index: [R, B, T+1], where in M each (episode, time) lies. Times that are not needed point to some entry.
        first: [R, M], a (episode, time) pair with that key, flattened to ``episode * (T+1) + time``; unused entries
            point to the first observation of episode 0, which always exists.
        bounds: entries of time t are ``bounds[t]`` to ``bounds[t+1]``.
        rank: [R, T+1, B], the position of each episode's key within its time.
        episode: [R, T+1, B+1], an episode with that key, for each position within a time.
        place: [M], where in the flattened ``episode`` each entry is.
    """

    index: Tensor
    first: Tensor
    bounds: tuple[int, ...]
    rank: Tensor
    episode: Tensor
    place: Tensor


@dataclass(frozen=True)
class HistoryTree:
    """Nodes, edges and how they hang together.

    Attributes:
        nodes, edges: the distinct histories and the distinct (history, joint action) pairs.
        parents: [R, M] the node at the time before; without meaning at time 0.
        edge_node: [R, E] the node that each edge leaves.
    """

    nodes: Distinct
    edges: Distinct
    parents: Tensor
    edge_node: Tensor


def build_tree(batch: EpisodeBatch) -> HistoryTree:
    """The tree of a batch, from its history keys."""
    return build_trees(batch.map(lambda field: field[None]))[0]


def build_trees(batches: EpisodeBatch) -> list[HistoryTree]:
    """The trees of several batches (fields [U, R, B, ...]), for little more than the price of one."""
    n_batches = len(batches.history)
    keys = torch.cat((batches.history, action_keys(batches.history, batches.actions)))
    found = distinct(keys, batches.needed().repeat(2, 1, 1, 1))
    return [_hang_together(*pair) for pair in zip(found[:n_batches], found[n_batches:], strict=True)]


def _hang_together(nodes: Distinct, edges: Distinct) -> HistoryTree:
    parents = torch.zeros_like(nodes.episode)
    bounds = nodes.bounds[:-1] + (nodes.bounds[-1],) * (parents.shape[1] - len(nodes.bounds) + 1)
    start = torch.tensor(bounds, device=parents.device)[:, None]
    torch.gather(nodes.rank[:, :-1], 2, nodes.episode[:, 1:], out=parents[:, 1:])
    # An unused position can name an episode that has ended; any node of the time before will do for it.
    last = (start[1:] - start[:-1] - 1).clamp_(min=0)
    parents[:, 1:] = torch.minimum(parents[:, 1:], last).add_(start[:-1])
    parents = parents.flatten(1).index_select(1, nodes.place)
    return HistoryTree(nodes, edges, parents, nodes.index.flatten(1).gather(1, edges.first))


def distinct(keys: Tensor, needed: Tensor) -> list[Distinct]:
    """Find the distinct keys among the needed ones, separately for each kind, run and time.

    keys [C, R, B, T+1] int64, needed [C, R, B, T+1] bool (or [R, B, T+1] for all kinds) -> C results.
    """
    n_kinds, n_runs, n_episodes, n_times = keys.shape
    keys = torch.where(needed, keys, _NOT_NEEDED).transpose(2, 3)
    ordered, order = keys.sort(dim=3)
    is_new = ordered != _NOT_NEEDED
    is_needed = is_new.clone()
    is_new[..., 1:] &= ordered[..., 1:] != ordered[..., :-1]
    position = is_new.cumsum(3)
    all_counts = position[..., -1].amax(1).tolist()
    # Times that are not needed go to an extra last column, so that they cannot stand for a history.
    position = torch.where(is_needed, position - 1, n_episodes)
    rank = torch.empty_like(position).scatter_(3, order, position)
    episode = position.new_full((n_kinds, n_runs, n_times, n_episodes + 1), -1).scatter_(3, position, order)
    times = torch.arange(n_times, device=keys.device)
    first = torch.where(episode >= 0, episode * n_times + times[:, None], 0)
    episode.clamp_(min=0)
    rank_or_zero = torch.where(rank == n_episodes, 0, rank)

    found = []
    first = first.flatten(2)
    in_order = np.arange(n_episodes + 1)
    for kind, counts in enumerate(all_counts):
        ends = np.cumsum(counts)
        bounds = (0, *np.unique(ends).tolist())  # none at a time means none later
        starts = np.where(counts, ends - counts, 0)  # those that are not needed point to some entry
        place = torch.from_numpy(np.flatnonzero(in_order < np.array(counts)[:, None])).to(keys.device)
        index = rank_or_zero[kind] + torch.from_numpy(starts).to(keys.device)[:, None]
        found.append(
            Distinct(
                index.transpose(1, 2), first[kind].index_select(1, place), bounds, rank[kind], episode[kind], place
            )
        )
    return found


def rows(values: Tensor, index: Tensor) -> Tensor:
    """Take rows of each run: values [R, L, ...], index [R, M] -> [R, M, ...]."""
    n_runs, length = values.shape[:2]
    offset = torch.arange(n_runs, device=index.device)[:, None] * length
    flat = values.reshape(n_runs * length, math.prod(values.shape[2:])).index_select(0, (index + offset).flatten())
    return flat.reshape(n_runs, index.shape[1], *values.shape[2:])
