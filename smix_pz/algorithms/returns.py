"""Return estimators: what the value of the taken joint action is trained towards.

All of them are one recursion (Munos et al. 2016, equation 3, written backwards; SMIX paper, equations 7 and 8):

    G[t] = r[t] + discount[t] * (v[t+1] + c[t+1] * (G[t+1] - q[t+1]))

with ``discount = gamma * (1 - terminated)``, ``c = 0`` behind an episode's last filled step, ``q[t]`` the value of the
joint action taken at t, and

=====================  ==========================  ========================  ======================================
estimator              v                           c                         source
=====================  ==========================  ========================  ======================================
one-step               expected under pi           0                         Watkins 1989; expected SARSA
lambda                 q                           lambda                    SMIX paper, equation 9: SARSA(lambda)
n-step                 q                           1 for n - 1 steps, 0      SMIX paper, below equation 9
monte-carlo            q                           1                         lambda-return with lambda = 1
peng                   expected under pi           lambda, and q is v        Peng and Williams 1996
q-lambda               expected under pi           lambda                    Harutyunyan et al. 2016
tree-backup            expected under pi           lambda pi(a)              Precup et al. 2000
retrace                expected under pi           lambda min(1, pi/mu)      Munos et al. 2016
importance-sampling    expected under pi           lambda pi/mu              Precup et al. 2000, per decision
=====================  ==========================  ========================  ======================================

pi is the target policy: every agent's greedy action, or epsilon-greedy around it (``target_epsilon``). mu is the
behaviour that played the episode; its probabilities are stored for each agent when an episode is collected. With q
for v the recursion is the lambda-return ``r + discount * ((1 - c) q + c G)``, SMIX's; there neither pi nor mu appears,
which is what the paper means by importance-sampling-free.

Shapes: ``[..., T, X]`` with ``X`` = 1 (one team value) or N (one value per agent, IQL). ``v_next[..., t, :]`` is the
value at time t+1. Values at steps that are not filled may be anything, NaN included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal[
    "one-step", "lambda", "n-step", "monte-carlo", "peng", "q-lambda", "tree-backup", "retrace", "importance-sampling"
]
Bootstrap = Literal["taken", "expected"]

# name -> one line for people, with the source
ESTIMATORS: dict[Kind, str] = {
    "one-step": "reward and the expected next value under the target policy: Q-learning (Watkins 1989)",
    "lambda": "SMIX's: the lambda-return of taken actions, SARSA(lambda) without importance ratios (Yao et al. 2021)",
    "n-step": "n rewards and the taken action's value: SMIX(n) (Yao et al. 2021)",
    "monte-carlo": "all rewards to the end of the episode; lambda = 1",
    "peng": "the lambda-return of expected values, uncorrected: Q(lambda) (Peng and Williams 1996)",
    "q-lambda": "Q(lambda) with off-policy corrections, no ratios (Harutyunyan et al. 2016)",
    "tree-backup": "traces cut by the target policy's probability (Precup et al. 2000)",
    "retrace": "traces cut by truncated ratios (Munos et al. 2016)",
    "importance-sampling": "per-decision importance sampling with lambda (Precup et al. 2000)",
}
_TAKEN = ("lambda", "n-step", "monte-carlo")
_LAMBDA = ("lambda", "peng", "q-lambda", "tree-backup", "retrace", "importance-sampling")
_CORRECTED = ("q-lambda", "tree-backup", "retrace", "importance-sampling")


@dataclass(frozen=True)
class ReturnEstimator:
    """One row of the table above.

    Attributes:
        kind: its name.
        td_lambda: weight of longer returns, where the kind has one; 0 is one step.
        n_step: number of rewards before the bootstrap, for kind "n-step".
    """

    kind: Kind
    td_lambda: float = 0.8
    n_step: int = 4

    def __post_init__(self) -> None:
        if not 0.0 <= self.td_lambda <= 1.0:
            raise ValueError(f"td_lambda is {self.td_lambda}; it should lie between 0 (one step) and 1")
        if self.n_step < 1:
            raise ValueError(f"n_step is {self.n_step}; it should be 1 or more")

    @property
    def bootstrap(self) -> Bootstrap:
        """What v is: the value of the taken joint action, or the expected value under the target policy."""
        return "taken" if self.kind in _TAKEN else "expected"

    @property
    def has_lambda(self) -> bool:
        """Whether ``td_lambda`` matters."""
        return self.kind in _LAMBDA

    @property
    def is_corrected(self) -> bool:
        """Whether v and q differ beyond one step: then ``q_next`` and ``trace_next`` are needed."""
        return self.kind in _CORRECTED

    @property
    def needs_policy(self) -> bool:
        """Whether the trace depends on the target policy's probability of the taken action."""
        return self.kind in ("tree-backup", "retrace", "importance-sampling")

    @property
    def needs_behaviour(self) -> bool:
        """Whether the trace depends on the stored probabilities of behaviour."""
        return self.kind in ("retrace", "importance-sampling")

    def traces(self, policy: Tensor, behaviour: Tensor | None = None) -> Tensor:
        """c for probabilities of the taken (joint) actions under pi and mu, both [..., X]; mu where it is needed."""
        if self.needs_behaviour:
            assert behaviour is not None, self.kind
            ratio = policy / behaviour
            return self.td_lambda * (ratio.clamp(max=1.0) if self.kind == "retrace" else ratio)
        return self.td_lambda * policy if self.needs_policy else torch.full_like(policy, self.td_lambda)

    def __call__(
        self,
        rewards: Tensor,
        terminated: Tensor,
        filled: Tensor,
        v_next: Tensor,
        gamma: float,
        q_next: Tensor | None = None,
        trace_next: Tensor | None = None,
    ) -> Tensor:
        """Targets [..., T, X] (zero where not filled).

        Args:
            rewards: [..., T, 1] or [..., T, X]; terminated, filled: [..., T, 1]; v_next: [..., T, X].
            q_next, trace_next: [..., T, X], for the corrected kinds alone: value of the joint action taken at time
                t+1, and its c from ``traces``.
        """
        if self.is_corrected:
            assert q_next is not None and trace_next is not None, self.kind
            return corrected_return(rewards, terminated, filled, v_next, gamma, q_next, trace_next)
        if self.kind == "n-step":
            return n_step_return(rewards, terminated, filled, v_next, gamma, self.n_step)
        td_lambda = {"one-step": 0.0, "monte-carlo": 1.0}.get(self.kind, self.td_lambda)
        return lambda_return(rewards, terminated, filled, v_next, gamma, td_lambda)


