"""The run axis: parameters of R independent networks in one buffer, and the layers that use them.

A network here is a description: it declares its parameters for *one* run (:class:`Parameter`: shape and fan-in)
and computes with a dict of tensors that carry one more leading axis, the runs. That axis is added in one place,
:class:`ParameterStack`, and consumed in one place, :func:`linear`, a batched matrix product. So a network is
written for one run, and a seed is one more row of a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Params = Mapping[str, Tensor]


@dataclass(frozen=True)
class Parameter:
    """One run's parameter: drawn uniformly from +-1/sqrt(fan_in), PyTorch's default for linear layers and GRUs."""

    shape: tuple[int, ...]
    fan_in: int


def linear_parameters(prefix: str, n_in: int, n_out: int) -> dict[str, Parameter]:
    """Weight [n_in, n_out] and bias [1, n_out] of a linear layer."""
    return {f"{prefix}.weight": Parameter((n_in, n_out), n_in), f"{prefix}.bias": Parameter((1, n_out), n_in)}


def linear(params: Params, prefix: str, x: Tensor) -> Tensor:
    """x [R, rows, n_in] -> [R, rows, n_out], each run with its own weights."""
    return torch.baddbmm(params[f"{prefix}.bias"], x, params[f"{prefix}.weight"])


class ParameterStack:
    """The online and target parameters of R runs as one buffer [2, R, P], with a named view for each parameter.

    Optimizers and target copies work on the buffer, a few operations whatever the number of parameters.

    Attributes:
        online, target: [R, P] views of the buffer. grad: [R, P], see ``differentiate``.
        params: online parameters by name, each [R, ...], taking gradient.
        target_params: likewise of the target, without.
    """

    def __init__(self, spec: Mapping[str, Parameter], buffer: Tensor, grad: Tensor | None = None) -> None:
        self.spec = dict(spec)
        self.buffer = buffer
        self.online, self.target = buffer[0], buffer[1]
        self.grad = torch.zeros_like(self.online) if grad is None else grad
        self._grads = _views(self.spec, self.grad)
        self.params = {n: view.detach().requires_grad_() for n, view in _views(self.spec, self.online).items()}
        self.target_params = _views(self.spec, self.target)

    @classmethod
    def draw(
        cls, spec: Mapping[str, Parameter], rngs: Sequence[np.random.Generator], device: torch.device
    ) -> ParameterStack:
        """Draw every run's parameters from that run's own generator, in the order of ``spec``; targets are equal."""
        drawn = [np.concatenate([_uniform(rng, parameter) for parameter in spec.values()]) for rng in rngs]
        online = torch.from_numpy(np.stack(drawn))
        return cls(spec, torch.stack((online, online)).to(device))

    def sync_target(self) -> None:
        """Copy online to target."""
        self.target.copy_(self.online)

    def differentiate(self, loss: Tensor, prefix: str = "") -> None:
        """Write the gradient of ``loss`` by the parameters of these names into their part of ``grad``."""
        names = [name for name in self.spec if name.startswith(prefix)]
        # Not backward(): it would add to .grad, which takes two more passes over the buffer.
        for name, grad in zip(names, torch.autograd.grad(loss, [self.params[n] for n in names]), strict=True):
            self._grads[name].copy_(grad)

    def columns(self, prefix: str) -> slice:
        """Where in P the parameters lie whose names begin so; they have to follow one another in ``spec``."""
        if not prefix:
            return slice(None)
        start, end, place = -1, -1, 0
        for name, parameter in self.spec.items():
            after = place + math.prod(parameter.shape)
            if name.startswith(prefix):
                assert start < 0 or end == place, (prefix, list(self.spec))
                start, end = place if start < 0 else start, after
            place = after
        assert start >= 0, (prefix, list(self.spec))
        return slice(start, end)

    def members(self, prefix: str) -> slice:
        """Which of ``spec`` have names that begin so."""
        found = [index for index, name in enumerate(self.spec) if name.startswith(prefix)]
        return slice(found[0], found[-1] + 1)

    def load(self, params: Params) -> None:
        """Take online and target parameters from tensors of the same names, each [R, ...]."""
        with torch.no_grad():
            for name, param in self.params.items():
                param.copy_(params[name])
        self.sync_target()

    def runs(self, index: slice) -> dict[str, Tensor]:
        """Views of some runs' online parameters, without gradient."""
        return {name: param.detach()[index] for name, param in self.params.items()}

    def part(self, index: slice, *, own_grad: bool = False) -> ParameterStack:
        """The same parameters of some runs, and the same gradients unless they are to be its own; no copy."""
        # .data: autograd counts changes for itself then. A step of some runs does not change what others have saved.
        return ParameterStack(self.spec, self.buffer.data[:, index], None if own_grad else self.grad.data[index])

    def select(self, keep: Tensor) -> ParameterStack:
        """A stack of the chosen runs only."""
        return ParameterStack(self.spec, self.buffer[:, keep].clone())


def _uniform(rng: np.random.Generator, parameter: Parameter) -> np.ndarray:
    bound = 1.0 / math.sqrt(parameter.fan_in)
    return rng.uniform(-bound, bound, math.prod(parameter.shape)).astype(np.float32)


def _views(spec: Mapping[str, Parameter], data: Tensor) -> dict[str, Tensor]:
    views, start = {}, 0
    for name, parameter in spec.items():
        end = start + math.prod(parameter.shape)
        views[name] = data[:, start:end].unflatten(1, parameter.shape)
        start = end
    assert start == data.shape[1], (start, data.shape)
    return views
