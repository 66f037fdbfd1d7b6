"""Looks kept between two calls, one small file for each data root in the user's cache folder.

A look counts as long as name, size and time of both files are the same. A broken or foreign file is ignored.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from seglab.data import cache
from seglab.data.checks.looks import Look, from_json, to_json
from seglab.data.shards_bytes import part_of

_VERSION = 2  # raise it when Look or the way it is taken changes
_STAMP = slice(2, 34)  # of a line: ["0123...", {...}]


def stamp(image: str, mask: str, layered: bool, edges: bool) -> str:
    """What must be the same for a look to be the same: both files' paths, sizes and times, and what was asked for."""
    told = []
    for path in (image, mask):
        part = part_of(path)
        try:
            found = os.stat(part.file if part else path)
            told += [os.path.abspath(path), found.st_size, found.st_mtime_ns]
        except OSError:
            told += [os.path.abspath(path), -1, -1]
    text = json.dumps([_VERSION, layered, edges, told])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def place(root: Path, ending: str = ".json.gz") -> Path:
    """The file for a data root: of all looks, or with another ending of something else."""
    name = hashlib.blake2b(os.fsencode(os.path.realpath(root)), digest_size=12).hexdigest()
    return cache.user_cache() / f"check-{name}{ending}"


def known(file: Path) -> set[str]:
    """The stamps of all that was kept, without reading it."""
    return {line[_STAMP] for line in _lines(file)}


def recall(file: Path, wanted: Container[str] | None = None) -> dict[str, Look]:
    """{stamp: look} of what was kept, or of the `wanted` stamps; empty if there is nothing that can be read."""
    kept: dict[str, Look] = {}
    with suppress(ValueError, KeyError, TypeError, AttributeError):  # what came before the damage is good
        for line in _lines(file):
            if wanted is None or line[_STAMP] in wanted:
                key, data = json.loads(line)
                kept[str(key)] = from_json(data)
    return kept


def _lines(file: Path) -> Iterator[str]:
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            yield from lines
    except (OSError, EOFError, UnicodeError, zlib.error):
        return


def keep(file: Path, looks: Mapping[str, Look]) -> None:
    """Write the looks, all or nothing; a folder that cannot be written is no reason to fail."""

    def write(raw: BinaryIO) -> None:
        with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1) as out:
            for key, look in looks.items():
                out.write((json.dumps([key, to_json(look)], separators=(",", ":")) + "\n").encode())

    cache.keep(file, write)
