"""Every algorithm learns the right values, rung by rung, on tiny environments with closed forms.

Behaviour is uniformly random throughout, so a greedy bootstrap should find the best policy's values as far as the
mixer can represent them, a taken one the values of random play. The episodes do not depend on what is learned: they
are collected once for each rung.

COMA's critic learns from the same episodes (its actor, which is no part of this, plays none of them).
IQL's agents learn averages over what the partner does at random. VDN learns the sum that is nearest in the least
squares. ``noabs`` has no right greedy action (its agents' argmaxes mean nothing), so qmix-noabs's values are checked
where they do not bootstrap from one that matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from tiny_envs import Coordination
from torch import Tensor

from smix_pz.algorithms import ALGORITHMS, ESTIMATORS, Algorithm, Learner, make_learner, resolve
from smix_pz.algorithms.agents import GRUAgent
from smix_pz.algorithms.histories import build_tree
from smix_pz.algorithms.networks import ParameterStack
from smix_pz.algorithms.replay import EpisodeReplay
from smix_pz.config import Hyperparameters, TrainConfig
from smix_pz.envs import TeamSpec, make_vector_env
from smix_pz.episodes import EpisodeBatch
from smix_pz.policy import evaluate
from smix_pz.rollout import Collector
from smix_pz.training import train

CPU = torch.device("cpu")
SEEDS = (0, 4)
GROUP = 8
GAMMA = 0.9
HYPER = Hyperparameters(
    gamma=GAMMA, learning_rate=4e-3, batch_size=32, target_update_episodes=10 * GROUP, hidden_dim=16,
    mixing_embed_dim=8, qtran_embed_dim=16, coma_critic_dim=32,
)  # fmt: skip


@dataclass(frozen=True)
class Rung:
    """An environment, its closed form [R, B, T, X] (NaN where there is none), and how much learning it takes."""

    values: Callable[[Algorithm, EpisodeBatch], Tensor]
    updates: int
    tolerance: float
    n_episodes: int = 512


def per_agent(algorithm: Algorithm, agents: tuple[Tensor, Tensor], team: Tensor) -> Tensor:
    """[R, B, T] of each agent (IQL) or of the team, as [R, B, T, X]; COMA's agents each have the team's."""
    if algorithm.mixer == "counterfactual":
        return torch.stack((team, team), -1)
    return torch.stack(agents, -1) if algorithm.mixer == "none" else team[..., None]


def constant(algorithm: Algorithm, batch: EpisodeBatch) -> Tensor:
    team = torch.full(batch.rewards.shape[:3], 1.5)
    return per_agent(algorithm, (team, team), team)


def observed(algorithm: Algorithm, batch: EpisodeBatch) -> Tensor:
    team = -1 + 3 * batch.obs[:, :, :-1, 0, -1]
    return per_agent(algorithm, (team, team), team)


def delay(algorithm: Algorithm, batch: EpisodeBatch) -> Tensor:
    first = batch.actions[:, :, 0].float()
    discount = GAMMA ** (4 - torch.arange(5))
    own = (first[..., 0] + 2 * 0.5, 0.5 + 2 * first[..., 1])
    agents = tuple(value[..., None] * discount for value in own)
    return per_agent(algorithm, agents, (first[..., 0] + 2 * first[..., 1])[..., None] * discount)  # type: ignore[arg-type]


def coordination(algorithm: Algorithm, batch: EpisodeBatch) -> Tensor:
    payoff = torch.tensor(Coordination.PAYOFF)
    rows, columns, mean = payoff.mean(1), payoff.mean(0), payoff.mean()
    if algorithm.mixer == "sum":
        payoff = rows[:, None] + columns - mean  # [[.25, 1.75], [1.75, 3.25]]
    last = batch.actions[:, :, 1]
    final = per_agent(
        algorithm, (rows[last[..., 0]], columns[last[..., 1]]), payoff[last[..., 0], last[..., 1]]
    )  # fmt: skip
    best = rows.max() if algorithm.mixer == "none" else payoff.max()
    if algorithm.returns.bootstrap == "taken":
        start = GAMMA * mean
    elif algorithm.mixer == "unconstrained":
        start = torch.tensor(math.nan)
    elif algorithm.returns.kind == "peng":  # it takes lambda of what random play got
        start = GAMMA * ((1 - algorithm.returns.td_lambda) * best + algorithm.returns.td_lambda * mean)
    else:
        start = GAMMA * best
    return torch.stack((start.expand_as(final), final), 2)


def early_truncation(algorithm: Algorithm, batch: EpisodeBatch) -> Tensor:
    team = torch.tensor([sum(GAMMA**k for k in range(4 - t)) for t in range(4)]).expand(batch.rewards.shape[:3])
    return per_agent(algorithm, (team, team), team)


def chance(algorithm: Algorithm, batch: EpisodeBatch) -> Tensor:
    by_time = [sum(0.5 * (GAMMA / 2) ** k for k in range(4 - t)) for t in range(4)]
    team = torch.tensor(by_time).expand(batch.rewards.shape[:3])
    return per_agent(algorithm, (team, team), team)


RUNGS = {
    "Constant": Rung(constant, updates=60, tolerance=0.1, n_episodes=64),
    "Observed": Rung(observed, updates=100, tolerance=0.15, n_episodes=64),
    "Delay": Rung(delay, updates=350, tolerance=0.3),
    "Coordination": Rung(coordination, updates=300, tolerance=0.3, n_episodes=1024),
    "EarlyTruncation": Rung(early_truncation, updates=150, tolerance=0.2),
    "Chance": Rung(chance, updates=200, tolerance=0.3, n_episodes=1024),
}


@cache
def random_play(name: str) -> tuple[TeamSpec, EpisodeBatch]:
    """Uniformly random episodes [R, n_episodes, ...], collected as training collects them."""
    n_runs, n_episodes = len(SEEDS), RUNGS[name].n_episodes
    env = make_vector_env(f"tiny_envs:{name}", n_runs * 64)
    spec: TeamSpec = env.team_spec
    agent = GRUAgent(spec.obs_dim, spec.n_agents, spec.n_actions, 2)
    params = ParameterStack.draw(agent.parameters(), [np.random.default_rng(0)] * n_runs, CPU).params
    collector = Collector(env, spec, agent, n_runs, CPU)
    exploration, seeding = ([np.random.default_rng([seed, k]) for seed in SEEDS] for k in range(2))
    groups = []
    for _ in range(n_episodes // 64):
        batch, _ = collector.collect(params, np.ones(n_runs), exploration, seeding)
        groups.append(batch.map(Tensor.clone))
    env.close()
    fields = {f: torch.cat([getattr(g, f) for g in groups], dim=1) for f in EpisodeBatch.__dataclass_fields__}
    return spec, EpisodeBatch(**fields)


def learn(name: str, algorithm: Algorithm) -> tuple[Learner, EpisodeBatch]:
    """Groups of random play into the replay, one update for each; the last third with a smaller step."""
    spec, episodes = random_play(name)
    shape = {key: getattr(spec, key) for key in ("n_agents", "n_actions", "obs_dim", "state_dim")}
    inits, draws = ([np.random.default_rng([seed, k]) for seed in SEEDS] for k in (2, 3))
    learner = make_learner(algorithm, **shape, hyper=HYPER, rngs=inits, device=CPU)
    capacity = max(algorithm.buffer_size, GROUP) if algorithm.buffer_size < 32 else RUNGS[name].n_episodes
    replay = EpisodeReplay(len(SEEDS), capacity, episode_limit=spec.episode_limit, **shape, device=CPU)
    n_groups = RUNGS[name].n_episodes // GROUP
    updates = RUNGS[name].updates * (2 if capacity == GROUP else 1)  # batches of 8 instead of 32 episodes
    for k in range(updates):
        start = k % n_groups * GROUP
        replay.add(episodes.map(lambda field, start=start: field[:, start : start + GROUP]))
        if k == 2 * updates // 3:
            learner.optimizer.lr /= 10
        if replay.can_sample(HYPER.batch_size):
            learner.update(replay.sample(HYPER.batch_size, draws))
        learner.sync_target((k + 1) * GROUP)
    return learner, episodes.map(lambda field: field[:, :64])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", RUNGS)
def test_values(name: str, algorithm: str) -> None:
    check_values(name, resolve(algorithm, HYPER))


@pytest.mark.parametrize("estimator", [e for e in ESTIMATORS if e not in ("one-step", "lambda", "n-step")])
@pytest.mark.parametrize("algorithm", ["iql", "qmix", "qtran"])
def test_values_of_the_other_estimators(algorithm: str, estimator: str) -> None:
    """Of random play: corrections make the best policy's values of it, Monte-Carlo takes it for what it is."""
    check_values("Coordination", resolve(algorithm, replace(HYPER, estimator=estimator)))


