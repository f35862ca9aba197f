"""The value learner: IQL, VDN, QMIX, SMIX(lambda) and their variants, which differ in mixer and estimator only.

Loss: the masked mean of (y - Q_tot(taken))^2 (SMIX paper, equation 11), y from the return estimator.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from smix_pz.algorithms.agents import GRUAgent, Unrolled
from smix_pz.algorithms.histories import HistoryTree, rows
from smix_pz.algorithms.learner import Learner, at_entries, at_times, greedy_actions, masked_mean, pick
from smix_pz.algorithms.mixers import MIXERS
from smix_pz.algorithms.networks import Parameter, Params
from smix_pz.algorithms.returns import ReturnEstimator
from smix_pz.config import Hyperparameters
from smix_pz.episodes import EpisodeBatch


class ValueLearner(Learner):
    """Agents x mixer x return estimator."""

    def __init__(
        self,
        agent: GRUAgent,
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
        q_taken = self._mix_taken(self.stack.params, values.agent_qs, batch, tree)[:, :, :-1]
        with torch.no_grad():
            v_next = self._bootstrap(values, batch, tree)[:, :, 1:]
            targets = self.returns(batch.rewards, batch.terminated, batch.filled, v_next, self.hyper.gamma)
        loss = masked_mean((q_taken - targets).square(), batch.filled)
        return loss, {"q_taken": masked_mean(q_taken.detach(), batch.filled)}

    def taken_values(self, batch: EpisodeBatch, tree: HistoryTree) -> Tensor:
        """Q_tot of the actions in the batch [R, B, T+1, X]."""
        return self._mix_taken(self.stack.params, self.unroll(batch, tree).agent_qs, batch, tree)

    def _mix_taken(self, params: Params, agent_qs: Tensor, batch: EpisodeBatch, tree: HistoryTree) -> Tensor:
        """agent_qs [R, M, N, A] at the nodes -> Q_tot of the taken actions [R, B, T+1, X]."""
        edges = tree.edges
        chosen = pick(rows(agent_qs, tree.edge_node), at_entries(batch.actions, edges.first))
        return at_times(self.mixer(params, chosen, at_entries(batch.state, edges.first)), edges.index)

    def _bootstrap(self, values: Unrolled, batch: EpisodeBatch, tree: HistoryTree) -> Tensor:
        """The target network's value that a return continues with at each time [R, B, T+1, X]."""
        params, nodes = self.stack.target_params, tree.nodes
        if self.returns.bootstrap == "taken":
            return self._mix_taken(params, values.target_qs, batch, tree)
        deciding = values.agent_qs if self.hyper.double_q else values.target_qs
        best = greedy_actions(deciding, at_entries(batch.avail_actions, nodes.first))
        mixed = self.mixer(params, pick(values.target_qs, best), at_entries(batch.state, nodes.first))
        return at_times(mixed, nodes.index)
