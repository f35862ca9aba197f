"""Slow reference learners of one run: torch.nn modules over every padded step, targets in plain Python loops.

Nothing here knows about run stacks, trees of histories or hand-written gradients. ``load`` takes one run's
parameters under the package's names; ``layout`` and ``gradients`` give them back under the same names.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from oracle.returns import lambda_sum, n_step_sum, traced_sum
from torch import Tensor, nn

from smix_pz.algorithms import Algorithm
from smix_pz.config import Hyperparameters
from smix_pz.episodes import EpisodeBatch


@dataclass(frozen=True)
class Picture:
    """Image observations: their shape, which axis holds the channels, layers (features, kernel, stride), and scale."""

    shape: tuple[int, int, int]
    channel_axis: int
    layers: tuple[tuple[int, int, int], ...]
    scale: float = 1.0

    def convolutions(self) -> nn.Sequential:
        """Plain torch.nn layers from [B, C, H, W] to [B, F]."""
        channels = self.shape[self.channel_axis]
        steps: list[nn.Module] = []
        for features, kernel, stride in self.layers:
            steps += [nn.Conv2d(channels, features, kernel, stride), nn.ReLU()]
            channels = features
        return nn.Sequential(*steps, nn.Flatten())

    def images(self, obs: Tensor, dtype: torch.dtype) -> Tensor:
        """obs [..., O] -> [L, C, H, W]."""
        images = obs.reshape(-1, *self.shape).to(dtype) * self.scale
        return images if self.channel_axis == 0 else images.permute(0, 3, 1, 2)

    @property
    def n_features(self) -> int:
        """F, by trying."""
        zeros = torch.zeros(math.prod(self.shape))
        return self.convolutions()(self.images(zeros, torch.float32)).shape[1]


def conv_names(net: nn.Module) -> dict[str, Tensor]:
    """The convolutions' parameters, as the package names them."""
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    return {f"conv{k}.{part}": getattr(layer, part) for k, layer in enumerate(layers) for part in ("weight", "bias")}


class DenseAgent(nn.Module):
    """fc, ReLU, GRU (or fc and ReLU), fc over whole padded sequences, behind plain convolutions for images."""

    def __init__(
        self, n_obs: int, n_beside: int, n_hidden: int, n_actions: int, network: str, picture: Picture | None
    ) -> None:
        super().__init__()
        self.picture = picture
        self.conv = None if picture is None else picture.convolutions()
        self.fc_in = nn.Linear((n_obs if picture is None else picture.n_features) + n_beside, n_hidden)
        self.gru = nn.GRU(n_hidden, n_hidden, batch_first=True) if network == "gru" else None
        self.fc_hidden = nn.Linear(n_hidden, n_hidden) if network == "ff" else None
        self.fc_out = nn.Linear(n_hidden, n_actions)

    def forward(self, obs: Tensor, beside: Tensor) -> tuple[Tensor, Tensor]:
        """obs [B, T+1, O], beside [B, T+1, A + N] -> values [B, T+1, A], hidden [B, T+1, H]."""
        if self.conv is not None:
            assert self.picture is not None
            obs = self.conv(self.picture.images(obs, beside.dtype)).reshape(*obs.shape[:2], -1)
        x = torch.relu(self.fc_in(torch.cat((obs, beside), -1)))
        if self.gru is not None:
            hidden, _ = self.gru(x)
        else:
            assert self.fc_hidden is not None
            hidden = torch.relu(self.fc_hidden(x))
        return self.fc_out(hidden), hidden

    def named(self) -> dict[str, Tensor]:
        """Parameters as the package lays them out, [in, out], gates reset, update, new."""
        weights = {} if self.conv is None else conv_names(self.conv)
        weights |= {"fc_in.weight": self.fc_in.weight, "fc_in.bias": self.fc_in.bias}
        if self.gru is not None:
            weights |= {
                "gru_x.weight": self.gru.weight_ih_l0, "gru_x.bias": self.gru.bias_ih_l0,
                "gru_h.weight": self.gru.weight_hh_l0, "gru_h.bias": self.gru.bias_hh_l0,
            }  # fmt: skip
        if self.fc_hidden is not None:
            weights |= {"fc_hidden.weight": self.fc_hidden.weight, "fc_hidden.bias": self.fc_hidden.bias}
        weights |= {"fc_out.weight": self.fc_out.weight, "fc_out.bias": self.fc_out.bias}
        return {f"agent.{name}": weight for name, weight in weights.items()}


