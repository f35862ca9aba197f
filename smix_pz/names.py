"""Errors that name the nearest valid choice; shared by every layer that looks a name up."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, choices: Iterable[str]) -> str | None:
    """The choice that ``name`` was most likely meant to be, whatever its case; None if none is near."""
    lowered = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.5)
    return lowered[found[0]] if found else None


def nearest(name: str, choices: Iterable[str]) -> str:
    """A sentence for an error message: the nearest choice if one is near, and all of them."""
    known = sorted(choices)
    meant = closest(name, known)
    hint = f"did you mean {meant!r}? " if meant else ""
    return f"{hint}known: {', '.join(known)}"


def check_name(kind: str, name: object, choices: Iterable[str]) -> None:
    """Raise ValueError unless ``name`` is one of ``choices``."""
    known = list(choices)
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}; {nearest(str(name), known)}")
