"""Training: stacks against single runs, determinism, every algorithm on every environment, the grid, bad settings."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import smix_pz
from smix_pz.algorithms import ALGORITHMS
from smix_pz.algorithms.coma import COMALearner
from smix_pz.config import TrainConfig
from smix_pz.envs import ENVS
from smix_pz.episodes import EpisodeBatch
from smix_pz.training import Trainer, TrainResult, train

SMALL: dict[str, Any] = {
    "progress": False, "hidden_dim": 12, "mixing_embed_dim": 8, "qtran_embed_dim": 8, "batch_size": 8,
    "eval_episodes": 4,
}  # fmt: skip


def run(**settings: Any) -> TrainResult:
    return train(TrainConfig(**{**SMALL, **settings}))


def flat(result: TrainResult, index: int) -> torch.Tensor:
    """All parameters of one policy in a row."""
    return torch.cat([p.flatten() for p in result.policies[index].params.values()])


# Runs and their stack ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["smix", "qtran", "iql", "coma", "coma-r"])
def test_run_3_of_8_is_run_3_alone(algorithm: str) -> None:
    """Records and parameters, over more than 50 updates, in which runs of the stack finish one after another."""
    game = {
        "env": "matrix_game_v0", "env_kwargs": {"m": 5}, "steps": 500, "eval_every": 100, "epsilon_steps": 400,
        "target_update_episodes": 40, "algorithm": algorithm,
    }  # fmt: skip
    stacked, alone = run(seeds=tuple(range(10, 18)), **game), run(seeds=(13,), **game)
    one, other = stacked.records[3], alone.records[0]
    assert one.run["seed"] == other.run["seed"] == 13
    assert one.metrics[-1]["train/updates"] >= 50
    assert len(one.metrics) == len(other.metrics)
    for ours, theirs in zip(one.metrics, other.metrics, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    torch.testing.assert_close(flat(stacked, 3), flat(alone, 0), rtol=1e-3, atol=1e-5)
    ends = {record.metrics[-1]["train/episodes"] for record in stacked.records}
    assert len(ends) > 1  # so the stack did shrink on the way
    assert not torch.allclose(flat(stacked, 3), flat(stacked, 2), atol=0.01)


def test_same_seeds_same_bits() -> None:
    game = {"env": "tiny_envs:Masked", "steps": 300, "eval_every": 100, "algorithm": "smix"}
    first, again, other = run(seeds=(1, 2), **game), run(seeds=(1, 2), **game), run(seeds=(1, 3), **game)
    for index in (0, 1):
        assert torch.equal(flat(first, index), flat(again, index))
        assert first.records[index].metrics == again.records[index].metrics
    assert not torch.equal(flat(first, 1), flat(other, 1))


def test_global_generators_play_no_part() -> None:
    """Neither read nor moved."""
    results = []
    for seed in (0, 1):
        np.random.seed(seed)  # noqa: NPY002 (the global one is the point)
        torch.manual_seed(seed)
        numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index] # noqa: NPY002
        results.append(flat(run(env="tiny_envs:Masked", steps=100), 0))
        np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # type: ignore[index] # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.equal(*results)


def test_finished_runs_leave_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run makes its own steps, to the group, and the rest goes on without it."""
    sizes = []
    keep_rows = Trainer.keep_rows

    def counting(self: Trainer, keep: torch.Tensor) -> None:
        keep_rows(self, keep)
        sizes.append((self.learner.n_runs, len(self.active), self.collector.n_runs, self._env.num_envs))

    monkeypatch.setattr(Trainer, "keep_rows", counting)
    result = run(env="tiny_envs:Chance", steps=150, seeds=tuple(range(6)), parallel_episodes=4)
    assert sizes and all(a == b == c and d == 4 * a for a, b, c, d in sizes)
    assert [s[0] for s in sizes] == sorted({s[0] for s in sizes}, reverse=True) and sizes[0][0] < 6
    assert [policy.about["seed"] for policy in result.policies] == list(range(6))
    for seed, record in enumerate(result.records):
        assert record.run["seed"] == seed and record.finished
        assert 150 <= record.end["t_env"] < 150 + 4 * 4  # a group has at most 16 steps


