"""Long random play of the embedded SMAC, and laws that every step of it has to obey.

    python perf/soak.py                                    # a million steps on each of the 23 maps: an hour or two
    python perf/soak.py --steps 100000 --maps 3m corridor  # a part of it
    python perf/soak.py --preset lotv --illegal 0.2        # other unit statistics, every fifth action any at all

Battles are played in the native vector form by the random player; a fifth of them (`--focus`) by the one that
concentrates its fire, so that battles are also won. After every `--every` steps one step is watched from before to
after. Its laws, checked from the units alone (nothing is taken from what the environment says of itself):

- numbers: nothing is NaN or infinite; observations, state and masks are inside their spaces; health, shield and energy
  are between 0 and their maxima, cooldowns not negative, units on the map;
- masks: every agent has a legal action, no-op is for the dead alone, and the dead observe zeros;
- actions: what was carried out was legal, and the illegal ones are counted one by one;
- the dead: they stay dead, where they died, and are counted;
- rewards: what the enemies lost, 10 for each kill, 200 for a victory, over a twentieth of the best return;
- ends: won, lost or drawn as the living say, or else ended by the map's limit; never both.

Prints a table and ends with status 1 if a law was broken.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from smix_pz.envs import smac_sim_v0
from smix_pz.envs.battle.maps import MAPS
from smix_pz.envs.battle.players import PLAYERS

NO_OP, STOP = 0, 1
MAP_SIZE = 32.0
# Float32 and float64 sums of the same numbers differ by this much.
TOLERANCE = 1e-6


class LawBroken(AssertionError):
    """Says which law, on which map, in which battle."""


@dataclass
class Tally:
    """What was played and seen on one map."""

    map_name: str
    steps: int = 0
    watched: int = 0
    episodes: int = 0
    won: int = 0
    lost: int = 0
    drawn: int = 0
    timeouts: int = 0
    illegal: int = 0
    state_peak: float = 0.0
    returns: list[float] = field(default_factory=list)
    longest: int = 0
    seconds: float = 0.0


class Watch:
    """Watches single steps of a `BattleVectorEnv` with SMAC's default rewards; not in Gymnasium's mode SAME_STEP.

    Call `before` with the actions, then `env.step`, then `after` with what it returned.

    Raises (in `after`):
        LawBroken: the step broke a law.
    """

    def __init__(self, env: smac_sim_v0.BattleVectorEnv) -> None:
        scenario = env.battles.scenario
        self.env, self.scenario = env, scenario
        kinds = scenario.kinds[scenario.unit_kind]
        self.maxima = {name: kinds[name] for name in ("health", "shield", "energy")}
        enemies = slice(scenario.n_agents, None)
        self.best = float(
            10 * scenario.n_enemies + 200 + kinds["health"][enemies].sum() + kinds["shield"][enemies].sum()
        )
        self.medivac = np.array([unit == "medivac" and scenario.mmm for unit in scenario.unit_types])
        self.timestep = env.battles.options.obs_timestep_number

    def before(self, actions: np.ndarray, over: np.ndarray) -> None:
        """Remember how the battles stand. over: bool [n], those that the step will begin anew, or hold."""
        battles = self.env.battles
        self.units, self.table = battles.units.copy(), battles.battles.copy()
        self.mask, self.illegal = battles.mask.copy(), battles.illegal.copy()
        self.actions, self.played = np.asarray(actions), ~over

    def law(self, holds: np.ndarray | bool, text: str) -> None:
        """Raise unless all of `holds` [n, ...] is true."""
        if not np.all(holds):
            where = np.argwhere(~np.asarray(holds))[:4].tolist()
            raise LawBroken(f"{self.scenario.map.name}: {text}; first at {where}")

    def after(self, seen: dict[str, np.ndarray], rewards: np.ndarray, terminated: np.ndarray, truncated: np.ndarray,
              infos: dict[str, Any]) -> None:  # fmt: skip
        """Check the step."""
        self._numbers(seen, rewards)
        self._masks(seen)
        self._actions()
        self._deaths(infos)
        self._rewards_and_ends(rewards, terminated, truncated, infos)

    def _numbers(self, seen: dict[str, np.ndarray], rewards: np.ndarray) -> None:
        units = self.env.battles.units
        for name in units.dtype.names or ():
            if units.dtype[name].kind == "f":
                self.law(np.isfinite(units[name]), f"a unit's {name} is not finite")
        spaces = self.env.single_observation_space.spaces
        for name, value in seen.items():
            low, high = spaces[name].low, spaces[name].high
            self.law(np.isfinite(value), f"{name} is not finite")
            self.law((value >= low) & (value <= high), f"{name} is outside its space")
        self.law(np.isfinite(rewards), "a reward is not finite")
        for name, most in self.maxima.items():
            self.law((units[name] >= 0.0) & (units[name] <= most + 1e-9), f"{name} is not within 0 and its maximum")
        self.law(units["cooldown"] >= 0.0, "a cooldown is negative")
        for name in ("x", "y"):
            self.law((units[name] >= 0.0) & (units[name] <= MAP_SIZE), f"a unit's {name} is off the map")

    def _masks(self, seen: dict[str, np.ndarray]) -> None:
        mask = seen["action_mask"]
        alive = self.env.battles.units["health"][:, : self.scenario.n_agents] > 0.0
        self.law((mask == 0) | (mask == 1), "a mask is neither 0 nor 1")
        self.law(mask.any(-1), "an agent has no legal action")
        self.law((mask[..., NO_OP] == 1) == ~alive, "no-op is not for exactly the dead")
        self.law((mask[..., STOP] == 1) == alive, "stop is not for exactly the living")
        self.law(~mask[..., 1:].any(-1) | alive, "a dead agent may act")
        dead_rows = seen["obs"][~alive]
        self.law(not (dead_rows[:, :-1] if self.timestep else dead_rows).any(), "a dead agent observes something")

    def _actions(self) -> None:
        battles, played = self.env.battles, self.played
        legal = np.take_along_axis(self.mask, self.actions[..., None], 2)[..., 0] == 1
        done = np.where(battles.last_action >= 0, battles.last_action, 0)
        carried_out = np.take_along_axis(self.mask, done[..., None], 2)[..., 0] == 1
        self.law(carried_out[played], "an illegal action was carried out")
        self.law((battles.last_action == self.actions)[played] | ~legal[played], "a legal action was replaced")
        self.law((battles.illegal - self.illegal)[played] == ~legal[played], "illegal actions are miscounted")

    def _deaths(self, infos: dict[str, Any]) -> None:
        units, agents = self.env.battles.units, self.scenario.n_agents
        gone = (self.units["health"] <= 0.0) & self.played[:, None]
        self.law((units["health"] == 0.0) | ~gone, "a dead unit came back")
        for name in ("x", "y"):
            self.law((units[name] == self.units[name]) | ~gone, "a dead unit was moved")
        dead = units["health"] <= 0.0
        self.law(infos["dead_allies"] == dead[:, :agents].sum(1), "dead allies are miscounted")
        self.law(infos["dead_enemies"] == dead[:, agents:].sum(1), "dead enemies are miscounted")

    def _rewards_and_ends(
        self, rewards: np.ndarray, terminated: np.ndarray, truncated: np.ndarray, infos: dict[str, Any]
    ) -> None:
        agents, played = self.scenario.n_agents, self.played
        now, was = self.env.battles.units, self.units
        alive, lived = now["health"] > 0.0, was["health"] > 0.0
        left = np.where(alive, now["health"] + now["shield"], 0.0)
        had = np.where(lived, was["health"] + was["shield"], 0.0)
        fighters = alive & ~self.medivac
        ours, theirs = alive[:, :agents].sum(1), alive[:, agents:].sum(1)
        lost = ((ours == 0) & (theirs > 0)) | (~fighters[:, :agents].any(1) if self.scenario.mmm else False)
        won = (theirs == 0) & (ours > 0)
        if self.scenario.mmm:
            won |= (theirs == 1) & ~fighters[:, agents:].any(1)
        won &= ~lost
        ended = lost | won | ((ours == 0) & (theirs == 0))
        self.law((terminated == ended)[played], "the battle's end is not what the living say")
        limit = self.scenario.map.limit
        steps = self.table["steps"] + 1
        self.law((self.env.battles.battles["steps"] == steps)[played], "steps are miscounted")
        self.law((steps <= limit)[played], "a battle is longer than its limit")
        self.law((truncated == (~ended & (steps == limit)))[played], "truncated is not what the limit says")
        self.law(~(terminated | truncated) | played, "what was not played has ended")
        self.law((infos["battle_won"] == won)[played], "battle_won is not what the living say")
        damage = (had - left)[:, agents:].sum(1)
        kills = (lived & ~alive)[:, agents:].sum(1)
        paid = (np.abs(damage + 10 * kills) + 200 * won) / (self.best / 20)
        self.law(np.abs(rewards - np.where(played, paid, 0.0)) < TOLERANCE, "the reward is not what the enemies lost")


def play(
    map_name: str,
    steps: int,
    num_envs: int = 64,
    every: int = 1,
    *,
    illegal: float = 0.0,
    focus: float = 0.2,
    seed: int = 0,
    threads: int | None = None,
    **options: Any,
) -> Tally:
    """Play at least so many environment steps on a map and watch every `every`-th one.

    Args:
        illegal: share of actions that are drawn from all, not only from the legal ones.
        focus: share of battles that are played by "focus-fire".

    Raises:
        LawBroken: a law was broken, or a whole battle returned more than 20 without the enemies regenerating.
    """
    env = smac_sim_v0.vector_env(num_envs, map_name=map_name, threads=threads, **options)
    battles, scenario = env.battles, env.battles.scenario
    watch, tally = Watch(env), Tally(map_name)
    rng = np.random.default_rng(seed)
    players = [PLAYERS[name](scenario, num_envs, seed) for name in ("random", "focus-fire")]
    focused = (np.arange(num_envs) < round(focus * num_envs))[:, None]
    enemies = scenario.kinds[scenario.unit_kind[scenario.n_agents :]]
    heals = bool((enemies["shield"] > 0).any() or (enemies["health_regen"] > 0).any() or scenario.mmm)
    seen, _ = env.reset(seed=seed)
    over, returns, calls = np.zeros(num_envs, bool), np.zeros(num_envs), 0
    began = time.perf_counter()
    while tally.steps < steps:
        random, focused_fire = (player.act(battles.units, battles.battles, seen["action_mask"]) for player in players)
        actions = np.where(focused, focused_fire, random)
        if illegal:
            anything = rng.integers(0, env.team_spec.n_actions, actions.shape)
            actions = np.where(rng.random(actions.shape) < illegal, anything, actions)
        watched = calls % every == 0
        if watched:
            watch.before(actions, over)
        seen, rewards, terminated, truncated, infos = env.step(actions)
        if watched:
            watch.after(seen, rewards, terminated, truncated, infos)
            tally.watched += int((~over).sum())
        watch.law(np.isfinite(seen["obs"]), "an observation is not finite")
        watch.law(np.isfinite(seen["state"]), "the state is not finite")
        watch.law(rewards >= 0.0, "a reward is negative")
        returns = np.where(over, 0.0, returns + rewards)
        tally.steps += int((~over).sum())
        over = terminated | truncated
        if over.any():
            result, won = battles.battles["result"][over], infos["battle_won"][over]
            tally.episodes += len(result)
            tally.won += int(won.sum())
            tally.lost += int((result == 2).sum())
            tally.drawn += int((result == 3).sum())
            tally.timeouts += int(truncated.sum())
            tally.illegal += int(infos["illegal_actions"][over].sum())
            tally.longest = max(tally.longest, int(battles.battles["steps"][over].max()))
            tally.returns += returns[over].tolist()
            if not heals:  # a victory pays exactly 20, anything else less
                watch.law(np.abs(returns[over & infos["battle_won"]] - 20.0) < TOLERANCE, "a victory did not return 20")
                watch.law(returns[over & ~infos["battle_won"]] < 20.0, "20 returned without a victory")
        tally.state_peak = max(tally.state_peak, float(np.abs(seen["state"]).max()))
        calls += 1
    tally.seconds = time.perf_counter() - began
    env.close()
    return tally


def main() -> None:
    """Play, and print what was played."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--maps", nargs="+", default=list(MAPS), choices=list(MAPS), metavar="MAP")
    parser.add_argument("--steps", type=int, default=1_000_000, help="environment steps on each map")
    parser.add_argument("--num-envs", type=int, default=128)
    parser.add_argument("--every", type=int, default=10, help="watch one step in so many")
    parser.add_argument("--illegal", type=float, default=0.02, help="share of actions that may be illegal")
    parser.add_argument("--focus", type=float, default=0.2, help="share of battles played by focus-fire")
    parser.add_argument("--preset", default="liberty")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args()
    console = Console(width=190)
    table = Table(title=f"random play, preset {given.preset}, seed {given.seed}, one step in {given.every} watched")
    headings = ("steps", "watched", "battles", "won", "lost", "drawn", "timeouts", "longest", "illegal", "mean return")
    for heading in ("map", *headings, "largest state", "seconds", "law broken"):
        table.add_column(
            heading, justify="left" if heading in ("map", "law broken") else "right", no_wrap=heading == "map"
        )
    broken = 0
    for map_name in given.maps:
        try:
            tally = play(
                map_name, given.steps, given.num_envs, given.every, illegal=given.illegal, focus=given.focus,
                seed=given.seed, threads=given.threads, preset=given.preset,
            )  # fmt: skip
        except LawBroken as error:
            broken += 1
            table.add_row(map_name, *[""] * (len(headings) + 2), str(error))
            console.print(f"[red]{error}", highlight=False)
            continue
        counts = (tally.steps, tally.watched, tally.episodes, tally.won, tally.lost, tally.drawn, tally.timeouts)
        numbers = [f"{count:,}" for count in (*counts, tally.longest, tally.illegal)]
        mean = float(np.mean(tally.returns)) if tally.returns else float("nan")
        row = [map_name, *numbers, f"{mean:.3f}", f"{tally.state_peak:.3f}", f"{tally.seconds:.0f}", ""]
        table.add_row(*row)
        console.print(" ".join(row), highlight=False, soft_wrap=True)  # one line for each map as soon as it is known
    console.print(table)
    raise SystemExit(1 if broken else 0)


if __name__ == "__main__":
    main()
