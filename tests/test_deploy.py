"""Trained teams outside the package: networks against PyTorch's own layers, exported files, players in plain loops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_envs import AGENTS, Dice, Masked
from torch import nn

import smix_pz
from smix_pz import cli
from smix_pz.config import TrainConfig
from smix_pz.envs import TeamEnv, smac_sim_v0
from smix_pz.envs.adapters import SingleAgentTeam
from smix_pz.policy import Policy
from smix_pz.training import train

SETTINGS: dict[str, Any] = {
    "seeds": (1,), "steps": 80, "eval_every": 40, "eval_episodes": 2, "batch_size": 8, "hidden_dim": 8,
    "progress": False,
}  # fmt: skip


KINDS: dict[str, dict[str, Any]] = {
    "shared": {}, "own": {"parameter_sharing": False},
    "ff-shared": {"agent_network": "ff"}, "ff-own": {"agent_network": "ff", "parameter_sharing": False},
}  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def policy(request: pytest.FixtureRequest) -> Policy:
    result = train(TrainConfig(**SETTINGS, env="tiny_envs:Masked", **KINDS[request.param]))
    return result.policies[0]


def rows(policy: Policy, count: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Random inputs of `count` rows: obs, last action, agent, hidden, mask (with at least one legal action)."""
    agent, generator = policy.agent, torch.Generator().manual_seed(seed)
    mask = torch.rand(count, agent.n_actions, generator=generator) < 0.5
    mask[:, 0] |= ~mask.any(1)
    return (
        torch.randn(count, agent.obs_dim, generator=generator),
        torch.randint(-1, agent.n_actions, (count,), generator=generator),
        torch.randint(0, agent.n_agents, (count,), generator=generator),
        torch.randn(count, agent.hidden_dim, generator=generator),
        mask,
    )


def by_pytorchs_layers(policy: Policy, inputs: tuple[torch.Tensor, ...]) -> tuple[Any, ...]:
    """The same from torch.nn.Linear and, where there is a memory, torch.nn.GRUCell, row by row."""
    agent, answers = policy.agent, []
    for obs, last, index, hidden, mask in zip(*inputs, strict=True):
        own = {
            name: p if agent.parameter_sharing else p[index] for name, p in policy.params.items() if "agent." in name
        }
        first, cell, final = (
            nn.Linear(agent.input_dim, agent.hidden_dim),
            nn.GRUCell(agent.hidden_dim, agent.hidden_dim),
            nn.Linear(agent.hidden_dim, agent.n_actions),
        )
        middle = nn.Linear(agent.hidden_dim, agent.hidden_dim)
        pairs = [
            *((first.weight, "fc_in.weight"), (first.bias, "fc_in.bias")),
            *((final.weight, "fc_out.weight"), (final.bias, "fc_out.bias")),
        ]
        if agent.network == "ff":
            pairs += [(middle.weight, "fc_hidden.weight"), (middle.bias, "fc_hidden.bias")]
        else:
            pairs += [(cell.weight_ih, "gru_x.weight"), (cell.bias_ih, "gru_x.bias")]
            pairs += [(cell.weight_hh, "gru_h.weight"), (cell.bias_hh, "gru_h.bias")]
        with torch.no_grad():
            for parameter, name in pairs:
                value = own[f"agent.{name}"]
                parameter.copy_(value.T if name.endswith("weight") else value.ravel())
            last_one_hot = torch.zeros(agent.n_actions)
            if last >= 0:
                last_one_hot[last] = 1.0
            identity = torch.zeros(agent.n_agents)
            identity[index] = 1.0
            x = first(torch.cat((obs, last_one_hot, identity))).relu()
            h = middle(x).relu() if agent.network == "ff" else cell(x[None], hidden[None])[0]
            q = final(h)
        legal = [int(a) for a in torch.nonzero(mask)]
        answers.append((max(legal, key=lambda a: float(q[a])), h, q))
    actions, hiddens, values = zip(*answers, strict=True)
    return torch.tensor(actions), torch.stack(hiddens), torch.stack(values)


def check(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(np.asarray(found[0]), np.asarray(expected[0]))
    for one, other in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=2e-6)


def test_the_network_is_pytorchs(policy: Policy) -> None:
    inputs = rows(policy, 20)
    check(policy.network()(*inputs), by_pytorchs_layers(policy, inputs))


def test_torchscript_runs_without_this_package(policy: Policy, tmp_path: Path) -> None:
    path, inputs = policy.export(tmp_path / "team.pt"), rows(policy, 3, seed=1)
    torch.save(inputs, tmp_path / "inputs.pt")
    program = """
import sys, torch
sys.modules["smix_pz"] = None
folder = sys.argv[1]
answers = torch.jit.load(folder + "/team.pt")(*torch.load(folder + "/inputs.pt"))
torch.save(tuple(answers), folder + "/answers.pt")
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, str(tmp_path)], check=True)
    check(torch.load(tmp_path / "answers.pt"), by_pytorchs_layers(policy, inputs))
    assert path.name == "team.pt"


def test_onnx_runs_in_onnxruntime(policy: Policy, tmp_path: Path) -> None:
    """For any number of rows, whatever it was exported with."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    session = runtime.InferenceSession(str(policy.export(tmp_path / "team.onnx")))
    names = ("obs", "last_action", "agent", "hidden", "mask")
    for count in (1, 2, 7):
        inputs = rows(policy, count, seed=count)
        found = session.run(["action", "next_hidden", "q"], {n: x.numpy() for n, x in zip(names, inputs, strict=True)})
        check(found, by_pytorchs_layers(policy, inputs))


