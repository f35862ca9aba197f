"""What SMAC shows of a battle and how it is paid: actions, masks, observations, state, rewards and ends.

`Layout` joins a scenario with SMAC's options. Its three methods are thin calls of compiled kernels that work on battles
lo to hi of a batch, so that threads can share one: `order` turns actions into orders, `score` pays for what has
happened since the last time and decides who has won, `read` writes observations, state and masks. Source: SMAC
specification, sections 2 to 5. docs/smac-layout.md describes every entry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numba import njit

from smix_pz.envs.battle.scenario import Scenario
from smix_pz.envs.battle.state import (
    DEFEAT,
    DRAW,
    MAP_SIZE,
    ONGOING,
    ORDER_ATTACK,
    ORDER_HEAL,
    ORDER_MOVE,
    ORDER_STOP,
    WIN,
)
from smix_pz.envs.checks import check_int

__all__ = ["Layout", "LayoutOptions"]

NO_OP, STOP, NORTH, SOUTH, EAST, WEST, TARGETS = range(7)
MOVES = ("move_north", "move_south", "move_east", "move_west")
SIGHT_RANGE = 9.0
SHOOT_RANGE = 6.0
# Points around a unit that `obs_pathing_grid` and `obs_terrain_height` show, in multiples of move_amount.
AROUND = ((0, 2), (0, -2), (2, 0), (-2, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))
MAX_ENERGY = 200.0

unsigned = np.uint64


@dataclass(frozen=True)
class LayoutOptions:
    """SMAC's constructor options that concern layout, time and reward, with its names and defaults (section 3.1).

    `reward_clip` is not SMAC's: it replaces the absolute value in the positive reward by max(0, .), so that enemies who
    regenerate pay nothing (section 11, first row).

    Raises:
        TypeError: an option has the wrong type.
        ValueError: it has an impossible value.
    """

    step_mul: int = 8  # game loops of an environment step
    move_amount: float = 2  # cells of a move order
    obs_all_health: bool = True  # True implies obs_own_health
    obs_own_health: bool = True
    obs_last_action: bool = False
    obs_pathing_grid: bool = False
    obs_terrain_height: bool = False
    obs_timestep_number: bool = False
    obs_instead_of_state: bool = False
    state_last_action: bool = True
    state_timestep_number: bool = False
    reward_sparse: bool = False
    reward_only_positive: bool = True
    reward_death_value: float = 10
    reward_win: float = 200
    reward_defeat: float = 0
    reward_negative_scale: float = 0.5
    reward_scale: bool = True
    reward_scale_rate: float = 20
    continuing_episode: bool = False  # adds "episode_limit" to the info of a battle that ran out of time
    heuristic_ai: bool = False  # the agents' actions are replaced by SMAC's scripted player
    heuristic_rest: bool = False  # who then walks where it cannot attack; no effect without heuristic_ai
    reward_clip: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "bool":
                if not isinstance(value, (bool, np.bool_)):
                    near = f"; did you mean {bool(value)}?" if value in (0, 1) else "."
                    raise TypeError(f"{field.name} must be True or False, got {value!r}{near}")
            elif field.name == "step_mul":
                check_int("step_mul (game loops of a step)", value, 1)
            else:
                _check_number(field.name, value)
        if self.move_amount <= 0:
            raise ValueError(f"move_amount must be greater than 0, got {self.move_amount}; SMAC's own is 2.")
        if self.reward_scale_rate <= 0:
            raise ValueError(
                f"reward_scale_rate must be greater than 0, got {self.reward_scale_rate}; SMAC's own is 20."
            )
        for name in ("obs_pathing_grid", "obs_terrain_height"):
            if getattr(self, name) and int(self.move_amount) != self.move_amount:
                raise ValueError(
                    f"{name} needs a whole move_amount, got {self.move_amount}; the nearest is "
                    f"{max(1, round(self.move_amount))}."
                )

    @property
    def own_health(self) -> bool:
        """Whether agents see their own health: `obs_all_health` forces it."""
        return self.obs_all_health or self.obs_own_health


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}.")


# Columns of the integers that the kernels are given ("plan"), by position.
(
    _AGENTS,
    _ENEMIES,
    _OBS_ALL_HEALTH,
    _OBS_OWN_HEALTH,
    _OBS_LAST_ACTION,
    _OBS_PATHING,
    _OBS_HEIGHT,
    _OBS_TIMESTEP,
    _OBS_AS_STATE,
    _STATE_LAST_ACTION,
    _STATE_TIMESTEP,
    _ALLY_SHIELD,
    _ENEMY_SHIELD,
    _TYPE_BITS,
    _MMM,
    _LIMIT,
    _SPARSE,
    _ONLY_POSITIVE,
    _CLIP,
    _GRID_STEP,
    _PLAN,
) = range(21)

# Of the floating-point numbers ("reals").
_MOVE_AMOUNT, _DEATH_VALUE, _WIN, _DEFEAT, _NEGATIVE_SCALE, _DIVISOR, _REALS = range(7)


class Layout:
    """SMAC's view of a scenario: sizes, names, and the kernels that translate in both directions.

    Attributes:
        scenario, options: as given.
        obs_dim, state_dim, n_actions: lengths of an observation, the state and a mask.
        max_reward: the best return before scaling.
        divisor: every reward is divided by it (1 without `reward_scale`).

    Args:
        scenario: what is played.
        options: None: SMAC's defaults.

    Raises:
        ValueError: the options make the best return 0 or less, by which rewards could not be scaled.
    """

    def __init__(self, scenario: Scenario, options: LayoutOptions | None = None) -> None:
        self.scenario = scenario
        self.options = options = options or LayoutOptions()
        agents, enemies, bits = scenario.n_agents, scenario.n_enemies, scenario.map.type_bits
        self.n_actions = TARGETS + enemies
        shields = (int(scenario.ally_shield), int(scenario.enemy_shield))

        move = len(MOVES) + options.obs_pathing_grid * len(AROUND) + options.obs_terrain_height * (len(AROUND) + 1)
        enemy_row = 4 + options.obs_all_health * (1 + shields[1]) + bits
        ally_row = 4 + options.obs_all_health * (1 + shields[0]) + bits + options.obs_last_action * self.n_actions
        own = options.own_health * (1 + shields[0]) + bits
        self.obs_dim = int(move + enemies * enemy_row + (agents - 1) * ally_row + own + options.obs_timestep_number)
        state = agents * (4 + shields[0] + bits) + enemies * (3 + shields[1] + bits)
        state += options.state_last_action * agents * self.n_actions + options.state_timestep_number
        self.state_dim = agents * self.obs_dim if options.obs_instead_of_state else int(state)

        self.max_reward = scenario.best_return(options.reward_death_value, options.reward_win)
        if options.reward_scale and self.max_reward <= 0:
            raise ValueError(
                f"reward_scale=True needs a positive best return, got {self.max_reward} from "
                f"reward_death_value={options.reward_death_value} and reward_win={options.reward_win}; "
                "raise one of them or set reward_scale=False."
            )
        self.divisor = self.max_reward / options.reward_scale_rate if options.reward_scale else 1.0

        plan = {
            _AGENTS: agents,
            _ENEMIES: enemies,
            _OBS_ALL_HEALTH: options.obs_all_health,
            _OBS_OWN_HEALTH: options.own_health,
            _OBS_LAST_ACTION: options.obs_last_action,
            _OBS_PATHING: options.obs_pathing_grid,
            _OBS_HEIGHT: options.obs_terrain_height,
            _OBS_TIMESTEP: options.obs_timestep_number,
            _OBS_AS_STATE: options.obs_instead_of_state,
            _STATE_LAST_ACTION: options.state_last_action,
            _STATE_TIMESTEP: options.state_timestep_number,
            _ALLY_SHIELD: shields[0],
            _ENEMY_SHIELD: shields[1],
            _TYPE_BITS: bits,
            _MMM: scenario.mmm,
            _LIMIT: scenario.map.limit,
            _SPARSE: options.reward_sparse,
            _ONLY_POSITIVE: options.reward_only_positive,
            _CLIP: options.reward_clip,
            _GRID_STEP: int(options.move_amount),
        }
        self._plan = np.array([plan[column] for column in range(_PLAN)], np.int64)
        reals = {
            _MOVE_AMOUNT: options.move_amount,
            _DEATH_VALUE: options.reward_death_value,
            _WIN: options.reward_win,
            _DEFEAT: options.reward_defeat,
            _NEGATIVE_SCALE: options.reward_negative_scale,
            _DIVISOR: self.divisor,
        }
        self._reals = np.array([reals[column] for column in range(_REALS)], np.float64)
        kinds = scenario.kinds[scenario.unit_kind]
        self._medivac = np.array([scenario.mmm and unit == "medivac" for unit in scenario.unit_types], np.uint8)
        # Per unit: maximal health, maximal shield (1 where there is none), divisor of the state's second entry.
        self._scales = np.stack(
            [
                kinds["health"],
                np.where(kinds["shield"] > 0, kinds["shield"], 1.0),
                np.where(self._medivac, MAX_ENERGY, kinds["cooldown_scale"]),
            ],
            axis=1,
        )
        self._type_index = scenario.type_index.astype(np.int64)

    def order(
        self,
        units: np.ndarray,
        battles: np.ndarray,
        actions: np.ndarray,
        mask: np.ndarray,
        last_action: np.ndarray,
        illegal: np.ndarray,
        active: np.ndarray,
        lo: int,
        hi: int,
    ) -> None:
        """Give the agents of battles lo to hi the orders that their actions stand for (section 2).

        An action that the mask does not allow, or that there is not, becomes stop, or no-op of a dead agent. A dead
        agent's orders are left alone. Of a unit only its order, the order's target and its point are written.

        Args:
            units: UNIT [K, U], changed.
            battles: BATTLE [K].
            actions: int64 [K, A].
            mask: int8 [K, A, n_actions], as `read` wrote it.
            last_action: int32 [K, A], overwritten with the actions carried out.
            illegal: int32 [K, A], raised by one where an action was replaced.
            active: bool [K]; other battles are left alone.
            lo, hi: the first battle, and the one behind the last.
        """
        _order(units, actions, mask, last_action, illegal, active, lo, hi, self._medivac, self._plan, self._reals)

    def score(
        self,
        units: np.ndarray,
        battles: np.ndarray,
        rewards: np.ndarray,
        active: np.ndarray,
        lo: int,
        hi: int,
    ) -> None:
        """End an environment step of battles lo to hi: reward, result, step limit and dead (sections 4 and 5).

        Pays for the difference to what the last reward saw (`seen_health`, `seen_shield`, `seen_dead`, brought up to
        date here) and counts the step. A battle that is not active or has ended is paid 0 and left alone.

        Args:
            units: UNIT [K, U], changed.
            battles: BATTLE [K], changed.
            rewards: float64 [K], overwritten.
            active: bool [K].
            lo, hi: the first battle, and the one behind the last.
        """
        _score(units, battles, rewards, active, lo, hi, self._medivac, self._plan, self._reals)

    def read(
        self,
        units: np.ndarray,
        battles: np.ndarray,
        last_action: np.ndarray,
        obs: np.ndarray,
        state: np.ndarray,
        mask: np.ndarray,
        lo: int,
        hi: int,
    ) -> None:
        """Write what the agents of battles lo to hi see, the state and the masks (sections 2 and 3).

        Args:
            units: UNIT [K, U].
            battles: BATTLE [K].
            last_action: int32 [K, A]; -1: none yet.
            obs: float32 [K, A, obs_dim], contiguous, overwritten.
            state: float32 [K, state_dim], contiguous, overwritten.
            mask: int8 [K, A, n_actions], contiguous, overwritten.
            lo, hi: the first battle, and the one behind the last.
        """
        ground = self.scenario.terrain
        _read(
            units,
            battles,
            last_action,
            obs,
            state,
            mask,
            lo,
            hi,
            ground.pathable,
            ground.height,
            self._scales,
            self._type_index,
            self._medivac,
            self._plan,
            self._reals,
        )

    def action_names(self, agent: int) -> list[str]:
        """Name of every action of agent number `agent`, [n_actions]; "unused" for a medivac's that heal nobody."""
        names = ["no-op", "stop", *MOVES]
        for enemy in range(self.scenario.n_enemies):
            if not self._medivac[agent]:
                names.append(f"attack enemy_{enemy}")
            elif enemy < self.scenario.n_agents and not self._medivac[enemy]:
                names.append(f"heal {self.scenario.agent_names[enemy]}")
            else:
                names.append(f"unused {TARGETS + enemy}")
        return names

    def obs_names(self, agent: int) -> list[str]:
        """Name of every entry of agent number `agent`'s observation, [obs_dim]."""
        options, scenario = self.options, self.scenario
        reach = int(options.move_amount)
        around = [f"{x * reach:+d},{y * reach:+d}" for x, y in AROUND]
        names = list(MOVES)
        if options.obs_pathing_grid:
            names += [f"pathing/{point}" for point in around]
        if options.obs_terrain_height:
            names += [f"height/{point}" for point in [*around, "+0,+0"]]
        for enemy, action in enumerate(self.action_names(agent)[TARGETS:]):
            available = "available"
            if self._medivac[agent]:
                available = f"{action} available" if action.startswith("heal") else "unused"
            row = [available, "distance", "x", "y"]
            if options.obs_all_health:
                row += ["health", "shield"][: 1 + scenario.enemy_shield]
            names += [f"enemy_{enemy}/{entry}" for entry in row + self._type_names(enemies=True)]
        for ally, name in enumerate(scenario.agent_names):
            if ally == agent:
                continue
            row = ["visible", "distance", "x", "y"]
            if options.obs_all_health:
                row += ["health", "shield"][: 1 + scenario.ally_shield]
            row += self._type_names(enemies=False)
            if options.obs_last_action:
                row += [f"last {action}" for action in self.action_names(ally)]
            names += [f"ally {name}/{entry}" for entry in row]
        own = ["health", "shield"][: 1 + scenario.ally_shield] if options.own_health else []
        names += [f"own/{entry}" for entry in own + self._type_names(enemies=False)]
        return names + ["timestep"] * options.obs_timestep_number

    def state_names(self) -> list[str]:
        """Name of every entry of the state, [state_dim]."""
        options, scenario = self.options, self.scenario
        if options.obs_instead_of_state:
            return [
                f"{name}: {entry}" for agent, name in enumerate(scenario.agent_names) for entry in self.obs_names(agent)
            ]
        names = []
        for ally, name in enumerate(scenario.agent_names):
            row = ["health", "energy" if self._medivac[ally] else "cooldown", "x", "y"]
            row += ["shield"] * scenario.ally_shield + self._type_names(enemies=False)
            names += [f"ally {name}/{entry}" for entry in row]
        for enemy in range(scenario.n_enemies):
            row = ["health", "x", "y"] + ["shield"] * scenario.enemy_shield + self._type_names(enemies=True)
            names += [f"enemy_{enemy}/{entry}" for entry in row]
        if options.state_last_action:
            for ally, name in enumerate(scenario.agent_names):
                names += [f"ally {name}/last {action}" for action in self.action_names(ally)]
        return names + ["timestep"] * options.state_timestep_number

    def _type_names(self, *, enemies: bool) -> list[str]:
        scenario = self.scenario
        side = slice(scenario.n_agents, None) if enemies else slice(0, scenario.n_agents)
        types = dict(zip(scenario.type_index[side].tolist(), scenario.unit_types[side], strict=True))
        return [f"is_{types[bit]}" for bit in range(scenario.map.type_bits)]