def check_values(name: str, row: Algorithm) -> None:
    learner, batch = learn(name, row)
    found = learner.taken_values(batch, build_tree(batch))[:, :, :-1].detach()
    expected = RUNGS[name].values(row, batch)
    assert found.shape == expected.shape
    known = batch.filled & expected.isfinite()
    assert known.any()
    worst = float((found - expected)[known].abs().max())
    print(f"{name:16} {row.name:14} {row.returns.kind:14} worst error {worst:.3f}")
    assert worst < RUNGS[name].tolerance


@pytest.mark.parametrize(("env", "expected"), [("masked_team_v0", 10), ("tiny_envs:CutsAsEnds", 7)])
def test_training_on_the_masked_team_finds_the_best_route(env: str, expected: float) -> None:
    """Masks, a death, a late agent and unlike spaces all the way through training. The return tells what was learned:
    10 where truncations are bootstrapped from, 7 where they are taken for ends (masked_team_v0's docstring)."""
    result = train(
        TrainConfig(
            env=env, env_kwargs={"late_guard": True, "strict": True}, algorithm="qmix", seeds=(0, 1), steps=6000,
            eval_every=6000, eval_episodes=1, epsilon_steps=3000, epsilon_finish=0.1, learning_rate=3e-3,
            hidden_dim=32, mixing_embed_dim=16, parallel_episodes=8, target_update_episodes=40, progress=False,
        )
    )  # fmt: skip
    for policy in result.policies:
        summary = evaluate(policy, 2, cut=0.0)  # nothing is cut off, so a return is that of the whole route
        assert summary.returns.tolist() == [[expected] * 2]


@pytest.mark.parametrize("algorithm", ["coma", "coma-r"])
@pytest.mark.parametrize(("env", "best"), [("Coordination", 4.0), ("Delay", 3.0)])
def test_coma_finds_the_best_policy(env: str, best: float, algorithm: str) -> None:
    """Actor and critic together, by COMA's own exploration; at first, one of the runs at least plays worse."""
    config = TrainConfig(
        env=f"tiny_envs:{env}", algorithm=algorithm, seeds=SEEDS, steps=4000, eval_every=2000, eval_episodes=1,
        learning_rate=4e-3, hidden_dim=16, coma_critic_dim=32, coma_epsilon_steps=2000, parallel_episodes=GROUP,
        target_update_episodes=10 * GROUP, progress=False,
    )  # fmt: skip
    returns = np.array([record.series("eval/return")[1] for record in train(config).records])
    assert returns[:, 0].min() < best and (returns[:, -1] == best).all(), returns
