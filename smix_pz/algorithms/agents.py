"""The agents' networks, for acting and for learning: with a memory (the paper's), or without.

* ``gru``: fc, ReLU, GRU, fc (SMIX paper, section VI-B).
* ``ff``: fc, ReLU, fc, ReLU, fc. It sees the newest observation and the last action alone, so what it learns is a
  function of these; its second layer takes the GRU's place wherever something reads hidden states (QTRAN).

The input is the agent's observation (behind an encoder, if it is an image), its last action (one-hot, zeros at the
start) and its identity (one-hot). Acting advances one step; learning unrolls a whole tree of histories. Both use the
same parameters and the same layers.

To add a network: a subclass of ``Agent`` with its core's three functions, a row in ``AGENTS``, and its layers in
``deploy``.

Shapes: ``R`` runs, ``M`` histories, ``N`` agents, ``A`` actions, ``O`` observation, ``F`` features, ``H`` hidden.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from smix_pz.algorithms.encoders import Encoder, FlatEncoder, ImageEncoder, choose_image
from smix_pz.algorithms.histories import Distinct, HistoryTree, rows
from smix_pz.algorithms.networks import Parameter, Params, linear, linear_parameters
from smix_pz.algorithms.unroll import GRU_PARAMETERS, UnrollTree, gru_gates
from smix_pz.algorithms.unroll_cpu import UnrollTreeCPU
from smix_pz.config import Hyperparameters
from smix_pz.images import Image
from smix_pz.names import check_name


@dataclass(frozen=True)
class Unrolled:
    """Values at every history: agent_qs [R, M, N, A] and hidden [R, M, N, H] of the online network, with gradient,
    and the same of the target network, without."""

    agent_qs: Tensor
    hidden: Tensor
    target_qs: Tensor
    target_hidden: Tensor


@dataclass(frozen=True)
class Agent(ABC):
    """Description of the agents' network of one run.

    Attributes:
        parameter_sharing: one network for all agents (the paper's choice), or one for each.
        obs_image: shape of the observations, three numbers, if a CNN is to read them; None: they are read as flat rows.
        obs_scale: factor on the observations.
    """

    network: ClassVar[str]  # its name in AGENTS

    obs_dim: int
    n_agents: int
    n_actions: int
    hidden_dim: int = 64
    parameter_sharing: bool = True
    obs_image: Image | None = None
    obs_scale: float = 1.0

    @abstractmethod
    def core_parameters(self) -> dict[str, Parameter]:
        """One network's parameters behind the encoder."""

    @abstractmethod
    def _advance(self, params: Params, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """One step: x [G, L, I], hidden [G, L, H] -> (values [G, L, A], hidden [G, L, H])."""

    @abstractmethod
    def _unroll(
        self, params: Params, target_params: Params, x: Tensor, target_x: Tensor, tree: HistoryTree
    ) -> tuple[Tensor, ...]:
        """x, target_x [G, L, I] -> the four tensors of ``Unrolled``, folded: [G, L, A] or [G, L, H]."""

    @cached_property
    def encoder(self) -> Encoder:
        """What reads the observations."""
        return self.make_encoder("agent")

    def make_encoder(self, prefix: str) -> Encoder:
        """An encoder of the observations whose parameters' names begin so."""
        if self.obs_image is None:
            return FlatEncoder(self.obs_dim, self.obs_scale)
        return ImageEncoder(self.obs_image, self.obs_scale, prefix)

    @property
    def input_dim(self) -> int:
        """Features of the observation, last action and agent id."""
        return self.encoder.width + self.n_actions + self.n_agents

    def parameters(self) -> dict[str, Parameter]:
        """What one run's network learns."""
        one = {**self.encoder.parameters(), **self.core_parameters()}
        if self.parameter_sharing:
            return one
        return {name: Parameter((self.n_agents, *p.shape), p.fan_in) for name, p in one.items()}

    def initial_hidden(self, n_runs: int, n_episodes: int, device: torch.device) -> Tensor:
        """[R, B, N, H] of zeros."""
        return torch.zeros(n_runs, n_episodes, self.n_agents, self.hidden_dim, device=device)

    def inputs(self, features: Tensor, last_actions: Tensor) -> Tensor:
        """features [R, M, N, F], last_actions [R, M, N] (-1 before the first) -> [R, M, N, F + A + N]."""
        one_hot, ids = _tables(self.n_actions, self.n_agents, features.device)
        last = one_hot.index_select(0, last_actions.flatten() + 1).unflatten(0, last_actions.shape)
        return torch.cat((features, last, ids.expand(*features.shape[:2], -1, -1)), dim=-1)

    def step(self, params: Params, obs: Tensor, last_actions: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """One step of acting, without gradient.

        obs [R, B, N, O], last_actions [R, B, N] int64, hidden [R, B, N, H] -> (agent_qs [R, B, N, A], hidden).
        """
        with torch.no_grad():
            params = self._fold_params(params)
            q, h = self._advance(params, self._read(params, obs, last_actions), self._fold(hidden))
        return self._unfold(q, obs.shape), self._unfold(h, obs.shape)

    def unroll(
        self, params: Params, target_params: Params, obs: Tensor, last_actions: Tensor, tree: HistoryTree
    ) -> Unrolled:
        """Values of every history of a tree, by the online and the target network in one pass.

        Args:
            params: the online parameters, which take gradient.
            target_params: the target parameters, which do not.
            obs: [R, M, N, O] at the nodes; last_actions: [R, M, N].
        """
        params, target_params = self._fold_params(params), self._fold_params(target_params)
        x = target_x = self._read(params, obs, last_actions)
        if self.encoder.parameters():
            with torch.no_grad():
                target_x = self._read(target_params, obs, last_actions)
        return Unrolled(*(self._unfold(y, obs.shape) for y in self._unroll(params, target_params, x, target_x, tree)))

    def _read(self, params: Params, obs: Tensor, last_actions: Tensor) -> Tensor:
        """The core's folded input [G, L, I]."""
        features = self._unfold(self.encoder(params, self._fold(obs)), obs.shape)
        return self._fold(self.inputs(features, last_actions))

    # Shared parameters: all agents are rows of one product. Own parameters: (run, agent) is the stack.

    def _fold(self, x: Tensor) -> Tensor:
        if self.parameter_sharing:
            return x.flatten(1, 2)
        return x.transpose(1, 2).flatten(0, 1)

    def _unfold(self, x: Tensor, shape: torch.Size) -> Tensor:
        n_runs, n_rows, n_agents = shape[:3]
        if self.parameter_sharing:
            return x.unflatten(1, (n_rows, n_agents))
        return x.unflatten(0, (n_runs, n_agents)).transpose(1, 2)

    def _fold_params(self, params: Params) -> Params:
        if self.parameter_sharing:
            return params
        return {name: params[name].flatten(0, 1) for name in self._names}

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(self.parameters())


@dataclass(frozen=True)
class GRUAgent(Agent):
    """The paper's network: fc, ReLU, GRU, fc."""

    network: ClassVar[str] = "gru"

    def core_parameters(self) -> dict[str, Parameter]:
        """Of one network."""
        h = self.hidden_dim
        return {
            **linear_parameters("agent.fc_in", self.input_dim, h),
            "agent.gru_x.weight": Parameter((h, 3 * h), h),
            "agent.gru_x.bias": Parameter((1, 3 * h), h),
            "agent.gru_h.weight": Parameter((h, 3 * h), h),
            "agent.gru_h.bias": Parameter((1, 3 * h), h),
            **linear_parameters("agent.fc_out", h, self.n_actions),
        }

    def _advance(self, params: Params, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        x = linear(params, "agent.fc_in", x).relu_()
        gates, new = gru_gates(linear(params, "agent.gru_x", x), linear(params, "agent.gru_h", hidden))
        hidden = torch.addcmul(new, gates[..., self.hidden_dim :], hidden - new)
        return linear(params, "agent.fc_out", hidden), hidden

    def _unroll(
        self, params: Params, target_params: Params, x: Tensor, target_x: Tensor, tree: HistoryTree
    ) -> tuple[Tensor, ...]:
        per_node = self.n_agents if self.parameter_sharing else 1
        parents = tree.parents
        if not self.parameter_sharing:
            parents = parents.repeat_interleave(self.n_agents, dim=0)
        # Another way of computing, not another function.
        unroll = UnrollTreeCPU if x.device.type == "cpu" else UnrollTree
        outputs: tuple[Tensor, ...] = unroll.apply(
            x, target_x, params, target_params, tree.nodes.bounds, parents, per_node,
            *(params[name] for name in GRU_PARAMETERS),
        )  # fmt: skip
        return outputs


@dataclass(frozen=True)
class FeedForwardAgent(Agent):
    """fc, ReLU, fc, ReLU, fc: the GRU's place is taken by a layer of the same width, and there is no memory."""

    network: ClassVar[str] = "ff"

    def core_parameters(self) -> dict[str, Parameter]:
        """Of one network."""
        h = self.hidden_dim
        return {
            **linear_parameters("agent.fc_in", self.input_dim, h),
            **linear_parameters("agent.fc_hidden", h, h),
            **linear_parameters("agent.fc_out", h, self.n_actions),
        }

    def _advance(self, params: Params, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self._layers(params, x)

    def _unroll(
        self, params: Params, target_params: Params, x: Tensor, target_x: Tensor, tree: HistoryTree
    ) -> tuple[Tensor, ...]:
        with torch.no_grad():
            of_target = self._layers(target_params, target_x)
        return *self._layers(params, x), *of_target

    def _layers(self, params: Params, x: Tensor) -> tuple[Tensor, Tensor]:
        x = linear(params, "agent.fc_in", x).relu()
        x = linear(params, "agent.fc_hidden", x).relu()
        return linear(params, "agent.fc_out", x), x


AGENTS: dict[str, type[Agent]] = {agent.network: agent for agent in (GRUAgent, FeedForwardAgent)}


def make_agent(
    hyper: Hyperparameters,
    *,
    n_agents: int,
    n_actions: int,
    obs_dim: int,
    obs_image: Image | None = None,
    obs_scale: float = 1.0,
) -> Agent:
    """The agents' network that the settings name, for a team of this shape.

    obs_image: shape of the observations if all agents see images of one shape. obs_scale: factor on observations.

    Raises:
        ValueError: the settings ask for a CNN where there is nothing for it to read.
    """
    image = choose_image(hyper.image_encoder, obs_image)
    kind = AGENTS[hyper.agent_network]
    return kind(obs_dim, n_agents, n_actions, hyper.hidden_dim, hyper.parameter_sharing, image, obs_scale)


def describe_agent(agent: Agent) -> dict[str, Any]:
    """Plain values, for files."""
    return {"network": agent.network, **asdict(agent)}


def read_agent(values: Mapping[str, Any]) -> Agent:
    """What ``describe_agent`` wrote; without a name, as files had it before there was another, it is the GRU's.

    Raises:
        ValueError: an unknown network; the known are named.
    """
    rest = dict(values)
    network, image = rest.pop("network", GRUAgent.network), rest.pop("obs_image", None)
    check_name("agent network", network, AGENTS)
    return AGENTS[network](**rest, obs_image=None if image is None else tuple(image))


def node_inputs(obs: Tensor, actions: Tensor, nodes: Distinct) -> tuple[Tensor, Tensor]:
    """Observations [R, M, N, O] and last actions [R, M, N] at the nodes.

    obs [R, B, T+1, N, O], actions [R, B, T+1, N].
    """
    at = rows(obs.flatten(1, 2), nodes.first)
    # The action before (b, t) lies at (b, t-1); nodes at time 0, which come first, have none.
    last = rows(actions.flatten(1, 2), (nodes.first - 1).clamp_(min=0)).long()
    last[:, : nodes.bounds[1]] = -1
    return at, last


@lru_cache(maxsize=64)
def _tables(n_actions: int, n_agents: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """One-hot rows of actions -1 (zeros), 0, ..., A-1: [A+1, A], and of agents [N, N]."""
    one_hot = torch.cat((torch.zeros(1, n_actions), torch.eye(n_actions)))
    return one_hot.to(device), torch.eye(n_agents, device=device)
