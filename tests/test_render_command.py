"""Episodes on film: what is played is what the environment plays, for as long as it takes, by whoever was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smix_pz.config import TrainConfig
from smix_pz.envs import matrix_game_v0, smac_sim_v0
from smix_pz.envs.battle.players import PLAYERS
from smix_pz.policy import evaluate, load
from smix_pz.render import render_episode
from smix_pz.training import train

SETTINGS: dict[str, Any] = {
    "steps": 40, "eval_every": 40, "eval_episodes": 1, "batch_size": 4, "hidden_dim": 8, "progress": False,
}  # fmt: skip


def seconds(path: Path) -> float:
    with Image.open(path) as image:
        total = 0.0
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            total += image.info["duration"] / 1000
        return total


def last_picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        image.seek(getattr(image, "n_frames", 1) - 1)
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Policies of two environments, barely trained."""
    paths = {}
    for name, env, kwargs in (("matrix", "matrix_game_v0", {"m": 4}), ("3m", "smac_sim_v0", {"map_name": "3m"})):
        paths[name] = tmp_path_factory.mktemp(name) / f"{name}.safetensors"
        train(TrainConfig(**SETTINGS, env=env, env_kwargs=kwargs, seeds=(1,))).policies[0].save(paths[name])
    return paths


def played_by_hand(name: str, player: str, seed: int) -> tuple[float, int, bool, np.ndarray]:
    """Return, length, whether won, and the units at the end of an episode in a plain PettingZoo loop."""
    env = smac_sim_v0.parallel_env(map_name=name)
    _, infos = env.reset(seed=seed)
    scripted, total, length = PLAYERS[player](env.battles.scenario, 1, 0), 0.0, 0
    while env.agents:
        actions = scripted.act(env.battles.units, env.battles.battles, env.battles.mask)[0]
        joint = {agent: int(actions[env.possible_agents.index(agent)]) for agent in env.agents}
        _, rewards, _, _, infos = env.step(joint)
        total, length = total + max(rewards.values()), length + 1
    return total, length, any(info["battle_won"] for info in infos.values()), env.battles.units[0].copy()


@pytest.mark.parametrize(("player", "name"), [("focus-fire", "3m"), ("nearest", "2s3z")])
def test_a_scripted_player_s_battles_are_filmed_as_they_are_played(tmp_path: Path, player: str, name: str) -> None:
    film = render_episode(tmp_path / "out" / "film.gif", name, player=player, episodes=2, seed=5, size=320, hold=0.5)
    by_hand = [played_by_hand(name, player, seed) for seed in (5, 6)]
    assert film.returns == pytest.approx([row[0] for row in by_hand])
    assert film.lengths == [row[1] for row in by_hand]
    assert film.won == [row[2] for row in by_hand]
    # A picture at the start, four for each step of 8 loops, at 22.4 loops a second.
    assert film.pictures == sum(1 + 4 * length for length in film.lengths)
    assert seconds(film.path) == pytest.approx(film.pictures / 11.2 + 2 * 0.5, abs=0.1)
    # The last picture is the end of the last battle.
    scenario = smac_sim_v0.parallel_env(map_name=name).battles.scenario
    units = by_hand[1][3]
    from smix_pz.envs.battle.render import BattlePainter

    battle = smac_sim_v0.parallel_env(map_name=name).battles.battles[0].copy()
    battle["steps"], battle["result"] = film.lengths[1], 1 if film.won[1] else 2
    painter = BattlePainter(scenario, 320)
    expected = painter.paint(units, battle, previous=units).astype(int)
    shown = last_picture(film.path)
    assert shown.shape == expected.shape
    assert (abs(shown - expected).max(-1) < 40).mean() > 0.98  # but for the caption and shots of the last moment


def test_equal_seeds_give_equal_films(tmp_path: Path) -> None:
    films = [
        render_episode(tmp_path / f"{index}.gif", "3m", player="random", seed=seed, size=200, fps=20)
        for index, seed in enumerate((1, 1, 2))
    ]
    contents = [film.path.read_bytes() for film in films]
    assert contents[0] == contents[1] != contents[2]
    assert seconds(films[0].path) == pytest.approx(films[0].pictures / 20 + 1.5, abs=0.02)


