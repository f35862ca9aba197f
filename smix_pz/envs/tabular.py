"""What the small games share as PettingZoo environments: agents, spaces, masks, seeds, checks and pictures.

`DrawnParallelEnv` is the part that draws. A game whose agents are all alike subclasses `TabularParallelEnv` and says
four things: how it begins, what a joint action pays, what is observed, and how it is drawn. All agents observe the
whole state there, every action is always legal, and all share one reward.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import logger, spaces
from gymnasium.utils import seeding
from pettingzoo import ParallelEnv

from smix_pz.envs.checks import check_choice
from smix_pz.envs.drawing import Scene, Window, scene_image, scene_text

RENDER_MODES = ["human", "rgb_array", "ansi"]
StepResult = tuple[dict[str, np.ndarray], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]


def game_metadata(name: str, rules: str) -> dict[str, Any]:
    """PettingZoo's metadata of one of these games, with its rules version."""
    return {
        "name": name,
        "render_modes": RENDER_MODES,
        "is_parallelizable": True,
        "render_fps": 2,
        "rules": rules,
        "shared_reward": True,  # make_vector_env need not look whether all agents are paid alike
    }


class DrawnParallelEnv(ParallelEnv):
    """A ParallelEnv that can be seen: a subclass says what its picture shows (`_scene`), and calls `_show` on changes.

    Args:
        render_mode: None, "human", "rgb_array" or "ansi".

    Raises:
        ValueError: unknown render_mode.
        ImportError: "human" without pygame-ce.
    """

    def __init__(self, render_mode: str | None) -> None:
        if render_mode is not None:
            check_choice("render_mode", render_mode, RENDER_MODES)
        self.render_mode = render_mode
        self._window = Window() if render_mode == "human" else None

    @abstractmethod
    def _scene(self) -> Scene:
        """What the picture shows."""

    def render(self) -> np.ndarray | str | None:
        """The game as uint8 [height, width, 3] ("rgb_array") or text ("ansi"); "human" draws in a window."""
        if self.render_mode is None:
            logger.warn("render() was called, but render_mode is None: pass one of " + ", ".join(RENDER_MODES) + ".")
            return None
        if self.render_mode == "ansi":
            return scene_text(self._scene())
        if self._window is None:
            return scene_image(self._scene())
        self._show()
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()

    def _check_actions(self, actions: Mapping[str, Any]) -> None:
        """Raise RuntimeError after the end, ValueError unless there is one action of its space for each agent."""
        if not self.agents:
            raise RuntimeError(f"the game of {self} has ended: call reset() before the next step().")
        if set(actions) != set(self.agents):
            raise ValueError(f"step() needs one action for each of {self.agents}, got actions for {list(actions)}.")
        for agent in self.agents:
            space: Any = self.action_space(agent)
            if not space.contains(actions[agent]):
                raise ValueError(
                    f"action {actions[agent]!r} of {agent} is outside {space}: "
                    f"expected an integer from 0 to {space.n - 1}."
                )

    def _show(self) -> None:
        if self._window is not None:
            self._window.show(scene_image(self._scene()), str(self), float(self.metadata["render_fps"]))


class TabularParallelEnv(DrawnParallelEnv):
    """A cooperative game of few positions.

    Args:
        agent_actions: each agent's number of actions; agents are named agent_0, agent_1, ...
        width: width of the state, which every agent observes.
        episode_limit: most moves in one game.
        render_mode: None, "human", "rgb_array" or "ansi".

    Raises:
        ValueError: unknown render_mode; an action outside its agent's space; actions missing or for unknown agents.
        RuntimeError: `step` before `reset`, or after the game's end with actions for agents that are gone.
    """

    def __init__(self, agent_actions: Sequence[int], width: int, episode_limit: int, render_mode: str | None) -> None:
        super().__init__(render_mode)
        self.episode_limit = episode_limit
        self.possible_agents = [f"agent_{index}" for index in range(len(agent_actions))]
        self.agents: list[str] = []
        self._action_spaces = {
            name: spaces.Discrete(int(count)) for name, count in zip(self.possible_agents, agent_actions, strict=True)
        }
        self._observation_spaces = {name: spaces.Box(0.0, 1.0, (width,), np.float32) for name in self.possible_agents}
        self.state_space = spaces.Box(0.0, 1.0, (width,), np.float32)
        self.np_random, self.np_random_seed = seeding.np_random()
        self.moves = 0
        self.total = 0.0
        self.last_joint: tuple[int, ...] | None = None
        self._begun = False
        self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Put the game at its first position."""

    @abstractmethod
    def _play(self, joint: tuple[int, ...]) -> tuple[float, bool]:
        """Play one joint action, the game standing at move `self.moves`; returns the reward and whether it ends."""

    @abstractmethod
    def state(self) -> np.ndarray:
        """The position as float32 [width]."""

    def observation_space(self, agent: str) -> spaces.Box:
        """Box(0, 1, (width,), float32), the same object at each call."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """Discrete space of the agent's actions, the same object at each call."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Begin a game. Nothing is random, but a seed is accepted and renews `np_random`; options are ignored."""
        if seed is not None:
            self.np_random, self.np_random_seed = seeding.np_random(seed)
        self.agents = self.possible_agents[:]
        self.moves, self.total, self.last_joint = 0, 0.0, None
        self._begun = True
        self._begin()
        self._show()
        return self._observations(self.agents), self._infos(self.agents)

    def step(self, actions: dict[str, int]) -> StepResult:
        """Play one joint action given as {agent: action}; every agent gets the same reward."""
        if not self._begun:
            raise RuntimeError(f"{self}.step() was called before reset().")
        if not self.agents and not actions:
            return {}, {}, {}, {}, {}
        joint = self._joint(actions)
        reward, ended = self._play(joint)
        self.moves += 1
        self.total += reward
        self.last_joint = joint
        acted = self.agents
        self.agents = [] if ended else acted[:]
        self._show()
        return (
            self._observations(acted),
            dict.fromkeys(acted, reward),
            dict.fromkeys(acted, ended),
            dict.fromkeys(acted, False),
            self._infos(acted),
        )

    def _observations(self, agents: Sequence[str]) -> dict[str, np.ndarray]:
        return {agent: self.state() for agent in agents}

    def _infos(self, agents: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {agent: {"action_mask": np.ones(int(self._action_spaces[agent].n), np.int8)} for agent in agents}

    def _joint(self, actions: dict[str, int]) -> tuple[int, ...]:
        self._check_actions(actions)
        return tuple(int(actions[agent]) for agent in self.agents)
