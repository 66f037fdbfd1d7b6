"""Look at many pairs at once: in processes, with progress on a terminal, and never twice at an unchanged file."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import cv2
from rich.console import Console
from rich.progress import track

from seglab.processes import cores

T = TypeVar("T")
R = TypeVar("R")
_ALONE = 48  # so few are looked at sooner than a process has started
_CHUNK = 8
_work: Callable | None = None  # of a worker


def each(work: Callable[[T], R], items: Sequence[T], title: str, processes: int | None = None) -> Iterator[R]:
    """What `work` (which can be pickled) gives for each item, in order; in processes if there are many items."""
    console = Console(stderr=True)
    quiet = not console.is_terminal or len(items) < _ALONE
    count = min(processes or cores(), 1 + len(items) // _ALONE)
    if count == 1:
        yield from track(map(work, items), title, len(items), console=console, transient=True, disable=quiet)
        return
    # Not fork: OpenCV's threads and locks do not survive it.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    pool = ProcessPoolExecutor(count, multiprocessing.get_context(method), _begin, (work,))
    try:
        done = pool.map(_next, items, chunksize=_CHUNK)
        yield from track(done, title, len(items), console=console, transient=True, disable=quiet)
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(work: Callable) -> None:
    global _work
    _work = work  # sent once: it may hold a whole list of annotations
    cv2.setNumThreads(0)


def _next(item: Any) -> Any:
    assert _work is not None
    return _work(item)
