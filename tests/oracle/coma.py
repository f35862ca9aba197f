"""COMA of one run as the paper writes it: one episode, time, agent and action after the other, on torch.nn modules.

Nothing here knows about run stacks, trees of histories, split layers or masks inside tensors. The critic reads one long
vector for each agent; its target is the sum over n of the SMIX paper's equation 9; the policy is written out from its
exponentials. ``load`` takes one run's parameters under the package's names; ``layout`` and ``gradients`` return them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from oracle.dense import DenseNetworks, Picture, conv_names, torchs_optimizer
from oracle.returns import lambda_sum
from torch import Tensor, nn

from smix_pz.config import Hyperparameters
from smix_pz.episodes import EpisodeBatch

FIRST_LAYER = ("state", "obs", "id", "last", "others")  # the package's parts of it, in the order of our vector


class LoopCritic(nn.Module):
    """Q of each of one agent's own actions, from one vector."""

    def __init__(
        self,
        hyper: Hyperparameters,
        n_agents: int,
        n_actions: int,
        obs_dim: int,
        state_dim: int,
        picture: Picture | None = None,
    ) -> None:
        super().__init__()
        self.n_agents, self.n_actions, self.picture = n_agents, n_actions, picture
        self.conv = None if picture is None else picture.convolutions()
        features = obs_dim if picture is None else picture.n_features
        self.widths = [state_dim, features, n_agents, n_agents * n_actions, n_agents * n_actions]
        h = hyper.coma_critic_dim
        self.net = nn.Sequential(
            nn.Linear(sum(self.widths), h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, n_actions)
        )

    def at(self, batch: EpisodeBatch, b: int, t: int, i: int) -> Tensor:
        """[A], from episodes [B, ...] (no run axis)."""
        obs = batch.obs[b, t, i].double()
        if self.conv is not None:
            assert self.picture is not None
            obs = self.conv(self.picture.images(obs, torch.float64))[0]
        numbers = [float(j == i) for j in range(self.n_agents)]
        for j in range(self.n_agents):
            before = int(batch.actions[b, t - 1, j]) if t > 0 else None
            numbers += [float(a == before) for a in range(self.n_actions)]
        for j in range(self.n_agents):
            now = int(batch.actions[b, t, j]) if j != i else None
            numbers += [float(a == now) for a in range(self.n_actions)]
        return self.net(torch.cat((batch.state[b, t], obs, torch.tensor(numbers, dtype=torch.float64))))

    def layout(self, of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Every parameter, or what ``of`` makes of it, under the package's name and in its shape."""
        first, second, third = self.net[0], self.net[2], self.net[4]
        parts = of(first.weight).T.split(self.widths)
        found = {f"critic.{name}.weight": part for name, part in zip(FIRST_LAYER, parts, strict=True)}
        found["critic.state.bias"] = of(first.bias)[None]
        found |= {f"critic.{name}": of(weight) for name, weight in conv_names(self).items()}
        for name, layer in (("fc2", second), ("fc3", third)):
            found |= {f"critic.{name}.weight": of(layer.weight).T, f"critic.{name}.bias": of(layer.bias)[None]}
        return found

    def load(self, params: Mapping[str, Tensor]) -> None:
        """Take one run's parameters."""
        with torch.no_grad():
            self.net[0].weight.copy_(torch.cat([params[f"critic.{name}.weight"] for name in FIRST_LAYER]).T)
            self.net[0].bias.copy_(params["critic.state.bias"][0])
            for name, weight in conv_names(self).items():
                weight.copy_(params[f"critic.{name}"])
            for name, layer in (("fc2", self.net[2]), ("fc3", self.net[4])):
                layer.weight.copy_(params[f"critic.{name}.weight"].T)
                layer.bias.copy_(params[f"critic.{name}.bias"][0])


class LoopCOMA:
    """Actor, critic, target critic and the two optimizers."""

    def __init__(
        self, hyper: Hyperparameters, td_lambda: float, shape: Mapping[str, int], picture: Picture | None = None
    ) -> None:
        self.hyper, self.td_lambda = hyper, td_lambda
        sizes = (shape["n_agents"], shape["n_actions"], shape["obs_dim"], shape["state_dim"])
        self.actor = DenseNetworks("none", hyper, *sizes, picture).double()
        self.critic = LoopCritic(hyper, *sizes, picture).double()
        self.target = copy.deepcopy(self.critic)
        self.optimizers = [torchs_optimizer(net, hyper) for net in (self.critic, self.actor)]

    def load(self, params: Mapping[str, Tensor]) -> None:
        """Online and target parameters."""
        self.actor.load({name: p for name, p in params.items() if name.startswith("agent.")})
        self.critic.load(params)
        self.sync_target()

    def sync_target(self) -> None:
        """Copy the critic to the target critic."""
        self.target.load_state_dict(self.critic.state_dict())

    def layout(self, of: Callable[[Tensor], Tensor] = Tensor.detach) -> dict[str, Tensor]:
        """All parameters."""
        return {**self.actor.layout(of), **self.critic.layout(of)}

    def gradients(self) -> dict[str, Tensor]:
        """Gradients of the newest updates, after clipping."""
        return self.layout(lambda p: torch.zeros_like(p) if p.grad is None else p.grad)

    def update_critic(self, batch: EpisodeBatch) -> tuple[float, float]:
        """One step of the critic from episodes [B, ...]: loss and gradient norm.

        Sequential: one step for each time from the last to the first, towards the same returns; means of both.
        """
        costs = self.critic_costs(batch)
        if self.hyper.coma_critic_update == "batch":
            every = [cost() for row in costs.values() for cost in row]
            return self._step(self.critic, self.optimizers[0], sum(every) / len(every))  # type: ignore[arg-type]
        found = []
        for t in sorted(costs, reverse=True):
            here = [cost() for cost in costs[t]]
            loss, norm = self._step(self.critic, self.optimizers[0], sum(here) / len(here))  # type: ignore[arg-type]
            found.append((loss, norm, len(here)))
        weight = sum(n for *_, n in found)
        return sum(loss * n for loss, _, n in found) / weight, sum(norm for _, norm, _ in found) / len(found)

    def update_policy(self, batch: EpisodeBatch, epsilon: float) -> tuple[float, float]:
        """One step of the actor."""
        return self._step(self.actor, self.optimizers[1], self.policy_loss(batch, epsilon))

    def _step(self, net: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> tuple[float, float]:
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), self.hyper.grad_clip)
        optimizer.step()
        return float(loss.detach()), float(norm)

    def critic_costs(self, batch: EpisodeBatch) -> dict[int, list[Callable[[], Tensor]]]:
        """By time: (Q_i(taken) - y_i)^2 of every step and agent, the returns known, Q_i to be asked for."""
        costs: dict[int, list[Callable[[], Tensor]]] = {}
        for b, length in enumerate(lengths(batch)):
            rewards = batch.rewards[b, :length, 0].tolist()
            for i in range(self.critic.n_agents):
                taken = batch.actions[b, :, i].tolist()
                with torch.no_grad():
                    values = [float(self.target.at(batch, b, t, i)[taken[t]]) for t in range(length)]
                    ended = bool(batch.terminated[b, length - 1])
                    values.append(0.0 if ended else float(self.target.at(batch, b, length, i)[taken[length]]))
                for t in range(length):
                    y = lambda_sum(rewards, values, t, self.hyper.gamma, self.td_lambda)
                    costs.setdefault(t, []).append(
                        lambda b=b, t=t, i=i, a=taken[t], y=y: (self.critic.at(batch, b, t, i)[a] - y) ** 2
                    )
        return costs

    def policy_loss(self, batch: EpisodeBatch, epsilon: float) -> Tensor:
        """Mean over decisions of -A_i log pi_i(taken)."""
        logits, _ = self.actor.unroll(batch.obs, batch.actions)
        total, decisions = torch.zeros((), dtype=torch.float64), 0
        for b, length in enumerate(lengths(batch)):
            for t in range(length):
                for i in range(self.critic.n_agents):
                    legal = [a for a in range(self.critic.n_actions) if batch.avail_actions[b, t, i, a]]
                    if len(legal) == 1:
                        continue  # an absent agent, or one without a choice
                    pi = bounded_softmax({a: logits[b, t, i, a] for a in legal}, epsilon)
                    with torch.no_grad():
                        q = self.critic.at(batch, b, t, i)
                    taken = int(batch.actions[b, t, i])
                    advantage = float(q[taken] - sum(pi[a].detach() * q[a] for a in legal))
                    total = total - advantage * torch.log(pi[taken])
                    decisions += 1
        return total / decisions


def bounded_softmax(logits: Mapping[int, Tensor], epsilon: float) -> dict[int, Tensor]:
    """(1 - epsilon) softmax + epsilon / n over the n legal actions, by action."""
    weights = {a: torch.exp(z) for a, z in logits.items()}
    total = sum(weights.values())
    return {a: (1 - epsilon) * w / total + epsilon / len(weights) for a, w in weights.items()}


def lengths(batch: EpisodeBatch) -> list[int]:
    """Transitions of each episode."""
    return [int(filled.sum()) for filled in batch.filled]
