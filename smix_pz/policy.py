"""Policy: one run's trained agents, greedy and decentralised; saved as safetensors with what it was trained on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from smix_pz import envs
from smix_pz.algorithms import Algorithm
from smix_pz.algorithms.agents import Agent, describe_agent, read_agent
from smix_pz.config import TrainConfig
from smix_pz.deploy import AgentNetwork, Player, export
from smix_pz.envs import TeamSpec
from smix_pz.envs.registry import find_source, series_arguments, shared_arguments, turns
from smix_pz.files import atomic_path
from smix_pz.labels import label
from smix_pz.names import nearest
from smix_pz.policies import pretrained
from smix_pz.provenance import recorded_settings
from smix_pz.records import plain
from smix_pz.rollout import Collector, EpisodeSummary, collect_summaries

_FORMAT = "smix_pz policy 1"


@dataclass(frozen=True)
class Policy:
    """One run's networks without the run axis.

    Attributes:
        agent: description of the agent network.
        params: name -> tensor; the mixer's are kept too, so that values can be looked at later.
        about: algorithm, environment, its arguments, seed and team sizes.
    """

    agent: Agent
    params: Mapping[str, Tensor]
    about: Mapping[str, Any]

    @classmethod
    def of_run(
        cls,
        config: TrainConfig,
        spec: TeamSpec,
        algorithm: Algorithm,
        seed: int,
        agent: Agent,
        params: Mapping[str, Tensor],
    ) -> Policy:
        """The policy of one run: params without the run axis."""
        about = {
            "algorithm": algorithm.name,
            "env": config.env_name,
            "env_kwargs": plain(config.env_kwargs),
            "team_reward": config.team_reward,
            "team_state": config.team_state,
            "preprocess": list(config.preprocess),
            "episode_limit": config.episode_limit,
            "seed": seed,
            "config": recorded_settings(config),
            "engine": dict(spec.engine),
            "agent_names": list(spec.agent_names),
        }
        return cls(agent, dict(params), about)

    def initial_hidden(self, n_episodes: int = 1) -> Tensor:
        """Memory at the start of n episodes: [1, n, N, H]."""
        return self.agent.initial_hidden(1, n_episodes, torch.device("cpu"))

    def act(
        self, observation: Mapping[str, np.ndarray], last_actions: np.ndarray | None, hidden: Tensor
    ) -> tuple[np.ndarray, Tensor]:
        """Greedy actions for n environments in the team view.

        Args:
            observation: "obs" [n, N, O] and "action_mask" [n, N, A].
            last_actions: [n, N], None at the first step.
            hidden: [1, n, N, H].

        Returns:
            (actions [n, N], hidden).
        """
        obs = torch.as_tensor(observation["obs"])[None]
        last = torch.full(obs.shape[:3], -1) if last_actions is None else torch.as_tensor(last_actions)[None]
        stacked = {name: param[None] for name, param in self.params.items()}
        with torch.no_grad():
            agent_qs, hidden = self.agent.step(stacked, obs, last, hidden)
        legal = torch.as_tensor(observation["action_mask"])[None] != 0
        return agent_qs.masked_fill(~legal, -torch.inf).argmax(-1)[0].numpy(), hidden

    def network(self) -> AgentNetwork:
        """The agents' network by itself, in plain PyTorch."""
        return AgentNetwork(self.agent, self.params)

    def player(self, env: Any = None) -> Player:
        """A player for a PettingZoo loop: each agent acts from its own observations and memory.

        env: the environment to be played, see `Player`; its `possible_agents` are the team. None: the agents' names of
            training, and observations that are arrays, with masks beside them or in the infos.
        """
        known = self.about.get("agent_names") or [f"agent_{index}" for index in range(self.agent.n_agents)]
        return Player(self.network(), known if env is None else list(env.possible_agents), env)

    def export(self, path: str | Path) -> Path:
        """Write the agents' network as TorchScript (.pt) or ONNX (.onnx); see `smix_pz.deploy.export`."""
        return export(self.network(), Path(path))

    def save(self, path: Path) -> None:
        """Write a safetensors file, atomically."""
        metadata = {
            "format": _FORMAT,
            "agent": json.dumps(describe_agent(self.agent)),
            "about": json.dumps(self.about),
        }
        with atomic_path(path) as temporary:
            save_file({name: param.contiguous() for name, param in self.params.items()}, temporary, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Read what ``save`` wrote.

        Args:
            path: the file, or the name of a policy that comes with the package (``smix-3m``; :func:`pretrained`).

        Raises:
            FileNotFoundError: no such file, and no such name.
            ValueError: a safetensors file that is not a policy of this package, or whose agents' network is unknown.
        """
        if not Path(path).is_file():
            if str(path) not in pretrained():
                raise FileNotFoundError(
                    f"no policy at {path}; expected a .safetensors file that training wrote, or the name of a policy "
                    f"of the package: {nearest(str(path), pretrained())}"
                )
            path = pretrained()[str(path)]
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                params = {name: file.get_tensor(name) for name in file.keys()}
        except Exception as error:
            raise ValueError(f"{path} is not a safetensors file: {error}") from error
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"{path} has format {metadata.get('format')!r}; expected {_FORMAT!r}")
        return cls(read_agent(json.loads(metadata["agent"])), params, json.loads(metadata["about"]))


def load(path: str | Path) -> Policy:
    """Read a saved policy, from a file or by a name such as ``smix-3m``; see :meth:`Policy.load`."""
    return Policy.load(path)


def view_options(about: Mapping[str, Any]) -> dict[str, Any]:
    """How a policy's environment was seen in training, as options of ``make_vector_env``; older files lack some."""
    return {
        "reward": about["team_reward"],
        "episode_limit": about["episode_limit"],
        "state": about.get("team_state"),
        "preprocess": about.get("preprocess", ()),
    }


def evaluate(
    policy: Policy,
    episodes: int = 32,
    seed: int = 0,
    *,
    env: Any = None,
    preprocess: Sequence[Any] | None = None,
    **env_kwargs: Any,
) -> EpisodeSummary:
    """Greedy, decentralised play of a policy, on the environment it was trained on or another of the same sizes.

    Another environment gets those of the arguments of training that it takes as well: a policy trained on a map of
    smac_sim_v0 plays the same map of smac_v0. It also gets the preprocessing of training.

    Args:
        env: whatever :func:`smix_pz.envs.make_vector_env` takes; needed where training was given an environment that
            has no name. An object is copied. None: the one of training.
        preprocess: other steps than those of training.
        env_kwargs: arguments of the environment, over those of training.

    Returns:
        Returns, lengths and wins, arrays [1, episodes].

    Raises:
        ValueError: the environment's sizes are not those of the policy, or it cannot be found by name.
    """
    about = policy.about
    options = view_options(about)
    if preprocess is not None:
        options["preprocess"] = preprocess
    name = about["env"] if env is None else env
    own = about["env_kwargs"] if label(name) == about["env"] else shared_arguments(name, about["env_kwargs"])
    vector = envs.make_vector_env(
        find_source(name).copied(), turns(name, episodes), **options, **series_arguments(name, {**own, **env_kwargs})
    )
    try:
        spec = vector.team_spec
        wanted = (policy.agent.obs_dim, policy.agent.n_agents, policy.agent.n_actions)
        got = (spec.obs_dim, spec.n_agents, spec.n_actions)
        if got != wanted:
            raise ValueError(
                f"the policy was trained on (obs_dim, n_agents, n_actions) = {wanted}, {spec.env_id} has {got}"
            )
        spec = dataclasses.replace(spec, state_dim=0)  # nobody reads the state
        collector = Collector(vector, spec, policy.agent, 1, torch.device("cpu"))
        stacked = {name: param[None] for name, param in policy.params.items()}
        return collect_summaries(collector, stacked, episodes, np.random.default_rng(seed))
    finally:
        vector.close()
