"""The usual way to write this learner: one run, torch.nn modules, autograd, every padded step. A yardstick only."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from smix_pz.algorithms.learner import greedy_actions, masked_mean, pick
from smix_pz.episodes import EpisodeBatch
from smix_pz.training import Trainer


class Networks(nn.Module):
    """Shared GRU agents and a QMIX mixer, from torch.nn alone."""

    def __init__(self, n_in: int, n_agents: int, n_actions: int, state_dim: int, hidden: int = 64, embed: int = 32):
        super().__init__()
        self.n_agents, self.n_actions, self.embed = n_agents, n_actions, embed
        self.fc_in, self.gru, self.fc_out = (
            nn.Linear(n_in, hidden),
            nn.GRUCell(hidden, hidden),
            nn.Linear(hidden, n_actions),
        )
        self.w1, self.w2 = nn.Linear(state_dim, n_agents * embed), nn.Linear(state_dim, embed)
        self.b1 = nn.Linear(state_dim, embed)
        self.v = nn.Sequential(nn.Linear(state_dim, embed), nn.ReLU(), nn.Linear(embed, 1))

    def agent_qs(self, obs: Tensor, actions: Tensor) -> Tensor:
        """obs [B, T+1, N, O], actions [B, T+1, N] -> [B, T+1, N, A], one step after the other."""
        n_episodes, n_times = obs.shape[:2]
        last = nn.functional.one_hot(actions, self.n_actions).float()
        last = torch.cat((torch.zeros_like(last[:, :1]), last[:, :-1]), dim=1)
        ids = torch.eye(self.n_agents).expand(n_episodes, n_times, -1, -1)
        x = torch.cat((obs, last, ids), dim=-1)
        hidden = x.new_zeros(n_episodes * self.n_agents, self.gru.hidden_size)
        out = []
        for t in range(n_times):
            hidden = self.gru(torch.relu(self.fc_in(x[:, t].flatten(0, 1))), hidden)
            out.append(self.fc_out(hidden).unflatten(0, (n_episodes, self.n_agents)))
        return torch.stack(out, dim=1)

    def mix(self, qs: Tensor, state: Tensor) -> Tensor:
        """qs [B, T, N], state [B, T, S] -> [B, T, 1]."""
        w1 = self.w1(state).abs().unflatten(-1, (self.n_agents, self.embed))
        hidden = nn.functional.elu((qs[..., None] * w1).sum(-2) + self.b1(state))
        return (hidden * self.w2(state).abs()).sum(-1, keepdim=True) + self.v(state)


class NaiveLearner:
    """QMIX or SMIX(lambda), one run."""

    def __init__(self, trainer: Trainer) -> None:
        agent, self.hyper, self.returns = trainer.learner.agent, trainer.config, trainer.learner.returns
        self.stack, self.agent, self.exploration = trainer.learner.stack, agent, trainer.learner.exploration
        self.online = Networks(agent.input_dim, agent.n_agents, agent.n_actions, trainer.spec.state_dim)
        self.target = copy.deepcopy(self.online)
        h = self.hyper
        self.optimizer = torch.optim.RMSprop(
            self.online.parameters(), h.learning_rate, *h.optimizer_settings().values()
        )
        self.n_updates = self.episodes_at_sync = 0

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """One gradient step."""
        one = batch.map(lambda field: field[0])
        actions = one.actions.long()
        qs = self.online.agent_qs(one.obs, actions)
        taken = self.online.mix(pick(qs, actions)[:, :-1], one.state[:, :-1])
        with torch.no_grad():
            target_qs = self.target.agent_qs(one.obs, actions)
            follow = actions if self.returns.bootstrap == "taken" else greedy_actions(qs, one.avail_actions)
            v_next = self.target.mix(pick(target_qs, follow), one.state)[:, 1:]
            goal = self.returns(one.rewards, one.terminated, one.filled, v_next, self.hyper.gamma)
        loss = masked_mean((taken - goal).square()[None], one.filled[None])
        self.optimizer.zero_grad()
        loss.sum().backward()
        norm = nn.utils.clip_grad_norm_(self.online.parameters(), self.hyper.grad_clip)
        self.optimizer.step()
        self.n_updates += 1
        self._show_actor()
        return {"loss": loss.detach(), "grad_norm": norm[None]}

    def update_many(self, batches: EpisodeBatch) -> dict[str, Tensor]:
        """One step after the other."""
        for index in range(len(batches.history)):
            metrics = self.update(batches.batch(index))
        return metrics

    def update_policy(self, group: EpisodeBatch, epsilon: Tensor) -> dict[str, Tensor]:
        """Nothing to learn from the newest group alone."""
        return {}

    def sync_target(self, episodes: int) -> None:
        """Hard copy on the learner's clock."""
        if episodes - self.episodes_at_sync >= self.hyper.target_update_episodes:
            self.target.load_state_dict(self.online.state_dict())
            self.episodes_at_sync = episodes

    def _show_actor(self) -> None:
        """Copy the agents to where the collector acts from (20 microseconds)."""
        net, params = self.online, self.stack.params
        with torch.no_grad():
            for name, weight, bias in (
                ("agent.fc_in", net.fc_in.weight, net.fc_in.bias),
                ("agent.gru_x", net.gru.weight_ih, net.gru.bias_ih),
                ("agent.gru_h", net.gru.weight_hh, net.gru.bias_hh),
                ("agent.fc_out", net.fc_out.weight, net.fc_out.bias),
            ):
                params[f"{name}.weight"][0] = weight.T
                params[f"{name}.bias"][0, 0] = bias

    def select(self, keep: Any) -> None:
        """A single run has nothing to select from."""


def make_naive(trainer: Trainer) -> None:
    """Let the naive learner learn in a trainer of one run.

    Raises:
        ValueError: not QMIX or SMIX, or more than one run.
    """
    if len(trainer.config.seeds) != 1 or trainer.algorithm.mixer != "monotonic":
        raise ValueError(f"the naive learner is one run of qmix or smix, not {trainer.config.algorithm}")
    torch.manual_seed(int(np.uint32(trainer.config.seeds[0])))
    trainer.learner = NaiveLearner(trainer)  # type: ignore[assignment]
