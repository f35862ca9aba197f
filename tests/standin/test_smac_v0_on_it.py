"""smac_v0 on the stand-in: SMAC's own code and pysc2, with a real process, a real port and a real protocol.

Needs the public `smac` package (docs/standin.md). The contract is the one that smac_v0 and smac_sim_v0 share.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "envs"))
from smac_contract import contract, stand

import smix_pz
from smix_pz.doctor import find_package, standin
from smix_pz.envs import smac_sim_v0, smac_v0, starcraft
from smix_pz.envs.battle.state import RULES
from smix_pz.version import __version__

pytestmark = pytest.mark.skipif(
    find_package("smac") is None or find_package("pysc2") is None, reason="SMAC and pysc2 are not installed"
)


def servers(folder):
    """Process ids of the servers that this folder's launcher has started and that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"smix_pz.standin" in words and any(str(folder).encode() in word for word in words):
                found.append(int(entry.name))
    return found


@pytest.fixture(autouse=True)
def nothing_is_left(standin_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(smac_v0, "LAUNCH_PAUSES", (0.0, 0.0, 0.0))
    yield
    gc.collect()
    assert servers(standin_folder) == []
    assert list(tmp_path.glob("sc-*")) == []


@contract
def test_contract(check, arguments):
    check(smac_v0.parallel_env, *arguments)


def test_it_is_named_in_engine_rules_and_records(tmp_path):
    env = smac_v0.parallel_env("3m")
    rules = f"smac on smix standin {RULES}"
    assert env.metadata["rules"] == env.engine["rules"] == rules and env.engine["version"] == __version__
    env.reset()
    assert env.game_version == f"smix standin {RULES}"
    env.close()
    config = smix_pz.TrainConfig(
        **{"env": "smac_v0", "env_kwargs": {"map_name": "3m"}, "algorithm": "vdn", "seeds": (0,), "steps": 60},
        **{"eval_every": 60, "eval_episodes": 1, "out": str(tmp_path / "run")},
    )
    record = smix_pz.train(config).records[0]
    assert record.run["engine"]["rules"] == rules
    assert "StarCraft II build" not in Path(tmp_path / "run" / "seed-0000.jsonl").read_text()


def test_a_folder_that_says_something_else_is_refused(standin_folder, monkeypatch):
    """Records would name the wrong engine."""
    notice = standin_folder / "smix-standin.json"
    text = notice.read_text()
    try:
        notice.write_text(text.replace(f"standin {RULES}", "standin r0"))
        env = smac_v0.parallel_env("3m")
        with pytest.raises(starcraft.StarCraftUnavailable, match=r"standin r0.*smix-pz standin install"):
            env.reset()
        notice.unlink()
        assert standin() is None
        env = smac_v0.parallel_env("3m")
        with pytest.raises(starcraft.StarCraftUnavailable, match="its folder says 'StarCraft II'"):
            env.reset()
    finally:
        notice.write_text(text)


def test_the_same_course_as_the_twin():
    """One seed, one course: the policy of one environment meets the battles of the other."""
    env, twin = smac_v0.parallel_env("2s3z"), smac_sim_v0.parallel_env("2s3z")
    (seen, _), (expected, _) = env.reset(seed=9), twin.reset(seed=9)
    rng = np.random.default_rng(0)
    while env.agents:
        assert env.agents == twin.agents
        for agent in env.agents:
            np.testing.assert_allclose(seen[agent]["observation"], expected[agent]["observation"], atol=1e-5)
        actions = {a: int(rng.choice(np.flatnonzero(seen[a]["action_mask"]))) for a in env.agents}
        (seen, rewards, *_), (expected, others, *_) = env.step(actions), twin.step(actions)
        assert rewards == pytest.approx(others, abs=1e-5)
    env.close()


def test_a_server_that_is_killed_in_the_middle_of_an_episode(standin_folder):
    """The episode is aborted and not a loss, and the next one begins with all units on another server."""
    env = smac_v0.parallel_env("3m")
    env.reset(seed=1)
    for _ in range(3):
        env.step(stand(env))
    (pid,) = servers(standin_folder)
    os.kill(pid, signal.SIGKILL)
    _, rewards, terminations, truncations, infos = env.step(stand(env))
    assert set(rewards.values()) == {0.0} and not any(terminations.values()) and all(truncations.values())
    assert all(info["aborted"] and not info["battle_won"] for info in infos.values())
    assert env.get_stats()["aborted"] == 1 and env.get_stats()["battles_game"] == 0
    env.reset()
    (other,) = servers(standin_folder)
    assert other != pid and env.launches == 2 and len(env.agents) == 3
    np.testing.assert_allclose(env.state()[[0, 4, 8, 12, 15, 18]], 1.0)
    assert env.smac.max_reward == 365
    env.close()


def test_twenty_in_a_vector(standin_folder):
    """Each with a server of its own; one of them is killed, and the other nineteen go on."""
    envs = smix_pz.make("smac_v0", 20, vectorization="async", map_name="3m", reseed="once")
    try:
        observation, _ = envs.reset(seed=3)
        assert len(servers(standin_folder)) == 20
        assert len({row.tobytes() for row in observation["state"]}) == 20
        for step in range(12):
            if step == 4:
                os.kill(servers(standin_folder)[7], signal.SIGKILL)
            alive = observation["obs"].any(-1)
            observation, _, _, truncated, infos = envs.step(np.where(alive, 1, 0))
            if step == 4:
                assert truncated.sum() == 1 and infos["aborted"][truncated].all()
        assert len(servers(standin_folder)) == 19
        observation, _ = envs.reset()
        assert len(servers(standin_folder)) == 20 and observation["obs"].any(-1).all()
    finally:
        envs.close()


def test_smacs_pictures():
    pytest.importorskip("skvideo")
    env = smac_v0.parallel_env("MMM", render_mode="rgb_array")
    env.reset()
    env.step(stand(env))
    picture = env.render()
    assert picture.ndim == 3 and picture.std() > 1.0
    env.close()
