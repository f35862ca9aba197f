"""Progress of a training job: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from smix_pz.config import TrainConfig

if TYPE_CHECKING:
    from smix_pz.training import _Run

_LINE_EVERY = 10.0  # seconds between plain lines


class Progress:
    """Shows how far all runs of one job are, and their newest evaluations."""

    def __init__(self, config: TrainConfig, n_runs: int) -> None:
        self._console = Console(stderr=True)
        self._quiet = not config.progress
        self._title = f"{config.algorithm} on {config.env_name}, {n_runs} run(s)"
        self._latest: dict[int, float] = {}
        self._line_at = time.perf_counter()
        self._shown_at = 0.0
        self._bar: Bar | None = None
        if config.progress and self._console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%  return {task.fields[value]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(self._title, total=1.0, value="-")
            self._bar.start()

    def note(self, text: str) -> None:
        """One line of information."""
        if not self._quiet:
            self._console.print(text, highlight=False, soft_wrap=True)

    def evaluated(self, run: _Run, values: Mapping[str, Any]) -> None:
        """Remember a run's newest evaluation."""
        self._latest[run.seed] = values["eval/return"]

    def update(self, runs: Sequence[_Run], steps: int) -> None:
        """Show the mean progress over runs."""
        now = time.perf_counter()
        if self._quiet or now - self._shown_at < 0.2:
            return
        self._shown_at = now
        done = sum(min(run.t_env / steps, 1.0) for run in runs) / len(runs)
        value = f"{sum(self._latest.values()) / len(self._latest):.2f}" if self._latest else "-"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, value=value)
        elif now - self._line_at > _LINE_EVERY:
            self._line_at = now
            self._console.print(f"{self._title}: {done:4.0%}, mean greedy return {value}", highlight=False)

    def close(self) -> None:
        """Stop the live display."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
