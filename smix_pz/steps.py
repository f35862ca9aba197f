"""Preprocessing steps as text: ``resize_v1:x_size=84,y_size=84``. How it reads and writes; what the names mean is
known to :mod:`smix_pz.envs.preprocessing`.

A step is a name, or ``name:arguments``: values separated by commas, each one ``key=value`` or, for the first ones,
``value`` alone. Values are YAML, so ``reshape_v0:shape=[84, 84]`` and ``dtype_v0:float32`` mean what they seem to.
In YAML files and in Python a step may be a mapping from its name: ``{resize_v1: {x_size: 84, y_size: 84}}``,
``{frame_stack_v1: 4}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml


def parse_step(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Take a step apart: (name, values without a key, values by key).

    Raises:
        ValueError: no name, a value without a key behind one with, a key twice, or what is no YAML.
    """
    name, _, rest = text.partition(":")
    name = name.strip()
    if not name:
        raise ValueError(f"preprocessing step {text!r} has no name; expected NAME or NAME:KEY=VALUE,...")
    values: list[Any] = []
    keywords: dict[str, Any] = {}
    for part in _parts(rest):
        key, equals, value = part.partition("=")
        if not equals or not key.strip().isidentifier():
            if keywords:
                raise ValueError(f"preprocessing step {text!r}: {part.strip()!r} has no key, but stands behind one")
            values.append(_value(part, text))
        elif key.strip() in keywords:
            raise ValueError(f"preprocessing step {text!r} gives {key.strip()!r} twice")
        else:
            keywords[key.strip()] = _value(value, text)
    if len(values) == 1 and not keywords and isinstance(values[0], dict):
        return name, [], {str(key): value for key, value in values[0].items()}  # resize_v1: {x_size: 84}
    return name, values, keywords


def step_text(step: Any) -> str:
    """A step as text, whichever way it was written; text stays as it is.

    Raises:
        TypeError: neither text nor a mapping from one name.
    """
    if isinstance(step, str):
        return step
    if not isinstance(step, Mapping) or len(step) != 1:
        raise TypeError(
            f"preprocess step is {step!r}; expected text such as 'frame_stack_v1:4', or a mapping from one name to its "
            "arguments, such as {'resize_v1': {'x_size': 84, 'y_size': 84}}"
        )
    ((name, arguments),) = step.items()
    if arguments is None:
        return str(name)
    if isinstance(arguments, Mapping):
        return join_step(str(name), arguments)
    return f"{name}:{_text(arguments)}"


def join_step(name: str, keywords: Mapping[str, Any]) -> str:
    """The text of a step whose arguments all have keys."""
    words = ",".join(f"{key}={_text(value)}" for key, value in keywords.items())
    return f"{name}:{words}" if words else name


def _parts(text: str) -> list[str]:
    """Split at commas that stand outside brackets and quotes."""
    parts, depth, quote, start, escaped = [], 0, "", 0, False
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote and not escaped else quote
            escaped = char == "\\" and quote == '"' and not escaped
        elif char in "\"'":
            quote = char
        elif char in "[{(":
            depth += 1
        elif char in "]})":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    parts.append(text[start:])
    return [part for part in parts if part.strip()]


def _value(text: str, step: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"preprocessing step {step!r}: {text.strip()!r} is no value") from error


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    plain = isinstance(value, str) and value.isidentifier() and yaml.safe_load(value) == value
    return value if plain else json.dumps(value)
