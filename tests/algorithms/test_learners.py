"""Learners against the slow dense ones: losses, gradients and parameters over several updates, runs stacked or not."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from oracle.batches import as_dtype, random_batch, spoil_padding
from oracle.dense import DenseLearner, values_at
from torch import Tensor

from smix_pz.algorithms import ALGORITHMS, ESTIMATORS, Algorithm, Learner, make_learner
from smix_pz.algorithms import learner as learner_module
from smix_pz.algorithms.histories import build_tree
from smix_pz.algorithms.networks import ParameterStack
from smix_pz.algorithms.optimizers import make_optimizer
from smix_pz.algorithms.q_learner import Outputs
from smix_pz.algorithms.returns import ReturnEstimator
from smix_pz.config import Hyperparameters
from smix_pz.episodes import EpisodeBatch

SHAPE = {"n_agents": 2, "n_actions": 3, "obs_dim": 3, "state_dim": 4}
SMALL: dict[str, Any] = {
    "hidden_dim": 6, "mixing_embed_dim": 5, "qtran_embed_dim": 7, "learning_rate": 5e-3, "grad_clip": 0.3
}  # fmt: skip
MIXER_NAMES = ("none", "sum", "monotonic", "unconstrained", "joint")


def stacked(
    algorithm: Algorithm, hyper: Hyperparameters, seeds: list[int], dtype: torch.dtype = torch.float64, **shape: int
) -> Learner:
    """A learner of one run for each seed, in the given precision."""
    learner = make_learner(
        algorithm, **{**SHAPE, **shape}, hyper=hyper, rngs=[np.random.default_rng(seed) for seed in seeds],
        device=torch.device("cpu"),
    )  # fmt: skip
    learner.stack = ParameterStack(learner.stack.spec, learner.stack.buffer.to(dtype))
    learner.optimizer = make_optimizer(learner.stack, hyper)
    return learner


def make(
    algorithm: Algorithm, hyper: Hyperparameters, seeds: list[int], dtype: torch.dtype = torch.float64, **shape: int
) -> tuple[Learner, list[DenseLearner]]:
    """A stacked learner, and one dense learner for each of its runs, with equal parameters."""
    learner = stacked(algorithm, hyper, seeds, dtype, **shape)
    dense = [DenseLearner(algorithm, hyper, {**SHAPE, **shape}, dtype) for _ in seeds]
    for r, one in enumerate(dense):
        one.load(run_of(learner.stack.params, r))
    return learner, dense


def run_of(params: dict[str, Tensor], r: int) -> dict[str, Tensor]:
    return {name: p[r].detach() for name, p in params.items()}


def gradient_of(learner: Learner, r: int) -> dict[str, Tensor]:
    """Run r's newest gradient by name, after clipping."""
    sizes = [math.prod(parameter.shape) for parameter in learner.stack.spec.values()]
    pieces = learner.stack.grad[r].split(sizes)
    return {name: piece.reshape(p.shape) for (name, p), piece in zip(learner.stack.spec.items(), pieces, strict=True)}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], **tolerance: float) -> None:
    assert set(found) == set(expected)
    for name in found:
        torch.testing.assert_close(
            found[name], expected[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance
        )


def compare(
    algorithm: Algorithm,
    hyper: Hyperparameters,
    *,
    n_updates: int = 4,
    dtype: torch.dtype = torch.float64,
    tolerance: dict[str, float] | None = None,
    **shape: int,
) -> None:
    """Several updates of two stacked runs and of two dense learners on the same batches; targets copied once."""
    tolerance = tolerance or {"rtol": 1e-7, "atol": 1e-9}
    learner, dense = make(algorithm, hyper, [0, 1], dtype, **shape)
    clipped = 0
    for k in range(n_updates):
        batch = random_batch(np.random.default_rng([k, 5]), n_runs=2, dtype=dtype, **{**SHAPE, **shape})
        metrics = learner.update(batch)
        for r, one in enumerate(dense):
            loss, norm = one.update(batch.map(lambda field, r=r: field[r]))
            assert float(metrics["loss"][r]) == pytest.approx(loss, rel=tolerance["rtol"])
            assert float(metrics["grad_norm"][r]) == pytest.approx(norm, rel=tolerance["rtol"])
            assert_same(gradient_of(learner, r), one.gradients(), **tolerance)
            assert_same(run_of(learner.stack.params, r), one.online.layout(), **tolerance)
            assert_same(run_of(learner.stack.target_params, r), one.target.layout(), **tolerance)
            clipped += norm > hyper.grad_clip
        if k == 1:
            assert learner.sync_target(hyper.target_update_episodes)
            for one in dense:
                one.sync_target()
    assert clipped > 0  # so the clip was compared, too


def row(mixer: str, estimator: Any) -> Algorithm:
    return Algorithm("tested", mixer, ReturnEstimator(estimator, td_lambda=0.7, n_step=2), 10, "")


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("mixer", MIXER_NAMES)
def test_updates_are_those_of_the_dense_learner(mixer: str, estimator: str) -> None:
    compare(row(mixer, estimator), Hyperparameters(**SMALL))


@pytest.mark.parametrize("estimator", [e for e in ESTIMATORS if ReturnEstimator(e).bootstrap == "expected"])
@pytest.mark.parametrize("mixer", MIXER_NAMES)
def test_updates_under_a_soft_target_policy(mixer: str, estimator: str) -> None:
    """The dense learner sums over every joint action, for every mixer."""
    compare(row(mixer, estimator), Hyperparameters(**SMALL, target_epsilon=0.3), n_updates=2)


def test_mean_field_is_the_mixer_of_expectations_and_an_approximation() -> None:
    """By hand for QMIX at one place; and not the exact value, which the test above has compared."""
    exact, mean_field = (
        stacked(ALGORITHMS["qmix"], Hyperparameters(**SMALL, target_epsilon=0.5, expectation=e), [0])
        for e in ("exact", "mean-field")
    )
    rng = np.random.default_rng(0)
    qs, state = torch.from_numpy(rng.normal(size=(1, 4, 2, 3)) * 3), torch.from_numpy(rng.normal(size=(1, 4, 4)))
    policy = torch.from_numpy(rng.dirichlet(np.ones(3), (1, 4, 2)))
    outputs = Outputs((qs, qs))
    found, right = (
        one.expected_values(one.stack.params, outputs, state, policy)  # type: ignore[attr-defined]
        for one in (mean_field, exact)
    )
    network = DenseLearner(ALGORITHMS["qmix"], Hyperparameters(**SMALL), SHAPE, torch.float64)
    network.load(run_of(exact.stack.params, 0))
    means = torch.zeros(1, 4, 2, dtype=torch.float64)
    for place, agent, action in itertools.product(range(4), range(2), range(3)):
        means[0, place, agent] += policy[0, place, agent, action] * qs[0, place, agent, action]
    torch.testing.assert_close(found, network.online.mix(means, state))
    total = sum(
        policy[..., 0, a, None] * policy[..., 1, b, None]
        * network.online.mix(torch.stack((qs[..., 0, a], qs[..., 1, b]), -1), state)
        for a, b in itertools.product(range(3), repeat=2)
    )  # fmt: skip
    torch.testing.assert_close(right, total)
    assert not torch.allclose(found, right, atol=1e-3)


@pytest.mark.parametrize("name", ["qmix", "smix", "qtran", "vdn-r"])
def test_updates_in_training_precision(name: str) -> None:
    """float32, as training runs."""
    compare(ALGORITHMS[name], Hyperparameters(**SMALL), dtype=torch.float32, tolerance={"rtol": 2e-3, "atol": 2e-4})


@pytest.mark.parametrize(
    ("name", "changes", "shape"),
    [
        ("qmix", {"double_q": False}, {}),
        ("qtran", {"double_q": False}, {}),
        ("smix", {"hypernet_layers": 2}, {}),
        ("smix", {"parameter_sharing": False}, {}),
        ("qtran-r", {"parameter_sharing": False, "qtran_opt_weight": 0.3, "qtran_nopt_weight": 2.0}, {}),
        ("qmix", {"gamma": 0.5, "rms_alpha": 0.9, "rms_eps": 1e-3}, {"n_agents": 3, "n_actions": 2}),
        ("smix", {}, {"n_agents": 1, "obs_dim": 1, "state_dim": 1}),
        ("iql-r", {}, {"n_agents": 4, "n_actions": 4}),
        ("smix", {"optimizer": "adam"}, {}),
        ("vdn", {"agent_network": "ff"}, {}),
        ("smix", {"agent_network": "ff", "parameter_sharing": False, "hypernet_layers": 2, "optimizer": "adam"}, {}),
        ("qtran", {"agent_network": "ff"}, {}),
        ("qtran-r", {"agent_network": "ff", "parameter_sharing": False}, {}),
        ("iql", {"agent_network": "ff", "double_q": False}, {"n_agents": 3}),
        ("qtran", {"optimizer": "adam", "adam_beta1": 0.5, "adam_beta2": 0.9, "adam_eps": 1e-4}, {}),
    ],
)
def test_updates_under_other_settings(name: str, changes: dict[str, Any], shape: dict[str, int]) -> None:
    compare(ALGORITHMS[name], Hyperparameters(**{**SMALL, **changes}), n_updates=3, **shape)


@pytest.mark.parametrize(
    ("name", "estimator"), [*((name, None) for name in ALGORITHMS), *(("qmix", e) for e in ESTIMATORS)]
)
def test_padding_changes_nothing(name: str, estimator: str | None) -> None:
    """The same update, to the bit, whatever stands behind the ends of episodes."""
    algorithm = ALGORITHMS[name] if estimator is None else row("monotonic", estimator)
    learner, other = (stacked(algorithm, Hyperparameters(**SMALL), [0, 1]) for _ in range(2))
    batch = random_batch(np.random.default_rng(0), n_runs=2, dtype=torch.float64, **SHAPE)
    metrics, spoilt = learner.update(batch), other.update(spoil_padding(batch, math.nan))
    for key, value in metrics.items():
        torch.testing.assert_close(spoilt[key], value, rtol=0, atol=0)
    assert torch.equal(learner.stack.online, other.stack.online)
    assert learner.stack.online.isfinite().all()


@pytest.mark.parametrize("name", ["smix", "qtran", "iql", "coma"])
def test_a_runs_clip_and_gradient_are_its_own(name: str) -> None:
    """Rewards of a million in run 1 leave runs 0 and 2 as they are."""
    hyper = Hyperparameters(**{**SMALL, "grad_clip": 10.0})
    calm, wild = (stacked(ALGORITHMS[name], hyper, [0, 1, 2]) for _ in range(2))
    start = calm.stack.online.clone()
    for k in range(3):
        batch = random_batch(np.random.default_rng(k), n_runs=3, dtype=torch.float64, **SHAPE)
        factor = torch.tensor([1.0, 1e6, 1.0]).double()[:, None, None, None]
        calm.update(batch)
        metrics = wild.update(dataclasses.replace(batch, rewards=batch.rewards * factor))
        assert metrics["grad_norm"][1] > 1e3 and metrics["grad_norm"][0] < 1e3
    for r in (0, 2):
        torch.testing.assert_close(wild.stack.online[r], calm.stack.online[r], rtol=1e-12, atol=1e-12)
        assert not torch.equal(calm.stack.online[r], start[r])
    assert not torch.allclose(wild.stack.online[1], calm.stack.online[1])


@pytest.mark.parametrize("name", ["smix", "qtran", "vdn", "coma"])
def test_selected_runs_go_on_alone(name: str) -> None:
    """After ``select`` the rest of a stack learns as it would have beside the others; optimizer statistics included."""
    whole, part = (stacked(ALGORITHMS[name], Hyperparameters(**SMALL), [0, 1, 2]) for _ in range(2))
    keep = torch.tensor([2, 0])
    for k in range(4):
        batch = random_batch(np.random.default_rng(k), n_runs=3, dtype=torch.float64, **SHAPE)
        whole.update(batch)
        if k == 2:
            part.select(keep)
            assert part.n_runs == 2
        part.update(batch if k < 2 else batch.runs(keep))
        whole.sync_target(200 * k), part.sync_target(200 * k)
    torch.testing.assert_close(part.stack.buffer, whole.stack.buffer[:, keep], rtol=1e-12, atol=1e-12)


def test_target_is_copied_every_200_episodes() -> None:
    """In groups of 4 and of 12: at 200, 400, ... or at the first group past them."""
    for group, expected in ((4, [200, 400, 600]), (12, [204, 408, 612])):
        learner, _ = make(ALGORITHMS["iql"], Hyperparameters(**SMALL), [0])
        copied = []
        for episodes in range(group, 613, group):
            learner.stack.online.add_(1.0)
            before = learner.stack.target.clone()
            due = learner.sync_target(episodes)
            assert due == torch.equal(learner.stack.target, learner.stack.online)
            assert due != torch.equal(learner.stack.target, before)
            copied += [episodes] * due
        assert copied == expected


def test_targets_follow_only_by_copy() -> None:
    learner, _ = make(ALGORITHMS["smix"], Hyperparameters(**SMALL), [0])
    target = learner.stack.target.clone()
    for k in range(3):
        learner.update(random_batch(np.random.default_rng(k), dtype=torch.float64, **SHAPE))
    assert torch.equal(learner.stack.target, target) and not torch.equal(learner.stack.online, target)
    assert learner.n_updates == 3
    # What acts and what is written to disk are the same numbers as the buffer that the optimizer steps.
    flat = torch.cat([p.detach().flatten(1) for p in learner.stack.params.values()], dim=1)
    assert torch.equal(flat, learner.stack.online)


@pytest.mark.parametrize("name", ["iql", "vdn", "smix", "smix-noabs", "qtran"])
@pytest.mark.parametrize("n_agents", [1, 2, 3])
def test_joint_values_are_those_of_every_joint_action(name: str, n_agents: int) -> None:
    """Against the dense networks, one joint action at a time."""
    learner, dense = make(ALGORITHMS[name], Hyperparameters(**SMALL), [3, 4], n_agents=n_agents)
    rng = np.random.default_rng(0)
    obs, state = torch.from_numpy(rng.normal(size=(n_agents, 3))), torch.from_numpy(rng.normal(size=4))
    table = learner.joint_values(obs, state, torch.ones(n_agents, 3, dtype=torch.bool))
    assert table.shape == (2, *[3] * n_agents, n_agents if name == "iql" else 1)
    for r, one in enumerate(dense):
        qs, hidden = one.online.unroll(obs[None, None], torch.zeros(1, 1, n_agents, dtype=torch.long))
        for joint in itertools.product(range(3), repeat=n_agents):
            actions = torch.tensor(joint)
            if name == "qtran":
                expected = one.online.mixer(state, hidden[0, 0], actions)
            else:
                expected = one.online.mix(values_at(qs[0, 0], actions), state)
            torch.testing.assert_close(table[(r, *joint)], expected.detach())


def test_joint_values_refuse_large_tables() -> None:
    learner, _ = make(ALGORITHMS["vdn"], Hyperparameters(**SMALL), [0], n_agents=11)
    with pytest.raises(ValueError, match="177147 joint actions"):
        learner.joint_values(torch.zeros(11, 3), torch.zeros(4), torch.ones(11, 3, dtype=torch.bool))


@pytest.mark.parametrize("name", ["iql", "vdn", "smix", "qtran"])
def test_taken_values_over_an_episode(name: str) -> None:
    learner, dense = make(ALGORITHMS[name], Hyperparameters(**SMALL), [5, 6])
    batch = random_batch(np.random.default_rng(9), n_runs=2, dtype=torch.float64, **SHAPE)
    found = learner.taken_values(batch, build_tree(batch)).detach()
    for r, one in enumerate(dense):
        mine = batch.map(lambda field, r=r: field[r])
        qs, hidden = one.online.unroll(mine.obs, mine.actions)
        if name == "qtran":
            expected = one.online.mixer(mine.state, hidden, mine.actions)
        else:
            expected = one.online.mix(values_at(qs, mine.actions), mine.state)
        needed = batch.needed()[r]
        torch.testing.assert_close(found[r][needed], expected[needed].detach())


def test_td_loss_by_hand() -> None:
    """IQL, one agent, one step, terminated: loss = (r - q)^2, and mean q is reported."""
    learner, dense = make(ALGORITHMS["iql"], Hyperparameters(**SMALL), [0], n_agents=1)
    batch = random_batch(
        np.random.default_rng(0), n_episodes=1, n_steps=1, dtype=torch.float64, **{**SHAPE, "n_agents": 1}
    )
    batch = dataclasses.replace(batch, terminated=torch.ones_like(batch.terminated))
    qs, _ = dense[0].online.unroll(batch.obs[0], batch.actions[0])
    q = float(qs[0, 0, 0, int(batch.actions[0, 0, 0, 0])].detach())
    metrics = learner.update(batch)
    assert float(metrics["loss"]) == pytest.approx((float(batch.rewards) - q) ** 2)
    assert float(metrics["q_taken"]) == pytest.approx(q)


def test_float64_is_kept() -> None:
    """The comparisons above are worth their digits only if nothing falls back to float32 on the way."""
    learner, _ = make(ALGORITHMS["smix"], Hyperparameters(**SMALL), [0])
    batch: EpisodeBatch = random_batch(np.random.default_rng(0), **SHAPE)
    metrics = learner.update(as_dtype(batch, torch.float64))
    assert metrics["loss"].dtype == learner.stack.online.dtype == torch.float64


@pytest.mark.parametrize("name", ["qmix", "smix", "iql", "qtran", "coma-r"])
def test_many_batches_are_updates_one_after_the_other(name: str) -> None:
    many, single = (stacked(ALGORITHMS[name], Hyperparameters(**SMALL), [0, 1]) for _ in range(2))
    batches = [random_batch(np.random.default_rng(k), n_runs=2, dtype=torch.float64, **SHAPE) for k in range(3)]
    together = EpisodeBatch(
        **{f.name: torch.stack([getattr(b, f.name) for b in batches]) for f in dataclasses.fields(EpisodeBatch)}
    )
    last = many.update_many(together)
    for batch in batches:
        expected = single.update(batch)
    assert many.n_updates == single.n_updates == 3
    torch.testing.assert_close(many.stack.buffer, single.stack.buffer, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(last["loss"], expected["loss"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("smix", {}),
        ("qtran", {}),
        ("iql", {"optimizer": "adam"}),
        ("coma", {}),
        ("coma-r", {"coma_critic_update": "sequential"}),
    ],
)
def test_a_large_stack_is_updated_in_parts(
    monkeypatch: pytest.MonkeyPatch, name: str, changes: dict[str, Any], size: int, threads: int
) -> None:
    """Some runs at a time, on one thread or two: same parameters, statistics and metrics; after a selection, too."""
    whole, cut = (stacked(ALGORITHMS[name], Hyperparameters(**{**SMALL, **changes}), [0, 1, 2]) for _ in range(2))
    before, numbers = torch.get_num_threads(), 8 * 6 * SHAPE["n_agents"] * SMALL["hidden_dim"]
    torch.set_num_threads(threads)
    try:
        for k, kept in enumerate([3, 3, 2, 2]):
            if kept < whole.n_runs:
                whole.select(torch.tensor([0, 2]))
                cut.select(torch.tensor([0, 2]))
            batch = random_batch(np.random.default_rng(k), n_runs=kept, dtype=torch.float64, **SHAPE)
            found = []
            for learner in (whole, cut):
                monkeypatch.setattr(learner_module, "_PART_NUMBERS", 1 << 20 if learner is whole else size * numbers)
                assert len(learner._parts(batch.actions)) == (
                    1 if learner is whole or kept <= size else -(-kept // size)
                )
                metrics = learner.update(batch)
                found.append({**metrics, **learner.update_policy(batch, torch.full((kept,), 0.1))})
            assert_same(*found, rtol=1e-12, atol=1e-12)
            for pair in ((whole.stack.buffer, cut.stack.buffer), (whole.stack.grad, cut.stack.grad)):
                torch.testing.assert_close(*pair, rtol=1e-12, atol=1e-12)
            assert_same(whole.optimizer.state, cut.optimizer.state, rtol=1e-12, atol=1e-12)
            assert whole.n_updates == cut.n_updates == k + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("n_runs", [1, 2])
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("smix", {}),
        ("qmix", {"optimizer": "adam"}),
        ("qtran", {}),
        ("iql", {}),
        ("coma", {}),
        ("coma-r", {"coma_critic_update": "sequential"}),
    ],
)
def test_threads_share_the_episodes_of_few_runs(
    monkeypatch: pytest.MonkeyPatch, name: str, changes: dict[str, Any], n_runs: int
) -> None:
    """The pieces' weighted gradients and metrics are those of the whole batch, whatever its episodes' lengths; a piece
    without a single step does no harm."""
    seeds = list(range(n_runs))
    whole, cut = (stacked(ALGORITHMS[name], Hyperparameters(**{**SMALL, **changes}), seeds) for _ in range(2))
    before, split = torch.get_num_threads(), []
    inner = learner_module.Learner._split_step
    monkeypatch.setattr(
        learner_module.Learner, "_split_step", lambda self, *given: (split.append(self), inner(self, *given))[1]
    )
    try:
        for k in range(3):
            batch = random_batch(np.random.default_rng(k), n_runs=n_runs, dtype=torch.float64, **SHAPE)
            if k == 2:
                batch.filled[:, :4] = False
            found = []
            for learner, n_threads in ((whole, 1), (cut, 3)):
                torch.set_num_threads(n_threads)
                monkeypatch.setattr(learner_module, "_SPLIT_NUMBERS", 1)
                found.append(learner.update(batch))
            assert_same(*found, rtol=1e-11, atol=1e-12)
            torch.testing.assert_close(whole.stack.buffer, cut.stack.buffer, rtol=1e-11, atol=1e-12)
            torch.testing.assert_close(whole.stack.grad, cut.stack.grad, rtol=1e-11, atol=1e-12)
            assert whole.n_updates == cut.n_updates == k + 1
    finally:
        torch.set_num_threads(before)
    assert split == ([] if changes.get("coma_critic_update") else [cut] * 3)
