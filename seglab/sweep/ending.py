"""What a sweep says at its end: the best trials, those that failed and why, and where everything is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from seglab.errors import shown, visible
from seglab.sweep import columns, words
from seglab.sweep.backend import LOG
from seglab.sweep.columns import Column
from seglab.sweep.folder import FILE, Sweep
from seglab.sweep.trial import DONE, Trial

BEST = 10
ROWS = 40  # of a table that has no best ones, and of failures


def report(sweep: Sweep, out: Console) -> None:
    """The best trials, the failures with their reasons, and where everything is."""
    finished = [t for t in sweep.trials if t.state == "finished"]
    if finished:
        out.print(end="" if out.is_terminal else "\n")  # a terminal's table begins with an empty line
        best(sweep, finished, out)
    failures(sweep, out)
    _remarks(sweep, out)
    places(sweep, out)


def best(sweep: Sweep, finished: Sequence[Trial], out: Console) -> None:
    """The best first, at most ten; in order of their numbers where their scores cannot be compared."""
    common, ranked = words.monitor(finished), words.ranked(finished)
    narrow = out.is_terminal and out.width < columns.NARROW  # then the folders are those below the sweep's, which is named last
    limit = BEST if common and ranked[0].score is not None else ROWS
    headings, cells = columns.axes(finished, out.width if out.is_terminal else None)
    table = [
        Column("trial", right=True), *headings, Column(visible(common or "score"), right=True), Column("epochs", right=True),
        Column("time", right=True), Column("folder"),
    ]  # fmt: skip
    columns.show(out, table, [
        [str(t.number), *cells(t), words.score(t, common), words.epochs(t), words.duration(t.seconds),
         visible(t.folder) if narrow else shown(sweep.folder(t))] for t in ranked[:limit]
    ])  # fmt: skip
    if len(ranked) > limit:
        _say(out, f"  ... {len(ranked) - limit} more finished, in {shown(sweep.path / 'summary.csv')}", "dim")


def failures(sweep: Sweep, out: Console) -> None:
    """The trials that failed, each with its reason and the log to look at."""
    failed = [t for t in sweep.trials if t.state == "failed"]
    if not failed:
        return
    _say(out, f"{len(failed)} failed", "red")
    headings, cells = columns.axes(failed, out.width if out.is_terminal else None)
    least = min(out.width // 2, max(len(shown(sweep.folder(t) / LOG)) for t in failed))  # paths are copied
    table = [Column("trial", right=True), *headings, Column("reason, and log to look at", fold=True, least=least)]
    columns.show(out, table, [[str(t.number), *cells(t), _reason(sweep.folder(t), t)] for t in failed[:ROWS]])
    if len(failed) > ROWS:
        _say(out, f"  ... {len(failed) - ROWS} more failed, in {shown(sweep.path / 'summary.csv')}", "dim")


def places(sweep: Sweep, out: Console) -> None:
    """Where things are, and how to go on with a sweep that is not at its end."""
    _say(out, f"{shown(sweep.path)}/", "bold")
    top = sweep.best()
    link = f"-> {top.folder}: {top.name()}" if top and (sweep.path / "best").is_symlink() else None
    for name, text in (("summary.csv", "one row a trial"), (FILE, "all that is known of them"), ("best", link)):
        if text and os.path.lexists(sweep.path / name):
            _say(out, f"  {name:<13}{text}")
    if not over(sweep):
        _say(out, f"It is not finished; go on with:  {words.going_on(sweep)}", "bold")
    elif not sweep.study and any(t.state == "failed" for t in sweep.trials):
        _say(out, f"Try the failed ones again with:  {words.going_on(sweep)}")


def over(sweep: Sweep) -> bool:
    """Whether all of its trials have ended for good, or failed."""
    return len(sweep.trials) >= (sweep.total or 0) and all(t.state in (*DONE, "failed") for t in sweep.trials)


def _reason(folder: Path, trial: Trial) -> str:
    log = folder / LOG
    return words.why(trial) + (f"\n{shown(log)}" if log.exists() else "")


def _remarks(sweep: Sweep, out: Console) -> None:
    pruned = [t for t in sweep.trials if t.state == "pruned"]
    if pruned:
        saved = sum(max(0, (t.epochs or 0) - t.epoch) for t in pruned)
        _say(out, f"{len(pruned)} pruned: {saved} epochs saved", "yellow")
    for t in sweep.trials:
        if t.changed and t.state in DONE:
            _say(out, f"Trial {t.number} ran out of memory, and ended with {' '.join(t.changed)}")


def _say(out: Console, line: str, style: str = "") -> None:
    out.print(Text(visible(line), style=style), soft_wrap=True)
