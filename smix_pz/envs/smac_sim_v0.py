"""
# SMAC, embedded

| Import             | `from smix_pz.envs import smac_sim_v0`                                                     |
|--------------------|--------------------------------------------------------------------------------------------|
| Creation           | `make("parallel", "smix_pz/smac_sim-v0", map_name="3m")`                                   |
| Actions            | Discrete                                                                                   |
| Parallel API       | Yes                                                                                        |
| Manual Control     | No                                                                                         |
| Agents             | `agents= ['marine_0', 'marine_1', 'marine_2']` on 3m; 2 to 27, by the map                  |
| Action Shape       | `Discrete(6 + enemies)`                                                                    |
| Action Values      | 0 no-op, 1 stop, 2 north, 3 south, 4 east, 5 west, 6 + j attack enemy j (medivac: heal)    |
| Observation Shape  | `Dict(observation (30,), action_mask (9,))` on 3m                                          |
| Observation Values | -1 to 1; mask 0 or 1                                                                       |
| State Shape        | `(48,)` on 3m                                                                              |
| State Values       | -2 to 2                                                                                    |

The StarCraft Multi-Agent Challenge (Samvelyan et al., 2019) without StarCraft: the same scenarios, observations, state,
masks, actions and rewards, fought by an engine of our own. The layout is SMAC's, index by index
(`docs/smac-layout.md`); the fights are close to it, not the same (`docs/smac-sim.md` says how close and where it is
unsure). A policy trained here can be evaluated on `smac_v0`, which is the real thing, and the other way round. Results
of the two are never the same experiment: metadata and records name the engine, its rules and the unit preset.

### Rules (r1)

A team of units, one agent each, fights units that the engine plays. Each step is 8 game loops. A battle that is won,
lost or drawn terminates; one that reaches the map's step limit is truncated. All agents share SMAC's reward; a flawless
win returns 20. A dead agent's last step is the one in which it died (it is terminated, and has left `agents`).

An illegal action becomes stop (of an agent that stays after its death: no-op) and is counted in the agent's
`info["illegal_actions"]`. Infos also hold the `action_mask` again, `battle_won`, `dead_allies` and `dead_enemies`.

### Arguments

`map_name`: one of SMAC's 23 maps.

`preset`: unit statistics, "liberty" (what SMAC's maps use) or "lotv".

`jitter`: how far units' places at the start vary, in cells; 0 makes all starts of a map the same.

`flat_obs`: observations are the Box alone; masks are then only in the infos.

`strict`: an illegal action raises ValueError.

`dead_agents`: "leave" (PettingZoo's convention) or "stay": the dead remain until the battle ends, observe zeros, may
only do nothing, and are paid like the others.

`render_mode`: None, "rgb_array" or "human" (needs pygame-ce).

All options of SMAC's constructor that say what is observed or paid have their own names and defaults:
`obs_all_health`, `obs_own_health`, `obs_last_action`, `obs_pathing_grid`, `obs_terrain_height`, `obs_timestep_number`,
`obs_instead_of_state`, `state_last_action`, `state_timestep_number`, `reward_sparse`, `reward_only_positive`,
`reward_death_value`, `reward_win`, `reward_defeat`, `reward_negative_scale`, `reward_scale`, `reward_scale_rate`,
`step_mul`, `move_amount`, `continuing_episode`, `heuristic_ai`, `heuristic_rest`. `reward_clip` is not SMAC's: it pays
0 where SMAC's default pays the absolute value of a loss.

### Version History

* v0: first release, rules r1 (0.1.0)
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from gymnasium import logger, spaces
from gymnasium.vector import AutoresetMode
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils import wrappers
from pettingzoo.utils.conversions import parallel_to_aec

from smix_pz.envs.battle.battles import Battles
from smix_pz.envs.battle.layout import Layout, LayoutOptions
from smix_pz.envs.battle.scenario import make_scenario
from smix_pz.envs.battle.state import RULES, WIN
from smix_pz.envs.checks import check_choice, check_int, check_keywords, nearest
from smix_pz.envs.spec import TeamSpec, team_observation_space
from smix_pz.envs.vector import NativeVectorEnv, Observation
from smix_pz.version import __version__

__all__ = ["RULES", "env", "parallel_env", "raw_env", "vector_env"]

ENV_ID = "smix_pz/smac_sim-v0"
RENDER_MODES = ("human", "rgb_array")
DEAD_AGENTS = ("leave", "stay")
LOOPS_PER_FRAME = 2
OBS_BOUNDS = (-1.0, 1.0)
# The largest entry is a cooldown after a colossus' shot: (35.2 + 2) / 24 = 1.55 (docs/smac-layout.md).
STATE_BOUNDS = (-2.0, 2.0)

_Made = TypeVar("_Made", bound=Callable[..., Any])
StepResult = tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]


def _with_options(made: _Made) -> _Made:
    """Show SMAC's options in the signature in place of **options, with the defaults of their only home."""
    signature = inspect.signature(made)
    named = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    options = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in dataclasses.fields(LayoutOptions)
    ]
    made.__signature__ = signature.replace(parameters=named + options)  # type: ignore[attr-defined]
    return made


