"""Evidence that the engine plays the rules it states, and how near its battles come to SMAC's.

`python -m smix_pz.envs.battle.evidence` prints the Markdown tables of docs/smac-sim.md:

* duels: how long each weapon takes to kill each unit, expected by a formula that knows nothing of the engine, and
  measured in thousands of duels;
* mirrored: how often either side wins where both are equal;
* returns: what won battles return, beside what the enemies' lives, read from the arrays, say they should;
* players: how often scripted players win each map, and SMAC's own heuristic beside its published win rates;
* kiting: what stepping back between shots wins where standing still wins nothing.

`--only`, `--maps` and `--episodes` ask for less or more of it.

A duel: an attacker that acts on its own stands in reach of a victim that does nothing. The attacker begins in loop 1.
With p = period, d = damage point, h = hit delay, g = gap between the hits of an attack (all in loops) and U the random
delay, uniform on [-1, 2):

* an attack that begins in loop t is launched in loop t + ceil(d); its hits s = 0, 1, ... come ceil(h + s g) loops after
  that;
* the period runs from one attack's beginning to the next one's: the weapon cools down for p - ceil(d) + U loops after a
  launch, rounded up, and the next launch is ceil(d) loops later. From launch to launch these are ceil(p + U) loops.
  p + U is uniform over an interval of length 3, an integer, so that its distance to the next integer is uniform on
  [0, 1), and the mean is p + 1/2 + 1/2.

The number of hits is fixed where the victim does not regenerate. Zerg units do, by r per loop, so that a victim with H
health, hit for w at a time, dies of the first hit n with n w - r (loops since the first hit) >= H. The loops are a sum
of independent intervals between launches, whose distribution is computed by convolution. (Shields begin to regenerate
after 160 quiet loops, and no weapon rests that long.)

Source: SMAC specification, sections 6 and 9 (weapon timing).
"""

from __future__ import annotations

import argparse
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numba
import numpy as np

from smix_pz.envs import smac_sim_v0
from smix_pz.envs.battle import engine
from smix_pz.envs.battle.maps import MAPS
from smix_pz.envs.battle.micro import MICRO
from smix_pz.envs.battle.players import PLAYERS
from smix_pz.envs.battle.scenario import Scenario, make_scenario
from smix_pz.envs.battle.state import (
    BATTLE,
    ORDER_ATTACK_MOVE,
    RULES,
    STRUCTURE,
    UNIT,
    WEAPON_BLAST,
    WEAPON_NONE,
)
from smix_pz.envs.battle.terrain import terrain
from smix_pz.envs.battle.units import UNITS, kind_table
from smix_pz.envs.checks import check_choice, check_int
from smix_pz.intervals import wilson_interval
from smix_pz.version import __version__

__all__ = [
    "MIRRORED_MAPS",
    "PAPER_HEURISTIC",
    "SCRIPTED",
    "Duels",
    "Played",
    "expected_interval",
    "expected_time_to_kill",
    "fresh_units",
    "hit_damage",
    "hits_to_kill",
    "interval_distribution",
    "markdown_table",
    "measure_duels",
    "measure_intervals",
    "mirrored_table",
    "mirrored_win_rates",
    "play_scripted",
    "players_table",
    "returns_table",
]

# The random delay of a weapon's cooldown, in loops, and the least damage of a hit that armour leaves (section 6.2).
DELAY = (-1.0, 2.0)
LEAST_DAMAGE = 0.5

# Maps on which the two armies are equal and the ground is symmetric.
MIRRORED_MAPS = ("3m", "8m", "25m", "2s3z", "3s5z", "1c3s5z", "MMM", "bane_vs_bane")

# Who plays: the scripted players, and SMAC's heuristic as its option heuristic_ai plays it (orders without masks).
RAW_HEURISTIC = "raw heuristic"
SCRIPTED = (*PLAYERS, RAW_HEURISTIC)

# The maps whose point is to shoot and step back, and the one where two units take turns.
KITING_MAPS = ("2m_vs_1z", "3s_vs_3z", "3s_vs_4z", "3s_vs_5z", "6h_vs_8z")
ALTERNATING_MAP = "2s_vs_1sc"

