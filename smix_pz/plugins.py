"""Other people's code in a study: a module, or a Python file, that registers algorithms or holds environments.

A plugin is imported before anything is looked up by name, in every process that trains. What it does on import is its
own affair; usually one call of :func:`smix_pz.algorithms.register`. Importing runs the file: take plugins from people
whose code you would run.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def is_file(plugin: str) -> bool:
    """Whether a plugin is named by its file (``my_method.py``) and not as a module (``my_package.method``)."""
    return plugin.endswith(".py")


def load_plugin(plugin: str) -> ModuleType:
    """Import a plugin, once in a process; a file becomes a module under its own name (``my_method``).

    Raises:
        ValueError: no such file or module, a module of the same name that is another file's, or a name that cannot be
            a module's.
    """
    if not is_file(plugin):
        try:
            return importlib.import_module(plugin)
        except ModuleNotFoundError as error:
            if error.name and plugin.split(".")[0] == error.name.split(".")[0]:
                raise ValueError(
                    f"no plugin {plugin!r}: give an importable module, or a file that ends in .py"
                ) from error
            raise
    path = Path(plugin)
    if not path.is_file():
        raise ValueError(f"no plugin file at {plugin}")
    name = path.stem
    if not name.isidentifier():
        raise ValueError(f"the plugin {path.name!r} should have a name that Python can import, such as my_method.py")
    there = sys.modules.get(name)
    if there is None and importlib.util.find_spec(name) is not None:
        # A file of this name on the path would be imported by name elsewhere, and be another module than this one.
        there = importlib.import_module(name)
    if there is not None:
        if _source(there) == path.read_bytes():
            return there
        raise ValueError(f"the plugin {path.name!r} has the name of another module, {name!r}; rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _source(module: ModuleType) -> bytes | None:
    try:
        return Path(module.__file__ or "").read_bytes()
    except OSError:
        return None
