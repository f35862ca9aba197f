"""What trained networks believe about a one-step game: the learned Q_tot of every joint action beside the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from smix_pz import envs
from smix_pz.algorithms import make_learner, resolve
from smix_pz.benchmarks.suite import Job
from smix_pz.benchmarks.tables import ValueTable
from smix_pz.config import TrainConfig, from_dict
from smix_pz.envs import payoff_game_v0
from smix_pz.policy import Policy, view_options
from smix_pz.run_files import policy_path


def learned_table(policy: Policy) -> tuple[np.ndarray, tuple[int, ...]]:
    """(Q_tot of every joint action at the first observation [A, ..., A], the greedy joint action).

    Without a mixer (IQL) there is no Q_tot; what is shown is the mean of the agents' own values, since each of them
    estimates the team's reward.
    """
    about = policy.about
    config = from_dict(TrainConfig, about["config"])
    vector = envs.make_vector_env(about["env"], 1, **view_options(about), **about["env_kwargs"])
    try:
        spec = vector.team_spec
        observation, _ = vector.reset(seed=[0])
    finally:
        vector.close()
    device = torch.device("cpu")
    learner = make_learner(
        resolve(about["algorithm"], config),
        n_agents=spec.n_agents,
        n_actions=spec.n_actions,
        obs_dim=spec.obs_dim,
        state_dim=spec.state_dim,
        hyper=config,
        rngs=[np.random.default_rng(0)],
        device=device,
    )
    learner.stack.load({name: param[None] for name, param in policy.params.items()})
    obs, state, mask = (torch.as_tensor(observation[key][0]) for key in ("obs", "state", "action_mask"))
    values = learner.joint_values(obs, state, mask != 0)[0].mean(-1).numpy()
    inside = tuple(slice(n) for n in spec.agent_actions)
    greedy, _ = policy.act(observation, None, policy.initial_hidden(1))
    return values[inside], tuple(int(a) for a in greedy[0])


def value_table(job: Job) -> ValueTable | None:
    """The table of one job of the expressivity page, from its saved policies; None if no run has finished."""
    assert job.payoff is not None
    paths = [policy_path(job.config, seed) for seed in job.config.seeds]
    policies = [Policy.load(path) for path in paths if path.is_file()]
    if not policies:
        return None
    learned = [learned_table(policy) for policy in policies]
    return ValueTable(
        algorithm=job.config.algorithm,
        payoff_name=job.payoff,
        truth=np.asarray(payoff_game_v0.PAYOFFS[job.payoff], dtype=float),
        learned=np.stack([table for table, _ in learned]),
        greedy=tuple(greedy for _, greedy in learned),
        seeds=tuple(policy.about["seed"] for policy in policies),
    )


def value_tables(jobs: Sequence[Job]) -> list[ValueTable]:
    """The tables of all finished jobs of the expressivity page, in their order."""
    tables = (value_table(job) for job in jobs if job.payoff is not None)
    return [table for table in tables if table is not None]


__all__ = ["learned_table", "value_table", "value_tables"]
