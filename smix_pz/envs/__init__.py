"""Environments: small cooperative games as PettingZoo modules, and any cooperative game as a team for a learner."""

from __future__ import annotations

from smix_pz.envs.hold import HoldAtEnd, HoldingVectorEnv
from smix_pz.envs.make import TeamVectorEnv, make_native_env, make_team_env, make_vector_env
from smix_pz.envs.preprocessing import preprocess
from smix_pz.envs.registry import ENVS, EnvEntry, register_all
from smix_pz.envs.spec import TeamSpec
from smix_pz.envs.team import TeamEnv
from smix_pz.envs.vector import NativeVectorEnv

__all__ = [
    "ENVS",
    "EnvEntry",
    "HoldAtEnd",
    "HoldingVectorEnv",
    "NativeVectorEnv",
    "TeamEnv",
    "TeamSpec",
    "TeamVectorEnv",
    "make_native_env",
    "make_team_env",
    "make_vector_env",
    "preprocess",
    "register_all",
]