# Win rates in percent of the heuristic in table 2 of the SMAC paper (Samvelyan et al., 2019; game version 4.6.2).
PAPER_HEURISTIC: Mapping[str, int] = MappingProxyType(
    {
        "2s3z": 90,
        "1c3s5z": 81,
        "bane_vs_bane": 43,
        "3s5z": 42,
        "10m_vs_11m": 12,
        "2s_vs_1sc": 0,
        "2c_vs_64zg": 0,
        "5m_vs_6m": 0,
        "3s_vs_5z": 0,
        "3s5z_vs_3s6z": 0,
        "6h_vs_8z": 0,
        "27m_vs_30m": 0,
        "MMM2": 0,
        "corridor": 0,
    }
)

SECTIONS = ("duels", "mirrored", "returns", "players", "kiting", "alternating")

CENTRE = 16.0
MANY_LOOPS = 4000  # a duel is over by then
BATTLE_LOOPS = 1500  # and a battle decided, if it ever will be


def _reaches(kind: np.void, body: np.void) -> bool:
    """Whether a weapon can hit a body."""
    if kind["weapon"] == WEAPON_NONE:
        return False
    return bool((body["flying"] and kind["hits_air"]) or (body["ground_target"] and kind["hits_ground"]))


def hit_damage(kind: np.void, body: np.void, shield: float) -> tuple[float, float]:
    """What one hit of `kind` (KIND) takes from a `body` (KIND) with `shield` left: (of its shield, of its health).

    Bonuses count against shields too; shields absorb first and have no armour; what is left loses the armour, but not
    below 0.5 (SMAC specification, section 6.2).
    """
    amount = float(kind["damage"])
    if kind["structure_damage"] > 0 and body["attributes"] & STRUCTURE:
        amount = float(kind["structure_damage"])
    elif body["attributes"] & kind["bonus_against"]:
        amount += float(kind["bonus"])
    absorbed = min(shield, amount)
    left = amount - absorbed
    return absorbed, max(LEAST_DAMAGE, left - float(body["armor"])) if left > 0 else 0.0


def hits_to_kill(kind: np.void, body: np.void) -> int | None:
    """How many hits of `kind` a fresh `body` takes until it is dead, regeneration neglected.

    None if it cannot be hit, or if the attacker dies with its attack and one is not enough.
    """
    if not _reaches(kind, body):
        return None
    health, shield, hits = float(body["health"]), float(body["shield"]), 0
    while health > 0:
        absorbed, wound = hit_damage(kind, body, shield)
        shield -= absorbed
        health -= wound
        hits += 1
    return None if kind["weapon"] == WEAPON_BLAST and hits > kind["hits"] else hits


def expected_interval(kind: np.void) -> float:
    """Mean loops from one launch of an attack to the next: p + 1."""
    return float(kind["period"]) + 1.0


def interval_distribution(kind: np.void) -> tuple[int, np.ndarray]:
    """Loops from one launch to the next: (fewest, probabilities of fewest, fewest + 1, ...)."""
    low, high = float(kind["period"]) + DELAY[0], float(kind["period"]) + DELAY[1]
    first, last = math.ceil(low), math.ceil(high)
    # ceil(C) = n if and only if n - 1 < C <= n.
    chances = [max(0.0, min(high, n) - max(low, n - 1)) / (high - low) for n in range(first, last + 1)]
    return first, np.array(chances)


