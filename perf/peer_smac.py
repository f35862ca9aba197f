"""The peers of perf/smac_sim.py, SMAX and SMAClite, measured in an interpreter of their own.

Started by `python perf/smac_sim.py --peer-python PEER`, where PEER is the interpreter of an environment made so:

    python -m venv peer
    peer/bin/pip install jax flax chex jaxtyping matplotlib pillow safetensors    # what SMAX imports, on a CPU
    peer/bin/pip install --no-deps jaxmarl==0.2.0
    git clone https://github.com/uoe-agents/smaclite
    peer/bin/pip install gymnasium pygame-ce scikit-learn Rtree                   # its own pin of Rtree is not needed
    peer/bin/pip install --no-deps ./smaclite

Reads one JSON object a line from standard input and answers with one. {} asks what there is: {"smax": version,
"smaclite": version, ...}, versions null where it cannot be imported. {"peer", "map_name", "num_envs", "seconds"} asks
for a measurement: {"rate": environment steps per second, "cores": processor seconds per second}; what was compiled is
kept for the next request.

SMAX plays its heuristic enemy; all of a rollout is one compiled scan: masks, a uniformly random legal action for each
ally, the step with its automatic reset, and observations and world state, which the scan carries so that none can be
left out. XLA runs small operations on one core, so the batch is split over as many devices as there are cores
(`pmap`), which is faster here than one device. SMAClite plays through Gymnasium's API with its NumPy collision
avoidance, observations and masks included, and is reset at the end of a battle or at SMAC's step limit.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any

SCAN_LENGTH = 16
# SMAC's step limits of SMAClite's maps.
LIMITS = {
    "2s3z": 120, "3s5z": 150, "3s5z_vs_3s6z": 170, "3s_vs_5z": 250, "10m_vs_11m": 150, "27m_vs_30m": 180, "MMM": 150,
    "MMM2": 180, "2c_vs_64zg": 400, "2s_vs_1sc": 300, "bane_vs_bane": 200, "corridor": 400,
}  # fmt: skip


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def smax(map_name: str, num_envs: int) -> Callable[[], int]:
    """A compiled rollout from where the last one ended; returns the environment steps it made."""
    import jax
    import jax.numpy as jnp
    from jaxmarl import make
    from jaxmarl.environments.smax import map_name_to_scenario

    devices = jax.local_device_count()
    if num_envs % devices:
        raise ValueError(f"num_envs must be a multiple of the {devices} devices, got {num_envs}")
    env = make("HeuristicEnemySMAX", scenario=map_name_to_scenario(map_name))
    here = num_envs // devices

    def legal_actions(key: Any, masks: dict[str, Any]) -> dict[str, Any]:
        mask = jnp.stack([masks[agent] for agent in env.agents]).astype(jnp.int32)
        count = mask.sum(-1)
        pick = jnp.floor(jax.random.uniform(key, count.shape) * count).astype(jnp.int32)
        chosen = jnp.argmax(jnp.cumsum(mask, -1) > pick[:, None], -1)
        return {agent: chosen[i] for i, agent in enumerate(env.agents)}

    def step(key: Any, state: Any) -> tuple[Any, Any, Any]:
        choose, play = jax.random.split(key)
        actions = legal_actions(choose, env.get_avail_actions(state))
        obs, state, rewards, _, _ = env.step(play, state, actions)
        return obs, state, rewards[env.agents[0]]

    def rollout(key: Any, begun: tuple[Any, Any]) -> tuple[Any, Any, Any]:
        def body(carry: Any, _: None) -> tuple[Any, None]:
            key, (_, state), total = carry
            key, now = jax.random.split(key)
            obs, state, rewards = jax.vmap(step)(jax.random.split(now, here), state)
            return (key, (obs, state), total + rewards), None

        carry, _ = jax.lax.scan(body, (key, begun, jnp.zeros(here)), None, SCAN_LENGTH)
        return carry

    compiled = jax.pmap(rollout)
    keys = jax.random.split(jax.random.key(0), devices)
    begun = jax.pmap(lambda key: jax.vmap(env.reset)(jax.random.split(key, here)))(keys)
    where = {"keys": keys, "begun": begun}

    def advance() -> int:
        where["keys"], where["begun"], _ = jax.block_until_ready(compiled(where["keys"], where["begun"]))
        return SCAN_LENGTH * num_envs

    for _ in range(
        3
    ):  # the first call's arguments are not yet laid out as its results are, so the second compiles again
        advance()
    return advance


@cache
def smaclite(map_name: str, num_envs: int) -> Callable[[], int]:
    """A few steps of one environment from where the last ones ended; returns how many they were."""
    import gymnasium
    import smaclite

    if num_envs != 1:
        raise ValueError(f"SMAClite has no vector form: num_envs must be 1, got {num_envs}")
    env = gymnasium.make(f"smaclite/{map_name}-v0", disable_env_checker=True).unwrapped
    draw = random.Random(0).random
    played = LIMITS[map_name]

    def advance() -> int:
        nonlocal played
        for _ in range(10):
            if played >= LIMITS[map_name]:
                env.reset()
                played = 0
            masks = env.get_avail_actions()
            legal = [mask.nonzero()[0] for mask in masks]
            actions = [int(choices[int(draw() * len(choices))]) for choices in legal]
            _, _, terminated, truncated, _ = env.step(actions)
            played = LIMITS[map_name] if terminated or truncated else played + 1
        return 10

    assert smaclite  # importing it is what registers the maps
    advance()
    return advance


def measure(advance: Callable[[], int], seconds: float) -> dict[str, float]:
    """Environment steps per second of wall time, and processor seconds per second."""
    steps, wall, processor = 0, time.perf_counter(), time.process_time()
    while (spent := time.perf_counter() - wall) < seconds or not steps:
        steps += advance()
    return {"rate": steps / spent, "cores": (time.process_time() - processor) / spent}


def versions() -> dict[str, str | None]:
    """Versions of the peers and of what they compute with; None where missing."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for key, module, package in (
        ("smax", "jaxmarl", "jaxmarl"), ("smaclite", "smaclite", "smaclite"), ("jax", "jax", "jax"),
        ("numpy", "numpy", "numpy"),
    ):  # fmt: skip
        found[key] = importlib.metadata.version(package) if importlib.util.find_spec(module) else None
    return found


def main() -> None:
    """Answer requests until the input ends."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count={cores()}")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the peers print must not get between the answers
    for line in sys.stdin:
        request = json.loads(line)
        if request:
            advance = {"smax": smax, "smaclite": smaclite}[request["peer"]](request["map_name"], request["num_envs"])
            answer: dict[str, Any] = measure(advance, request["seconds"])
        else:
            answer = versions()
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
