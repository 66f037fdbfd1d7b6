"""What people see of a sweep while it runs: a live table in a terminal, a line for each event elsewhere."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from seglab import __version__
from seglab.errors import shown, visible
from seglab.sweep import columns, words
from seglab.sweep.backend import LOG, Backend
from seglab.sweep.folder import Sweep
from seglab.sweep.trial import DONE, Trial

EVERY = 1.0  # seconds between two pictures of the table
LATEST = 5  # trials that have ended and are still shown
AROUND = 8  # lines of the terminal besides the table's rows
NAME = 60  # a longer name moves what follows it
ENDED = (*DONE, "failed", "interrupted")


class Table:
    """The trials of a sweep while they run; `event` and `update` are called by the pool."""

    def __init__(self, sweep: Sweep, backend: Backend, out: Console | None = None) -> None:
        self.sweep, self.backend = sweep, backend
        self.out = out or Console(highlight=False)
        self.live: Live | None = None
        self._drawn = float("-inf")
        self._latest: deque[Trial] = deque(maxlen=LATEST)
        self._due: set[int] = set()  # to be started again
        self._saving: set[int] = set()
        self._retries: Counter[int] = Counter()
        self._marks: dict[int, list[tuple[int, float]]] = {}  # epochs and seconds, at a trial's first and latest epoch here

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While it lasts, the table is on the screen."""
        self._header()
        if not self.out.is_terminal or self.out.is_dumb_terminal:
            yield
            return
        # No thread that draws: update() does.
        with Live(console=self.out, auto_refresh=False, transient=True) as self.live:
            self.update()
            yield
        self.live = None

    def event(self, trial: Trial, text: str) -> None:
        """Something happened to a trial: started, goes on, epoch, again, halved, or the state in which it ended."""
        number = trial.number
        if text == "epoch":
            first = self._marks.setdefault(number, [(trial.epoch, trial.seconds)])[0]
            self._marks[number] = [first, (trial.epoch, trial.seconds)]
            return
        self._marks.pop(number, None)
        self._retries[number] += text == "again"
        (self._due.add if text in ("again", "halved") else self._due.discard)(number)
        (self._saving.add if text == "saves its state" else self._saving.discard)(number)
        if text in ENDED:
            self._latest.appendleft(trial)
        if self.live is None:
            width = min(NAME, max(len(visible(t.name())) for t in self.sweep.trials))
            line = f"{number:>3}  {visible(trial.name()):<{width}}  {self._told(trial, text)}"
            self.out.print(Text(line), soft_wrap=True)

    def update(self) -> None:
        """A moment has passed."""
        now = time.monotonic()
        if self.live is not None and now - self._drawn >= EVERY:
            self._drawn = now
            self.live.update(self.picture(), refresh=True)

    def picture(self) -> RenderableType:
        """The table at this moment, no higher than the terminal."""
        room = max(0, self.out.height - AROUND)
        running = [t for t in self.sweep.trials if t.state == "running"]
        ended = [t for t in self._latest if t.state in ENDED and t.number not in self._due]
        shown = [*running, *ended][:room]
        hidden = len(running) - len(shown)
        if hidden > 0:
            shown = shown[:-1]
        columns_, rows = columns.trials(shown, self.sweep.trials, self.out.width, self._note, self._state)
        parts: list[RenderableType] = [columns.grid(columns_, rows, self.out.width, one_line=True)] if shown else []
        if hidden > 0 and room:
            parts.append(words.cut(Text(f"... {hidden + 1} more are running", style="dim")))
        best = self.sweep.best()
        if best:
            what = f"{visible(best.monitor)} {words.number(best.score)}"
            parts.append(words.cut(Text(f"best: {what}, trial {best.number}  {columns.label(best, True)}")))
        counts = words.tally([self._state(t) for t in self.sweep.trials], self.sweep.total)
        if (left := self.left()) is not None:
            counts.append(f" · about {words.duration(left)} left")
        return Group(*parts[-max(1, self.out.height - 1) :], words.cut(counts)) if room else words.cut(counts)

    def left(self) -> float | None:
        """Seconds until the sweep's end, guessed from the trials that are done; None while there is nothing to guess from."""
        running = [t for t in self.sweep.trials if t.state == "running"]
        lefts = {t.number: left for t in running if (left := self._left(t)) is not None}
        times = [t.seconds for t in self.sweep.trials if t.state in DONE]
        times = times or [t.seconds + lefts[t.number] for t in running if t.number in lefts]
        if not times:
            return None
        mean = sum(times) / len(times)
        known = [lefts.get(t.number, max(0.0, mean - t.seconds)) for t in running]
        over = sum(self._state(t) in (*DONE, "failed") for t in self.sweep.trials)
        waiting = max(self.sweep.total or 0, len(self.sweep.trials)) - over - len(running)
        at_once = max(1, min(self.backend.slots(), waiting + len(running)))
        return max([(sum(known) + waiting * mean) / at_once, *known])

    def _left(self, trial: Trial) -> float | None:
        """Seconds until the trial's end, at the pace of its epochs so far."""
        marks = self._marks.get(trial.number)
        if not marks or not trial.epochs or trial.epochs < 0:
            return None
        (first, began), (latest, at) = marks[0], marks[-1]
        pace = (at - began) / (latest - first) if latest > first else at / max(1, latest)
        return max(0.0, pace * (trial.epochs - latest) - (trial.seconds - at))

    def _state(self, trial: Trial) -> str:
        return "waiting" if trial.number in self._due else trial.state

    def _note(self, trial: Trial) -> str | Text:
        if trial.state == "failed":
            return words.why(trial)
        if trial.state == "running" and trial.number in self._saving:
            return Text("saves its state", style="dim")
        left = self._left(trial) if trial.state == "running" else None
        said = [f"{words.duration(left)} left"] if left is not None else []
        said += ["batch halved"] if trial.changed else []
        said += [f"retry {n}"] if trial.state == "running" and (n := self._retries[trial.number]) else []
        return Text(", ".join(said), style="dim")

    def _header(self) -> None:
        trials, total = self.sweep.trials, max(self.sweep.total or 0, len(self.sweep.trials))
        count = f" of {total} trial{'s' if total != 1 else ''}" if total else ""
        what = f"  sweep{count} on {visible(self.backend.describe())}   {shown(self.sweep.path)}"
        self.out.print(Text.assemble((f"seglab {__version__}", "bold"), what), soft_wrap=True)
        if done := sum(t.state in DONE for t in trials):
            self.out.print(Text(f"  {done} of {total} {'were' if done > 1 else 'was'} done before"), soft_wrap=True)

    def _told(self, trial: Trial, text: str) -> str:
        """What a line says of an event."""
        on = f"on {trial.place}" if trial.place else ""
        score = f"{trial.monitor} {words.number(trial.score)}" if trial.score is not None else ""
        what: tuple[str, ...] = (text,)
        if text == "started":
            what = (f"{text} {on}",)
        elif text == "goes on":
            what = (f"{text} after epoch {trial.epoch} {on}",)
        elif text in ("finished", "pruned", "interrupted"):
            done = trial.epoch if text == "finished" else words.epochs(trial).replace("/", " of ")
            what = (f"{text:<8}", score, f"{done} epoch{'s' if str(done) != '1' else ''}", words.duration(trial.seconds))
        elif text == "failed":
            log = self.sweep.folder(trial) / LOG
            what = (f"{text:<8}", words.why(trial), f"({shown(log)})" if log.exists() else "")
        elif text == "again":
            what = (f"failed, and is started again (retry {self._retries[trial.number]})", words.why(trial))
        elif text == "halved":
            what = ("ran out of memory, and is started again with half the batch:", " ".join(trial.changed))
        return visible("  ".join(part for part in what if part).rstrip())
