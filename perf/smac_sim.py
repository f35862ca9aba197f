"""How fast the embedded SMAC plays, and beside it SMAX and SMAClite.

    python perf/smac_sim.py                                # ours alone, about a minute
    python perf/smac_sim.py --peer-python peer/bin/python  # and the peers: see perf/peer_smac.py
    python perf/smac_sim.py --first-use                    # what compiling costs the first time, and afterwards

Two forms are measured. *batch*: the native vector form, whole batch, all cores, uniformly random legal actions by the
compiled random player; SMAX does the same in its own compiled loop. *single*: one environment through PettingZoo's
parallel API, dicts in and out, a random legal action for each living agent drawn in Python; SMAClite through
Gymnasium's. Observations, state (SMAClite does not give it), masks, drawing the actions and the resets are included;
a call that only resets does not count as a step.

Ours and a peer are measured in turn `--repeats` times; the table has medians. "cores" is processor time over wall time:
where it is well below what the machine has, others were using it. The games are not equal: the peers' rules are simpler
in places and their battles end after other numbers of steps.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PEER_SCRIPT = Path(__file__).with_name("peer_smac.py")
SMAX_MAPS = (
    "3m", "8m", "25m", "5m_vs_6m", "10m_vs_11m", "27m_vs_30m", "2s3z", "3s5z", "3s5z_vs_3s6z", "3s_vs_5z", "6h_vs_8z",
)  # fmt: skip
SMACLITE_MAPS = (
    "2s3z", "3s5z", "3s5z_vs_3s6z", "3s_vs_5z", "10m_vs_11m", "27m_vs_30m", "MMM", "MMM2", "2c_vs_64zg", "2s_vs_1sc",
    "bane_vs_bane", "corridor",
)  # fmt: skip

# What a first use waits for, in a process of its own: prints the seconds of each part as JSON.
FIRST_USE = """
import json, time
start, parts = time.perf_counter(), {}
def part(name):
    global start
    parts[name], start = time.perf_counter() - start, time.perf_counter()
from smix_pz.envs import smac_sim_v0
part("import")
game = smac_sim_v0.parallel_env(map_name="2s3z")
game.reset(seed=0)
part("reset")
game.step(dict.fromkeys(game.agents, 1))
part("step")
games = smac_sim_v0.vector_env(num_envs=64, map_name="MMM")
seen, _ = games.reset(seed=0)
games.step(seen["action_mask"].argmax(-1))
part("vector form")
from smix_pz.envs.battle.players import PLAYERS
for player in PLAYERS.values():
    player(games.battles.scenario, 64, 0).act(games.battles.units, games.battles.battles, seen["action_mask"])
part("players")
print(json.dumps(parts))
"""

Measured = dict[str, float]  # rate: environment steps per second; cores: processor seconds per second


def measure(advance: Callable[[], int], seconds: float) -> Measured:
    """Play for about so many seconds."""
    steps, wall, processor = 0, time.perf_counter(), time.process_time()
    while (spent := time.perf_counter() - wall) < seconds or not steps:
        steps += advance()
    return {"rate": steps / spent, "cores": (time.process_time() - processor) / spent}


def batch(map_name: str, num_envs: int) -> Callable[[], int]:
    """A few steps of the vector form; returns how many environment steps they were."""
    from smix_pz.envs import smac_sim_v0
    from smix_pz.envs.battle.players import Random

    env = smac_sim_v0.vector_env(num_envs=num_envs, map_name=map_name)
    battles = env.battles
    player = Random(battles.scenario, num_envs, 0)
    seen, _ = env.reset(seed=0)
    resetting = 0

    def advance() -> int:
        nonlocal seen, resetting
        steps = 0
        for _ in range(8):
            actions = player.act(battles.units, battles.battles, seen["action_mask"])
            seen, _, terminations, truncations, _ = env.step(actions)
            steps += num_envs - resetting
            resetting = int((terminations | truncations).sum())
        return steps

    advance()
    return advance


def single(map_name: str) -> Callable[[], int]:
    """A few steps of one environment through the dict API; returns how many they were."""
    from smix_pz.envs import smac_sim_v0

    env = smac_sim_v0.parallel_env(map_name=map_name)
    observations, _ = env.reset(seed=0)
    draw = random.Random(0).random

    def advance() -> int:
        nonlocal observations
        for _ in range(20):
            actions = {}
            for agent in env.agents:
                choices = observations[agent]["action_mask"].nonzero()[0]
                actions[agent] = int(choices[int(draw() * len(choices))])
            observations, *_ = env.step(actions)
            if not env.agents:
                observations, _ = env.reset()
        return 20

    advance()
    return advance


class Peer:
    """The peers' interpreter, waiting for requests."""

    def __init__(self, python: str) -> None:
        command = [python, str(PEER_SCRIPT)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.versions = self.ask()

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request of perf/peer_smac.py and its answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peers' process ended at {request or 'its start'}; run {PEER_SCRIPT} to see why.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Let the process end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(
    ours: Callable[[], int], theirs: Callable[[], Measured] | None, seconds: float, repeats: int
) -> tuple[Measured, Measured | None]:
    """Medians of ours and theirs, measured in turn."""
    found: list[Measured] = []
    beside: list[Measured] = []
    for _ in range(repeats):
        found.append(measure(ours, seconds))
        if theirs is not None:
            beside.append(theirs())
    return median(found), median(beside) if beside else None


