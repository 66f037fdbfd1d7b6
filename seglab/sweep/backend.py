"""Where trials run: what the pool asks of this machine, of Ray and of a cluster's scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from seglab.sweep.trial import Trial

LOG = "output.log"  # in the trial's folder: what it printed


@dataclass(frozen=True)
class Order:
    """A trial's command: to be run in `cwd`, its words appended to `folder`/output.log."""

    command: Sequence[str]
    folder: Path
    cwd: Path
    environment: dict[str, str] = field(default_factory=dict)  # besides that of the process that runs it


class Handle(Protocol):
    """A trial that was started."""

    def poll(self) -> int | None:
        """Its exit code, -N if signal N killed it; None while it runs, or waits for its turn. Asked until it has ended."""

    def end(self) -> None:
        """Ask it to save its state and leave."""

    def kill(self) -> None:
        """End it at once."""


class Backend(Protocol):
    """A place for trials. The pool calls it from one thread."""

    def describe(self) -> str:
        """The devices in words, for the first line of a sweep."""

    def start(self, trial: Trial, order: Order) -> Handle | None:
        """Start the trial, or (None) not yet: there is no room. Sets trial.place, trial.threads and trial.job, where known.

        A trial that has a `job` already, of an earlier session, and still runs is taken over instead. ConfigError if there
        never will be room.
        """

    def slots(self) -> int:
        """How many trials run at once."""

    def close(self) -> None:
        """The sweep has ended."""
