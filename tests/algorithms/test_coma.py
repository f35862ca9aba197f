"""COMA against one that loops over episodes, times, agents and actions; its policy by hand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from oracle.batches import random_batch, spoil_padding
from oracle.coma import LoopCOMA
from test_learners import SHAPE, SMALL, assert_same, gradient_of, run_of, stacked

from smix_pz.algorithms import ALGORITHMS
from smix_pz.algorithms.coma import COMALearner, _critic_inputs
from smix_pz.algorithms.exploration import floored, log_floored, log_softmax
from smix_pz.algorithms.histories import HistoryTree, build_tree
from smix_pz.config import Hyperparameters
from smix_pz.episodes import EpisodeBatch, history_keys

COMA_SMALL: dict[str, Any] = {**SMALL, "coma_critic_dim": 7, "grad_clip": 0.03}
EPSILON = (0.3, 0.0)  # of each run


def with_absent(batch: EpisodeBatch, rng: np.random.Generator) -> EpisodeBatch:
    """The batch in which half of the agents die on the way: from then on zeros, the placeholder 0, and nothing else."""
    n_times, n_agents, n_actions = batch.avail_actions.shape[2:]
    death = torch.from_numpy(rng.integers(1, 2 * n_times, size=(*batch.history.shape[:2], 1, n_agents)))
    dead = torch.arange(n_times)[:, None] >= death
    placeholder = torch.arange(n_actions) == 0
    obs = batch.obs.masked_fill(dead[..., None], 0.0)
    avail = torch.where(dead[..., None], placeholder, batch.avail_actions)
    actions = batch.actions.masked_fill(dead, 0)
    keys = history_keys(obs.float(), batch.state.float(), avail, actions)
    return dataclasses.replace(batch, obs=obs, avail_actions=avail, actions=actions, history=keys)


def batch_of(seed: int, n_runs: int = 2, **shape: int) -> EpisodeBatch:
    rng = np.random.default_rng([seed, 7])
    return with_absent(random_batch(rng, n_runs=n_runs, dtype=torch.float64, **{**SHAPE, **shape}), rng)


def coma(hyper: Hyperparameters, seeds: list[int], name: str = "coma", **shape: int) -> COMALearner:
    learner = stacked(ALGORITHMS[name], hyper, seeds, **shape)
    assert isinstance(learner, COMALearner)
    return learner


def edge_values(learner: COMALearner, batch: EpisodeBatch, tree: HistoryTree) -> torch.Tensor:
    """The critic's values at the edges [R, E, N, A]."""
    return learner.critic(learner.stack.params, *_critic_inputs(batch, tree)).detach()


