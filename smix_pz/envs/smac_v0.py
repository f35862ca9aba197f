"""
# SMAC

| Import             | `from smix_pz.envs import smac_v0`                                                         |
|--------------------|--------------------------------------------------------------------------------------------|
| Creation           | `make("parallel", "smix_pz/smac-v0", map_name="3m")`                                       |
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

The StarCraft Multi-Agent Challenge (Samvelyan et al., 2019), played by StarCraft II itself through the `smac` package
(github.com/oxwhirl/smac) and pysc2. Both and the game are installed by you: `docs/smac-v0.md` says how, and
`smix-pz doctor` what is missing. `smac_sim_v0` has the same surface and needs no StarCraft. Numbers from different
builds of StarCraft, or from `smac_sim_v0`, are not the same experiment: metadata and records name the build.

### Rules

A team of units, one agent each, fights units that the game plays. A battle that is won, lost or drawn terminates; one
that reaches the map's step limit is truncated. All agents share SMAC's reward. A dead agent's last step is the one in
which it died (it is terminated, paid, and has left `agents`).

An illegal action becomes stop (of an agent that stays after its death: no-op) and is counted in the agent's
`info["illegal_actions"]`. Infos also hold the `action_mask` again, `battle_won`, `dead_allies` and `dead_enemies`, and
`episode_limit` (True) where `continuing_episode` is set and the limit struck.

If the game's process dies in a step, the episode ends there, truncated, with reward 0, the last observation, and
`aborted` (True) in the infos: nobody has lost it. The next `reset` starts another process.

### Seeds

StarCraft takes a seed when a game is created, and everything after that depends on all that was played since. So
`reset(seed=...)` starts the game's process anew (several seconds), and `reset()` goes on in the one that runs, which is
what SMAC itself does. `reseed="once"` obeys the first seed only: for training, where every episode brings a seed.

### Arguments

`map_name`: a map of SMAC's registry.

`flat_obs`: observations are the Box alone; masks are then only in the infos.

`strict`: an illegal action raises ValueError.

`dead_agents`: "leave" (PettingZoo's convention) or "stay": the dead remain until the battle ends, observe zeros, may
only do nothing, and are paid like the others.

`reseed`: "relaunch" or "once", see above.

`render_mode`: None, "rgb_array" or "human" (SMAC's own pictures, need pygame-ce).

All options of SMAC's constructor have their own names and defaults: `step_mul`, `move_amount`, `difficulty`,
`game_version`, `seed`, `continuing_episode`, `obs_all_health`, `obs_own_health`, `obs_last_action`,
`obs_pathing_grid`, `obs_terrain_height`, `obs_instead_of_state`, `obs_timestep_number`, `state_last_action`,
`state_timestep_number`, `reward_sparse`, `reward_only_positive`, `reward_death_value`, `reward_win`, `reward_defeat`,
`reward_negative_scale`, `reward_scale`, `reward_scale_rate`, `replay_dir`, `replay_prefix`, `window_size_x`,
`window_size_y`, `heuristic_ai`, `heuristic_rest`, `debug`.

### Version History

* v0: first release (0.2.0)
"""

from __future__ import annotations

import inspect
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.util import Finalize
from types import MappingProxyType
from typing import Any

import numpy as np
from gymnasium import logger, spaces
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils import wrappers
from pettingzoo.utils.conversions import parallel_to_aec

from smix_pz.envs import starcraft
from smix_pz.envs.battle.maps import MAPS
from smix_pz.envs.checks import check_choice, check_int, check_keywords, nearest
from smix_pz.version import __version__

__all__ = ["SMAC_OPTIONS", "agent_names", "env", "parallel_env", "raw_env"]

ENV_ID = "smix_pz/smac-v0"
RENDER_MODES = ("human", "rgb_array")
DEAD_AGENTS = ("leave", "stay")
RESEED = ("relaunch", "once")
LAUNCH_PAUSES = (0.0, 1.0, 5.0)  # seconds before each try to start the game; ports and memory may be short for a moment
NO_OP, STOP = 0, 1

