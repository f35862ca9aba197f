"""COMA (Foerster et al. 2018): a softmax actor, and a centralised critic that tells what each agent's action was worth.

    critic   (Q_i(taken) - y_i)^2, y_i the lambda-return of the target critic's Q_i of the taken actions
    actor    -A_i log pi_i(taken), A_i = Q_i(taken) - sum_a pi_i(a) Q_i(a), held fixed (equation 4)

Q_i(s, (u^-i, .)) is read for all of agent i's own actions at once, the other agents' actions being inputs (section
4.2). pi is the policy that acts, floor included (``exploration.floored``).

The critic's gradient steps come first, then the actor's one, with the new critic, as in the paper's algorithm 1. The
critic takes one step for a whole batch, or, as in the paper, one for each time, backwards (``coma_critic_update``). The
actor learns from the newest group of episodes alone. COMA's critic does, too; COMA-R's learns from replayed episodes,
with the same return and no importance ratios: our reading of the SMIX paper, which says no more than that COMA-R uses
off-policy data where COMA has lambda-returns of on-policy data only (section VI-D).

Shapes: ``R`` runs, ``E`` edges (:mod:`smix_pz.algorithms.histories`), ``N`` agents, ``A`` actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from smix_pz.algorithms.agents import Agent, node_inputs
from smix_pz.algorithms.encoders import Encoder
from smix_pz.algorithms.exploration import Exploration, floored, log_floored, log_softmax
from smix_pz.algorithms.histories import HistoryTree, build_tree, rows
from smix_pz.algorithms.learner import Learner, at_entries, at_times, pick
from smix_pz.algorithms.networks import Parameter, Params, linear, linear_parameters
from smix_pz.algorithms.returns import ReturnEstimator
from smix_pz.algorithms.threads import share
from smix_pz.config import Hyperparameters
from smix_pz.episodes import EpisodeBatch


@dataclass(frozen=True)
class CounterfactualCritic:
    """A feed-forward network (two hidden layers, ReLU) of one agent's view of the joint action, shared by all agents.

    Its input is the state, the agent's observation and identity, the last joint action and the other agents' actions
    (one-hot; zeros for the last one at the start, and for the agent's own). Images are read by a CNN of its own.

    Attributes:
        encoder: what reads the observations; None: they are read as they are.
    """

    n_agents: int
    n_actions: int
    obs_dim: int
    state_dim: int
    hidden_dim: int = 128
    encoder: Encoder | None = None

    def parameters(self) -> dict[str, Parameter]:
        """The encoder, the first layer in one piece for each kind of input, then the others."""
        joint, h = self.n_agents * self.n_actions, self.hidden_dim
        obs_width = self.obs_dim if self.encoder is None else self.encoder.width
        widths = {"obs": obs_width, "id": self.n_agents, "last": joint, "others": joint}
        n_in = self.state_dim + sum(widths.values())
        return {
            **({} if self.encoder is None else self.encoder.parameters()),
            "critic.state.weight": Parameter((self.state_dim, h), n_in),
            "critic.state.bias": Parameter((1, h), n_in),
            **{f"critic.{name}.weight": Parameter((width, h), n_in) for name, width in widths.items()},
            **linear_parameters("critic.fc2", h, h),
            **linear_parameters("critic.fc3", h, self.n_actions),
        }

    def __call__(self, params: Params, state: Tensor, obs: Tensor, last_actions: Tensor, actions: Tensor) -> Tensor:
        """Q_i of each agent's own actions at L places.

        state [R, L, S], obs [R, L, N, O], last_actions [R, L, N] (-1 before the first), actions [R, L, N] ->
        [R, L, N, A].
        """
        features = obs.flatten(1, 2)
        if self.encoder is not None:
            features = self.encoder(params, features)
        # Split up, the first layer never sees the long vectors that all agents share.
        last = one_hot(last_actions + 1, self.n_actions + 1)[..., 1:].flatten(2).to(features.dtype)
        team = linear(params, "critic.state", state) + torch.bmm(last, params["critic.last.weight"])
        own = torch.bmm(features, params["critic.obs.weight"]).unflatten(1, obs.shape[1:3])
        place = torch.arange(self.n_agents, device=obs.device) * self.n_actions
        of_each = rows(params["critic.others.weight"], (actions.long() + place).flatten(1)).unflatten(
            1, actions.shape[1:]
        )
        not_self = 1.0 - torch.eye(self.n_agents, dtype=features.dtype, device=obs.device)
        x = team[:, :, None] + own + params["critic.id.weight"][:, None] + torch.matmul(not_self, of_each)
        x = linear(params, "critic.fc2", x.flatten(1, 2).relu()).relu()
        return linear(params, "critic.fc3", x).unflatten(1, actions.shape[1:])


class COMALearner(Learner):
    """The learner of COMA and COMA-R, which differ in the episodes that ``update`` is given."""

    learned_by_update = "critic."

    def __init__(
        self,
        agent: Agent,
        state_dim: int,
        returns: ReturnEstimator,
        hyper: Hyperparameters,
        rngs: Sequence[np.random.Generator],
        device: torch.device,
    ) -> None:
        encoder = agent.make_encoder("critic")
        self.critic = CounterfactualCritic(
            agent.n_agents, agent.n_actions, agent.obs_dim, state_dim, hyper.coma_critic_dim, encoder
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
        # Not masked_mean: a small group can have broken down whole, and then there is nothing to divide by.
        loss = _mean((taken - self._targets(batch, tree)).square(), batch.filled)
        return loss, {"q_taken": _mean(taken.detach(), batch.filled)}

    @property
    def _can_split(self) -> bool:
        return super()._can_split and self.hyper.coma_critic_update == "batch"

    def _step(self, batch: EpisodeBatch, tree: HistoryTree) -> dict[str, Tensor]:
        if self.hyper.coma_critic_update == "batch":
            return super()._step(batch, tree)
        return self._step_backwards(batch, tree)

    def _step_backwards(self, batch: EpisodeBatch, tree: HistoryTree) -> dict[str, Tensor]:
        """One gradient step of the critic for each time, from the last to the first, with the returns as they were.

        Returns means over all steps of the episodes; grad_norm is the mean over gradient steps.
        """
        targets, inputs, edges = self._targets(batch, tree), _critic_inputs(batch, tree), tree.edges
        found: list[tuple[Tensor, ...]] = []
        for t in range(batch.n_steps - 1, -1, -1):
            filled = batch.filled[:, :, t : t + 1]
            n_filled = filled.sum((1, 2, 3))
            idle = n_filled == 0
            if idle.all():
                continue
            start, end = edges.bounds[t : t + 2]
            here = [x[:, start:end] for x in inputs]
            chosen = pick(self.critic(self.stack.params, *here), here[-1])
            taken = at_times(chosen, edges.index[:, :, t : t + 1] - start)
            loss = _mean((taken - targets[:, :, t : t + 1]).square(), filled)
            # A run whose episodes have all ended takes no step, as if it were alone.
            grad_norm = self._descend(loss, self.learned_by_update, idle)
            found.append((n_filled, loss.detach(), _mean(taken.detach(), filled), grad_norm))
        counts, loss, q_taken, grad_norm = (torch.stack(values) for values in zip(*found, strict=True))
        share = counts / counts.sum(0).clamp(min=1)
        return {
            "loss": (loss * share).sum(0),
            "grad_norm": grad_norm.sum(0) / (counts > 0).sum(0).clamp(min=1),
            "q_taken": (q_taken * share).sum(0),
        }

    def _targets(self, batch: EpisodeBatch, tree: HistoryTree) -> Tensor:
        """The lambda-returns of the target critic's taken values [R, B, T, N]."""
        with torch.no_grad():
            v_next = self._taken(self.stack.target_params, batch, tree)[:, :, 1:]
            return self.returns(batch.rewards, batch.terminated, batch.filled, v_next, self.hyper.gamma)

    def update_policy(self, group: EpisodeBatch, epsilon: Tensor) -> dict[str, Tensor]:
        """One gradient step of the actor from the group that it has just played; epsilon [R] is what it played with."""
        parts = self._parts(group.actions)
        found = share(partial(part._step_policy, group.runs(at), epsilon[at]) for at, part in parts)
        return {name: torch.cat([metrics[name] for metrics in found]) for name in found[0]}

    def _step_policy(self, group: EpisodeBatch, epsilon: Tensor) -> dict[str, Tensor]:
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
            q = self.critic(self.stack.params, *_critic_inputs(batch, tree))
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
        inputs = _critic_inputs(batch, tree)
        return at_times(pick(self.critic(params, *inputs), inputs[-1]), tree.edges.index)


def _critic_inputs(batch: EpisodeBatch, tree: HistoryTree) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """State [R, E, S], observations [R, E, N, O], last actions and actions [R, E, N] at the edges."""
    first = tree.edges.first
    obs, last_actions = node_inputs(batch.obs, batch.actions, tree.edges)
    return at_entries(batch.state, first), obs, last_actions, at_entries(batch.actions, first)


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean over the entries that count, 0 if there are none: values [R, B, T, N], counted [R, B, T, N or 1] -> [R]."""
    counted = counted.expand_as(values)
    kept = torch.where(counted, values, values.new_zeros(()))
    return kept.sum((1, 2, 3)) / counted.sum((1, 2, 3)).clamp(min=1)
