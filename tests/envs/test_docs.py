"""Every Python block of docs/environments.md and docs/deploy.md runs, and prints what its comments say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
TEXT = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("environments.md", "deploy.md"))
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block(block, capsys):
    if "mpe2" in block:
        pytest.importorskip("mpe2")
    exec(compile(block, "environments.md", "exec"), {"__name__": "environments"})
    printed = capsys.readouterr().out.splitlines()
    assert printed == [line.split("# ")[1] for line in block.splitlines() if line.startswith("print(")]


def test_there_are_blocks():
    assert len(BLOCKS) >= 4