def _make_battles(
    map_name: str, preset: str, jitter: float, count: int, options: dict[str, Any], threads: int | None = None
) -> Battles:
    check_keywords("smac_sim_v0", parallel_env, options)
    if isinstance(jitter, (bool, np.bool_)) or not isinstance(jitter, (int, float, np.integer, np.floating)):
        raise TypeError(f"jitter must be a number of cells from 0 to 1, got {jitter!r}.")
    if not 0.0 <= jitter <= 1.0:
        nearest_one = 1 if jitter > 1.0 else 0
        raise ValueError(f"jitter must be a number of cells from 0 to 1, got {jitter!r}; the nearest is {nearest_one}.")
    if threads is not None:
        threads = check_int("threads", threads, 1)
    layout = Layout(make_scenario(map_name, preset), LayoutOptions(**options))
    return Battles(layout, count, jitter=jitter, threads=threads)


def _engine(preset: str) -> dict[str, Any]:
    return {"name": ENV_ID, "version": __version__, "rules": RULES, "preset": preset}


def env(**keywords: Any) -> AECEnv:
    """AEC form inside PettingZoo's standard wrappers; keywords as for `parallel_env`."""
    return wrappers.OrderEnforcingWrapper(wrappers.AssertOutOfBoundsWrapper(raw_env(**keywords)))


def raw_env(*arguments: Any, **keywords: Any) -> AECEnv:
    """AEC form without wrappers; arguments as for `parallel_env`."""
    return parallel_to_aec(parallel_env(*arguments, **keywords))


