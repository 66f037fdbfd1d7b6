"""The words for a sweep: places, times, scores, states, and trials in the order of their scores."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from rich.text import Text

from seglab.errors import shown, visible
from seglab.sweep.folder import Sweep
from seglab.sweep.trial import Trial

STYLES = {
    "running": "cyan", "finished": "green", "failed": "red", "pruned": "yellow", "interrupted": "magenta", "waiting": "dim",
    "done": "green",
}  # fmt: skip
AUTO = "auto"  # the monitor of a trial that has not said yet which it is


def duration(seconds: float) -> str:
    """A time in words, two digits of it: 41 s, 12 min, 3.2 h, 4.5 days."""
    if round(seconds) < 100:
        return f"{max(0.0, seconds):.0f} s"
    if round(seconds / 60) < 100:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def number(score: float | None) -> str:
    """A score, four digits of it."""
    if score is None:
        return "-"
    return f"{score:.4f}" if score == 0 or 1e-3 <= abs(score) < 1e6 else f"{score:.3e}"


def epochs(trial: Trial) -> str:
    """How many are done, and of how many if that is more."""
    asked = trial.epochs if trial.epochs and trial.epochs > 0 else trial.epoch
    return f"{trial.epoch}/{asked}" if trial.epoch < asked else str(trial.epoch)


def why(trial: Trial) -> str:
    """Why it failed: the sentence, without the path of the error's class."""
    return visible(re.sub(r"^(?:\w+\.)+(?=\w+: )", "", trial.error or "no reason is known"))


def state(word: str) -> Text:
    """A state in its colour."""
    return Text(visible(word), style=STYLES.get(word, ""))


def cut(text: Text) -> Text:
    """The text on one line, with ... at its end where that is too short."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def monitor(trials: Iterable[Trial]) -> str | None:
    """What the trials' scores are: the one monitor of all; None where they differ, so that no order can be had."""
    kinds = {(t.monitor, t.higher) for t in trials if t.score is not None and t.monitor != AUTO}
    names = {t.monitor for t in trials if t.monitor != AUTO} if not kinds else {name for name, _ in kinds}
    if len(kinds) > 1 or (not kinds and len(names) > 1):
        return None
    return names.pop() if names else "score"


def score(trial: Trial, common: str | None) -> str:
    """The score, with its monitor where there is no `common` one that the heading names."""
    return number(trial.score) if common or trial.score is None else f"{visible(trial.monitor)} {number(trial.score)}"


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """The best first, those without a score last; in order of their numbers where the scores cannot be compared."""
    listed = sorted(trials, key=lambda t: t.number)
    if monitor(listed) is None:
        return listed
    scored = [t for t in listed if t.score is not None]
    scored.sort(key=lambda t: -t.score if t.higher else t.score)  # type: ignore[operator, return-value, arg-type]
    return scored + [t for t in listed if t.score is None]


def tally(states: Sequence[str], total: int | None = None) -> Text:
    """7 of 12 done · 1 failed · 2 running · 3 waiting; what failed and what was pruned counts as done."""
    total = max(total or 0, len(states))
    count = {word: states.count(word) for word in ("failed", "pruned", "interrupted", "running")}
    done = states.count("finished") + count["failed"] + count["pruned"]
    count["waiting"] = total - done - count["interrupted"] - count["running"]
    line = Text(f"{done} of {total} done", style="green" if done == total and not count["failed"] else "")
    for word, n in count.items():
        if n:
            line.append(" · ").append(f"{n} {word}", STYLES[word])
    return line


def going_on(sweep: Sweep) -> str:
    """The command that goes on with a sweep."""
    folder = shown(sweep.path)
    if not re.fullmatch(r"[\w./:%@+-]+", folder):  # Hydra reads more than one word only in quotes
        folder = "'" + folder.replace("\\'", "\\\\'").replace("'", "\\'") + "'"
    return "python -m seglab.train -m " + shlex.quote(f"sweep.resume={folder}")