def expected_time_to_kill(kind: np.void, body: np.void) -> float | None:
    """Mean loops that one attacker of `kind` in reach takes to kill one `body`, life regeneration included.

    The killing attack's number N is a stopping time of the intervals between launches, so by Wald's identity the mean
    loop of its launch is that of the first one plus E[N - 1] times the mean interval.

    Returns:
        the loop (the first is 1) in which the victim dies; None where `hits_to_kill` says so.
    """
    fixed = hits_to_kill(kind, body)
    if fixed is None:
        return None
    per_attack, gap, delay = int(kind["hits"]), float(kind["hit_gap"]), float(kind["hit_delay"])
    after = [math.ceil(delay + s * gap) for s in range(per_attack)]  # loops from a launch to its hits
    first_launch = 1 + math.ceil(kind["damage_point"])
    regeneration = float(body["health_regen"])
    if regeneration == 0.0 or fixed == 1:
        attacks, sub = divmod(fixed - 1, per_attack)
        return first_launch + attacks * expected_interval(kind) + after[sub]
    if body["shield"] > 0:
        raise ValueError("a body that has a shield and regenerates life is not covered by the closed form")
    wound = hit_damage(kind, body, 0.0)[1]
    fewest, chances = interval_distribution(kind)
    lowest, sums = 0, np.ones(1)  # distribution of the loops from the first launch to the present one
    survives = 1.0  # probability that no hit so far has killed
    mean = float(first_launch)
    attack = 0
    while survives > 1e-12:
        loops = lowest + np.arange(len(sums))
        for sub in range(per_attack):
            count = attack * per_attack + sub + 1
            passed = loops + after[sub] - after[0]  # since the first hit, before which the victim was whole
            alive = float(sums[count * wound - regeneration * passed < body["health"] - 1e-9].sum())
            mean += (survives - alive) * after[sub]
            survives = alive
        mean += survives * expected_interval(kind)  # there is another attack if this one has not killed
        lowest += fewest
        sums = np.convolve(sums, chances)
        attack += 1
    return mean


def fresh_units(
    kinds: np.ndarray,
    unit_kind: Sequence[int] | np.ndarray,
    places: Sequence[tuple[float, float]] | np.ndarray,
    allies: int,
    passive: Sequence[bool],
    count: int = 1,
) -> np.ndarray:
    """UNIT [count, U]: `count` times the same battle, units at `places` as `engine.spawn` leaves them, without orders.

    Args:
        kinds: KIND table. unit_kind: [U], rows of it. places: [U, 2]. allies: how many units are allies.
        passive: whether allies and enemies act on orders only.
    """
    rows = np.asarray(unit_kind, np.int32)
    where = np.asarray(places, np.float64)
    units = np.zeros((count, len(rows)), UNIT)
    units["kind"] = rows
    units["owner"] = np.arange(len(rows)) >= allies
    units["passive"] = np.asarray(passive, np.int32)[units["owner"]]
    for name in ("order_target", "target", "strike_target", "attacker"):
        units[name] = -1
    for name in ("x", "anchor_x", "order_x"):
        units[name] = where[:, 0]
    for name in ("y", "anchor_y", "order_y"):
        units[name] = where[:, 1]
    units["health"] = units["seen_health"] = kinds["health"][rows]
    units["shield"] = units["seen_shield"] = kinds["shield"][rows]
    units["energy"] = kinds["energy_start"][rows]
    units["quiet"] = engine.FAR_AWAY
    return units


def _streams(count: int, seed: int) -> np.ndarray:
    """BATTLE [count] with a random stream each."""
    battles = np.zeros(count, BATTLE)
    battles["random"] = np.random.SeedSequence(seed).generate_state(count, np.uint64)
    return battles


@dataclass(frozen=True)
class Duels:
    """Attackers against victims. `expected` and `hits` are of the closed forms, `mean` and `error` were measured.

    Attributes:
        attackers, victims: [P], the pairs that can end in the victim's death.
        hits: int [P], hits to kill without regeneration.
        expected: float [P], loops. mean: float [P], loops. error: float [P], standard error of `mean`.
        episodes: duels of each pair.
    """

    attackers: tuple[str, ...]
    victims: tuple[str, ...]
    hits: np.ndarray
    expected: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    episodes: int


