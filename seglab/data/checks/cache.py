"""Looks kept between two calls, one small file for each data root in the user's cache folder.

A look counts as long as name, size and time of both files are the same. A broken or foreign file is ignored.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from seglab.data.cache import user_cache
from seglab.data.checks.looks import Look, from_json, to_json

_VERSION = 1  # raise it when Look or the way it is taken changes


def stamp(image: str, mask: str, layered: bool, edges: bool) -> str:
    """What must be the same for a look to be the same: both files' paths, sizes and times, and what was asked for."""
    told = []
    for path in (image, mask):
        try:
            found = os.stat(path)
            told += [path, found.st_size, found.st_mtime_ns]
        except OSError:
            told += [path, -1, -1]
    text = json.dumps([_VERSION, layered, edges, told], ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def place(root: Path) -> Path:
    """The file for a data root."""
    name = hashlib.blake2b(os.fsencode(os.path.realpath(root)), digest_size=12).hexdigest()
    return user_cache() / f"check-{name}.json.gz"


def recall(file: Path) -> dict[str, Look]:
    """{stamp: look} of what was kept; empty if there is nothing that can be read."""
    kept: dict[str, Look] = {}
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                key, data = json.loads(line)
                kept[str(key)] = from_json(data)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        pass  # what came before the damage is good
    except Exception:  # zlib.error is no OSError
        pass
    return kept


def keep(file: Path, looks: dict[str, Look]) -> None:
    """Write the looks, all or nothing; a folder that cannot be written is no reason to fail."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
        try:
            with os.fdopen(handle, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1) as out:
                for key, look in looks.items():
                    out.write((json.dumps([key, to_json(look)], separators=(",", ":")) + "\n").encode())
            os.replace(name, file)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
