"""Sharing pieces of work among threads: order, exceptions, gradient mode, and what is set back afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from threadpoolctl import threadpool_info

from smix_pz.algorithms.threads import share


@pytest.fixture(autouse=True, params=[1, 2, 3])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def _blas() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_results_are_in_order() -> None:
    assert share(partial(pow, x, 2) for x in range(50)) == [x * x for x in range(50)]
    assert share([]) == []


def test_tasks_run_side_by_side(n_threads: int) -> None:
    """Each waits for all others: with fewer threads than tasks this would never end."""
    barrier = threading.Barrier(n_threads, timeout=20)
    assert sorted(share([barrier.wait] * n_threads)) == list(range(n_threads))


def test_inside_there_is_one_thread_and_the_callers_gradient_mode(n_threads: int) -> None:
    def look() -> tuple[int, list[int], bool]:
        return torch.get_num_threads(), _blas(), torch.is_grad_enabled()

    before = _blas()
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            for threads, blas, gradient in share([look] * 6):
                assert threads == 1 and set(blas) == {1} and gradient == enabled
    assert torch.get_num_threads() == n_threads and _blas() == before


def test_an_exception_is_raised_and_all_is_set_back(n_threads: int) -> None:
    before, done = _blas(), []

    def fail() -> None:
        raise RuntimeError("of a task")

    with pytest.raises(RuntimeError, match="of a task"):
        share([fail, partial(done.append, 1)])
    assert torch.get_num_threads() == n_threads and _blas() == before
    assert share([partial(int, "7")] * 2) == [7, 7]