def test_policies_are_those_of_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has left is not trained on: its policy is the stack's row at its last update."""
    rows: dict[int, torch.Tensor] = {}
    count = Trainer._count

    def remembering(self: Trainer, summary: Any) -> None:
        count(self, summary)
        rows.update({run.seed: self.learner.stack.online[row] for row, run in enumerate(self.active)})

    monkeypatch.setattr(Trainer, "_count", remembering)
    result = run(env="tiny_envs:Chance", steps=100, seeds=(0, 1, 2, 3))
    for index, seed in enumerate((0, 1, 2, 3)):
        assert torch.equal(flat(result, index), rows[seed].detach())


# Every algorithm on every environment -----------------------------------------------------------------------------


def two_updates(algorithm: str, env: str, **settings: Any) -> None:
    result = run(
        algorithm=algorithm, env=env, seeds=(0, 1), steps=1, batch_size=4, updates_per_group=2, eval_episodes=1,
        **settings,
    )  # fmt: skip
    for record in result.records:
        last = record.metrics[-1]
        assert last["train/updates"] == 2
        policy = ("policy_loss", "policy_grad_norm", "policy_entropy") if algorithm.startswith("coma") else ()
        assert all(math.isfinite(last[f"train/{n}"]) for n in ("loss", "grad_norm", "q_taken", "return", *policy))
        assert last["train/loss"] > 0 and last["train/grad_norm"] > 0
        assert math.isfinite(last["eval/return"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("env", ENVS)
def test_trains_on_ours(algorithm: str, env: str) -> None:
    if env == "smac_v0":
        pytest.importorskip("smac")
    two_updates(algorithm, env, episode_limit=4)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_trains_on_a_foreign_environment(algorithm: str) -> None:
    pytest.importorskip("mpe2")
    two_updates(algorithm, "mpe2.simple_spread_v3", team_reward="mean", episode_limit=3)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_trains_with_masks_and_own_networks(algorithm: str) -> None:
    two_updates(algorithm, "tiny_envs:Masked", parameter_sharing=False, hypernet_layers=2)


# Evaluation and schedules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "every", "group", "expected"),
    [
        (50, 20, 4, [(0, 0), (20, 20), (40, 40), (50, 52)]),
        (40, 20, 4, [(0, 0), (20, 20), (40, 40)]),
        (50, 20, 16, [(0, 0), (20, 32), (40, 48), (50, 64)]),
        (200, 20, 64, [(0, 0), (60, 64), (120, 128), (180, 192), (200, 256)]),
        (10, 1000, 4, [(0, 0), (10, 12)]),
    ],
)
def test_evaluations_lie_on_the_grid(steps: int, every: int, group: int, expected: list[tuple[int, int]]) -> None:
    """(nominal step, environment steps): episodes have one step, so a group's end can be told beforehand."""
    result = run(env="tiny_envs:Constant", steps=steps, eval_every=every, parallel_episodes=group)
    metrics = result.records[0].metrics
    assert [(row["step"], row["t_env"]) for row in metrics] == expected
    for row in metrics:
        assert (row["eval/return"], row["eval/return_std"], row["eval/episode_length"]) == (1.5, 0.0, 1.0)
        assert row["train/episodes"] == row["t_env"]


def test_epsilon_falls_linearly() -> None:
    result = run(
        env="tiny_envs:Constant", steps=100, eval_every=20, epsilon_start=0.9, epsilon_finish=0.1, epsilon_steps=50
    )
    found = [row["train/epsilon"] for row in result.records[0].metrics]
    assert found == pytest.approx([0.9, 0.58, 0.26, 0.1, 0.1, 0.1])


def calls_of(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[bytes], float]]:
    """What COMA's networks learn from, in turn: (which, sorted marks of episodes, the floor they were played with)."""
    calls = []
    update_many, update_policy = COMALearner.update_many, COMALearner.update_policy

    def marks(batch: EpisodeBatch) -> list[bytes]:
        return sorted(episode.numpy().tobytes() for episode in batch.obs[0])

    def critic(self: COMALearner, batches: EpisodeBatch) -> dict[str, torch.Tensor]:
        calls.extend(("critic", marks(batches.batch(u)), math.nan) for u in range(len(batches.history)))
        return update_many(self, batches)

    def actor(self: COMALearner, group: EpisodeBatch, epsilon: torch.Tensor) -> dict[str, torch.Tensor]:
        calls.append(("actor", marks(group), float(epsilon[0])))
        return update_policy(self, group, epsilon)

    with monkeypatch.context() as patch:
        patch.setattr(COMALearner, "update_many", critic)
        patch.setattr(COMALearner, "update_policy", actor)
        run(
            env="tiny_envs:Masked", algorithm=algorithm, steps=150, batch_size=3, parallel_episodes=5,
            updates_per_group=2, coma_epsilon_start=0.9, coma_epsilon_finish=0.1, coma_epsilon_steps=100,
        )  # fmt: skip
    assert [kind for kind, *_ in calls] == ["critic", "critic", "actor"] * (len(calls) // 3) and len(calls) > 12
    return calls


def test_coma_learns_from_its_newest_group_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, whatever the batch size, and with the floor that it was played with."""
    calls = calls_of("coma", monkeypatch)
    for first, second, actor in zip(calls[::3], calls[1::3], calls[2::3], strict=True):
        assert first[1] == second[1] == actor[1] and len(actor[1]) == 5
    assert not set(calls[2][1]) & set(calls[5][1])
    floors = [floor for _, _, floor in calls[2::3]]
    assert floors[0] == pytest.approx(0.9) and floors[-1] == pytest.approx(0.1) and floors == sorted(floors)[::-1]


def test_coma_rs_critic_learns_from_replay_and_its_actor_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = calls_of("coma-r", monkeypatch)
    critic, actor = ([set(marks) for kind, marks, _ in calls if kind == which] for which in ("critic", "actor"))
    assert {len(marks) for marks in critic} == {3} and {len(marks) for marks in actor} == {5}
    assert not any(actor[k] & actor[k + 1] for k in range(len(actor) - 1))
    assert any(critic[2 * k] - actor[k] for k in range(len(actor)))  # some were older than the newest group
    assert set().union(*critic) <= set().union(*actor)


def test_updates_begin_with_the_first_full_batch() -> None:
    """Groups of 4, batches of 12: from the third group on, so many each."""
    result = run(
        env="tiny_envs:Constant", steps=40, eval_every=4, parallel_episodes=4, batch_size=12, updates_per_group=3
    )
    updates = [row["train/updates"] for row in result.records[0].metrics]
    assert updates == [0, 0, 0, 3, 6, 9, 12, 15, 18, 21, 24]
    assert all(("train/loss" in row) == (row["train/updates"] > 0) for row in result.records[0].metrics)


def test_training_returns_are_means_since_the_last_evaluation() -> None:
    result = run(env="tiny_envs:EarlyTruncation", steps=200, eval_every=50, seeds=(0, 1))
    for record in result.records:
        for row in record.metrics[1:]:
            assert row["train/return"] == row["train/episode_length"]  # every step pays 1
            assert 1.0 < row["train/return"] < 4.0
        assert record.series("train/return", "t_env")[0] == [float(row["t_env"]) for row in record.metrics[1:]]


def test_evaluation_leaves_training_alone() -> None:
    """Evaluations have a stream of their own: their number and length change no parameter."""
    game = {"env": "tiny_envs:Masked", "steps": 200}
    often, seldom = run(eval_every=10, eval_episodes=7, **game), run(eval_every=200, **game)
    assert len(often.records[0].metrics) > len(seldom.records[0].metrics) == 2
    assert torch.equal(flat(often, 0), flat(seldom, 0))


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(env="tiny_envs:Constant", steps=4, threads=1)
        assert torch.get_num_threads() == 2
        with pytest.raises(ValueError):
            run(env="tiny_envs:Constant", algorithm="smxi", threads=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_threads_are_given_back_by_a_job_that_may_not_start(tmp_path: Path) -> None:
    """The second job finds the first one's results."""
    before = torch.get_num_threads()
    run(env="tiny_envs:Constant", steps=4, out=tmp_path)
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="holds a finished run"):
            run(env="tiny_envs:Constant", steps=4, out=tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# Bad settings -----------------------------------------------------------------------------------------------------

BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"algorithm": "smxi"}, ValueError, "unknown algorithm 'smxi'; did you mean 'smix'"),
    ({"algorithm": "smix", "n_step": 3}, ValueError, "n_step is 3, but smix uses the lambda estimator"),
    ({"algorithm": "smix-n", "td_lambda": 0.5}, ValueError, "td_lambda is 0.5, but smix-n"),
    ({"algorithm": "coma", "buffer_size": 100}, ValueError, "buffer_size is 100, but coma learns on-policy"),
    ({"algorithm": "coma", "double_q": False}, ValueError, "double_q is False, but coma"),
    ({"env": "matrix_gam_v0"}, ValueError, "matrix_game_v0"),
    ({"env_kwargs": {"m": 0}}, ValueError, "m .*at least 1"),
    ({"env_kwargs": {"n": 3}}, TypeError, "'n'"),
    ({"env": "payoff_game_v0", "env_kwargs": {"payoff": [[1, 2], [3]]}}, ValueError, "ragged"),
    ({"env": "payoff_game_v0", "env_kwargs": {"payoff": "qtrn"}}, ValueError, "did you mean 'qtran'"),
    ({"env": "tiny_envs:Continuous"}, TypeError, "action space of agent_0 .* Discrete"),
    ({"env": "tiny_envs:Competitive"}, ValueError, 'unlike rewards.*reward="mean"'),
    ({"env": "tiny_envs:Constnt"}, ValueError, "Constant"),
    ({"team_reward": "max"}, ValueError, "'max'.*mean"),
    ({"episode_limit": 0}, ValueError, "episode_limit"),
    ({"eval_episodes": 0}, ValueError, "n_envs|eval_episodes"),
    ({"device": "gpu"}, ValueError, "unknown device 'gpu'; expected 'cpu'"),
]


