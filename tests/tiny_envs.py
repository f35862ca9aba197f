"""Small hand-written PettingZoo environments whose values have a closed form; "tiny_envs:Delay" names one of them.

Two agents, two actions each (three in `Masked`). Every agent observes the one-hot of the time, and whatever else an
environment shows. Behind each docstring's bar stand the values under discount g.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from smix_pz.envs import masked_team_v0

AGENTS = ("agent_0", "agent_1")


class TinyEnv(ParallelEnv):
    """Subclasses say what a joint action pays and whether it ends the episode (`play`), and what is seen (`show`)."""

    metadata = {"name": "tiny", "render_modes": []}  # noqa: RUF012 (PettingZoo's own form)
    episode_limit = 1
    n_actions = 2
    extra = 0  # width of what is shown besides the time

    def __init__(self) -> None:
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        width = self.episode_limit + 1 + self.extra
        self.observation_spaces = {agent: spaces.Box(-10.0, 10.0, (width,), np.float32) for agent in AGENTS}
        self.action_spaces = {agent: spaces.Discrete(self.n_actions) for agent in AGENTS}

    def observation_space(self, agent: str) -> spaces.Space:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self.rng = np.random.default_rng(seed)
        self.agents, self.time = list(AGENTS), 0
        self.begin()
        return self._observe(), self._infos()

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        reward, over, cut = self.play(tuple(int(actions[agent]) for agent in AGENTS))
        self.time += 1
        observations = self._observe()
        infos = self._infos()
        agents = self.agents
        if over or cut:
            self.agents = []
        return (
            observations,
            dict.fromkeys(agents, reward),
            dict.fromkeys(agents, over),
            dict.fromkeys(agents, cut and not over),
            infos,
        )

    def _observe(self) -> dict[str, np.ndarray]:
        time = np.eye(self.episode_limit + 1)[self.time]
        return {agent: np.concatenate([time, self.show(i)]).astype(np.float32) for i, agent in enumerate(AGENTS)}

    def _infos(self) -> dict[str, dict[str, Any]]:
        return {agent: self.tell(i) for i, agent in enumerate(AGENTS)}

    def begin(self) -> None:
        """Draw what an episode needs."""

    def play(self, joint: tuple[int, ...]) -> tuple[float, bool, bool]:
        """Reward, terminated, truncated."""
        raise NotImplementedError

    def show(self, agent: int) -> list[float]:
        """What is seen besides the time."""
        return []

    def tell(self, agent: int) -> dict[str, Any]:
        """Infos."""
        return {}


class Constant(TinyEnv):
    """One step pays 1.5. | V = 1.5"""

    def play(self, joint: tuple[int, ...]) -> tuple[float, bool, bool]:
        return 1.5, True, False


class Observed(TinyEnv):
    """One step pays what a coin, seen before, says: -1 or 2. | V = -1 + 3 coin"""

    extra = 1

    def begin(self) -> None:
        self.coin = float(self.rng.integers(2))

    def play(self, joint: tuple[int, ...]) -> tuple[float, bool, bool]:
        return -1.0 + 3.0 * self.coin, True, False

    def show(self, agent: int) -> list[float]:
        return [self.coin]


class Delay(TinyEnv):
    """Five steps; the first joint action (a0, a1) pays a0 + 2 a1 at the very end. Each agent is shown its own only.

    | Q_t = g^(4 - t) (a0 + 2 a1)
    """

    episode_limit = 5
    extra = 1
    first = (0, 0)

    def play(self, joint: tuple[int, ...]) -> tuple[float, bool, bool]:
        if self.time == 0:
            self.first = joint
        last = self.time == 4
        return float(self.first[0] + 2 * self.first[1]) * last, last, False

    def show(self, agent: int) -> list[float]:
        return [0.0 if self.time == 0 else 2.0 * self.first[agent] - 1.0]


class Coordination(TinyEnv):
    """Nothing at the first step, a payoff table at the second.

    | Q_1 = PAYOFF, Q_0 = g max PAYOFF (greedy) or g mean PAYOFF (uniformly random behaviour)
    """

    episode_limit = 2
    PAYOFF = ((1.0, 1.0), (1.0, 4.0))

    def play(self, joint: tuple[int, ...]) -> tuple[float, bool, bool]:
        if self.time == 0:
            return 0.0, False, False
        return self.PAYOFF[joint[0]][joint[1]], True, False


class EarlyTruncation(TinyEnv):
    """Four steps pay 1 each; before that, every step truncates the episode with probability 1/3.

    A truncation is no end: what would have followed counts. | V_t = sum over k < 4 - t of g^k
    """

    episode_limit = 4

    def play(self, joint: tuple[int, ...]) -> tuple[float, bool, bool]:
        last = self.time == 3
        return 1.0, last, not last and self.rng.random() < 1 / 3


class Chance(TinyEnv):
    """Up to four steps; each pays 0 or 1 by a coin and is the last one by another. | V_t = sum of (g/2)^k / 2"""

    episode_limit = 4

    def play(self, joint: tuple[int, ...]) -> tuple[float, bool, bool]:
        over = self.rng.random() < 0.5 or self.time == 3
        return float(self.rng.integers(2)), bool(over), False


class Masked(TinyEnv):
    """Random observations, rewards, masks and ends of both kinds: nothing to learn, much to record."""

    episode_limit = 6
    n_actions = 3
    extra = 2

    def begin(self) -> None:
        self._draw()

    def _draw(self) -> None:
        self.noise = self.rng.normal(size=(2, 2)).clip(-9, 9)
        self.masks = self.rng.random((2, 3)) < 0.5
        self.masks[[0, 1], self.rng.integers(3, size=2)] = True

    def play(self, joint: tuple[int, ...]) -> tuple[float, bool, bool]:
        for i, action in enumerate(joint):
            if not self.masks[i, action]:
                raise ValueError(f"agent {i} plays {action}, legal are {np.flatnonzero(self.masks[i])}")
        end = self.rng.random()
        reward = float(np.float32(self.rng.normal() + joint[0] - 2 * joint[1]))
        self._draw()
        return reward, end < 0.15, 0.15 <= end < 0.3

    def show(self, agent: int) -> list[float]:
        return self.noise[agent].tolist()

    def tell(self, agent: int) -> dict[str, Any]:
        return {"action_mask": self.masks[agent].astype(np.int8)}


class Continuous(Constant):
    """An action space that a value learner cannot use."""

    def __init__(self) -> None:
        super().__init__()
        self.action_spaces = {agent: spaces.Box(-1.0, 1.0, (1,), np.float32) for agent in AGENTS}


class Competitive(Constant):
    """Zero-sum: the agents' rewards are unlike."""

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        observations, _, over, cut, infos = super().step(actions)
        return observations, {"agent_0": 1.0, "agent_1": -1.0}, over, cut, infos


