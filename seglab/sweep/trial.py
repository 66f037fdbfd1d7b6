"""A trial: one run of a sweep, what it differs in, and what became of it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from seglab.errors import DataError

State = Literal["waiting", "running", "finished", "failed", "pruned", "interrupted"]
DONE: tuple[State, ...] = ("finished", "pruned")  # what a resumed sweep does not repeat


@dataclass
class Trial:
    """One run of a sweep. `overrides` is its whole command, `axes` the part in which the trials differ (key -> value)."""

    number: int
    overrides: list[str]
    axes: dict[str, str]
    folder: str  # within the sweep's folder
    identity: str = ""  # hash of its resolved configuration
    devices: int = 1  # how many it trains on
    epochs: int | None = None  # how many it is asked for
    monitor: str = "auto"
    higher: bool = True  # whether more of the monitor is better
    state: State = "waiting"
    place: str = ""  # the devices that it got
    threads: int | None = None  # of its process on CPUs; a resumed trial keeps them, for other sums round otherwise
    attempts: int = 0
    changed: list[str] = field(default_factory=list)  # overrides that were added after it ran out of memory
    job: str | None = None  # its id with a cluster's scheduler
    seconds: float = 0.0  # over all attempts and sessions
    epoch: int = 0  # epochs that are done
    score: float | None = None  # the best value of the monitor so far
    error: str | None = None
    tail: list[str] = field(default_factory=list)  # the last lines of a failed trial's log

    def name(self) -> str:
        """What the trial is called where people look: its axes, or its number where it has none."""
        return " ".join(f"{key}={value}" for key, value in self.axes.items()) or f"trial {self.number}"

    def better(self, other: float | None) -> bool:
        """Whether this trial's score beats `other`."""
        if self.score is None or other is None:
            return self.score is not None
        return self.score > other if self.higher else self.score < other

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as sweep.json holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any, path: Path) -> Trial:
        """The trial of plain data; DataError (naming the file `path`) if it is none."""
        try:
            made = cls(**data)
        except TypeError as error:
            raise broken(path, str(error)) from error
        for name, kind in get_type_hints(cls).items():
            if not fits(getattr(made, name), kind):
                raise broken(path, f"{name} of trial {made.number} is {getattr(made, name)!r}")
        if not within(made.folder):
            raise broken(path, f"the folder of trial {made.number} is {made.folder!r}")
        if flags := [word for word in (*made.overrides, *made.changed) if word.startswith("-")]:
            raise broken(path, f"{flags[0]} is among the overrides of trial {made.number}")
        return made


def within(folder: str) -> bool:
    """Whether a trial's folder lies below the sweep's: a record may come from anybody, and trials write and rename there."""
    path = os.path.normpath(folder)
    return not os.path.isabs(path) and path != "." and path.split(os.sep)[0] != ".."


def broken(path: Path, why: str) -> DataError:
    """The error for a sweep.json that seglab did not write so."""
    return DataError(f"{path} is not a sweep's record of this seglab ({why}); leave it out, or start the sweep anew.")


def fits(value: Any, kind: Any) -> bool:
    """Whether plain data is of a type such as list[str], dict[str, str], float | None or a Literal."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is UnionType:
        return any(fits(value, part) for part in get_args(kind))
    if get_origin(kind) in (list, dict):
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        return isinstance(value, get_origin(kind)) and all(isinstance(v, str) for v in inner)
    return isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
