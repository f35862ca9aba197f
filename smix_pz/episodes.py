"""EpisodeBatch: the one object that crosses layers, and the keys by which equal histories are recognised.

Shapes: ``R`` runs, ``B`` episodes, ``T`` transitions, ``N`` agents, ``A`` actions, ``O`` observation, ``S`` state.
Observations exist at ``T+1`` times, transitions at ``T``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class EpisodeBatch:
    """Whole episodes of every run, padded at the end to ``T`` transitions.

    Attributes:
        obs: [R, B, T+1, N, O] float32, images of uint8 as uint8. Agent id and last action are added by the agent
            network, not stored.
        state: [R, B, T+1, S] float32; S is 0 where nothing reads it (IQL, VDN).
        avail_actions: [R, B, T+1, N, A] bool; an absent agent has exactly one legal placeholder.
        actions: [R, B, T+1, N] integer; the one at an episode's last observation is chosen, not executed:
            a truncated episode bootstraps from it.
        behaviour: [R, B, T+1, N] float32, the probability with which each agent's behaviour chose its action, for
            estimators that weigh actions (:mod:`smix_pz.algorithms.returns`); 1 where it had no choice.
        rewards: [R, B, T, 1] float32; [R, B, T, N] where agents are paid each their own.
        terminated: [R, B, T, 1] bool. Truncation is a last filled step without ``terminated``.
        filled: [R, B, T, 1] bool.
        history: [R, B, T+1] int64, see :func:`history_keys`.
    """

    obs: Tensor
    state: Tensor
    avail_actions: Tensor
    actions: Tensor
    behaviour: Tensor
    rewards: Tensor
    terminated: Tensor
    filled: Tensor
    history: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> EpisodeBatch:
        """The batch with ``function`` applied to every field."""
        return EpisodeBatch(**{field.name: function(getattr(self, field.name)) for field in fields(self)})

    def runs(self, index: Tensor | list[int] | slice) -> EpisodeBatch:
        """The chosen runs, still with a leading run axis."""
        return self.map(lambda field: field[index])

    def batch(self, index: int) -> EpisodeBatch:
        """One of several batches that are stacked in front of the run axis."""
        return self.map(lambda field: field[index])

    @property
    def n_steps(self) -> int:
        """T, the number of transitions that every episode is padded to."""
        return self.rewards.shape[2]

    def needed(self) -> Tensor:
        """[R, B, T+1] bool: the times whose values a return can ask for.

        These are the filled ones and, after a truncation, the final observation. What follows a
        termination is never looked at, so nothing that padding holds can reach a target.
        """
        filled, terminated = self.filled[..., 0], self.terminated[..., 0]
        needed = torch.zeros(self.history.shape, dtype=torch.bool, device=filled.device)
        needed[..., :-1] = filled
        needed[..., 1:] |= filled & ~terminated
        return needed


def history_keys(obs: Tensor, state: Tensor, avail_actions: Tensor, actions: Tensor) -> Tensor:
    """64-bit keys of what the networks have seen up to each time: [..., T+1] int64.

    Two times have equal keys when everything up to them is equal: every agent's observations and masks, the
    state, and the joint actions before. The action taken *at* a time is not in its key. (Keys are hashes: two
    unlike histories share one with probability 2^-64, about 3e-17 for a batch of 32 episodes.)

    Args:
        obs: [..., T+1, N, O] float32 or uint8; state: [..., T+1, S] float32; avail_actions: [..., T+1, N, A] bool;
        actions: [..., T+1, N] integer.
    """
    lead = state.shape[:-1]
    n_times = lead[-1]
    n = math.prod(lead)  # not -1: a state can be empty
    fields = [_words(field.reshape(n, *field.shape[len(lead) :])) for field in (obs, state, avail_actions)]
    odd = _odd_numbers(sum(words.shape[1] for words in fields), 1, obs.device)
    factors = odd.split([words.shape[1] for words in fields])
    content = sum(_weighted(*pair) for pair in zip(fields, factors, strict=True)).view(lead)  # type: ignore[union-attr]
    events = _mix(torch.stack((content, _joint_action_code(actions))))
    # Every time has its own multiplier, so that a sum over the past tells orders apart.
    events *= _odd_numbers(2 * n_times, 3, state.device).view(2, *(1,) * (len(lead) - 1), n_times)
    past = events.cumsum(-1)
    keys = past[0]
    keys[..., 1:] += past[1, ..., :-1]
    return _mix(keys)


_AT_ONCE = 2**23  # products of the weighted sum below: 64 MiB


def _words(field: Tensor) -> Tensor:
    """The bits of [L, ...] float32, uint8 or bool as int32 [L, X]; four bytes make a word, and every flag one."""
    flat = field.flatten(1).contiguous()
    if flat.dtype == torch.uint8:
        return torch.nn.functional.pad(flat, (0, -flat.shape[1] % 4)).view(torch.int32)
    return flat.view(torch.int32) if flat.dtype == torch.float32 else flat.to(torch.int32)


def _weighted(words: Tensor, factors: Tensor) -> Tensor:
    """words [L, X] int32, factors [X] int64 -> their weighted sums [L] int64, in pieces where images make it long."""
    pieces = words.split(max(1, _AT_ONCE // max(1, words.shape[1])))
    return torch.cat([(piece * factors).sum(-1) for piece in pieces])


def action_keys(history: Tensor, actions: Tensor) -> Tensor:
    """Keys of (history, joint action taken there): history [...], actions [..., N] -> [...] int64."""
    return _mix(history * _P1 + _mix(_joint_action_code(actions)))


def _joint_action_code(actions: Tensor) -> Tensor:
    """actions [..., N] -> [...] int64."""
    return ((actions.long() + 1) * _odd_numbers(actions.shape[-1], 2, actions.device)).sum(-1)


# Odd 64-bit multipliers (the fractional parts of the golden ratio and of sqrt(2), as signed integers).
_P1 = -7046029254386353131
_P2 = 7640891576956012809 | 1
_TABLES: dict[tuple[int, int, str], Tensor] = {}


def _odd_numbers(n: int, salt: int, device: torch.device) -> Tensor:
    """n fixed odd multipliers; the same on every machine, since records of equal runs should compare equal."""
    key = (n, salt, str(device))
    if key not in _TABLES:
        index = torch.arange(1, n + 1, dtype=torch.int64, device=device) + (salt << 32)
        _TABLES[key] = _mix(_mix(index * _P1) + _P2) | 1
    return _TABLES[key]


def _mix(x: Tensor) -> Tensor:
    """A finaliser: spreads every input bit over the whole word (multiplication wraps modulo 2^64)."""
    x = (x ^ ((x >> 29) & 0x7FFFFFFFF)) * _P2
    x = (x ^ ((x >> 32) & 0xFFFFFFFF)) * _P1
    return x ^ ((x >> 31) & 0x1FFFFFFFF)