def test_a_policy_s_battle(tmp_path: Path, policies: dict[str, Path]) -> None:
    film = render_episode(tmp_path / "film.gif", player=policies["3m"], seed=4, size=200, hold=0.0)
    policy = load(policies["3m"])
    env = smac_sim_v0.parallel_env(map_name="3m", dead_agents="stay")
    observations, infos = env.reset(seed=4)
    hidden, last, total, length = policy.initial_hidden(), None, 0.0, 0
    while env.agents:
        view = {
            "obs": np.stack([observations[agent]["observation"] for agent in env.possible_agents])[None],
            "action_mask": np.stack([infos[agent]["action_mask"] for agent in env.possible_agents])[None],
        }
        last, hidden = policy.act(view, last, hidden)
        joint = dict(zip(env.possible_agents, last[0].tolist(), strict=True))
        observations, rewards, _, _, infos = env.step(joint)
        total, length = total + rewards["marine_0"], length + 1
    assert film.returns == pytest.approx([total]) and film.lengths == [length]
    assert film.pictures == 1 + 4 * length


def test_a_policy_s_game_of_another_environment(tmp_path: Path, policies: dict[str, Path]) -> None:
    film = render_episode(tmp_path / "film.gif", player=policies["matrix"], episodes=2, hold=1.0)
    summary = evaluate(load(policies["matrix"]), episodes=1)
    assert film.returns == [summary.returns[0, 0]] * 2 and film.won == [None, None]
    assert film.lengths == [summary.lengths[0, 0]] * 2
    assert film.pictures == 2 * (1 + film.lengths[0])
    assert seconds(film.path) == pytest.approx(film.pictures / 2 + 2 * 1.0, abs=0.02)  # two pictures a second
    game = matrix_game_v0.parallel_env(m=4, render_mode="rgb_array")
    game.reset()
    first = game.render()
    with Image.open(film.path) as image:
        assert isinstance(first, np.ndarray)
        assert abs(np.asarray(image.convert("RGB")).astype(int) - first).mean() < 0.2


def test_an_mp4(tmp_path: Path) -> None:
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("imageio_ffmpeg")
    film = render_episode(tmp_path / "film.mp4", "3m", player="random", size=200, fps=20, hold=1.0)
    with imageio.get_reader(film.path, format="FFMPEG") as reader:
        assert sum(1 for _ in reader) == film.pictures + 20
        assert reader.get_meta_data()["size"][0] == 200


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"player": "focus_fire"}, ValueError, r"did you mean 'focus-fire'\?.*nearest.*random.*\.safetensors"),
        ({"player": "lost.safetensors"}, FileNotFoundError, "no policy at lost"),
        ({"map_name": "3n"}, ValueError, "3m"),
        ({"env": "matrix_game_v0", "map_name": None, "player": "nearest"}, ValueError, "smac_sim_v0 only"),
        ({"env": "matrix_game_v0", "player": "random"}, TypeError, "map_name"),
        ({"env_kwargs": {"presett": "lotv"}}, TypeError, "preset"),
        ({"episodes": 0}, ValueError, "episodes must be"),
        ({"seed": -1}, ValueError, "seed must be"),
        ({"size": 20}, ValueError, "at least 160"),
        ({"fps": 80}, ValueError, "at most 50"),
        ({"hold": -1.0}, ValueError, "hold"),
    ],
)
def test_what_cannot_be_filmed_is_refused(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        render_episode(tmp_path / "film.gif", **{"map_name": "3m", **arguments})
    assert not list(tmp_path.iterdir())


def test_other_refusals(tmp_path: Path, policies: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"\.gif or \.mp4"):
        render_episode(tmp_path / "film.avi", "3m")
    with pytest.raises(ValueError, match=r"trained on .* = \(30, 3, 9\).* has \(80, 5, 11\)"):
        render_episode(tmp_path / "film.gif", "2s3z", player=policies["3m"])
    assert not list(tmp_path.iterdir())
