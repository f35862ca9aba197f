"""`Battles`: many battles of one scenario, played together; the one object behind every form of `smac_sim_v0`.

Battles stand in two structured arrays (`battle.state`). A step is cut into pieces that threads play at the same time:
the compiled code releases Python's lock, so plain threads are enough, and no result depends on how many there are.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from smix_pz.envs.battle import engine
from smix_pz.envs.battle.layout import Layout
from smix_pz.envs.battle.players import Heuristic
from smix_pz.envs.battle.scenario import Scenario
from smix_pz.envs.battle.state import (
    BATTLE,
    ONGOING,
    ORDER_ATTACK_MOVE,
    ORDER_HUNT,
    ORDER_NONE,
    UNIT,
)

# Pieces are about this large: what a piece needs stays in a core's cache from its orders to its observations, and
# calling the compiled code for it costs little beside it.
UNITS_PER_PIECE = 1024

_pool: ThreadPoolExecutor | None = None
_pool_owner: tuple[int, int] = (-1, 0)

_ORDERS = {"attack-move": ORDER_ATTACK_MOVE, "segment": ORDER_ATTACK_MOVE, "hunt": ORDER_HUNT, "none": ORDER_NONE}


# What has not been compiled (or loaded from Numba's cache) in this process yet, and how long that may take in silence.
_uncompiled = {"reset", "step", "look"}
PATIENCE = 3.0  # seconds


@contextmanager
def _first_use(what: str) -> Iterator[None]:
    """Around what compiles: says why nothing seems to happen, if it takes long."""
    _uncompiled.discard(what)
    words = "smix_pz: compiling the battle engine; that is done once, the result is cached"
    timer = threading.Timer(PATIENCE, lambda: print(words, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def available_threads() -> int:
    """How many threads battles are played on: SMIX_PZ_THREADS if it is set, else the cores this process may use."""
    given = os.environ.get("SMIX_PZ_THREADS", "")
    if given:
        if not given.isdigit() or int(given) < 1:
            raise ValueError(f"SMIX_PZ_THREADS must be an integer of at least 1, got {given!r}.")
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _threads(count: int) -> ThreadPoolExecutor:
    """The process's pool, made when first needed; a forked child makes its own, since threads do not survive a fork."""
    global _pool, _pool_owner
    if _pool is None or _pool_owner != (os.getpid(), count):
        _pool = ThreadPoolExecutor(count, thread_name_prefix="battles")
        _pool_owner = (os.getpid(), count)
    return _pool


