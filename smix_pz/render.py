"""`smix-pz render`: whole episodes as a film, played by a saved policy, a scripted player, or at random."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from smix_pz.envs import make_team_env
from smix_pz.envs.battle.video import check_video, write_video
from smix_pz.envs.checks import check_int
from smix_pz.names import nearest
from smix_pz.policies import pretrained

DEFAULT_ENV = "smac_sim_v0"
RANDOM = "random"
POLICY_SUFFIX = ".safetensors"
SHOT_PICTURES = 2  # for so many pictures a shot is seen
LOOPS_PER_SECOND = 22.4  # of StarCraft II at the speed "faster", in which it is watched

# From the team's observation to one action for each agent, int [N]; made anew for each episode.
Act = Callable[[dict[str, np.ndarray]], np.ndarray]


@dataclass
class Film:
    """What a film shows.

    Attributes:
        path: of the file.
        returns, lengths: of each episode.
        won: of each episode; None where the environment does not say.
        pictures: how many, without those that are held.
    """

    path: Path
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    won: list[bool | None] = field(default_factory=list)
    pictures: int = 0


def render_episode(
    out: Path | str,
    map_name: str | None = None,
    *,
    player: str | Path = "focus-fire",
    env: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    reward: Any = None,
    episodes: int = 1,
    seed: int = 0,
    fps: float | None = None,
    size: int = 640,
    hold: float = 1.5,
) -> Film:
    """Play episodes and write them as one film.

    Args:
        out: a .gif or .mp4 file.
        map_name: short for the environment's argument of this name.
        player: a policy that training wrote (.safetensors), "random", or a scripted player of `smac_sim_v0`.
        env: the environment; None: the one the policy was trained on, or "smac_sim_v0".
        env_kwargs: its arguments, over those the policy was trained with.
        reward: of a scripted player: how agents' unlike rewards become the team's. A policy knows its own.
        episodes: how many, one after the other; episode i has the seed `seed` + i.
        seed: of the first episode, and of a random player.
        fps: pictures a second; None: the speed at which the game is watched.
        size: width of a battle's picture in pixels; other environments have their own sizes.
        hold: seconds for which each episode's last picture stays.

    Raises:
        ValueError: an unknown player or suffix, a number out of range; a policy whose sizes are not the environment's;
            an environment that has no pictures.
        TypeError: an argument that the environment does not know.
        FileNotFoundError: no such policy.
        ImportError: an .mp4 without imageio and imageio-ffmpeg.
    """
    out = Path(out)
    check_int("episodes", episodes, 1)
    check_int("seed", seed, 0)
    check_video(out, 1.0 if fps is None else fps)
    kwargs = dict(env_kwargs or {}) | ({} if map_name is None else {"map_name": map_name})
    team, act_of = _prepare(str(player), env, kwargs, seed, reward)
    film = Film(out)
    try:
        shoot = _camera(team, size, _label(player))
        speed = _speed(team) if fps is None else fps
        write_video(_film(team, act_of, shoot, film, episodes, seed, round(hold * speed)), out, speed, hold)
    finally:
        team.close()
    return film


def _film(
    team: gymnasium.Env,
    act_of: Callable[[], Act],
    shoot: Callable[[bool], Iterator[np.ndarray]],
    film: Film,
    episodes: int,
    seed: int,
    held: int,
) -> Iterator[np.ndarray]:
    for episode in range(episodes):
        observation, info = team.reset(seed=seed + episode)
        act, total, length, ended = act_of(), 0.0, 0, False
        picture = None
        for picture in shoot(True):
            film.pictures += 1
            yield picture
        while not ended:
            observation, reward, terminated, truncated, info = team.step(act(observation))
            total, length, ended = total + float(reward), length + 1, terminated or truncated
            for picture in shoot(False):
                film.pictures += 1
                yield picture
        film.returns.append(total)
        film.lengths.append(length)
        film.won.append(bool(info["battle_won"]) if "battle_won" in info else None)
        if episode < episodes - 1 and picture is not None:
            yield from [picture] * held


def _game(team: gymnasium.Env) -> Any:
    """The ParallelEnv behind the team view."""
    return getattr(team.unwrapped, "env", None)


def _label(player: str | Path) -> str:
    return Path(player).stem if str(player).endswith(POLICY_SUFFIX) else str(player)


def _camera(team: gymnasium.Env, size: int, caption: str) -> Callable[[bool], Iterator[np.ndarray]]:
    """What gives the pictures since the last step: a battle's snapshots, or what the environment renders."""
    game = _game(team)
    if not hasattr(game, "snapshots"):
        return lambda begins: iter([_rendered(team)])
    from smix_pz.envs.battle.render import BattlePainter

    painter = BattlePainter(game.battles.scenario, size)
    before: deque[np.ndarray] = deque(maxlen=SHOT_PICTURES)

    def shoot(begins: bool) -> Iterator[np.ndarray]:
        if begins:
            before.clear()
        for units, battle in game.snapshots:
            yield painter.paint(units, battle, caption=caption, previous=before[0] if before else units)
            before.append(units)

    return shoot