def measure_duels(preset: str = "liberty", episodes: int = 200, seed: int = 0) -> Duels:
    """Play `episodes` duels of every pair of unit types in the engine and set them beside the closed form.

    The attacker stands half its range away, edge to edge. Both are alone on open ground.

    Raises:
        ValueError: unknown preset, fewer than 2 episodes. TypeError: episodes is not an integer.
    """
    check_choice("preset of unit statistics", preset, UNITS)
    check_int("episodes (duels of a pair)", episodes, 2)
    names = tuple(UNITS[preset])
    kinds = kind_table(names, preset)
    pairs = [(a, v) for a in range(len(names)) for v in range(len(names)) if hits_to_kill(kinds[a], kinds[v])]
    attacker = np.repeat([a for a, _ in pairs], episodes)
    victim = np.repeat([v for _, v in pairs], episodes)
    units = fresh_units(kinds, [0, 0], [(CENTRE, CENTRE)] * 2, 1, (False, True), len(attacker))
    apart = kinds["radius"][attacker] + kinds["radius"][victim] + 0.5 * kinds["range"][attacker]
    for column, rows in enumerate((attacker, victim)):
        units["kind"][:, column] = rows
        for field in ("health", "shield"):
            units[field][:, column] = kinds[field][rows]
    units["x"][:, 1] += apart
    battles = _streams(len(units), seed)
    ground = terrain("open")
    while (active := units["health"][:, 1] > 0).any():
        if battles["loop"].max() > MANY_LOOPS:
            raise RuntimeError(f"a duel has not ended within {MANY_LOOPS} loops")
        engine.advance(
            units, battles, kinds, 1, ground.pathable, ground.waypoints, ground.margin, 1, active, 0, len(units)
        )
    loops = battles["loop"].reshape(len(pairs), episodes)
    return Duels(
        tuple(names[a] for a, _ in pairs),
        tuple(names[v] for _, v in pairs),
        np.array([hits_to_kill(kinds[a], kinds[v]) for a, v in pairs]),
        np.array([expected_time_to_kill(kinds[a], kinds[v]) for a, v in pairs]),
        loops.mean(1),
        loops.std(1, ddof=1) / math.sqrt(episodes),
        episodes,
    )


def measure_intervals(names: Iterable[str], preset: str = "liberty", attacks: int = 2000, seed: int = 0) -> np.ndarray:
    """Loops from the first to the second launch, int [len(names), attacks], as the engine plays them.

    Each attacker shoots at a marine that cannot die; banelings have no second attack and are refused.

    Raises:
        ValueError: unknown unit or preset, or a unit that cannot attack twice.
    """
    wanted = list(names)
    kinds = kind_table([*wanted, "marine"], preset)
    once = [name for name, kind in zip(wanted, kinds["weapon"], strict=False) if kind in (WEAPON_NONE, WEAPON_BLAST)]
    if once:
        raise ValueError(f"{', '.join(once)}: no weapon that attacks twice")
    kinds["health"][-1] = 1e6
    attacker = np.repeat(np.arange(len(wanted)), attacks)
    units = fresh_units(kinds, [0, len(wanted)], [(CENTRE, CENTRE)] * 2, 1, (False, True), len(attacker))
    units["kind"][:, 0] = attacker
    units["health"][:, 0] = kinds["health"][attacker]
    units["x"][:, 1] += kinds["radius"][attacker] + kinds["radius"][-1] + 0.5 * kinds["range"][attacker]
    battles = _streams(len(units), seed)
    ground = terrain("open")
    launches = np.zeros((2, len(units)), np.int64)
    active = np.ones(len(units), bool)
    while active.any():
        before = units["cooldown"][:, 0].copy()
        engine.advance(
            units, battles, kinds, 1, ground.pathable, ground.waypoints, ground.margin, 1, active, 0, len(units)
        )
        launched = active & (units["cooldown"][:, 0] > before)  # a cooldown only rises when an attack leaves
        first = launched & (launches[0] == 0)
        launches[0][first] = battles["loop"][first]
        launches[1][launched & ~first] = battles["loop"][launched & ~first]
        active &= launches[1] == 0
    return (launches[1] - launches[0]).reshape(len(wanted), attacks)


def _fighters(scenario: Scenario) -> np.ndarray:
    """Which units carry weapons, bool [U]."""
    return np.asarray(scenario.kinds["weapon"][scenario.unit_kind] != WEAPON_NONE)


