"""Freed memory is kept while a job trains, and given back afterwards: told by the system's count of page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from smix_pz.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(2**24)  # 64 MiB, 16384 pages, more than malloc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
first = faults()
undo = keep_freed_memory()
faults()
kept = faults()
undo()
print(first, kept, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    """In a process of its own; huge pages can make faults fewer than pages, but not none."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    first, kept, after = (int(word) for word in done.stdout.split())
    # Kept memory may have to grow once more; what was given back has to be taken anew at least once.
    assert kept < first / 2 and after > 10, (first, kept, after)
