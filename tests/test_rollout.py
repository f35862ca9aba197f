"""The collector against plain PettingZoo loops, and how it explores."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import tiny_envs
import torch
from tiny_envs import AGENTS, Masked, TinyEnv

from smix_pz.algorithms.agents import GRUAgent
from smix_pz.algorithms.exploration import Behaviour
from smix_pz.algorithms.networks import ParameterStack
from smix_pz.envs import make_vector_env
from smix_pz.episodes import EpisodeBatch, history_keys
from smix_pz.rollout import BEHAVIOURS, Collector, EpisodeSummary
from smix_pz.training import evaluation_metrics

CPU = torch.device("cpu")
R, K, N, A = 3, 8, 2, 3


class Seeds(gymnasium.vector.VectorWrapper):
    """Remembers the seeds that a vector environment was reset with."""

    seeds: list[int]

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.seeds = list(seed)
        return self.env.reset(seed=seed, options=options)


def make(
    n_runs: int = R,
    n_envs: int = K,
    env: Any = "tiny_envs:Masked",
    behaviour: Behaviour = "epsilon-greedy",
    **kwargs: Any,
) -> Collector:
    vector = make_vector_env(env, n_runs * n_envs, **kwargs)
    spec = vector.team_spec
    agent = GRUAgent(spec.obs_dim, spec.n_agents, spec.n_actions, 8)
    return Collector(Seeds(vector), spec, agent, n_runs, CPU, behaviour)


def parameters(agent: GRUAgent, seeds: list[int]) -> ParameterStack:
    return ParameterStack.draw(agent.parameters(), [np.random.default_rng([s, 0]) for s in seeds], CPU)


def collect(
    collector: Collector, epsilon: float | list[float], seeds: list[int]
) -> tuple[EpisodeBatch, EpisodeSummary]:
    streams = [[np.random.default_rng([s, k]) for s in seeds] for k in (1, 2)]
    epsilons = np.broadcast_to(np.asarray(epsilon, float), (len(seeds),)).copy()
    return collector.collect(parameters(collector.agent, seeds).params, epsilons, *streams)


def played(seed: int, actions: np.ndarray, limit: int) -> dict[str, Any]:
    """One episode of `Masked` as PettingZoo plays it, with given actions [T+1, N]."""
    env = Masked()
    observations, infos = env.reset(seed=seed)

    def seen() -> tuple[np.ndarray, np.ndarray]:
        obs = np.stack([observations[agent] for agent in AGENTS])
        return obs, np.stack([infos[agent]["action_mask"] for agent in AGENTS]).astype(bool)

    views, rewards, ended, cut = [seen()], [], False, False
    for t in range(limit):
        joint = {agent: int(actions[t, i]) for i, agent in enumerate(AGENTS)}
        observations, paid, over, truncated, infos = env.step(joint)
        views.append(seen())
        rewards.append(paid["agent_0"])
        ended, cut = over["agent_0"], truncated["agent_0"]
        if ended or cut:
            break
    return {"views": views, "rewards": rewards, "terminated": ended, "length": len(rewards)}


@pytest.mark.parametrize("limit", [None, 3])
def test_episodes_are_those_of_a_plain_loop(limit: int | None) -> None:
    """Every number of every episode, of two groups in turn; ends of all kinds occur."""
    collector = make(episode_limit=limit)
    n_steps = limit or Masked.episode_limit
    kinds = set()
    for group in range(2):
        batch, summary = collect(collector, 0.5, [group, 10 + group, 20 + group])
        assert batch.obs.shape == (R, K, n_steps + 1, N, 9) and batch.rewards.shape == (R, K, n_steps, 1)
        assert torch.equal(batch.history, history_keys(batch.obs, batch.state, batch.avail_actions, batch.actions))
        for i, seed in enumerate(collector.env.seeds):
            r, b = divmod(i, K)
            one = batch.map(lambda field, r=r, b=b: field[r, b])
            expected = played(seed, one.actions.numpy(), n_steps)
            length, over = expected["length"], expected["terminated"]
            kinds.add((over, length == n_steps))
            assert one.filled[:, 0].tolist() == [True] * length + [False] * (n_steps - length)
            assert one.terminated[:, 0].tolist() == [t == length - 1 and over for t in range(n_steps)]
            assert one.rewards[:length, 0].tolist() == expected["rewards"]
            stored = length if over else length + 1  # the final observation, where a return goes on from it
            for t in range(stored):
                obs, mask = expected["views"][t]
                np.testing.assert_array_equal(one.obs[t], obs)
                np.testing.assert_array_equal(one.state[t], obs.ravel())
                np.testing.assert_array_equal(one.avail_actions[t], mask)
                assert mask[range(N), one.actions[t]].all()
            for field in (one.obs, one.state, one.avail_actions, one.actions):
                assert not field[stored:].any()  # nothing behind an end
            assert not one.rewards[length:].any()
            assert summary.lengths[r, b] == length
            assert summary.returns[r, b] == pytest.approx(sum(expected["rewards"]), abs=1e-6)
        assert np.isnan(summary.won).all()
    assert kinds == {(True, False), (False, False), (True, True), (False, True)}


def test_greedy_play_is_the_argmax_over_legal_actions() -> None:
    """Replayed through the network step by step, to the action chosen at a truncated episode's final observation."""
    collector = make()
    seeds = [1, 2, 3]
    batch, _ = collect(collector, 0.0, seeds)
    params = parameters(collector.agent, seeds).params
    hidden = collector.agent.initial_hidden(R, K, CPU)
    last = torch.full((R, K, N), -1)
    changed, final = 0, 0
    for t in range(batch.n_steps + 1):
        qs, hidden = collector.agent.step(params, batch.obs[:, :, t], last, hidden)
        last = batch.actions[:, :, t]
        for r, b in batch.needed()[:, :, t].nonzero().tolist():
            for i in range(N):
                legal = batch.avail_actions[r, b, t, i].nonzero()[:, 0].tolist()
                assert int(last[r, b, i]) == max(legal, key=qs[r, b, i].tolist().__getitem__)
                changed += int(qs[r, b, i].argmax()) not in legal
            final += t == int(batch.filled[r, b].sum())
    assert changed > 20 and final > 3


