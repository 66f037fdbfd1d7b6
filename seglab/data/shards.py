"""Samples in tar files, as the package webdataset writes them: `data=webdataset data.train='shards/train-*.tar'`."""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from seglab.data.compact import Texts
from seglab.data.folder_classes import told_classes
from seglab.data.folder_scan import in_threads
from seglab.data.layout import SPLITS, Pair, Pairs, hashed_split
from seglab.data.paired import Paired, found_out
from seglab.data.shards_bytes import Part, part_of
from seglab.data.shards_index import Index, index
from seglab.data.shards_names import Roles, shards
from seglab.data.shards_tar import LINK, Member
from seglab.data.source import written
from seglab.errors import ConfigError, DataError, visible

log = logging.getLogger("seglab")

_KEY = re.compile(r"((?:.*/|)[^./][^./]*)\.([^/]*)", re.DOTALL)  # webdataset's rule: up to the first dot of the last part
_META = re.compile(r"__[^/]*__($|/|\.(json|ya?ml|txt)$)")  # notes on the shard: what webdataset leaves out, and files of text


class Shards(Paired):
    """Tar files of samples: members of one key, such as 000123.jpg and 000123.seg.png, are an image and its mask.

    `train`, `val`, `test`: paths or addresses (fsspec's), with {000000..000009}, globs, or lists; with `train` alone its
    samples are split by `split`. `image` and `mask` are extensions. A shard's headers are read once; samples are read from
    their place in it, so that any sample comes at any time. What masks mean is told or found out as for a folder.
    """

    def __init__(
        self,
        train: str | list[str] | None = None,
        val: str | list[str] | None = None,
        test: str | list[str] | None = None,
        image: str | None = None,
        mask: str | None = None,
        classes: list[str] | None = None,
        mode: str | None = None,
        ignore_index: int | None = None,
        foreground: bool = False,
        colors: list | None = None,
        split: Sequence[float] = (0.7, 0.15, 0.15),
        group: str | None = None,
        channels: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        named = {s: shards(one, f"data.{s}") for s, one in (("train", train), ("val", val), ("test", test)) if one}
        if not named:
            raise ConfigError("Name the shards: data.train='shards/train-*.tar', and data.val and data.test likewise.")
        _apart(named)
        roles = Roles(image, mask)
        pairs = {s: _pairs(some, roles) for s, some in named.items()}
        if list(named) == ["train"]:
            log.info("Only data.train names shards; their samples are split by data.split.")
            pairs = hashed_split(pairs["train"], split, group)
        folder = Path(next(iter(named.values()))[0]).parent
        told = told_classes(folder, classes, ignore_index, colors)
        meaning = found_out(told, mode, foreground)
        pairs = {s: pairs[s] if s in pairs else Pairs.of([]) for s in SPLITS}
        super().__init__(folder.resolve().name, pairs, meaning, told.colors or (), group, channels, mean, std)

    def stamp(self, split: str, index: int) -> int:
        """Another number when the shard is written anew; 0 for an address."""
        part = part_of(self.pairs[split][index].image)
        return written(part.file) if part else 0


def _apart(named: dict[str, list[str]]) -> None:
    """No shard in two splits."""
    seen: dict[str, str] = {}
    for split, some in named.items():
        for name in some:
            if seen.setdefault(os.path.normpath(name), split) != split:
                raise ConfigError(f"data.{seen[os.path.normpath(name)]} and data.{split} both name the shard {name}.")


def _pairs(files: Sequence[str], roles: Roles) -> Pairs:
    """The samples of a split, sorted by key; DataError for a key that two shards have."""
    columns: tuple[list[str], list[str], list[str]] = ([], [], [])
    for made in in_threads(index, files, "Indexing shards", 100 * len(files)):
        for sample in _of_shard(made, roles):
            for column, text in zip(columns, sample, strict=True):
                column.append(text)
    found = Pairs(*map(Texts, columns))
    found = found.take(found.ids.order())
    for n, (one, after) in enumerate(itertools.pairwise(found.ids)):
        if one == after:
            places = [part_of(found[k].image) for k in (n, n + 1)]
            raise DataError(
                f"The key '{visible(one)}' stands in {' and in '.join(p.file for p in places if p)}; give every sample of a "
                "split a key of its own."
            )
    return found


def _of_shard(made: Index, roles: Roles) -> Iterator[Pair]:
    seen: set[str] = set()
    for key, parts in _samples(made):
        where = f"The sample '{visible(key)}' of {made.file}"
        if key in seen:
            raise DataError(f"{where} comes a second time after others; write the members of a sample one after another.")
        seen.add(key)
        if key.startswith("/") or ".." in key.split("/"):
            raise DataError(f"{where} leads outside of the data set; write the shard with relative names.")
        image, mask = (parts[e] for e in roles(tuple(parts), where))
        link = next((one for one in (image, mask) if one.size == LINK), None)
        if link is not None:
            raise DataError(
                f"{where}: '{visible(link.name)}' is a link; pack the files themselves (tar -h --hard-dereference)."
            )
        yield Pair(key, str(Part(made.file, *image)), str(Part(made.file, *mask)))
    if not seen:
        raise DataError(f"The shard {made.file} holds no sample, such as 000123.jpg and 000123.seg.png; leave it out.")


def _samples(made: Index) -> Iterator[tuple[str, dict[str, Member]]]:
    """Keys and their members by extension, in the order of the shard; hidden files and __meta__ are no members."""
    last: str | None = None
    parts: dict[str, Member] = {}
    for member in made:
        match = _KEY.fullmatch(re.sub(r"^(\./+)+", "", member.name))
        if match is None or _META.match(member.name):
            continue
        key, extension = match[1], match[2].lower()
        if key != last:
            if last is not None:
                yield last, parts
            last, parts = key, {}
        if extension in parts:
            raise DataError(f"The shard {made.file} holds '{visible(member.name)}' twice; write it with every name once.")
        parts[extension] = member
    if last is not None:
        yield last, parts