@njit(cache=True, nogil=True)
def _order(
    units: np.ndarray,
    actions: np.ndarray,
    mask: np.ndarray,
    last_action: np.ndarray,
    illegal: np.ndarray,
    active: np.ndarray,
    lo: int,
    hi: int,
    medivac: np.ndarray,
    plan: np.ndarray,
    reals: np.ndarray,
) -> None:
    agents = plan[_AGENTS]
    n_actions = TARGETS + plan[_ENEMIES]
    amount = reals[_MOVE_AMOUNT]
    for k in range(lo, hi):
        if not active[k]:
            continue
        for i in range(agents):
            unit = units[k, i]
            alive = unit["health"] > 0.0
            action = actions[k, i]
            if action < 0 or action >= n_actions or mask[k, i, action] == 0:
                illegal[k, i] += 1
                action = STOP if alive else NO_OP
            last_action[k, i] = action
            if not alive or action == NO_OP:
                continue
            if action >= TARGETS:
                if medivac[i]:
                    unit["order"] = ORDER_HEAL
                    unit["order_target"] = action - TARGETS
                else:
                    unit["order"] = ORDER_ATTACK
                    unit["order_target"] = agents + action - TARGETS
                continue
            unit["order_target"] = -1
            if action == STOP:
                unit["order"] = ORDER_STOP
                continue
            unit["order"] = ORDER_MOVE
            x, y = unit["x"], unit["y"]
            if action == NORTH:
                y += amount
            elif action == SOUTH:
                y -= amount
            elif action == EAST:
                x += amount
            else:
                x -= amount
            unit["order_x"] = x
            unit["order_y"] = y