@pytest.mark.parametrize(("settings", "error", "message"), BAD, ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_bad_settings_fail_before_work_starts(
    settings: dict[str, Any], error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*_: Any) -> None:
        raise AssertionError("work has started")

    monkeypatch.setattr(Trainer, "run", no_work)
    with pytest.raises(error, match=message):
        run(**{"env": "matrix_game_v0", "steps": 10, "out": tmp_path / "out", **settings})
    assert not (tmp_path / "out").exists()


def test_misspelt_setting_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown setting 'learning_rat'; did you mean 'learning_rate'"):
        TrainConfig.from_dict({"learning_rat": 1e-3})


@pytest.mark.parametrize("settings", [{"steps": -5}, {"eval_every": 0}, {"eval_every": -1}, {"threads": 0}], ids=str)
def test_job_settings_have_ranges(settings: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        run(**{"env": "tiny_envs:Constant", "steps": 10, "out": tmp_path / "out", **settings})
    assert not (tmp_path / "out").exists()


def test_payoff_as_an_array_can_be_recorded(tmp_path: Path) -> None:
    """env_kwargs that the environment documents (an array) reach record, checkpoint and policy."""
    payoff = np.array([[1.0, 2.0], [3.0, 4.0]])
    result = run(
        env="payoff_game_v0", env_kwargs={"payoff": payoff}, steps=10, out=tmp_path / "out", checkpoint_every=0.0
    )
    assert result.records[0].finished
    smix_pz.load(tmp_path / "out" / "seed-0000.safetensors")


def test_a_warning_free_job() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(env="matrix_game_v0", steps=40, eval_every=20)


# The paper's game -------------------------------------------------------------------------------------------------


def greedy_returns(algorithm: str, *, steps: int, epsilon: float, **settings: Any) -> np.ndarray:
    """Greedy returns [5 seeds, evaluations every 500 steps] on the 3-step game: 3 is safe, 6 the best."""
    result = run(
        env="matrix_game_v0", env_kwargs={"m": 3}, seeds=tuple(range(5)), algorithm=algorithm, steps=steps,
        eval_every=500, eval_episodes=1, hidden_dim=32, batch_size=32, learning_rate=2e-3, parallel_episodes=8,
        target_update_episodes=100, epsilon_steps=3000, epsilon_finish=epsilon, **settings,
    )  # fmt: skip
    return np.array([record.series("eval/return")[1] for record in result.records])


def test_smix_is_soon_safe() -> None:
    """From 1500 steps on it has the safe return or more, and most runs find the best one."""
    returns = greedy_returns("smix", steps=5000, epsilon=0.5)
    assert returns[:, 0].min() < 3  # it had to be learned
    assert (returns[:, 3:] >= 3).mean() >= 0.95
    assert (returns[:, -1] == 6).sum() >= 3


@pytest.mark.parametrize("algorithm", ["coma", "coma-r"])
def test_coma_is_soon_safe(algorithm: str) -> None:
    """From 1500 steps on every run has the safe return or more, at every evaluation."""
    returns = greedy_returns(algorithm, steps=4000, epsilon=1.0, coma_epsilon_steps=3000, coma_critic_dim=32)
    assert returns[:, 0].min() < 3  # it had to be learned
    assert (returns[:, 3:] >= 3).all()


def test_qtran_ends_at_the_best_return() -> None:
    """Under uniformly random play, whose values are not what a greedy bootstrap learns."""
    returns = greedy_returns("qtran", steps=5500, epsilon=1.0)
    assert (returns[:, -1] == 6).sum() >= 4


@pytest.mark.parametrize(("rule", "expected"), [("individual", 1.0), ("mean", 3.0)])
def test_each_agent_can_learn_from_its_own_reward(rule: Any, expected: float) -> None:
    """In a dilemma, agents who look after themselves end where everybody has less."""
    result = run(
        env="tiny_envs:Dilemma", algorithm="iql", team_reward=rule, seeds=(0, 1), steps=1500, eval_every=1500,
        eval_episodes=1, epsilon_steps=1000, learning_rate=5e-3, hidden_dim=16, target_update_episodes=20,
    )  # fmt: skip
    assert [record.series("eval/return")[1][-1] for record in result.records] == [expected] * 2


@pytest.mark.parametrize("algorithm", ["vdn", "qmix", "qtran", "coma"])
def test_own_rewards_are_for_independent_learners(algorithm: str) -> None:
    with pytest.raises(ValueError, match=f'"individual", but {algorithm} learns one value.*iql, iql-r'):
        run(env="tiny_envs:Dilemma", algorithm=algorithm, team_reward="individual", steps=10)


def test_an_agent_that_leaves_is_not_paid_for_what_follows() -> None:
    """Own returns on the way through training: 5 + g and 1 for the one who stays, twice its action for the other."""
    config = TrainConfig(
        env="tiny_envs:Leaves", algorithm="iql-r", team_reward="individual", td_lambda=1.0, steps=40, progress=False
    )
    with Trainer(config) as trainer:
        trainer.run()
        batch = trainer.replay.sample(16, [np.random.default_rng(0)])
    assert batch.rewards.shape[-1] == 2
    values = torch.full((*batch.rewards.shape[:3], 2), 7.0)  # lambda 1 looks at none but a truncation's
    found = trainer.learner.returns(batch.rewards, batch.terminated, batch.filled, values, config.gamma)
    taken = batch.actions[:, :, 0, 1].float()
    assert set(taken.flatten().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(found[..., 0], torch.tensor([5 + config.gamma, 1.0]).expand_as(found[..., 0]))
    torch.testing.assert_close(found[..., 1], torch.stack((2 * taken, torch.zeros_like(taken)), -1))
