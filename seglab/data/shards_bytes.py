"""A file, or a part of a larger one: the locator `shards/train-000003.tar!000123.jpg@OFFSET+SIZE` stands for such a part.

It is text, so that it goes wherever a path goes; nothing is kept open, so that nothing is shared by forked workers.
Addresses such as s3://bucket/train.tar are read by range requests through fsspec.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

_PART = re.compile(r"(?P<file>.+?\.(?:tar|arrow))!(?P<name>[^\0]*)@(?P<at>\d+)\+(?P<size>\d+)", re.DOTALL)
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]+://")
_SMALL = 1 << 20  # a remote part of at most so many bytes is fetched whole: one request


class Part(NamedTuple):
    """`size` bytes of `file` from `at`; `name` says what they are, for people."""

    file: str
    name: str
    at: int
    size: int

    def __str__(self) -> str:
        return f"{self.file}!{self.name}@{self.at}+{self.size}"


def part_of(path: str) -> Part | None:
    """The part that a locator stands for; None for the path of a file."""
    found = _PART.fullmatch(path) if "!" in path else None
    return Part(found["file"], found["name"], int(found["at"]), int(found["size"])) if found else None


def is_address(path: str) -> bool:
    """Whether fsspec must read it: scheme://..., not a path."""
    return _ADDRESS.match(path) is not None


def shown_path(path: str) -> str:
    """A path or locator as a user knows it: without offset and size."""
    part = part_of(path)
    return path if part is None else f"{part.file}!{part.name}"


def size_of(path: str) -> int:
    """Bytes of a file, or of a part of one; OSError if there is no such file."""
    part = part_of(path)
    return os.path.getsize(path) if part is None else part.size


def read_bytes(path: str) -> bytes:
    """All of a file or part; OSError or ValueError if it is not there in full."""
    part = part_of(path)
    if part is None:
        with open(path, "rb") as file:
            return file.read()
    return read_range(part.file, part.at, part.size)


def read_range(path: str, at: int, size: int) -> bytes:
    """`size` bytes of a file or address from `at`; ValueError where the file ends before."""
    if is_address(path):
        import fsspec

        places, inside = fsspec.url_to_fs(path)  # after a fork fsspec makes new connections itself
        found = bytes(places.cat_file(inside, start=at, end=at + size)) if size else b""
    else:
        with open(path, "rb", buffering=0) as file:
            file.seek(at)
            found = _filled(file, size)
    if len(found) > size:
        raise ValueError(f"the server of {os.path.basename(path)} sends whole files only, no ranges of bytes")
    if len(found) < size:
        raise ValueError(f"{os.path.basename(path)} ends before it; was the file written anew?")
    return found


def _filled(file: Any, size: int) -> bytes:
    found = file.read(size)
    while len(found) < size and (more := file.read(size - len(found))):  # a system gives at most 2 GB at once
        found += more
    return found


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """A file or part to read from, with seek and tell; of a part only what is asked for is read."""
    part = part_of(path)
    if part is None:
        with open(path, "rb") as file:
            yield file
    elif is_address(part.file) and part.size <= _SMALL:
        yield io.BytesIO(read_range(*_place(part)))
    else:
        with io.BufferedReader(_Window(part), 1 << 12) as window:
            yield window


def _place(part: Part) -> tuple[str, int, int]:
    return part.file, part.at, part.size


class _Window(io.RawIOBase):
    """A part as a file of its own."""

    def __init__(self, part: Part) -> None:
        self._part, self._position = part, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._part.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = min(len(view), max(0, self._part.size - self._position))
        view[:count] = read_range(self._part.file, self._part.at + self._position, count)
        self._position += count
        return count
