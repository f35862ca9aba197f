"""What the stand-in calls itself wherever a result could be mistaken for StarCraft II's."""

from __future__ import annotations

import json
from dataclasses import asdict

from smix_pz.doctor import STANDIN_NAME, Notice

__all__ = ["is_standin", "notice_text", "title"]

DEFAULT_PRESET = "liberty"


def title(rules: str, preset: str = DEFAULT_PRESET) -> str:
    """Name with the version of the battle's rules, such as "smix standin r1"; a preset of units other than the default
    is part of it, because its battles are others."""
    return f"{STANDIN_NAME} {rules}" if preset == DEFAULT_PRESET else f"{STANDIN_NAME} {rules} {preset}"


def is_standin(game_version: str) -> bool:
    """Whether a version that a game told in its ping is the stand-in's."""
    return game_version.startswith(STANDIN_NAME)


def notice_text(notice: Notice) -> str:
    """The content of the file by which `smix_pz.doctor.read_notice` knows the folder."""
    about = "This folder is a stand-in for StarCraft II, written by smix_pz. It is not the game."
    return json.dumps({"about": about, **asdict(notice)}, indent=2) + "\n"
