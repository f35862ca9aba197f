"""QTRAN-base (Son et al. 2019): a free joint value Q_jt, and agents' values bound to it by two losses.

    td    (Q_jt(taken) - y)^2, y from the return estimator over the target Q_jt
    opt   (sum_i Q_i(greedy) - Q_jt(greedy) + V)^2, Q_jt held fixed
    nopt  min(0, sum_i Q_i(taken) - Q_jt(taken) + V)^2, Q_jt held fixed

Q_jt reads the state and the sum over agents of an encoding of (hidden state, action); V reads the state.
QTRAN-R changes y alone: the lambda-return of the target Q_jt at the taken joint actions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from smix_pz.algorithms.histories import HistoryTree, rows
from smix_pz.algorithms.learner import at_entries, at_times, greedy_actions, masked_mean, pick
from smix_pz.algorithms.networks import Parameter, Params, linear, linear_parameters
from smix_pz.algorithms.q_learner import Outputs, QLearner
from smix_pz.episodes import EpisodeBatch


class QTRANLearner(QLearner):
    """The learner of QTRAN and QTRAN-R."""

    def extra_parameters(self) -> dict[str, Parameter]:
        """Action encoding, joint value and state value networks."""
        encoded = self.agent.hidden_dim + self.agent.n_actions
        embed = self.hyper.qtran_embed_dim
        return {
            **linear_parameters("joint.encode1", encoded, encoded),
            **linear_parameters("joint.encode2", encoded, encoded),
            **linear_parameters("joint.q1", self.state_dim + encoded, embed),
            **linear_parameters("joint.q2", embed, embed),
            **linear_parameters("joint.q3", embed, 1),
            **linear_parameters("joint.v1", self.state_dim, embed),
            **linear_parameters("joint.v2", embed, embed),
            **linear_parameters("joint.v3", embed, 1),
        }

    def losses(self, batch: EpisodeBatch, tree: HistoryTree) -> tuple[Tensor, dict[str, Tensor]]:
        """td + w_opt opt + w_nopt nopt: [R], and the mean taken joint value [R]."""
        online, hyper = self.stack.params, self.hyper
        nodes, edges, filled = tree.nodes, tree.edges, batch.filled
        state = at_entries(batch.state, nodes.first)
        edge_actions = at_entries(batch.actions, edges.first)
        values = self.unroll(batch, tree)
        agent_qs, hidden = values.agent_qs, values.hidden

        # td: the joint value of what was done, towards the return.
        joint_taken = self._joint_q(online, rows(state, tree.edge_node), rows(hidden, tree.edge_node), edge_actions)
        taken = at_times(joint_taken, edges.index)[:, :, :-1]
        td = masked_mean((taken - self.targets(batch, tree, values)).square(), filled)

        # opt and nopt: agents' values follow the joint value, which takes no gradient from them.
        with torch.no_grad():
            best = greedy_actions(agent_qs, at_entries(batch.avail_actions, nodes.first))
            joint_best = self._joint_q(online, state, hidden, best)
        v = self._state_v(online, state)
        opt_error = pick(agent_qs, best).sum(-1, keepdim=True) - joint_best + v
        opt = masked_mean(at_times(opt_error, nodes.index)[:, :, :-1].square(), filled)
        sum_taken = pick(rows(agent_qs, tree.edge_node), edge_actions).sum(-1, keepdim=True)
        nopt_error = (sum_taken - joint_taken.detach() + rows(v, tree.edge_node)).clamp(max=0.0)
        nopt = masked_mean(at_times(nopt_error, edges.index)[:, :, :-1].square(), filled)

        loss = td + hyper.qtran_opt_weight * opt + hyper.qtran_nopt_weight * nopt
        return loss, {"q_taken": masked_mean(taken.detach(), filled)}

    def team_values(self, params: Params, outputs: Outputs, state: Tensor, actions: Tensor) -> Tensor:
        """Q_jt [R, L, 1]."""
        return self._joint_q(params, state, outputs.hidden, actions)

    def _joint_q(self, params: Params, state: Tensor, hidden: Tensor, actions: Tensor) -> Tensor:
        """state [R, L, S], hidden [R, L, N, H], actions [R, L, N] -> Q_jt [R, L, 1]."""
        x = torch.cat((hidden, one_hot(actions.long(), self.agent.n_actions).to(hidden.dtype)), dim=-1)
        x = linear(params, "joint.encode1", x.flatten(1, 2)).relu()
        x = linear(params, "joint.encode2", x).unflatten(1, hidden.shape[1:3]).sum(2)
        return _mlp(params, "joint.q", torch.cat((state, x), dim=-1))

    def _state_v(self, params: Params, state: Tensor) -> Tensor:
        """state [R, L, S] -> V [R, L, 1]."""
        return _mlp(params, "joint.v", state)


def _mlp(params: Params, prefix: str, x: Tensor) -> Tensor:
    x = linear(params, f"{prefix}1", x).relu()
    x = linear(params, f"{prefix}2", x).relu()
    return linear(params, f"{prefix}3", x)
