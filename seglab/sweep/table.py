"""What people see of a sweep: a live table in a terminal, plain lines elsewhere, and a table of failures at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from seglab.sweep.backend import Backend
from seglab.sweep.folder import Sweep
from seglab.sweep.trial import Trial


class Table:
    """The trials of a sweep while they run; `event` and `update` are called by the pool."""

    def __init__(self, sweep: Sweep, backend: Backend, out: Console | None = None) -> None:
        self.sweep, self.backend = sweep, backend
        self.out = out or Console(highlight=False, soft_wrap=True)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While it lasts, the table is on the screen."""
        self.out.print(f"sweep {self.sweep.path} {self.backend.describe()}", markup=False)
        yield

    def event(self, trial: Trial, text: str) -> None:
        """Something happened to a trial: started, goes on, epoch, again, halved, or the state in which it ended."""
        if text != "epoch":
            self.out.print(f"{trial.number} {trial.name()} {text}", markup=False)

    def update(self) -> None:
        """A moment has passed."""


def report(sweep: Sweep, out: Console) -> None:
    """The best trials, the failures with their reasons, and where everything is."""
    for trial in sweep.trials:
        out.print(f"{trial.number} {trial.state} {trial.score} {trial.error or ''}", markup=False)