def test_a_player_plays_as_the_policy_does(policy: Policy) -> None:
    """Agent by agent from its own observation, against the policy's act on the whole team."""
    player, env = policy.player(), Masked()
    for seed in range(3):
        observations, infos = env.reset(seed=seed)
        player.reset()
        hidden, last = policy.initial_hidden(), None
        for _ in range(Masked.episode_limit):
            view = {
                "obs": np.stack([observations[agent] for agent in AGENTS])[None],
                "action_mask": np.stack([infos[agent]["action_mask"] for agent in AGENTS])[None],
            }
            last, hidden = policy.act(view, last, hidden)
            one_by_one = {a: player.act({a: observations[a]}, {a: infos[a]})[a] for a in reversed(AGENTS)}
            assert one_by_one == dict(zip(AGENTS, last[0].tolist(), strict=True))
            observations, _, over, cut, infos = env.step(one_by_one)
            if not env.agents or any(over.values()) or any(cut.values()):
                break


def test_a_player_of_an_environment_with_masks_in_its_observations_and_deaths() -> None:
    """A battle, observations as they come; the team view's own evaluation has the same return."""
    config = TrainConfig(**{**SETTINGS, "env": "smac_sim_v0", "env_kwargs": {"map_name": "2s3z"}, "algorithm": "vdn"})
    trained = train(config).policies[0]
    assert trained.about["agent_names"] == [*(f"stalker_{k}" for k in range(2)), *(f"zealot_{k}" for k in range(3))]
    for env_given in (False, True):
        env = smac_sim_v0.parallel_env("2s3z")
        player = trained.player(env if env_given else None)
        observations, infos = env.reset(seed=4)
        total, alive = 0.0, set()
        while env.agents:
            actions = player.act({a: observations[a] for a in env.agents}, infos)
            assert all(infos[agent]["action_mask"][action] for agent, action in actions.items())
            observations, rewards, *_, infos = env.step(actions)
            total, alive = total + max(rewards.values()), alive | {len(env.agents)}
        assert len(alive) > 1  # somebody has died on the way
        found = TeamEnv(smac_sim_v0.parallel_env("2s3z"))
        view, _ = found.reset(seed=4)
        hidden, last, expected, over = trained.initial_hidden(), None, 0.0, False
        while not over:
            last, hidden = trained.act({key: value[None] for key, value in view.items()}, last, hidden)
            view, reward, terminated, truncated, _ = found.step(last[0])
            expected, over = expected + reward, terminated or truncated
        assert total == pytest.approx(expected)


def test_actions_that_do_not_start_at_zero() -> None:
    """With the environment's spaces, actions are the environment's."""
    trained = train(TrainConfig(**SETTINGS, env="tiny_envs:Dice", episode_limit=1)).policies[0]
    env = SingleAgentTeam(Dice(), episode_limit=1)
    observations, infos = env.reset()
    (action,) = trained.player(env).act(observations, infos).values()
    assert env.action_space("agent_0").contains(action)


def test_mistakes(policy: Policy, tmp_path: Path) -> None:
    player = policy.player()
    obs = np.zeros(policy.agent.obs_dim, np.float32)
    for observations, infos, message in (
        ({"agent_9": obs}, None, "no agent 'agent_9'"),
        ({AGENTS[0]: np.zeros(99)}, None, "has 99 entries"),
        ({AGENTS[0]: obs}, {AGENTS[0]: {"action_mask": np.zeros(policy.agent.n_actions)}}, "allows no action"),
        ({AGENTS[0]: obs}, {AGENTS[0]: {"action_mask": np.ones(99)}}, "mask of .* has 99 entries"),
    ):
        with pytest.raises(ValueError, match=message):
            player.act(observations, infos)
    assert player.act({}) == {}
    with pytest.raises(ValueError, match=r"expected \.pt \(TorchScript\) or \.onnx"):
        policy.export(tmp_path / "team.pth")
    with pytest.raises(ValueError, match="trained with 2 agents"):
        policy.player(TeamOfThree())


class TeamOfThree:
    possible_agents = ("a", "b", "c")

    def observation_space(self, agent: str) -> Any:
        return Masked().observation_space(AGENTS[0])

    def action_space(self, agent: str) -> Any:
        return Masked().action_space(AGENTS[0])


def test_the_command(policy: Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy.save(tmp_path / "team.safetensors")
    cli.main(["export", str(tmp_path / "team.safetensors"), str(tmp_path / "team.pt")])
    assert f"obs [M, {policy.agent.obs_dim}]" in capsys.readouterr().out
    assert torch.jit.load(str(tmp_path / "team.pt")) is not None
    with pytest.raises(SystemExit):
        cli.main(["export", str(tmp_path / "none.safetensors"), str(tmp_path / "team.pt")])
    assert smix_pz.load(tmp_path / "team.safetensors").about["agent_names"] == list(AGENTS)
