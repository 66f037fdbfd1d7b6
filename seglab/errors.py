"""Errors a user can act on: one sentence that says what is wrong, where, and the remedy."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches


class SeglabError(Exception):
    """Base of the errors that a door prints as one sentence, without a traceback; it leaves with `exit_code`."""

    exit_code = 1
    ends_sweep = False  # whether the jobs of a sweep that were to follow are given up

    def __init__(self, text: str) -> None:
        # torch makes an error of a loader's worker anew, from the worker's whole traceback; its last line is ours.
        super().__init__(text.strip().splitlines()[-1].partition(": ")[2] if "\nOriginal Traceback" in text else text)


class ConfigError(SeglabError):
    """A key, value or name in the configuration is wrong."""


class DataError(SeglabError):
    """A file or folder of the data is wrong."""


class CheckpointError(SeglabError):
    """A checkpoint or weights file cannot be used."""


class TrainingError(SeglabError):
    """Training cannot go on (a loss that is not finite, for example)."""


class Stopped(SeglabError):
    """A signal ended the run, after its state was saved; the exit code is 128 + the signal's number, as shells have it."""

    ends_sweep = True

    def __init__(self, text: str, exit_code: int = 143) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Ended(BaseException):
    """A signal came where nothing has to be saved. No Exception: whatever was being done must not take it for a failure."""


_DISK = {
    errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up", errno.EROFS: "the disk is read-only",
    errno.EACCES: "permission denied", errno.EPERM: "not permitted", errno.EIO: "the disk reports an error",
    errno.ENOTDIR: "a part of the path is a file", errno.ENAMETOOLONG: "the name is too long", errno.EFBIG: "it grew too large",
}  # fmt: skip


def disk(error: BaseException | None) -> str | None:
    """What the disk refused ("the disk is full"), if that is the error or behind it; None for any other error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK:
            return _DISK[error.errno]
        error = error.__cause__ or error.__context__
    return None


def visible(text: str) -> str:
    """The text on one line, characters that a terminal would obey (escape sequences, line ends) spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_text(text: str) -> bool:
    """Whether a text can be written to files: JSON may hold halves of characters; undecodable bytes of file names can."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeError:
        return False
    return True


def shown(path: str | os.PathLike[str]) -> str:
    """The path as a user would type it: relative to where they stand if it lies below."""
    relative = os.path.relpath(path)
    return visible(os.fspath(path) if relative.startswith("..") else relative)


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint ` Did you mean 'x'?` for the known name nearest to `name`, or the sorted list of known names."""
    names = sorted(str(k) for k in known)
    # Compared in lower case: people type Dice for dice. The last part of a dotted key counts as well.
    by_lower = {n.lower(): n for n in names}
    match = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    if match:
        return f" Did you mean '{by_lower[match[0]]}'?"
    return f" Known: {', '.join(names)}." if names else ""
