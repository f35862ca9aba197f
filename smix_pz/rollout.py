"""Rollout: a vector environment and a policy make episodes. The only module that knows both sides.

Shapes: ``R`` runs, ``K`` environments of each run, ``T`` transitions, ``N`` agents, ``A`` actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smix_pz.algorithms.agents import Agent
from smix_pz.algorithms.exploration import Behaviour, floored, log_softmax
from smix_pz.algorithms.networks import Params
from smix_pz.envs import TeamSpec, TeamVectorEnv
from smix_pz.episodes import EpisodeBatch, history_keys


@dataclass(frozen=True)
class EpisodeSummary:
    """What a group of episodes amounted to; every array is [R, K].

    Attributes:
        returns: undiscounted sums of rewards (of their mean, where agents are paid each their own); NaN of an episode
            that was aborted. lengths: transitions.
        won: 1 or 0 where the environment reports ``battle_won``, else NaN.
    """

    returns: np.ndarray
    lengths: np.ndarray
    won: np.ndarray


class Collector:
    """Plays groups of K whole episodes for each of R runs, all in step.

    An environment whose episode has ended stays where it is until the group's last one ends (the hold-at-end
    contract of :func:`smix_pz.envs.make_vector_env`), so an update always learns from whole episodes.
    """

    def __init__(
        self,
        env: TeamVectorEnv,
        spec: TeamSpec,
        agent: Agent,
        n_runs: int,
        device: torch.device,
        behaviour: Behaviour = "epsilon-greedy",
    ) -> None:
        """``env`` holds R * K environments, run by run. Without exploration, every behaviour is greedy.

        A spec whose state_dim is 0 says that nobody reads the state: it is not stored, whatever the environment gives.
        """
        if env.num_envs % n_runs:
            raise ValueError(f"{env.num_envs} environments cannot be shared equally by {n_runs} runs")
        self.env, self.spec, self.agent, self.device, self.behaviour = env, spec, agent, device, behaviour
        self.n_runs, self.n_envs = n_runs, env.num_envs // n_runs
        lead, t, n = (n_runs, self.n_envs), spec.episode_limit, spec.n_agents
        self._obs = np.zeros((*lead, t + 1, n, spec.obs_dim), spec.obs_dtype)
        self._state = np.zeros((*lead, t + 1, spec.state_dim), np.float32)
        self._avail = np.zeros((*lead, t + 1, n, spec.n_actions), bool)
        self._actions = np.zeros((*lead, t + 1, n), np.int64)
        self._behaviour = np.ones((*lead, t + 1, n), np.float32)
        self._rewards = np.zeros((*lead, t, spec.n_rewards), np.float32)
        self._terminated = np.zeros((*lead, t), bool)
        self._filled = np.zeros((*lead, t), bool)

    def collect(
        self,
        params: Params,
        epsilon: np.ndarray,
        exploration: Sequence[np.random.Generator],
        seeding: Sequence[np.random.Generator],
    ) -> tuple[EpisodeBatch, EpisodeSummary]:
        """Play one group.

        Args:
            params: the agents' parameters, with a leading R.
            epsilon: [R], each agent's probability of a uniformly random legal action; for "epsilon-greedy", 0 is
                greedy play, for "softmax" play by the softmax alone.
            exploration, seeding: each run's own streams. They are drawn from once for a group, always by the same
                amount, so that a run's numbers do not depend on the runs beside it. An empty ``exploration`` is
                greedy play, whatever epsilon is.

        Returns:
            (episodes on the device, their summary). The batch's memory is used again by the next group.
        """
        n_runs, n_envs, limit = self.n_runs, self.n_envs, self.spec.episode_limit
        lead = (n_runs, n_envs)
        seeds = [int(s) for rng in seeding for s in rng.integers(0, 2**31 - 1, n_envs)]
        draws = None
        if exploration:
            shape = (limit + 1, n_envs, self.spec.n_agents, 2)
            draws = np.stack([rng.random(shape, np.float32) for rng in exploration], axis=1)
        for array in (self._obs, self._state, self._avail, self._actions, self._rewards):
            array.fill(0)
        self._behaviour.fill(1)
        self._terminated.fill(False)
        self._filled.fill(False)

        observation, _ = self.env.reset(seed=seeds)
        alive = np.ones(lead, bool)
        wants_action = alive
        won = np.full(lead, np.nan)
        aborted = np.zeros(lead, bool)
        hidden = self.agent.initial_hidden(n_runs, n_envs, self.device)
        last_actions = torch.full((*lead, self.spec.n_agents), -1, device=self.device)
        for t in range(limit + 1):
            self._store(t, observation, wants_action)
            avail = observation["action_mask"].reshape(*lead, self.spec.n_agents, -1) != 0
            obs = self._tensor(observation["obs"].reshape(*lead, self.spec.n_agents, -1))
            agent_qs, hidden = self.agent.step(params, obs, last_actions, hidden)
            if not avail.all():
                agent_qs.masked_fill_(~self._tensor(avail), -torch.inf)
            if draws is None:
                actions = agent_qs.argmax(-1).cpu().numpy()
            else:
                actions, probabilities = BEHAVIOURS[self.behaviour](agent_qs, avail, epsilon, draws[t])
                self._behaviour[:, :, t][wants_action] = probabilities[wants_action]
            self._actions[:, :, t][wants_action] = actions[wants_action]
            if not alive.any():
                break  # this last action, at a truncated episode's final observation, is chosen but not executed
            last_actions = self._tensor(actions)
            observation, rewards, ended, cut, infos = self.env.step(actions.reshape(n_runs * n_envs, -1))
            rewards, ended, cut = rewards.reshape(lead), ended.reshape(lead), cut.reshape(lead) & ~ended.reshape(lead)
            if t == limit - 1:
                cut = cut | (alive & ~ended)
            paid = rewards[..., None]
            if self.spec.n_rewards > 1:  # reported is their mean
                paid = np.asarray(infos["agent_rewards"], np.float32).reshape(*lead, -1)
            self._rewards[:, :, t][alive] = paid[alive]
            self._filled[:, :, t] = alive
            self._terminated[:, :, t] = ended & alive
            broke = np.asarray(infos["aborted"], bool).reshape(lead) & alive if "aborted" in infos else None
            if broke is not None and broke.any():
                # An environment that broke down (StarCraft's process died): the step did not happen, and the episode
                # counts as neither won nor lost.
                aborted |= broke
                self._filled[:, :, t][broke] = False
                self._rewards[:, :, t][broke] = 0.0
                self._terminated[:, :, t][broke] = False
            _note_wins(won, infos, (ended | cut) & alive & ~aborted)
            wants_action = alive & ~ended  # going on, or just truncated
            alive = wants_action & ~cut
            if not wants_action.any():
                break
        returns = np.where(aborted, np.nan, self._rewards.mean(-1, dtype=np.float64).sum(-1))
        summary = EpisodeSummary(returns, self._filled.sum(-1), won)
        return self._batch(), summary

    def select(self, env: TeamVectorEnv, n_runs: int) -> Collector:
        """A collector of the same kind for fewer runs."""
        return Collector(env, self.spec, self.agent, n_runs, self.device, self.behaviour)

    def _store(self, t: int, observation: dict[str, np.ndarray], which: np.ndarray) -> None:
        lead = (self.n_runs, self.n_envs)
        if which.all():
            self._obs[:, :, t] = observation["obs"].reshape(*lead, *self._obs.shape[3:])
            if self.spec.state_dim:
                self._state[:, :, t] = observation["state"].reshape(*lead, -1)
            self._avail[:, :, t] = observation["action_mask"].reshape(*lead, *self._avail.shape[3:])
        else:
            flat = which.reshape(-1)
            self._obs[:, :, t][which] = observation["obs"][flat]
            if self.spec.state_dim:
                self._state[:, :, t][which] = observation["state"][flat]
            self._avail[:, :, t][which] = observation["action_mask"][flat]

    def _batch(self) -> EpisodeBatch:
        obs, state, avail, actions = (
            self._tensor(array) for array in (self._obs, self._state, self._avail, self._actions)
        )
        return EpisodeBatch(
            obs=obs,
            state=state,
            avail_actions=avail,
            actions=actions,
            behaviour=self._tensor(self._behaviour),
            rewards=self._tensor(self._rewards),
            terminated=self._tensor(self._terminated)[..., None],
            filled=self._tensor(self._filled)[..., None],
            history=history_keys(obs, state, avail, actions),
        )

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def collect_summaries(
    collector: Collector, params: Params, episodes: int, seeding: np.random.Generator
) -> EpisodeSummary:
    """Greedy play of one run's agents for `episodes` episodes, in as many turns as the environments need.

    Returns:
        Arrays [1, episodes].
    """
    parts: list[EpisodeSummary] = []
    while sum(part.returns.shape[1] for part in parts) < episodes:
        parts.append(collector.collect(params, np.zeros(1), [], [seeding])[1])
    fields = ("returns", "lengths", "won")
    return EpisodeSummary(*(np.concatenate([getattr(p, f) for p in parts], axis=1)[:, :episodes] for f in fields))


def _epsilon_greedy(
    agent_qs: Tensor, avail: np.ndarray, epsilon: np.ndarray, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Actions [R, K, N] of each agent, and the probability that each had: agent_qs, avail [R, K, N, A], epsilon [R],
    draws [R, K, N, 2].

    ``agent_qs`` is -inf where an action is illegal.
    """
    greedy, epsilon = agent_qs.argmax(-1).cpu().numpy(), epsilon[:, None, None]
    if avail.all():  # spares small games the general way's sums
        n_legal: Any = avail.shape[-1]
        uniform = np.minimum((draws[..., 1] * n_legal).astype(np.int64), n_legal - 1)
    else:
        n_legal = avail.sum(-1)
        wanted = (draws[..., 1] * n_legal).astype(np.int64)  # the wanted-th legal action
        wanted = np.minimum(wanted, n_legal - 1)  # float32 can round a draw up to n_legal
        uniform = (avail.cumsum(-1) <= wanted[..., None]).sum(-1)
    actions = np.where(draws[..., 0] < epsilon, uniform, greedy)
    return actions, epsilon / n_legal + (1.0 - epsilon) * (actions == greedy)


def _softmax(
    logits: Tensor, avail: np.ndarray, epsilon: np.ndarray, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Actions drawn from the softmax with its floor, by the first of the two draws; shapes as in _epsilon_greedy."""
    legal = torch.from_numpy(avail).to(logits.device)
    policy = floored(log_softmax(logits, legal), legal, torch.from_numpy(epsilon).to(logits)).cpu().numpy()
    drawn = (policy.cumsum(-1, dtype=np.float64) <= draws[..., :1]).sum(-1)
    # Rounded probabilities can sum to less than a draw: the last legal action then.
    last_legal = avail.shape[-1] - 1 - avail[..., ::-1].argmax(-1)
    actions = np.minimum(drawn, last_legal)
    return actions, np.take_along_axis(policy, actions[..., None], -1)[..., 0]


BEHAVIOURS: dict[Behaviour, Callable[[Tensor, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "epsilon-greedy": _epsilon_greedy,
    "softmax": _softmax,
}


def _note_wins(won: np.ndarray, infos: dict[str, Any], ended: np.ndarray) -> None:
    if "battle_won" in infos and ended.any():
        reported = np.asarray(infos["battle_won"]).reshape(won.shape)
        won[ended] = reported[ended].astype(float)
