"""Arrays by number in a folder that many processes fill at once: an append-only file, and an index of what is where.

A record is written whole before the index says so, and carries a checksum: a process that is killed, or a disk that is full,
leaves records that nobody finds, never a wrong one. A thread writes while its process goes on: what is changed meanwhile by the
one who put it no longer has its checksum, and is not found either.
"""

from __future__ import annotations

import json
import mmap
import os
import queue
import threading
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_ENTRY = 8  # bytes of a place in the index; 0 = nothing there
_WAITING = 2  # records that a process may have waiting to be written; it writes the next itself
_HEAD = np.dtype([("crc", "<u4"), ("meta", "<u4"), ("sum", "<u8"), ("number", "<i8"), ("stamp", "<i8"), ("bytes", "<i8")])


class Store:
    """`count` numbers, each with a dict of arrays (and of strings, numbers and tuples of numbers) or nothing.

    Every process opens files of its own, so that a store can be handed to forked workers. At `limit` bytes it takes no more.
    """

    def __init__(self, folder: Path, count: int, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.count, self.limit = folder, count, limit
        self._opened: tuple[int, int, mmap.mmap, threading.Lock] | None = None  # process, data file, index, of its threads
        self._checked = bytearray(count)
        self.full = False
        if count:
            self._files()  # a place that cannot be written is told at the start

    def get(self, number: int, stamp: int, only: Sequence[str] = ()) -> dict[str, Any] | None:
        """What is kept under a number (of it only some keys); None if nothing is, or of another stamp, or damaged."""
        data, index, _ = self._files()
        place = int.from_bytes(index[number * _ENTRY : (number + 1) * _ENTRY], "little")
        if not place:
            return None
        head = np.frombuffer(os.pread(data, _HEAD.itemsize, place - 1), _HEAD)
        if not len(head) or head["number"][0] != number or head["stamp"][0] != stamp:
            return None
        start, meta = place - 1 + _HEAD.itemsize, int(head["meta"][0])
        table = os.pread(data, meta, start)
        if zlib.crc32(table) != head["crc"][0]:
            return None
        rows = json.loads(table)
        if not self._checked[number]:  # by each process once
            content = np.frombuffer(os.pread(data, int(head["bytes"][0]), start + meta), np.uint8)
            if len(content) != head["bytes"][0] or _sum(content, rows) != head["sum"][0]:
                return None
            self._checked[number] = 1
        found: dict[str, Any] = {}
        for key, value, dtype, shape, at in rows:
            if only and key not in only:
                continue
            if dtype is None:
                found[key] = tuple(value) if isinstance(value, list) else value
                continue
            found[key] = np.empty(shape, dtype)
            if found[key].size:
                os.preadv(data, [found[key].reshape(-1).view(np.uint8)], start + meta + at)
        return found

    def put(self, number: int, stamp: int, content: Mapping[str, Any]) -> None:
        """Keep the content under the number, perhaps a moment later; nothing happens once the limit or the disk is reached."""
        if self.full:
            return
        parts, rows, at = [], [], 0
        for key, value in content.items():
            if isinstance(value, np.ndarray):
                parts.append(np.ascontiguousarray(value))
                rows.append([key, None, value.dtype.str, value.shape, at])
                at += value.nbytes
            else:
                rows.append([key, value, None, None, 0])
        meta, body = json.dumps(rows).encode(), [part.reshape(-1).view(np.uint8) for part in parts if part.size]
        total = sum(map(_words, body)) % 2**64
        head = np.array([(zlib.crc32(meta), len(meta), total, number, stamp, at)], _HEAD).tobytes()
        try:
            _writer().put_nowait((self, number, [head + meta, *body]))
        except queue.Full:
            self.write(number, [head + meta, *body])

    def write(self, number: int, parts: Sequence[Any]) -> None:
        """Write a record now."""
        data, index, lock = self._files()
        try:
            with lock:  # one append at a time, so that its place is known; a file's lock does not hold off threads
                if os.fstat(data).st_size + sum(map(len, parts)) > self.limit:
                    self.full = True
                    return
                place = _append(data, parts)
        except OSError:  # the disk is full: what was written is never found
            self.full = True
            return
        self._checked[number] = 0
        index[number * _ENTRY : (number + 1) * _ENTRY] = (place + 1).to_bytes(_ENTRY, "little")

    def flush(self) -> None:
        """Wait until all that was put by this process is written."""
        _writer().join()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _files(self) -> tuple[int, mmap.mmap, threading.Lock]:
        if self._opened is None or self._opened[0] != os.getpid():
            data = os.open(self.folder / "data", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            file = os.open(self.folder / "index", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _reserve(file, self.count * _ENTRY)
            self._opened = (os.getpid(), data, mmap.mmap(file, self.count * _ENTRY), threading.Lock())
            os.close(file)
        return self._opened[1:]


_writers: dict[int, queue.Queue[tuple[Store, int, Sequence[Any]]]] = {}  # of this process; a forked one begins with its own


def _writer() -> queue.Queue[tuple[Store, int, Sequence[Any]]]:
    """The records that this process has waiting, and a thread that writes them."""
    process = os.getpid()
    if process not in _writers:
        _writers.clear()
        _writers[process] = queue.Queue(_WAITING)
        threading.Thread(target=_keep_writing, args=(_writers[process],), daemon=True, name="cache").start()
    return _writers[process]


def _keep_writing(waiting: queue.Queue[tuple[Store, int, Sequence[Any]]]) -> None:
    while True:
        store, number, parts = waiting.get()
        try:
            store.write(number, parts)
        finally:
            waiting.task_done()
        del store, parts  # while it waits for the next, it holds no arrays


def _reserve(file: int, size: int) -> None:
    """Give a file its size, and its place on the disk: writing to a mapped file on a full one would kill the process."""
    if size > os.fstat(file).st_size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    elif size > os.fstat(file).st_size:
        os.ftruncate(file, size)


def _append(file: int, parts: Sequence[Any]) -> int:
    """Write the parts at the end of the file, whole; where they begin."""
    import fcntl  # not on Windows, where there is no cache

    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        place = os.lseek(file, 0, os.SEEK_END)
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[os.write(file, view) :]
        return place
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _words(part: np.ndarray) -> int:
    """A checksum of bytes in half the time of a CRC: it finds what is missing or zero, as after a crash, and single errors."""
    whole = len(part) // 8 * 8
    return int(part[:whole].view(np.uint64).sum(dtype=np.uint64)) + int.from_bytes(part[whole:].tobytes(), "little")


def _sum(content: np.ndarray, rows: Sequence[Any]) -> int:
    """The checksum of all arrays of a record."""
    sizes = [(at, int(np.dtype(dtype).itemsize * np.prod(shape))) for _, _, dtype, shape, at in rows if dtype is not None]
    return sum(_words(content[at : at + size]) for at, size in sizes) % 2**64