def test_the_batches_below_have_every_end_and_absent_agents() -> None:
    kinds, alone = set(), 0
    for seed in range(4):
        batch = batch_of(seed)
        length = batch.filled[..., 0].sum(-1)
        ended = batch.terminated[..., 0].any(-1)
        kinds |= {(bool(e), bool(n == batch.n_steps)) for e, n in zip(ended.flatten(), length.flatten(), strict=True)}
        here = batch.filled[..., 0]
        alone += int(((batch.avail_actions[:, :, :-1].sum(-1) == 1) & here[..., None]).sum())
    assert kinds == {(True, False), (False, False), (True, True), (False, True)} and alone > 20


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({}, {}),
        ({"parameter_sharing": False}, {}),
        ({"td_lambda": 0.0, "gamma": 0.5}, {"n_agents": 3, "n_actions": 2}),
        ({"td_lambda": 1.0, "rms_alpha": 0.9, "rms_eps": 1e-3}, {"n_agents": 1}),
        ({}, {"n_agents": 4, "n_actions": 4, "obs_dim": 2, "state_dim": 1}),
        ({"coma_critic_update": "sequential"}, {}),
        ({"agent_network": "ff"}, {}),
        ({"agent_network": "ff", "parameter_sharing": False}, {"n_agents": 3, "n_actions": 2}),
        ({"optimizer": "adam", "coma_critic_update": "sequential"}, {}),
        ({"optimizer": "adam", "adam_beta1": 0.7, "adam_beta2": 0.9, "adam_eps": 1e-5}, {}),
        ({"coma_critic_update": "sequential", "td_lambda": 0.3}, {"n_agents": 3, "n_actions": 2}),
    ],
    ids=str,
)
def test_updates_are_those_of_the_loops(changes: dict[str, Any], shape: dict[str, int]) -> None:
    """Two stacked runs, three rounds of critic and actor, the target copied after the second."""
    hyper = Hyperparameters(**{**COMA_SMALL, **changes})
    td_lambda = 0.8 if hyper.td_lambda is None else hyper.td_lambda
    learner = coma(hyper, [0, 1], **shape)
    learner.returns = dataclasses.replace(learner.returns, td_lambda=td_lambda)
    loops = [LoopCOMA(hyper, td_lambda, {**SHAPE, **shape}) for _ in range(2)]
    for r, one in enumerate(loops):
        one.load(run_of(learner.stack.params, r))
    tolerance = {"rtol": 1e-7, "atol": 1e-9}
    clipped = [0, 0]
    for k in range(3):
        batch, group = batch_of(k, **shape), batch_of(10 + k, **shape)
        found = learner.update(batch) | learner.update_policy(group, torch.tensor(EPSILON).double())
        for r, one in enumerate(loops):
            mine, my_group = (x.map(lambda field, r=r: field[r]) for x in (batch, group))
            expected = one.update_critic(mine), one.update_policy(my_group, EPSILON[r])
            for part, (loss, norm), names in zip(
                range(2), expected, (("loss", "grad_norm"), ("policy_loss", "policy_grad_norm")), strict=True
            ):
                assert [float(found[name][r]) for name in names] == pytest.approx([loss, norm], rel=1e-7, abs=1e-9)
                clipped[part] += norm > hyper.grad_clip
            assert_same(gradient_of(learner, r), one.gradients(), **tolerance)
            assert_same(run_of(learner.stack.params, r), one.layout(), **tolerance)
        if k == 1:
            assert learner.sync_target(hyper.target_update_episodes)
            for one in loops:
                one.sync_target()
    assert learner.n_updates == 3
    assert 0 < clipped[0] and 0 < clipped[1], clipped  # so both clips were compared, too


def test_actor_and_critic_are_clipped_apart() -> None:
    """Rewards of a million make the critic's gradient long; the actor's, with the same critic, stays as it is."""
    calm, wild = (coma(Hyperparameters(**COMA_SMALL), [0]) for _ in range(2))
    batch = batch_of(0, n_runs=1)
    found = [
        learner.update(dataclasses.replace(batch, rewards=batch.rewards * factor))["grad_norm"]
        for learner, factor in ((calm, 1.0), (wild, 1e6))
    ]
    assert found[1] > 1e3 * found[0]
    columns = calm.stack.columns("critic.")
    wild.stack.online[:, columns] = calm.stack.online[:, columns]
    wild.update_policy(batch, torch.zeros(1).double()), calm.update_policy(batch, torch.zeros(1).double())
    agents = calm.stack.columns("agent.")
    assert torch.equal(wild.stack.online[:, agents], calm.stack.online[:, agents])


def test_each_update_moves_its_own_network() -> None:
    learner = coma(Hyperparameters(**COMA_SMALL), [0, 1])
    agents, critic = learner.stack.columns("agent."), learner.stack.columns("critic.")
    assert agents.stop == critic.start and critic.stop == learner.stack.online.shape[1] and agents.start == 0
    start = learner.stack.buffer.clone()
    learner.update(batch_of(0))
    assert torch.equal(learner.stack.online[:, agents], start[0][:, agents])
    assert not torch.equal(learner.stack.online[:, critic], start[0][:, critic])
    middle = learner.stack.online.clone()
    learner.update_policy(batch_of(0), torch.tensor(EPSILON).double())
    assert torch.equal(learner.stack.online[:, critic], middle[:, critic])
    assert not torch.equal(learner.stack.online[:, agents], middle[:, agents])
    assert torch.equal(learner.stack.target, start[1])


