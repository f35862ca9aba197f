"""Registration and a screen that is not there, for all tests of environments."""

from __future__ import annotations

import os

import smix_pz.envs

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
smix_pz.envs.register_all()
