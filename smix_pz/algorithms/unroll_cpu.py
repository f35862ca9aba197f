"""The GRU's unroll on a CPU: the recurrence of a block of times in one compiled loop, the layers above it by PyTorch.

Same function and gradient as :mod:`smix_pz.algorithms.unroll`, which the tests hold it to. Three things make it faster
there: a step is one product (SciPy's BLAS, called from compiled code) and one pass over each row in a core's nearest
cache, in place of ten operations on whole tensors; each network is unrolled for itself (or with as many others as fit a
core's cache), since networks share no numbers; and networks are shared among PyTorch's threads, which loses less than
sharing each product.

Shapes: ``G`` networks (runs, or runs x agents), ``L`` rows, ``B`` rows of a block, ``H`` hidden, gates in the order
reset, update, new (``3H``).
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numba import njit, types
from numba.extending import overload
from torch import Tensor
from torch.nn.functional import pad

from smix_pz.algorithms.networks import Params
from smix_pz.algorithms.threads import share, threads
from smix_pz.algorithms.unroll import GRU_PARAMETERS, add_layer, cut_into_blocks

Array = np.ndarray[Any, Any]

# Numbers of one plane (rows x H) of a chunk of networks at one time: as many networks together as stay below it.
CHUNK_NUMBERS = 1 << 14

# tanh(x) = x P(x^2) / Q(x^2) on [-9, 9], and +-1 beyond. Fitted by least squares, reweighted until the largest error
# was smallest (2e-8 in exact arithmetic, 4e-7 in float32: perf/tanh_fit.py). PyTorch's own takes ten times as long.
_P = tuple(np.float32(c) for c in (0.999999906, 0.133731975, 0.00348658172, 2.04718279e-05, 1.31842207e-08))
_Q = tuple(np.float32(c) for c in (1.0, 0.467064944, 0.0258419785, 0.000327138512, 7.70266209e-07))
_LIMIT, _HALF = np.float32(9.0), np.float32(0.5)

# Multiplications and additions may be fused, nothing else: a NaN has to stay one.
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}


def _tanh(x):  # type: ignore[no-untyped-def]
    return math.tanh(x)


@overload(_tanh, jit_options=_OPTIONS)  # type: ignore[arg-type]
def _tanh_of(x):  # type: ignore[no-untyped-def]
    if x != types.float32:
        return lambda x: math.tanh(x)

    def rational(x):  # type: ignore[no-untyped-def]
        y = -_LIMIT if x < -_LIMIT else x
        z = _LIMIT if y > _LIMIT else y
        s = z * z
        p = (((_P[4] * s + _P[3]) * s + _P[2]) * s + _P[1]) * s + _P[0]
        q = (((_Q[4] * s + _Q[3]) * s + _Q[2]) * s + _Q[1]) * s + _Q[0]
        return z * p / q

    return rational


@njit(inline="always")
def _sigmoid(x):  # type: ignore[no-untyped-def]
    return _HALF * _tanh(_HALF * x) + _HALF


@njit(**_OPTIONS)
def tanh_rows(x: Array, out: Array) -> None:
    """out <- tanh(x), both [L]: what the kernels use, for tests."""
    for j in range(x.shape[0]):
        out[j] = _tanh(x[j])


@njit(**_OPTIONS)
def _bias_relu(x: Array, bias: Array) -> None:
    """x <- max(x + bias, 0): x [G, B, H], bias [G, H]."""
    zero = x.dtype.type(0)
    for g in range(x.shape[0]):
        b = bias[g]
        for i in range(x.shape[1]):
            row = x[g, i]
            for j in range(row.shape[0]):
                y = row[j] + b[j]
                row[j] = zero if y < zero else y


@njit(**_OPTIONS)
def _longest(times: tuple[int, int], bounds: Array) -> int:
    """Most nodes that one of the times has."""
    longest = 0
    for t in range(times[0], times[1]):
        longest = max(longest, bounds[t + 1] - bounds[t])
    return longest


@njit(**_OPTIONS)
def _recur(
    times: tuple[int, int], bounds: Array, parents: Array, per_node: int, weight: Array, bias: Array, bias_new: Array,
    gates: Array, before: Array, to_new: Array, hidden: Array,
) -> None:  # fmt: skip
    """The recurrence over the times of a block, one network after the other.

    Args:
        times: the first time and the one after the last; bounds [T+2]: nodes of time t are bounds[t] to bounds[t+1].
        parents [G, M]: the node before each node, which takes ``per_node`` rows.
        weight [G, H, 3H] of the memory; bias [G, 3H]: what is added outside the reset gate; bias_new [G, H]: inside.
        gates [G, B, 3H]: what the layer below gives; becomes reset, update and new gate.
        before [G, B, H]: written, the memory before; to_new [G, B, H]: written, what the reset gate multiplies.
        hidden [G, L, H]: written at this block's rows, read at those before.
    """
    n = hidden.shape[2]
    start = bounds[times[0]] * per_node
    room = np.empty((_longest(times, bounds) * per_node, 3 * n), gates.dtype)
    for g in range(gates.shape[0]):
        b, b_reset, b_new = bias[g], bias_new[g], bias[g, 2 * n :]
        for t in range(times[0], times[1]):
            first, end = bounds[t] * per_node, bounds[t + 1] * per_node
            old = before[g, first - start : end - start]
            below = room[: end - first]
            if t == 0:
                old[:] = 0
                below[:] = 0
            else:
                for node in range(bounds[t], bounds[t + 1]):
                    source = parents[g, node] * per_node
                    for k in range(per_node):
                        a, c = hidden[g, source + k], old[(node - bounds[t]) * per_node + k]
                        for j in range(n):
                            c[j] = a[j]
                np.dot(old, weight[g], below)
            for i in range(end - first):
                row, inside, of_new = gates[g, first - start + i], below[i, 2 * n :], to_new[g, first - start + i]
                for j in range(2 * n):
                    row[j] = _sigmoid(row[j] + below[i, j] + b[j])
                reset, update, new = row[:n], row[n : 2 * n], row[2 * n :]
                for j in range(n):
                    of_new[j] = inside[j] + b_reset[j]
                for j in range(n):
                    new[j] = _tanh(new[j] + b_new[j] + reset[j] * of_new[j])
                memory, out = old[i], hidden[g, first + i]
                for j in range(n):
                    out[j] = new[j] + update[j] * (memory[j] - new[j])


@njit(**_OPTIONS)
def _recur_back(
    times: tuple[int, int], bounds: Array, parents: Array, per_node: int, weight: Array, gates: Array, before: Array,
    to_new: Array, d_hidden: Array, d_gates: Array, d_new: Array,
) -> None:  # fmt: skip
    """The gradient of ``_recur``, over its times backwards.

    Args:
        weight [G, 3H, H]: transposed. d_hidden [G, L, H]: read at this block's rows, added to at those before.
        d_gates [G, B, 3H]: written, as the memory's product sees them. d_new [G, B, H]: written, the new gate's as the
            layer below sees it.
    """
    n = d_hidden.shape[2]
    one = gates.dtype.type(1)
    start = bounds[times[0]] * per_node
    room = np.empty((_longest(times, bounds) * per_node, n), gates.dtype)
    for g in range(gates.shape[0]):
        for t in range(times[1] - 1, times[0] - 1, -1):
            first, end = bounds[t] * per_node, bounds[t + 1] * per_node
            for i in range(first - start, end - start):
                d_h, row, out, d_n = d_hidden[g, start + i], gates[g, i], d_gates[g, i], d_new[g, i]
                reset, update, new, old, of_new = row[:n], row[n : 2 * n], row[2 * n :], before[g, i], to_new[g, i]
                d_r, d_z, d_inside = out[:n], out[n : 2 * n], out[2 * n :]
                for j in range(n):
                    d_n[j] = d_h[j] * (one - update[j]) * (one - new[j] * new[j])
                for j in range(n):
                    d_inside[j] = d_n[j] * reset[j]
                for j in range(n):
                    d_r[j] = d_inside[j] * of_new[j] * (one - reset[j])
                for j in range(n):
                    d_z[j] = d_h[j] * (old[j] - new[j]) * update[j] * (one - update[j])
            if t == 0:
                continue
            d_before = room[: end - first]
            np.dot(d_gates[g, first - start : end - start], weight[g], d_before)
            for node in range(bounds[t], bounds[t + 1]):
                target = parents[g, node] * per_node
                for k in range(per_node):
                    i = node * per_node + k
                    d_h, update, d_b = d_hidden[g, i], gates[g, i - start, n : 2 * n], d_before[i - first]
                    into = d_hidden[g, target + k]
                    for j in range(n):
                        into[j] += d_b[j] + d_h[j] * update[j]


@njit(**_OPTIONS)
def _mask_below(d: Array, x: Array) -> None:
    """d <- d where x > 0, else 0: both [G, B, H]."""
    zero = d.dtype.type(0)
    for g in range(d.shape[0]):
        for i in range(d.shape[1]):
            a, b = d[g, i], x[g, i]
            for j in range(a.shape[0]):
                a[j] = a[j] if b[j] > zero else zero


class _Chunk:
    """Some networks, unrolled together by one thread."""

    def __init__(self, params: Params, inputs: Tensor, bounds: tuple[int, ...], parents: Array, per_node: int) -> None:
        """params: views [G, ...]; inputs [G, L, I]; parents [G, M]."""
        self.params, self.inputs, self.parents, self.per_node = params, inputs, parents, per_node
        self.bounds = np.array(bounds)
        self.width = params["agent.gru_h.weight"].shape[1]
        self.blocks = cut_into_blocks([bound * per_node for bound in bounds], len(inputs) * self.width)
        self.kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def _bias(self, name: str) -> Array:
        return np.ascontiguousarray(self.params[f"agent.{name}.bias"].squeeze(1).numpy())

    def forward(self, q: Tensor, hidden: Tensor, *, keep: bool) -> None:
        """Write q [G, L, A, padded] and hidden [G, L, H]. keep: what the gradient needs."""
        params, n = self.params, self.width
        bias, bias_h = self._bias("gru_x"), self._bias("gru_h")
        bias = np.concatenate((bias[:, : 2 * n] + bias_h[:, : 2 * n], bias[:, 2 * n :]), axis=1)
        bias_in, bias_new = self._bias("fc_in"), np.ascontiguousarray(bias_h[:, 2 * n :])
        weight, hidden_ = np.ascontiguousarray(params["agent.gru_h.weight"].numpy()), hidden.numpy()
        for block in self.blocks:
            x = torch.bmm(self.inputs[:, block.rows], params["agent.fc_in.weight"])
            _bias_relu(x.numpy(), bias_in)
            gates = torch.bmm(x, params["agent.gru_x.weight"])
            before, to_new = torch.empty_like(x), torch.empty_like(x)
            _recur(
                (block.times.start, block.times.stop), self.bounds, self.parents, self.per_node, weight, bias, bias_new,
                gates.numpy(), before.numpy(), to_new.numpy(), hidden_,
            )  # fmt: skip
            if keep:
                self.kept.append((x, gates, before, to_new))
        torch.baddbmm(_pad(params["agent.fc_out.bias"]), hidden, _pad(params["agent.fc_out.weight"]), out=q)

    def backward(self, d_hidden: Tensor, found: dict[str, Tensor], d_inputs: Tensor | None) -> None:
        """Add the gradients of the parameters below the output layer to ``found``, from d_hidden [G, L, H], which is
        used up; write that of the inputs."""
        params, n = self.params, self.width
        weight = np.ascontiguousarray(params["agent.gru_h.weight"].numpy().transpose(0, 2, 1))
        d_hidden_ = d_hidden.numpy()
        for block, (x, gates, before, to_new) in reversed(list(zip(self.blocks, self.kept, strict=True))):
            d_gates, d_new = torch.empty_like(gates), torch.empty_like(x)
            _recur_back(
                (block.times.start, block.times.stop), self.bounds, self.parents, self.per_node, weight, gates.numpy(),
                before.numpy(), to_new.numpy(), d_hidden_, d_gates.numpy(), d_new.numpy(),
            )  # fmt: skip
            add_layer(found, "agent.gru_h", before, d_gates)
            # Above the recurrence the gradients are the same, but for the new gate, which the reset gate damps there.
            d_gates[:, :, 2 * n :] = d_new
            add_layer(found, "agent.gru_x", x, d_gates)
            d_x = torch.bmm(d_gates, params["agent.gru_x.weight"].transpose(1, 2))
            _mask_below(d_x.numpy(), x.numpy())
            add_layer(found, "agent.fc_in", self.inputs[:, block.rows], d_x)
            if d_inputs is not None:
                d_inputs[:, block.rows] = torch.bmm(d_x, params["agent.fc_in.weight"].transpose(1, 2))


class UnrollTreeCPU(torch.autograd.Function):
    """:class:`smix_pz.algorithms.unroll.UnrollTree` for a CPU: same arguments, same results."""

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
        stack, n_rows, _ = inputs.shape
        width, n_actions = params["agent.fc_out.weight"].shape[1:]
        before = parents.numpy()
        longest = max(after - start for start, after in pairwise(bounds)) * per_node
        pieces = _pieces(stack, longest * width)
        q, hidden = (inputs.new_empty(2, stack, n_rows, size) for size in (_padded(n_actions), width))

        def chunk(which: int, piece: slice) -> _Chunk:
            own = {name: (params, target_params)[which][name].detach()[piece] for name in GRU_PARAMETERS}
            seen = (inputs, target_inputs)[which][piece]
            return _Chunk(own, seen.detach(), bounds, before[piece], per_node)

        chunks = [(which, piece, chunk(which, piece)) for which in (0, 1) for piece in pieces]
        share(partial(c.forward, q[which, piece], hidden[which, piece], keep=which == 0) for which, piece, c in chunks)
        ctx.chunks = [(piece, c) for which, piece, c in chunks if which == 0]
        outputs = q[0, ..., :n_actions], hidden[0], q[1, ..., :n_actions], hidden[1]
        ctx.save_for_backward(inputs, hidden[0], *online)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*outputs[2:])
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of the online inputs, if they are asked for, and parameters, in the order of GRU_PARAMETERS."""
        inputs, hidden, *online = ctx.saved_tensors
        d_q, d_outside = grads[0], grads[1]
        d_inputs = torch.empty_like(inputs) if ctx.needs_input_grad[0] else None
        found = {
            name: torch.zeros_like(p, memory_format=torch.contiguous_format)
            for name, p in zip(GRU_PARAMETERS, online, strict=True)
        }

        def run(piece: slice, chunk: _Chunk) -> None:
            own = {name: g[piece] for name, g in found.items()}
            if d_q is None:
                d_hidden = torch.zeros_like(hidden[piece])
            else:
                name, above = "agent.fc_out", _pad(d_q[piece])
                out = {f"{name}.{part}": _pad(own[f"{name}.{part}"]) for part in ("weight", "bias")}
                add_layer(out, name, hidden[piece], above)
                for part, gradient in out.items():
                    own[part].copy_(gradient[..., : d_q.shape[-1]])
                d_hidden = torch.bmm(above, _pad(chunk.params[f"{name}.weight"]).transpose(1, 2))
            if d_outside is not None:
                d_hidden += d_outside[piece]
            chunk.backward(d_hidden, own, None if d_inputs is None else d_inputs[piece])

        share(partial(run, piece, chunk) for piece, chunk in ctx.chunks)
        return d_inputs, *(None,) * 6, *found.values()


# Products with a few columns are slow (9 take four times as long as 16), so the layer of the actions is padded.
COLUMNS = 16


def _padded(size: int) -> int:
    return -(-size // COLUMNS) * COLUMNS


def _pad(x: Tensor) -> Tensor:
    """Zeros behind the last axis."""
    return pad(x, (0, _padded(x.shape[-1]) - x.shape[-1]))


def _pieces(count: int, numbers: int) -> list[slice]:
    """Cut the networks into chunks of at most CHUNK_NUMBERS numbers, ``numbers`` each."""
    size = max(1, CHUNK_NUMBERS // numbers)
    size = min(size, -(-count // threads()))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