@pytest.mark.parametrize("epsilon", [0.3, 1.0])
def test_exploration_is_epsilon_greedy_under_masks(epsilon: float) -> None:
    """The greedy action with 1 - epsilon + epsilon / n, every other legal one with epsilon / n, n being legal."""
    n_envs = 128
    collector = make(n_envs=n_envs)
    seeds = [4, 5, 6]
    batch, _ = collect(collector, epsilon, seeds)
    params = parameters(collector.agent, seeds).params
    hidden, last = collector.agent.initial_hidden(R, n_envs, CPU), torch.full((R, n_envs, N), -1)
    # By number of legal actions and rank of the chosen one: greedy, the first other, the second other.
    counts = {n: np.zeros(n) for n in (1, 2, 3)}
    for t in range(batch.n_steps):
        qs, hidden = collector.agent.step(params, batch.obs[:, :, t], last, hidden)
        last = batch.actions[:, :, t]
        for r, b in batch.filled[:, :, t, 0].nonzero().tolist():
            for i in range(N):
                values = qs[r, b, i].tolist()
                legal = batch.avail_actions[r, b, t, i].nonzero()[:, 0].tolist()
                best = max(legal, key=values.__getitem__)
                ranked = [best, *(a for a in legal if a != best)]
                rank = ranked.index(int(last[r, b, i]))
                counts[len(legal)][rank] += 1
                stored = epsilon / len(legal) + (1 - epsilon) * (rank == 0)
                assert float(batch.behaviour[r, b, t, i]) == pytest.approx(stored, rel=1e-6)
    for n, found in counts.items():
        probability = np.full(n, epsilon / n) + np.eye(n)[0] * (1 - epsilon)
        total = found.sum()
        assert total > 100
        spread = np.sqrt(total * probability * (1 - probability)) + 1e-9
        assert (np.abs(found - total * probability) < 4 * spread).all(), (n, found, total * probability)


