"""Trained policies that come with the package: ``smix_pz.load("smix-3m")``."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).with_name("pretrained")


def pretrained() -> dict[str, Path]:
    """Name -> file. A name is an algorithm and a map; docs/results.md says how each was trained and how it plays."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}
