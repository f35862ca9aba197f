"""Optimizers over the parameters of R runs: a few operations on the buffer [R, P], each run by its own norm and clock.

Parts that are stepped separately (an actor, a critic) are named by the beginning of their parameters' names; they are
clipped separately and have separate clocks.

To add one: a subclass with ``_tensors`` and ``_descend``, a row in ``config.OPTIMIZER_DEFAULTS``, and one in
``make_optimizer``.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from smix_pz.algorithms.networks import ParameterStack
from smix_pz.config import Hyperparameters


class Optimizer(ABC):
    """What a learner asks of an optimizer.

    Attributes:
        lr: step size.
        clip: largest gradient norm of one part of one run.
        state: the statistics by name, tensors with a leading R; all that a checkpoint needs.
    """

    def __init__(self, stack: ParameterStack, lr: float, clip: float) -> None:
        self.lr, self.clip = lr, clip
        self.state = self._tensors(stack)
        self._scratch = torch.empty_like(stack.online)

    @abstractmethod
    def _tensors(self, stack: ParameterStack) -> dict[str, Tensor]:
        """The statistics before the first step."""

    @abstractmethod
    def _descend(self, stack: ParameterStack, prefix: str) -> None:
        """One step of this part down ``stack.grad``, which is clipped already."""

    def step(self, stack: ParameterStack, prefix: str = "", idle: Tensor | None = None) -> Tensor:
        """Update every run's parameters of these names in place and return their gradient's norms [R].

        idle: bool [R], runs for which there is no step at all: their parameters and statistics stay as they are. (A
            gradient of zero is a step: averages fade, and with momentum parameters move.)
        """
        kept = self._rows(stack, idle) if idle is not None and bool(idle.any()) else None
        grad = stack.grad[:, stack.columns(prefix)]
        norm = torch.linalg.vector_norm(grad, dim=1)
        # On a GPU, asking whether any norm is too long would cost more than the multiplication.
        if grad.is_cuda or bool((norm > self.clip).any()):
            grad.mul_((self.clip / (norm + 1e-6)).clamp(max=1.0)[:, None])
        self._descend(stack, prefix)
        if kept is not None:
            for tensor, rows in zip((stack.online, *self.state.values()), kept, strict=True):
                tensor[idle] = rows
        return norm

    def _rows(self, stack: ParameterStack, which: Tensor) -> list[Tensor]:
        return [tensor[which] for tensor in (stack.online, *self.state.values())]

    def load(self, state: dict[str, Tensor]) -> None:
        """Take the statistics of a checkpoint."""
        for name, tensor in self.state.items():
            tensor.copy_(state[name])

    def part(self, index: slice) -> Optimizer:
        """The same statistics of some runs, no copy."""
        part = copy.copy(self)
        part.state = {name: tensor[index] for name, tensor in self.state.items()}
        part._scratch = self._scratch[index]
        return part

    def select(self, keep: Tensor) -> None:
        """Keep the chosen runs' statistics only."""
        self.state = {name: tensor[keep].clone() for name, tensor in self.state.items()}
        self._scratch = self._scratch[: len(keep)].clone()

    def _root(self, square: Tensor, part: slice) -> Tensor:
        """sqrt(square), in memory that the next call uses again."""
        # The floor, far below any eps, keeps zeros out of the root, for which MKL takes several times as long.
        return torch.clamp(square, min=1e-30, out=self._scratch[:, part]).sqrt_()


class RMSprop(Optimizer):
    """v <- alpha v + (1 - alpha) g^2;  p <- p - lr g / (sqrt(v) + eps), as torch.optim.RMSprop without momentum."""

    def __init__(self, stack: ParameterStack, lr: float, clip: float, *, alpha: float, eps: float) -> None:
        super().__init__(stack, lr, clip)
        self.alpha, self.eps = alpha, eps

    def _tensors(self, stack: ParameterStack) -> dict[str, Tensor]:
        return {"square": torch.zeros_like(stack.online)}

    def _descend(self, stack: ParameterStack, prefix: str) -> None:
        part = stack.columns(prefix)
        grad, square = stack.grad[:, part], self.state["square"][:, part]
        square.mul_(self.alpha).addcmul_(grad, grad, value=1.0 - self.alpha)
        stack.online[:, part].addcdiv_(grad, self._root(square, part).add_(self.eps), value=-self.lr)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1), as torch.optim.Adam without weight decay.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  p <- p - lr m' / (sqrt(v') + eps), where m' = m / (1 - b1^t),
    v' = v / (1 - b2^t), and t counts the steps of this run and this part.
    """

    def __init__(
        self, stack: ParameterStack, lr: float, clip: float, *, beta1: float, beta2: float, eps: float
    ) -> None:
        super().__init__(stack, lr, clip)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def _tensors(self, stack: ParameterStack) -> dict[str, Tensor]:
        n_runs, n_names = stack.online.shape[0], len(stack.spec)
        return {
            "mean": torch.zeros_like(stack.online),
            "square": torch.zeros_like(stack.online),
            # One count for each name; those of a part are equal, whichever parts there are.
            "steps": torch.zeros(n_runs, n_names, dtype=torch.float64, device=stack.online.device),
        }

    def _descend(self, stack: ParameterStack, prefix: str) -> None:
        part, names = stack.columns(prefix), stack.members(prefix)
        grad, mean, square = stack.grad[:, part], self.state["mean"][:, part], self.state["square"][:, part]
        steps = self.state["steps"][:, names].add_(1.0)[:, :1]  # [R, 1]
        mean.lerp_(grad, 1.0 - self.beta1)
        square.mul_(self.beta2).addcmul_(grad, grad, value=1.0 - self.beta2)
        root = (1.0 - self.beta2**steps).sqrt().to(grad.dtype)
        scale = (self.lr / (1.0 - self.beta1**steps)).to(grad.dtype)
        denominator = self._root(square, part).div_(root).add_(self.eps)
        stack.online[:, part].sub_(torch.div(mean, denominator, out=denominator).mul_(scale))


def make_optimizer(stack: ParameterStack, hyper: Hyperparameters) -> Optimizer:
    """The optimizer that the settings name, with its own settings."""
    own = hyper.optimizer_settings()
    if hyper.optimizer == "adam":
        beta1, beta2, eps = own["adam_beta1"], own["adam_beta2"], own["adam_eps"]
        return Adam(stack, hyper.learning_rate, hyper.grad_clip, beta1=beta1, beta2=beta2, eps=eps)
    return RMSprop(stack, hyper.learning_rate, hyper.grad_clip, alpha=own["rms_alpha"], eps=own["rms_eps"])
