"""The record of a job: what results.json will say, kept true from its start to whatever ends it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seglab import results
from seglab.data.layout import SPLITS
from seglab.data.selection import Selected
from seglab.data.source import Source
from seglab.engine.launch import global_rank
from seglab.errors import DataError, Ended, SeglabError, Stopped

log = logging.getLogger("seglab")


@dataclass
class Record:
    """The content of results.json; `before` holds the seconds of the sessions before a resumed one.

    Until it has `begun`, nothing is written: a run that is there stays as it is if going on with it is refused.
    """

    run: Path
    begun: bool = True
    content: dict[str, Any] = field(default_factory=lambda: dict.fromkeys((*results.KEYS, "passport")))
    before: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        """How long the run has taken so far, over all its sessions."""
        return self.before + time.perf_counter() - self.started

    def write(self, status: str, error: str | None = None) -> None:
        """Write results.json with this status (the first process of a run alone does)."""
        if global_rank() == 0 and self.begun:
            results.write_results(self.run, {**self.content, "status": status, "error": error, "seconds": self.seconds()})

    def begin(self) -> None:
        """All checks have passed: from here on the record is this session's."""
        self.begun = True
        self.write("running")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """While it lasts: an error is written down before it goes on to the door; at the end the job is finished."""
        try:
            yield
            self.write("finished")
        except BaseException as error:
            logging.getLogger().error("the run ended early", exc_info=True)  # train.log only; the door prints one sentence
            outside = isinstance(error, KeyboardInterrupt | SystemExit | Stopped | Ended)
            try:
                text = str(error) or ("interrupted from outside" if outside else type(error).__name__)
                self.write("interrupted" if outside else "failed", text)
            except OSError:  # a full disk may be what went wrong in the first place; that error is the one to tell
                log.debug("results.json could not be written", exc_info=True)
            raise


@contextmanager
def completed(run: Path) -> Iterator[None]:
    """While it lasts, other processes do the job: if they die without a word, the record does not say `running` for ever."""
    path = run / results.FILE
    before = path.read_bytes() if path.is_file() else None
    try:
        yield
    except SeglabError as error:
        with suppress(DataError, OSError):
            if path.read_bytes() != before:  # what they wrote; a survivor may have said only that its peer is gone
                found = results.read_results(run)
                content = {key: found.get(key) for key in (*results.KEYS, *results.OPTIONAL)}
                status = "interrupted" if isinstance(error, Stopped) else "failed"
                results.write_results(run, {**content, "status": status, "error": str(error)})
        raise


def describe(source: Source) -> dict[str, Any]:
    """What results.json says of a data set: name, classes, counts of images (whole: before a selection), fingerprint."""
    whole, fold = (source.source, source.fold) if isinstance(source, Selected) else (source, None)
    spec = source.spec
    sizes = [{split: len(one.ids(split)) for split in SPLITS} for one in (source, whole)]
    return {
        "name": source.name, "classes": list(spec.classes), "colors": [list(color) for color in spec.colors],
        "mode": spec.mode, "group": source.group, "counts": sizes[0], "whole": sizes[1], "fold": fold,
        "fingerprint": source.fingerprint(),
    }  # fmt: skip