class Dice(gymnasium.Env):
    """One agent, two numbers to choose; paid their sum."""

    observation_space = spaces.MultiBinary(3)
    action_space = spaces.MultiDiscrete([2, 3], start=[0, 10])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.int8), {}

    def step(self, action):
        self.last = action
        return np.ones(3, np.int8), float(action.sum()), False, True, {}


class CutsAsEnds(masked_team_v0.parallel_env):
    """The masked team as a learner meets it who takes truncations for terminations. | V of the start 7 g^2, not 10"""

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        observations, rewards, over, cut, infos = super().step(actions)
        over = {agent: over[agent] or cut[agent] for agent in over}
        return observations, rewards, over, dict.fromkeys(cut, False), infos


class Dilemma(TinyEnv):
    """Each agent is paid its own: 0 helps the other by 3 and 1 takes 1 for itself, once. | alone 1 is better: 1; mean:
    0 is better, 3"""

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        observations, _, over, cut, infos = super().step(actions)
        first, second = (actions[agent] for agent in AGENTS)
        paid = {"agent_0": 3.0 * (second == 0) + first, "agent_1": 3.0 * (first == 0) + second}
        return observations, paid, over, cut, infos

    def play(self, joint: tuple[int, ...]) -> tuple[float, bool, bool]:
        return 0.0, True, False


