"""COMA (Foerster et al. 2018): a softmax actor, and a centralised critic that tells what each agent's action was worth.

    critic   (Q_i(taken) - y_i)^2, y_i the lambda-return of the target critic's Q_i of the taken actions
    actor    -A_i log pi_i(taken), A_i = Q_i(taken) - sum_a pi_i(a) Q_i(a), held fixed (equation 4)

Q_i(s, (u^-i, .)) is read for all of agent i's own actions at once, the other agents' actions being inputs (section
4.2). pi is the policy that acts, floor included (``exploration.floored``).

The critic's gradient steps come first, then the actor's one, with the new critic, as in the paper's algorithm 1; but
the critic takes one step for a whole batch, where the paper takes one for each time, backwards. The actor learns from
the newest group of episodes alone. COMA's critic does, too; COMA-R's learns from replayed episodes, with the same
return and no importance ratios: our reading of the SMIX paper, which says no more than that COMA-R uses off-policy
data where COMA has lambda-returns of on-policy data only (section VI-D).

Shapes: ``R`` runs, ``M`` nodes, ``E`` edges (:mod:`smix_pz.algorithms.histories`), ``N`` agents, ``A`` actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smix_pz.algorithms.agents import GRUAgent, node_inputs
from smix_pz.algorithms.exploration import Exploration, floored, log_floored, log_softmax
from smix_pz.algorithms.histories import HistoryTree, build_tree, rows
from smix_pz.algorithms.learner import Learner, at_entries, at_times, masked_mean, pick
from smix_pz.algorithms.networks import Parameter, Params, linear, linear_parameters
from smix_pz.algorithms.returns import ReturnEstimator
from smix_pz.config import Hyperparameters
from smix_pz.episodes import EpisodeBatch


@dataclass(frozen=True)
class CounterfactualCritic:
    """A feed-forward network (two hidden layers, ReLU) of one agent's view of the joint action, shared by all agents.

    Its input is the state, the agent's observation and identity, the last joint action and the other agents' actions
    (one-hot; zeros for the last one at the start, and for the agent's own).
    """

    n_agents: int
    n_actions: int
    obs_dim: int
    state_dim: int
    hidden_dim: int = 128

    def parameters(self) -> dict[str, Parameter]:
        """The first layer in one piece for each kind of input, then the others."""
        joint, h = self.n_agents * self.n_actions, self.hidden_dim
        widths = {"obs": self.obs_dim, "id": self.n_agents, "last": joint, "others": joint}
        n_in = self.state_dim + sum(widths.values())
        return {
            "critic.state.weight": Parameter((self.state_dim, h), n_in),
            "critic.state.bias": Parameter((1, h), n_in),
            **{f"critic.{name}.weight": Parameter((width, h), n_in) for name, width in widths.items()},
            **linear_parameters("critic.fc2", h, h),
            **linear_parameters("critic.fc3", h, self.n_actions),
        }

    def __call__(self, params: Params, batch: EpisodeBatch, tree: HistoryTree) -> Tensor:
        """Q_i of each agent's own actions at every edge [R, E, N, A]."""
        n_agents, n_actions = self.n_agents, self.n_actions
        obs, last = node_inputs(batch.obs, batch.actions, tree.nodes)
        actions = at_entries(batch.actions, tree.edges.first).long()
        # Everything but the other agents' actions is a function of the node. Split up, the first layer never sees the
        # long vectors that most agents share.
        one_hot = torch.nn.functional.one_hot(last + 1, n_actions + 1)[..., 1:].flatten(2).to(obs.dtype)
        team = linear(params, "critic.state", at_entries(batch.state, tree.nodes.first))
        team = team + torch.bmm(one_hot, params["critic.last.weight"])
        own = torch.bmm(obs.flatten(1, 2), params["critic.obs.weight"]).unflatten(1, obs.shape[1:3])
        at_nodes = team[:, :, None] + own + params["critic.id.weight"][:, None]
        place = torch.arange(n_agents, device=actions.device) * n_actions
        of_each = rows(params["critic.others.weight"], (actions + place).flatten(1)).unflatten(1, actions.shape[1:])
        not_self = 1.0 - torch.eye(n_agents, dtype=obs.dtype, device=obs.device)
        x = (rows(at_nodes, tree.edge_node) + torch.matmul(not_self, of_each)).flatten(1, 2).relu()
        x = linear(params, "critic.fc2", x).relu()
        return linear(params, "critic.fc3", x).unflatten(1, actions.shape[1:])


class COMALearner(Learner):
    """The learner of COMA and COMA-R, which differ in the episodes that ``update`` is given."""

    learned_by_update = "critic."

    def __init__(
        self,
        agent: GRUAgent,
        state_dim: int,
        returns: ReturnEstimator,
        hyper: Hyperparameters,
        rngs: Sequence[np.random.Generator],
        device: torch.device,
    ) -> None:
        self.critic = CounterfactualCritic(
            agent.n_agents, agent.n_actions, agent.obs_dim, state_dim, hyper.coma_critic_dim
        )
        super().__init__(agent, state_dim, returns, hyper, rngs, device)

    @property
    def exploration(self) -> Exploration:
        """The softmax, whose floor falls."""
        c = self.hyper
        return Exploration("softmax", c.coma_epsilon_start, c.coma_epsilon_finish, c.coma_epsilon_steps)

    def extra_parameters(self) -> dict[str, Parameter]:
        """The critic's."""
        return self.critic.parameters()

    def losses(self, batch: EpisodeBatch, tree: HistoryTree) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic's squared error to the returns [R], and the mean taken value [R].

        The mean is over absent agents as well: the returns before an agent's death go on with its values after it.
        """
        taken = self._taken(self.stack.params, batch, tree)[:, :, :-1]
        with torch.no_grad():
            v_next = self._taken(self.stack.target_params, batch, tree)[:, :, 1:]
            targets = self.returns(batch.rewards, batch.terminated, batch.filled, v_next, self.hyper.gamma)
        loss = masked_mean((taken - targets).square(), batch.filled)
        return loss, {"q_taken": masked_mean(taken.detach(), batch.filled)}

    def update_policy(self, group: EpisodeBatch, epsilon: Tensor) -> dict[str, Tensor]:
        """One gradient step of the actor from the group that it has just played; epsilon [R] is what it played with."""
        loss, metrics = self.policy_losses(group, build_tree(group), epsilon)
        grad_norm = self._descend(loss, "agent.")
        return {"policy_loss": loss.detach(), "policy_grad_norm": grad_norm, **metrics}

    def policy_losses(
        self, batch: EpisodeBatch, tree: HistoryTree, epsilon: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean of -A_i log pi_i(taken) over the decisions of each run [R]; and the mean entropy of pi [R].

        A decision is a step of an agent that has two or more legal actions. Others, absent agents among them, have
        neither advantage nor gradient, and are not counted.
        """
        edges = tree.edges
        actions = at_entries(batch.actions, edges.first)
        avail = at_entries(batch.avail_actions, edges.first)
        logits = rows(self.unroll(batch, tree).agent_qs, tree.edge_node)
        log_policy = log_softmax(logits, avail)
        with torch.no_grad():
            q = self.critic(self.stack.params, batch, tree)
            policy = floored(log_policy, avail, epsilon)
            advantage = pick(q, actions) - (policy * q).sum(-1)
            entropy = -torch.special.xlogy(policy, policy).sum(-1)
        cost = -advantage * log_floored(pick(log_policy, actions), avail, epsilon)
        decides = at_times(avail.sum(-1) > 1, edges.index)[:, :, :-1] & batch.filled
        loss, mean_entropy = (_mean(at_times(x, edges.index)[:, :, :-1], decides) for x in (cost, entropy))
        return loss, {"policy_entropy": mean_entropy}

    def taken_values(self, batch: EpisodeBatch, tree: HistoryTree) -> Tensor:
        """The critic's Q_i of the actions in the batch [R, B, T+1, N]: N estimates of one joint action's value."""
        return self._taken(self.stack.params, batch, tree)

    def _taken(self, params: Params, batch: EpisodeBatch, tree: HistoryTree) -> Tensor:
        edges = tree.edges
        return at_times(pick(self.critic(params, batch, tree), at_entries(batch.actions, edges.first)), edges.index)


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean over the entries that count, 0 if there are none: values, counted [R, B, T, N] -> [R]."""
    kept = torch.where(counted, values, values.new_zeros(()))
    return kept.sum((1, 2, 3)) / counted.sum((1, 2, 3)).clamp(min=1)