# Options of SMAC's constructor besides map_name, with SMAC's defaults (SMAC specification, section 3.1).
SMAC_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "step_mul": 8,
        "move_amount": 2,
        "difficulty": "7",
        "game_version": None,
        "seed": None,
        "continuing_episode": False,
        "obs_all_health": True,
        "obs_own_health": True,
        "obs_last_action": False,
        "obs_pathing_grid": False,
        "obs_terrain_height": False,
        "obs_instead_of_state": False,
        "obs_timestep_number": False,
        "state_last_action": True,
        "state_timestep_number": False,
        "reward_sparse": False,
        "reward_only_positive": True,
        "reward_death_value": 10,
        "reward_win": 200,
        "reward_defeat": 0,
        "reward_negative_scale": 0.5,
        "reward_scale": True,
        "reward_scale_rate": 20,
        "replay_dir": "",
        "replay_prefix": "",
        "window_size_x": 1920,
        "window_size_y": 1200,
        "heuristic_ai": False,
        "heuristic_rest": False,
        "debug": False,
    }
)
DIFFICULTIES = tuple("123456789A")

# The allies' types of each of SMAC's map types in agent order, which is that of their unit ids (section 1.1).
TYPE_ORDER: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "marines": ("marine",),
        "stalkers": ("stalker",),
        "zealots": ("zealot",),
        "hydralisks": ("hydralisk",),
        "colossus": ("colossus",),
        "stalkers_and_zealots": ("stalker", "zealot"),
        "colossi_stalkers_zealots": ("colossus", "stalker", "zealot"),
        "MMM": ("marauder", "marine", "medivac"),
        "bane": ("baneling", "zergling"),
    }
)

Infos = dict[str, dict[str, Any]]
StepResult = tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], Infos]
log = logging.getLogger(__name__)


def agent_names(map_name: str, params: Mapping[str, Any]) -> list[str]:
    """Names of a map's agents in SMAC's order, `<type>_<k>` with k counted within a type.

    Of a map beyond SMAC's 23 the types are known where all are alike; else the agents are unit_0, unit_1, ...

    Args:
        map_name: the map.
        params: its row in SMAC's registry.
    """
    types, count = TYPE_ORDER.get(params["map_type"], ()), int(params["n_agents"])
    known = MAPS.get(map_name)
    if known is not None and known.n_allies == count:
        counts: Counter[str] = Counter()
        for group in known.allies:
            counts[group.unit] += group.count
        return [f"{unit}_{k}" for unit in types for k in range(counts[unit])]
    unit = types[0] if len(types) == 1 else "unit"
    return [f"{unit}_{k}" for k in range(count)]


def env(**keywords: Any) -> AECEnv:
    """AEC form inside PettingZoo's standard wrappers; keywords as for `parallel_env`."""
    return wrappers.OrderEnforcingWrapper(wrappers.AssertOutOfBoundsWrapper(raw_env(**keywords)))


def raw_env(*arguments: Any, **keywords: Any) -> AECEnv:
    """AEC form without wrappers; arguments as for `parallel_env`."""
    return parallel_to_aec(parallel_env(*arguments, **keywords))


class _Game:
    """The one game of an environment; apart from it, so that it can be closed after the environment is gone."""

    def __init__(self) -> None:
        self.smac: Any = None

    def close(self) -> None:
        """End the game's process."""
        if self.smac is not None:
            self.smac.close()


