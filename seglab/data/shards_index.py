"""The index of a tar shard: made once from its headers, kept in the user's cache folder until the shard changes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seglab.data.cache import keep, user_cache
from seglab.data.shards_bytes import is_address, read_range
from seglab.data.shards_tar import BLOCK, Member, header, members
from seglab.errors import DataError, visible

_VERSION = 2  # raise it when the meaning of the files changes
_BLOCKS = {True: 4 << 20, False: 1 << 12}  # bytes read at once: of addresses many, because each request takes its time


@dataclass(frozen=True)
class Index:
    """Where the members of a shard lie. `names` are joined by zero bytes, as one text would take eight times as much."""

    file: str
    names: bytes
    at: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.at)

    def __iter__(self) -> Iterator[Member]:
        names = self.names.decode("utf-8", "surrogateescape").split("\0") if len(self) else []
        return map(Member, names, self.at.tolist(), self.size.tolist())


def index(file: str) -> Index:
    """The Index of a path or address; DataError in one sentence for a shard that is missing, compressed or damaged."""
    try:
        length, state = _state(file)
        kept = user_cache() / "shards" / f"{hashlib.blake2b(repr(state).encode(), digest_size=16).hexdigest()}.idx"
        found = _recalled(file, kept)
        if found is None:
            found = _made(file, length)
            _keep(found, kept)
        return found
    except ImportError as error:  # fsspec's word for a scheme whose package is missing
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split()).rstrip('.')}.") from error
    except (OSError, ValueError) as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split()).rstrip(".")
        raise DataError(f"The shard {file} cannot be used: {visible(why)}; write or copy it again.") from error


def _state(file: str) -> tuple[int, tuple[Any, ...]]:
    """The shard's length, and what is another when it is written anew."""
    if not is_address(file):
        found = os.stat(file)
        return found.st_size, (_VERSION, os.path.realpath(file), found.st_size, found.st_mtime_ns)
    import fsspec

    places, inside = fsspec.url_to_fs(file)
    told = places.info(inside)
    if told.get("size") is None:
        raise ValueError("its server does not say how long it is")
    marks = ("size", "etag", "mtime", "lastmodified", "last_modified", "created", "updated", "generation", "md5hash")
    state = sorted((k, str(v)) for k, v in told.items() if k.lower() in marks)
    return told["size"], (_VERSION, places.unstrip_protocol(inside), state)


def _made(file: str, length: int) -> Index:
    held = (0, b"")
    block = _BLOCKS[is_address(file)]

    def read(at: int, count: int) -> bytes:
        nonlocal held
        start, data = held
        if not start <= at <= at + count <= start + len(data):
            start, data = at, read_range(file, at, max(0, min(max(count, block), length - at)))
            held = start, data
        return data[at - start : at - start + count]

    found = list(members(read, length))
    names = "\0".join(one.name for one in found).encode("utf-8", "surrogateescape")
    at, size = (np.array([getattr(one, key) for one in found], np.int64) for key in ("at", "size"))
    return Index(file, names, at, size)


def _keep(made: Index, place: Path) -> None:
    """Write the index, whole or not at all; a cache that cannot be written is gone without."""
    body = made.at.astype("<i8").tobytes() + made.size.astype("<i8").tobytes() + made.names
    head = {"version": _VERSION, "members": len(made), "digest": hashlib.blake2b(body).hexdigest()}
    keep(place, lambda out: out.write(json.dumps(head).encode() + b"\n" + body))


def _recalled(file: str, place: Path) -> Index | None:
    """The kept index, if it is whole and the shard has its last member where it says."""
    try:
        first, _, body = place.read_bytes().partition(b"\n")
        head = json.loads(first)
        if head["version"] != _VERSION or head["digest"] != hashlib.blake2b(body).hexdigest():
            return None
        count = head["members"]
        at, size = np.frombuffer(body, "<i8", 2 * count).reshape(2, count)
        if count:
            before = int(at[-1]) - BLOCK
            header(read_range(file, before, BLOCK), before)
        return Index(file, body[16 * count :], at, size)
    except (OSError, ValueError, KeyError, TypeError):
        return None
