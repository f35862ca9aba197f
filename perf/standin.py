"""Environment steps per second of SMAC's own class on the stand-in, and where the time of a step goes.

    git clone https://github.com/oxwhirl/smac PATH
    PYTHONPATH=PATH python perf/standin.py                 # with pysc2 installed, as `make install` does

Random legal actions; a step includes observations, state and masks, as a learner asks for them. Each map is played in
turn by SMAC's class on the stand-in and, in this process, by smac_sim_v0 through PettingZoo's API. Then SMAC's class
plays once more with pysc2's stopwatch on, which splits a step:

- SMAC's Python: observations, state, masks, commands, reward;
- protocol buffers: the client writes requests and reads responses (pure Python, as Blizzard's files need);
- websocket: the client's library, the kernel, and the server's frames;
- server: reading requests, playing, writing responses. `engine` is the playing alone, measured in this process.

The server's share is what it spends on frames and answers, of the whole step.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")

import numpy as np
from rich.console import Console
from rich.table import Table

from smix_pz.envs import smac_sim_v0
from smix_pz.envs.starcraft import import_smac
from smix_pz.standin.folder import install, warm_up
from smix_pz.standin.messages import load_messages
from smix_pz.standin.world import World

PER_STEP = 8


def play_smac(env: Any, seconds: float, rng: np.random.Generator) -> tuple[int, float]:
    """(steps, seconds) of random legal play."""
    env.reset()
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        masks = env.get_avail_actions()
        _, over, _ = env.step([int(rng.choice(np.flatnonzero(row))) for row in masks])
        env.get_obs()
        env.get_state()
        steps += 1
        if over:
            env.reset()
    return steps, time.perf_counter() - started


def play_twin(map_name: str, seconds: float, rng: np.random.Generator) -> float:
    """Steps per second of the same play without the protocol."""
    env = smac_sim_v0.parallel_env(map_name)
    _, infos = env.reset(seed=0)
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        actions = {agent: int(rng.choice(np.flatnonzero(infos[agent]["action_mask"]))) for agent in env.agents}
        *_, infos = env.step(actions)
        env.state()
        steps += 1
        if not env.agents:
            _, infos = env.reset()
    return steps / (time.perf_counter() - started)


def engine_alone(map_name: str, seconds: float) -> float:
    """Seconds of playing eight loops of one battle."""
    world = World(load_messages(), map_name, 0)
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        if steps % 40 == 0:
            world.restart()
        world.step(PER_STEP)
        steps += 1
    return (time.perf_counter() - started) / steps


@contextmanager
def started_with(*extra: str) -> Iterator[None]:
    """Games that are started inside get more arguments."""
    from pysc2.lib import sc_process

    start = sc_process.StarcraftProcess.__init__

    def started(self: Any, *arguments: Any, extra_args: Any = None, **keywords: Any) -> None:
        start(self, *arguments, extra_args=[*(extra_args or []), *extra], **keywords)

    sc_process.StarcraftProcess.__init__ = started
    try:
        yield
    finally:
        sc_process.StarcraftProcess.__init__ = start


def split(smac: Any, map_name: str, seconds: float, rng: np.random.Generator) -> dict[str, float]:
    """Milliseconds of a step by part."""
    from pysc2.lib.stopwatch import sw

    with tempfile.TemporaryDirectory() as folder:
        times_file = Path(folder) / "times.json"
        env = smac(map_name=map_name, seed=1)
        with started_with("--times", str(times_file)):
            play_smac(env, 0.0, rng)
        env._episode_count = 1  # so that the next reset goes on in this game, as it does after the first episode's end
        sw.clear()
        sw.enable()
        steps, total = play_smac(env, seconds, rng)
        sw.disable()
        spans = {name: stat.sum for name, stat in sw.times.items()}
        env.close()
        deadline = time.monotonic() + 10
        while not times_file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        server = json.loads(times_file.read_text())

    def spent(*ends: str) -> float:
        return sum(value for name, value in spans.items() if name.rsplit(".", 1)[-1] in ends)

    protobuf = spent("serialize_request", "parse_response")
    moving = spent("write_request", "read_response")  # waiting for the server is in read_response
    # The server's clock ran over the launch too: what it spent on a request of each kind, times those of a step.
    kinds = ("action", "step", "observation")
    answering = steps * sum(server[f"answering {kind}"] / server[f"requests {kind}"] for kind in kinds)
    frames = steps * len(kinds) * server["websocket"] / server["requests"]
    parts = {
        "SMAC's Python": total - protobuf - moving,
        "protocol buffers": protobuf,
        "websocket": moving - answering,
        "server": answering,
        "of it frames (in websocket)": frames,
        "step": total,
    }
    return {name: 1000 * value / steps for name, value in parts.items()}


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", nargs="+", default=["3m", "2s3z", "25m"])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    smac = import_smac()
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder) / "StarCraftII")
        os.environ["SC2PATH"] = str(Path(folder) / "StarCraftII")
        warm_up()
        speed = Table("map", "SMAC on the stand-in", "smac_sim_v0", title="environment steps per second (medians)")
        parts = Table("map", *("step", "SMAC's Python", "protocol buffers", "websocket", "server", "of it engine"))
        parts.add_column("server's share")
        for map_name in given.maps:
            env = smac(map_name=map_name, seed=1)
            rates, twins = [], []
            for _ in range(given.repeats):
                steps, seconds = play_smac(env, given.seconds, rng)
                rates.append(steps / seconds)
                twins.append(play_twin(map_name, given.seconds / 5, rng))
            env.close()
            speed.add_row(map_name, f"{np.median(rates):,.0f}", f"{np.median(twins):,.0f}")
            found = split(smac, map_name, given.seconds, rng)
            engine = 1000 * engine_alone(map_name, 1.0)
            share = (found["server"] + found["of it frames (in websocket)"]) / found["step"]
            shown = [found[name] for name in ("step", "SMAC's Python", "protocol buffers", "websocket", "server")]
            parts.add_row(map_name, *(f"{ms:.3f}" for ms in [*shown, engine]), f"{share:.0%}")
    console = Console(width=120)
    console.print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {processor()}")
    console.print(speed)
    parts.title = "milliseconds of a step, pysc2's stopwatch on"
    console.print(parts)


if __name__ == "__main__":
    main()