def test_softmax_play_has_the_floored_policys_probabilities() -> None:
    """Weights 1, 2, 5 with the last illegal, floor 0.3: 0.7/3 + 0.15 and 1.4/3 + 0.15; then all legal, no floor."""
    n = 20_000
    logits = torch.tensor([[1.0, 2.0, 5.0], [1.0, 2.0, 5.0]]).log()[:, None, None].expand(2, n, 1, 3)
    avail = np.broadcast_to(np.array([[True, True, False], [True, True, True]])[:, None, None], (2, n, 1, 3)).copy()
    draws = np.random.default_rng(0).random((2, n, 1, 2), np.float32)
    actions, probabilities = BEHAVIOURS["softmax"](logits, avail, np.array([0.3, 0.0]), draws)
    assert actions.shape == (2, n, 1)
    expected = np.array([[0.7 / 3 + 0.15, 1.4 / 3 + 0.15, 0.0], [1 / 8, 2 / 8, 5 / 8]])
    np.testing.assert_allclose(probabilities, np.stack([expected[r][actions[r]] for r in range(2)]), rtol=1e-6)
    found = np.stack([np.bincount(actions[r, :, 0], minlength=3) for r in range(2)]) / n
    assert (np.abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / n)).all(), found


def test_softmax_play_never_draws_an_illegal_action() -> None:
    """Nor at draws of 0 and of the largest number below 1, whatever rounding makes of the probabilities' sum."""
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.normal(scale=3, size=(1, 500, 2, 7)).astype(np.float32))
    avail = rng.random((1, 500, 2, 7)) < 0.4
    np.put_along_axis(avail, rng.integers(7, size=(1, 500, 2, 1)), True, axis=-1)
    for draw in (np.float32(0), np.nextafter(np.float32(1), np.float32(0))):
        actions, _ = BEHAVIOURS["softmax"](logits, avail, np.array([0.05]), np.full((1, 500, 2, 2), draw))
        assert np.take_along_axis(avail, actions[..., None], -1).all()


def test_softmax_behaviour_is_what_collects_and_greedy_play_is_the_argmax() -> None:
    """Against a loop over the same draws; without exploration, both behaviours play the same episodes."""
    collector, seeds = make(behaviour="softmax"), [4, 5, 6]
    batch, _ = collect(collector, 0.2, seeds)
    params = parameters(collector.agent, seeds).params
    draws = np.stack([np.random.default_rng([s, 1]).random((7, K, N, 2), np.float32) for s in seeds], axis=1)
    hidden, last = collector.agent.initial_hidden(R, K, CPU), torch.full((R, K, N), -1)
    for t in range(batch.n_steps + 1):
        logits, hidden = collector.agent.step(params, batch.obs[:, :, t], last, hidden)
        last = batch.actions[:, :, t]
        for r, b in batch.needed()[:, :, t].nonzero().tolist():
            for i in range(N):
                legal = batch.avail_actions[r, b, t, i].nonzero()[:, 0].tolist()
                weights = logits[r, b, i, legal].double().exp()
                bounds = (0.8 * weights / weights.sum() + 0.2 / len(legal)).cumsum(0).tolist()
                below = sum(bound <= draws[t, r, b, i, 0] for bound in bounds)
                chosen = min(below, len(legal) - 1)
                assert int(last[r, b, i]) == legal[chosen]
                stored = bounds[chosen] - (bounds[chosen - 1] if chosen else 0.0)
                assert float(batch.behaviour[r, b, t, i]) == pytest.approx(stored, rel=1e-4)
    greedy = [
        make(behaviour=behaviour).collect(params, np.zeros(R), [], [np.random.default_rng(s) for s in seeds])[0]
        for behaviour in BEHAVIOURS
    ]
    assert all(torch.equal(*(getattr(b, f) for b in greedy)) for f in EpisodeBatch.__dataclass_fields__)
    assert make(behaviour="softmax").select(collector.env, R).behaviour == "softmax"


