"""How agents behave while they are trained: epsilon-greedy, or a softmax with a floor; and how epsilon falls.

Evaluation is greedy for both: the best legal action of each agent.

Shapes: ``R`` runs, ``N`` agents, ``A`` actions; ``...`` stands for any axes between runs and agents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

Behaviour = Literal["epsilon-greedy", "softmax"]


@dataclass(frozen=True)
class Exploration:
    """A behaviour and its epsilon, which falls linearly.

    Attributes:
        behaviour: "epsilon-greedy" (agents' outputs are values) or "softmax" (they are logits, see ``floored``).
        start, finish: epsilon at the first step and from ``steps`` on.
        steps: environment steps over which it falls.
    """

    behaviour: Behaviour
    start: float
    finish: float
    steps: int

    def epsilon(self, t_env: np.ndarray) -> np.ndarray:
        """Epsilon after so many environment steps, of the same shape."""
        done = np.clip(t_env / self.steps, 0.0, 1.0)
        return self.start + (self.finish - self.start) * done


def log_softmax(logits: Tensor, avail_actions: Tensor) -> Tensor:
    """Logarithm of the softmax over the legal actions, -inf for the others: logits, avail_actions [..., N, A]."""
    return torch.log_softmax(logits.masked_fill(~avail_actions, -torch.inf), dim=-1)


def floored(log_policy: Tensor, avail_actions: Tensor, epsilon: Tensor) -> Tensor:
    """The policy with a floor: (1 - epsilon) softmax(a) + epsilon / (number of legal actions), zero if a is illegal.

    It is COMA's lower-bounded softmax (Foerster et al. 2018, experimental setup), with masks: the softmax is over the
    legal actions and they share the floor, so probabilities sum to 1.

    Args:
        log_policy: [R, ..., N, A] from ``log_softmax``; avail_actions: likewise, bool; epsilon: [R].
    """
    epsilon = epsilon.view(-1, *(1,) * (log_policy.dim() - 1))
    return (1.0 - epsilon) * log_policy.exp() + epsilon * avail_actions / _count(avail_actions)


def log_floored(log_taken: Tensor, avail_actions: Tensor, epsilon: Tensor) -> Tensor:
    """Logarithm of ``floored`` at one legal action of each agent, finite and with a gradient even where epsilon is 0.

    Args:
        log_taken: [R, ..., N], ``log_softmax`` at that action; avail_actions: [R, ..., N, A]; epsilon: [R].
    """
    # One action of each agent, not all: at an illegal one both terms are -inf, and its gradient NaN.
    epsilon = epsilon.view(-1, *(1,) * (log_taken.dim() - 1))
    floor = epsilon.log() - _count(avail_actions).squeeze(-1).to(log_taken.dtype).log()
    return torch.logaddexp((1.0 - epsilon).log() + log_taken, floor)


def epsilon_greedy(best: Tensor, avail_actions: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
    """Probabilities of the policy that is epsilon-greedy around best [..., N]: avail_actions and result [..., N, A]."""
    greedy = one_hot(best, avail_actions.shape[-1]).to(dtype)
    return greedy.mul_(1.0 - epsilon).add_(avail_actions / _count(avail_actions).to(dtype), alpha=epsilon)


def _count(avail_actions: Tensor) -> Tensor:
    """Legal actions of each agent [..., N, 1]; 1 where there are none (behind an end)."""
    return avail_actions.sum(-1, keepdim=True).clamp(min=1)
