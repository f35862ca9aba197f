"""The value learner: IQL, VDN, QMIX, SMIX(lambda) and their variants, which differ in mixer and estimator only.

Loss: the masked mean of (y - Q_tot(taken))^2 (SMIX paper, equation 11), y from the return estimator.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from smix_pz.algorithms.agents import Agent
from smix_pz.algorithms.histories import HistoryTree
from smix_pz.algorithms.learner import masked_mean, pick
from smix_pz.algorithms.mixers import MIXERS
from smix_pz.algorithms.networks import Parameter, Params
from smix_pz.algorithms.q_learner import Outputs, QLearner
from smix_pz.algorithms.returns import ReturnEstimator
from smix_pz.config import Hyperparameters
from smix_pz.episodes import EpisodeBatch


class ValueLearner(QLearner):
    """Agents x mixer x return estimator."""

    def __init__(
        self,
        agent: Agent,
        state_dim: int,
        mixer: str,
        returns: ReturnEstimator,
        hyper: Hyperparameters,
        rngs: Sequence[np.random.Generator],
        device: torch.device,
    ) -> None:
        self.mixer = MIXERS[mixer](agent.n_agents, state_dim, hyper.mixing_embed_dim, hyper.hypernet_layers)
        super().__init__(agent, state_dim, returns, hyper, rngs, device)

    def extra_parameters(self) -> dict[str, Parameter]:
        """The mixer's."""
        return self.mixer.parameters()

    def losses(self, batch: EpisodeBatch, tree: HistoryTree) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error to the returns: [R], and the mean taken value [R]."""
        values = self.unroll(batch, tree)
        q_taken = self.taken(self.stack.params, (values.agent_qs, values.hidden), batch, tree)[:, :, :-1]
        loss = masked_mean((q_taken - self.targets(batch, tree, values)).square(), batch.filled)
        return loss, {"q_taken": masked_mean(q_taken.detach(), batch.filled)}

    def team_values(self, params: Params, outputs: Outputs, state: Tensor, actions: Tensor) -> Tensor:
        """The mixer of the agents' values of their actions [R, L, X]."""
        return self.mixer(params, pick(outputs.qs, actions), state)

    def expected_values(self, params: Params, outputs: Outputs, state: Tensor, policy: Tensor) -> Tensor:
        """The expectation over joint actions [R, L, X].

        Where the mixer is linear (none, sum) it is the mixer of the agents' expectations, and exact. For other mixers
        ``expectation`` "mean-field" takes the same for an approximation, whose error is the mixer's curvature, and
        "exact" sums over joint actions.
        """
        if self.mixer.is_linear or self.hyper.expectation == "mean-field":
            return self.mixer(params, (policy * outputs.qs).sum(-1), state)
        return super().expected_values(params, outputs, state, policy)