def test_agents_explore_independently() -> None:
    """At epsilon 1, the joint actions of two agents with two actions each come up equally often."""
    collector = make(1, 256, env="tiny_envs:Coordination")
    batch, _ = collect(collector, 1.0, [0])
    joint = batch.actions[0, :, :2].reshape(-1, 2) @ torch.tensor([2, 1])
    counts = joint.bincount(minlength=4).numpy()
    assert counts.sum() == 512
    assert float(((counts - 128) ** 2 / 128).sum()) < 16.3  # chi-square with 3 degrees of freedom, p = 0.001
    # And a step's choice says nothing of the next one's.
    repeated = (batch.actions[0, :, 0] == batch.actions[0, :, 1]).double().mean()
    assert abs(float(repeated) - 0.5) < 4 * 0.5 / np.sqrt(512)


def test_each_run_has_its_own_epsilon() -> None:
    collector = make(2, 128, env="tiny_envs:Coordination")
    batch, _ = collect(collector, [0.0, 1.0], [0, 1])
    assert batch.actions[0, :, 0].unique(dim=0).shape[0] == 1  # greedy play of one observation
    assert batch.actions[1, :, 0].unique(dim=0).shape[0] == 4


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_run_does_not_depend_on_its_stack(behaviour: Behaviour) -> None:
    """The same episodes alone and beside others, and the streams left in the same state, over several groups."""
    seeds = [7, 8, 9]
    stacked, alone = make(3, 4, behaviour=behaviour), make(1, 4, behaviour=behaviour)
    streams = {s: [[np.random.default_rng([s, k])] for k in (1, 2)] for s in seeds}
    alone_streams = [[np.random.default_rng([8, k])] for k in (1, 2)]
    for _ in range(3):
        together, _ = stacked.collect(
            parameters(stacked.agent, seeds).params, np.array([1.0, 0.4, 0.0]),
            *([streams[s][k][0] for s in seeds] for k in (0, 1)),
        )  # fmt: skip
        single, _ = alone.collect(parameters(alone.agent, [8]).params, np.array([0.4]), *alone_streams)
        for name in EpisodeBatch.__dataclass_fields__:
            torch.testing.assert_close(getattr(together, name)[1], getattr(single, name)[0], rtol=0, atol=0)
        for k in (0, 1):
            assert streams[8][k][0].bit_generator.state == alone_streams[k][0].bit_generator.state


def test_streams_move_by_the_same_amount_at_epsilon_0() -> None:
    """As `collect` promises; in training no run can see the difference, since 0 is where epsilon stays."""
    states = []
    for epsilon in ([0.0], [0.0, 1.0]):
        stack = make(len(epsilon), 2)
        streams = [[np.random.default_rng([s, k]) for s in range(len(epsilon))] for k in (1, 2)]
        stack.collect(parameters(stack.agent, list(range(len(epsilon)))).params, np.array(epsilon), *streams)
        states.append(streams[0][0].bit_generator.state)
    assert states[0] == states[1]


def test_wins_are_noted_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """battle_won of the step that ended the episode, not of those before."""

    def tell(self: tiny_envs.Chance, agent: int) -> dict[str, bool]:
        return {"battle_won": self.time % 2 == 1}

    monkeypatch.setattr(tiny_envs.Chance, "tell", tell)
    _, summary = collect(make(2, 16, env="tiny_envs:Chance"), 1.0, [0, 1])
    np.testing.assert_array_equal(summary.won, summary.lengths % 2 == 1)
    assert set(np.unique(summary.lengths)) == {1, 2, 3, 4}


