"""A trained team outside the package: as a player that acts from each agent's own observations, and as a file.

`Player` is what a PettingZoo loop needs: observations in, actions out, each agent with its own memory. `AgentNetwork`
is the network by itself, in plain PyTorch, and `export` writes it as TorchScript or ONNX: a program that loads the file
needs nothing of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from smix_pz.algorithms.agents import Agent
from smix_pz.algorithms.encoders import ImageEncoder
from smix_pz.envs.checks import nearest
from smix_pz.envs.foreign import ActionReader, ObservationReader
from smix_pz.files import atomic_path

__all__ = ["AgentNetwork", "Player", "export"]

SUFFIXES = (".pt", ".onnx")
INPUTS = ("obs", "last_action", "agent", "hidden", "mask")
OUTPUTS = ("action", "next_hidden", "q")


class AgentNetwork(nn.Module):
    """The agents' network, one row for each agent that acts: encoder, fc, ReLU, GRU or fc and ReLU, fc.

    Rows are independent: any number of them, of any agents, in any order. See `smix_pz.algorithms.agents`.

    Args:
        agent: description of the network.
        params: name -> tensor, as in `Policy.params`.
    """

    def __init__(self, agent: Agent, params: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.n_agents, self.n_actions, self.hidden_dim = agent.n_agents, agent.n_actions, agent.hidden_dim
        self.obs_dim, self.shared = agent.obs_dim, agent.parameter_sharing
        self.core = CORES[agent.network]
        self.encoder = agent.encoder if isinstance(agent.encoder, ImageEncoder) else None
        self.obs_scale = agent.obs_scale
        for name in agent.parameters():
            value = params[name].detach().clone()
            self.register_buffer(_buffer(name), value[None] if agent.parameter_sharing else value)

    def forward(
        self, obs: Tensor, last_action: Tensor, agent: Tensor, hidden: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step of M agents.

        Args:
            obs: float32 [M, O], padded with zeros where an agent's own are fewer; images flat, as their space has
                them, with pixels as they come. last_action: int64 [M], -1 at an
                episode's first step. agent: int64 [M], which agent each row is, 0 to N - 1. hidden: float32 [M, H],
                zeros at the first step (a network without a memory ignores it). mask: bool [M, A], the legal actions.

        Returns:
            (greedy legal actions int64 [M], hidden float32 [M, H] for the next step, values float32 [M, A]).
        """
        which = torch.zeros_like(agent) if self.shared else agent
        # -1 gives zeros: the class -1 + 1 = 0 is cut off.
        last = nn.functional.one_hot(last_action + 1, self.n_actions + 1)[:, 1:].to(obs.dtype)
        identity = nn.functional.one_hot(agent, self.n_agents).to(obs.dtype)
        x = torch.cat((self._read(obs, which), last, identity), dim=1)
        x = self.layer("fc_in", x, which).relu()
        hidden = self.core(self, x, hidden, which)
        q = self.layer("fc_out", hidden, which)
        action = torch.where(mask, q, torch.full_like(q, -torch.inf)).argmax(1)
        return action, hidden, q

    def layer(self, name: str, x: Tensor, which: Tensor) -> Tensor:
        """x [M, I] through the linear layer of that name, row m by the network `which[m]`: [M, O]."""
        return _rows(x, self.get_buffer(f"{name}_weight"), self.get_buffer(f"{name}_bias"), which)

    def _read(self, obs: Tensor, which: Tensor) -> Tensor:
        """obs [M, O] -> features [M, F]."""
        x = obs * self.obs_scale
        if self.encoder is None:
            return x
        x = self.encoder.channels_in_front(x)
        n_networks = 1 if self.shared else self.n_agents
        for index, layer in enumerate(self.encoder.layers):
            # Every network looks at every row, side by side in one grouped convolution; the right one is taken below.
            weight, bias = self.get_buffer(f"conv{index}_weight"), self.get_buffer(f"conv{index}_bias")
            groups = n_networks if index else 1
            x = nn.functional.conv2d(x, weight.flatten(0, 1), bias.flatten(), layer.stride, groups=groups).relu()
        features = x.unflatten(1, (n_networks, -1)).flatten(2)  # [M, networks, F]
        return features.gather(1, which[:, None, None].expand(-1, 1, features.shape[2]))[:, 0]


def _gru(network: AgentNetwork, x: Tensor, hidden: Tensor, which: Tensor) -> Tensor:
    gates_x, gates_h = network.layer("gru_x", x, which), network.layer("gru_h", hidden, which)
    n = network.hidden_dim
    reset = torch.sigmoid(gates_x[:, :n] + gates_h[:, :n])
    update = torch.sigmoid(gates_x[:, n : 2 * n] + gates_h[:, n : 2 * n])
    new = torch.tanh(gates_x[:, 2 * n :] + reset * gates_h[:, 2 * n :])
    return new + update * (hidden - new)


def _feed_forward(network: AgentNetwork, x: Tensor, hidden: Tensor, which: Tensor) -> Tensor:
    return network.layer("fc_hidden", x, which).relu()


# Agent.network -> from x and hidden [M, H] to the next hidden [M, H].
CORES: Mapping[str, Callable[[AgentNetwork, Tensor, Tensor, Tensor], Tensor]] = {"gru": _gru, "ff": _feed_forward}


def _buffer(name: str) -> str:
    """agent.fc_in.weight -> fc_in_weight."""
    return name.removeprefix("agent.").replace(".", "_")


