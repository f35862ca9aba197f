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
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from smix_pz.algorithms.encoders import Encoder, FlatEncoder, ImageEncoder, choose_image
from smix_pz.algorithms.histories import Distinct, HistoryTree, rows
from smix_pz.algorithms.networks import Parameter, Params, linear, linear_parameters
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
        self, params: Params, both: Params, x: Tensor, target_x: Tensor, tree: HistoryTree
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

    def unroll(self, params: Params, both: Params, obs: Tensor, last_actions: Tensor, tree: HistoryTree) -> Unrolled:
        """Values of every history of a tree, by the online and the target network in one pass.

        Args:
            params: the online parameters, which take gradient.
            both: views of the online and the target parameters, with a leading 2R.
            obs: [R, M, N, O] at the nodes; last_actions: [R, M, N].
        """
        params, both = self._fold_params(params), self._fold_params(both)
        x = target_x = self._read(params, obs, last_actions)
        if self.encoder.parameters():
            with torch.no_grad():
                target_x = self._read(_target(both), obs, last_actions)
        return Unrolled(*(self._unfold(y, obs.shape) for y in self._unroll(params, both, x, target_x, tree)))

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
        gates, new = _gates(linear(params, "agent.gru_x", x), linear(params, "agent.gru_h", hidden))
        hidden = torch.addcmul(new, gates[..., self.hidden_dim :], hidden - new)
        return linear(params, "agent.fc_out", hidden), hidden

    def _unroll(
        self, params: Params, both: Params, x: Tensor, target_x: Tensor, tree: HistoryTree
    ) -> tuple[Tensor, ...]:
        per_node = self.n_agents if self.parameter_sharing else 1
        parents = tree.parents
        if not self.parameter_sharing:
            parents = tuple(p.repeat_interleave(self.n_agents, dim=0) for p in parents)
        outputs: tuple[Tensor, ...] = _UnrollTree.apply(
            x, target_x, {name: p.detach() for name, p in both.items()}, tree.nodes.bounds, parents, per_node,
            *(params[name] for name in _GRU_PARAMETERS),
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
        self, params: Params, both: Params, x: Tensor, target_x: Tensor, tree: HistoryTree
    ) -> tuple[Tensor, ...]:
        with torch.no_grad():
            of_target = self._layers(_target(both), target_x)
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


_GRU_PARAMETERS = tuple(GRUAgent(1, 1, 1).core_parameters())


