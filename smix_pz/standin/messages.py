"""Blizzard's messages as classes of protobuf's fast implementation.

The package `s2clientprotocol` holds code that an old protoc generated. With protobuf 4 and newer it loads in the slow
Python implementation only, and that by a setting for the whole process. The descriptions of the messages inside that
code are in order, so they are read from its text (nothing is imported) into a pool of our own, whichever implementation
protobuf uses.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

__all__ = ["load_messages"]

PACKAGE = "SC2APIProtocol"
FILES = ("common", "error", "data", "raw", "score", "spatial", "ui", "debug", "query", "sc2api")  # dependencies first
INSTALL = 'pip install "smix-pz[standin]"'


@cache
def load_messages() -> SimpleNamespace:
    """All top-level messages and enums by their names, such as `.Request`, `.Response`, `.Status`.

    A message is a class; an enum is a namespace of its numbers, such as `.Status.in_game`.

    Raises:
        ImportError: protobuf or s2clientprotocol is missing, or unlike what is known of it; with the remedy.
    """
    try:
        from google.protobuf import descriptor_pool
        from google.protobuf.message_factory import GetMessageClass
    except ImportError as error:
        raise ImportError(
            f"the stand-in needs protobuf 4.22 or newer, {error}: {INSTALL}, in an environment of its own if another "
            "package here needs an older one (the programs that play need not share it)."
        ) from error
    pool = descriptor_pool.DescriptorPool()
    for name in FILES:
        pool.AddSerializedFile(_description(_folder() / f"{name}_pb2.py"))
    found: dict[str, Any] = {}
    for name in FILES:
        file = pool.FindFileByName(f"s2clientprotocol/{name}.proto")
        found |= {name: GetMessageClass(message) for name, message in file.message_types_by_name.items()}
        found |= {name: _numbers(enum) for name, enum in file.enum_types_by_name.items()}
    return SimpleNamespace(**found)


def _numbers(enum: Any) -> SimpleNamespace:
    return SimpleNamespace(**{value.name: value.number for value in enum.values})


def _folder() -> Path:
    spec = importlib.util.find_spec("s2clientprotocol")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"the stand-in needs s2clientprotocol: {INSTALL}.")
    return Path(next(iter(spec.submodule_search_locations)))


def _description(path: Path) -> bytes:
    """The serialized FileDescriptorProto in a generated module."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ImportError(f"s2clientprotocol is damaged, {error}: {INSTALL} --force-reinstall.") from error
    for constant in _candidates(tree):
        value = constant.encode("latin1") if isinstance(constant, str) else constant
        if isinstance(value, bytes) and value:
            return value
    raise ImportError(f"{path} holds no description of its messages; s2clientprotocol 5.0.17.98310.0 is known to work.")


def _candidates(tree: ast.AST) -> Iterator[Any]:
    """Constants that are handed to `serialized_pb=` (protoc before 3.20) or `AddSerializedFile()` (since)."""
    for node in ast.walk(tree):
        handed: list[ast.expr] = []
        if isinstance(node, ast.keyword) and node.arg == "serialized_pb":
            handed = [node.value]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "AddSerializedFile":
            handed = list(node.args)
        for value in handed:
            inner = value.args[0] if isinstance(value, ast.Call) and value.args else value
            if isinstance(inner, ast.Constant):
                yield inner.value
