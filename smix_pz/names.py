"""Errors that name the nearest valid choice; shared by every layer that looks a name up."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, choices: Iterable[str]) -> str:
    """A sentence for an error message: the nearest choice if one is near, and all of them."""
    known = sorted(choices)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(known)}"


def check_name(kind: str, name: object, choices: Iterable[str]) -> None:
    """Raise ValueError unless ``name`` is one of ``choices``."""
    known = list(choices)
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}; {nearest(str(name), known)}")
