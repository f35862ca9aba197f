"""Mixers: from the agents' values to the team's value Q_tot (SMIX paper, equations 1 and 5).

To add one: a frozen dataclass with ``parameters()`` and ``__call__``, and a row in ``MIXERS``.

Shapes: ``R`` runs, ``M`` rows (history or (history, action) pairs), ``N`` agents, ``S`` state, ``E`` embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.functional import elu

from smix_pz.algorithms.networks import Parameter, Params, linear, linear_parameters


class Mixer(Protocol):
    """What the value learner asks of a mixer."""

    is_linear: ClassVar[bool]
    """Whether its expectation over independent agents is the mixer of their expectations."""

    def parameters(self) -> dict[str, Parameter]:
        """What one run's mixer learns."""

    def __call__(self, params: Params, agent_qs: Tensor, state: Tensor) -> Tensor:
        """agent_qs [R, M, N], state [R, M, S] -> [R, M, 1], or [R, M, N] where every agent keeps its own value."""


@dataclass(frozen=True)
class NoMixer:
    """IQL: every agent learns its own value of the team reward."""

    is_linear: ClassVar[bool] = True
    n_agents: int
    state_dim: int

    def parameters(self) -> dict[str, Parameter]:
        """None."""
        return {}

    def __call__(self, params: Params, agent_qs: Tensor, state: Tensor) -> Tensor:
        """agent_qs [R, M, N] -> [R, M, N], unchanged."""
        return agent_qs


@dataclass(frozen=True)
class SumMixer:
    """VDN: Q_tot is the sum of the agents' values (equation 5 with every alpha = 1)."""

    is_linear: ClassVar[bool] = True
    n_agents: int
    state_dim: int

    def parameters(self) -> dict[str, Parameter]:
        """None."""
        return {}

    def __call__(self, params: Params, agent_qs: Tensor, state: Tensor) -> Tensor:
        """agent_qs [R, M, N] -> [R, M, 1]."""
        return agent_qs.sum(-1, keepdim=True)


@dataclass(frozen=True)
class MonotonicMixer:
    """QMIX: a two-layer network of the agents' values whose weights hypernetworks make from the state.

    The weights' absolute value makes dQ_tot/dQ_i >= 0 (assumption 1). ``monotonic=False`` leaves it out: the
    paper's ``noabs`` ablation, for which theorems 1 and 2 do not hold.

    Attributes:
        embed_dim: width of the mixing network's hidden layer.
        hypernet_layers: 1 as in the authors' code, or 2 as in newer QMIX (ReLU, ``hypernet_dim`` wide).
    """

    is_linear: ClassVar[bool] = False
    n_agents: int
    state_dim: int
    embed_dim: int = 32
    hypernet_layers: int = 1
    hypernet_dim: int = 64
    monotonic: bool = True

    def __post_init__(self) -> None:
        if self.hypernet_layers not in (1, 2):
            raise ValueError(f"hypernet_layers is {self.hypernet_layers}; it should be 1 or 2")

    def parameters(self) -> dict[str, Parameter]:
        """One fused layer for everything that is linear in the state, then what follows it."""
        spec = linear_parameters("mixer.hypernet", self.state_dim, sum(self._widths))
        if self.hypernet_layers == 2:
            spec |= linear_parameters("mixer.w1", self.hypernet_dim, self.n_agents * self.embed_dim)
            spec |= linear_parameters("mixer.w2", self.hypernet_dim, self.embed_dim)
        return spec | linear_parameters("mixer.v", self.embed_dim, 1)

    def __call__(self, params: Params, agent_qs: Tensor, state: Tensor) -> Tensor:
        """agent_qs [R, M, N], state [R, M, S] -> q_tot [R, M, 1]."""
        assert agent_qs.dim() == 3 and state.dim() == 3 and agent_qs.shape[-1] == self.n_agents
        w1, w2, b1, v_hidden = linear(params, "mixer.hypernet", state).split(self._widths, dim=-1)
        if self.hypernet_layers == 2:
            w1 = linear(params, "mixer.w1", torch.relu(w1))
            w2 = linear(params, "mixer.w2", torch.relu(w2))
        if self.monotonic:
            w1, w2 = w1.abs(), w2.abs()
        w1 = w1.unflatten(-1, (self.n_agents, self.embed_dim))
        hidden = elu((agent_qs[..., None] * w1).sum(-2) + b1)
        v = linear(params, "mixer.v", torch.relu(v_hidden))
        return (hidden * w2).sum(-1, keepdim=True) + v

    @property
    def _widths(self) -> list[int]:
        e = self.embed_dim
        first = [self.n_agents * e, e] if self.hypernet_layers == 1 else [self.hypernet_dim] * 2
        return [*first, e, e]


MixerFactory = Callable[[int, int, int, int], Mixer]

# name -> (n_agents, state_dim, embed_dim, hypernet_layers) -> mixer
MIXERS: dict[str, MixerFactory] = {
    "none": lambda n, s, e, k: NoMixer(n, s),
    "sum": lambda n, s, e, k: SumMixer(n, s),
    "monotonic": lambda n, s, e, k: MonotonicMixer(n, s, e, k),
    "unconstrained": lambda n, s, e, k: MonotonicMixer(n, s, e, k, monotonic=False),
}