@njit(cache=True, nogil=True)
def _score(
    units: np.ndarray,
    battles: np.ndarray,
    rewards: np.ndarray,
    active: np.ndarray,
    lo: int,
    hi: int,
    medivac: np.ndarray,
    plan: np.ndarray,
    reals: np.ndarray,
) -> None:
    agents, enemies = plan[_AGENTS], plan[_ENEMIES]
    mmm = plan[_MMM] != 0
    sparse = plan[_SPARSE] != 0
    only_positive = plan[_ONLY_POSITIVE] != 0
    negative_scale = reals[_NEGATIVE_SCALE]
    for k in range(lo, hi):
        rewards[k] = 0.0
        battle = battles[k]
        if not active[k] or battle["result"] != ONGOING or battle["truncated"] != 0:
            continue
        # Index 0: allies, 1: enemies.
        lost_ally = 0.0
        lost_enemy = 0.0
        died_ally = 0
        died_enemy = 0
        dead_allies = 0
        dead_enemies = 0
        fighters = 0  # living allies other than MMM's medivacs
        enemy_medivacs = 0  # living
        for u in range(agents + enemies):
            unit = units[k, u]
            health = unit["health"]
            alive = health > 0.0
            lost = 0.0
            died = 0
            if unit["seen_dead"] == 0:
                lost = unit["seen_health"] + unit["seen_shield"]
                if alive:
                    lost -= health + unit["shield"]
                else:
                    died = 1
                    unit["seen_dead"] = 1
                unit["seen_health"] = health
                unit["seen_shield"] = unit["shield"]
            if u < agents:
                lost_ally += lost
                died_ally += died
                if not alive:
                    dead_allies += 1
                elif medivac[u] == 0:
                    fighters += 1
            else:
                lost_enemy += lost
                died_enemy += died
                if not alive:
                    dead_enemies += 1
                elif medivac[u] != 0:
                    enemy_medivacs += 1
        battle["dead_allies"] = dead_allies
        battle["dead_enemies"] = dead_enemies
        battle["steps"] += 1
        living_allies = agents - dead_allies
        living_enemies = enemies - dead_enemies

        reward = 0.0
        if not sparse:
            reward = lost_enemy + died_enemy * reals[_DEATH_VALUE]
            if not only_positive:
                reward -= negative_scale * (died_ally * reals[_DEATH_VALUE] + lost_ally)
            elif plan[_CLIP]:
                reward = max(0.0, reward)
            else:
                reward = abs(reward)
        # The order of these rules is SMAC's; in MMM a mutual wipe-out is a defeat.
        if (living_allies == 0 and living_enemies > 0) or (mmm and fighters == 0):
            battle["result"] = DEFEAT
            reward = -1.0 if sparse else reward + reals[_DEFEAT]
        elif (living_allies > 0 and living_enemies == 0) or (mmm and living_enemies == 1 and enemy_medivacs == 1):
            battle["result"] = WIN
            reward = 1.0 if sparse else reward + reals[_WIN]
        elif living_allies == 0 and living_enemies == 0:
            battle["result"] = DRAW
        elif battle["steps"] >= plan[_LIMIT]:
            battle["truncated"] = 1
        rewards[k] = reward / reals[_DIVISOR]