def mirrored_win_rates(
    maps: Sequence[str] = MIRRORED_MAPS,
    episodes: int = 2000,
    seed: int = 0,
    *,
    preset: str = "liberty",
) -> dict[str, tuple[int, int, int]]:
    """Battles of equal armies that both attack-move to each other's start: (ally wins, enemy wins, draws) of each map.

    A side has lost when none of its armed units lives. Battles that are undecided after 1500 loops count as draws.

    Args:
        maps: of `MIRRORED_MAPS`. episodes: battles of each map.

    Raises:
        ValueError: a map that is not mirrored. TypeError or ValueError: episodes is not an integer of at least 1.
    """
    check_int("episodes (battles of a map)", episodes, 1)
    results = {}
    for name in maps:
        check_choice("mirrored map", name, MIRRORED_MAPS)
        scenario = make_scenario(name, preset)
        agents, ground = scenario.n_agents, scenario.terrain
        units = np.zeros((episodes, scenario.n_units), UNIT)
        battles = _streams(episodes, seed)
        active = np.ones(episodes, bool)
        goal = np.array([scenario.map.order.points[0]] * 2, np.float64)
        engine.spawn(
            units,
            battles,
            scenario.unit_kind,
            scenario.kinds,
            agents,
            np.concatenate([scenario.ally_spawn, scenario.enemy_spawn]),
            scenario.created,
            ORDER_ATTACK_MOVE,
            goal,
            np.zeros(2, np.int32),
            0.1,
            ground.pathable,
            ground.margin,
            active,
            0,
            episodes,
        )
        units["order"][:, :agents] = ORDER_ATTACK_MOVE
        units["order_x"][:, :agents] = 2 * CENTRE - goal[0, 0]
        units["order_y"][:, :agents] = 2 * CENTRE - goal[0, 1]
        armed = _fighters(scenario)
        while active.any() and battles["loop"].max() < BATTLE_LOOPS:
            engine.advance(
                units,
                battles,
                scenario.kinds,
                agents,
                ground.pathable,
                ground.waypoints,
                ground.margin,
                1,
                active,
                0,
                episodes,
            )
            living = (units["health"] > 0) & armed
            active = living[:, :agents].any(1) & living[:, agents:].any(1)
        ally, enemy = living[:, :agents].any(1), living[:, agents:].any(1)
        won, lost = int((ally & ~enemy).sum()), int((enemy & ~ally).sum())
        results[name] = (won, lost, episodes - won - lost)
    return results


