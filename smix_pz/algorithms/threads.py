"""Independent pieces of work on a CPU, shared among as many threads as PyTorch has.

PyTorch shares one operation among its threads, which gains little where operations are small; whole runs, or whole
networks, lose nothing by it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar, cast

import scipy.linalg.cython_blas  # noqa: F401 (the library that compiled code calls has to be there to be limited)
import torch
from threadpoolctl import ThreadpoolController

T = TypeVar("T")


def threads() -> int:
    """How many threads ``share`` uses here: PyTorch's, but one inside a task."""
    return 1 if getattr(_here, "in_task", False) else _team or torch.get_num_threads()


def share(tasks: Iterable[Callable[[], T]]) -> list[T]:
    """Run the tasks and return what they return, in their order; the first exception is raised.

    Inside a task PyTorch has one thread, if there are several tasks, and so has the BLAS that compiled code calls. The
    gradient mode is that of the caller.
    """
    waiting, count = list(tasks), threads()
    with _one_blas_thread():
        if count == 1 or len(waiting) == 1:
            return [task() for task in waiting]
        found: list[T | None] = [None] * len(waiting)
        left = iter(enumerate(waiting))  # taken from under Python's lock, so that each task is taken once
        with_gradient = torch.is_grad_enabled()

        def work() -> None:
            _here.in_task = True
            try:
                with torch.set_grad_enabled(with_gradient):
                    for index, task in left:
                        found[index] = task()
            finally:
                _here.in_task = False

        with whole_tasks():
            helpers = [_pool(os.getpid(), count - 1).submit(work) for _ in range(min(count, len(waiting)) - 1)]
            try:
                work()
            finally:
                wait(helpers)
            for helper in helpers:
                helper.result()
        return cast(list[T], found)


@contextmanager
def whole_tasks() -> Iterator[None]:
    """PyTorch's threads are kept for tasks of ``share``: between them, its operations are one thread's.

    The threads that PyTorch shares an operation among go on waiting for the next one for a while, and would be in the
    way of tasks that follow soon.
    """
    global _team
    own = torch.get_num_threads()
    if _team or own == 1:
        yield
        return
    _team = own
    torch.set_num_threads(1)  # also tells libraries whose setting is the whole process's
    try:
        yield
    finally:
        _team = 0
        torch.set_num_threads(own)


_here = threading.local()
_team = 0  # PyTorch's threads, while they are kept for tasks


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Made when first needed; a forked child makes its own, since threads do not survive a fork."""
    return ThreadPoolExecutor(threads, "smix_pz", initializer=torch.set_num_threads, initargs=(1,))


_depth = 0
_lock = threading.Lock()
_limit: Any = None


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """One thread for SciPy's BLAS, whose setting is the whole process's; the outermost of several sets it back."""
    global _depth, _limit
    with _lock:
        _depth += 1
        if _depth == 1:
            _limit = _controller().limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _limit.restore_original_limits()
                _limit = None


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