@pytest.mark.parametrize("critic_update", ["batch", "sequential"])
def test_padding_changes_nothing(critic_update: str) -> None:
    """The same update of both, to the bit, whatever stands behind the ends of episodes."""
    hyper = Hyperparameters(**COMA_SMALL, coma_critic_update=critic_update)  # type: ignore[arg-type]
    learner, other = (coma(hyper, [0, 1]) for _ in range(2))
    batch, epsilon = batch_of(0), torch.tensor(EPSILON).double()
    metrics = learner.update(batch) | learner.update_policy(batch, epsilon)
    noisy = spoil_padding(batch, math.nan)
    spoilt = other.update(noisy) | other.update_policy(noisy, epsilon)
    assert all(torch.equal(spoilt[key], value) for key, value in metrics.items())
    assert torch.equal(learner.stack.online, other.stack.online) and learner.stack.online.isfinite().all()


def test_a_group_that_broke_down_whole_teaches_nothing() -> None:
    """No step of it happened: run 0 stays as it is, beside run 1 that learns."""
    learner = coma(Hyperparameters(**COMA_SMALL), [0, 1])
    batch, start = batch_of(0), learner.stack.online.clone()
    batch.filled[0] = batch.terminated[0] = False
    metrics = learner.update(batch) | learner.update_policy(batch, torch.tensor(EPSILON).double())
    assert torch.equal(learner.stack.online[0], start[0]) and not torch.equal(learner.stack.online[1], start[1])
    assert all(value.isfinite().all() for value in metrics.values())


def test_agents_without_a_choice_contribute_nothing() -> None:
    """No gradient, and no share in the mean: a batch of placeholders has none, one decision is counted alone."""
    learner = coma(Hyperparameters(**COMA_SMALL), [0])
    batch = batch_of(3, n_runs=1)
    only = torch.arange(3) == 0
    absent = dataclasses.replace(
        batch, avail_actions=only.expand_as(batch.avail_actions).clone(), actions=torch.zeros_like(batch.actions)
    )
    start = learner.stack.online.clone()
    metrics = learner.update_policy(absent, torch.full((1,), 0.3).double())
    assert float(metrics["policy_loss"]) == float(metrics["policy_grad_norm"]) == float(metrics["policy_entropy"]) == 0
    assert torch.equal(learner.stack.online, start)

    absent.avail_actions[0, 0, 0, 1, :2] = True  # agent 1 may choose at the first step of episode 0
    history = history_keys(absent.obs.float(), absent.state.float(), absent.avail_actions, absent.actions)
    chosen = dataclasses.replace(absent, history=history)
    tree = build_tree(chosen)
    loss, _ = learner.policy_losses(chosen, tree, torch.zeros(1).double())
    q = edge_values(learner, chosen, tree)[0, tree.edges.index[0, 0, 0], 1, :2]
    logits = learner.unroll(chosen, tree).agent_qs[0, tree.nodes.index[0, 0, 0], 1, :2]
    pi = logits.softmax(-1)
    torch.testing.assert_close(loss[0], -(q[0] - (pi * q).sum()) * pi[0].log())


def test_the_critic_does_not_see_an_agents_own_action() -> None:
    """Agent i's values are the same whatever it does, and change with what another does."""
    learner = coma(Hyperparameters(**COMA_SMALL), [4], n_agents=3)
    batch = batch_of(1, n_runs=1, n_agents=3)

    def values(agent: int, action: int) -> torch.Tensor:
        actions = batch.actions.clone()
        actions[0, 0, 0, agent] = action
        changed = dataclasses.replace(batch, actions=actions)
        tree = build_tree(changed)
        return edge_values(learner, changed, tree)[0, tree.edges.index[0, 0, 0]]

    for agent in range(3):
        before, after = values(agent, 0), values(agent, 2)
        same = [bool((before[i] == after[i]).all()) for i in range(3)]
        assert same == [i == agent for i in range(3)]


