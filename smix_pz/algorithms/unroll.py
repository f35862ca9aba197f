"""The GRU's network along the paths of a tree of histories, with its gradient written out, in PyTorch's operations.

This form runs on any device; :mod:`smix_pz.algorithms.unroll_cpu` is the same for a CPU.

Shapes: ``G`` networks (runs, or runs x agents), ``M`` nodes, ``L`` rows (``M`` x agents of a node), ``H`` hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from smix_pz.algorithms.networks import Params, linear

# What the unroll reads, in the order in which its gradient is given.
GRU_PARAMETERS = tuple(
    f"agent.{layer}.{part}" for layer in ("fc_in", "gru_x", "gru_h", "fc_out") for part in ("weight", "bias")
)


def gru_gates(gates_x: Tensor, gates_h: Tensor) -> tuple[Tensor, Tensor]:
    """The gates of a GRU (Cho et al. 2014, in PyTorch's form), from [.., 3H] in the order reset, update, new.

    Returns (reset and update gates [.., 2H], new gate [.., H]).
    """
    n = gates_x.shape[-1] // 3
    gates = torch.add(gates_x[..., : 2 * n], gates_h[..., : 2 * n]).sigmoid_()
    new = torch.addcmul(gates_x[..., 2 * n :], gates[..., :n], gates_h[..., 2 * n :]).tanh_()
    return gates, new


class UnrollTree(torch.autograd.Function):
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
        params: Params,
        target_params: Params,
        bounds: tuple[int, ...],
        parents: Tensor,
        per_node: int,
        *online: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """inputs, target_inputs [G, L, I], L = M * per_node -> (q [G, L, A], hidden [G, L, H]) of each."""
        both = {name: torch.cat((params[name].detach(), target_params[name])) for name in GRU_PARAMETERS}
        stack, n_rows, _ = inputs.shape
        n_nodes, n = n_rows // per_node, both["agent.gru_h.weight"].shape[1]
        hidden = inputs.new_empty(2 * stack, n_rows, n)
        # What the gradient needs, online rows only: of each block the layer below, of each time the gates.
        below: list[Tensor] = []
        kept: list[tuple[Tensor, ...]] = []
        blocks = cut_into_blocks([bound * per_node for bound in bounds], 2 * stack * n)
        offset = torch.arange(2 * stack, device=inputs.device)[:, None] * n_nodes
        lengths = [after - start for start, after in pairwise(bounds)]
        flat_parents = [p.flatten() for p in (parents.repeat(2, 1) + offset).split(lengths, 1)]
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
                    before = by_node.index_select(0, flat_parents[t]).view(2 * stack, length, n)
                    gates_h = torch.baddbmm(bias, before, both["agent.gru_h.weight"])
                gates, new = gru_gates(gates_x, gates_h)
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
        """Gradients of the online inputs, if they are asked for, and parameters, in the order of GRU_PARAMETERS."""
        inputs, hidden, *online = ctx.saved_tensors
        params = dict(zip(GRU_PARAMETERS, online, strict=True))
        d_q, d_outside = grads[0], grads[1]
        n = hidden.shape[-1]
        d_hidden = torch.zeros_like(hidden) if d_q is None else _times_transposed(d_q, params["agent.fc_out.weight"])
        if d_outside is not None:
            d_hidden += d_outside
        by_node = d_hidden.view(-1, ctx.per_node * n)
        weight_t = params["agent.gru_h.weight"].transpose(1, 2)
        d_inputs = torch.empty_like(inputs) if ctx.needs_input_grad[0] else None
        found = {name: torch.zeros_like(p, memory_format=torch.contiguous_format) for name, p in params.items()}
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
                    by_node.index_add_(0, ctx.flat_parents[t], d_before.view(-1, ctx.per_node * n))
            add_layer(found, "agent.gru_h", before, d_gates_h.flatten(2))
            # Above the recurrence the gradients are the same, but for the new gate, which the reset gate damps there.
            d_gates_x = d_gates_h  # in its place, now that the other is done with
            torch.mul(to_new, d_after, out=d_gates_x[:, :, 2])
            add_layer(found, "agent.gru_x", x, d_gates_x.flatten(2))
            d_x = _times_transposed(d_gates_x.flatten(2), params["agent.gru_x.weight"]).mul_(x > 0)
            add_layer(found, "agent.fc_in", inputs[:, block.rows], d_x)
            if d_inputs is not None:
                d_inputs[:, block.rows] = _times_transposed(d_x, params["agent.fc_in.weight"])
        if d_q is not None:
            add_layer(found, "agent.fc_out", hidden, d_q)
        return d_inputs, *(None,) * 6, *found.values()


@dataclass(frozen=True)
class Block:
    """Consecutive times of a tree that are computed together: ``rows`` of the [L] axis, ``lengths`` of each time."""

    times: range
    rows: slice
    lengths: list[int]


# Numbers in one plane of a block: with the few planes that a step touches it should stay in a core's own cache. Blocks
# are as large as that allows, since starting operations is most of the time where a batch is small.
BLOCK_NUMBERS = 1 << 15


def cut_into_blocks(bounds: list[int], width: int) -> list[Block]:
    """Cut the times between the bounds into blocks of at most BLOCK_NUMBERS numbers, ``width`` in each row."""
    blocks, start = [], 0
    for end in range(1, len(bounds)):
        last = end == len(bounds) - 1
        if last or (bounds[end + 1] - bounds[start]) * width > BLOCK_NUMBERS:
            lengths = [after - before for before, after in pairwise(bounds[start : end + 1])]
            blocks.append(Block(range(start, end), slice(bounds[start], bounds[end]), lengths))
            start = end
    return blocks


def add_layer(found: dict[str, Tensor], name: str, x: Tensor, d: Tensor) -> None:
    """Add the gradients of weight and bias of y = x W + b: x [G, rows, in], d = dy [G, rows, out]."""
    found[f"{name}.weight"].baddbmm_(x.transpose(1, 2), d)
    # A product with ones: faster than a sum over rows.
    found[f"{name}.bias"].baddbmm_(x.new_ones(1, 1, 1).expand(x.shape[0], 1, x.shape[1]), d)


def _one_minus_square(x: Tensor) -> Tensor:
    return torch.mul(x, x).neg_().add_(1.0)


def _times_transposed(d: Tensor, weight: Tensor) -> Tensor:
    return torch.bmm(d, weight.transpose(1, 2))
