"""The pool: it starts trials as room becomes free, watches them, and keeps the sweep's record true.

One thread, one loop. Whatever becomes of a trial, the others go on; whatever becomes of the pool, its record is on the disk.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from seglab.errors import ConfigError, Stopped
from seglab.processes import SAVING, noted
from seglab.sweep.backend import LOG, Backend, Handle, Order
from seglab.sweep.failure import killed_for_memory, out_of_memory, reason, tail
from seglab.sweep.folder import Sweep
from seglab.sweep.trial import Trial
from seglab.sweep.watching import Row, Watch

LOOK = 0.05  # seconds between two looks at the trials' processes
READ = 0.5  # and at their files
HUNG = 20.0  # seconds between SIGTERM and SIGKILL for a trial that counts as hung; others have SAVING
ENDED = (130, 138, 143)  # exit codes of a run that was asked to end, and saved its state
BEGUN = "train.log"  # in the folder of a run that can be gone on with


@dataclass(frozen=True)
class Rules:
    """What to do about trials that fail."""

    retries: int = 0  # how often a failed trial is started again, to go on from its last.ckpt
    halve_batch: bool = False  # start one that ran out of memory again, with half the batch and twice the accumulation
    trial_timeout: float | None = None  # minutes


class Source(Protocol):
    """Where the trials come from: a list, or a study that thinks of the next one."""

    def next(self) -> Trial | None:
        """The next trial to run; None if there is none for now, or (nothing runs) at all."""

    def prune(self, trial: Trial, rows: list[Row]) -> bool:
        """Whether the trial is to be ended early, given the rows of metrics.csv that are new."""

    def ended(self, trial: Trial) -> None:
        """The trial has ended for good."""


class Show(Protocol):
    """What people see of it."""

    def event(self, trial: Trial, text: str) -> None:
        """Something happened to the trial."""

    def update(self) -> None:
        """A moment has passed."""


@dataclass
class Running:
    """A trial at work."""

    trial: Trial
    handle: Handle
    watch: Watch
    said: int  # size of its log before
    before: float  # seconds of its earlier attempts
    killed: int  # what the system had killed for memory before
    began: float = field(default_factory=time.monotonic)
    why: str | None = None  # it is being ended, because: pruned | timeout | asked
    deadline: float = float("inf")

    def end(self, why: str, patience: float) -> None:
        """Ask it to save and leave."""
        if self.why is None:
            self.why, self.deadline = why, time.monotonic() + patience
            self.handle.end()


class Pool:
    """Runs the trials of a source.

    `order(trial, resumed)` is a trial's command; `halved(trial)` the overrides that halve its batch, None if none do.
    """

    def __init__(
        self,
        sweep: Sweep,
        backend: Backend,
        source: Source,
        order: Callable[[Trial, bool], Order],
        show: Show,
        rules: Rules = Rules(),
        halved: Callable[[Trial], list[str] | None] = lambda trial: None,
    ) -> None:
        self.sweep, self.backend, self.source, self.show = sweep, backend, source, show
        self.order, self.rules, self.halved = order, rules, halved
        self.running: list[Running] = []
        self.again: deque[Trial] = deque()
        self.retried: dict[int, int] = {}
        self.signals: list[int] = []
        self._head: Trial | None = None
        self._read = 0.0

    def run(self) -> None:
        """Until all trials have ended. Raises Stopped, with the trials' states saved, if a signal came."""
        with noted(self.signals):
            try:
                while self._start() or self.running:
                    before = len(self.running)
                    self._look()
                    self.show.update()
                    if len(self.signals) > 1:
                        break
                    if len(self.running) == before:  # else there is room for the next trial at once
                        time.sleep(LOOK)
            finally:
                for one in self.running:  # after a second signal; or an error of the pool's own, of which no trial is guilty
                    (one.handle.kill if len(self.signals) > 1 else one.handle.end)()
                    one.trial.state = "interrupted"
                self.backend.close()
                self.sweep.write()
        if self.signals:
            raise Stopped(f"ended by {signal.Signals(self.signals[0]).name}", 128 + self.signals[0])

    def _start(self) -> bool:
        """Start what there is room for; whether anything is left to start."""
        if self.signals:
            for one in (one for one in self.running if one.why is None):
                one.end("asked", SAVING)
                self.show.event(one.trial, "saves its state")
            return False
        # A signal may come while a study thinks: what it thought of is not started then.
        while (trial := self._next()) is not None and not self.signals:
            folder = self.sweep.folder(trial)
            # A sweep may have been killed between a trial's start and the record of it.
            resumed = (folder / BEGUN).exists() and (trial.attempts > 0 or self.sweep.again)
            size = sum(p.stat().st_size for p in folder.glob(LOG))
            try:
                handle = self.backend.start(trial, self.order(trial, resumed))
            except (ConfigError, OSError) as error:
                self._head, trial.state, trial.error = None, "failed", str(error)
                self._done(trial)
                continue
            if handle is None:
                return True
            self._head = None
            trial.state, trial.attempts, trial.error, trial.tail = "running", trial.attempts + 1, None, []
            self.running.append(Running(trial, handle, Watch(folder, trial), size, trial.seconds, killed_for_memory()))
            self.sweep.write()
            self.show.event(trial, "goes on" if resumed else "started")
        return False

    def _next(self) -> Trial | None:
        if self._head is None:
            self._head = self.again.popleft() if self.again else self.source.next()
            if self._head is not None and self._head not in self.sweep.trials:
                self.sweep.trials.append(self._head)
        return self._head

    def _look(self) -> None:
        now = time.monotonic()
        reading = now - self._read >= READ
        self._read = now if reading else self._read
        for one in list(self.running):
            trial, code = one.trial, one.handle.poll()
            trial.seconds = one.before + now - one.began
            if code is not None:
                self.running.remove(one)
                self._judge(one, one.watch.look())
                self._ended(one, code)
                continue
            if reading:
                self._judge(one, one.watch.look())
            limit = self.rules.trial_timeout
            if limit is not None and now - one.began > 60 * limit:
                one.end("timeout", HUNG)
            if now > one.deadline:
                one.handle.kill()

    def _judge(self, one: Running, rows: list[Row]) -> None:
        if rows:
            self.show.event(one.trial, "epoch")
            if self.source.prune(one.trial, rows) and one.handle.poll() is None:
                one.end("pruned", SAVING)

    def _ended(self, one: Running, code: int) -> None:
        trial, folder = one.trial, one.watch.folder
        results = one.watch.results()
        if results.get("status") == "finished" and code == 0:
            trial.state, trial.monitor = "finished", results.get("monitor") or trial.monitor
            trial.score = results.get("score") if results.get("score") is not None else trial.score
        elif code == 0:
            trial.state = "finished"
        elif one.why == "pruned":
            trial.state = "pruned"
        elif one.why == "asked":
            trial.state = "interrupted"
        else:
            trial.state, trial.tail = "failed", tail(folder, one.said)
            memory = one.why is None and out_of_memory(code, trial.tail, killed_for_memory() > one.killed)
            trial.error = (
                f"still running after trial_timeout={self.rules.trial_timeout:g} minutes"
                if one.why == "timeout"
                else reason(code, trial.tail, results, memory)
            )
            if memory and self.rules.halve_batch and self._halve(trial):
                return
            if self.retried.get(trial.number, 0) < self.rules.retries and not self.signals:
                self.retried[trial.number] = self.retried.get(trial.number, 0) + 1
                trial.state = "waiting"
                self.show.event(trial, "again")
                self.again.append(trial)
                self.sweep.write()
                return
        self._done(trial)

    def _done(self, trial: Trial) -> None:
        self.source.ended(trial)
        self.sweep.write()
        self.show.event(trial, trial.state)

    def _halve(self, trial: Trial) -> bool:
        """Have the trial start anew with half its batch; False if that is impossible. What it wrote is kept beside it."""
        changes = self.halved(trial)
        if changes is None or self.signals:
            return False
        folder = self.sweep.folder(trial)
        folder.rename(folder.with_name(f"{folder.name}.{trial.attempts}-out-of-memory"))
        trial.changed, trial.epoch, trial.score, trial.state = changes, 0, None, "waiting"
        self.show.event(trial, "halved")
        self.again.append(trial)
        self.sweep.write()
        return True