class DenseMixer(nn.Module):
    """QMIX's mixing network: one nn.Linear for each hypernetwork; ``absolute=False`` is the noabs ablation."""

    def __init__(self, n_agents: int, state_dim: int, embed: int, layers: int, absolute: bool) -> None:
        super().__init__()
        self.n_agents, self.embed, self.absolute = n_agents, embed, absolute
        first = n_agents * embed if layers == 1 else 64
        self.w1 = nn.ModuleList([nn.Linear(state_dim, first)])
        self.w2 = nn.ModuleList([nn.Linear(state_dim, embed if layers == 1 else 64)])
        if layers == 2:
            self.w1.append(nn.Linear(64, n_agents * embed))
            self.w2.append(nn.Linear(64, embed))
        self.b1 = nn.Linear(state_dim, embed)
        self.v = nn.Sequential(nn.Linear(state_dim, embed), nn.ReLU(), nn.Linear(embed, 1))

    def forward(self, qs: Tensor, state: Tensor) -> Tensor:
        """qs [..., N], state [..., S] -> [..., 1]."""
        w1, w2 = state, state
        for k, (layer1, layer2) in enumerate(zip(self.w1, self.w2, strict=True)):
            w1, w2 = layer1(w1 if k == 0 else w1.relu()), layer2(w2 if k == 0 else w2.relu())
        if self.absolute:
            w1, w2 = w1.abs(), w2.abs()
        w1 = w1.reshape(*qs.shape[:-1], self.n_agents, self.embed)
        hidden = nn.functional.elu((qs.unsqueeze(-2) @ w1).squeeze(-2) + self.b1(state))
        return (hidden * w2).sum(-1, keepdim=True) + self.v(state)

    def linears(self) -> list[tuple[str, list[nn.Linear]]]:
        """The package's layers, some of which are several of ours side by side."""
        first = ("mixer.hypernet", [self.w1[0], self.w2[0], self.b1, self.v[0]])
        second = [("mixer.w1", [self.w1[1]]), ("mixer.w2", [self.w2[1]])] if len(self.w1) == 2 else []
        return [first, *second, ("mixer.v", [self.v[2]])]  # type: ignore[list-item]


class DenseJoint(nn.Module):
    """QTRAN's joint value, whose action encodings are summed over agents, and its state value."""

    def __init__(self, n_hidden: int, n_actions: int, state_dim: int, embed: int) -> None:
        super().__init__()
        n = n_hidden + n_actions
        self.n_actions = n_actions
        self.encode = nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n))
        self.q, self.v = (
            nn.Sequential(
                nn.Linear(width, embed), nn.ReLU(), nn.Linear(embed, embed), nn.ReLU(), nn.Linear(embed, 1)
            )
            for width in (state_dim + n, state_dim)
        )  # fmt: skip

    def forward(self, state: Tensor, hidden: Tensor, actions: Tensor) -> Tensor:
        """state [..., S], hidden [..., N, H], actions [..., N] -> [..., 1]."""
        taken = nn.functional.one_hot(actions.long(), self.n_actions).to(hidden.dtype)
        encoded = sum(self.encode(torch.cat((hidden[..., i, :], taken[..., i, :]), -1)) for i in range(taken.shape[-2]))
        return self.q(torch.cat((state, encoded), -1))

    def linears(self) -> list[tuple[str, list[nn.Linear]]]:
        """The package's names of the layers."""
        rows = [("encode1", self.encode[0]), ("encode2", self.encode[2])]
        rows += [(f"{net}{k + 1}", getattr(self, net)[2 * k]) for net in ("q", "v") for k in range(3)]
        return [(f"joint.{name}", [layer]) for name, layer in rows]  # type: ignore[list-item]


