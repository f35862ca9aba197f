"""Checks of what callers hand in: every refusal names the value, what was expected and the nearest valid choice."""

from __future__ import annotations

import inspect
import numbers
import operator
from collections.abc import Callable, Iterable
from typing import Any

from smix_pz.names import closest


def nearest(name: str, choices: Iterable[str]) -> str:
    """End of an error message: the choice that `name` was most likely meant to be, and all of them if they are few."""
    known = sorted(choices)
    meant = closest(name, known)
    hint = f"; did you mean {meant!r}?" if meant else "."
    listed = f" Choices: {', '.join(known)}" if 0 < len(known) <= 12 else ""
    return f"{hint}{listed}"


def check_choice(what: str, value: Any, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`, else raise ValueError naming the nearest."""
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{what} {value!r} is not known{nearest(str(value), known)}")
    return value


def check_int(what: str, value: Any, minimum: int) -> int:
    """Return `value` as an int of at least `minimum`; raise TypeError (not an integer) or ValueError (too small)."""
    if isinstance(value, bool):
        raise TypeError(f"{what} must be an integer of at least {minimum}, got the truth value {value!r}.")
    try:
        number = operator.index(value)
    except TypeError:
        whole = isinstance(value, float) and value.is_integer()
        hint = f"; did you mean {int(value)}?" if whole else "."
        raise TypeError(f"{what} must be an integer of at least {minimum}, got {value!r}{hint}") from None
    if number < minimum:
        raise ValueError(f"{what} must be an integer of at least {minimum}, got {number}; the nearest is {minimum}.")
    return number


def check_fraction(what: str, value: Any) -> float:
    """Return `value` as a float from 0 to 1; raise TypeError (no number) or ValueError (outside)."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{what} must be a number from 0 to 1, got {value!r}.")
    number = float(value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{what} must be a number from 0 to 1, got {value!r}; the nearest is {int(number > 1.0)}.")
    return number


def check_keywords(what: str, function: Callable[..., Any], keywords: Iterable[str]) -> None:
    """Raise TypeError if `function` cannot take one of `keywords`; say nothing where its signature does not tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for keyword in keywords:
        if keyword not in named:
            raise TypeError(f"{what} takes no argument {keyword!r}{nearest(keyword, named)}")
