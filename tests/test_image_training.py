"""Training from pictures: it learns, bytes stay bytes, every algorithm takes them, players and exported files agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from tiny_envs import Pictures

from smix_pz import memory, training
from smix_pz.algorithms import ALGORITHMS
from smix_pz.config import TrainConfig
from smix_pz.episodes import history_keys
from smix_pz.policy import Policy, evaluate
from smix_pz.training import Trainer, train

SMALL: dict[str, Any] = {
    "env": "tiny_envs:Pictures", "steps": 48, "eval_every": 48, "eval_episodes": 2, "batch_size": 4, "hidden_dim": 16,
    "mixing_embed_dim": 8, "qtran_embed_dim": 16, "coma_critic_dim": 32, "progress": False,
}  # fmt: skip
BEST = 6.0  # two agents, three steps


def test_vdn_learns_what_the_pictures_show() -> None:
    """At random a quarter of the best return; a CNN finds the square wherever it lies in its quarter."""
    result = train(
        TrainConfig(
            env="tiny_envs:Pictures", algorithm="vdn", seeds=(0, 1), steps=2000, eval_every=1000, eval_episodes=100,
            epsilon_steps=1500, optimizer="adam", learning_rate=1e-3, updates_per_group=2, target_update_episodes=40,
            hidden_dim=32, progress=False,
        )
    )  # fmt: skip
    for record, policy in zip(result.records, result.policies, strict=True):
        returns = [line["eval/return"] for line in record.metrics]
        assert returns[0] < 2.5 and returns[-1] > 0.95 * BEST, returns
        assert policy.agent.obs_image == (16, 16, 3) and policy.agent.obs_scale == pytest.approx(1 / 255)
        assert "agent.conv0.weight" in policy.params
        # Unseen pictures: evaluation has streams of its own, and so has this.
        assert evaluate(policy, 50, seed=123).returns.mean() > 0.95 * BEST


@pytest.mark.parametrize("network", ["gru", "ff"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_takes_pictures(name: str, network: str) -> None:
    """A few updates; parameters of the CNN move and stay finite, in every run of a stack."""
    own = {"parameter_sharing": name in ("iql", "smix", "coma-r")}
    config = TrainConfig(**{**SMALL, "algorithm": name, "agent_network": network, "seeds": (0, 1), **own})
    with Trainer(config) as trainer:
        start = {key: value.clone() for key, value in trainer.learner.stack.params.items() if "conv" in key}
        with mock.patch.object(trainer, "_retire_finished", side_effect=lambda: trainer.active.clear()) as ended:
            trainer.run()  # one evaluation and nothing else
        assert ended.called and start
        batch, _ = trainer.collector.collect(
            trainer.learner.stack.params, np.ones(2), trainer_streams(2, 0), trainer_streams(2, 1)
        )
        assert batch.obs.dtype == torch.uint8 and batch.state.shape[-1] == (128 if ALGORITHMS[name].uses_state else 0)
        for _ in range(2):
            metrics = trainer.learner.update(batch) | trainer.learner.update_policy(batch, torch.full((2,), 0.2))
        assert all(value.isfinite().all() for value in metrics.values())
        for key, before in start.items():
            after = trainer.learner.stack.params[key]
            assert after.isfinite().all() and all(not torch.equal(after[r], before[r]) for r in range(2)), key


def trainer_streams(n: int, salt: int) -> list[np.random.Generator]:
    return [np.random.default_rng([salt, r]) for r in range(n)]


@pytest.mark.parametrize("env", ["Pictures", "PicturesChannelsFirst", "PicturesGrey", "PicturesFloat"])
def test_replay_holds_what_the_environment_showed(env: str) -> None:
    """Pixel for pixel, in the space's own kind; a byte a pixel for uint8."""
    with Trainer(TrainConfig(**{**SMALL, "env": f"tiny_envs:{env}", "algorithm": "vdn", "buffer_size": 8})) as trainer:
        seen: list[np.ndarray] = []
        step, reset = trainer._env.step, trainer._env.reset

        def looking(result: Any) -> Any:
            seen.append(result[0]["obs"].copy())
            return result

        trainer._env.step = lambda *a, **k: looking(step(*a, **k))  # type: ignore[method-assign]
        trainer._env.reset = lambda *a, **k: looking(reset(*a, **k))  # type: ignore[method-assign]
        batch, _ = trainer.collector.collect(
            trainer.learner.stack.params, np.ones(1), trainer_streams(1, 0), trainer_streams(1, 1)
        )
        trainer.replay.add(batch)
        stored = trainer.replay.storage.obs[0, :4].numpy()
        assert stored.dtype == (np.float32 if env == "PicturesFloat" else np.uint8)
        np.testing.assert_array_equal(stored[:, :3], np.stack(seen, axis=1)[:, :3])  # the fourth is past an end
        pixels = stored[0, 0].size
        assert trainer.replay.storage.obs.nbytes == 8 * 4 * pixels * stored.itemsize
        assert trainer.replay.storage.state.nbytes == 0


