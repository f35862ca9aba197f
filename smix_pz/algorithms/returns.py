"""Return estimators: what the value of the taken joint action is trained towards.

One recursion covers the one-step target, the lambda-return, Monte-Carlo and every end of an episode:

    G[t] = r[t] + discount[t] * ((1 - lam[t]) * v[t+1] + lam[t] * G[t+1])

with ``discount = gamma * (1 - terminated)`` and ``lam = 0`` at an episode's last filled step. It is the paper's
lambda-return (SMIX paper, equation 9) written backwards; with all importance ratios set to one it is also
equation 16's ``Q + sum_k (prod lambda gamma) delta_k``. What ``v`` is distinguishes the methods:

* *greedy*: the target network's value of the online network's best action (double q-learning: QMIX, VDN, IQL);
* *taken*: the target network's value of the action that was taken (SARSA: SMIX and every -R method).

Shapes: ``[..., T, X]`` with ``X`` = 1 (one team value) or N (one value per agent, IQL). ``v_next[..., t, :]`` is the
value at time t+1. Values at steps that are not filled may be anything, NaN included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Bootstrap = Literal["greedy", "taken"]
Kind = Literal["lambda", "n_step"]


@dataclass(frozen=True)
class ReturnEstimator:
    """Which value to bootstrap from, and how far to look before doing so.

    Attributes:
        bootstrap: "greedy" (Q-learning) or "taken" (SARSA).
        kind: "lambda" or "n_step".
        td_lambda: weight of longer returns, for kind "lambda"; 0 is one step, 1 is Monte-Carlo.
        n_step: number of rewards before the bootstrap, for kind "n_step".
    """

    bootstrap: Bootstrap
    kind: Kind = "lambda"
    td_lambda: float = 0.0
    n_step: int = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.td_lambda <= 1.0:
            raise ValueError(f"td_lambda is {self.td_lambda}; it should lie between 0 (one step) and 1 (Monte-Carlo)")
        if self.n_step < 1:
            raise ValueError(f"n_step is {self.n_step}; it should be 1 or more")

    def __call__(self, rewards: Tensor, terminated: Tensor, filled: Tensor, v_next: Tensor, gamma: float) -> Tensor:
        """Targets [..., T, X] (zero where not filled) from rewards, terminated, filled [..., T, 1] and v_next."""
        if self.kind == "n_step":
            return n_step_return(rewards, terminated, filled, v_next, gamma, self.n_step)
        return lambda_return(rewards, terminated, filled, v_next, gamma, self.td_lambda)


ONE_STEP_GREEDY = ReturnEstimator("greedy")
LAMBDA_TAKEN = ReturnEstimator("taken", td_lambda=0.8)
N_STEP_TAKEN = ReturnEstimator("taken", kind="n_step", n_step=4)


def lambda_return(
    rewards: Tensor, terminated: Tensor, filled: Tensor, v_next: Tensor, gamma: float, td_lambda: float
) -> Tensor:
    """The lambda-return, SMIX paper equation 9: (1 - lambda) sum_n lambda^(n-1) G^(n), cut at the episode's end.

    Args:
        rewards, terminated, filled: [..., T, 1]; v_next: [..., T, X].

    Returns:
        [..., T, X], zero where not filled.
    """
    rewards, discount, v_next = _clean(rewards, terminated, filled, v_next, gamma)
    lam = torch.zeros_like(rewards)
    lam[..., :-1, :] = td_lambda * filled[..., 1:, :].to(rewards.dtype)  # zero at the last filled step
    flat = rewards + discount * (1.0 - lam) * v_next
    if td_lambda == 0.0:
        return flat
    returns = list(flat.unbind(-2))
    trace = (discount * lam).unbind(-2)
    for t in range(len(returns) - 2, -1, -1):
        returns[t] = torch.addcmul(returns[t], trace[t], returns[t + 1])
    return torch.stack(returns, dim=-2)


def one_step_return(rewards: Tensor, terminated: Tensor, filled: Tensor, v_next: Tensor, gamma: float) -> Tensor:
    """r + gamma (1 - terminated) v[t+1]: the one-step target inside equation 8. Shapes as in lambda_return."""
    return lambda_return(rewards, terminated, filled, v_next, gamma, 0.0)


def monte_carlo_return(rewards: Tensor, terminated: Tensor, filled: Tensor, v_next: Tensor, gamma: float) -> Tensor:
    """The discounted rewards to the end; a truncated episode adds its final value. Shapes as in lambda_return."""
    return lambda_return(rewards, terminated, filled, v_next, gamma, 1.0)


def n_step_return(
    rewards: Tensor, terminated: Tensor, filled: Tensor, v_next: Tensor, gamma: float, n_step: int
) -> Tensor:
    """G^(n) = r[t] + gamma r[t+1] + ... + gamma^n v[t+n], below equation 9; SMIX(n) of the paper's section VI.

    An episode that ends sooner ends the sum: with nothing after a termination, with the final value after a
    truncation. Shapes as in lambda_return.
    """
    rewards, discount, v_next = _clean(rewards, terminated, filled, v_next, gamma)
    goes_on = torch.zeros_like(filled)
    goes_on[..., :-1, :] = filled[..., 1:, :]
    returns = rewards + discount * v_next
    for _ in range(min(n_step, rewards.shape[-2]) - 1):
        shifted = torch.cat((returns[..., 1:, :], returns[..., -1:, :]), dim=-2)
        returns = rewards + discount * torch.where(goes_on, shifted, v_next)
    return returns


def _clean(
    rewards: Tensor, terminated: Tensor, filled: Tensor, v_next: Tensor, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(rewards, discount, v_next), all of v_next's shape, with zeros wherever a value must not count."""
    assert rewards.shape == terminated.shape == filled.shape, (rewards.shape, terminated.shape, filled.shape)
    assert rewards.shape[:-1] == v_next.shape[:-1] and rewards.shape[-1] == 1, (rewards.shape, v_next.shape)
    bootstraps = filled & ~terminated
    # where, not a product: 0 * NaN is NaN.
    v_next = torch.where(bootstraps, v_next, v_next.new_zeros(()))
    rewards = torch.where(filled, rewards.to(v_next.dtype), v_next.new_zeros(())).expand_as(v_next)
    return rewards, (gamma * bootstraps.to(v_next.dtype)).expand_as(v_next), v_next
