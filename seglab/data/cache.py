"""Images and masks decoded once: a data set behind a store in memory or on a disk, filled as they are first asked for."""

from __future__ import annotations

import atexit
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from seglab.data.layout import SPLITS
from seglab.data.source import Source
from seglab.data.store import Store
from seglab.errors import ConfigError, DataError, disk, shown
from seglab.types import Sample

log = logging.getLogger("seglab")
_SHARED = Path("/dev/shm")  # files in memory
_VERSION = 1  # raise it when what is stored changes its meaning
_GB = 10**9


class Cached(Source):
    """A data set whose samples are kept as `load` gave them; what its files hold now is asked by their times."""

    def __init__(self, source: Source, folder: Path, limit: int) -> None:
        self.source, self.name, self.spec, self.group = source, source.name, source.spec, source.group
        starts = np.cumsum([0, *(len(source.ids(split)) for split in SPLITS)]).tolist()
        self._starts = dict(zip(SPLITS, starts, strict=False))
        self._store = Store(folder, starts[-1], limit)
        self._told = False

    def ids(self, split: str) -> Sequence[str]:  # noqa: D102
        return self.source.ids(split)

    def sizes(self, split: str) -> Sequence[tuple[int, int]]:  # noqa: D102
        return self.source.sizes(split)

    def seen_sizes(self, split: str) -> tuple[set[tuple[int, int]], bool]:  # noqa: D102
        return self.source.seen_sizes(split)

    def stamp(self, split: str, index: int) -> int:  # noqa: D102
        return self.source.stamp(split, index)

    def fingerprint(self) -> str:  # noqa: D102
        return self.source.fingerprint()

    def load(self, split: str, index: int) -> Sample:
        """As the data set gives it, from the store if it is there."""
        number, stamp = self._starts[split] + index, self.source.stamp(split, index)
        found = self._store.get(number, stamp)
        if found is None:
            found = dict(self.source.load(split, index))
            self._store.put(number, stamp, found)
            if self._store.full and not self._told:
                self._told = True
                log.warning("the cache is full; the remaining images are decoded each time (data.cache_gb)")
        return found  # type: ignore[return-value]

    def load_mask(self, split: str, index: int) -> np.ndarray:
        """The mask alone; one that is not in the store is not put there."""
        found = self._store.get(self._starts[split] + index, self.source.stamp(split, index), only=("mask",))
        return found["mask"] if found else self.source.load_mask(split, index)


def cached(
    source: Source, cache: Literal["none", "ram", "disk"] = "none", cache_dir: str | None = None, cache_gb: float | None = None
) -> Source:
    """The data set behind a cache, if one is asked for. ConfigError for impossible settings, DataError without a place."""
    if cache_gb is not None and not 0 < cache_gb < math.inf:
        raise ConfigError(f"data.cache_gb is {cache_gb}; it must be above 0, or null.")
    if cache_dir is not None and cache != "disk":
        raise ConfigError(f"data.cache_dir is for data.cache=disk; with data.cache={cache} leave it out.")
    if cache == "none":
        return source
    if os.name != "posix":
        raise ConfigError(f"data.cache={cache} needs the file locks of Linux or macOS; set data.cache=none.")
    try:
        folder = _in_memory(source) if cache == "ram" else _on_disk(source, cache_dir)
        free = shutil.disk_usage(folder).free if cache == "disk" or _SHARED in folder.parents else _free_memory()
        return Cached(source, folder, int(cache_gb * _GB if cache_gb is not None else free / 2))
    except OSError as error:
        where, why = "memory" if cache == "ram" else cache_dir or "the user's cache folder", disk(error) or error.strerror
        raise DataError(
            f"The cache cannot be kept in {where} ({why}); set data.cache=none, or another data.cache_dir."
        ) from error


def user_cache() -> Path:
    """Where what is kept between runs lies: $XDG_CACHE_HOME/seglab or ~/.cache/seglab."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "seglab").expanduser()


def keep(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """What `write` writes takes the file's place, all or nothing; where the disk refuses, the old one stays."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
        try:
            with os.fdopen(handle, "wb") as out:
                write(out)
            os.replace(name, file)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise


def _on_disk(source: Source, cache_dir: str | None) -> Path:
    """A folder that belongs to the data set as it is; later runs find it again."""
    home = Path(cache_dir).expanduser() if cache_dir else user_cache()
    folder = home / f"samples-{_VERSION}-{_key(source)}"
    folder.mkdir(parents=True, exist_ok=True)
    log.info("decoded images are kept in %s", shown(folder))
    return folder


def _key(source: Source) -> str:
    """What is kept belongs to the data set as it is, and to the scale at which it gives its images."""
    return source.fingerprint() + ("" if source.reduced is None else f"-{source.reduced:g}")


def _in_memory(source: Source) -> Path:
    """A folder that all processes of this run share and the last of them takes away; those of killed runs go, too."""
    import fcntl

    base = _SHARED if _SHARED.is_dir() and os.access(_SHARED, os.W_OK) else Path(tempfile.gettempdir())
    for left in base.glob(f"seglab-{os.getuid()}-*"):
        _take_away(left)
    # The processes of a distributed run know each other by the port at which they meet.
    owner = f"port{port}" if (port := os.environ.get("MASTER_PORT")) else str(os.getpid())
    folder = base / f"seglab-{os.getuid()}-{owner}-{_key(source)}"
    lock, main = _locked(folder), os.getpid()

    def leave() -> None:
        with suppress(OSError):
            if os.getpid() == main:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where another process of the run is at work
                shutil.rmtree(folder, ignore_errors=True)

    atexit.register(leave)
    return folder


def _locked(folder: Path) -> int:
    """A shared lock on a new or old folder, held by this process and its workers until they end."""
    import fcntl

    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_SH)
        with suppress(OSError):
            if os.path.samestat(os.fstat(lock), os.stat(folder / "lock")):
                return lock
        os.close(lock)  # another process took it for left behind, and away, just before it was locked


def _take_away(folder: Path) -> None:
    """Delete a folder that no process uses any more."""
    import fcntl

    with suppress(OSError):
        lock = os.open(folder / "lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _free_memory() -> int:
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"  # macOS tells only of all
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
