"""One table of how all jobs of a study are doing, read from their files alone: here, or where it runs elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from smix_pz.jobs import read_json

# A heartbeat comes every few seconds, but a group of long battles of many runs, and an evaluation, lie in between.
_SILENT_AFTER = 300.0  # seconds
_LINE_EVERY = 15.0  # seconds between plain lines where there is no terminal


@dataclass(frozen=True)
class JobStatus:
    """How one job is doing.

    Attributes:
        label, seeds: which it is.
        status: waiting, running, silent (it says that it runs, but nothing was heard for minutes), stopped, failed or
            finished.
        made, wanted: environment steps of all its runs.
        speed: of all its runs, environment steps a second. latest: newest evaluation, the mean over runs.
        error: why it failed. age: seconds since it was heard of.
    """

    label: str
    seeds: tuple[int, ...]
    status: str
    made: int
    wanted: int
    speed: float = 0.0
    latest: dict[str, float] = field(default_factory=dict)
    error: str = ""
    age: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """At this speed; None if it is not running."""
        return (self.wanted - self.made) / self.speed if self.status == "running" and self.speed else None


def read_statuses(out: Path, now: float | None = None) -> list[JobStatus]:
    """The state of every planned job of a study, or of every job below a folder of ``smix-pz train``.

    Raises:
        ValueError: there is no such folder, or no job in it.
    """
    if not out.is_dir():
        raise ValueError(f"no folder at {out}")
    plan = read_json(out / "jobs.json")
    entries: list[dict[str, Any]] = [] if plan is None else plan["jobs"]
    if not entries:
        for path in sorted(out.rglob("job-*/job.json")):
            job = read_json(path)
            if job is not None:
                label = f"{job['config']['algorithm']} on {job['config']['env']}"
                config = {**job["config"], "seeds": job["seeds"]}
                entries.append({"label": label, "folder": str(path.parent.relative_to(out)), "config": config})
    if not entries:
        raise ValueError(f"{out} holds no jobs; expected the folder of a study, or the out of smix-pz train")
    return [_status(out, entry, time.time() if now is None else now) for entry in entries]


def _status(out: Path, entry: dict[str, Any], now: float) -> JobStatus:
    folder, seeds, steps = out / entry["folder"], tuple(entry["config"]["seeds"]), entry["config"]["steps"]
    wanted = steps * len(seeds)
    beat = read_json(folder / "heartbeat.json") or {}
    done = read_json(folder / "done.json")
    finished = done is not None and done["steps"] == steps
    latest = beat.get("latest", {})
    if finished:
        return JobStatus(entry["label"], seeds, "finished", wanted, wanted, latest=latest)
    if not beat:
        return JobStatus(entry["label"], seeds, "waiting", 0, wanted)
    age, status = max(0.0, now - beat["updated"]), beat["status"]
    if status == "running" and age > _SILENT_AFTER:
        status = "silent"
    if status == "finished":  # of fewer steps than are wanted now
        status = "waiting"
    made = min(beat["steps"], wanted)
    return JobStatus(entry["label"], seeds, status, made, wanted, beat["speed"], latest, beat.get("error", ""), age)


def status_table(statuses: Sequence[JobStatus], *, most: int | None = None) -> Table:
    """The table for people: running jobs first, finished ones last; rows beyond ``most`` are counted, not shown."""
    order = {"failed": 0, "running": 1, "silent": 2, "stopped": 3, "waiting": 4, "finished": 5}
    rows = sorted(statuses, key=lambda status: order.get(status.status, 9))
    win_rate = any("eval/win_rate" in status.latest for status in statuses)
    table = Table(caption=summary(statuses), caption_justify="left")
    for heading, justify in (("job", "left"), ("seeds", "left"), ("state", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for heading in ("steps", "of", "steps/s", "time left", *(("win rate",) if win_rate else ()), "return"):
        table.add_column(heading, justify="right")
    shown = rows if most is None else rows[:most]
    for row in shown:
        n = len(row.seeds)
        state = f"silent for {duration(row.age)}" if row.status == "silent" else row.status
        metrics = ("eval/win_rate", "eval/return") if win_rate else ("eval/return",)
        table.add_row(
            row.label,
            _span(row.seeds),
            state,
            f"{row.made // n:,}",
            f"{row.wanted // n:,}",
            f"{row.speed:,.0f}" if row.status == "running" and row.speed else "",
            duration(row.seconds_left),
            *(f"{row.latest[name]:.3f}" if name in row.latest else "" for name in metrics),
        )
    if len(rows) > len(shown):
        rest = rows[len(shown) :]
        counts = {s: sum(row.status == s for row in rest) for s in order}
        table.add_row("... " + ", ".join(f"{count} {name}" for name, count in counts.items() if count))
    return table


def summary(statuses: Sequence[JobStatus]) -> str:
    """One line over all jobs."""
    made, wanted = sum(s.made for s in statuses), sum(s.wanted for s in statuses)
    counts = {name: sum(s.status == name for s in statuses) for name in ("finished", "running", "waiting")}
    counts |= {name: n for name in ("silent", "stopped", "failed") if (n := sum(s.status == name for s in statuses))}
    speed = sum(s.speed for s in statuses if s.status == "running")
    left = f", {duration((wanted - made) / speed)} left at {speed:,.0f} steps/s" if speed else ""
    words = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"{made / max(1, wanted):.0%} of {wanted:,} steps{left}; {len(statuses)} jobs: {words}"


def duration(seconds: float | None) -> str:
    """Seconds in words; "" for None."""
    if seconds is None:
        return ""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def _span(seeds: tuple[int, ...]) -> str:
    if len(seeds) > 2 and seeds == tuple(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(map(str, seeds))


class LiveView:
    """The table, kept up to date on a terminal; a line every 15 seconds elsewhere."""

    def __init__(self, out: Path, console: Console) -> None:
        self._out, self._console = out, console
        self.interval = 1.0 if console.is_terminal else 2.0
        self._started = self._said = time.perf_counter()
        self._live = Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else None

    def __enter__(self) -> LiveView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self.update()
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def update(self) -> None:
        """Read the files and show what they say."""
        now = time.perf_counter()
        if self._live is None and now - self._said < _LINE_EVERY:
            return
        self._said = now
        try:
            statuses = read_statuses(self._out)
        except (ValueError, KeyError):
            return
        if self._live is not None:
            self._live.update(status_table(statuses, most=max(4, self._console.height - 8)), refresh=True)
        else:
            busy = [f"{s.label} {s.made / s.wanted:.0%}" for s in statuses if s.status == "running"]
            self._console.print(f"{now - self._started:5.0f} s  {summary(statuses)}", highlight=False, soft_wrap=True)
            if busy:
                self._console.print(f"         {', '.join(busy)}", highlight=False, soft_wrap=True)


def to_json(statuses: Sequence[JobStatus]) -> str:
    """The same for programs."""
    rows = [{**vars(status), "seconds_left": status.seconds_left} for status in statuses]
    return json.dumps(rows, indent=1)
