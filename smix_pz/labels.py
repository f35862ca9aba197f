"""Names of things that were handed over as objects, for records: an import path where there is one, else ``<...>``.

A label that begins with ``<`` cannot be found again by name; everything else can.
"""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType
from typing import Any


def label(thing: Any) -> str:
    """What stands in a record for ``thing``.

    Text is its own label, a module's is its name, a class's or function's ``package.module:name`` if that finds it.
    Anything else gets a description: ``<lambda of train_it>``, ``<an object of pkg.games:Agree>``.
    """
    if isinstance(thing, str):
        return thing
    if isinstance(thing, ModuleType):
        return thing.__name__
    if isinstance(thing, partial):
        return f"<partial of {label(thing.func).strip('<>')}>"
    path = import_path(thing)
    if path is not None:
        return path
    if hasattr(thing, "__qualname__"):
        name = "lambda" if thing.__name__ == "<lambda>" else thing.__qualname__.rpartition(".<locals>.")[2]
        return f"<{name} of {thing.__module__}>"
    return f"<an object of {label(type(thing)).strip('<>')}>"


def is_found_by_name(name: str) -> bool:
    """Whether a label finds its thing again."""
    return not name.startswith("<")


def import_path(thing: Any) -> str | None:
    """``package.module:name`` of a class or function, if an import finds the same thing there; else None."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    same = found is thing or (getattr(thing, "__self__", None) is not None and found == thing)  # or a class's method
    return f"{module}:{name}" if same and isinstance(getattr(thing, "__self__", None), (type(None), type)) else None
