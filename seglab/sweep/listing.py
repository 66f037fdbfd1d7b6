"""Sweeps as they lie on the disk, at work or ended: the list of them, and the trials of one. Nothing of theirs is disturbed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from seglab.errors import DataError, shown, visible
from seglab.sweep import columns, words
from seglab.sweep.columns import Column, Row
from seglab.sweep.ending import failures, over
from seglab.sweep.folder import FILE, LOCK, Sweep
from seglab.sweep.trial import Trial
from seglab.sweep.watching import Watch

NEWEST = 20  # sweeps in the list
AROUND = 9  # lines of the terminal besides the rows of a table that is redrawn
# At work first, then what may need a hand, then what has ended.
ORDER = ("running", "failed", "interrupted", "finished", "pruned", "waiting")


class Seen:
    """A sweep at one moment: `running` while a process keeps it; its trials at work are looked at in their own folders."""

    def __init__(self, path: Path) -> None:
        self.running = held(path)  # asked first: a record that is read after the sweep's end is its last
        self.sweep = Sweep.read(path)
        with suppress(OSError):
            since = max(0.0, time.time() - (path / FILE).stat().st_mtime)
            for trial in (t for t in self.sweep.trials if t.state == "running"):
                Watch(self.sweep.folder(trial), trial).look()
                trial.seconds += since if self.running else 0.0
                trial.state = "running" if self.running else "interrupted"

    @property
    def word(self) -> str:
        """What the sweep as a whole does."""
        if self.running:
            return "running"
        return "done" if over(self.sweep) else "interrupted"

    def tally(self) -> Text:
        """How many of its trials are in which state."""
        return words.tally([t.state for t in self.sweep.trials], self.sweep.total)


def held(path: Path) -> bool:
    """Whether a process keeps the sweep of this folder: the sweep itself, or a trial of it that has outlived it."""
    try:
        import fcntl

        lock = os.open(path / LOCK, os.O_RDONLY)
    except (ImportError, OSError):
        return False
    try:
        # Shared, and given back at once: a sweep that starts in this very moment waits a tenth of a second.
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a disk without locks
        return False
    finally:
        os.close(lock)
    return False


def sweeps(root: Path) -> list[Path]:
    """The folders of sweeps below a folder, the latest first."""
    found = [file for pattern in (FILE, f"*/{FILE}", f"*/*/{FILE}") for file in root.glob(pattern)]
    dated: list[tuple[float, Path]] = []
    for file in found:
        with suppress(OSError):
            dated.append((file.stat().st_mtime, file.parent))
    return [path for _, path in sorted(dated, reverse=True)]


def overview(out: Console, paths: Sequence[Path]) -> None:
    """The list: each sweep's folder, what it does, its trials and its best one; broken records are named."""
    rows: list[Row] = []
    broken: list[str] = []
    for path in paths[:NEWEST]:
        try:
            seen = Seen(path)
        except DataError as error:
            broken.append(str(error))
            continue
        sweep = seen.sweep
        top = sweep.best()
        best = f"{visible(top.monitor)} {words.number(top.score)}\n{columns.label(top, out.is_terminal)}" if top else "-"
        state = Text.assemble(words.state(seen.word), "\n", seen.tally())
        what = f"{visible(sweep.created[:16])}  {visible(', '.join(sweep.axes))}"
        rows.append([f"{shown(path)}\n{what}", state, best])
    if rows:
        least = min(out.width // 2, max(len(str(row[0]).partition("\n")[0]) for row in rows))  # paths are copied
        headings = [Column("sweep", fold=True, least=least), Column("trials", fold=True), Column("best", fold=True)]
        columns.show(out, headings, rows)
    for line in broken:
        out.print(Text(visible(line), style="red"), soft_wrap=True)
    if len(paths) > NEWEST:
        out.print(Text(f"... and {len(paths) - NEWEST} older ones", style="dim"), soft_wrap=True)


def trials(out: Console, seen: Seen) -> None:
    """All trials of a sweep, those at work first, the best of the finished next; then why some failed."""
    table = columns.trials(_ordered(seen.sweep), seen.sweep.trials, out.width if out.is_terminal else None, _note)
    for line in _head(seen):
        out.print(line, soft_wrap=True)
    columns.show(out, *table)
    if out.is_terminal:
        failures(seen.sweep, out)  # their sentences are cut short in the table
    _foot(out, seen)


def watch(out: Console, path: Path, every: float = 2.0) -> None:
    """The trials of a sweep, redrawn until it has ended; without a terminal a line whenever something has changed."""
    seen, said = Seen(path), ""
    live = out.is_terminal and not out.is_dumb_terminal
    with Live(console=out, auto_refresh=False, transient=True) if live else nullcontext() as screen:
        while seen.running:
            if screen is not None:
                screen.update(_picture(out, seen), refresh=True)
            elif (line := seen.tally().plain) != said:
                out.print(Text(line), soft_wrap=True)
                said = line
            time.sleep(every)
            seen = Seen(path)
    trials(out, seen)


def _picture(out: Console, seen: Seen) -> RenderableType:
    """What fits the terminal."""
    ordered = _ordered(seen.sweep)
    room = max(1, out.height - AROUND)
    shown = ordered if len(ordered) <= room else ordered[: room - 1]
    table = columns.trials(shown, seen.sweep.trials, out.width, _note)
    more = [Text(f"... {len(ordered) - len(shown)} more", style="dim")] if len(shown) < len(ordered) else []
    head = [words.cut(line) for line in _head(seen)]
    return Group(*head, columns.grid(*table, out.width, one_line=True), *more, words.cut(seen.tally()))


def _ordered(sweep: Sweep) -> list[Trial]:
    return sorted(words.ranked(sweep.trials), key=lambda t: ORDER.index(t.state))


def _head(seen: Seen) -> list[Text]:
    sweep = seen.sweep
    first = Text.assemble((shown(sweep.path), "bold"), "  ", words.state(seen.word))
    first.append(f"  since {visible(sweep.created)}" if seen.running else f"  of {visible(sweep.created)}")
    return [first, Text("  " + visible(" ".join(sweep.command)), style="dim")]


def _foot(out: Console, seen: Seen) -> None:
    out.print(seen.tally(), soft_wrap=True)
    if seen.word == "interrupted":
        out.print(Text(f"Go on with:  {visible(words.going_on(seen.sweep))}"), soft_wrap=True)


def _note(trial: Trial) -> str:
    if trial.state == "failed":
        return words.why(trial)
    return f"batch halved: {visible(' '.join(trial.changed))}" if trial.changed else ""
