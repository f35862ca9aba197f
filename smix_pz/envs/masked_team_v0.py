"""
# Masked team

| Import             | `from smix_pz.envs import masked_team_v0`                                              |
|--------------------|----------------------------------------------------------------------------------------|
| Creation           | `make("parallel", "smix_pz/masked_team-v0")`                                           |
| Actions            | Discrete                                                                               |
| Parallel API       | Yes                                                                                    |
| Manual Control     | No                                                                                     |
| Agents             | `agents= ['scout_0', 'porter_0', 'guard_0']` (3)                                       |
| Action Shape       | `Discrete(2)`, `Discrete(3)`, `Discrete(4)`                                            |
| Action Values      | 0 to 1, 0 to 2, 0 to 3; what each means depends on the place                           |
| Observation Shape  | `Dict(observation (6,), action_mask (2,))`, `Dict((12,), (3,))`, `Dict((15,), (4,))`   |
| Observation Values | 0 or 1                                                                                 |
| State Shape        | `(15,)`                                                                                |
| State Values       | 0 or 1                                                                                 |

A test environment: masks, a death in mid-episode, an agent that joins late, unlike observations and actions, and early
truncation, all in one small game whose exact values are known. The start decides between five routes, and each of
four common mistakes of a learner makes another route look best. So the return of the greedy policy names the mistake.

### Rules (r1)

The team stands at one place. The table says which actions are legal there, and what they do; what it does not name
makes no difference. "0, 1 or 2 of" counts the agents who play the action named in brackets.

| place   | scout | porter | guard   | what happens                                                               |
|---------|-------|--------|---------|----------------------------------------------------------------------------|
| camp    | 0 1   | 0      | 0       | scout 0: to field; 1: to gorge. Pays 0                                     |
| field   | 0     | 0 1 2  | 0       | porter 0: pays 4, terminates, showing road; 1: 0, to road; 2: 6, to meadow |
| gorge   | 0     | 1      | 1 2     | guard 1: pays 0, to ledge, *shaky*; 2: pays 11, to swamp                   |
| road    | 0     | 0 1    | 2 3     | pays 0, 3 or 7 for 0, 1 or 2 of (porter 1, guard 3); terminates            |
| meadow  | 0 1   | 2      | 0 1 2 3 | pays 0; terminates                                                         |
| swamp   | 0     | 0 1    | 0 1     | pays -10, -9 or -8 for 0, 1 or 2 of (porter 1, guard 1); to bog            |
| bog     | 1     | 0      | 0       | pays 0; terminates                                                         |
| ledge   | 0 1   | 0      | 3       | scout 0: pays 0, to plateau; 1: the scout dies, pays 2, to peak, *shaky*   |
| plateau | 0     | 0 1    | 1 2     | pays 0, 2 or 5 for 0, 1 or 2 of (porter 1, guard 2); terminates            |
| peak    | dead  | 1 2    | 0 3     | pays 1 for porter 2 and 2 for guard 3; to summit                           |
| summit  | dead  | 0 1    | 1 2 3   | pays 0, 2 or 5 for 0, 1 or 2 of (porter 1, guard 2); terminates            |
| over    | 0     | 0      | 0       | where a termination leads, except field's                                  |

All agents who acted are paid alike; the dying scout too, in the step in which it dies. It is terminated then and has
left `agents`; the others play on. An episode has 2 to 5 steps; `episode_limit` is 5 and never cuts one off.

A *shaky* move truncates the episode with probability `cut`, by a coin of the environment's own stream. The team has
then arrived, and observes the place with its masks, as if it went on; other episodes do go on from there. Where the
move also kills the scout, the scout is terminated and the others are truncated.

With `late_guard=True` guard_0 is absent at `reset` and joins by the first step, observed and with its mask, but paid
0.0 in that step, since it did not act. Else it is there from the start, with 0 as its only legal action: the same game.

An illegal action becomes the agent's lowest legal one and is counted in its `info["illegal_actions"]` (since the
episode's start). The mask is in the observation and in `info["action_mask"]`. The mask of an agent that has died or
reached `over` allows 0 alone.

### Observation and state

scout_0: one-hot of the steps played, 0 to 5. porter_0: one-hot of the place, in the order of `PLACES`. guard_0: the
same, and three flags, which of the agents are in the team now. The state is what guard_0 sees.

### Values

The best return is 10: scout 1, guard 1, scout 1, then (porter 2, guard 3) and (porter 1, guard 2), which pays 0, 0, 2,
3, 5. A truncation is no end of the world, so it changes no value: those of the table are what a right learner finds
whatever `cut` is, as long as it is below 1. The episodes it has cut pay less: play with `cut=0` to measure a policy.

`action_values` and `optimal_values` compute the exact values, right and mistaken (`MISTAKES`), of a learner with a
table that begins at zero. The value of the start, and what the greedy policy of that table returns with `cut=0`:

| treatment             | mistake                                     | gamma 1 | gamma 0.99 | plays         | returns |
|-----------------------|---------------------------------------------|---------|------------|---------------|---------|
| right                 |                                             | 10      | 9.6741     | gorge, ledge  | 10      |
| truncation_ends       | does not bootstrap where an episode was cut | 7       | 6.8607     | field, road   | 7       |
| termination_continues | bootstraps where an episode has ended       | 11      | 10.8207    | field, end    | 4       |
| masks_ignored         | bootstraps from illegal actions too         | 11      | 10.89      | gorge, swamp  | 3       |
| leavers_unpaid        | reads rewards of those left by the step     | 6       | 5.94       | field, meadow | 6       |

At gamma 1 with `cut=0.5`, truncation_ends finds 3 in place of 10 for the best route, 5 if it mishandles the first
shaky move only, 6 the second only. leavers_unpaid divides what the agents left were paid by the agents who acted, so
that the reward of a last step is lost altogether. The order of routes is the same for every gamma from 0.9 to 1.

### Arguments

`cut`: probability that a shaky move truncates the episode, 0 to 1.

`late_guard`: guard_0 joins after the first step. Not by default, because some programs expect all agents at the start;
PettingZoo's own `seed_test` seeds the action spaces of no others.

`flat_obs`: observations are the Box alone; masks are then only in the infos.

`strict`: an illegal action raises ValueError.

`render_mode`: None, "human" (needs pygame-ce), "rgb_array" or "ansi".

### Version History

* v0: first release, rules r1 (0.1.0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from pettingzoo import AECEnv
from pettingzoo.utils import wrappers
from pettingzoo.utils.conversions import parallel_to_aec

from smix_pz.envs.checks import check_choice, check_fraction
from smix_pz.envs.drawing import Panel, Scene
from smix_pz.envs.tabular import DrawnParallelEnv, game_metadata

__all__ = [
    "AGENTS",
    "LEGAL",
    "MISTAKES",
    "PLACES",
    "RULES",
    "Outcome",
    "action_values",
    "env",
    "optimal_values",
    "outcome",
    "parallel_env",
    "raw_env",
]

RULES = "r1"
SCOUT, PORTER, GUARD = AGENTS = ("scout_0", "porter_0", "guard_0")
AGENT_ACTIONS = (2, 3, 4)
EPISODE_LIMIT = 5
DEAD: tuple[int, ...] = ()

Observations = dict[str, dict[str, np.ndarray]]
Infos = dict[str, dict[str, Any]]
StepResult = tuple[Observations, dict[str, float], dict[str, bool], dict[str, bool], Infos]

# Legal actions of scout, porter and guard. Every move leads to a place further down, so values are found bottom up.
LEGAL: Mapping[str, tuple[tuple[int, ...], ...]] = MappingProxyType(
    {
        "camp": ((0, 1), (0,), (0,)),
        "field": ((0,), (0, 1, 2), (0,)),
        "gorge": ((0,), (1,), (1, 2)),
        "road": ((0,), (0, 1), (2, 3)),
        "meadow": ((0, 1), (2,), (0, 1, 2, 3)),
        "swamp": ((0,), (0, 1), (0, 1)),
        "bog": ((1,), (0,), (0,)),
        "ledge": ((0, 1), (0,), (3,)),
        "plateau": ((0,), (0, 1), (1, 2)),
        "peak": (DEAD, (1, 2), (0, 3)),
        "summit": (DEAD, (0, 1), (1, 2, 3)),
        "over": ((0,), (0,), (0,)),
    }
)
PLACES = tuple(LEGAL)

MISTAKES: Mapping[str, str] = MappingProxyType(
    {
        "truncation_ends": "what follows a truncation counts as nothing",
        "termination_continues": "what is observed at a termination counts as if it went on",
        "masks_ignored": "illegal actions are bootstrapped from, at the value 0 that nobody ever changes",
        "leavers_unpaid": "the reward is the sum over the agents left after the step, by the number before it",
    }
)


@dataclass(frozen=True)
class Outcome:
    """What a joint action leads to.

    Attributes:
        reward: what each agent who acted is paid.
        place: where the team is then.
        ends: whether the episode terminates.
        kills: whether the scout dies.
        shaky: whether the episode may be truncated here.
    """

    reward: float
    place: str
    ends: bool = False
    kills: bool = False
    shaky: bool = False


def _end(reward: float) -> Outcome:
    return Outcome(reward, "over", ends=True)


_MOVES: Mapping[str, Callable[[int, int, int], Outcome]] = MappingProxyType(
    {
        "camp": lambda scout, porter, guard: Outcome(0.0, ("field", "gorge")[scout]),
        "field": lambda scout, porter, guard: (
            Outcome(4.0, "road", ends=True),
            Outcome(0.0, "road"),
            Outcome(6.0, "meadow"),
        )[porter],
        "gorge": lambda scout, porter, guard: (
            Outcome(0.0, "ledge", shaky=True) if guard == 1 else Outcome(11.0, "swamp")
        ),
        "road": lambda scout, porter, guard: _end((0.0, 3.0, 7.0)[(porter == 1) + (guard == 3)]),
        "meadow": lambda scout, porter, guard: _end(0.0),
        "swamp": lambda scout, porter, guard: Outcome(-10.0 + (porter == 1) + (guard == 1), "bog"),
        "bog": lambda scout, porter, guard: _end(0.0),
        "ledge": lambda scout, porter, guard: (
            Outcome(2.0, "peak", kills=True, shaky=True) if scout == 1 else Outcome(0.0, "plateau")
        ),
        "plateau": lambda scout, porter, guard: _end((0.0, 2.0, 5.0)[(porter == 1) + (guard == 2)]),
        "peak": lambda scout, porter, guard: Outcome(1.0 * (porter == 2) + 2.0 * (guard == 3), "summit"),
        "summit": lambda scout, porter, guard: _end((0.0, 2.0, 5.0)[(porter == 1) + (guard == 2)]),
    }
)


def outcome(place: str, joint: Sequence[int]) -> Outcome:
    """What the legal joint action (scout, porter, guard) leads to; a dead scout's entry is 0.

    Raises:
        ValueError: an unknown place, one where nothing is played any more, or an illegal action.
    """
    check_choice("place", place, _MOVES)
    for agent, action, legal in zip(AGENTS, joint, _choices(place), strict=True):
        if action not in legal:
            raise ValueError(
                f"action {action!r} of {agent} is illegal at {place}; its legal actions are {list(legal)}."
            )
    return _MOVES[place](*joint)


def action_values(gamma: float = 0.99, mistake: str | None = None, *, cut: float = 0.5) -> np.ndarray:
    """Exact values of every place and joint action, float64 [12, 2, 3, 4]; -inf where the joint action is illegal.

    The axes are the place (in the order of `PLACES`) and the actions of scout, porter and guard; a dead scout's is 0.
    At `over` nothing is played: 0 for the joint action (0, 0, 0).

    Args:
        gamma: the discount factor, 0 to 1.
        mistake: None for the right values, else a key of `MISTAKES`: the values that a learner finds who makes it, with
            a table of values that begins at 0.
        cut: the environment's probability of a truncation. It matters to truncation_ends and leavers_unpaid alone.

    Raises:
        ValueError: gamma or cut outside 0 to 1; an unknown mistake.
        TypeError: gamma or cut that is no number.
    """
    gamma, cut = check_fraction("gamma", gamma), check_fraction("cut", cut)
    if mistake is not None:
        check_choice("mistake", mistake, MISTAKES)
    found = np.full((len(PLACES), *AGENT_ACTIONS), -np.inf)
    best = np.zeros(len(PLACES))
    found[-1, 0, 0, 0] = 0.0
    for index in reversed(range(len(PLACES) - 1)):
        place = PLACES[index]
        for joint in product(*_choices(place)):
            move = outcome(place, joint)
            reward, goes_on = move.reward, float(not move.ends)
            stopped = cut if move.shaky else 0.0
            if mistake == "truncation_ends":
                goes_on *= 1.0 - stopped
            elif mistake == "termination_continues":
                goes_on = 1.0
            elif mistake == "leavers_unpaid":
                before = sum(map(bool, LEGAL[place]))
                reward *= goes_on * (1.0 - stopped) * (before - move.kills) / before
            found[(index, *joint)] = reward + gamma * goes_on * best[PLACES.index(move.place)]
        best[index] = found[index].max()
        if mistake == "masks_ignored":  # every place has illegal joint actions
            best[index] = max(best[index], 0.0)
    return found


def optimal_values(gamma: float = 0.99, mistake: str | None = None, *, cut: float = 0.5) -> np.ndarray:
    """Exact values of every place under the best play, float64 [12] in the order of `PLACES`.

    Arguments and errors as for `action_values`. A learner who ignores masks also sees the 0 of illegal actions.
    """
    best = action_values(gamma, mistake, cut=cut).max((1, 2, 3))
    return np.maximum(best, 0.0) if mistake == "masks_ignored" else best


def _choices(place: str) -> tuple[tuple[int, ...], ...]:
    """Legal actions of each agent, with a placeholder for the dead."""
    return tuple(legal or (0,) for legal in LEGAL[place])


def env(**keywords: Any) -> AECEnv:
    """AEC form inside PettingZoo's standard wrappers; keywords as for `parallel_env`."""
    return wrappers.OrderEnforcingWrapper(wrappers.AssertOutOfBoundsWrapper(raw_env(**keywords)))