def median(rows: list[Measured]) -> Measured:
    """Median of each entry."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def speeds(options: argparse.Namespace, console: Console) -> None:
    """Measure and print the table of speeds."""
    peer = Peer(options.peer_python) if options.peer_python else None
    known = peer.versions if peer else {}
    if peer:
        console.print("peers: " + ", ".join(f"{name} {known[name] or 'missing'}" for name in known), highlight=False)
    table = Table(title=f"environment steps per second, random legal actions, medians of {options.repeats}")
    for heading in ("map", "form", "environments", "ours", "cores", "peer", "environments", "peer's", "cores", "ratio"):
        table.add_column(heading, justify="left" if heading in ("map", "form", "peer") else "right")

    def add(map_name: str, form: str, ours: Callable[[], int], count: int, name: str, their_count: int) -> None:
        theirs = None
        if peer and known.get(name) and map_name in {"smax": SMAX_MAPS, "smaclite": SMACLITE_MAPS}[name]:
            request = {"peer": name, "map_name": map_name, "num_envs": their_count, "seconds": options.seconds}
            peer.ask(**request | {"seconds": 0.0})  # compile

            def theirs() -> Measured:
                return peer.ask(**request)

        found, beside = compare(ours, theirs, options.seconds, options.repeats)
        row = [map_name, form, str(count), f"{found['rate']:,.0f}", f"{found['cores']:.1f}"]
        if beside:
            row += [name, str(their_count), f"{beside['rate']:,.0f}", f"{beside['cores']:.1f}"]
            row.append(f"{found['rate'] / beside['rate']:.1f}")
        table.add_row(*row)

    try:
        for map_name in options.maps:
            for count in options.num_envs:
                their_count = options.smax_num_envs.get(map_name, options.smax_num_envs["others"])
                add(map_name, "batch", batch(map_name, count), count, "smax", their_count)
            add(map_name, "single", single(map_name), 1, "smaclite", 1)
    finally:
        if peer:
            peer.close()
    console.print(table)


def first_use(console: Console) -> None:
    """Measure and print what the first use waits for, with nothing compiled and with everything compiled before."""
    table = Table(title="seconds of a first use, each in a fresh process")
    table.add_column("cache of compiled code")
    with tempfile.TemporaryDirectory() as cache:
        for name in ("empty", "warm", "warm"):
            environment = os.environ | {"NUMBA_CACHE_DIR": cache}
            done = subprocess.run(
                [sys.executable, "-c", FIRST_USE], env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            parts = json.loads(done.stdout.splitlines()[-1])
            if len(table.columns) == 1:
                for part in (*parts, "all"):
                    table.add_column(part, justify="right")
            table.add_row(name, *(f"{seconds:.2f}" for seconds in (*parts.values(), sum(parts.values()))))
    console.print(table)


def read_counts(text: str) -> dict[str, int]:
    """ "3m=4096,25m=64,1024" as a dict; the number without a map is for the others."""
    counts = {"others": 256}
    for part in text.split(","):
        name, _, count = part.rpartition("=")
        counts[name or "others"] = int(count)
    return counts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--maps", nargs="+", default=["3m", "2s3z", "3s5z", "MMM", "25m"])
    parser.add_argument("--num-envs", nargs="+", type=int, default=[256], help="our batch sizes")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-python", help="interpreter that has jaxmarl, smaclite or both")
    parser.add_argument(
        "--smax-num-envs",
        type=read_counts,
        default="3m=64,2s3z=1024,25m=64,256",
        help="SMAX's batch sizes; the default is the best of 64, 256 and 1024 where that was measured (2 cores)",
    )
    parser.add_argument("--first-use", action="store_true", help="measure what a first use waits for instead")
    options = parser.parse_args()

    import numba

    from smix_pz.provenance import machine, versions

    console = Console(width=140)
    about = machine()
    told = {name: version for name, version in versions().items() if name != "torch"} | {"numba": numba.__version__}
    console.print(f"{about['processor']}, {about['cores']} cores, {told}", highlight=False)
    if options.first_use:
        first_use(console)
    else:
        speeds(options, console)


if __name__ == "__main__":
    main()
