"""Policies: saved and loaded, they act as they did in training; evaluation plays them greedily."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_envs import AGENTS, Masked

import smix_pz
from smix_pz.config import TrainConfig
from smix_pz.policy import Policy
from smix_pz.training import TrainResult, train

SETTINGS: dict[str, Any] = {
    "seeds": (1, 2), "steps": 80, "eval_every": 40, "eval_episodes": 2, "batch_size": 8, "hidden_dim": 8,
    "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module", params=[True, False], ids=["shared", "own"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    out = tmp_path_factory.mktemp("policies")
    return train(TrainConfig(**SETTINGS, env="tiny_envs:Masked", out=out, parameter_sharing=request.param))


def test_saved_and_loaded(trained: TrainResult, tmp_path: Path) -> None:
    for policy in trained.policies:
        path = tmp_path / "deep" / "policy.safetensors"
        policy.save(path)
        for again in (smix_pz.load(path), Policy.load(str(path))):
            assert again.agent == policy.agent and again.about == policy.about
            assert set(again.params) == set(policy.params)
            assert all(torch.equal(again.params[name], policy.params[name]) for name in policy.params)
        assert [p.name for p in path.parent.iterdir()] == ["policy.safetensors"]
    assert trained.policies[0].about["algorithm"] == "smix" and trained.policies[1].about["seed"] == 2


def test_training_saves_its_policies(trained: TrainResult) -> None:
    assert trained.config.out is not None
    for policy, seed in zip(trained.policies, (1, 2), strict=True):
        saved = smix_pz.load(trained.config.out / f"seed-{seed:04d}.safetensors")
        assert all(torch.equal(saved.params[name], policy.params[name]) for name in policy.params)


def played_by_hand(policy: Policy, seed: int) -> tuple[float, int]:
    """Return and length of one greedy episode of `Masked` in a PettingZoo loop with ``act``."""
    env = Masked()
    observations, infos = env.reset(seed=seed)
    hidden, last, total, length = policy.initial_hidden(), None, 0.0, 0
    while env.agents:
        view = {
            "obs": np.stack([observations[agent] for agent in AGENTS])[None],
            "action_mask": np.stack([infos[agent]["action_mask"] for agent in AGENTS])[None],
        }
        last, hidden = policy.act(view, last, hidden)
        assert view["action_mask"][0, range(2), last[0]].all()
        observations, rewards, over, cut, infos = env.step(dict(zip(AGENTS, last[0].tolist(), strict=True)))
        total, length = total + rewards["agent_0"], length + 1
        assert over["agent_0"] or cut["agent_0"] or env.agents
        if length == Masked.episode_limit:
            break
    return total, length


def test_evaluate_is_a_loop_of_acts(trained: TrainResult) -> None:
    """The same episodes as a plain loop from the same seeds, and other seeds give others."""
    policy = trained.policies[0]
    summary = smix_pz.evaluate(policy, episodes=12, seed=5)
    assert summary.returns.shape == summary.lengths.shape == (1, 12)
    seeds = np.random.default_rng(5).integers(0, 2**31 - 1, 12)
    by_hand = [played_by_hand(policy, int(seed)) for seed in seeds]
    np.testing.assert_allclose(summary.returns[0], [total for total, _ in by_hand], atol=1e-5)
    np.testing.assert_array_equal(summary.lengths[0], [length for _, length in by_hand])
    again, other = smix_pz.evaluate(policy, 12, 5), smix_pz.evaluate(policy, 12, 6)
    np.testing.assert_array_equal(again.returns, summary.returns)
    assert not np.array_equal(other.returns, summary.returns)


def test_evaluate_knows_how_it_was_trained() -> None:
    """Environment arguments and limit of the training job; both can be changed."""
    result = train(TrainConfig(**SETTINGS, env="matrix_game_v0", env_kwargs={"m": 3}, episode_limit=2))
    policy = result.policies[0]
    assert smix_pz.evaluate(policy, 4).lengths.max() <= 2
    with pytest.raises(ValueError, match=r"trained on .* \(8, 2, 2\), .* has \(10, 2, 2\)"):
        smix_pz.evaluate(policy, 4, m=5)
    with pytest.raises(ValueError, match="tiny_envs:Constant has"):
        smix_pz.evaluate(policy, 4, env="tiny_envs:Constant")


def test_evaluate_with_the_teams_reward_rule() -> None:
    """An environment that needed a rule in training needs no reminder."""
    result = train(TrainConfig(**SETTINGS, env="tiny_envs:Competitive", team_reward="sum"))
    np.testing.assert_array_equal(smix_pz.evaluate(result.policies[0], 3).returns, np.zeros((1, 3)))


def test_files_that_are_no_policies(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no policy at .*missing"):
        smix_pz.load(tmp_path / "missing.safetensors")
    rubbish = tmp_path / "rubbish.safetensors"
    rubbish.write_bytes(b"not a tensor in sight")
    with pytest.raises(ValueError, match="not a safetensors file"):
        smix_pz.load(rubbish)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"w": torch.zeros(2)}, foreign, {"format": "another program 7"})
    with pytest.raises(ValueError, match="has format 'another program 7'; expected 'smix_pz policy 1'"):
        smix_pz.load(foreign)
    save_file({"w": torch.zeros(2)}, foreign)
    with pytest.raises(ValueError, match="has format None"):
        smix_pz.load(foreign)
