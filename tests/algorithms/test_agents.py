"""The agent network against torch.nn.Linear and torch.nn.GRU: values, gradients, and acting step by step."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch
from oracle.batches import random_batch
from oracle.dense import DenseNetworks
from torch import Tensor

from smix_pz.algorithms import agents, unroll_cpu
from smix_pz.algorithms import unroll as unroll_module
from smix_pz.algorithms.agents import AGENTS, Agent, GRUAgent, Unrolled, describe_agent, node_inputs, read_agent
from smix_pz.algorithms.histories import HistoryTree, build_tree
from smix_pz.algorithms.networks import ParameterStack
from smix_pz.algorithms.unroll import UnrollTree
from smix_pz.algorithms.unroll_cpu import UnrollTreeCPU
from smix_pz.config import Hyperparameters
from smix_pz.episodes import EpisodeBatch

R, N, A, OBS, H = 3, 2, 3, 4, 5
SHARING = pytest.mark.parametrize("sharing", [True, False], ids=["shared", "own"])
NETWORKS = pytest.mark.parametrize("network", AGENTS)
SCENES = pytest.mark.parametrize("n_scenes", [2, 1000], ids=["repeated-histories", "distinct-histories"])


def make(
    sharing: bool, n_scenes: int, seed: int = 0, network: str = "gru"
) -> tuple[Agent, ParameterStack, EpisodeBatch, HistoryTree]:
    """Agents whose online and target parameters differ, in float64, and a batch."""
    agent = AGENTS[network](OBS, N, A, H, sharing)
    rngs = [np.random.default_rng([seed, r]) for r in range(R)]
    drawn = [ParameterStack.draw(agent.parameters(), rngs, torch.device("cpu")).online for _ in range(2)]
    stack = ParameterStack(agent.parameters(), 2 * torch.stack(drawn).double())
    batch = random_batch(
        np.random.default_rng(seed), n_runs=R, n_agents=N, n_actions=A, obs_dim=OBS, n_scenes=n_scenes,
        dtype=torch.float64,
    )  # fmt: skip
    return agent, stack, batch, build_tree(batch)


def unroll(agent: Agent, stack: ParameterStack, batch: EpisodeBatch, tree: HistoryTree) -> Unrolled:
    obs, last_actions = node_inputs(batch.obs, batch.actions, tree.nodes)
    return agent.unroll(stack.params, stack.target_params, obs, last_actions, tree)


def in_batch(values: Tensor, tree: HistoryTree) -> Tensor:
    """From nodes [R, M, ...] to [R, B, T+1, ...], by plain indexing."""
    return torch.stack([values[r][tree.nodes.index[r]] for r in range(R)])


def dense(sharing: bool, params: dict[str, Tensor], network: str) -> DenseNetworks:
    hyper = Hyperparameters(hidden_dim=H, parameter_sharing=sharing, agent_network=network)  # type: ignore[arg-type]
    networks = DenseNetworks("none", hyper, N, A, OBS, 1).double()
    networks.load(params)
    return networks


@pytest.fixture(autouse=True, params=["compiled", "compiled, 2 threads", "plain"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The unroll for a CPU, with one network or all at a time, and the one for any device."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if "2" in request.param else 1)
    monkeypatch.setattr(unroll_cpu, "CHUNK_NUMBERS", 1 if "2" in request.param else 1 << 14)
    if request.param == "plain":
        monkeypatch.setattr(agents, "UnrollTreeCPU", UnrollTree)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, params=[1, 150, 1 << 15])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One time in a block, a few, and all."""
    for module in (unroll_module, unroll_cpu):
        monkeypatch.setattr(module, "BLOCK_NUMBERS", request.param, raising=False)