class DenseNetworks(nn.Module):
    """Agents and mixer (or joint networks) of one run."""

    def __init__(
        self,
        mixer: str,
        hyper: Hyperparameters,
        n_agents: int,
        n_actions: int,
        obs: int,
        state: int,
        picture: Picture | None = None,
    ) -> None:
        super().__init__()
        self.n_agents, self.n_actions, self.kind = n_agents, n_actions, mixer
        sizes = (obs, n_actions + n_agents, hyper.hidden_dim, n_actions)
        n_networks = 1 if hyper.parameter_sharing else n_agents
        self.agents = nn.ModuleList(DenseAgent(*sizes, hyper.agent_network, picture) for _ in range(n_networks))
        self.mixer: nn.Module | None = None
        if mixer in ("monotonic", "unconstrained"):
            self.mixer = DenseMixer(
                n_agents, state, hyper.mixing_embed_dim, hyper.hypernet_layers, mixer == "monotonic"
            )
        if mixer == "joint":
            self.mixer = DenseJoint(hyper.hidden_dim, n_actions, state, hyper.qtran_embed_dim)

    def unroll(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """obs [B, T+1, N, O], actions [B, T+1, N] -> values [B, T+1, N, A], hidden [B, T+1, N, H]."""
        values, hidden = [], []
        dtype = next(self.parameters()).dtype
        for i in range(self.n_agents):
            last = torch.zeros(*obs.shape[:2], self.n_actions, dtype=dtype)
            last[:, 1:] = nn.functional.one_hot(actions[:, :-1, i].long(), self.n_actions)
            identity = torch.zeros(*obs.shape[:2], self.n_agents, dtype=dtype)
            identity[..., i] = 1.0
            agent = self.agents[i if len(self.agents) > 1 else 0]
            q, h = agent(obs[:, :, i], torch.cat((last, identity), -1))
            values.append(q)
            hidden.append(h)
        return torch.stack(values, 2), torch.stack(hidden, 2)

    def mix(self, qs: Tensor, state: Tensor) -> Tensor:
        """qs [..., N], state [..., S] -> Q_tot [..., X]."""
        if self.kind == "none":
            return qs
        if self.kind == "sum":
            return sum(qs[..., i : i + 1] for i in range(self.n_agents))  # type: ignore[return-value]
        assert self.mixer is not None
        return self.mixer(qs, state)

    def layout(self, of: Callable[[Tensor], Tensor] = Tensor.detach) -> dict[str, Tensor]:
        """Every parameter, or what ``of`` makes of it, under the package's name and in its shape."""
        rows = [agent.named() for agent in self.agents]
        found = {}
        for name in rows[0]:
            weights = [of(row[name]) if ".conv" in name else _turned(of(row[name])) for row in rows]
            found[name] = weights[0] if len(rows) == 1 else torch.stack(weights)
        for name, layers in self.mixer.linears() if self.mixer is not None else []:
            found[f"{name}.weight"] = torch.cat([_turned(of(layer.weight)) for layer in layers], dim=-1)
            found[f"{name}.bias"] = torch.cat([_turned(of(layer.bias)) for layer in layers], dim=-1)
        return found

    def load(self, params: Mapping[str, Tensor]) -> None:
        """Take one run's parameters."""
        assert set(params) == set(self.layout()), set(params) ^ set(self.layout())
        with torch.no_grad():
            for i, agent in enumerate(self.agents):
                for name, weight in agent.named().items():
                    given = params[name] if len(self.agents) == 1 else params[name][i]
                    if ".conv" not in name:
                        given = given.T if weight.dim() == 2 else given[0]
                    weight.copy_(given)
            for name, layers in self.mixer.linears() if self.mixer is not None else []:
                widths = [layer.out_features for layer in layers]
                weights, biases = (params[f"{name}.{kind}"].split(widths, -1) for kind in ("weight", "bias"))
                for layer, weight, bias in zip(layers, weights, biases, strict=True):
                    layer.weight.copy_(weight.T)
                    layer.bias.copy_(bias[0])


def _turned(weight: Tensor) -> Tensor:
    return weight.T if weight.dim() == 2 else weight[None]


def torchs_optimizer(module: nn.Module, hyper: Hyperparameters) -> torch.optim.Optimizer:
    """PyTorch's own, with the settings' values or the defaults that the configuration's docstrings name."""

    def or_else(value: float | None, default: float) -> float:
        return default if value is None else value

    if hyper.optimizer == "adam":
        betas = or_else(hyper.adam_beta1, 0.9), or_else(hyper.adam_beta2, 0.999)
        return torch.optim.Adam(module.parameters(), hyper.learning_rate, betas, or_else(hyper.adam_eps, 1e-8))
    alpha, eps = or_else(hyper.rms_alpha, 0.99), or_else(hyper.rms_eps, 1e-5)
    return torch.optim.RMSprop(module.parameters(), hyper.learning_rate, alpha=alpha, eps=eps)


class DenseLearner:
    """One run's learner, of the value kind or QTRAN by the algorithm's mixer."""

    def __init__(
        self,
        algorithm: Algorithm,
        hyper: Hyperparameters,
        shape: Mapping[str, int],
        dtype: torch.dtype,
        picture: Picture | None = None,
    ) -> None:
        self.algorithm, self.hyper = algorithm, hyper
        sizes = (shape["n_agents"], shape["n_actions"], shape["obs_dim"], shape["state_dim"])
        self.online = DenseNetworks(algorithm.mixer, hyper, *sizes, picture).to(dtype)
        self.target = copy.deepcopy(self.online)
        self.optimizer = torchs_optimizer(self.online, hyper)

    def load(self, params: Mapping[str, Tensor]) -> None:
        """Online and target parameters."""
        self.online.load(params)
        self.sync_target()

    def sync_target(self) -> None:
        """Copy online to target."""
        self.target.load_state_dict(self.online.state_dict())

    def update(self, batch: EpisodeBatch) -> tuple[float, float]:
        """One update from episodes [B, ...] (no run axis): loss and gradient norm."""
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.online.parameters(), self.hyper.grad_clip)
        self.optimizer.step()
        return float(loss.detach()), float(norm)

    def gradients(self) -> dict[str, Tensor]:
        """Gradients of the newest update, after clipping."""
        return self.online.layout(lambda p: torch.zeros_like(p) if p.grad is None else p.grad)

    def loss(self, batch: EpisodeBatch) -> Tensor:
        """The mean over filled steps (and values X) of what each step costs."""
        online_qs, online_hidden = self.online.unroll(batch.obs, batch.actions)
        with torch.no_grad():
            target_qs, target_hidden = self.target.unroll(batch.obs, batch.actions)
        best_online = best_legal(online_qs, batch.avail_actions)
        best_target = best_legal(target_qs, batch.avail_actions)
        greedy = best_online if self.hyper.double_q else best_target
        joint = self.algorithm.mixer == "joint"

        def target_value(actions: Tensor) -> Tensor:
            if joint:
                return self.target.mixer(batch.state, target_hidden, actions)  # type: ignore[misc, no-any-return]
            return self.target.mix(values_at(target_qs, actions), batch.state)

        with torch.no_grad():
            q_next = target_value(batch.actions)
            v = q_next if self.algorithm.returns.kind in ("lambda", "n-step", "monte-carlo") else None
            v = self.expectation(batch, greedy, target_value) if v is None else v
        if joint:
            taken = self.online.mixer(batch.state, online_hidden, batch.actions)  # type: ignore[misc]
        else:
            taken = self.online.mix(values_at(online_qs, batch.actions), batch.state)
        cost = torch.zeros((), dtype=batch.obs.dtype)
        count = 0
        for b in range(batch.obs.shape[0]):
            length = int(batch.filled[b].sum())
            targets = self.targets(batch, b, length, v[b], q_next[b], greedy[b])
            for t in range(length):
                for x in range(v.shape[-1]):
                    cost = cost + (taken[b, t, x] - targets[t][x]) ** 2
                    count += 1
                if joint:
                    cost = cost + self.bound(batch, b, t, online_qs, online_hidden, best_online, taken)
        return cost / count

    def expectation(self, batch: EpisodeBatch, greedy: Tensor, value: Callable[[Tensor], Tensor]) -> Tensor:
        """The target policy's expected value at each time [B, T+1, X]: a sum over every joint action.

        IQL's agents have values of their own, whose expectations do not depend on the others' actions.
        """
        n_agents, n_actions = batch.avail_actions.shape[-2:]
        total = torch.zeros((), dtype=batch.obs.dtype)
        for actions in itertools.product(range(n_actions), repeat=n_agents):
            joint = torch.tensor(actions).expand_as(batch.actions)
            total = total + self.policy(batch, greedy, joint).prod(-1, keepdim=True) * value(joint)
        return total

    def policy(self, batch: EpisodeBatch, greedy: Tensor, actions: Tensor) -> Tensor:
        """Each agent's probability of an action [B, T+1, N], one number at a time."""
        eps = self.hyper.target_epsilon
        found = torch.zeros(actions.shape, dtype=batch.obs.dtype)
        for place in itertools.product(*(range(n) for n in actions.shape)):
            legal = batch.avail_actions[place]
            if legal[actions[place]]:
                found[place] = (1 - eps) * float(actions[place] == greedy[place]) + eps / int(legal.sum())
        return found

    def targets(
        self, batch: EpisodeBatch, b: int, length: int, v: Tensor, q: Tensor, greedy: Tensor
    ) -> list[list[float]]:
        """Returns of episode b: [length][X]."""
        estimator, gamma, lam = self.algorithm.returns, self.hyper.gamma, self.algorithm.returns.td_lambda
        rewards = batch.rewards[b, :length, 0].tolist()
        one = batch.map(lambda field: field[b : b + 1])
        policy, behaviour = self.policy(one, greedy[None], one.actions)[0], batch.behaviour[b]
        columns = []
        for x in range(v.shape[-1]):
            values, taken = v[: length + 1, x].tolist(), q[: length + 1, x].tolist()
            if batch.terminated[b, length - 1]:
                values[length] = taken[length] = 0.0
            # IQL's agents weigh their own actions, a team the joint one.
            members = [x] if v.shape[-1] > 1 else list(range(policy.shape[-1]))
            pi = [math.prod(float(policy[t, i]) for i in members) for t in range(length)]
            mu = [math.prod(float(behaviour[t, i]) for i in members) for t in range(length)]
            traces = {
                "q-lambda": [lam] * length,
                "tree-backup": [lam * p for p in pi],
                "retrace": [lam * min(1.0, p / m) for p, m in zip(pi, mu, strict=True)],
                "importance-sampling": [lam * p / m for p, m in zip(pi, mu, strict=True)],
            }.get(estimator.kind)
            if traces is not None:
                column = [traced_sum(rewards, values, taken, traces, t, gamma) for t in range(length)]
            elif estimator.kind == "n-step":
                column = [n_step_sum(rewards, values, t, estimator.n_step, gamma) for t in range(length)]
            else:
                weight = {"one-step": 0.0, "monte-carlo": 1.0}.get(estimator.kind, lam)
                column = [lambda_sum(rewards, values, t, gamma, weight) for t in range(length)]
            columns.append(column)
        return [list(row) for row in zip(*columns, strict=True)]

    def bound(
        self, batch: EpisodeBatch, b: int, t: int, qs: Tensor, hidden: Tensor, best: Tensor, taken: Tensor
    ) -> Tensor:
        """QTRAN's opt and nopt costs of one step; the joint value is a constant in both."""
        state_value = self.online.mixer.v(batch.state[b, t])  # type: ignore[union-attr, operator]
        with torch.no_grad():
            joint_best = self.online.mixer(batch.state[b, t], hidden[b, t], best[b, t])  # type: ignore[misc]
        opt = values_at(qs[b, t], best[b, t]).sum() - joint_best + state_value
        nopt = values_at(qs[b, t], batch.actions[b, t]).sum() - taken[b, t].detach() + state_value
        nopt = torch.minimum(nopt, torch.zeros_like(nopt))
        return (self.hyper.qtran_opt_weight * opt**2 + self.hyper.qtran_nopt_weight * nopt**2).sum()


def values_at(qs: Tensor, actions: Tensor) -> Tensor:
    """qs [..., N, A], actions [..., N] -> [..., N]."""
    chosen = nn.functional.one_hot(actions.long(), qs.shape[-1]).bool()
    return qs[chosen].reshape(actions.shape)


def best_legal(qs: Tensor, avail: Tensor) -> Tensor:
    """Each agent's best legal action, found one by one; 0 where none is legal (padding)."""
    flat_qs, flat_avail = qs.detach().reshape(-1, qs.shape[-1]).tolist(), avail.reshape(-1, qs.shape[-1]).tolist()
    best = [
        max((a for a in range(len(row)) if legal[a]), key=row.__getitem__, default=0)
        for row, legal in zip(flat_qs, flat_avail, strict=True)
    ]
    return torch.tensor(best).reshape(qs.shape[:-1])