class parallel_env(ParallelEnv):
    """SMAC as a ParallelEnv. Arguments: see the module. The game is started by the first `reset`.

    Attributes:
        episode_limit: the map's step limit.
        smac: the present `StarCraft2Env`.
        launches: how many times the game has been started.

    Raises:
        TypeError: an unknown argument, or one of the wrong type.
        ValueError: an unknown map, version, render_mode or choice.
        smix_pz.envs.starcraft.StarCraftUnavailable: a RuntimeError; SMAC or StarCraft is not there, with the remedy.
    """

    metadata = {  # noqa: RUF012 (PettingZoo's own form)
        "name": "smac_v0",
        "render_modes": list(RENDER_MODES),
        "render_fps": 22.4 / 8,
        "is_parallelizable": True,
        "shared_reward": True,
        "has_win": True,
        "rules": "StarCraft II",
    }

    def __init__(
        self,
        map_name: str = "3m",
        *,
        render_mode: str | None = None,
        flat_obs: bool = False,
        strict: bool = False,
        dead_agents: str = "leave",
        reseed: str = "relaunch",
        **options: Any,
    ) -> None:
        check_keywords("smac_v0", parallel_env, options)
        check_choice("dead_agents", dead_agents, DEAD_AGENTS)
        check_choice("reseed", reseed, RESEED)
        if render_mode is not None:
            check_choice("render_mode", render_mode, RENDER_MODES)
        self._options = _checked({**SMAC_OPTIONS, **options})
        self._found = self._find_smac(map_name, self._options["game_version"])
        if render_mode is not None:
            starcraft.import_renderer()
        self.map_name, self.render_mode = map_name, render_mode
        self.flat_obs, self.strict, self.stay = bool(flat_obs), bool(strict), dead_agents == "stay"
        self.reseed = reseed
        self.metadata = {**type(self).metadata, "rules": self._found.rules}
        self.launches = 0
        self._seed: int | None = self._options["seed"]
        self._launches_of_seed = 0
        self._game = _Game()
        self._game.smac = self._make()  # tells the sizes; starts nothing
        self._finalizer: Finalize | None = None
        sizes = self.smac.get_env_info()
        self.episode_limit = int(sizes["episode_limit"])
        self.possible_agents = agent_names(map_name, self._found.params)
        self.agents: list[str] = []
        self._index = {agent: index for index, agent in enumerate(self.possible_agents)}
        self._obs_dim = int(sizes["obs_shape"])
        vector = spaces.Box(-1.0, 1.0, (self._obs_dim,), np.float32)
        mask = spaces.Box(0, 1, (int(sizes["n_actions"]),), np.int8)
        view = vector if self.flat_obs else spaces.Dict({"observation": vector, "action_mask": mask})
        self._observation_spaces: dict[str, spaces.Space] = dict.fromkeys(self.possible_agents, view)
        self._action_spaces = {agent: spaces.Discrete(int(sizes["n_actions"])) for agent in self.possible_agents}
        # Cooldowns divided by SMAC's constants reach 1.55 (section 3.3).
        self.state_space = spaces.Box(-2.0, 2.0, (int(sizes["state_shape"]),), np.float32)
        self._running = False
        self._begun = False  # whether there has been a reset
        self._fresh = False  # whether nothing has been played since the last one
        self._untouched = False  # whether nothing has been played since the launch
        self._stats: Counter[str] = Counter()

    def _find_smac(self, map_name: str, game_version: str | None) -> starcraft.Smac:
        """The installed SMAC; tests put another in its place."""
        return starcraft.find_smac(map_name, game_version)

    def __str__(self) -> str:
        return "smac_v0"

    @property
    def smac(self) -> Any:
        """The present `StarCraft2Env`; another one after each launch."""
        return self._game.smac

    @property
    def engine(self) -> dict[str, Any]:
        """What plays: name, version (of this package), rules (StarCraft's build), and the versions of smac and pysc2.

        The same before and after the game has been started.
        """
        return {"name": ENV_ID, "version": __version__, "rules": self._found.rules, **self._found.versions}

    @property
    def game_version(self) -> str | None:
        """StarCraft's own name of its version, such as "4.10.0"; None before the first launch."""
        return self.smac.game_version_running

    def observation_space(self, agent: str) -> spaces.Space:
        """The agent's space, the same object at each call."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """Discrete(6 + E), the same object at each call."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Begin a battle.

        Args:
            seed: of the game, taken modulo 2**32; None: go on in the game that runs. See the module.
            options: {"relaunch": True} starts the game's process anew (it records an ever longer replay until then, so
                very long runs may want that now and then); others are ignored.

        Raises:
            RuntimeError: the game cannot be started, or is not what its folder says.
            ValueError: a negative seed. TypeError: a seed that is no integer.
        """
        relaunch = bool((options or {}).get("relaunch", False))
        if seed is not None:
            seed = check_int("seed", seed, 0) % 2**32
            if self.reseed == "relaunch" or self.launches == 0:
                relaunch = relaunch or not (self._untouched and seed == self._seed)
                if relaunch:
                    self._seed, self._launches_of_seed = seed, 0
        if relaunch:
            self._end_game()
        # Resetting a battle in which nothing has been played is reported to disturb the map's script (SMAC issue 104).
        if not (self._running and self._fresh):
            self._start()
        self._begun = self._fresh = True
        self.agents = self.possible_agents[:]
        self._illegal = dict.fromkeys(self.possible_agents, 0)
        self._shared: dict[str, Any] = {"battle_won": False, "dead_allies": 0, "dead_enemies": 0}
        if self.render_mode == "human":
            self.render()
        return self._seen(self.agents)

    def step(self, actions: dict[str, int]) -> StepResult:
        """Play one action of each agent in `agents`.

        Raises:
            RuntimeError: before `reset`, or after the battle's end.
            ValueError: an agent's action is missing, not one of its actions, or (strict) illegal; an unknown agent.
        """
        if not self.agents:
            if self._begun and not actions:
                return {}, {}, {}, {}, {}
            raise RuntimeError(f"{self}.step() needs a running battle: call reset() first.")
        joint = self._joint(actions)
        acted, limit = self.agents, False
        self._fresh = self._untouched = False
        try:
            with self._watch():
                reward, over, info = self.smac.step(joint)
                if "battle_won" not in info:
                    raise starcraft.StarCraftDied("SMAC reports no result")
                self._look()
        except self._found.crashes as error:
            return self._aborted(acted, error)
        for key in self._shared:
            self._shared[key] = type(self._shared[key])(info[key])
        if over:
            limit = bool(info.get("episode_limit", False))  # `_make` always asks SMAC for it
            if limit and self._options["continuing_episode"]:
                self._shared["episode_limit"] = True
            self._stats.update(battles_game=1, battles_won=int(info["battle_won"]), timeouts=int(limit))
        dead = {agent for agent in acted if self._masks[self._index[agent], NO_OP]}
        if over and not limit:
            terminations = dict.fromkeys(acted, True)
        else:
            terminations = {agent: agent in dead and not self.stay for agent in acted}
        truncations = {agent: limit and not terminations[agent] for agent in acted}
        self.agents = [] if over else [agent for agent in acted if not terminations[agent]]
        if self.render_mode == "human":
            self.render()
        observations, infos = self._seen(acted)
        return observations, dict.fromkeys(acted, float(reward)), terminations, truncations, infos

    def state(self) -> np.ndarray:
        """SMAC's global state, float32 [S]; RuntimeError before the first reset."""
        if not self._begun:
            raise RuntimeError(f"{self}.state() is known once StarCraft has been started: call reset() first.")
        return self._state.copy()

    def render(self) -> np.ndarray | None:
        """SMAC's picture, uint8 [height, width, 3] ("rgb_array"); "human" draws in a window."""
        if self.render_mode is None:
            logger.warn("render() was called, but render_mode is None: pass one of " + ", ".join(RENDER_MODES) + ".")
            return None
        if not self._running:
            raise RuntimeError(f"{self}.render() needs a running game: call reset() first.")
        return self.smac.render(self.render_mode)

    def save_replay(self) -> None:
        """Save all that was played since the last launch to `replay_dir`, as SMAC does; RuntimeError without a game."""
        if not self._running:
            raise RuntimeError(f"{self}.save_replay() needs a running game: call reset() first.")
        self.smac.save_replay()

    def get_stats(self) -> dict[str, float]:
        """SMAC's counts over all launches: battles_won, battles_game, battles_draw and timeouts (both: at the step
        limit), win_rate (0 before the first battle's end), restarts (launches after the first), and aborted episodes,
        which count as no battle."""
        won, played, timeouts = (self._stats[key] for key in ("battles_won", "battles_game", "timeouts"))
        return {
            "battles_won": won,
            "battles_game": played,
            "battles_draw": timeouts,
            "win_rate": won / played if played else 0.0,
            "timeouts": timeouts,
            "restarts": max(self.launches - 1, 0),
            "aborted": self._stats["aborted"],
        }

    def close(self) -> None:
        """End the game's process. A later `reset` would start another."""
        self._end_game()

    def _make(self) -> Any:
        """A `StarCraft2Env` for the next launch. A seed's first launch takes it as it is; later ones derive from it."""
        seed = self._seed
        if seed is not None and self._launches_of_seed:
            seed = int(np.random.SeedSequence((seed, self._launches_of_seed)).generate_state(1)[0])
        # SMAC tells a timeout from a defeat if continuing_episode is set, and the option does nothing else.
        return self._found.make(
            **{**self._options, "seed": seed, "continuing_episode": True, "map_name": self.map_name}
        )

    def _start(self) -> None:
        """Begin a battle in the running game, or in a new one."""
        for tries, pause in enumerate(LAUNCH_PAUSES, 1):
            time.sleep(pause)
            launching = not self._running
            try:
                with self._watch():
                    if launching:
                        self._game.smac = self._make()
                        self._end_with_process()
                        self.launches += 1
                        self._launches_of_seed += 1
                    self.smac.reset()
                    if launching:
                        self._found.check_running(self.game_version)
                    self._look()
                self._running, self._untouched = True, launching
                return
            except self._found.crashes as error:
                log.warning(
                    "%s: StarCraft II failed at reset, try %d: %s: %s", self, tries, type(error).__name__, error
                )
                if tries == len(LAUNCH_PAUSES):
                    raise RuntimeError(
                        f"StarCraft II could not be started for {self} ({tries} tries). The last failure: "
                        f"{type(error).__name__}: {error}. `smix-pz doctor` checks the installation; with many "
                        "environments on one machine, memory or ports may be short."
                    ) from error

    @contextmanager
    def _watch(self) -> Iterator[None]:
        """Whatever is raised inside (Ctrl-C too: it leaves an answer of the game unread), the process does not stay."""
        try:
            yield
        except BaseException:
            self._end_game()
            raise

    def _end_with_process(self) -> None:
        """See to it that the game ends when this environment or this process does.

        Finalize and not weakref.finalize: it runs at the end of multiprocessing's workers too, and never in a child
        that was forked from the process which started the game.
        """
        if self._finalizer is not None:
            self._finalizer.cancel()
        self._finalizer = Finalize(self, self._game.close, exitpriority=10)

    def _end_game(self) -> None:
        self._running = self._fresh = self._untouched = False
        self.agents = []
        self._game.close()

    def _aborted(self, acted: list[str], error: BaseException) -> StepResult:
        """A step in which the game died: the last observation, nothing paid, truncated."""
        log.warning(
            "%s: StarCraft II died in a step; the episode is aborted: %s: %s", self, type(error).__name__, error
        )
        self._stats.update(aborted=1)
        self._shared["aborted"] = True
        observations, infos = self._seen(acted)
        nothing = dict.fromkeys(acted, 0.0)
        return observations, nothing, dict.fromkeys(acted, False), dict.fromkeys(acted, True), infos

    def _look(self) -> None:
        """Read observations [A, O], masks [A, n_actions] and the state [S]."""
        obs = np.asarray(self.smac.get_obs(), np.float32)
        masks = np.asarray(self.smac.get_avail_actions(), np.int8)
        state = np.asarray(self.smac.get_state(), np.float32)
        if self._options["obs_timestep_number"] and obs.shape[1] == self._obs_dim + 1:
            # SMAC makes room for the time step among the agent's own features, where it leaves a zero, and then
            # appends it: its vectors are longer by one than it announces.
            obs = np.delete(obs, -2, axis=1)
            if self._options["obs_instead_of_state"]:
                state = obs.ravel()
        self._obs, self._masks, self._state = obs, masks, state

    def _joint(self, actions: Mapping[str, Any]) -> list[int]:
        """One action of each agent for SMAC, illegal ones replaced and counted; raises what `step` documents."""
        for agent in actions:
            if agent not in self._index:
                raise ValueError(f"there is no agent {agent!r}{nearest(str(agent), self._index)}")
        joint = [NO_OP] * len(self.possible_agents)
        replaced = []
        for agent in self.agents:
            if agent not in actions:
                raise ValueError(
                    f"step() needs an action for {agent}, got actions for {list(actions)}. Alive: {self.agents}."
                )
            action, index, space = actions[agent], self._index[agent], self._action_spaces[agent]
            if not _is_choice(action, int(space.n)):
                raise ValueError(
                    f"action {action!r} of {agent} is outside {space}: expected an integer from 0 to {space.n - 1}."
                )
            joint[index] = int(action)
            mask = self._masks[index]
            if not mask[joint[index]]:
                if self.strict:
                    legal = np.flatnonzero(mask).tolist()
                    raise ValueError(f"action {joint[index]} of {agent} is illegal now; its legal actions are {legal}.")
                joint[index] = NO_OP if mask[NO_OP] else STOP
                replaced.append(agent)
        for agent in replaced:
            self._illegal[agent] += 1
        return joint

    def _seen(self, agents: list[str]) -> tuple[dict[str, Any], Infos]:
        """Observations and infos of `agents`, in arrays of their own."""
        observations: dict[str, Any] = {}
        infos: Infos = {}
        for agent in agents:
            index = self._index[agent]
            row, mask = self._obs[index].copy(), self._masks[index].copy()
            observations[agent] = row if self.flat_obs else {"observation": row, "action_mask": mask}
            infos[agent] = {"action_mask": mask.copy(), "illegal_actions": self._illegal[agent], **self._shared}
        return observations, infos