ONE_STEP = ReturnEstimator("one-step")
LAMBDA_TAKEN = ReturnEstimator("lambda")
N_STEP_TAKEN = ReturnEstimator("n-step")


def corrected_return(
    rewards: Tensor,
    terminated: Tensor,
    filled: Tensor,
    v_next: Tensor,
    gamma: float,
    q_next: Tensor,
    trace_next: Tensor,
) -> Tensor:
    """The off-policy return with any trace, SMIX paper equations 7 and 8; see the head of this module.

    Args:
        rewards, terminated, filled: [..., T, 1]; v_next, q_next, trace_next: [..., T, X]: expected value, value of the
            taken joint action and trace coefficient of that action, all at time t+1.

    Returns:
        [..., T, X], zero where not filled.
    """
    rewards, discount, v_next = _clean(rewards, terminated, filled, v_next, gamma)
    goes_on = torch.zeros_like(filled)
    goes_on[..., :-1, :] = filled[..., 1:, :]
    zero = v_next.new_zeros(())
    trace = (discount * torch.where(goes_on, trace_next, zero)).unbind(-2)
    q_next = torch.where(goes_on, q_next, zero)
    returns = list((rewards + discount * v_next).unbind(-2))
    for t in range(len(returns) - 2, -1, -1):
        # The difference first: ratios can be large, and then trace * G and trace * q would cancel badly.
        returns[t] = torch.addcmul(returns[t], trace[t], returns[t + 1] - q_next[..., t, :])
    return torch.stack(returns, dim=-2)


def lambda_return(
    rewards: Tensor, terminated: Tensor, filled: Tensor, v_next: Tensor, gamma: float, td_lambda: float
) -> Tensor:
    """The lambda-return, SMIX paper equation 9: (1 - lambda) sum_n lambda^(n-1) G^(n), cut at the episode's end.

    Args:
        rewards: [..., T, 1] or [..., T, X]; terminated, filled: [..., T, 1]; v_next: [..., T, X].

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
    assert rewards.shape[:-1] == v_next.shape[:-1] == filled.shape[:-1], (rewards.shape, v_next.shape, filled.shape)
    assert terminated.shape == filled.shape and filled.shape[-1] == 1, (terminated.shape, filled.shape)
    assert rewards.shape[-1] in (1, v_next.shape[-1]), (rewards.shape, v_next.shape)
    bootstraps = filled & ~terminated
    # where, not a product: 0 * NaN is NaN.
    v_next = torch.where(bootstraps, v_next, v_next.new_zeros(()))
    rewards = torch.where(filled, rewards.to(v_next.dtype), v_next.new_zeros(())).expand_as(v_next)
    return rewards, (gamma * bootstraps.to(v_next.dtype)).expand_as(v_next), v_next