class Battles:
    """K battles of a scenario.

    Attributes:
        scenario, layout: what is played, and how SMAC shows it.
        units: UNIT [K, U]. battles: BATTLE [K]. Both may be read and changed between steps; call `look` after a change.
        obs: float32 [K, A, O]. state: float32 [K, S]. mask: int8 [K, A, n_actions]. As of the last reset, step or look.
        last_action: int32 [K, A], the actions that were carried out, -1 before the first step.
        illegal: int32 [K, A], how many illegal actions were replaced since the battle's start.

    Args:
        layout: of the scenario, with SMAC's options.
        count: K.
        jitter: how far a unit's place at the start varies, in cells; 0: always the same places.
        passive: whether allies and enemies only act on orders; SMAC's allies are, its enemies are not.
        threads: None: as many as `available_threads` says, for batches that are large enough.
    """

    def __init__(
        self,
        layout: Layout,
        count: int,
        *,
        jitter: float = 0.1,
        passive: Sequence[bool] = (True, False),
        threads: int | None = None,
    ) -> None:
        self.layout = layout
        self.scenario: Scenario = layout.scenario
        self.options = layout.options
        self.count = count
        self.threads = available_threads() if threads is None else threads
        scenario = self.scenario
        agents, size = scenario.n_agents, scenario.n_agents + scenario.n_enemies
        self.units = np.zeros((count, size), UNIT)
        self.battles = np.zeros(count, BATTLE)
        self.obs = np.zeros((count, agents, layout.obs_dim), np.float32)
        self.state = np.zeros((count, layout.state_dim), np.float32)
        self.mask = np.zeros((count, agents, layout.n_actions), np.int8)
        self.last_action = np.full((count, agents), -1, np.int32)
        self.illegal = np.zeros((count, agents), np.int32)
        self.rewards = np.zeros(count)
        self._jitter = float(jitter)
        self._passive = np.array(passive, np.int32)
        self._points = np.concatenate([scenario.ally_spawn, scenario.enemy_spawn]).astype(np.float64)
        order = scenario.map.order
        self._order = _ORDERS[order.kind]
        ends = order.points if order.points else ((0.0, 0.0),)
        self._order_points = np.array([ends[0], ends[-1]], np.float64)
        self._everything = np.ones(count, bool)
        self._memory = np.full((count, agents), -1, np.int32)
        self._heuristic = Heuristic(scenario, count, 0) if self.options.heuristic_ai else None
        pieces = max(1, min(count * size // UNITS_PER_PIECE, count))
        if pieces > 1:  # as many for each thread
            pieces = -(-pieces // self.threads) * self.threads
        piece = -(-count // pieces)
        self._pieces = [(lo, min(lo + piece, count)) for lo in range(0, count, piece)]
        self.seed(None)

    def seed(self, seeds: Sequence[int | None] | None) -> None:
        """Begin the battles' random streams anew, one each; None leaves one as it is. No seeds: from the system."""
        if seeds is None:
            self.battles["random"] = np.random.SeedSequence().generate_state(self.count, np.uint64)
            return
        for index, one in enumerate(seeds):
            if one is not None:
                self.battles["random"][index] = np.random.SeedSequence(one).generate_state(1, np.uint64)[0]

    def reset(self, which: np.ndarray | None = None) -> None:
        """Put the battles where `which` bool [K] at their start (all if None). Their random streams go on."""
        if "reset" in _uncompiled:
            with _first_use("reset"):
                return self.reset(which)
        which = self._everything if which is None else which
        scenario = self.scenario
        terrain = scenario.terrain
        engine.spawn(
            self.units,
            self.battles,
            scenario.unit_kind,
            scenario.kinds,
            scenario.n_agents,
            self._points,
            scenario.created,
            self._order,
            self._order_points,
            self._passive,
            self._jitter,
            terrain.pathable,
            terrain.margin,
            which,
            0,
            self.count,
        )
        self.last_action[which] = -1
        self.illegal[which] = 0
        self._memory[which] = -1

    def step(self, actions: np.ndarray, active: np.ndarray | None = None, *, look: bool = False) -> np.ndarray:
        """One environment step of the battles where `active` bool [K] (all if None).

        Args:
            actions: int64 [K, A]. An illegal one is replaced by stop, of a dead agent by no-op, and counted.
            look: renew the observations of all battles too, which is faster than a call of `look` afterwards.

        Returns:
            rewards float64 [K], 0 where not active; the array is used again by the next step. How the battles stand is
            in `battles`. Without `look`, observations are not renewed.
        """
        if "step" in _uncompiled:
            with _first_use("step"):
                return self.step(actions, active, look=look)
        active = self._everything if active is None else active
        self._each(lambda lo, hi: self._step_piece(actions, active, look, lo, hi))
        return self.rewards

    def begin(self, actions: np.ndarray, active: np.ndarray | None = None) -> None:
        """The first part of a step alone: give orders. `run` and `finish` are the others."""
        self._order_piece(actions, self._everything if active is None else active, 0, self.count)

    def run(self, loops: int, active: np.ndarray | None = None) -> None:
        """Play game loops on the orders that there are."""
        active = self._everything if active is None else active
        self._each(lambda lo, hi: self._advance_piece(loops, active, lo, hi))

    def finish(self, active: np.ndarray | None = None) -> np.ndarray:
        """The last part of a step alone: rewards [K] for what has changed since the last time, and the result."""
        self.layout.score(
            self.units, self.battles, self.rewards, self._everything if active is None else active, 0, self.count
        )
        return self.rewards

    def look(self) -> None:
        """Renew `obs`, `state` and `mask`."""
        if "look" in _uncompiled:
            with _first_use("look"):
                return self.look()
        self._each(self._look_piece)

    @property
    def terminated(self) -> np.ndarray:
        """bool [K]: battles that were won, lost or drawn."""
        return self.battles["result"] != ONGOING

    @property
    def truncated(self) -> np.ndarray:
        """bool [K]: battles that were ended by the step limit."""
        return self.battles["truncated"] == 1

    def _each(self, work: Callable[[int, int], Any]) -> None:
        """Do the work on all pieces. Threads take the next one when they are done with theirs; the caller helps."""
        pieces = iter(self._pieces)

        def share() -> None:
            for lo, hi in pieces:
                work(lo, hi)

        helpers = min(self.threads, len(self._pieces)) - 1
        waiting = [_threads(self.threads - 1).submit(share) for _ in range(helpers)]
        try:
            share()
        finally:
            for helper in waiting:
                helper.result()

    def _order_piece(self, actions: np.ndarray, active: np.ndarray, lo: int, hi: int) -> None:
        if self._heuristic is None:
            self.layout.order(
                self.units, self.battles, actions, self.mask, self.last_action, self.illegal, active, lo, hi
            )
            return
        # The environment plays for its agents; what the caller asked for is only remembered, as SMAC does.
        here = active[lo:hi]
        self.last_action[lo:hi][here] = actions[lo:hi][here]
        mask = self.mask if self.options.heuristic_rest else None
        self._heuristic.heuristic_orders(
            self.units, self.battles, self._memory, active, lo, hi, mask=mask, move_amount=self.options.move_amount
        )

    def _advance_piece(self, loops: int, active: np.ndarray, lo: int, hi: int) -> None:
        scenario = self.scenario
        terrain = scenario.terrain
        engine.advance(
            self.units,
            self.battles,
            scenario.kinds,
            scenario.n_agents,
            terrain.pathable,
            terrain.waypoints,
            terrain.margin,
            loops,
            active,
            lo,
            hi,
        )

    def _step_piece(self, actions: np.ndarray, active: np.ndarray, look: bool, lo: int, hi: int) -> None:
        self._order_piece(actions, active, lo, hi)
        self._advance_piece(self.options.step_mul, active, lo, hi)
        self.layout.score(self.units, self.battles, self.rewards, active, lo, hi)
        if look:
            self._look_piece(lo, hi)

    def _look_piece(self, lo: int, hi: int) -> None:
        self.layout.read(self.units, self.battles, self.last_action, self.obs, self.state, self.mask, lo, hi)