@SHARING
@SCENES
@NETWORKS
def test_unroll_is_torchs(sharing: bool, n_scenes: int, network: str) -> None:
    agent, stack, batch, tree = make(sharing, n_scenes, network=network)
    found = unroll(agent, stack, batch, tree)
    needed = batch.needed()
    for r in range(R):
        for params, qs, hidden in (
            ({name: p[r] for name, p in stack.params.items()}, found.agent_qs, found.hidden),
            ({name: p[r] for name, p in stack.target_params.items()}, found.target_qs, found.target_hidden),
        ):
            expected_qs, expected_hidden = dense(sharing, params, network).unroll(batch.obs[r], batch.actions[r])
            torch.testing.assert_close(in_batch(qs, tree)[r][needed[r]], expected_qs[needed[r]])
            torch.testing.assert_close(in_batch(hidden, tree)[r][needed[r]], expected_hidden[needed[r]])
    assert not found.target_qs.requires_grad and not found.target_hidden.requires_grad
    assert not torch.allclose(found.agent_qs, found.target_qs, atol=0.01)


@SHARING
@SCENES
@NETWORKS
@pytest.mark.parametrize("used", ["values", "hidden", "both"])
def test_gradient_is_torchs(sharing: bool, n_scenes: int, network: str, used: str) -> None:
    """Of any function of values and hidden states (QTRAN reads the latter), in every parameter of every run."""
    agent, stack, batch, tree = make(sharing, n_scenes, seed=1, network=network)
    needed = batch.needed()[..., None, None]
    rng = np.random.default_rng(7)
    weights = {
        name: torch.from_numpy(rng.normal(size=(*batch.actions.shape, width))) * needed
        for name, width in (("values", A), ("hidden", H))
    }

    def score(qs: Tensor, hidden: Tensor, r: int | slice) -> Tensor:
        total = (weights["values"][r] * qs).sum() if used != "hidden" else 0.0
        return total + ((weights["hidden"][r] * hidden.square()).sum() if used != "values" else 0.0)

    found = unroll(agent, stack, batch, tree)
    names = list(stack.params)
    total = score(in_batch(found.agent_qs, tree), in_batch(found.hidden, tree), slice(None))
    gradients = torch.autograd.grad(total, list(stack.params.values()), allow_unused=True)
    for r in range(R):
        networks = dense(sharing, {name: p[r] for name, p in stack.params.items()}, network)
        score(*networks.unroll(batch.obs[r], batch.actions[r]), r).backward()
        expected = networks.layout(lambda p: torch.zeros_like(p) if p.grad is None else p.grad)
        for name, gradient in zip(names, gradients, strict=True):
            got = torch.zeros_like(expected[name]) if gradient is None else gradient[r]
            torch.testing.assert_close(got, expected[name], msg=lambda text, at=(name, r): f"{at}: {text}")


@SHARING
def test_gradcheck(sharing: bool) -> None:
    """The hand-written gradient against finite differences, without any other network in between."""
    agent, stack, batch, tree = make(sharing, 2, seed=2)
    names = list(stack.params)
    obs, last_actions = node_inputs(batch.obs, batch.actions, tree.nodes)
    used = [sorted({int(i) for i in tree.nodes.index[r][batch.needed()[r]]}) for r in range(R)]

    def values(*params: Tensor) -> tuple[Tensor, Tensor]:
        online = dict(zip(names, params, strict=True))
        found = agent.unroll(online, stack.target_params, obs, last_actions, tree)
        return tuple(torch.cat([x[r, used[r]] for r in range(R)]) for x in (found.agent_qs, found.hidden))

    parameters = [p.detach().clone().requires_grad_() for p in stack.params.values()]
    assert torch.autograd.gradcheck(values, parameters, fast_mode=True)


def test_gradient_of_the_inputs() -> None:
    """It is asked for by an encoder alone; against finite differences."""
    agent, stack, batch, tree = make(True, 2, seed=4)
    obs, last_actions = node_inputs(batch.obs, batch.actions, tree.nodes)
    used = [sorted({int(i) for i in tree.nodes.index[r][batch.needed()[r]]}) for r in range(R)]

    def values(obs: Tensor) -> Tensor:
        found = agent.unroll(stack.params, stack.target_params, obs, last_actions, tree)
        return torch.cat([found.agent_qs[r, used[r]] for r in range(R)])

    assert torch.autograd.gradcheck(values, obs.clone().requires_grad_(), fast_mode=True)