def markdown_table(duels: Duels) -> str:
    """Rows attackers, columns victims: "hits: expected / measured" loops to kill, "-" where there is no kill.

    The hits are those without regeneration, the loops those with it.
    """
    columns = tuple(dict.fromkeys(duels.victims))
    lines = [
        "| weapon | " + " | ".join(columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    for attacker in dict.fromkeys(duels.attackers):
        cells = {
            victim: f"{hits}: {expected:.1f} / {mean:.1f}"
            for who, victim, hits, expected, mean in zip(
                duels.attackers, duels.victims, duels.hits, duels.expected, duels.mean, strict=True
            )
            if who == attacker
        }
        lines.append(f"| {attacker} | " + " | ".join(cells.get(column, "-") for column in columns) + " |")
    return "\n".join(lines)


def mirrored_table(results: Mapping[str, tuple[int, int, int]]) -> str:
    """Rows maps: wins of either side, draws, and the ally's share of the decided battles with its 95% interval."""
    lines = ["| map | ally wins | enemy wins | draws | ally's share of the decided |", "| --- |" + " --: |" * 4]
    for name, (won, lost, drawn) in results.items():
        decided = won + lost
        share = _percent(won, decided) if decided else "-"
        lines.append(f"| {name} | {won} | {lost} | {drawn} | {share} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Played:
    """Episodes of a scripted player on a map; arrays [episodes].

    Attributes:
        won: bool. returns: as the environment paid them. lengths: int, steps.
        expected: the returns that follow from the enemies' health and shields after each step (see `play_scripted`).
        gained: bool, whether in some step the enemies gained more life than they lost and were worth dead.
    """

    map_name: str
    player: str
    won: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray
    expected: np.ndarray
    gained: np.ndarray


def play_scripted(player: str, map_name: str, episodes: int = 100, seed: int = 0, *, preset: str = "liberty") -> Played:
    """Let a scripted player play a map of `smac_sim_v0` with SMAC's default options.

    The rewards are SMAC's |lost + 10 died| of each step and 200 for a win, over k = (10 E + 200 + all life) / 20. What
    the enemies lose in all steps adds up to what they lack at the end, whatever came back in between, so that

        k return = (life at the start - life at the end) + 10 dead + 200 won + 2 sum of max(0, -(lost + 10 died)):

    20 for a win that leaves nobody, more where in some step more came back than went, less where a medivac remains.

    Raises:
        ValueError: an unknown player, map or preset; fewer than 1 episode.
    """
    check_choice("player", player, (*SCRIPTED, *MICRO))
    check_int("episodes", episodes, 1)
    raw = player == RAW_HEURISTIC
    vector = smac_sim_v0.vector_env(
        episodes, map_name=map_name, preset=preset, autoreset_mode="Disabled", heuristic_ai=raw, copy=False
    )
    try:
        battles = vector.battles
        scenario = battles.scenario
        scripted = PLAYERS[player](scenario, episodes, seed) if player in PLAYERS else None
        script = MICRO[player](episodes) if player in MICRO else None
        observation, _ = vector.reset(seed=seed)
        foes = battles.units[:, scenario.n_agents :]
        life = (foes["health"] + foes["shield"]).sum(1)
        first, dead = life, np.zeros(episodes, np.int64)
        running, won = np.ones(episodes, bool), np.zeros(episodes, bool)
        returns, twice, lengths = np.zeros(episodes), np.zeros(episodes), np.zeros(episodes, np.int64)
        while running.any():
            mask = observation["action_mask"]
            if script is not None:
                actions = script.act(battles.units, mask)
            else:
                # With heuristic_ai SMAC plays whatever it is told: stop, or no-op of a dead agent.
                actions = 1 - mask[:, :, 0] if scripted is None else scripted.act(battles.units, battles.battles, mask)
            observation, rewards, terminated, truncated, infos = vector.step(actions)
            returns[running] += rewards[running]
            lengths += running
            won |= running & infos["battle_won"]
            before, dead_before = life, dead
            life, dead = (foes["health"] + foes["shield"]).sum(1), (foes["health"] <= 0).sum(1)
            # Sums of many numbers are rounded: a step in which nothing happened is no gain.
            gain = life - before - 10 * (dead - dead_before)
            twice += np.where(gain > 1e-9, gain, 0.0)
            running &= ~(terminated | truncated)
    finally:
        vector.close()
    worth = 10 * scenario.n_enemies + 200 + float(first[0])
    expected = 20 * (first - life + 10 * dead + 200 * won + 2 * twice) / worth
    return Played(map_name, player, won, returns, lengths, expected, twice > 0)


def returns_table(played: Iterable[Played]) -> str:
    """Rows maps: returns of the won battles without and with a step in which the enemies gained, over all players."""
    lines = [
        "| map | won, enemies never gained | their returns | won, enemies gained | their returns "
        "| greatest difference from the formula, all battles |",
        "| --- |" + " --: |" * 5,
    ]
    by_map: dict[str, list[Played]] = {}
    for one in played:
        by_map.setdefault(one.map_name, []).append(one)
    for name, group in by_map.items():
        won, gained = (np.concatenate([getattr(one, field) for one in group]) for field in ("won", "gained"))
        returns = np.concatenate([one.returns for one in group])
        off = np.abs(returns - np.concatenate([one.expected for one in group])).max()
        cells = [cell for which in (won & ~gained, won & gained) for cell in (which.sum(), _span(returns[which]))]
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + f" | {off:.0e} |")
    return "\n".join(lines)


def _span(values: np.ndarray) -> str:
    """ "20.0000" or "18.1000 to 19.2000"."""
    if not len(values):
        return "-"
    low, high = f"{values.min():.4f}", f"{values.max():.4f}"
    return low if low == high else f"{low} to {high}"


def _percent(wins: int, episodes: int) -> str:
    low, high = wilson_interval(wins, episodes)
    return f"{100 * wins / episodes:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def players_table(played: Iterable[Played]) -> str:
    """Rows maps, columns players: won in percent with its 95% interval; last the paper's heuristic."""
    cells: dict[str, dict[str, str]] = {}
    players: dict[str, None] = {}
    for one in played:
        players[one.player] = None
        cells.setdefault(one.map_name, {})[one.player] = _percent(int(one.won.sum()), len(one.won))
    lines = ["| map | " + " | ".join(players) + " | paper |", "| --- |" + " --: |" * (len(players) + 1)]
    for name, row in cells.items():
        paper = PAPER_HEURISTIC.get(name, "-")
        lines.append(f"| {name} | " + " | ".join(row.get(player, "-") for player in players) + f" | {paper} |")
    return "\n".join(lines)


def _kiting(episodes: int, seed: int, preset: str, maps: Sequence[str]) -> str:
    """The table of the section "kiting": "nearest", which stands and shoots, beside the kiter."""
    lines = ["| map | nearest | kiter | kiter's mean return |", "| --- |" + " --: |" * 3]
    for name in maps:
        stands, kites = (play_scripted(player, name, episodes, seed, preset=preset) for player in ("nearest", "kiter"))
        won = " | ".join(_percent(int(one.won.sum()), episodes) for one in (stands, kites))
        lines.append(f"| {name} | {won} | {kites.returns.mean():.2f} |")
    return "\n".join(lines)


def _alternating(episodes: int, seed: int) -> str:
    """The table of the section "alternating": 2s_vs_1sc by both presets, standing still and taking turns."""
    lines = ["| preset | player | won | mean return | mean length |", "| --- | --- |" + " --: |" * 3]
    for preset in UNITS:
        for player in ("focus-fire", "alternating", "resting"):
            one = play_scripted(player, ALTERNATING_MAP, episodes, seed, preset=preset)
            numbers = f"{one.returns.mean():.2f} | {one.lengths.mean():.0f}"
            lines.append(f"| {preset} | {player} | {_percent(int(one.won.sum()), episodes)} | {numbers} |")
    return "\n".join(lines)


def _processor() -> str:
    """The processor's name where Linux tells it, else the machine's type."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m smix_pz.envs.battle.evidence", description="Print the tables.")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections (default: all)")
    parser.add_argument("--maps", nargs="+", choices=tuple(MAPS), default=tuple(MAPS), help="default: all")
    parser.add_argument("--players", nargs="+", choices=SCRIPTED, default=SCRIPTED, help="default: all")
    parser.add_argument("--episodes", type=int, default=100, help="of each player on each map")
    parser.add_argument("--battles", type=int, default=400, help="mirrored battles of each map")
    parser.add_argument("--duels", type=int, default=200, help="of each pair")
    parser.add_argument("--preset", choices=tuple(UNITS), default="liberty")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    print(
        f"smix_pz {__version__}, rules {RULES}, preset {chosen.preset}, seed {chosen.seed}; Python "
        f"{platform.python_version()}, NumPy {np.__version__}, Numba {numba.__version__}, {_processor()}."
    )
    if "duels" in chosen.only:
        duels = measure_duels(chosen.preset, chosen.duels, chosen.seed)
        worst = np.abs(duels.mean - duels.expected) / np.maximum(duels.error, 1e-9)
        print(
            f"\n## Time to kill\n\n{duels.episodes} duels of each pair. Hits to kill without regeneration: mean loops "
            f"with it, closed form / measured\n\n{markdown_table(duels)}\n\n"
            f"Greatest difference: {worst.max():.1f} standard errors of {len(worst)} pairs."
        )
    mirrored = [name for name in MIRRORED_MAPS if name in chosen.maps]
    if "mirrored" in chosen.only and mirrored:
        results = mirrored_win_rates(mirrored, chosen.battles, chosen.seed, preset=chosen.preset)
        print(f"\n## Equal armies\n\n{chosen.battles} battles of each map.\n\n{mirrored_table(results)}")
    if {"returns", "players"} & set(chosen.only):
        played = [
            play_scripted(player, name, chosen.episodes, chosen.seed, preset=chosen.preset)
            for name in chosen.maps
            for player in chosen.players
        ]
        if "returns" in chosen.only:
            print(f"\n## Returns of won battles\n\n{returns_table(played)}")
        if "players" in chosen.only:
            print(
                f"\n## Scripted players\n\nBattles won in percent [95% interval], {chosen.episodes} episodes of each "
                f"player on each map.\n\n{players_table(played)}"
            )
    kited = [name for name in KITING_MAPS if name in chosen.maps]
    if "kiting" in chosen.only and kited:
        table = _kiting(chosen.episodes, chosen.seed, chosen.preset, kited)
        print(f"\n## Kiting\n\nBattles won in percent [95% interval], {chosen.episodes} episodes.\n\n{table}")
    if "alternating" in chosen.only and ALTERNATING_MAP in chosen.maps:
        table = _alternating(chosen.episodes, chosen.seed)
        print(
            f"\n## Alternating fire\n\n{ALTERNATING_MAP} by both presets. Battles won in percent [95% interval], "
            f"{chosen.episodes} episodes.\n\n{table}"
        )


if __name__ == "__main__":
    main()