def test_a_job_with_pictures_resumes(tmp_path: Path) -> None:
    """Bytes in the checkpoint's replay, and Adam's statistics."""
    settings = {**SMALL, "algorithm": "smix", "optimizer": "adam", "steps": 72, "eval_every": 24}
    whole = train(TrainConfig(**settings))
    count = [0]

    def dying(self: Trainer, summary: Any) -> None:
        count[0] += 1
        if count[0] == 4:
            raise KeyboardInterrupt
        counted(self, summary)

    counted = Trainer._count
    config = TrainConfig(**settings, out=tmp_path, checkpoint_every=0.0)
    with mock.patch.object(Trainer, "_count", dying), pytest.raises(KeyboardInterrupt):
        train(config)
    again = train(config)
    for name, param in whole.policies[0].params.items():
        assert torch.equal(param, again.policies[0].params[name]), name


KINDS: list[dict[str, Any]] = [
    {"parameter_sharing": False},
    {"agent_network": "ff", "parameter_sharing": False, "env": "tiny_envs:PicturesGrey"},
    {"env": "tiny_envs:PicturesChannelsFirst"},
    {"image_encoder": "flat"},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_players_and_exported_files_see_the_same(kind: dict[str, Any], tmp_path: Path) -> None:
    """The policy's own act against a player in a plain loop, TorchScript and ONNX; saved and loaded in between."""
    trained = train(TrainConfig(**{**SMALL, **kind})).policies[0]
    trained.save(tmp_path / "team.safetensors")
    policy = Policy.load(tmp_path / "team.safetensors")
    assert policy.agent == trained.agent
    env = getattr(__import__("tiny_envs"), kind.get("env", "tiny_envs:Pictures").partition(":")[2])()
    observations, _ = env.reset(seed=2)
    player, reading = policy.player(), policy.player(env)
    hidden, last = policy.initial_hidden(), None
    for _ in range(3):
        rows = np.stack([observations[agent].ravel() for agent in env.possible_agents])
        view = {"obs": rows[None], "action_mask": np.ones((1, 2, 4), np.int8)}
        before, last_before = hidden, last
        last, hidden = policy.act(view, last, hidden)
        expected = dict(zip(env.possible_agents, last[0].tolist(), strict=True))
        assert player.act(observations) == expected == reading.act(observations)
        observations, *_ = env.step(expected)
    inputs = (
        torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(last_before[0]), torch.arange(2), before[0, 0],
        torch.ones(2, 4, dtype=torch.bool),
    )  # fmt: skip
    actions, next_hidden, _ = torch.jit.load(str(policy.export(tmp_path / "team.pt")))(*inputs)
    assert actions.tolist() == last[0].tolist()
    torch.testing.assert_close(next_hidden, hidden[0, 0], rtol=1e-4, atol=1e-5)
    if "parameter_sharing" not in kind:
        return  # writing ONNX takes seconds
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    session = runtime.InferenceSession(str(policy.export(tmp_path / "team.onnx")))
    names = ("obs", "last_action", "agent", "hidden", "mask")
    actions, next_hidden = session.run(
        ["action", "next_hidden"], {n: x.numpy() for n, x in zip(names, inputs, strict=True)}
    )
    assert actions.tolist() == last[0].tolist()
    np.testing.assert_allclose(next_hidden, hidden[0, 0], rtol=1e-4, atol=1e-5)


def test_keys_of_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal where all pixels are, whatever the number of bytes; in pieces as in one."""
    rng = np.random.default_rng(0)
    for width in (5, 8, 11):
        obs = torch.from_numpy(rng.integers(0, 256, (3, 4, 2, width), dtype=np.uint8))
        obs[1] = obs[0]
        obs[2] = obs[0]
        obs[2, 1, 1, -1] += 1  # one pixel at time 1, the last byte of the row
        rest = torch.zeros(3, 4, 0), torch.ones(3, 4, 2, 2, dtype=torch.bool), torch.zeros(3, 4, 2, dtype=torch.int64)
        keys = history_keys(obs, *rest)
        assert torch.equal(keys[0], keys[1]) and keys[0, 0] == keys[2, 0] and (keys[0, 1:] != keys[2, 1:]).all()
        monkeypatch.setattr("smix_pz.episodes._AT_ONCE", 7)
        assert torch.equal(history_keys(obs, *rest), keys)
        monkeypatch.undo()


def test_a_replay_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the size that is named does fit."""
    settings = {**SMALL, "algorithm": "qmix", "steps": 10**6, "seeds": (0, 1)}
    monkeypatch.setattr(training, "available_bytes", lambda device: 20 * 2**20)
    with pytest.raises(
        ValueError, match=r"buffer_size 5000 does not fit: 2 run.s. of 5,000 episodes.*buffer_size \d+ would"
    ) as error:
        Trainer(TrainConfig(**settings))
    fits = int(str(error.value).partition("; buffer_size ")[2].split()[0])
    assert fits > 100
    with Trainer(TrainConfig(**settings, buffer_size=fits)) as trainer:
        assert trainer.replay.nbytes < 20 * 2**20 < trainer.replay.nbytes * 1.3
    # What a short job can play at all is what counts.
    with Trainer(TrainConfig(**{**settings, "steps": 100})):
        pass
    monkeypatch.setattr(training, "available_bytes", lambda device: 1000)
    with pytest.raises(ValueError, match="fewer seeds, a smaller batch_size") as error:
        Trainer(TrainConfig(**settings))
    assert "would" not in str(error.value)
    monkeypatch.setattr(training, "available_bytes", lambda device: None)
    with Trainer(TrainConfig(**settings, buffer_size=8)):
        pass


def test_what_this_machine_has_left(tmp_path: Path) -> None:
    found = memory.available_bytes(torch.device("cpu"))
    assert found is not None and 2**24 < found < 2**50
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:      7 kB\n")
    assert memory._meminfo(tmp_path / "meminfo") == 7 * 1024
    assert memory._meminfo(tmp_path / "none") is None and memory._left_by_cgroup(tmp_path) is None
    for name, text in (("memory.max", "1000"), ("memory.current", "400"), ("memory.stat", "anon 1\ninactive_file 50")):
        (tmp_path / name).write_text(text)
    assert memory._left_by_cgroup(tmp_path) == 650
    (tmp_path / "memory.max").write_text("max")
    assert memory._left_by_cgroup(tmp_path) is None
    assert memory.readable(3 * 2**29) == "1.5 GiB" and memory.readable(2**19) == "0.5 MiB"


def test_a_cnn_needs_images() -> None:
    with pytest.raises(ValueError, match="image_encoder is 'cnn', but the observations are no images"):
        train(TrainConfig(**{**SMALL, "env": "tiny_envs:Delay", "image_encoder": "cnn"}))


def test_the_oracle_of_returns() -> None:
    """That the learning test above has the right best return: an omniscient team gets it."""
    env = Pictures()
    env.reset(seed=0)
    total = 0.0
    while env.agents:
        _, rewards, *_ = env.step(dict(zip(env.possible_agents, env.quarter.tolist(), strict=True)))
        total += rewards["agent_0"]
    assert total == BEST