@_with_options
class parallel_env(ParallelEnv):
    """The embedded SMAC as a ParallelEnv. Arguments: see the module.

    Attributes:
        episode_limit: the map's step limit.
        battles: the one battle, as `Battles` of one.
        snapshots: pairs (units UNIT [U], battle BATTLE) for each two game loops of the last step, the last one the
            present; kept where there is a render_mode.

    Raises:
        ValueError: an unknown map, preset, render_mode or choice.
        TypeError: an unknown argument, or one of the wrong type.
        ImportError: render_mode "human" without pygame-ce.
    """

    metadata = {  # noqa: RUF012 (PettingZoo's own form)
        "name": "smac_sim_v0",
        "render_modes": list(RENDER_MODES),
        "render_fps": 22.4 / 8,
        "is_parallelizable": True,
        "shared_reward": True,
        "has_win": True,
        "rules": RULES,
    }

    def __init__(
        self,
        map_name: str = "3m",
        *,
        preset: str = "liberty",
        jitter: float = 0.1,
        flat_obs: bool = False,
        strict: bool = False,
        dead_agents: str = "leave",
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        check_choice("dead_agents", dead_agents, DEAD_AGENTS)
        if render_mode is not None:
            check_choice("render_mode", render_mode, RENDER_MODES)
        self.battles = _make_battles(map_name, preset, jitter, 1, options, threads=1)
        layout, scenario = self.battles.layout, self.battles.scenario
        self.map_name, self.preset = map_name, preset
        self.render_mode = render_mode
        self.metadata = {**type(self).metadata, "preset": preset}
        self.engine = _engine(preset)
        self.episode_limit = scenario.map.limit
        self.possible_agents = list(scenario.agent_names)
        self.agents: list[str] = []
        self.snapshots: list[tuple[np.ndarray, np.ndarray]] = []
        self.flat_obs, self.strict, self.stay = bool(flat_obs), bool(strict), dead_agents == "stay"
        vector = spaces.Box(*OBS_BOUNDS, (layout.obs_dim,), np.float32)
        mask = spaces.Box(0, 1, (layout.n_actions,), np.int8)
        view = vector if self.flat_obs else spaces.Dict({"observation": vector, "action_mask": mask})
        self.observation_spaces: dict[str, spaces.Space] = dict.fromkeys(self.possible_agents, view)
        self.action_spaces: dict[str, spaces.Space] = {
            agent: spaces.Discrete(layout.n_actions) for agent in self.possible_agents
        }
        self.state_space = spaces.Box(*STATE_BOUNDS, (layout.state_dim,), np.float32)
        self._index = {agent: index for index, agent in enumerate(self.possible_agents)}
        self._actions = np.zeros((1, scenario.n_agents), np.int64)
        self._begun = False
        self._before: np.ndarray | None = None  # the units before the last step, where it is filmed
        self._painter: Any = None
        self._window: Any = None
        if render_mode == "human":
            from smix_pz.envs.drawing import Window

            self._window = Window()

    def __str__(self) -> str:
        return "smac_sim_v0"

    def observation_space(self, agent: str) -> spaces.Space:
        """The agent's space, the same object at each call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """Discrete(6 + E), the same object at each call."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Begin a battle. A seed begins the random stream anew, None goes on with it; options are ignored."""
        if seed is not None:
            self.battles.seed([seed])
        self.battles.reset()
        self.battles.look()
        self.agents = self.possible_agents[:]
        self._begun = True
        if self.render_mode is not None:
            self.snapshots = [self._snapshot()]
            self._before = None
            self._show()
        return self._seen(self.agents)

    def step(self, actions: dict[str, int]) -> StepResult:
        """Play one action of each agent in `agents`.

        Raises:
            RuntimeError: before `reset`, or after the battle's end.
            ValueError: an agent's action is missing, is not one of its actions, or (strict) is illegal; an unknown
                agent.
        """
        if not self.agents:
            if self._begun and not actions:
                return {}, {}, {}, {}, {}
            raise RuntimeError(f"{self}.step() needs a running battle: call reset() first.")
        self._take(actions)
        battles = self.battles
        if self.render_mode is None:
            battles.step(self._actions, look=True)
        else:
            self._play_filmed()
            battles.look()
        acted = self.agents
        battle = battles.battles[0]
        terminated, truncated = bool(battle["result"]), bool(battle["truncated"])
        if terminated or truncated:
            self.agents = []
            terminations = dict.fromkeys(acted, terminated)
            if truncated:
                dead = self._dead()
                terminations = {agent: agent in dead for agent in acted} if dead and not self.stay else terminations
        else:
            terminations = dict.fromkeys(acted, False)
            if not self.stay and battle["dead_allies"] > len(self.possible_agents) - len(acted):
                dead = self._dead()
                self.agents = [agent for agent in acted if agent not in dead]
                terminations = {agent: agent in dead for agent in acted}
        truncations = dict.fromkeys(acted, truncated)
        if truncated:
            truncations = {agent: not terminations[agent] for agent in acted}
        observations, infos = self._seen(acted)
        if self.render_mode == "human":
            self._show()
        rewards = dict.fromkeys(acted, float(battles.rewards[0]))
        return observations, rewards, terminations, truncations, infos

    def state(self) -> np.ndarray:
        """SMAC's global state, float32 [S]."""
        return self.battles.state[0].copy()

    def render(self) -> np.ndarray | None:
        """The battle as it stands, uint8 [height, width, 3] ("rgb_array"); "human" draws in a window."""
        if self.render_mode is None:
            logger.warn("render() was called, but render_mode is None: pass one of " + ", ".join(RENDER_MODES) + ".")
            return None
        if self.render_mode == "human":
            self._show()
            return None
        units, battle = self.snapshots[-1] if self.snapshots else self._snapshot()
        return self.painter.paint(units, battle, loops_since=self.battles.options.step_mul, previous=self._before)

    @property
    def painter(self) -> Any:
        """What draws this scenario (`battle.render.BattlePainter`)."""
        if self._painter is None:
            from smix_pz.envs.battle.render import BattlePainter

            self._painter = BattlePainter(self.battles.scenario)
        return self._painter

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()

    def _take(self, actions: dict[str, int]) -> None:
        """Read the joint action into `_actions`; raise what `step` documents."""
        row, limit = self._actions[0], self.battles.layout.n_actions
        row[:] = 0
        for agent in self.agents:
            try:
                action = int(actions[agent])
            except KeyError:
                raise ValueError(
                    f"step() needs an action for {agent}, got actions for {list(actions)}. Alive: {self.agents}."
                ) from None
            if not 0 <= action < limit or action != actions[agent]:
                raise ValueError(
                    f"action {actions[agent]!r} of {agent} is outside Discrete({limit}): "
                    f"expected an integer from 0 to {limit - 1}."
                )
            row[self._index[agent]] = action
        if len(actions) > len(self.agents):
            for agent in actions:
                if agent not in self._index:
                    raise ValueError(f"there is no agent {agent!r}{nearest(str(agent), self._index)}")
        if self.strict:
            mask = self.battles.mask[0]
            for agent in self.agents:
                index = self._index[agent]
                if not mask[index, row[index]]:
                    legal = np.flatnonzero(mask[index]).tolist()
                    raise ValueError(f"action {row[index]} of {agent} is illegal now; its legal actions are {legal}.")

    def _seen(self, agents: list[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Observations and infos of `agents`, in arrays of their own."""
        battles = self.battles
        battle = battles.battles[0]
        rows, masks = battles.obs[0].copy(), battles.mask[0].copy()
        shared: dict[str, Any] = {
            "battle_won": bool(battle["result"] == WIN),
            "dead_allies": int(battle["dead_allies"]),
            "dead_enemies": int(battle["dead_enemies"]),
        }
        if battle["truncated"] and battles.options.continuing_episode:
            shared["episode_limit"] = True
        illegal = battles.illegal[0].tolist()
        observations: dict[str, Any] = {}
        infos: dict[str, dict[str, Any]] = {}
        for agent in agents:
            index = self._index[agent]
            mask = masks[index]
            observations[agent] = rows[index] if self.flat_obs else {"observation": rows[index], "action_mask": mask}
            infos[agent] = {"action_mask": mask, "illegal_actions": illegal[index], **shared}
        return observations, infos

    def _dead(self) -> set[str]:
        health = self.battles.units[0]["health"]
        return {agent for agent in self.agents or self.possible_agents if health[self._index[agent]] <= 0.0}

    def _snapshot(self) -> tuple[np.ndarray, np.ndarray]:
        return self.battles.units[0].copy(), self.battles.battles[0].copy()

    def _play_filmed(self) -> None:
        """A step in pieces of two loops, with a picture after each; the battle's course is that of a whole step."""
        battles, left = self.battles, self.battles.options.step_mul
        self.snapshots = []
        self._before = self.battles.units[0].copy()
        battles.begin(self._actions)
        while left > 0:
            loops = min(LOOPS_PER_FRAME, left)
            battles.run(loops)
            left -= loops
            self.snapshots.append(self._snapshot())
        battles.finish()
        self.snapshots[-1] = self._snapshot()

    def _show(self) -> None:
        if self.render_mode != "human":
            return
        previous = self._before
        for units, battle in self.snapshots:
            frame = self.painter.paint(units, battle, loops_since=LOOPS_PER_FRAME, previous=previous)
            previous = units
            self._window.show(frame, str(self), 22.4 / LOOPS_PER_FRAME)


raw_env.__signature__ = inspect.signature(parallel_env)  # type: ignore[attr-defined]


@_with_options
def vector_env(
    num_envs: int = 1,
    *,
    map_name: str = "3m",
    preset: str = "liberty",
    jitter: float = 0.1,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    episode_limit: int | None = None,
    copy: bool = True,
    threads: int | None = None,
    **options: Any,
) -> BattleVectorEnv:
    """Native vector form: `num_envs` battles played together on all cores.

    A seed s given to `reset` seeds battle i with s + i; one seed for each battle can be given as a list. Whatever is
    seeded alike takes the same course, in any batch and on any number of threads.

    Args:
        num_envs: how many battles.
        map_name, preset, jitter, options: as for `parallel_env`.
        autoreset_mode: what happens to a battle that has ended, see `smix_pz.envs.vector`.
        episode_limit: truncates battles after this many steps; None: the map's limit.
        copy: observations are arrays of their own; False: `step` and `reset` overwrite the last ones, which saves
            time where they are large.
        threads: None: one for each core (or SMIX_PZ_THREADS), where the batch is large enough.
    """
    battles = _make_battles(map_name, preset, jitter, check_int("num_envs", num_envs, 1), options, threads)
    return BattleVectorEnv(battles, autoreset_mode, episode_limit, copy)


class BattleVectorEnv(NativeVectorEnv):
    """`Battles` as a Gymnasium VectorEnv of teams; infos battle_won, dead_allies, dead_enemies, illegal_actions [n]."""

    def __init__(
        self,
        battles: Battles,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        episode_limit: int | None = None,
        copy: bool = True,
    ) -> None:
        layout, scenario = battles.layout, battles.scenario
        limit = scenario.map.limit if episode_limit is None else check_int("episode_limit", episode_limit, 1)
        spec = TeamSpec(
            n_agents=scenario.n_agents,
            n_actions=layout.n_actions,
            obs_dim=layout.obs_dim,
            state_dim=layout.state_dim,
            episode_limit=min(limit, scenario.map.limit),
            agent_names=tuple(scenario.agent_names),
            agent_actions=(layout.n_actions,) * scenario.n_agents,
            engine=_engine(scenario.preset),
            env_id=ENV_ID,
            has_win=True,
        )
        space = team_observation_space(spec, OBS_BOUNDS, STATE_BOUNDS)
        super().__init__(spec, battles.count, autoreset_mode, space)
        self.battles = battles
        self._copy = bool(copy)
        self._fresh = False  # whether the observations are those of the battles as they stand

    def _take_seed(self, seed: Any) -> None:
        if seed is None:
            return
        if isinstance(seed, (int, np.integer)):
            seed = [int(seed) + index for index in range(self.num_envs)]
        super()._take_seed(seed)
        self.battles.seed(seed)

    def _start(self, which: np.ndarray | None) -> None:
        self.battles.reset(which)
        self._fresh = False

    def _advance(self, actions: np.ndarray, active: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        battles = self.battles
        rewards = battles.step(actions, active, look=True).copy()
        self._fresh = True
        terminations, truncations = battles.terminated, battles.truncated
        if self.team_spec.episode_limit < battles.scenario.map.limit:
            truncations = ~terminations & (battles.battles["steps"] >= self.team_spec.episode_limit)
        if active is not None:
            terminations &= active
            truncations &= active
        return rewards, terminations, truncations

    def _observe(self) -> Observation:
        battles = self.battles
        if not self._fresh:
            battles.look()
        self._fresh = False
        seen: Observation = {"obs": battles.obs, "state": battles.state, "action_mask": battles.mask}
        return {key: value.copy() for key, value in seen.items()} if self._copy else seen

    def _infos(self, active: np.ndarray | None) -> dict[str, Any]:
        table = self.battles.battles
        there = np.ones(self.num_envs, bool) if active is None else active.copy()
        infos = {
            "battle_won": table["result"] == WIN,
            "dead_allies": table["dead_allies"].astype(np.int64),
            "dead_enemies": table["dead_enemies"].astype(np.int64),
            "illegal_actions": self.battles.illegal.sum(1, dtype=np.int64),
        }
        for value in infos.values():
            value[~there] = 0
        return infos | {f"_{key}": there.copy() for key in infos}
