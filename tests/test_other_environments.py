"""Environments of other people train as they are, pictures after SuperSuit: a few updates of VDN on each, then the
saved policy plays. What cannot be a team is refused with the reason."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import smix_pz
from smix_pz.config import TrainConfig
from smix_pz.envs import make_vector_env
from smix_pz.training import train

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")

TINY_PICTURES = ("color_reduction_v0:full", "resize_v1:x_size=8,y_size=8", "dtype_v0:float32", "normalize_obs_v0")

# name, arguments that make episodes short, settings, then what the team view has to make of it: N, A, O
TRIED: tuple[tuple[str, dict[str, Any], dict[str, Any], tuple[int, int, int]], ...] = (
    ("mpe2.simple_spread_v3", {"max_cycles": 8}, {"team_reward": "mean"}, (3, 5, 18)),
    ("mpe2.simple_speaker_listener_v4", {"max_cycles": 8}, {}, (2, 5, 11)),
    ("mpe2.simple_reference_v3", {"max_cycles": 8}, {"team_reward": "mean"}, (2, 50, 21)),
    ("pettingzoo.sisl.pursuit_v5", {"max_cycles": 8}, {"team_reward": "sum"}, (8, 5, 147)),
    ("pettingzoo.butterfly.knights_archers_zombies_v11", {"max_cycles": 20}, {"team_reward": "sum"}, (4, 6, 135)),
    (
        "pettingzoo.butterfly.cooperative_pong_v6",
        {"max_cycles": 8},
        {"team_reward": "sum", "team_state": "observations", "preprocess": (*TINY_PICTURES, "frame_stack_v1:2")},
        (2, 3, 128),
    ),
    (
        "pettingzoo.butterfly.pistonball_v6",
        {"max_cycles": 4, "continuous": False},
        {"team_reward": "mean", "team_state": "observations", "preprocess": TINY_PICTURES},
        (20, 3, 64),
    ),
    ("lbforaging:Foraging-5x5-2p-1f-v3", {"max_episode_steps": 8}, {"team_reward": "sum"}, (2, 6, 9)),
    ("rware:rware-tiny-2ag-v2", {"max_steps": 8}, {"team_reward": "sum"}, (2, 5, 71)),
    ("CartPole-v1", {}, {}, (1, 2, 4)),
)


@pytest.mark.parametrize(("name", "keywords", "settings", "sizes"), TRIED, ids=[row[0] for row in TRIED])
def test_it_trains(name: str, keywords: dict[str, Any], settings: dict[str, Any], sizes: Any, tmp_path: Path) -> None:
    config = TrainConfig(
        env=name, env_kwargs=keywords, **settings, algorithm="vdn", seeds=(0, 1), steps=64, eval_every=32,
        eval_episodes=2, parallel_episodes=2, batch_size=4, hidden_dim=8, progress=False, out=tmp_path,
    )  # fmt: skip
    result = train(config)
    for record, policy in zip(result.records, result.policies, strict=True):
        assert record.finished and record.metrics[-1]["train/updates"] >= 1
        assert np.isfinite([row["eval/return"] for row in record.metrics]).all()
        assert np.isfinite(record.metrics[-1]["train/loss"]) and record.metrics[-1]["train/grad_norm"] > 0
        assert (policy.agent.n_agents, policy.agent.n_actions, policy.agent.obs_dim) == sizes
    one, other = (policy.params["agent.fc_in.weight"] for policy in result.policies)
    assert not torch.equal(one, other)
    saved = smix_pz.load(tmp_path / "seed-0001.safetensors")
    assert saved.about["preprocess"] == list(settings.get("preprocess", ()))
    summary = smix_pz.evaluate(saved, 2, 3)  # with the same preprocessing, or the sizes would differ
    np.testing.assert_array_equal(summary.returns, smix_pz.evaluate(result.policies[1], 2, 3).returns)


def test_knights_die_and_the_others_play_on() -> None:
    keywords = {"spawn_delay": 2, "max_zombies": 40, "line_death": False}
    envs = make_vector_env("pettingzoo.butterfly.knights_archers_zombies_v11", 1, reward="sum", **keywords)
    rng, widowed, gone = np.random.default_rng(0), 0, np.zeros(4, bool)
    observation, _ = envs.reset(seed=[3])
    for _ in range(900):
        mask = observation["action_mask"][0]
        observation, _, terminated, truncated, _ = envs.step(
            np.where(mask != 0, rng.random(mask.shape), -1.0).argmax(-1)[None]
        )
        assert not observation["obs"][0][gone].any()  # the observation of the step in which one dies is kept, no later
        if terminated[0] or truncated[0]:
            break
        gone = observation["action_mask"][0].sum(-1) == 1  # of six actions one is left: the placeholder
        assert (observation["action_mask"][0][gone, 0] == 1).all()
        widowed += int(gone.any() and not gone.all())
    assert terminated[0] and widowed > 0  # all are dead in the end


@pytest.mark.parametrize(
    ("name", "keywords", "error", "message"),
    [
        ("mpe2.simple_tag_v3", {}, ValueError, r"unlike rewards.*against each other.*would work"),
        ("mpe2.simple_adversary_v3", {}, ValueError, r"gain what others lose.*cooperative one"),
        ("pettingzoo.sisl.multiwalker_v9", {}, TypeError, r"walker_0 is Box.*Discrete.*continuous"),
        ("pettingzoo.butterfly.pistonball_v6", {}, TypeError, r"piston_0 is Box.*continuous=False"),
        ("pettingzoo.sisl.pursuit_v4", {}, ValueError, r"did you mean 'pettingzoo\.sisl\.pursuit_v5'"),
        ("Pendulum-v1", {}, TypeError, r"agent_0 is Box"),
    ],
)
def test_what_is_no_team(name: str, keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_vector_env(name, 2, **keywords)