@SHARING
@NETWORKS
def test_acting_step_by_step_is_the_unroll(sharing: bool, network: str) -> None:
    """In float32 as in training, over the filled steps."""
    agent, stack, batch, tree = make(sharing, 2, seed=3, network=network)
    stack = ParameterStack(stack.spec, stack.buffer.float())
    batch = batch.map(lambda x: x.float() if x.is_floating_point() else x)
    unrolled = in_batch(unroll(agent, stack, batch, tree).agent_qs, tree)
    hidden = agent.initial_hidden(R, batch.actions.shape[1], torch.device("cpu"))
    last = torch.full((R, batch.actions.shape[1], N), -1)
    for t in range(batch.n_steps + 1):
        before = hidden.clone()
        qs, hidden = agent.step(stack.params, batch.obs[:, :, t], last, hidden)
        last = batch.actions[:, :, t]
        here = batch.needed()[:, :, t]
        torch.testing.assert_close(qs[here], unrolled[:, :, t][here], rtol=1e-5, atol=1e-6)
        assert not torch.equal(hidden, before) and not qs.requires_grad


@SHARING
@NETWORKS
def test_agents_are_told_apart(sharing: bool, network: str) -> None:
    """By their identity in the input, or by their own parameters; their gradients are separate then."""
    agent, stack, *_ = make(sharing, 2, network=network)
    same_obs = torch.ones(R, 4, N, OBS, dtype=torch.float64)
    last, hidden = torch.full((R, 4, N), -1), torch.zeros(R, 4, N, H, dtype=torch.float64)
    qs, _ = agent.step(stack.params, same_obs, last, hidden)
    for i, j in itertools.combinations(range(N), 2):
        assert (qs[:, :, i] - qs[:, :, j]).abs().amin() > 1e-6
    shapes = {name: parameter.shape for name, parameter in agent.parameters().items()}
    assert all(shape[0] == N and len(shape) == 3 for shape in shapes.values()) != sharing


def test_inputs_are_observation_last_action_identity() -> None:
    agent = GRUAgent(2, 3, 2)
    obs = torch.tensor([[[[7.0, 8.0]] * 3]])
    found = agent.inputs(obs, torch.tensor([[[-1, 0, 1]]]))
    expected = [[7, 8, 0, 0, 1, 0, 0], [7, 8, 1, 0, 0, 1, 0], [7, 8, 0, 1, 0, 0, 1]]
    assert found.tolist() == [[expected]] and agent.input_dim == 7


def test_a_feed_forward_agent_has_no_memory() -> None:
    """Its values do not depend on what it remembers, those of a GRU do."""
    for network, depends in (("ff", False), ("gru", True)):
        agent, stack, *_ = make(True, 2, network=network)
        obs = torch.ones(R, 4, N, OBS, dtype=torch.float64)
        one, other = (
            agent.step(stack.params, obs, torch.full((R, 4, N), -1), torch.full((R, 4, N, H), x, dtype=obs.dtype))[0]
            for x in (0.0, 1.0)
        )
        assert torch.equal(one, other) != depends


def test_files_say_which_network_they_hold() -> None:
    """And those from before there was a choice hold a GRU."""
    for network, kind in AGENTS.items():
        agent = kind(48, 3, 4, 5, False, (4, 4, 3), 1 / 255)
        plain = json.loads(json.dumps(describe_agent(agent)))
        assert plain["network"] == network and read_agent(plain) == agent
    old = {"obs_dim": 3, "n_agents": 2, "n_actions": 4, "hidden_dim": 64, "parameter_sharing": True}
    assert read_agent(old) == GRUAgent(3, 2, 4)
    with pytest.raises(ValueError, match="unknown agent network 'lstm'"):
        read_agent({**old, "network": "lstm"})


