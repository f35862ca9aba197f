"""One thread, fixed random generators and hypothesis profile; the test folder is on the path (for its modules)."""

from __future__ import annotations

import os
import random
import signal

# Blizzard's messages (pysc2 in the tests of the stand-in) load with this one alone, and only if it is chosen before
# anything imports protobuf, which TensorBoard does.
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile(
    "smix_pz", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("smix_pz")

# A shell starts background commands with interrupts ignored, and children inherit that: tests that send Ctrl-C to a
# process of their own should not depend on how the tests were started.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _global_generators() -> None:
    """The package draws from no global generator, but references do (torch's layers, other people's environments)."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (theirs)
    torch.manual_seed(0)
