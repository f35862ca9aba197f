"""Learners of action values: from the agents' outputs to what the taken joint actions' values are trained towards.

What they share is here: the target policy, expected values under it, trace coefficients, and the returns
(:mod:`smix_pz.algorithms.returns`). How agents' outputs become the team's value is each learner's own.

Shapes: ``R`` runs, ``B`` episodes, ``T`` transitions, ``M`` nodes (:mod:`smix_pz.algorithms.histories`), ``L`` places,
``N`` agents, ``A`` actions, ``H`` hidden, ``X`` values (1, or N without a mixer).
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from smix_pz.algorithms.agents import Unrolled
from smix_pz.algorithms.exploration import epsilon_greedy
from smix_pz.algorithms.histories import HistoryTree, rows
from smix_pz.algorithms.learner import Learner, at_entries, at_times, greedy_actions, pick
from smix_pz.algorithms.networks import Params
from smix_pz.episodes import EpisodeBatch


@dataclass(frozen=True)
class Outputs:
    """What one network's agents say at the nodes, read from L places; gathered only when it is asked for.

    Attributes:
        at_nodes: values [R, M, N, A] and memories [R, M, N, H].
        place: [R, L], the node of each place; None: the places are the nodes.
    """

    at_nodes: tuple[Tensor, Tensor]
    place: Tensor | None = None

    @property
    def qs(self) -> Tensor:
        """Values [R, L, N, A]."""
        return self._read(0)

    @property
    def hidden(self) -> Tensor:
        """Memories [R, L, N, H]."""
        return self._read(1)

    def _read(self, which: int) -> Tensor:
        found = self.at_nodes[which]
        return found if self.place is None else rows(found, self.place)


class QLearner(Learner):
    """A learner whose agents' outputs are values, and which makes a team value of any joint action from them."""

    @abstractmethod
    def team_values(self, params: Params, outputs: Outputs, state: Tensor, actions: Tensor) -> Tensor:
        """The team's value of L joint actions: [R, L, X].

        params: online or target parameters, and ``outputs`` of that network; state: [R, L, S]; actions: [R, L, N].
        """

    def expected_values(self, params: Params, outputs: Outputs, state: Tensor, policy: Tensor) -> Tensor:
        """The expectation of ``team_values`` over agents that act independently: policy [R, L, N, A] -> [R, L, X].

        Exact, at the price of one evaluation for each of A^N joint actions. A learner that knows better overrides it.
        """
        n_agents, n_actions = policy.shape[-2:]
        total = policy.new_zeros(())
        for joint in itertools.product(range(n_actions), repeat=n_agents):
            actions = torch.tensor(joint, device=policy.device).expand(*policy.shape[:2], -1)
            probability = pick(policy, actions).prod(-1, keepdim=True)
            total = total + probability * self.team_values(params, outputs, state, actions)
        return total

    def taken_values(self, batch: EpisodeBatch, tree: HistoryTree) -> Tensor:
        """Q_tot of the actions in the batch [R, B, T+1, X]."""
        values = self.unroll(batch, tree)
        return self.taken(self.stack.params, (values.agent_qs, values.hidden), batch, tree)

    def taken(self, params: Params, at_nodes: tuple[Tensor, Tensor], batch: EpisodeBatch, tree: HistoryTree) -> Tensor:
        """Likewise, from one network's values and memories at the nodes."""
        edges = tree.edges
        state, actions = at_entries(batch.state, edges.first), at_entries(batch.actions, edges.first)
        return at_times(self.team_values(params, Outputs(at_nodes, tree.edge_node), state, actions), edges.index)

    def targets(self, batch: EpisodeBatch, tree: HistoryTree, values: Unrolled) -> Tensor:
        """What the taken values are trained towards, by estimator and target network: [R, B, T, X], no gradient."""
        estimator, params = self.returns, self.stack.target_params
        at_nodes = values.target_qs, values.target_hidden
        q = trace = None
        with torch.no_grad():
            if estimator.bootstrap == "taken":
                v = self.taken(params, at_nodes, batch, tree)
            else:
                best = self._best(batch, tree, values)
                v = at_times(self._expected(batch, tree, at_nodes, best), tree.nodes.index)
                if estimator.is_corrected:
                    q = self.taken(params, at_nodes, batch, tree)[:, :, 1:]
                    trace = self._traces(batch, tree, best, v.shape[-1])[:, :, 1:]
            v = v[:, :, 1:]
            return estimator(batch.rewards, batch.terminated, batch.filled, v, self.hyper.gamma, q, trace)

    def _best(self, batch: EpisodeBatch, tree: HistoryTree, values: Unrolled) -> Tensor:
        """The target policy's greedy actions at the nodes [R, M, N]: the online network's, or the target network's."""
        deciding = values.agent_qs if self.hyper.double_q else values.target_qs
        return greedy_actions(deciding, at_entries(batch.avail_actions, tree.nodes.first))

    def _expected(
        self, batch: EpisodeBatch, tree: HistoryTree, at_nodes: tuple[Tensor, Tensor], best: Tensor
    ) -> Tensor:
        """The target network's expected value under the target policy at the nodes [R, M, X]."""
        params, outputs, first = self.stack.target_params, Outputs(at_nodes), tree.nodes.first
        state = at_entries(batch.state, first)
        if self.hyper.target_epsilon == 0.0:
            # One joint action, the decentralised greedy one: exact for every mixer, and Q_tot's maximum where that is
            # monotonic (SMIX paper, theorem 2).
            return self.team_values(params, outputs, state, best)
        avail = at_entries(batch.avail_actions, first)
        policy = epsilon_greedy(best, avail, self.hyper.target_epsilon, state.dtype)
        return self.expected_values(params, outputs, state, policy)

    def _traces(self, batch: EpisodeBatch, tree: HistoryTree, best: Tensor, n_values: int) -> Tensor:
        """The estimator's trace coefficient of the actions in the batch [R, B, T+1, X]."""
        estimator, edges, dtype = self.returns, tree.edges, batch.rewards.dtype
        if not estimator.needs_policy:
            constant = batch.rewards.new_full((1,), estimator.td_lambda)
            return constant.expand(*batch.history.shape, n_values)
        actions = at_entries(batch.actions, edges.first)
        avail = at_entries(batch.avail_actions, edges.first)
        policy = epsilon_greedy(rows(best, tree.edge_node), avail, self.hyper.target_epsilon, dtype)
        # Equal histories and actions have one probability under pi, but may have been played under several mu.
        probabilities = [at_times(pick(policy, actions), edges.index)]
        if estimator.needs_behaviour:
            probabilities.append(batch.behaviour)
        if n_values == 1:  # agents act independently: a joint action's probability is the product
            probabilities = [p.prod(-1, keepdim=True) for p in probabilities]
        return estimator.traces(*probabilities)