class Leaves(TinyEnv):
    """Two steps, each agent paid its own: agent_1 takes twice its action and leaves; agent_0 gets 5, then 1 more.
    | V of agent_0 5 + g, of agent_1 twice its action"""

    episode_limit = 2

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        self.time += 1
        last, now = self.time == 2, self.agents
        self.agents = [] if last else ["agent_0"]
        paid = {"agent_0": 1.0} if last else {"agent_0": 5.0, "agent_1": 2.0 * actions["agent_1"]}
        observations = {agent: row for agent, row in self._observe().items() if agent in now}
        over = {agent: agent not in self.agents for agent in now}
        return observations, paid, over, dict.fromkeys(now, False), {agent: {} for agent in now}


class Pictures(TinyEnv):
    """Three steps; each agent is shown a bright square in one quarter of a noisy picture, and paid 1 for its number.

    | V_t = sum over k < 3 - t of 2 g^k; at random a quarter of that
    """

    episode_limit = 3
    n_actions = 4
    shape: tuple[int, ...] = (16, 16, 3)  # [H, W, C]
    dtype: type = np.uint8

    def __init__(self) -> None:
        super().__init__()
        high = 255 if self.dtype is np.uint8 else 1.0
        space = spaces.Box(0, high, self.shape, self.dtype)
        self.observation_spaces = dict.fromkeys(AGENTS, space)

    def begin(self) -> None:
        self._draw()

    def _draw(self) -> None:
        self.quarter = self.rng.integers(4, size=2)
        self.corner = self.rng.integers(5, size=(2, 2)) + 8 * np.stack((self.quarter // 2, self.quarter % 2), axis=1)
        self.colour = self.rng.integers(150, 256, (2, 3))
        self.noise_seed = int(self.rng.integers(2**31))

    def play(self, joint: tuple[int, ...]) -> tuple[float, bool, bool]:
        reward = float((self.quarter == joint).sum())
        self._draw()
        return reward, self.time == 2, False

    def _observe(self) -> dict[str, np.ndarray]:
        noise = np.random.default_rng(self.noise_seed)
        return {agent: self._as_space(self.picture(i, noise)) for i, agent in enumerate(AGENTS)}

    def picture(self, agent: int, noise: np.random.Generator) -> np.ndarray:
        """uint8 [16, 16, 3]"""
        pixels = noise.integers(0, 100, (16, 16, 3), dtype=np.uint8)
        top, left = self.corner[agent]
        pixels[top : top + 4, left : left + 4] = self.colour[agent]
        return pixels

    def _as_space(self, pixels: np.ndarray) -> np.ndarray:
        if len(self.shape) == 2:
            pixels = pixels[..., 0]
        elif self.shape[0] == 3:
            pixels = pixels.transpose(2, 0, 1)
        return pixels if self.dtype is np.uint8 else (pixels / np.float32(255)).astype(np.float32)


class PicturesChannelsFirst(Pictures):
    """[C, H, W]."""

    shape = (3, 16, 16)


class PicturesGrey(Pictures):
    """[H, W]."""

    shape = (16, 16)


class PicturesFloat(Pictures):
    """float32 in [0, 1]."""

    dtype = np.float32


class PicturesWithState(Pictures):
    """Its state() is a large picture: both agents' side by side, each pixel blown up to 20 x 20."""

    def __init__(self) -> None:
        super().__init__()
        self.state_space = spaces.Box(0, 255, (320, 640, 3), np.uint8)

    def state(self) -> np.ndarray:
        noise = np.random.default_rng(self.noise_seed)
        both = np.concatenate([self.picture(i, noise) for i in range(2)], axis=1)
        return both.repeat(20, axis=0).repeat(20, axis=1)
