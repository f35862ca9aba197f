"""examples/supersuit_ppo.py runs, and counts what it says it counts."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import smix_pz

EXAMPLE = Path(__file__).parents[1] / "examples" / "supersuit_ppo.py"


class Always:
    """A model that chooses one action whatever it sees."""

    def __init__(self, action: int) -> None:
        self.action = action

    def predict(self, observations: np.ndarray, deterministic: bool) -> tuple[np.ndarray, None]:
        assert observations.shape == (3, 33) and deterministic  # 30 of 3m and which of 3 agents it is
        return np.full(len(observations), self.action), None


@pytest.mark.parametrize(("action", "illegal"), [(0, 1.0), (1, 0.0)])
def test_illegal_actions_are_counted(action: int, illegal: float) -> None:
    """No-op is illegal for the living, and then counts as stop, which is legal. Who only stops does not win."""
    play: Any = runpy.run_path(str(EXAMPLE))["play"]
    won, total, share = play(Always(action), "3m", 3, 7)
    assert won == 0.0 and share == illegal
    assert total == play(Always(1), "3m", 3, 7)[1]


def test_it_trains() -> None:
    command = [sys.executable, str(EXAMPLE), *"--steps 400 --envs 1 --eval-episodes 2".split()]
    environment = {**os.environ, "PYTHONPATH": str(Path(smix_pz.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[0] == "0" and int(lines[-1].split()[0].replace(",", "")) >= 400
    assert "of 2, return" in lines[-1]