def raw_env(
    cut: float = 0.5,
    *,
    late_guard: bool = False,
    flat_obs: bool = False,
    strict: bool = False,
    render_mode: str | None = None,
) -> AECEnv:
    """AEC form without wrappers; arguments as for `parallel_env`."""
    game = parallel_env(cut, late_guard=late_guard, flat_obs=flat_obs, strict=strict, render_mode=render_mode)
    return parallel_to_aec(game)


class parallel_env(DrawnParallelEnv):
    """The masked team as a ParallelEnv.

    Args:
        cut: probability that a shaky move truncates the episode.
        late_guard: guard_0 joins after the first step.
        flat_obs: observations are the Box alone; masks are then only in the infos.
        strict: an illegal action raises ValueError.
        render_mode: None, "human", "rgb_array" or "ansi".

    Attributes:
        place: where the team is, one of `PLACES`.
        moves: steps played in this episode.
        episode_limit: 5, the steps of the longest episode.

    Raises:
        ValueError: cut outside 0 to 1; an unknown render_mode.
        TypeError: cut is no number.
    """

    metadata = game_metadata("masked_team_v0", RULES)

    def __init__(
        self,
        cut: float = 0.5,
        *,
        late_guard: bool = False,
        flat_obs: bool = False,
        strict: bool = False,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode)
        self.cut = check_fraction("cut", cut)
        self.late_guard, self.flat_obs, self.strict = bool(late_guard), bool(flat_obs), bool(strict)
        self.episode_limit = EPISODE_LIMIT
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        widths = (EPISODE_LIMIT + 1, len(PLACES), len(PLACES) + len(AGENTS))
        self._action_spaces = {
            agent: spaces.Discrete(count) for agent, count in zip(AGENTS, AGENT_ACTIONS, strict=True)
        }
        self._observation_spaces: dict[str, spaces.Space] = {}
        for agent, width, count in zip(AGENTS, widths, AGENT_ACTIONS, strict=True):
            row, mask = spaces.Box(0.0, 1.0, (width,), np.float32), spaces.Box(0, 1, (count,), np.int8)
            both = spaces.Dict({"observation": row, "action_mask": mask})
            self._observation_spaces[agent] = row if self.flat_obs else both
        self.state_space = spaces.Box(0.0, 1.0, (widths[-1],), np.float32)
        self.np_random, self.np_random_seed = seeding.np_random()
        self._begun = False
        self.place = PLACES[0]
        self.moves, self.total = 0, 0.0
        self._present: list[str] = []
        self._illegal = dict.fromkeys(AGENTS, 0)
        self._last: dict[str, int] = {}
        self._from: str | None = None  # the place that the last joint action was played at

    def observation_space(self, agent: str) -> spaces.Space:
        """Dict(observation, action_mask), with `flat_obs` the Box alone; the same object at each call."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """Discrete space of the agent's actions, the same object at each call."""
        return self._action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observations, Infos]:
        """Begin an episode. A seed begins the stream of coins anew, None goes on with it; options are ignored."""
        if seed is not None:
            self.np_random, self.np_random_seed = seeding.np_random(seed)
        self.agents = [agent for agent in AGENTS if agent != GUARD or not self.late_guard]
        self._begun = True
        self.place, self.moves, self.total = PLACES[0], 0, 0.0
        self._present, self._illegal = self.agents[:], dict.fromkeys(AGENTS, 0)
        self._last, self._from = {}, None
        self._show()
        return self._seen(self.agents)

    def step(self, actions: dict[str, int]) -> StepResult:
        """Play one action of each agent in `agents`.

        Raises:
            RuntimeError: before `reset`, or after the episode's end with actions for agents that are gone.
            ValueError: actions missing or for other agents; an action outside its agent's space, or (strict) illegal.
        """
        if not self._begun:
            raise RuntimeError(f"{self}.step() was called before reset().")
        if not self.agents and not actions:
            return {}, {}, {}, {}, {}
        self._last, self._from = self._legal_actions(actions), self.place
        move = outcome(self.place, [self._last.get(agent, 0) for agent in AGENTS])
        # The coin is tossed on shaky moves alone, so the stream depends on the play.
        truncated = move.shaky and self.np_random.random() < self.cut
        acted = self.agents
        dead = {SCOUT} if move.kills else set()
        joined = [GUARD] if self.moves == 0 and self.late_guard else []
        self.place = move.place
        self.moves += 1
        self.total += move.reward
        self._present = [agent for agent in acted if agent not in dead] + joined
        self.agents = [] if move.ends or truncated else self._present[:]
        told = acted + joined
        observations, infos = self._seen(told)
        self._show()
        return (
            observations,
            {agent: move.reward if agent in acted else 0.0 for agent in told},
            {agent: move.ends or agent in dead for agent in told},
            {agent: truncated and agent not in dead for agent in told},
            infos,
        )

    def state(self) -> np.ndarray:
        """One-hot of the place, then which agents are in the team, float32 [15]."""
        flags = [agent in self._present for agent in AGENTS]
        return np.concatenate([self._place_row(), np.array(flags, np.float32)])

    def _place_row(self) -> np.ndarray:
        return np.eye(len(PLACES), dtype=np.float32)[PLACES.index(self.place)]

    def _legal_now(self, agent: str, place: str | None = None) -> tuple[int, ...]:
        return _choices(place or self.place)[AGENTS.index(agent)]

    def _seen(self, agents: Sequence[str]) -> tuple[Observations, Infos]:
        """Observations and infos of `agents`, in arrays of their own."""
        observations: Observations = {}
        infos: Infos = {}
        for agent in agents:
            mask = np.zeros(int(self._action_spaces[agent].n), np.int8)
            mask[list(self._legal_now(agent))] = 1
            if agent == SCOUT:
                row = np.eye(EPISODE_LIMIT + 1, dtype=np.float32)[self.moves]
            else:
                row = self._place_row() if agent == PORTER else self.state()
            observations[agent] = row if self.flat_obs else {"observation": row, "action_mask": mask}
            infos[agent] = {"action_mask": mask.copy(), "illegal_actions": self._illegal[agent]}
        return observations, infos

    def _legal_actions(self, actions: dict[str, int]) -> dict[str, int]:
        """What is played: the actions, the illegal ones replaced and counted. Raises what `step` documents."""
        self._check_actions(actions)
        for agent in self.agents:
            if self.strict and actions[agent] not in self._legal_now(agent):
                raise ValueError(
                    f"action {actions[agent]} of {agent} is illegal at {self.place}; "
                    f"its legal actions are {list(self._legal_now(agent))}."
                )
        played = {}
        for agent in self.agents:  # only now, so that a refused step leaves no trace
            legal, action = self._legal_now(agent), int(actions[agent])
            self._illegal[agent] += action not in legal
            played[agent] = action if action in legal else legal[0]
        return played

    def _scene(self) -> Scene:
        over = self._begun and not self.agents
        status = (
            f"step {self.moves} of at most {EPISODE_LIMIT}" + (", ended" if over else ""),
            f"at {self.place}",
            f"in the team: {', '.join(self._present) or 'none'}",
            f"return {self.total:g}",
        )
        panels = []
        for agent in AGENTS:
            rows = [self._cells(agent, self.place, agent in self.agents)]
            if self._from is not None:
                rows.insert(0, self._cells(agent, self._from, agent in self._last))
            panels.append(
                Panel(
                    f"{agent}: " + ("next" if self._from is None else f"at {self._from}, next"),
                    tuple(rows),
                    coming=agent in self.agents,
                    chosen=(0, self._last[agent]) if agent in self._last else None,
                    rows="",
                    columns="action",
                )
            )
        return Scene("masked team", status, tuple(panels))

    def _cells(self, agent: str, place: str, acts: bool) -> tuple[str, ...]:
        """The agent's legal actions, a dash for each illegal one."""
        legal = self._legal_now(agent, place) if acts else ()
        return tuple(str(action) if action in legal else "-" for action in range(int(self._action_spaces[agent].n)))