@njit(cache=True, nogil=True)
def _is_pathable(pathable: np.ndarray, x: float, y: float) -> bool:
    """Whether the point's cell can be walked on. Coordinates are cut towards zero, as SMAC does: -0.5 is cell 0."""
    column, row = int(x), int(y)
    return 0 <= column < MAP_SIZE and 0 <= row < MAP_SIZE and pathable[column, row] != 0


@njit(cache=True, nogil=True)
def _distance(dx: float, dy: float) -> float:
    """math.hypot(dx, dy), by a plain root unless one of SMAC's two limits is so close that rounding could decide."""
    square = dx * dx + dy * dy
    if abs(square - SIGHT_RANGE * SIGHT_RANGE) < 1e-9 or abs(square - SHOOT_RANGE * SHOOT_RANGE) < 1e-9:
        return math.hypot(dx, dy)
    return math.sqrt(square)


@njit(cache=True, nogil=True)
def _read(
    units: np.ndarray,
    battles: np.ndarray,
    last_action: np.ndarray,
    obs: np.ndarray,
    state: np.ndarray,
    mask: np.ndarray,
    lo: int,
    hi: int,
    pathable: np.ndarray,
    height: np.ndarray,
    scales: np.ndarray,
    type_index: np.ndarray,
    medivac: np.ndarray,
    plan: np.ndarray,
    reals: np.ndarray,
) -> None:
    agents, enemies = plan[_AGENTS], plan[_ENEMIES]
    count = agents + enemies
    bits = plan[_TYPE_BITS]
    all_health, own_health = plan[_OBS_ALL_HEALTH] != 0, plan[_OBS_OWN_HEALTH] != 0
    show_actions = plan[_OBS_LAST_ACTION] != 0
    ally_shield, enemy_shield = plan[_ALLY_SHIELD] != 0, plan[_ENEMY_SHIELD] != 0
    n_actions = TARGETS + enemies
    obs_dim, state_dim = obs.shape[2], state.shape[1]
    probe = reals[_MOVE_AMOUNT] / 2.0
    reach = plan[_GRID_STEP]

    # Where the blocks and features of an observation begin.
    enemy_block = 4 + 8 * plan[_OBS_PATHING] + 9 * plan[_OBS_HEIGHT]
    enemy_types = 4 + plan[_OBS_ALL_HEALTH] * (1 + plan[_ENEMY_SHIELD])
    ally_types = 4 + plan[_OBS_ALL_HEALTH] * (1 + plan[_ALLY_SHIELD])
    ally_actions = ally_types + bits
    enemy_row = enemy_types + bits
    ally_row = ally_actions + plan[_OBS_LAST_ACTION] * n_actions
    ally_block = enemy_block + enemies * enemy_row
    own_block = ally_block + (agents - 1) * ally_row
    own_types = plan[_OBS_OWN_HEALTH] * (1 + plan[_ALLY_SHIELD])

    flat_obs = obs.reshape(-1)
    flat_state = state.reshape(-1)
    flat_mask = mask.reshape(-1)

    xs, ys = np.empty(count), np.empty(count)
    healths, shields = np.empty(count, np.float32), np.empty(count, np.float32)
    living = np.empty(count, np.int64)  # ids of living allies, then of living enemies

    for k in range(lo, hi):
        obs_at = k * agents * obs_dim
        mask_at = k * agents * n_actions
        state_at = k * state_dim
        flat_obs[obs_at : obs_at + agents * obs_dim] = 0.0
        flat_mask[mask_at : mask_at + agents * n_actions] = 0
        as_state = plan[_OBS_AS_STATE] != 0
        if not as_state:
            flat_state[state_at : state_at + state_dim] = 0.0

        allies_alive = 0
        all_alive = 0
        at = state_at
        for u in range(count):
            unit = units[k, u]
            is_ally = u < agents
            health = unit["health"]
            if health > 0.0:
                x, y = unit["x"], unit["y"]
                xs[u] = x
                ys[u] = y
                healths[u] = health / scales[u, 0]
                shields[u] = unit["shield"] / scales[u, 1]
                living[all_alive] = u
                all_alive += 1
                if is_ally:
                    allies_alive += 1
                if not as_state:
                    flat_state[at] = healths[u]
                    p = at + 1
                    if is_ally:
                        charge = unit["energy"] if medivac[u] else unit["cooldown"]
                        flat_state[p] = charge / scales[u, 2]
                        p += 1
                    flat_state[p] = (x - MAP_SIZE / 2) / MAP_SIZE
                    flat_state[p + 1] = (y - MAP_SIZE / 2) / MAP_SIZE
                    p += 2
                    if (is_ally and ally_shield) or (not is_ally and enemy_shield):
                        flat_state[p] = shields[u]
                        p += 1
                    if bits:
                        flat_state[p + type_index[u]] = 1.0
            at += (4 + plan[_ALLY_SHIELD] if is_ally else 3 + plan[_ENEMY_SHIELD]) + bits
        if not as_state:
            if plan[_STATE_LAST_ACTION]:
                for i in range(agents):
                    if last_action[k, i] >= 0:
                        flat_state[at + last_action[k, i]] = 1.0
                    at += n_actions
            if plan[_STATE_TIMESTEP]:
                flat_state[at] = battles[k]["steps"] / plan[_LIMIT]

        # What an agent sees of the ground and of itself.
        for i in range(agents):
            if units[k, i]["health"] > 0.0:
                row = obs_at + i * obs_dim
                moves = mask_at + i * n_actions
                x, y = xs[i], ys[i]
                flat_mask[moves + STOP] = 1
                if _is_pathable(pathable, x, y + probe):
                    flat_mask[moves + NORTH] = 1
                    flat_obs[row] = 1.0
                if _is_pathable(pathable, x, y - probe):
                    flat_mask[moves + SOUTH] = 1
                    flat_obs[row + 1] = 1.0
                if _is_pathable(pathable, x + probe, y):
                    flat_mask[moves + EAST] = 1
                    flat_obs[row + 2] = 1.0
                if _is_pathable(pathable, x - probe, y):
                    flat_mask[moves + WEST] = 1
                    flat_obs[row + 3] = 1.0
                p = row + 4
                if plan[_OBS_PATHING]:
                    for n in range(8):
                        column, line = int(x) + reach * AROUND[n][0], int(y) + reach * AROUND[n][1]
                        outside = column < 0 or column >= MAP_SIZE or line < 0 or line >= MAP_SIZE
                        flat_obs[p] = 1.0 if outside or pathable[column, line] else 0.0
                        p += 1
                if plan[_OBS_HEIGHT]:
                    for n in range(9):
                        column, line = int(x), int(y)
                        if n < 8:
                            column += reach * AROUND[n][0]
                            line += reach * AROUND[n][1]
                        outside = column < 0 or column >= MAP_SIZE or line < 0 or line >= MAP_SIZE
                        flat_obs[p] = 1.0 if outside else height[column, line] / 255.0
                        p += 1
                p = row + own_block
                if own_health:
                    flat_obs[p] = healths[i]
                    if ally_shield:
                        flat_obs[p + 1] = shields[i]
                if bits:
                    flat_obs[p + own_types + type_index[i]] = 1.0
            else:
                flat_mask[mask_at + i * n_actions] = 1

        # The two loops over pairs take most of the time. Indices in them are unsigned, so that the compiler need not
        # provide for negative ones.
        #
        # Each pair of allies once: what i sees of j, what j sees of i, and whom a medivac can heal.
        for a in range(allies_alive):
            i = living[a]
            for b in range(a + 1, allies_alive):
                j = living[b]
                dx, dy = xs[j] - xs[i], ys[j] - ys[i]
                d = _distance(dx, dy)
                if d < SIGHT_RANGE:
                    d_seen, dx_seen, dy_seen = d / SIGHT_RANGE, dx / SIGHT_RANGE, dy / SIGHT_RANGE
                    p = obs_at + i * obs_dim + ally_block + (j - 1) * ally_row
                    q = obs_at + j * obs_dim + ally_block + i * ally_row
                    flat_obs[unsigned(p)] = 1.0
                    flat_obs[unsigned(q)] = 1.0
                    flat_obs[unsigned(p + 1)] = d_seen
                    flat_obs[unsigned(q + 1)] = d_seen
                    flat_obs[unsigned(p + 2)] = dx_seen
                    flat_obs[unsigned(q + 2)] = -dx_seen
                    flat_obs[unsigned(p + 3)] = dy_seen
                    flat_obs[unsigned(q + 3)] = -dy_seen
                    if all_health:
                        flat_obs[unsigned(p + 4)] = healths[j]
                        flat_obs[unsigned(q + 4)] = healths[i]
                        if ally_shield:
                            flat_obs[unsigned(p + 5)] = shields[j]
                            flat_obs[unsigned(q + 5)] = shields[i]
                    if bits:
                        flat_obs[unsigned(p + ally_types + type_index[j])] = 1.0
                        flat_obs[unsigned(q + ally_types + type_index[i])] = 1.0
                    if show_actions:
                        if last_action[k, j] >= 0:
                            flat_obs[unsigned(p + ally_actions + last_action[k, j])] = 1.0
                        if last_action[k, i] >= 0:
                            flat_obs[unsigned(q + ally_actions + last_action[k, i])] = 1.0
                    if d <= SHOOT_RANGE and medivac[i] != medivac[j]:
                        if medivac[i]:
                            flat_mask[unsigned(mask_at + i * n_actions + TARGETS + j)] = 1
                        else:
                            flat_mask[unsigned(mask_at + j * n_actions + TARGETS + i)] = 1

        for a in range(allies_alive):
            i = living[a]
            row = obs_at + i * obs_dim + enemy_block
            targets = mask_at + i * n_actions + TARGETS
            x, y = xs[i], ys[i]
            heals = medivac[i] != 0
            for b in range(allies_alive, all_alive):
                u = living[b]
                j = u - agents
                dx, dy = xs[u] - x, ys[u] - y
                d = _distance(dx, dy)
                if d < SIGHT_RANGE:
                    p = row + j * enemy_row
                    # SMAC reads the agent's own mask, which for a medivac is about healing ally number j.
                    if not heals:
                        flat_mask[unsigned(targets + j)] = d <= SHOOT_RANGE
                    flat_obs[unsigned(p)] = flat_mask[unsigned(targets + j)]
                    flat_obs[unsigned(p + 1)] = d / SIGHT_RANGE
                    flat_obs[unsigned(p + 2)] = dx / SIGHT_RANGE
                    flat_obs[unsigned(p + 3)] = dy / SIGHT_RANGE
                    if all_health:
                        flat_obs[unsigned(p + 4)] = healths[u]
                        if enemy_shield:
                            flat_obs[unsigned(p + 5)] = shields[u]
                    if bits:
                        flat_obs[unsigned(p + enemy_types + type_index[u])] = 1.0

        if plan[_OBS_TIMESTEP]:
            for i in range(agents):
                flat_obs[obs_at + (i + 1) * obs_dim - 1] = battles[k]["steps"] / plan[_LIMIT]
        if as_state:
            flat_state[state_at : state_at + state_dim] = flat_obs[obs_at : obs_at + agents * obs_dim]
