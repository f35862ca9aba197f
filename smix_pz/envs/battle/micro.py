"""Scripts of the tricks that SMAC's small maps ask for: kiting, and alternating fire.

They show whether a map's trick works here (`evidence`), and are no players for comparison: they read what SMAC shows to
no agent, such as cooldowns and whom an enemy aims at. Source of the tricks: the "micro-trick" maps in SMAC's docs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from smix_pz.envs.battle.players import FIRST_TARGET, NO_OP, NORTH, SOUTH, STOP

__all__ = ["MICRO", "Alternating", "Kiter", "Script"]

CENTRE = 16.0  # of the map
NEAR = 4.0  # the kiter steps back from an enemy nearer than this
WAIT = 2.0  # while its weapon needs more loops than this
SWAP = 58.0  # two hits of a spine crawler on armour 1: who has so much less life than the other steps back
LOW, FULL = 30.0, 79.0  # shields: a spine crawler's hit on a shield, and all of a stalker's


class Script(ABC):
    """Plays a batch of battles."""

    @abstractmethod
    def act(self, units: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Actions [K, A], legal ones. units: UNIT [K, U]. mask: int8 [K, A, n_actions]."""


class Kiter(Script):
    """Away from an enemy that is near while the weapon cools down, else shoot the weakest in range."""

    def act(self, units: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """See `Script`."""
        agents = mask.shape[1]
        own, foes = units[:, :agents], units[:, agents:]
        dx = foes["x"][:, None] - own["x"][:, :, None]  # [K, A, E]
        dy = foes["y"][:, None] - own["y"][:, :, None]
        dead = (foes["health"] <= 0)[:, None]

        def gap(step_x: float, step_y: float) -> np.ndarray:
            return np.where(dead, np.inf, np.hypot(dx - step_x, dy - step_y))

        distance = gap(0.0, 0.0)
        legal = mask[:, :, 6:] != 0
        life = (foes["health"] + foes["shield"])[:, None] + 1e-3 * np.where(dead, 0.0, distance)
        actions = np.where(legal.any(2), 6 + np.where(legal, life, np.inf).argmin(2), 1)
        # Away from the nearest enemy after the step, but not too far from the map's middle, where there is room.
        scores = []
        for action, (step_x, step_y) in enumerate(((0, 2), (0, -2), (2, 0), (-2, 0)), 2):
            outside = np.hypot(own["x"] + step_x - CENTRE, own["y"] + step_y - CENTRE) - 6.0
            score = gap(step_x, step_y).min(2) - 0.15 * np.maximum(0.0, outside)
            scores.append(np.where(mask[:, :, action] != 0, score, -np.inf))
        nearest = distance.min(2)
        back = (nearest < NEAR) & (own["cooldown"] > WAIT) & np.isfinite(np.max(scores, 0))
        actions = np.where(back, 2 + np.argmax(scores, 0), actions)
        # Nobody in range: up to the nearest, along the longer axis.
        at = distance.argmin(2)[:, :, None]
        gap_x, gap_y = np.take_along_axis(dx, at, 2)[:, :, 0], np.take_along_axis(dy, at, 2)[:, :, 0]
        towards = np.where(np.abs(gap_x) > np.abs(gap_y), np.where(gap_x > 0, 4, 5), np.where(gap_y > 0, 2, 3))
        can = np.take_along_axis(mask, towards[:, :, None], 2)[:, :, 0] != 0
        actions = np.where(can & ~back & ~legal.any(2), towards, actions)
        return np.where(mask[:, :, 0] != 0, 0, actions)


class Alternating(Script):
    """Two units against one: whoever is aimed at and is worse off steps back, so that the other one is aimed at.

    Args:
        battles: K.
        rest: first alternate until both have less than LOW of their shields, then stay away until all shields are full,
            then alternate to the end.
    """

    def __init__(self, battles: int, *, rest: bool = False) -> None:
        self._phase = np.full(battles, 0 if rest else 2)  # 0: the first attack, 1: at rest, 2: to the end

    def act(self, units: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """See `Script`. The enemy stands north of the two."""
        own, enemy = units[:, :2], units[:, 2:3]
        self._phase[(self._phase == 0) & (own["shield"].max(1) < LOW)] = 1
        self._phase[(self._phase == 1) & (own["shield"].min(1) >= FULL)] = 2
        life = own["shield"] + own["health"]
        behind = life[:, ::-1] - life >= np.where(self._phase == 0, 1.0, SWAP)[:, None]
        aimed_at = enemy["target"] == np.arange(2)
        back = (aimed_at & behind & (own["health"][:, ::-1] > 0)) | (self._phase == 1)[:, None]
        actions = np.where(back, SOUTH, np.where(mask[:, :, FIRST_TARGET] != 0, FIRST_TARGET, NORTH))
        legal = np.take_along_axis(mask, actions[:, :, None], 2)[:, :, 0] != 0
        return np.where(mask[:, :, NO_OP] != 0, NO_OP, np.where(legal, actions, STOP))


MICRO: Mapping[str, Callable[[int], Script]] = MappingProxyType(
    {
        "kiter": lambda battles: Kiter(),
        "alternating": Alternating,
        "resting": lambda battles: Alternating(battles, rest=True),
    }
)