def _rendered(team: gymnasium.Env) -> np.ndarray:
    picture = team.render()
    if not isinstance(picture, np.ndarray):
        raise ValueError(f'{team.unwrapped} has no pictures: its render() in the mode "rgb_array" gave {picture!r}.')
    return picture


def _speed(team: gymnasium.Env) -> float:
    if hasattr(_game(team), "snapshots"):
        from smix_pz.envs.smac_sim_v0 import LOOPS_PER_FRAME

        return LOOPS_PER_SECOND / LOOPS_PER_FRAME
    return float((team.metadata or {}).get("render_fps", 10))


def _prepare(
    player: str, env: str | None, kwargs: dict[str, Any], seed: int, reward: Any
) -> tuple[gymnasium.Env, Callable[[], Act]]:
    """The environment in the team view, and what makes a player for each episode."""
    if player.endswith(POLICY_SUFFIX) or Path(player).is_file() or player in pretrained():
        if reward is not None:
            raise ValueError("reward is for scripted players: a policy plays as it was trained")
        return _prepare_policy(player, env, kwargs)
    if player != RANDOM:
        from smix_pz.envs.battle.players import PLAYERS

        if player not in PLAYERS:
            known = nearest(player, {*PLAYERS, RANDOM, *pretrained()})
            raise ValueError(f"unknown player {player!r}; {known}; or a policy, a {POLICY_SUFFIX} file")
    team = make_team_env(env or DEFAULT_ENV, reward=reward, render_mode="rgb_array", **kwargs)
    if player == RANDOM:
        rng = np.random.default_rng(seed)
        return team, lambda: lambda observation: _random_actions(observation["action_mask"], rng)
    game = _game(team)
    if not hasattr(game, "battles"):
        team.close()
        raise ValueError(f"the player {player!r} plays battles of {DEFAULT_ENV} only, not {env}; try {RANDOM!r}.")
    return team, lambda: _scripted(player, game, seed)


def _prepare_policy(path: str, env: str | None, kwargs: dict[str, Any]) -> tuple[gymnasium.Env, Callable[[], Act]]:
    from smix_pz.policy import load, view_options

    policy = load(path)
    about = policy.about
    own = about["env_kwargs"] if env in (None, about["env"]) else {}
    team = make_team_env(env or about["env"], **view_options(about), **{**own, **kwargs, "render_mode": "rgb_array"})
    spec = team.unwrapped.team_spec  # type: ignore[attr-defined]
    wanted = (policy.agent.obs_dim, policy.agent.n_agents, policy.agent.n_actions)
    got = (spec.obs_dim, spec.n_agents, spec.n_actions)
    if got != wanted:
        team.close()
        raise ValueError(
            f"the policy was trained on (obs_dim, n_agents, n_actions) = {wanted}, {spec.env_id} has {got}"
        )

    def begin() -> Act:
        hidden, last = policy.initial_hidden(), None

        def act(observation: dict[str, np.ndarray]) -> np.ndarray:
            nonlocal hidden, last
            last, hidden = policy.act({name: array[None] for name, array in observation.items()}, last, hidden)
            return last[0]

        return act

    return team, begin


def _scripted(name: str, game: Any, seed: int) -> Act:
    from smix_pz.envs.battle.players import PLAYERS

    battles = game.battles
    player = PLAYERS[name](battles.scenario, battles.count, seed)
    return lambda observation: player.act(battles.units, battles.battles, battles.mask)[0]


def _random_actions(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A legal action for each agent, all alike probable; mask [N, A], actions [N]."""
    return np.where(mask != 0, rng.random(mask.shape), -1.0).argmax(1)
