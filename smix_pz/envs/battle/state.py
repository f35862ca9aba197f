"""What a battle is, as plain arrays: the contract between the engine, SMAC's layout, the players and the pictures.

A batch of K battles is two structured arrays, `units` [K, U] of `UNIT` and `battles` [K] of `BATTLE`; what does not
change while they are played is `kinds` [n_kinds] of `KIND`, the terrain's grids and a few numbers (`Scenario`). A copy
of the two arrays is a copy of the battles. Units 0 to A-1 are the allies (in agent order), A to A+E-1 the enemies (in
order of creation).

Units of measure: a length is a map cell, a time is a game loop (1/16 of a "normal" second). +y is north.
"""

from __future__ import annotations

import numpy as np

# Version of the battle's rules. Whatever changes a battle's course changes this name.
RULES = "r1"

LOOPS_PER_SECOND = 16  # of "normal" speed, in which the game's data are written
MAP_SIZE = 32

# Orders. NONE and STOP are both "stand"; a passive unit that stands does nothing, another one looks for enemies.
ORDER_NONE, ORDER_STOP, ORDER_MOVE, ORDER_ATTACK, ORDER_HEAL, ORDER_ATTACK_MOVE, ORDER_HUNT = range(7)
ORDER_NAMES = ("none", "stop", "move", "attack", "heal", "attack-move", "hunt")

# How a weapon deals its damage.
WEAPON_NONE, WEAPON_DIRECT, WEAPON_SWEEP, WEAPON_BLAST = range(4)

# Bits of KIND.attributes and KIND.bonus_against.
LIGHT, ARMORED, BIOLOGICAL, MECHANICAL, STRUCTURE, MASSIVE = (1 << bit for bit in range(6))

# Units of unlike layers do not collide.
LAYER_GROUND, LAYER_AIR, LAYER_COLOSSUS = range(3)

# BATTLE.result
ONGOING, WIN, DEFEAT, DRAW = range(4)

# One row for each kind of unit in a scenario.
KIND = np.dtype(
    [
        ("stock_id", np.int32),  # StarCraft II's unit type
        ("attributes", np.int32),  # bits LIGHT ... MASSIVE
        ("layer", np.int32),  # LAYER_*
        ("flying", np.int32),  # 1: only weapons with hits_air reach it
        ("ground_target", np.int32),  # 1: weapons with hits_ground reach it (a colossus is a target of both)
        ("health", np.float64),  # maxima
        ("shield", np.float64),
        ("energy", np.float64),
        ("energy_start", np.float64),
        ("armor", np.float64),  # of health; shields have none
        ("speed", np.float64),  # cells per loop
        ("acceleration", np.float64),  # cells per loop, per loop
        ("radius", np.float64),  # for weapon ranges
        ("separation", np.float64),  # for collisions
        ("sight", np.float64),
        ("health_regen", np.float64),  # per loop
        ("shield_regen", np.float64),  # per loop, once `shield_delay` loops have passed without damage
        ("shield_delay", np.float64),
        ("energy_regen", np.float64),  # per loop
        ("weapon", np.int32),  # WEAPON_*
        ("hits_ground", np.int32),
        ("hits_air", np.int32),
        ("bonus_against", np.int32),  # attribute bits that take `bonus` more
        ("hits", np.int32),  # hits of one attack
        ("damage", np.float64),  # of each hit
        ("bonus", np.float64),
        ("structure_damage", np.float64),  # in place of damage + bonus against a structure; 0: the same
        ("range", np.float64),  # edge to edge
        ("range_slop", np.float64),  # an attack that has begun goes on until the target is this much out of range
        ("period", np.float64),  # loops from the beginning of an attack to the moment the next one may begin
        ("damage_point", np.float64),  # loops from the beginning of an attack to its first hit
        ("hit_delay", np.float64),  # loops from an attack's launch to the moment it strikes
        ("hit_gap", np.float64),  # loops between the hits of one attack
        ("missile_speed", np.float64),  # cells per loop; 0: strikes at once (unknown for every unit so far)
        ("sweep_length", np.float64),  # half the length of a colossus' line of fire
        ("sweep_width", np.float64),  # half its width
        ("blast_radius", np.float64),  # WEAPON_BLAST: from the attacker's centre to the victims' edge
        ("blast_on_death", np.int32),  # 1: dies with its blast
        ("scan_range", np.float64),  # it acquires targets within this distance (edge to edge)
        ("heal_rate", np.float64),  # health per loop; 0: no healer
        ("heal_cost", np.float64),  # energy for each point of health
        ("heal_range", np.float64),  # edge to edge
        ("heal_scan", np.float64),  # it looks for patients within this distance (edge to edge)
        ("heal_minimum", np.float64),  # energy needed to begin healing
        ("cooldown_scale", np.float64),  # SMAC's divisor of the cooldown in the state
    ],
    align=True,
)

# One row for each unit of a battle.
UNIT = np.dtype(
    [
        ("kind", np.int32),  # row of the scenario's KIND table
        ("owner", np.int32),  # 0 ally, 1 enemy
        ("passive", np.int32),  # 1: never attacks or heals without an order (SMAC's allies)
        ("order", np.int32),  # ORDER_*
        ("order_target", np.int32),  # unit index of ORDER_ATTACK and ORDER_HEAL, else -1
        ("target", np.int32),  # whom it is attacking, chasing or healing now, or -1
        ("striking", np.int32),  # 1: within an attack's damage point
        ("strikes_left", np.int32),  # hits of a launched attack that are still to come
        ("strike_target", np.int32),  # and whom they will hit
        ("attacker", np.int32),  # who damaged it last (the nearest, if several did in one loop), or -1
        ("seen_dead", np.int32),  # 1: its death has been paid for (read by the reward)
        ("gave_up", np.int32),  # 1: on its way back from a chase that led too far
        ("barred", np.int32),  # loops in which others kept it from moving on
        ("detour", np.int32),  # loops left of walking around whoever is in the way; its sign is the side
        ("held", np.int32),  # 1: stood its ground in the last loop (others cannot push it)
        ("x", np.float64),
        ("y", np.float64),
        ("health", np.float64),  # 0: dead
        ("shield", np.float64),
        ("energy", np.float64),
        ("cooldown", np.float64),  # loops until its weapon may begin an attack; never below 0
        ("quiet", np.float64),  # loops since it was last damaged
        ("attacker_distance", np.float64),  # squared, when it did
        ("windup", np.float64),  # loops left of the damage point, where `striking`
        ("strike_timer", np.float64),  # loops until the next of `strikes_left`
        ("strike_x", np.float64),  # where a sweep was aimed, and its direction
        ("strike_y", np.float64),
        ("strike_dx", np.float64),
        ("strike_dy", np.float64),
        ("speed", np.float64),  # cells it moved by its own will in the last loop
        ("order_x", np.float64),  # point of ORDER_MOVE and ORDER_ATTACK_MOVE
        ("order_y", np.float64),
        ("anchor_x", np.float64),  # where a chase began
        ("anchor_y", np.float64),
        ("seen_health", np.float64),  # as the last reward saw them
        ("seen_shield", np.float64),
    ],
    align=True,
)

# One row for each battle.
BATTLE = np.dtype(
    [
        ("random", np.uint64),  # state of the battle's own random stream
        ("loop", np.int32),  # loops played
        ("steps", np.int32),  # environment steps played
        ("result", np.int32),  # ONGOING, WIN, DEFEAT or DRAW
        ("truncated", np.int32),  # 1: ended by the step limit
        ("dead_allies", np.int32),  # as the last reward saw them
        ("dead_enemies", np.int32),
    ],
    align=True,
)
