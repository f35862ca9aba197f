"""Stopping in good order: SIGTERM and Ctrl-C are noted, and acted upon where the state is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stopped(KeyboardInterrupt):
    """Work was stopped by a signal after its state had been saved."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class StopRequest:
    """Whether a signal has come; a second one interrupts at once."""

    def __init__(self) -> None:
        self.signum = 0

    def raise_if_any(self) -> None:
        """Raise Stopped if a signal has come."""
        if self.signum:
            raise Stopped(self.signum)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:
            raise KeyboardInterrupt
        self.signum = signum


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Note SIGTERM and SIGINT instead of acting on them, until the block ends.

    A signal that is ignored stays ignored. Outside the main thread, which is the one that gets them, nothing changes.
    """
    request = StopRequest()
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(signum)
            if handler is not signal.SIG_IGN and handler is not None:
                before[signum] = handler
                signal.signal(signum, request._note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
