"""How much memory there is, so that a job that could not hold its episodes stops before it starts; and keeping it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import torch


def available_bytes(device: torch.device) -> int | None:
    """Free memory of the device, as far as it can be told; None if it cannot."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    found = [value for value in (_meminfo(), _left_by_cgroup()) if value is not None]
    if found:
        return min(found)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def readable(n_bytes: float) -> str:
    """In MiB or GiB."""
    return f"{n_bytes / 2**20:,.1f} MiB" if n_bytes < 2**30 else f"{n_bytes / 2**30:,.1f} GiB"


def _meminfo(path: Path = Path("/proc/meminfo")) -> int | None:
    try:
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _left_by_cgroup(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container's limit leaves; memory that the system would give back counts as left."""
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return limit - used + int(stat.get("inactive_file", 0))
    except (OSError, ValueError):
        return None


# mallopt's names in glibc's malloc.h, and what a process comes to by itself that has freed large blocks. (The
# thresholds begin at 128 KiB and rise, but no more once they have been set.)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_USUAL = {_M_MMAP_MAX: 65536, _M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 64 * 2**20}


def keep_freed_memory() -> Callable[[], None]:
    """Let glibc keep what is freed, instead of giving large blocks back to the system one by one.

    A gradient update makes and frees the same large tensors each time; taken from the system anew, their pages fault
    anew, which was 5 to 15% of the updates of large stacks on one core. Where there is no glibc this does nothing.

    Returns:
        A function that goes back to what is usual and gives back what is free.
    """
    try:
        libc = ctypes.CDLL(None)
        mallopt, trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError, TypeError):
        return lambda: None
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)

    def undo() -> None:
        for option, value in _USUAL.items():
            mallopt(option, value)
        trim(0)

    return undo
