"""Mixers: monotonicity, Theorems 1 and 2 by enumeration, and where they fail."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from smix_pz.algorithms.mixers import MIXERS, Mixer, MonotonicMixer
from smix_pz.algorithms.networks import ParameterStack

SEEDS = st.integers(0, 2**31)
LAYERS = st.sampled_from([1, 2])


def drawn(mixer: Mixer, seed: int, n_runs: int = 1, scale: float = 3.0) -> dict[str, Tensor]:
    """Random parameters in float64, wider than the initial ones."""
    if not mixer.parameters():
        return {}
    rngs = [np.random.default_rng([seed, r]) for r in range(n_runs)]
    stack = ParameterStack.draw(mixer.parameters(), rngs, torch.device("cpu"))
    return {name: scale * p.double() for name, p in stack.target_params.items()}


def joint_table(mixer: Mixer, params: dict[str, Tensor], qs: Tensor, state: Tensor) -> Tensor:
    """Q_tot of every joint action: qs [N, A], state [S] -> [A, ..., A]."""
    n_agents, n_actions = qs.shape
    joint = list(itertools.product(range(n_actions), repeat=n_agents))
    chosen = torch.stack([qs[torch.arange(n_agents), list(actions)] for actions in joint])
    q_tot = mixer(params, chosen[None], state.expand(1, len(joint), -1))
    return q_tot[0, :, 0].reshape((n_actions,) * n_agents)


def random_case(seed: int, n_agents: int, n_actions: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng([seed, 99])
    return torch.from_numpy(rng.normal(size=(n_agents, n_actions)) * 3), torch.from_numpy(rng.normal(size=4) * 3)


@given(seed=SEEDS, layers=LAYERS, n_agents=st.integers(1, 4))
def test_q_tot_rises_with_every_agents_value(seed: int, layers: int, n_agents: int) -> None:
    """Assumption 1: dQ_tot/dQ_i >= 0 for any parameters and any state."""
    mixer = MIXERS["monotonic"](n_agents, 4, 8, layers)
    rng = np.random.default_rng(seed)
    qs = torch.from_numpy(rng.normal(size=(1, 16, n_agents)) * 5).requires_grad_()
    state = torch.from_numpy(rng.normal(size=(1, 16, 4)) * 5)
    (slope,) = torch.autograd.grad(mixer(drawn(mixer, seed), qs, state).sum(), qs)
    assert (slope >= 0).all() and (slope > 0).any()


@given(seed=SEEDS, layers=LAYERS, sizes=st.sampled_from([(1, 4), (2, 3), (3, 2), (3, 3)]))
def test_independent_argmaxes_are_the_joint_argmax(seed: int, layers: int, sizes: tuple[int, int]) -> None:
    """Theorem 2, and Theorem 1: whatever one agent plays, the others' best is their own argmax."""
    mixer = MIXERS["monotonic"](sizes[0], 4, 8, layers)
    qs, state = random_case(seed, *sizes)
    table = joint_table(mixer, drawn(mixer, seed), qs, state)
    best = tuple(qs.argmax(1).tolist())
    assert table[best] == pytest.approx(float(table.max()), abs=1e-12)
    for i, own in itertools.product(range(sizes[0]), range(sizes[1])):
        others_best = (*best[:i], own, *best[i + 1 :])
        assert table[others_best] == pytest.approx(float(table.select(i, own).max()), abs=1e-12)