def _rows(x: Tensor, weight: Tensor, bias: Tensor, which: Tensor) -> Tensor:
    """Row m of x [M, I] through the layer that `which[m]` names, of weight [G, I, O] and bias [G, 1, O]: [M, O]."""
    return (torch.bmm(x[:, None], weight[which]) + bias[which])[:, 0]


class Player:
    """A trained team that acts greedily, each agent from its own observations and memory alone.

    Args:
        network: the agents' network.
        agent_names: N names, in the order in which the team was trained.
        env: the environment to be played, if its observations are more than arrays and masks (dictionaries, say) or its
            actions do not start at 0: its spaces say how to read them.

    Raises:
        ValueError: other than N names.
    """

    def __init__(self, network: AgentNetwork, agent_names: Sequence[Any], env: Any = None) -> None:
        if len(agent_names) != network.n_agents:
            raise ValueError(f"the team was trained with {network.n_agents} agents, got the names {list(agent_names)}.")
        self.network = network
        self._index = {name: index for index, name in enumerate(agent_names)}
        self._readers = {} if env is None else {n: ObservationReader(env.observation_space(n), n) for n in agent_names}
        self._actions = {} if env is None else {n: ActionReader(env, n) for n in agent_names}
        self.reset()

    def reset(self) -> None:
        """Forget the episode so far."""
        self._hidden = torch.zeros(self.network.n_agents, self.network.hidden_dim)
        self._last = torch.full((self.network.n_agents,), -1)

    def act(self, observations: Mapping[Any, Any], infos: Mapping[Any, Any] | None = None) -> dict[Any, Any]:
        """Actions of the agents that observe something: {agent: action}.

        Args:
            observations: as the environment gives them. An action mask may be in a dictionary observation or in
                `infos`; without one, all of the team's actions count as legal.
            infos: as the environment gives them.

        Raises:
            ValueError: an agent that the team does not have, an observation or a mask that is too long, a mask that
                allows nothing.
        """
        names = list(observations)
        if not names:
            return {}
        obs, legal = np.zeros((len(names), self.network.obs_dim), np.float32), []
        for row, name in enumerate(names):
            if name not in self._index:
                raise ValueError(f"the team has no agent {name!r}{nearest(str(name), map(str, self._index))}")
            own, mask = self._read(name, observations[name])
            if own.size > obs.shape[1]:
                raise ValueError(f"the observation of {name} has {own.size} entries, the team knows {obs.shape[1]}.")
            obs[row, : own.size] = own
            info_mask = None if infos is None else infos.get(name, {}).get("action_mask")
            legal.append(self._legal(name, [mask, info_mask]))
        agents = torch.tensor([self._index[name] for name in names])
        with torch.no_grad():
            chosen, hidden, _ = self.network(
                torch.from_numpy(obs), self._last[agents], agents, self._hidden[agents], torch.tensor(np.array(legal))
            )
        self._hidden[agents], self._last[agents] = hidden, chosen
        taken = chosen.tolist()
        return {name: self._actions[name](a) if self._actions else a for name, a in zip(names, taken, strict=True)}

    def _read(self, name: Any, observation: Any) -> tuple[np.ndarray, Any]:
        if self._readers:
            return self._readers[name](observation)
        if isinstance(observation, Mapping) and set(observation) == {"observation", "action_mask"}:
            return np.asarray(observation["observation"], np.float32).ravel(), observation["action_mask"]
        return np.asarray(observation, np.float32).ravel(), None

    def _legal(self, name: Any, masks: list[Any]) -> np.ndarray:
        legal = np.zeros(self.network.n_actions, bool)
        legal[: self._actions[name].n if self._actions else self.network.n_actions] = True
        for mask in masks:
            if mask is None:
                continue
            given = np.asarray(mask, bool).ravel()
            if given.size > legal.size:
                raise ValueError(f"the mask of {name} has {given.size} entries, the team knows {legal.size} actions.")
            legal[given.size :] = False
            legal[: given.size] &= given
        if not legal.any():
            raise ValueError(f"the mask of {name} allows no action: it needs at least one.")
        return legal


def export(network: AgentNetwork, path: Path) -> Path:
    """Write the network as TorchScript (.pt) or ONNX (.onnx), for any number of rows M. Returns the path.

    Inputs and outputs are those of `AgentNetwork.forward`, in its order and under its names.

    Raises:
        ValueError: another suffix. ImportError: ONNX without the packages that it needs.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} ends in {path.suffix or 'nothing'!r}; expected .pt (TorchScript) or .onnx.")
    network = network.eval()
    with atomic_path(path) as temporary:
        if path.suffix == ".pt":
            # No branch depends on a number, so that the trace of two rows serves for any.
            torch.jit.trace(network, _example(network)).save(str(temporary))
        else:
            _export_onnx(network, temporary)
    return path


def _example(network: AgentNetwork, rows: int = 2) -> tuple[Tensor, ...]:
    """Inputs of the right shapes."""
    return (
        torch.zeros(rows, network.obs_dim),
        torch.full((rows,), -1),
        torch.zeros(rows, dtype=torch.long),
        torch.zeros(rows, network.hidden_dim),
        torch.ones(rows, network.n_actions, dtype=torch.bool),
    )


def _export_onnx(network: AgentNetwork, path: Path) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'ONNX needs {error.name}: pip install "smix-pz[onnx]", or write TorchScript (.pt).'
        ) from error
    any_rows = torch.export.Dim("rows", min=1)
    torch.onnx.export(
        network,
        _example(network),
        str(path),
        input_names=INPUTS,
        output_names=OUTPUTS,
        dynamic_shapes={name: {0: any_rows} for name in INPUTS},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