def test_parameters_are_drawn_as_torch_draws_them() -> None:
    """Uniform in +-1/sqrt(fan-in): the bounds of torch.nn.Linear and torch.nn.GRU; each run from its own stream."""
    agent = GRUAgent(30, 4, 10, 64)
    draw = partial(ParameterStack.draw, agent.parameters(), device=torch.device("cpu"))
    stack = draw(rngs=[np.random.default_rng(seed) for seed in (1, 2)])
    networks = DenseNetworks("none", Hyperparameters(), 4, 10, 30, 1).layout()
    for name, expected in networks.items():
        got = stack.params[name]
        assert got.shape[1:] == expected.shape
        torch.testing.assert_close(got[0].abs().amax(), expected.abs().amax(), rtol=0.35, atol=0.0)
        torch.testing.assert_close(got[0].std(), expected.std(), rtol=0.35, atol=0.0)
    alone = draw(rngs=[np.random.default_rng(2)])
    assert torch.equal(alone.online[0], stack.online[1]) and not torch.equal(stack.online[0], stack.online[1])
    assert torch.equal(stack.online, stack.target)


def test_the_compiled_tanh_is_tanh() -> None:
    """In float32 to 5e-7, also where it is flat, at zero and at infinity; NaN stays NaN; in float64 it is exact."""
    x = np.concatenate((np.linspace(-12, 12, 200_001), [0.0, 1e-30, -1e-30, 100.0, np.inf, -np.inf, np.nan]))
    for dtype, tolerance in ((np.float32, 5e-7), (np.float64, 1e-15)):
        given = x.astype(dtype)
        found = np.empty_like(given)
        unroll_cpu.tanh_rows(given, found)
        np.testing.assert_allclose(found, np.tanh(given.astype(np.float64)), rtol=tolerance, atol=0.0)


def test_the_compiled_unroll_in_float32_is_the_plain_one() -> None:
    """On full sizes of a SMAC map, where the approximation and other orders of sums add up: values and gradients."""
    agent = GRUAgent(30, 3, 9, 64)
    stack = ParameterStack.draw(agent.parameters(), [np.random.default_rng(s) for s in range(2)], torch.device("cpu"))
    batch = random_batch(np.random.default_rng(5), n_runs=2, n_agents=3, n_actions=9, obs_dim=30, n_scenes=1000)
    tree = build_tree(batch)
    obs, last_actions = node_inputs(batch.obs, batch.actions, tree.nodes)
    x = agent.inputs(obs, last_actions).flatten(1, 2)
    found = {}
    for kind in (UnrollTree, UnrollTreeCPU):
        outputs = kind.apply(
            x, x, stack.params, stack.target_params, tree.nodes.bounds, tree.parents, 3, *stack.params.values()
        )
        gradients = torch.autograd.grad(outputs[0].square().sum(), list(stack.params.values()))
        found[kind] = [*outputs, *gradients]
    for name, one, other in zip(
        ["q", "hidden", "target q", "target hidden", *stack.params], *found.values(), strict=True
    ):
        scale = other.abs().max()
        torch.testing.assert_close(
            one / scale, other / scale, rtol=0, atol=3e-6, msg=lambda text, at=name: f"{at}: {text}"
        )


def test_nan_is_not_hidden() -> None:
    """A network that has become NaN says so: training stops there."""
    agent, stack, batch, tree = make(True, 2)
    stack = ParameterStack(stack.spec, stack.buffer.float())
    batch = batch.map(lambda x: x.float() if x.is_floating_point() else x)
    with torch.no_grad():
        stack.params["agent.gru_x.weight"][0, 0, 0] = torch.nan
    assert unroll(agent, stack, batch, tree).agent_qs[0].isnan().all()
