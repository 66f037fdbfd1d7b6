"""Signals: a run that is asked to end saves its state first, and leaves with 128 + the signal's number.

SIGINT 130, SIGTERM 143, SIGUSR1 138 (what SLURM sends before the time is up, with --signal=USR1@120).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from seglab.errors import Ended, Stopped
from seglab.processes import SIGNALS


class Interrupts:
    """Notes the first signal. While `deferring` the run looks at `asked` itself; else Ended is raised on the spot."""

    def __init__(self, remedy: str = "") -> None:
        self.asked: int | None = None
        self.deferring = False
        self.remedy, self.resumable = remedy, False  # how to go on, and whether there is something to go on from

    def stopped(self, where: str = "") -> Stopped:
        """The error that ends the run."""
        number = self.asked or signal.SIGTERM
        return Stopped(f"ended by {signal.Signals(number).name}{where}{self.remedy if self.resumable else ''}.", 128 + number)

    def check(self) -> None:
        """Raise Stopped if a signal came."""
        if self.asked is not None:
            raise self.stopped()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within it the run must not be cut off just anywhere: it looks at its safe points; here, at both ends."""
        self.deferring = True
        self.check()  # the error of a signal may have been swallowed, in a __del__ for example
        try:
            yield
            self.check()
        finally:
            self.deferring = False

    @contextmanager
    def listening(self) -> Iterator[Interrupts]:
        """Handle the signals for as long as it lasts (in the main thread; elsewhere nobody could)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield self
        except Ended:
            raise self.stopped() from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None and number == signal.SIGINT:  # the user does not want to wait for the state
            os.write(2, b"\x1b[?25h\n" if os.isatty(2) else b"")  # a progress line hides the cursor
            os._exit(128 + number)
        first, self.asked = self.asked is None, self.asked or number
        if first and not self.deferring:
            raise Ended(str(self.stopped()))