@pytest.mark.parametrize("critic_update", ["batch", "sequential"])
def test_a_run_does_not_depend_on_its_neighbours(critic_update: str) -> None:
    """Rewards of a million in run 1 leave runs 0 and 2 as they are; and a run that is selected goes on alone.

    Run 2's episodes are the shortest, so that the others have times at which it takes no step.
    """
    hyper = Hyperparameters(**COMA_SMALL, coma_critic_update=critic_update)  # type: ignore[arg-type]
    calm, wild, alone = (coma(hyper, [0, 1, 2]) for _ in range(3))
    factor, epsilon = torch.tensor([1.0, 1e6, 1.0]).double(), torch.tensor([0.1, 0.5, 0.0]).double()
    for k in range(3):
        batch = batch_of(k, n_runs=3)
        batch.filled[2, :, 2:] = batch.terminated[2, :, 2:] = False
        assert batch.filled[0, :, -1].any()
        loud = dataclasses.replace(batch, rewards=batch.rewards * factor[:, None, None, None])
        for learner, one in ((calm, batch), (wild, loud)):
            learner.update(one), learner.update_policy(one, epsilon)
        keep = torch.tensor([2]) if k else torch.arange(3)
        if k == 1:
            alone.select(keep)
        alone.update(batch.runs(keep)), alone.update_policy(batch.runs(keep), epsilon[keep])
        for learner in (calm, wild, alone):
            learner.sync_target(200 * k)
    for r in (0, 2):
        torch.testing.assert_close(wild.stack.buffer[:, r], calm.stack.buffer[:, r], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(wild.stack.online[1], calm.stack.online[1])
    torch.testing.assert_close(alone.stack.buffer[:, 0], calm.stack.buffer[:, 2], rtol=1e-12, atol=1e-12)


def test_joint_values_are_each_agents_view_of_every_joint_action() -> None:
    learner = coma(Hyperparameters(**COMA_SMALL), [3])
    one = LoopCOMA(learner.hyper, 0.8, SHAPE)
    one.load(run_of(learner.stack.params, 0))
    batch = batch_of(0, n_runs=1)
    table = learner.joint_values(batch.obs[0, 0, 0], batch.state[0, 0, 0], torch.ones(2, 3, dtype=torch.bool))
    assert table.shape == (1, 3, 3, 2)
    for joint in ((0, 0), (1, 2), (2, 1)):
        mine = batch.map(lambda field: field[0].clone())
        mine.actions[0, 0] = torch.tensor(joint)
        for i in range(2):
            assert float(table[(0, *joint, i)]) == pytest.approx(float(one.critic.at(mine, 0, 0, i)[joint[i]].detach()))


# The policy -------------------------------------------------------------------------------------------------------


def test_policy_by_hand() -> None:
    """Weights 1, 2, 5, the last illegal, floor 0.3 over two legal actions: 0.7/3 + 0.15, 1.4/3 + 0.15, 0."""
    logits = torch.tensor([1.0, 2.0, 5.0]).log().double()
    legal = torch.tensor([[True, True, False], [True, True, True], [False, True, False]])
    log_policy = log_softmax(logits.expand(1, 3, 3), legal[None])
    policy = floored(log_policy, legal[None], torch.tensor([0.3]).double())[0]
    expected = [
        [0.7 / 3 + 0.15, 1.4 / 3 + 0.15, 0.0],
        [0.7 / 8 + 0.1, 1.4 / 8 + 0.1, 3.5 / 8 + 0.1],
        [0.0, 1.0, 0.0],
    ]
    torch.testing.assert_close(policy, torch.tensor(expected).double())
    taken = log_floored(log_policy[..., 1], legal[None], torch.tensor([0.3]).double())[0]
    torch.testing.assert_close(taken, torch.tensor(expected)[:, 1].double().log())


@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.5, 1.0])
def test_policy_at_the_edges(epsilon: float) -> None:
    """Logits so far apart that an exponential is zero: finite logarithms and gradients; each run has its own floor."""
    logits = torch.tensor([[[0.0, 900.0, 3.0]], [[0.0, 900.0, 3.0]]]).double().requires_grad_()
    legal = torch.tensor([True, True, False]).expand(2, 1, 3)
    own = torch.tensor([epsilon, 0.5]).double()
    log_policy = log_softmax(logits, legal)
    policy = floored(log_policy, legal, own)
    torch.testing.assert_close(policy.sum(-1), torch.ones(2, 1).double())
    assert policy[0, 0].tolist() == pytest.approx([epsilon / 2, 1 - epsilon / 2, 0.0])
    assert policy[1, 0].tolist() == pytest.approx([0.25, 0.75, 0.0])
    log_taken = log_floored(log_policy[..., 0], legal, own)
    log_taken.sum().backward()
    assert log_taken.isfinite().all() and logits.grad is not None and logits.grad.isfinite().all()
    assert not logits.grad[..., 2].any()
