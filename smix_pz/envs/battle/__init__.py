"""Battles of two small armies with the actions, observations, state and rewards of SMAC, without StarCraft II.

`state` says what a battle is; `units`, `maps` and `terrain` are the data, `scenario` joins them, `layout` is what
SMAC shows of a battle.
"""