def _target(both: Params) -> Params:
    """The second half of the stack."""
    return {name: p[p.shape[0] // 2 :] for name, p in both.items()}


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


def _gates(gates_x: Tensor, gates_h: Tensor) -> tuple[Tensor, Tensor]:
    """The gates of a GRU (Cho et al. 2014, in PyTorch's form), from [.., 3H] in the order reset, update, new.

    Returns (reset and update gates [.., 2H], new gate [.., H]).
    """
    n = gates_x.shape[-1] // 3
    gates = torch.add(gates_x[..., : 2 * n], gates_h[..., : 2 * n]).sigmoid_()
    new = torch.addcmul(gates_x[..., 2 * n :], gates[..., :n], gates_h[..., 2 * n :]).tanh_()
    return gates, new


class _UnrollTree(torch.autograd.Function):
    """The GRU's network along the paths of a tree, with its gradient written out.

    Written out because this is the hot loop on small networks: autograd's own graph of it records several times as
    many operations, and the target network would need a second pass. The tests compare values and gradients with
    torch.nn.GRU and torch.nn.Linear.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        target_inputs: Tensor,
        both: Params,
        bounds: tuple[int, ...],
        parents: tuple[Tensor, ...],
        per_node: int,
        *online: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """inputs, target_inputs [G, L, I], L = M * per_node -> (q [G, L, A], hidden [G, L, H]) of each."""
        stack, n_rows, _ = inputs.shape
        n_nodes, n = n_rows // per_node, both["agent.gru_h.weight"].shape[1]
        hidden = inputs.new_empty(2 * stack, n_rows, n)
        # What the gradient needs, online rows only: of each block the layer below, of each time the gates.
        below: list[Tensor] = []
        kept: list[tuple[Tensor, ...]] = []
        blocks = _blocks([bound * per_node for bound in bounds], 2 * stack * n)
        offset = torch.arange(2 * stack, device=inputs.device)[:, None] * n_nodes
        flat_parents = [p.repeat(2, 1).add_(offset).flatten() for p in parents]
        by_node = hidden.view(2 * stack * n_nodes, per_node * n)
        bias = both["agent.gru_h.bias"]
        for block in blocks:
            seen = torch.cat((inputs[:, block.rows], target_inputs[:, block.rows]))
            x = linear(both, "agent.fc_in", seen).relu_()
            below.append(x[:stack])
            for t, gates_x in zip(block.times, linear(both, "agent.gru_x", x).split(block.lengths, 1), strict=True):
                length = gates_x.shape[1]
                if t == 0:
                    before = hidden.new_zeros(2 * stack, length, n)
                    gates_h = bias.expand(-1, length, -1)
                else:
                    before = by_node.index_select(0, flat_parents[t - 1]).view(2 * stack, length, n)
                    gates_h = torch.baddbmm(bias, before, both["agent.gru_h.weight"])
                gates, new = _gates(gates_x, gates_h)
                after = hidden[:, bounds[t] * per_node : bounds[t + 1] * per_node]
                torch.addcmul(new, gates[..., n:], before - new, out=after)
                kept.append((before[:stack], gates[:stack], new[:stack], gates_h[:stack, :, 2 * n :]))
        q = linear(both, "agent.fc_out", hidden)
        ctx.below, ctx.kept, ctx.blocks, ctx.per_node = below, kept, blocks, per_node
        ctx.flat_parents = [p[: len(p) // 2] for p in flat_parents]
        ctx.save_for_backward(inputs, hidden[:stack], *online)
        ctx.set_materialize_grads(False)
        outputs = q[:stack], hidden[:stack].clone(), q[stack:], hidden[stack:]
        ctx.mark_non_differentiable(*outputs[2:])
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of the online inputs, if they are asked for, and parameters, in the order of _GRU_PARAMETERS."""
        inputs, hidden, *online = ctx.saved_tensors
        params = dict(zip(_GRU_PARAMETERS, online, strict=True))
        d_q, d_outside = grads[0], grads[1]
        n = hidden.shape[-1]
        d_hidden = torch.zeros_like(hidden) if d_q is None else _times_transposed(d_q, params["agent.fc_out.weight"])
        if d_outside is not None:
            d_hidden += d_outside
        by_node = d_hidden.view(-1, ctx.per_node * n)
        weight_t = params["agent.gru_h.weight"].transpose(1, 2)
        d_inputs = torch.empty_like(inputs) if ctx.needs_input_grad[0] else None
        layers = {name: _LayerGradient(params, name) for name in ("agent.fc_in", "agent.gru_x", "agent.gru_h")}
        for block, x in reversed(list(zip(ctx.blocks, ctx.below, strict=True))):
            kept = ctx.kept[block.times.start : block.times.stop]
            before, gates, new, gates_h_new = (torch.cat(p, 1) if len(p) > 1 else p[0] for p in zip(*kept, strict=True))
            reset, update = gates[..., :n], gates[..., n:]
            # d_gates = d_hidden * factor, for each gate; the factors are known for all times of a block at once.
            factors = before.new_empty(*before.shape[:2], 3, n)
            to_new = _one_minus_square(new).mul_(1.0 - update)
            torch.mul(to_new, reset, out=factors[:, :, 2])
            of_reset = factors[:, :, 2] * gates_h_new
            torch.addcmul(of_reset, of_reset, reset, value=-1.0, out=factors[:, :, 0])
            of_update = torch.sub(before, new).mul_(update)
            torch.addcmul(of_update, of_update, update, value=-1.0, out=factors[:, :, 1])
            d_after = d_hidden[:, block.rows]
            d_gates_h = factors  # in its place
            spans = zip(*(z.split(block.lengths, 1) for z in (d_after, d_gates_h, update)), strict=True)
            for t, (d_h, d_gates, z) in reversed(list(zip(block.times, spans, strict=True))):
                d_gates.mul_(d_h[:, :, None])
                if t > 0:
                    d_before = torch.bmm(d_gates.flatten(2), weight_t).addcmul_(d_h, z)
                    by_node.index_add_(0, ctx.flat_parents[t - 1], d_before.view(-1, ctx.per_node * n))
            layers["agent.gru_h"].add(before, d_gates_h.flatten(2))
            # Above the recurrence the gradients are the same, but for the new gate, which the reset gate damps there.
            d_gates_x = d_gates_h  # in its place, now that the other is done with
            torch.mul(to_new, d_after, out=d_gates_x[:, :, 2])
            layers["agent.gru_x"].add(x, d_gates_x.flatten(2))
            d_x = _times_transposed(d_gates_x.flatten(2), params["agent.gru_x.weight"]).mul_(x > 0)
            layers["agent.fc_in"].add(inputs[:, block.rows], d_x)
            if d_inputs is not None:
                d_inputs[:, block.rows] = _times_transposed(d_x, params["agent.fc_in.weight"])
        d_out: tuple[Tensor | None, Tensor | None] = (None, None)
        if d_q is not None:
            out = _LayerGradient(params, "agent.fc_out")
            out.add(hidden, d_q)
            d_out = out.found
        return d_inputs, None, None, None, None, None, *(g for layer in layers.values() for g in layer.found), *d_out


@dataclass(frozen=True)
class _Block:
    """Consecutive times of a tree that are computed together: ``rows`` of the [L] axis, ``lengths`` of each time."""

    times: range
    rows: slice
    lengths: list[int]


# Numbers in one plane of a block: with the few planes that a step touches it should stay in a core's own cache. Blocks
# are as large as that allows, since starting operations is most of the time where a batch is small.
_BLOCK_NUMBERS = 1 << 15


def _blocks(bounds: list[int], width: int) -> list[_Block]:
    """Cut the times between the bounds into blocks of at most _BLOCK_NUMBERS numbers, ``width`` in each row."""
    blocks, start = [], 0
    for end in range(1, len(bounds)):
        last = end == len(bounds) - 1
        if last or (bounds[end + 1] - bounds[start]) * width > _BLOCK_NUMBERS:
            lengths = [after - before for before, after in pairwise(bounds[start : end + 1])]
            blocks.append(_Block(range(start, end), slice(bounds[start], bounds[end]), lengths))
            start = end
    return blocks


class _LayerGradient:
    """Gradients of weight and bias of y = x W + b, summed over blocks of rows."""

    def __init__(self, params: Params, name: str) -> None:
        self.found = (torch.zeros_like(params[f"{name}.weight"]), torch.zeros_like(params[f"{name}.bias"]))

    def add(self, x: Tensor, d: Tensor) -> None:
        """x [G, rows, in], d = dy [G, rows, out]."""
        weight, bias = self.found
        weight.baddbmm_(x.transpose(1, 2), d)
        # A product with ones: faster than a sum over rows.
        bias.baddbmm_(x.new_ones(1, 1, 1).expand(x.shape[0], 1, x.shape[1]), d)


def _one_minus_square(x: Tensor) -> Tensor:
    return torch.mul(x, x).neg_().add_(1.0)


def _times_transposed(d: Tensor, weight: Tensor) -> Tensor:
    return torch.bmm(d, weight.transpose(1, 2))