class Breaking(TinyEnv):
    """Four steps that pay 1 each, and a victory; but half of all episodes break down in one of them, by chance.

    The step in which that happens pays 100 and says "won", to be disbelieved: it did not happen.
    """

    episode_limit = 4

    def begin(self) -> None:
        self.last = int(self.rng.integers(0, 4)) if self.rng.random() < 0.5 else -1
        self.broken = False

    def play(self, joint: tuple[int, ...]) -> tuple[float, bool, bool]:
        self.broken = self.time == self.last
        return (100.0, False, True) if self.broken else (1.0, self.time == 3, False)

    def tell(self, agent: int) -> dict[str, Any]:
        return {"battle_won": self.broken or self.time == 4} | ({"aborted": True} if self.broken else {})


def test_an_aborted_episode_is_neither_won_nor_lost_and_its_last_step_did_not_happen() -> None:
    collector = make(2, 64, env=Breaking)
    batch, summary = collect(collector, 1.0, [3, 4])
    lasts = np.empty((2, 64), int)
    for index, seed in enumerate(collector.env.seeds):
        game = Breaking()
        game.reset(seed=seed)
        lasts.flat[index] = game.last
    broken = lasts >= 0
    assert set(np.unique(lasts)) == {-1, 0, 1, 2, 3}
    np.testing.assert_array_equal(np.isnan(summary.returns), broken)
    assert (summary.returns[~broken] == 4.0).all()
    np.testing.assert_array_equal(summary.won, np.where(broken, np.nan, 1.0))
    length = np.where(broken, lasts, 4)  # the step that broke is no transition
    np.testing.assert_array_equal(summary.lengths, length)
    filled = np.arange(4) < length[..., None]
    np.testing.assert_array_equal(batch.filled[..., 0].numpy(), filled)
    np.testing.assert_array_equal(batch.rewards[..., 0].numpy(), filled.astype(float))
    # what did happen is cut off, not terminated: learning bootstraps from the last thing seen
    np.testing.assert_array_equal(batch.terminated[..., 0].numpy(), ~broken[..., None] & (np.arange(4) == 3))
    metrics = [
        evaluation_metrics(EpisodeSummary(*(part[[run]] for part in (summary.returns, summary.lengths, summary.won))))
        for run in range(2)
    ]
    for run, values in enumerate(metrics):
        assert values == {
            "eval/return": 4.0, "eval/return_std": 0.0, "eval/episode_length": 4.0, "eval/win_rate": 1.0,
            "eval/aborted": float(broken[run].sum()),
        }  # fmt: skip


def test_metrics_count_whole_episodes_alone() -> None:
    nan = np.nan
    summary = EpisodeSummary(np.array([[1.0, nan, 4.0]]), np.array([[2, 1, 6]]), np.array([[1.0, nan, 0.0]]))
    assert evaluation_metrics(summary) == {
        "eval/return": 2.5, "eval/return_std": 1.5, "eval/episode_length": 4.0, "eval/win_rate": 0.5, "eval/aborted": 1,
    }  # fmt: skip
    assert "eval/aborted" not in evaluation_metrics(EpisodeSummary(np.ones((1, 2)), np.ones((1, 2)), np.ones((1, 2))))
    assert "eval/win_rate" not in evaluation_metrics(
        EpisodeSummary(np.ones((1, 2)), np.ones((1, 2)), np.full((1, 2), nan))
    )
    with pytest.raises(RuntimeError, match="every evaluation episode was aborted"):
        evaluation_metrics(EpisodeSummary(np.full((1, 2), nan), np.ones((1, 2)), np.full((1, 2), nan)))


def test_environments_have_to_be_shared_equally() -> None:
    vector = make_vector_env("tiny_envs:Constant", 5)
    spec = vector.team_spec
    with pytest.raises(ValueError, match="5 environments cannot be shared equally by 2 runs"):
        Collector(vector, spec, GRUAgent(spec.obs_dim, 2, 2), 2, CPU)