def test_without_the_constraint_the_theorems_fail() -> None:
    """The noabs ablation: some weights make independent argmaxes a bad joint action, and slopes negative."""
    mixer = MIXERS["unconstrained"](2, 4, 8, 1)
    worst, negative = 0.0, False
    for seed in range(30):
        qs, state = random_case(seed, 2, 3)
        params = drawn(mixer, seed)
        table = joint_table(mixer, params, qs, state)
        worst = max(worst, float(table.max() - table[tuple(qs.argmax(1).tolist())]))
        chosen = qs[None, None, :, 0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(mixer(params, chosen, state[None, None]).sum(), chosen)
        negative = negative or bool((slope < -0.01).any())
    assert worst > 1.0 and negative


@pytest.mark.parametrize("layers", [1, 2])
def test_monotonic_mixer_by_hand(layers: int) -> None:
    """ELU(q |W1(s)| + b1(s)) . |w2(s)| + V(s), element by element."""
    n, s, e = 3, 4, 2
    mixer = MonotonicMixer(n, s, e, layers, hypernet_dim=5)
    params = {name: p[0].numpy() for name, p in drawn(mixer, 0).items()}
    rng = np.random.default_rng(0)
    q, state = rng.normal(size=n), rng.normal(size=s)

    def relu(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, 0.0)

    raw = state @ params["mixer.hypernet.weight"] + params["mixer.hypernet.bias"][0]
    first = [n * e, e] if layers == 1 else [5, 5]
    w1, w2, b1, v = np.split(raw, np.cumsum([*first, e]))
    if layers == 2:
        w1 = relu(w1) @ params["mixer.w1.weight"] + params["mixer.w1.bias"][0]
        w2 = relu(w2) @ params["mixer.w2.weight"] + params["mixer.w2.bias"][0]
    total = (relu(v) @ params["mixer.v.weight"] + params["mixer.v.bias"][0])[0]
    for k in range(e):
        before = sum(q[i] * abs(w1[i * e + k]) for i in range(n)) + b1[k]
        total += abs(w2[k]) * (before if before > 0 else np.exp(before) - 1)
    found = mixer(
        {name: torch.from_numpy(p)[None] for name, p in params.items()},
        torch.from_numpy(q)[None, None],
        torch.from_numpy(state)[None, None],
    )
    assert found.shape == (1, 1, 1) and float(found) == pytest.approx(total, rel=1e-12)


def test_runs_do_not_meet() -> None:
    """Each run of a stack is mixed by its own weights."""
    mixer = MIXERS["monotonic"](3, 4, 8, 2)
    params = drawn(mixer, 0, n_runs=3)
    rng = np.random.default_rng(1)
    qs, state = torch.from_numpy(rng.normal(size=(3, 5, 3))), torch.from_numpy(rng.normal(size=(3, 5, 4)))
    together = mixer(params, qs, state)
    for r in range(3):
        alone = mixer({name: p[r : r + 1] for name, p in params.items()}, qs[r : r + 1], state[r : r + 1])
        torch.testing.assert_close(together[r : r + 1], alone)
    assert not torch.allclose(together[0], mixer(params, qs[[1, 0, 2]], state[[1, 0, 2]])[1])


def test_sum_and_none() -> None:
    qs, state = torch.tensor([[[1.0, 2.0, 4.0], [-1.0, 0.5, 0.0]]]), torch.zeros(1, 2, 4)
    vdn, iql = MIXERS["sum"](3, 4, 8, 1), MIXERS["none"](3, 4, 8, 1)
    assert vdn({}, qs, state).tolist() == [[[7.0], [-0.5]]] and vdn.parameters() == {}
    assert vdn({}, qs[..., [2, 0, 1]], state).tolist() == [[[7.0], [-0.5]]]  # whoever comes first
    assert iql({}, qs, state).tolist() == qs.tolist() and iql.parameters() == {}


@pytest.mark.parametrize("name", MIXERS)
def test_one_agent(name: str) -> None:
    mixer = MIXERS[name](1, 4, 8, 1)
    qs = torch.linspace(-3, 3, 7, dtype=torch.float64).reshape(1, 7, 1)
    found = mixer(drawn(mixer, 0), qs, torch.ones(1, 7, 4, dtype=torch.float64))
    assert found.shape == (1, 7, 1)
    if name in ("none", "sum"):
        assert torch.equal(found, qs)
    if name == "monotonic":
        assert (found.diff(dim=1) > 0).all()


def test_hypernet_layers_are_one_or_two() -> None:
    with pytest.raises(ValueError, match="hypernet_layers is 3"):
        MIXERS["monotonic"](2, 4, 8, 3)
