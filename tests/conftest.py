"""One thread, a fixed hypothesis profile, and the test folder on the path (for `tiny_envs` and `oracle`)."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile(
    "smix_pz", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("smix_pz")
