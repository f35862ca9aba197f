"""train() with environments that are no names: classes, factories, partials, modules, objects; what records and
policies say of them, and what still works when they cannot be found again."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supersuit
import tiny_envs
import torch
from tiny_envs import AGENTS, Delay, Masked

import smix_pz
from smix_pz import envs
from smix_pz.config import TrainConfig
from smix_pz.envs import masked_team_v0, matrix_game_v0
from smix_pz.labels import is_found_by_name, label
from smix_pz.records import plain, read_record
from smix_pz.training import Trainer, train

SMALL: dict[str, Any] = {
    "algorithm": "vdn", "seeds": (3,), "steps": 40, "eval_every": 20, "eval_episodes": 2, "batch_size": 4,
    "hidden_dim": 8, "progress": False,
}  # fmt: skip


class Sized(Masked):
    """Takes arguments."""

    def __init__(self, limit: int = 6, *, bonus: float = 0.0) -> None:
        self.episode_limit, self.bonus = limit, bonus
        super().__init__()

    @classmethod
    def short(cls) -> Sized:
        return cls(2)


def local_factory() -> Any:
    return lambda: Masked()


HERE = __name__


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        ("matrix_game_v0", "matrix_game_v0"),
        (matrix_game_v0, "smix_pz.envs.matrix_game_v0"),
        (Sized, f"{HERE}:Sized"),
        (Sized.short, f"{HERE}:Sized.short"),
        (masked_team_v0.env, "smix_pz.envs.masked_team_v0:env"),
        (lambda: Masked(), f"<lambda of {HERE}>"),
        (local_factory(), f"<lambda of {HERE}>"),
        (Sized(), f"<an object of {HERE}:Sized>"),
        (Sized().tell, "<Masked.tell of tiny_envs>"),
        (functools.partial(Sized, 3), f"<partial of {HERE}:Sized>"),
    ],
)
def test_labels(thing: Any, name: str) -> None:
    assert label(thing) == name
    assert is_found_by_name(name) == ("<" not in name)


def test_what_is_not_where_it_says_has_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inner(Masked):
        pass

    assert label(Inner) == f"<Inner of {HERE}>" and label(Inner()) == f"<an object of Inner of {HERE}>"
    imposter = type("Masked", (Masked,), {"__module__": "tiny_envs"})
    assert label(imposter) == "<Masked of tiny_envs>"
    script = type("Own", (), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "Own", script, raising=False)  # there, but not for another program
    assert label(script) == "<Own of __main__>"


FORMS: dict[str, Any] = {
    "class": Masked,
    "lambda": lambda: Masked(),
    "partial": functools.partial(Sized, 6),
    "object": Masked(),
    "wrapped": supersuit.dtype_v0(Masked(), "float32"),
}


@pytest.mark.parametrize("form", ["class", "lambda", "partial", "object", "wrapped"])
def test_every_form_trains_as_the_name_does(form: str, tmp_path: Path) -> None:
    """The same numbers as by name, and a record and a policy in plain JSON."""
    by_name = train(TrainConfig(**SMALL, env="tiny_envs:Masked"))
    result = train(TrainConfig(**SMALL, env=FORMS[form], out=tmp_path))
    assert result.records[0].metrics == by_name.records[0].metrics
    params, expected = result.policies[0].params, by_name.policies[0].params
    assert all(torch.equal(params[key], expected[key]) for key in expected)
    record = read_record(tmp_path / "seed-0003.jsonl")
    assert record.run["config"]["env"] == record.run["env"] == result.config.env_name
    again = smix_pz.load(tmp_path / "seed-0003.safetensors")
    assert again.about["env"] == result.config.env_name and json.dumps(again.about)
    if form == "object":
        assert FORMS[form].agents == []  # it was never played


def test_a_module_and_a_partial_leave_their_names() -> None:
    config = TrainConfig(env=functools.partial(functools.partial(Sized, 4), bonus=2.0), env_kwargs={"bonus": 1.0})
    assert config.env is Sized and config.env_kwargs == {"limit": 4, "bonus": 1.0}
    assert config.to_dict()["env"] == f"{HERE}:Sized"
    result = train(matrix_game_v0, **SMALL, env_kwargs={"m": 2})
    assert result.records[0].run["config"]["env"] == "smix_pz.envs.matrix_game_v0"
    summary = smix_pz.evaluate(result.policies[0], 3)  # found again by its name
    assert summary.returns.shape == (1, 3)


def test_train_in_one_line() -> None:
    result = train("tiny_envs:Masked", **SMALL)
    assert result.records[0].metrics == train(TrainConfig(**SMALL, env=Masked)).records[0].metrics
    changed = train(TrainConfig(**SMALL, env=Masked), seeds=[4], algorithm="iql")
    assert (changed.config.seeds, changed.config.algorithm) == ((4,), "iql")
    with pytest.raises(ValueError, match="did you mean 'algorithm'"):
        train("tiny_envs:Masked", algoritm="vdn")
    with pytest.raises(TypeError, match="two environments"):
        train(Masked, env="tiny_envs:Masked")


@pytest.mark.parametrize("wrong", [None, 7, ["matrix_game_v0"]])
def test_what_is_no_environment(wrong: Any) -> None:
    with pytest.raises(TypeError, match="env must be a name, a module"):
        Trainer(TrainConfig(**SMALL, env=wrong))


def test_a_policy_without_its_environment(tmp_path: Path) -> None:
    """It loads, acts and exports; evaluation asks for the environment, and with it plays as in training."""
    made = []

    def factory() -> Masked:
        made.append(Masked())
        return made[-1]

    train(TrainConfig(**SMALL, env=factory, out=tmp_path))
    policy = smix_pz.load(tmp_path / "seed-0003.safetensors")
    with pytest.raises(ValueError, match=r"<factory of .*evaluate\(policy, env=factory\)"):
        smix_pz.evaluate(policy, 4)
    known = smix_pz.evaluate(policy, 6, 1, env="tiny_envs:Masked")
    for env in (factory, Masked, Masked(), tiny_envs.Masked):
        np.testing.assert_array_equal(smix_pz.evaluate(policy, 6, 1, env=env).returns, known.returns)
    assert policy.export(tmp_path / "team.pt").is_file()
    env = Masked()
    observations, infos = env.reset(seed=0)
    assert policy.player().act(observations, infos).keys() == set(AGENTS)


def test_what_a_user_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    train(TrainConfig(**{**SMALL, "progress": True}, env=lambda: Masked()))
    assert f"call it '<lambda of {HERE}>'" in capsys.readouterr().err
    train(TrainConfig(**{**SMALL, "progress": True}, env=Masked))
    assert "no import path" not in capsys.readouterr().err


def test_arguments_that_are_objects_are_recorded_by_their_label(tmp_path: Path) -> None:
    def holding(inside: Any) -> Any:
        return inside()

    train(TrainConfig(**SMALL, env=holding, env_kwargs={"inside": Delay}, out=tmp_path))
    assert read_record(tmp_path / "seed-0003.jsonl").run["env_kwargs"] == {"inside": "tiny_envs:Delay"}
    assert plain({"a": np.float32(2), "b": [Delay, None, True]}) == {"a": 2.0, "b": ["tiny_envs:Delay", None, True]}


def test_a_job_with_an_object_resumes(tmp_path: Path) -> None:
    """A killed job goes on when the object is handed over again."""
    whole = train(TrainConfig(**SMALL, env=Masked()))
    config = TrainConfig(**SMALL, env=Masked(), out=tmp_path, checkpoint_every=1e-6)
    with Trainer(config) as trainer:
        evaluated = trainer._evaluate_due
        calls = []

        def killed() -> None:
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            evaluated()

        trainer._evaluate_due = killed  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
    assert not read_record(tmp_path / "seed-0003.jsonl").finished
    assert train(TrainConfig(**SMALL, env=Masked(), out=tmp_path)).records[0].metrics == whole.records[0].metrics


def test_a_team_trained_with_preprocessing_plays_in_a_loop() -> None:
    """Observations of two steps, masks in infos, a death: the return that `evaluate` has (cut=0 is deterministic)."""
    keywords = {"flat_obs": True, "cut": 0}
    result = train(masked_team_v0, **SMALL, env_kwargs=keywords, preprocess=["frame_stack_v1:2"])
    policy = result.policies[0]
    env = envs.preprocess(masked_team_v0.parallel_env(**keywords), policy.about["preprocess"])
    player, total = policy.player(env), 0.0
    observations, infos = env.reset(seed=0)
    while env.agents:
        acting = {agent: observations[agent] for agent in env.agents}
        observations, rewards, _, _, infos = env.step(player.act(acting, infos))
        total += next(iter(rewards.values()))
    np.testing.assert_array_equal(smix_pz.evaluate(policy, 2).returns, [[total, total]])


OUTSIDE = '''
"""An environment that this package has never seen: masks in infos, an agent that dies, unlike spaces."""
import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv


class parallel_env(ParallelEnv):
    metadata = {"name": "outside_v0"}

    def __init__(self, fuse=3, limit=5):
        self.fuse, self.max_cycles = fuse, limit
        self.possible_agents = ["digger", "lamp"]

    def observation_space(self, agent):
        return Box(0, 1, (2 if agent == "lamp" else 4,), np.float32)

    def action_space(self, agent):
        return Discrete(2 if agent == "lamp" else 3)

    def reset(self, seed=None, options=None):
        self.agents, self.time = self.possible_agents[:], 0
        return self._seen(self.agents), self._told(self.agents)

    def step(self, actions):
        for agent, action in actions.items():
            assert agent in self.agents and self._mask(agent)[action], (agent, action)
        acted, self.time = self.agents, self.time + 1
        paid = float(actions["digger"] == self.time % 3)
        dead = {"lamp"} & set(acted) if self.time == self.fuse else set()
        over = self.time == self.max_cycles
        self.agents = [] if over else [a for a in acted if a not in dead]
        return (self._seen(acted), dict.fromkeys(acted, paid), {a: a in dead for a in acted},
                {a: over and a not in dead for a in acted}, self._told(acted))

    def _mask(self, agent):
        legal = np.ones(self.action_space(agent).n, np.int8)
        legal[(self.time + 1) % 2] = agent != "lamp"
        return legal

    def _seen(self, agents):
        return {a: np.full(self.observation_space(a).shape, self.time / 9, np.float32) for a in agents}

    def _told(self, agents):
        return {a: {"action_mask": self._mask(a)} for a in agents}
'''


def test_a_file_outside_the_repository_trains_by_the_command(tmp_path: Path) -> None:
    """`smix-pz train --env its.module` in a folder of its own; the environment itself checks masks and deaths."""
    (tmp_path / "its").mkdir()
    (tmp_path / "its" / "module.py").write_text(OUTSIDE)
    script = tmp_path / "bin" / "smix-pz"  # as pip writes it: Python then does not look for modules where it is called
    script.parent.mkdir()
    script.write_text("from smix_pz.cli import main\nmain()\n")
    command = [sys.executable, str(script)]
    words = (
        "train --env its.module --env-kwargs fuse=2 --algorithm smix --seeds 0 1 --steps 60 --eval-every 30 "
        "--eval-episodes 2 --batch-size 4 --hidden-dim 8 --out out"
    )
    folder = str(Path(smix_pz.__file__).parents[1])
    environment = {"PYTHONPATH": folder, "PATH": "", "HOME": str(tmp_path)}

    def run(words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *words.split()], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )

    done = run(words)
    assert done.returncode == 0, done.stderr
    record = read_record(tmp_path / "out" / "seed-0001.jsonl")
    assert record.finished and record.run["env"] == "its.module" and record.run["env_kwargs"] == {"fuse": 2}
    assert [row["eval/episode_length"] for row in record.metrics] == [5.0] * 3
    played = run("evaluate out/seed-0001.safetensors --episodes 3")
    assert played.returncode == 0, played.stderr
    assert f"{record.metrics[-1]['eval/return']:.3f}" in played.stdout  # nothing in it is random
    wrong = run("train --env its.modul")
    assert wrong.returncode == 2 and "'its.modul' is not known" in wrong.stderr
