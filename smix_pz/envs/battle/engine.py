"""The battle engine: state in, state out, compiled.

`spawn` puts battles at their start, `advance` plays game loops. Both change structured arrays (`battle.state`) in
place for the battles [lo, hi) of a batch, know nothing of SMAC's actions or observations, and give every battle the
same course wherever it stands in a batch and whoever computes it.

One loop, in this order (SMAC specification, sections 6, 8 and 9; rules r1):

1. cooldowns fall; shields, health and energy regenerate;
2. every unit decides: an ordered target, or, if it is not passive, a target of its own choosing;
3. units in reach of their target begin, continue or launch attacks, or heal; the others choose a step;
4. launched attacks strike; all strikes of a loop happen at once, so two units can kill each other;
5. deaths (and the blasts that they cause);
6. steps are taken, overlapping units are pushed apart, and nobody ends inside a wall.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from smix_pz.envs.battle.state import (
    BIOLOGICAL,
    LAYER_GROUND,
    MAP_SIZE,
    ORDER_ATTACK,
    ORDER_ATTACK_MOVE,
    ORDER_HEAL,
    ORDER_HUNT,
    ORDER_MOVE,
    ORDER_NONE,
    STRUCTURE,
    WEAPON_BLAST,
    WEAPON_NONE,
    WEAPON_SWEEP,
)

# The rules' own numbers. Units' numbers are in `battle.units`.
RANDOM_DELAY = (-1.0, 2.0)  # loops added to every cooldown, uniformly
MINIMUM_DAMAGE = 0.5
THINK_EVERY = 4  # loops between two looks for a better target
HELP_RADIUS = 4.0  # a unit answers attacks on friends within this distance (centres)
HELP_MEMORY = 32.0  # for so many loops
BARRED_SHARE = 0.8  # a unit is barred in a loop in which it gets less far than this share of its step
BARRED_LOOPS = 2  # after so many such loops it walks around whoever is in the way, and may choose a nearer target
DETOUR_LOOPS = 8  # so long
DETOUR_COSINE, DETOUR_SINE = 0.25881904510252074, 0.9659258262890683  # turned by 75 degrees from its goal
LEASH = 21.0  # a chase that leads further than this from where it began is given up
LEASH_RESET = 5.0  # who gave up goes back, ignoring enemies, until it is this near to where the chase began
ARRIVED = 0.25  # an attack-move ends this close to its point
AT_POINT = 1e-6  # a move ends this close to its point
SEPARATION_PASSES = 2
SPAWN_PASSES = 8
SPAWN_GAP = 0.05  # between neighbours of the grid in which units are created
FAR_AWAY = 1e9

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_TO_UNIT = 1.0 / 9007199254740992.0
_index = np.uint64  # indices are unsigned, so that the compiler need not provide for negative ones

# Room to work in. Rows of records, because each array that the long loop uses costs it a register.
_WORK = np.dtype(
    [  # one row for each unit
        ("x", np.float64),  # position at the loop's beginning
        ("y", np.float64),
        ("body", np.float64),  # radius for weapon ranges
        ("alive", np.int32),
        ("goal", np.int32),  # whom it decided on, or -1
        ("hits", np.int32),  # bits: its weapon reaches the ground (1), the air (2)
        ("hit_by", np.int32),  # bits: which weapons reach it
        ("heals", np.int32),  # 1: a healer
        ("owner", np.int32),
        ("passive", np.int32),
        ("regains", np.int32),  # 1: has shields, energy or health that grow
        ("step_x", np.float64),  # the step that it wants to take
        ("step_y", np.float64),
        ("radius", np.float64),  # for collisions
        ("firm", np.int32),  # 0 moves, 1 stands, 2 holds
        ("fresh", np.int32),  # 1: launched an attack in this loop; 2: its blast is done
        ("layer", np.int32),
        ("kind", np.uint32),
        ("scan", np.float64),  # scan_range + body
        ("unused", np.float64, 3),  # a row is 128 bytes, so that rows are found by shifts
    ],
    align=True,
)
_SLOT = np.dtype(
    [  # row a: the a-th living unit from west to east
        ("x", np.float64),
        ("y", np.float64),
        ("radius", np.float64),
        ("push_x", np.float64),
        ("push_y", np.float64),
        ("unit", np.uint32),
        ("code", np.int32),  # firm + 4 * owner + 8 * layer
        ("living", np.uint32),  # something else: the a-th living unit by number
        ("alarmed", np.uint32),  # and this: units that were damaged of late; allies from row 0, enemies from row A
        ("unused", np.float64),
    ],
    align=True,
)


@njit(cache=True, nogil=True, error_model="numpy")
def _uniform(battle):  # type: ignore[no-untyped-def]
    """Next number in [0, 1) of the battle's stream (SplitMix64)."""
    state = battle["random"] + _GOLDEN
    battle["random"] = state
    z = (state ^ (state >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    z = z ^ (z >> _S31)
    return np.float64(z >> _S11) * _TO_UNIT


@njit(cache=True, nogil=True, error_model="numpy")
def _reaches(kind, other):  # type: ignore[no-untyped-def]
    """Whether a unit of `kind` has a weapon for a unit of kind `other`."""
    return kind["weapon"] != WEAPON_NONE and (
        (other["flying"] == 1 and kind["hits_air"] == 1) or (other["ground_target"] == 1 and kind["hits_ground"] == 1)
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _strike(kind, body, at, attacker, distance):  # type: ignore[no-untyped-def]
    """One hit on the unit `at`: bonus, then shield, then armour (SMAC specification, section 6.2).

    kind, body: KIND of attacker and victim. attacker: its number. distance: between them, squared.
    """
    amount = kind["damage"]
    if kind["structure_damage"] > 0.0 and body["attributes"] & STRUCTURE:
        amount = kind["structure_damage"]
    elif body["attributes"] & kind["bonus_against"]:
        amount += kind["bonus"]
    absorbed = min(at["shield"], amount)
    at["shield"] -= absorbed
    rest = amount - absorbed
    if rest > 0.0:
        at["health"] -= max(MINIMUM_DAMAGE, rest - body["armor"])
    # Of several that hit in one loop, the nearest is remembered: who comes last is a matter of numbering.
    if at["quiet"] > 0.0 or distance < at["attacker_distance"]:
        at["attacker"] = attacker
        at["attacker_distance"] = distance
    at["quiet"] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _blast(kinds, units, source, work):  # type: ignore[no-untyped-def]
    """A baneling's explosion: every enemy ground unit whose edge is within the radius."""
    by = units[source]
    kind = kinds[by["kind"]]
    for j in range(units.shape[0]):
        at = units[j]
        if work[j]["alive"] == 0 or at["owner"] == by["owner"]:
            continue
        body = kinds[at["kind"]]
        if body["ground_target"] == 0:
            continue
        dx, dy = at["x"] - by["x"], at["y"] - by["y"]
        reach = kind["blast_radius"] + body["radius"]
        squared = dx * dx + dy * dy
        if squared <= reach * reach:
            _strike(kind, body, at, source, squared)


@njit(cache=True, nogil=True, error_model="numpy")
def _sweep(kinds, units, source, work):  # type: ignore[no-untyped-def]
    """One lance of a colossus: enemies whose body touches the line across its direction of fire."""
    by = units[source]
    kind = kinds[by["kind"]]
    for j in range(units.shape[0]):
        at = units[j]
        if work[j]["alive"] == 0 or at["owner"] == by["owner"]:
            continue
        body = kinds[at["kind"]]
        if not _reaches(kind, body):
            continue
        dx, dy = at["x"] - by["strike_x"], at["y"] - by["strike_y"]
        along = abs(dx * by["strike_dx"] + dy * by["strike_dy"])
        across = abs(dy * by["strike_dx"] - dx * by["strike_dy"])
        # Distance from the unit's centre to the line segment on which the points of fire lie.
        beyond = max(0.0, across - kind["sweep_length"])
        if math.sqrt(along * along + beyond * beyond) <= kind["sweep_width"] + body["radius"]:
            dx, dy = at["x"] - by["x"], at["y"] - by["y"]
            _strike(kind, body, at, source, dx * dx + dy * dy)


@njit(cache=True, nogil=True, error_model="numpy")
def _needs_healing(body, other):  # type: ignore[no-untyped-def]
    """Whether a living unit is one that a medivac would heal."""
    return (body["attributes"] & BIOLOGICAL) != 0 and other["health"] < body["health"]


@njit(cache=True, nogil=True, error_model="numpy")
def _cell(value):  # type: ignore[no-untyped-def]
    return min(max(int(value), 0), MAP_SIZE - 1)


@njit(cache=True, nogil=True, error_model="numpy")
def _step_towards(me, kind, tx, ty, top_speed):  # type: ignore[no-untyped-def]
    """The displacement of one loop straight towards (tx, ty)."""
    dx, dy = tx - me["x"], ty - me["y"]
    distance = math.sqrt(dx * dx + dy * dy)
    if distance <= AT_POINT:
        return 0.0, 0.0
    speed = min(min(top_speed, me["speed"] + kind["acceleration"]), distance)
    me["speed"] = speed
    share = speed / distance
    return dx * share, dy * share


@njit(cache=True, nogil=True, error_model="numpy")
def _launch(kind, me, other, battle):  # type: ignore[no-untyped-def]
    """The attack leaves: its strikes are due, and the weapon cools down."""
    dx, dy = other["x"] - me["x"], other["y"] - me["y"]
    distance = math.sqrt(dx * dx + dy * dy)
    me["striking"] = 0
    delay = RANDOM_DELAY[0] + (RANDOM_DELAY[1] - RANDOM_DELAY[0]) * _uniform(battle)
    # The period runs from one attack's beginning to the next one's, so the damage point is part of it.
    me["cooldown"] = max(0.0, kind["period"] - math.ceil(kind["damage_point"]) + delay)
    me["strikes_left"] = kind["hits"]
    me["strike_target"] = me["target"]
    me["strike_timer"] = kind["hit_delay"]
    if kind["missile_speed"] > 0.0:
        me["strike_timer"] += distance / kind["missile_speed"]
    me["strike_x"], me["strike_y"] = other["x"], other["y"]
    if distance > 0.0:
        me["strike_dx"], me["strike_dy"] = dx / distance, dy / distance
    else:
        me["strike_dx"], me["strike_dy"] = 1.0, 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _shove(dx, dy, squared, room, i, j):  # type: ignore[no-untyped-def]
    """How units i and j at distance (dx, dy) overlap, which is less than `room` apart: (overlap along x, along y)."""
    distance = math.sqrt(squared)
    overlap = room - distance
    if distance > 1e-9:
        share = overlap / distance
        return dx * share, dy * share
    # The very same point: any direction will do, as long as it is always the same.
    angle = 2.399963229728653 * (min(i, j) * 31 + max(i, j))
    return math.cos(angle) * overlap, math.sin(angle) * overlap


@njit(cache=True, nogil=True, error_model="numpy")
def _play(units, battle, kinds, allies, pathable, waypoints, margin, loops, work, slots, pairs):  # type: ignore[no-untyped-def]
    """Play loops of one battle. work _WORK [U], slots _SLOT [U] and pairs int32 [U * (U - 1) / 2] are room to work in.

    One long function, because every array that is handed to another costs more than the arithmetic of a unit: what is
    called from here, but for the rare blasts and sweeps, takes numbers and single rows.
    """
    count_units = units.shape[0]
    walled = waypoints.shape[0] > 0
    edge = MAP_SIZE - margin - 1e-6
    widest = 0.0
    count, living_allies = 0, 0
    for i in range(count_units):
        me = units[_index(i)]
        kind = kinds[me["kind"]]
        mine = work[_index(i)]
        mine["kind"] = np.uint32(me["kind"])
        mine["x"], mine["y"] = me["x"], me["y"]
        mine["radius"] = kind["separation"]
        widest = max(widest, kind["separation"])
        mine["body"] = kind["radius"]
        mine["scan"] = kind["scan_range"] + kind["radius"]
        mine["layer"] = kind["layer"]
        mine["owner"] = me["owner"]
        mine["passive"] = me["passive"]
        mine["hits"] = 0
        if kind["weapon"] != WEAPON_NONE:
            mine["hits"] = (1 if kind["hits_ground"] == 1 else 0) + (2 if kind["hits_air"] == 1 else 0)
        mine["hit_by"] = (1 if kind["ground_target"] == 1 else 0) + (2 if kind["flying"] == 1 else 0)
        mine["heals"] = 1 if kind["heal_rate"] > 0.0 else 0
        grows = kind["shield"] > 0.0 or kind["health_regen"] > 0.0 or kind["energy"] > 0.0
        mine["regains"] = 1 if grows else 0
        mine["fresh"] = 0
        mine["alive"] = 0
        if me["health"] > 0.0:
            mine["alive"] = 1
            slots[_index(count)]["unit"] = i
            slots[_index(count)]["living"] = i
            count += 1
            if i < allies:
                living_allies += 1
    pending = True  # whether there may be attacks that have been launched and have not struck
    for _ in range(loops):
        # 1. What time does to every living unit.
        alarmed_allies, alarmed_enemies = 0, allies
        for a in range(count):
            i = slots[_index(a)]["living"]
            me = units[_index(i)]
            me["cooldown"] = max(0.0, me["cooldown"] - 1.0)
            quiet = me["quiet"] + 1.0
            me["quiet"] = quiet
            if quiet < HELP_MEMORY:
                attacker = me["attacker"]
                if attacker >= 0 and work[_index(attacker)]["alive"] != 0:
                    if a < living_allies:
                        slots[_index(alarmed_allies)]["alarmed"] = i
                        alarmed_allies += 1
                    else:
                        slots[_index(alarmed_enemies)]["alarmed"] = i
                        alarmed_enemies += 1
            if work[_index(i)]["regains"] != 0:
                kind = kinds[work[_index(i)]["kind"]]
                if me["shield"] < kind["shield"] and quiet >= kind["shield_delay"]:
                    me["shield"] = min(kind["shield"], me["shield"] + kind["shield_regen"])
                if kind["health_regen"] > 0.0 and me["health"] < kind["health"]:
                    me["health"] = min(kind["health"], me["health"] + kind["health_regen"])
                if me["energy"] < kind["energy"]:
                    me["energy"] = min(kind["energy"], me["energy"] + kind["energy_regen"])
        # 2. Decisions. Nothing that a decision looks at changes here, so the order of units does not matter.
        think = battle["loop"] % THINK_EVERY == 0
        for a in range(count):
            i = slots[_index(a)]["living"]
            me = units[_index(i)]
            mine = work[_index(i)]
            order = me["order"]
            ordered = order == ORDER_ATTACK or order == ORDER_HEAL
            if mine["passive"] == 1 and not ordered:
                mine["goal"] = -1
                continue
            kind = kinds[mine["kind"]]
            if ordered or order == ORDER_MOVE:
                me["gave_up"] = 0
            if ordered:
                target = me["order_target"]
                if order == ORDER_HEAL:
                    body = kinds[work[_index(target)]["kind"]]
                    possible = (body["attributes"] & BIOLOGICAL) != 0 and mine["heals"] == 1 and target != i
                else:
                    possible = (mine["hits"] & work[_index(target)]["hit_by"]) != 0
                if work[_index(target)]["alive"] == 0 or not possible:
                    target = -1
                    me["order"] = ORDER_NONE
                mine["goal"] = target
                continue
            now = me["target"]
            if now >= 0 and work[_index(now)]["alive"] == 0:
                now = -1
            best = -1
            x, y = mine["x"], mine["y"]
            own_lo, own_hi, foe_lo, foe_hi = 0, living_allies, living_allies, count
            alarmed_lo, alarmed_hi = 0, alarmed_allies
            if mine["owner"] == 1:
                own_lo, own_hi, foe_lo, foe_hi = living_allies, count, 0, living_allies
                alarmed_lo, alarmed_hi = allies, alarmed_enemies
            if order == ORDER_MOVE or me["gave_up"] == 1:
                now = -1
            elif mine["heals"] == 1:
                # A healer stays with its patient until it is whole; a new one is whoever has the least of its health
                # left, then the nearest.
                if now >= 0 and _needs_healing(kinds[work[_index(now)]["kind"]], units[_index(now)]):
                    best = now
                elif me["energy"] >= kind["heal_minimum"]:
                    best_fraction, best_distance = 1.0, FAR_AWAY
                    for b in range(own_lo, own_hi):
                        j = slots[_index(b)]["living"]
                        body = kinds[work[_index(j)]["kind"]]
                        if j == i or not _needs_healing(body, units[_index(j)]):
                            continue
                        dx, dy = work[_index(j)]["x"] - x, work[_index(j)]["y"] - y
                        squared = dx * dx + dy * dy
                        reach = kind["heal_scan"] + mine["body"] + work[_index(j)]["body"]
                        if squared > reach * reach:
                            continue
                        fraction = units[_index(j)]["health"] / body["health"]
                        if fraction < best_fraction or (fraction == best_fraction and squared < best_distance):
                            best, best_fraction, best_distance = j, fraction, squared
            elif kind["weapon"] != WEAPON_NONE and (now < 0 or think):
                # Candidates are opponents within scan range, and whoever damaged the unit or a friend near it of late.
                # A higher class wins, then the nearer one (SMAC specification, section 8). An opponent's class is 2
                # if it is armed against the unit (or healing), and 1 more if it aims at it.
                scan, hits, hit_by = mine["scan"], mine["hits"], mine["hit_by"]
                best_class, best_distance = -1, FAR_AWAY
                for b in range(foe_lo, foe_hi):
                    j = slots[_index(b)]["living"]
                    other = work[_index(j)]
                    dx, dy = other["x"] - x, other["y"] - y
                    squared = dx * dx + dy * dy
                    reach = scan + other["body"]
                    if squared > reach * reach or (hits & other["hit_by"]) == 0:
                        continue
                    armed = (other["hits"] & hit_by) != 0 or (other["heals"] == 1 and units[_index(j)]["striking"] == 1)
                    threat = (2 if armed else 0) + (1 if units[_index(j)]["target"] == i else 0)
                    if threat > best_class or (threat == best_class and squared < best_distance):
                        best, best_class, best_distance = j, threat, squared
                for b in range(alarmed_lo, alarmed_hi):
                    k = slots[_index(b)]["alarmed"]
                    dx, dy = work[_index(k)]["x"] - x, work[_index(k)]["y"] - y
                    if dx * dx + dy * dy > HELP_RADIUS * HELP_RADIUS:
                        continue
                    j = units[_index(k)]["attacker"]
                    other = work[_index(j)]
                    if (hits & other["hit_by"]) == 0:
                        continue
                    dx, dy = other["x"] - x, other["y"] - y
                    squared = dx * dx + dy * dy
                    armed = (other["hits"] & hit_by) != 0 or (other["heals"] == 1 and units[_index(j)]["striking"] == 1)
                    threat = (2 if armed else 0) + (1 if units[_index(j)]["target"] == i else 0)
                    if threat > best_class or (threat == best_class and squared < best_distance):
                        best, best_class, best_distance = j, threat, squared
                if now >= 0 and now != best:
                    # A present target is left for a higher class; because another one is nearer only if others bar
                    # the way to it.
                    other = work[_index(now)]
                    armed = (other["hits"] & hit_by) != 0 or (
                        other["heals"] == 1 and units[_index(now)]["striking"] == 1
                    )
                    present = (2 if armed else 0) + (1 if units[_index(now)]["target"] == i else 0)
                    barred = me["detour"] != 0 and best_class == present
                    if best < 0 or (best_class <= present and not barred):
                        best = now
            else:
                best = now
            if kind["weapon"] != WEAPON_NONE:
                dx, dy = x - me["anchor_x"], y - me["anchor_y"]
                away = dx * dx + dy * dy
                if me["gave_up"] == 1:
                    if away <= LEASH_RESET * LEASH_RESET:
                        me["gave_up"] = 0
                elif best < 0 or now < 0:
                    me["anchor_x"], me["anchor_y"] = x, y
                elif away > LEASH * LEASH:
                    best = -1
                    me["gave_up"] = 1
            mine["goal"] = best
        # 3. Attacks, healing and steps, all from the positions of the loop's beginning.
        for a in range(count):
            i = slots[_index(a)]["living"]
            me = units[_index(i)]
            mine = work[_index(i)]
            kind = kinds[mine["kind"]]
            step_x, step_y = 0.0, 0.0
            target = mine["goal"]
            if target != me["target"]:
                me["striking"] = 0
                me["target"] = target
            stands = 1
            goes = False
            tx, ty, top = me["order_x"], me["order_y"], kind["speed"]
            if target >= 0:
                other = units[_index(target)]
                at = work[_index(target)]
                dx, dy = at["x"] - mine["x"], at["y"] - mine["y"]
                squared = dx * dx + dy * dy
                if mine["heals"] == 1:
                    body = kinds[at["kind"]]
                    reach = kind["heal_range"] + mine["body"] + at["body"]
                    healing = 0
                    if squared > reach * reach:
                        goes = True
                    elif me["energy"] > 0.0 and (me["striking"] == 1 or me["energy"] >= kind["heal_minimum"]):
                        amount = body["health"] - other["health"]
                        if amount > 0.0:
                            amount = min(min(kind["heal_rate"], amount), me["energy"] / kind["heal_cost"])
                            other["health"] += amount
                            me["energy"] = max(0.0, me["energy"] - amount * kind["heal_cost"])
                            healing = 1
                    me["striking"] = healing
                else:
                    reach = kind["range"] + mine["body"] + at["body"]
                    slack = reach + kind["range_slop"]
                    striking = me["striking"]
                    windup = me["windup"]
                    if striking == 1 and squared <= slack * slack:
                        stands = 2
                        windup -= 1.0
                        me["windup"] = windup
                    elif squared <= reach * reach:
                        stands = 2
                        striking = 0
                        if me["cooldown"] <= 0.0:
                            striking = 1
                            windup = kind["damage_point"]
                            me["windup"] = windup
                    else:
                        striking = 0
                        goes = True
                    me["striking"] = striking
                    if striking == 1 and windup <= 0.0:
                        _launch(kind, me, other, battle)
                        mine["fresh"] = 1
                        pending = True
                if goes:
                    tx, ty = at["x"], at["y"]
            else:
                me["striking"] = 0
                order = me["order"]
                if me["gave_up"] == 1:
                    tx, ty = me["anchor_x"], me["anchor_y"]
                    goes = True
                elif order == ORDER_MOVE:
                    dx, dy = tx - mine["x"], ty - mine["y"]
                    goes = dx * dx + dy * dy > AT_POINT * AT_POINT
                    if not goes:
                        me["order"] = ORDER_NONE
                elif order == ORDER_ATTACK_MOVE or order == ORDER_HUNT:
                    own_lo, own_hi, foe_lo, foe_hi = 0, living_allies, living_allies, count
                    if mine["owner"] == 1:
                        own_lo, own_hi, foe_lo, foe_hi = living_allies, count, 0, living_allies
                    goes = True
                    if kind["weapon"] == WEAPON_NONE:
                        # It goes with the army: to the middle of the armed units, not faster than the slowest.
                        cx, cy, slowest, armed_units = 0.0, 0.0, top, 0
                        for b in range(own_lo, own_hi):
                            j = slots[_index(b)]["living"]
                            body = kinds[work[_index(j)]["kind"]]
                            if body["weapon"] != WEAPON_NONE:
                                cx += work[_index(j)]["x"]
                                cy += work[_index(j)]["y"]
                                slowest = min(slowest, body["speed"])
                                armed_units += 1
                        if armed_units > 0:
                            tx, ty, top = cx / armed_units, cy / armed_units, slowest
                    elif order == ORDER_HUNT:
                        nearest = FAR_AWAY
                        for b in range(foe_lo, foe_hi):
                            j = slots[_index(b)]["living"]
                            dx, dy = work[_index(j)]["x"] - mine["x"], work[_index(j)]["y"] - mine["y"]
                            if dx * dx + dy * dy < nearest:
                                nearest = dx * dx + dy * dy
                                tx, ty = work[_index(j)]["x"], work[_index(j)]["y"]
                        goes = nearest < FAR_AWAY
                    dx, dy = tx - mine["x"], ty - mine["y"]
                    if dx * dx + dy * dy <= ARRIVED * ARRIVED:
                        goes = False
                        if order == ORDER_ATTACK_MOVE and kind["weapon"] != WEAPON_NONE:
                            me["order"] = ORDER_NONE
            if kind["speed"] <= 0.0:
                stands = 2
                me["speed"] = 0.0
            elif goes:
                stands = 0
                if walled and mine["layer"] == LAYER_GROUND:
                    way = waypoints[_cell(mine["x"]) * MAP_SIZE + _cell(mine["y"]), _cell(tx) * MAP_SIZE + _cell(ty)]
                    if way >= 0:  # no free straight line: by the next corner of the way
                        tx = np.float64(way // MAP_SIZE) + 0.5
                        ty = np.float64(way % MAP_SIZE) + 0.5
                step_x, step_y = _step_towards(me, kind, tx, ty, top)
                detour = me["detour"]
                if detour != 0:  # around whoever is in the way
                    turn = DETOUR_SINE if detour > 0 else -DETOUR_SINE
                    step_x, step_y = step_x * DETOUR_COSINE - step_y * turn, step_y * DETOUR_COSINE + step_x * turn
                    me["detour"] = detour - (1 if detour > 0 else -1)
            else:
                me["speed"] = 0.0
            me["held"] = 1 if stands == 2 else 0
            mine["firm"] = stands
            mine["step_x"], mine["step_y"] = step_x, step_y
        if pending:
            # 4. Strikes. A missile flies on when its attacker has died; blows and lances do not.
            pending = False
            struck, died = False, False
            for i in range(count_units):
                me = units[_index(i)]
                if me["strikes_left"] == 0:
                    continue
                mine = work[_index(i)]
                kind = kinds[mine["kind"]]
                if mine["alive"] == 0 and kind["missile_speed"] <= 0.0:
                    me["strikes_left"] = 0
                    continue
                if mine["fresh"] == 0:
                    me["strike_timer"] -= 1.0
                while me["strikes_left"] > 0 and me["strike_timer"] <= 0.0:
                    me["strikes_left"] -= 1
                    me["strike_timer"] += kind["hit_gap"]
                    if kind["weapon"] == WEAPON_SWEEP:
                        _sweep(kinds, units, i, work)
                    elif kind["weapon"] == WEAPON_BLAST:
                        _blast(kinds, units, i, work)
                        me["health"] = 0.0
                        me["shield"] = 0.0
                        mine["fresh"] = 2  # its death does not blast again
                    else:
                        victim = me["strike_target"]
                        if work[_index(victim)]["alive"] != 0:
                            dx, dy = work[_index(victim)]["x"] - me["x"], work[_index(victim)]["y"] - me["y"]
                            _strike(
                                kind, kinds[work[_index(victim)]["kind"]], units[_index(victim)], i, dx * dx + dy * dy
                            )
                    struck = True
                if me["strikes_left"] > 0:
                    pending = True
                if mine["fresh"] == 1:
                    mine["fresh"] = 0
            # 5. Deaths. A blast can kill units that blast in turn, so look until nobody new has died.
            while struck:
                struck = False
                for a in range(count):
                    i = slots[_index(a)]["living"]
                    me = units[_index(i)]
                    mine = work[_index(i)]
                    if mine["alive"] != 0 and me["health"] <= 0.0:
                        died = True
                        mine["alive"] = 0
                        me["health"] = 0.0
                        me["shield"] = 0.0
                        me["target"] = -1
                        me["striking"] = 0
                        me["held"] = 0
                        me["speed"] = 0.0
                        if kinds[mine["kind"]]["blast_on_death"] == 1 and mine["fresh"] != 2:
                            _blast(kinds, units, i, work)
                            struck = True
            if died:
                survivors, living_allies = 0, 0
                for a in range(count):
                    i = slots[_index(a)]["living"]
                    if work[_index(i)]["alive"] != 0:
                        slots[_index(survivors)]["living"] = i
                        survivors += 1
                        if i < allies:
                            living_allies += 1
                survivors = 0
                for a in range(count):
                    i = slots[_index(a)]["unit"]
                    if work[_index(i)]["alive"] != 0:
                        slots[_index(survivors)]["unit"] = i
                        survivors += 1
                count = survivors
        # 6. Steps, then room for everybody. Overlapping units of a layer are pushed apart: who moves (firm 0) gives way
        # to anyone, who stands (1) to friends, who holds (2) to nobody. Displacements are added up before they are
        # applied, and pairs are met in an order that the positions alone decide, so the numbering of units does not
        # matter. Units sorted by x (from one loop to the next they stay nearly sorted) need to be compared with few
        # others. Pairs that overlap are noted first and pushed apart later: whether two do is nothing that a processor
        # could foresee, so it is better not to branch on it.
        for a in range(count):
            i = slots[_index(a)]["unit"]
            mine = work[_index(i)]
            x = mine["x"] + mine["step_x"]
            b = a
            while b > 0:
                left = slots[_index(b - 1)]
                if left["x"] < x or (left["x"] == x and left["unit"] < i):
                    break
                here = slots[_index(b)]
                here["x"], here["y"], here["radius"] = left["x"], left["y"], left["radius"]
                here["unit"], here["code"] = left["unit"], left["code"]
                b -= 1
            here = slots[_index(b)]
            here["x"], here["y"], here["radius"] = x, mine["y"] + mine["step_y"], mine["radius"]
            here["unit"] = i
            here["code"] = mine["firm"] + 4 * mine["owner"] + 8 * mine["layer"]
        for _pass in range(SEPARATION_PASSES):
            noted = 0
            for a in range(count):
                here = slots[_index(a)]
                x, y, r, code = here["x"], here["y"], here["radius"], here["code"]
                limit = x + r + widest
                for b in range(a + 1, count):
                    there = slots[_index(b)]
                    if there["x"] >= limit:
                        break
                    dx = x - there["x"]
                    dy = y - there["y"]
                    room = r + there["radius"]
                    squared = dx * dx + dy * dy
                    pairs[_index(noted)] = (a << 16) | b
                    noted += (1 if squared < room * room else 0) & (1 if (code ^ there["code"]) < 8 else 0)
            if noted == 0:
                break
            for a in range(count):
                slots[_index(a)]["push_x"] = 0.0
                slots[_index(a)]["push_y"] = 0.0
            touched = False
            for n in range(noted):
                here, there = slots[_index(pairs[_index(n)] >> 16)], slots[_index(pairs[_index(n)] & 0xFFFF)]
                one, two = here["code"], there["code"]
                friends = ((one ^ two) & 4) == 0
                give_one = (one & 3) == 0 or ((one & 3) == 1 and friends)
                give_two = (two & 3) == 0 or ((two & 3) == 1 and friends)
                if not (give_one or give_two):
                    continue
                touched = True
                dx = here["x"] - there["x"]
                dy = here["y"] - there["y"]
                ox, oy = _shove(
                    dx, dy, dx * dx + dy * dy, here["radius"] + there["radius"], here["unit"], there["unit"]
                )
                share = 0.5 if give_one and give_two else 1.0
                share_one = share if give_one else 0.0
                share_two = share if give_two else 0.0
                here["push_x"] += ox * share_one
                here["push_y"] += oy * share_one
                there["push_x"] -= ox * share_two
                there["push_y"] -= oy * share_two
            if not touched:
                break
            for a in range(count):
                here = slots[_index(a)]
                i, code = here["unit"], here["code"]
                x, y, r = here["x"] + here["push_x"], here["y"] + here["push_y"], here["radius"]
                b = a
                while b > 0:
                    left = slots[_index(b - 1)]
                    if left["x"] < x or (left["x"] == x and left["unit"] < i):
                        break
                    there = slots[_index(b)]
                    there["x"], there["y"], there["radius"] = left["x"], left["y"], left["radius"]
                    there["unit"], there["code"] = left["unit"], left["code"]
                    b -= 1
                there = slots[_index(b)]
                there["x"], there["y"], there["radius"] = x, y, r
                there["unit"], there["code"] = i, code
        for a in range(count):
            here = slots[_index(a)]
            i = here["unit"]
            me = units[_index(i)]
            mine = work[_index(i)]
            x, y, old_x, old_y = here["x"], here["y"], mine["x"], mine["y"]
            if mine["firm"] == 0:
                dx, dy = x - old_x, y - old_y
                gained = BARRED_SHARE * me["speed"]
                if dx * dx + dy * dy >= gained * gained:
                    me["barred"] = 0
                else:
                    me["barred"] += 1
                    if me["barred"] >= BARRED_LOOPS and me["detour"] == 0:
                        # To the side to which the others have pushed it.
                        side = mine["step_x"] * dy - mine["step_y"] * dx
                        me["detour"] = DETOUR_LOOPS if side >= -1e-9 else -DETOUR_LOOPS
            else:
                me["barred"] = 0
                me["detour"] = 0
            if x == old_x and y == old_y:
                continue
            # As near as walls and the map's edge let it: sliding along one axis, or not at all.
            x = min(max(x, margin), edge)
            y = min(max(y, margin), edge)
            if mine["layer"] != LAYER_GROUND or pathable[_index(int(x)), _index(int(y))]:
                me["x"], me["y"] = x, y
                mine["x"], mine["y"] = x, y
            elif pathable[int(x), int(old_y)]:
                me["x"] = x
                mine["x"] = x
            elif pathable[int(old_x), int(y)]:
                me["y"] = y
                mine["y"] = y
        battle["loop"] += 1


@njit(cache=True, nogil=True, error_model="numpy")
def advance(  # type: ignore[no-untyped-def]
    units, battles, kinds, allies, pathable, waypoints, margin, loops, active, lo, hi
):
    """Play `loops` game loops of the battles [lo, hi) where `active`.

    Args:
        units: UNIT [K, U], changed in place; battles: BATTLE [K], changed in place; kinds: KIND [n_kinds].
        allies: A, how many of the U units are allies.
        pathable: uint8 [32, 32], indexed [x, y]. waypoints: int16 [1024, 1024] or [0, 0] (see `battle.terrain`).
        margin: ground and air units stay this far from the map's edge.
        active: bool [K].
    """
    count = units.shape[1]
    work = np.zeros(count, _WORK)
    slots = np.zeros(count, _SLOT)
    pairs = np.zeros(count * (count - 1) // 2 + 1, np.int32)
    for k in range(lo, hi):
        if active[k]:
            _play(units[k], battles[k], kinds, allies, pathable, waypoints, margin, loops, work, slots, pairs)


@njit(cache=True, nogil=True, error_model="numpy")
def spawn(  # type: ignore[no-untyped-def]
    units,
    battles,
    unit_kind,
    kinds,
    allies,
    points,
    created,
    order,
    order_points,
    passive,
    jitter,
    pathable,
    margin,
    which,
    lo,
    hi,
):
    """Put the battles [lo, hi) where `which` at their start. Randomness comes from each battle's own stream.

    Units that are created at one point stand in a square grid around it, the enemies' turned by 180 degrees, moved by
    up to `jitter` each way, and pushed apart. Allies of one kind are then ordered by x, then y, as SMAC orders them.

    Args:
        unit_kind: int32 [U]; points: float64 [U, 2], where each unit is created; created: int32 [U], which of its
            side's units it is in order of creation.
        order: ORDER_* of the enemies. order_points: float64 [2, 2], between which an attack-move's point is drawn.
        passive: int32 [2], whether allies and enemies only act on orders.
        jitter: cells. which: bool [K].
    """
    count = units.shape[1]
    layer = np.zeros(count, np.int32)
    owner = np.zeros(count, np.int32)
    px, py = np.zeros(count), np.zeros(count)
    wx, wy, radius = np.zeros(count), np.zeros(count), np.zeros(count)
    for i in range(count):
        owner[i] = 1 if i >= allies else 0
        layer[i] = kinds[unit_kind[i]]["layer"]
        radius[i] = kinds[unit_kind[i]]["separation"]
    for k in range(lo, hi):
        if not which[k]:
            continue
        battle = battles[k]
        for i in range(count):
            # The unit's place in the grid of those that share its point and side.
            rank, members, width = 0, 0, 0.0
            for j in range(count):
                if owner[j] == owner[i] and points[j, 0] == points[i, 0] and points[j, 1] == points[i, 1]:
                    rank += 1 if created[j] < created[i] else 0
                    members += 1
                    width += radius[j]
            side = math.ceil(math.sqrt(members))
            rows = (members + side - 1) // side
            pitch = 2.0 * width / members + SPAWN_GAP
            sign = 1.0 if owner[i] == 0 else -1.0
            px[i] = points[i, 0] + sign * pitch * (rank % side - 0.5 * (side - 1))
            py[i] = points[i, 1] + sign * pitch * (rank // side - 0.5 * (rows - 1))
            if jitter > 0.0:
                px[i] += jitter * (2.0 * _uniform(battle) - 1.0)
                py[i] += jitter * (2.0 * _uniform(battle) - 1.0)
        for _ in range(SPAWN_PASSES):
            touched = False
            for i in range(count):
                if layer[i] == LAYER_GROUND:
                    px[i], py[i] = _nearest_floor(px[i], py[i], pathable)
                wx[i] = 0.0
                wy[i] = 0.0
            for i in range(count):
                for j in range(i + 1, count):
                    dx, dy = px[i] - px[j], py[i] - py[j]
                    room = radius[i] + radius[j]
                    squared = dx * dx + dy * dy
                    if squared < room * room and layer[i] == layer[j]:
                        touched = True
                        ox, oy = _shove(dx, dy, squared, room, i, j)
                        wx[i] += 0.5 * ox
                        wy[i] += 0.5 * oy
                        wx[j] -= 0.5 * ox
                        wy[j] -= 0.5 * oy
            if not touched:
                break
            for i in range(count):
                px[i] += wx[i]
                py[i] += wy[i]
        for i in range(count):
            if layer[i] == LAYER_GROUND:
                px[i], py[i] = _nearest_floor(px[i], py[i], pathable)
            edge = MAP_SIZE - margin - 1e-6
            px[i] = min(max(px[i], margin), edge)
            py[i] = min(max(py[i], margin), edge)
        # Insertion sort of the allies' places within each kind: there are few, and they are nearly sorted.
        for i in range(1, allies):
            j = i
            while j > 0 and unit_kind[j - 1] == unit_kind[j] and (px[j - 1], py[j - 1]) > (px[j], py[j]):
                px[j - 1], px[j] = px[j], px[j - 1]
                py[j - 1], py[j] = py[j], py[j - 1]
                j -= 1
        share = _uniform(battle)
        order_x = order_points[0, 0] + share * (order_points[1, 0] - order_points[0, 0])
        order_y = order_points[0, 1] + share * (order_points[1, 1] - order_points[0, 1])
        for i in range(count):
            me = units[k, i]
            kind = kinds[unit_kind[i]]
            me["kind"] = unit_kind[i]
            me["owner"] = owner[i]
            me["passive"] = passive[owner[i]]
            me["order"] = order if owner[i] == 1 else ORDER_NONE
            me["order_target"] = -1
            me["target"] = -1
            me["striking"] = 0
            me["strikes_left"] = 0
            me["strike_target"] = -1
            me["attacker"] = -1
            me["attacker_distance"] = 0.0
            me["seen_dead"] = 0
            me["held"] = 0
            me["x"], me["y"] = px[i], py[i]
            me["health"], me["shield"], me["energy"] = kind["health"], kind["shield"], kind["energy_start"]
            me["cooldown"] = 0.0
            me["quiet"] = FAR_AWAY
            me["windup"] = 0.0
            me["strike_timer"] = 0.0
            me["strike_x"], me["strike_y"], me["strike_dx"], me["strike_dy"] = 0.0, 0.0, 0.0, 0.0
            me["speed"] = 0.0
            me["order_x"], me["order_y"] = order_x, order_y
            me["anchor_x"], me["anchor_y"] = px[i], py[i]
            me["gave_up"] = 0
            me["barred"] = 0
            me["detour"] = 0
            me["seen_health"], me["seen_shield"] = kind["health"], kind["shield"]
        battle["loop"] = 0
        battle["steps"] = 0
        battle["result"] = 0
        battle["truncated"] = 0
        battle["dead_allies"] = 0
        battle["dead_enemies"] = 0


@njit(cache=True, nogil=True, error_model="numpy")
def _nearest_floor(x, y, pathable):  # type: ignore[no-untyped-def]
    """(x, y) if a ground unit can stand there, else the nearest point of the nearest cell where one can."""
    if 0.0 <= x < MAP_SIZE and 0.0 <= y < MAP_SIZE and pathable[int(x), int(y)]:
        return x, y
    best, best_x, best_y = FAR_AWAY, x, y
    inset = 1e-3
    for cx in range(MAP_SIZE):
        for cy in range(MAP_SIZE):
            if pathable[cx, cy]:
                nx = min(max(x, cx + inset), cx + 1 - inset)
                ny = min(max(y, cy + inset), cy + 1 - inset)
                squared = (nx - x) * (nx - x) + (ny - y) * (ny - y)
                if squared < best:
                    best, best_x, best_y = squared, nx, ny
    return best_x, best_y
