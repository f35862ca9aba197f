"""smix_pz: cooperative multi-agent reinforcement learning on PettingZoo environments.

>>> import smix_pz
>>> result = smix_pz.train(smix_pz.TrainConfig(env="matrix_game_v0", algorithm="smix", seeds=(0, 1, 2)))
"""

from __future__ import annotations

from typing import Any

from smix_pz import envs
from smix_pz.version import __version__

envs.register_all()

# The learning side needs PyTorch, which takes seconds to import; environments alone do not.
_LAZY = {
    "ALGORITHMS": "smix_pz.algorithms",
    "Policy": "smix_pz.policy",
    "TrainConfig": "smix_pz.config",
    "TrainResult": "smix_pz.training",
    "evaluate": "smix_pz.policy",
    "load": "smix_pz.policy",
    "pretrained": "smix_pz.policies",
    "train": "smix_pz.training",
}

make = envs.make_vector_env

__all__ = [
    "ALGORITHMS",
    "Policy",
    "TrainConfig",
    "TrainResult",
    "__version__",
    "envs",
    "evaluate",
    "load",
    "make",
    "pretrained",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'smix_pz' has no attribute {name!r}")