def _is_choice(action: Any, count: int) -> bool:
    """Whether `action` is an integer from 0 to count - 1."""
    try:
        return 0 <= int(action) < count and int(action) == action
    except (TypeError, ValueError, OverflowError):
        return False


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """SMAC's options, of which those that SMAC would stumble over at the launch or later have been checked."""
    check_choice("difficulty", options["difficulty"], DIFFICULTIES)
    options["step_mul"] = check_int("step_mul", options["step_mul"], 1)
    if options["seed"] is not None:
        options["seed"] = check_int("seed", options["seed"], 0) % 2**32
    amount = options["move_amount"]
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise TypeError(f"move_amount must be a number of cells above 0, got {amount!r}.")
    if not amount > 0:
        raise ValueError(f"move_amount must be a number of cells above 0, got {amount!r}.")
    if (options["obs_pathing_grid"] or options["obs_terrain_height"]) and not isinstance(amount, int):
        raise TypeError(f"obs_pathing_grid and obs_terrain_height need an integer move_amount, got {amount!r}.")
    return options


def _signature() -> inspect.Signature:
    """The constructor's, with SMAC's options in place of **options."""
    written = list(inspect.signature(parallel_env.__init__).parameters.values())[1:]
    named = [parameter for parameter in written if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [*named, *(inspect.Parameter(name, keyword, default=value) for name, value in SMAC_OPTIONS.items())]
    )


parallel_env.__signature__ = _signature()  # type: ignore[attr-defined]
raw_env.__signature__ = inspect.signature(parallel_env)  # type: ignore[attr-defined]
