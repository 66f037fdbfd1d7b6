"""Which shards a setting names (braces, globs, lists), and which members of a sample are its image and its mask."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product

from seglab.data.reading import SUFFIXES
from seglab.data.shards_bytes import is_address, part_of
from seglab.errors import ConfigError, DataError

_IMAGES = ("image", "img", "input", "rgb", "picture")
_MASKS = ("seg", "mask", "masks", "cls", "label", "labels", "target", "annotation", "segmentation", "semantic", "gt", "ann")
_LOSSY = ("jpg", "jpeg", "webp")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST = 1_000_000  # shards of one setting


def shards(named: str | Sequence[str], setting: str) -> list[str]:
    """The paths or addresses that a setting names, in its order, those of a glob sorted; Config- or DataError if none."""
    found: list[str] = []
    for text in [named] if isinstance(named, str) else named:
        for name in _expanded(text if is_address(text) else os.path.expanduser(text), setting):
            found += _matching(name, setting) if re.search(r"[*?\[]", name) else [name]
    if not found:
        raise ConfigError(f"{setting} names no shard; give it a path such as 'shards/train-{{000000..000009}}.tar'.")
    twice = next((name for name in found if found.count(name) > 1), None) if len(set(found)) < len(found) else None
    if twice:
        raise ConfigError(f"{setting} names the shard {twice} twice; name it once.")
    wrong = next((name for name in found if not name.endswith(".tar")), None)
    if wrong and re.search(r"\.(tgz|tar\.\w+)$", wrong):
        raise DataError(f"The shard {wrong} is compressed, but samples are read from any place in it; unpack it to .tar.")
    if wrong or any(part_of(f"{name}!@0+0") != (name, "", 0, 0) for name in found):
        raise ConfigError(f"{setting} names {wrong or found[0]}; the name of a shard ends with .tar, and has no '.tar!' in it.")
    return found


def _expanded(text: str, setting: str) -> Iterator[str]:
    """The text with {000..012} and {a,b} spelled out, as a shell does it."""
    pieces = _BRACES.split(text)
    choices = [_choices(one, setting) if n % 2 else [one] for n, one in enumerate(pieces)]
    count = 1
    for some in choices:
        count *= len(some)
    if count > _MOST:
        raise ConfigError(f"{setting}={text} names {count} shards; that is more than {_MOST}.")
    return map("".join, product(*choices))


def _choices(inside: str, setting: str) -> Sequence[str]:
    span = _RANGE.fullmatch(inside)
    if span is None:
        return inside.split(",")
    first, last = int(span[1]), int(span[2])
    if not 0 <= last - first < _MOST:
        raise ConfigError(f"{setting} has the range {{{inside}}}; write the lower number first, as in {{000000..000009}}.")
    width = len(span[1]) if len(span[1]) == len(span[2]) or span[1].startswith("0") else 0
    return [f"{n:0{width}d}" for n in range(first, last + 1)]


def _matching(pattern: str, setting: str) -> list[str]:
    if is_address(pattern):
        import fsspec

        places, inside = fsspec.url_to_fs(pattern)
        try:
            found = [places.unstrip_protocol(name) for name in places.glob(inside)]
        except (OSError, ValueError) as error:
            raise DataError(f"{setting}={pattern} cannot be listed: {' '.join(str(error).split()).rstrip('.')}.") from error
    else:
        found = glob.glob(pattern)
    if not found:
        raise DataError(f"{setting}={pattern} matches no file; correct the path.")
    return sorted(found)


class Roles:
    """Tells by their extensions which members of a sample are image and mask; `image`, `mask`: as told, a;b for choices."""

    def __init__(self, image: str | None, mask: str | None) -> None:
        self.image, self.mask = _told(image), _told(mask)
        self._known: dict[tuple[str, ...], tuple[str, str] | str] = {}

    def __call__(self, extensions: tuple[str, ...], where: str) -> tuple[str, str]:
        """The two extensions; DataError, naming the sample, if there is no image or mask, or a doubt."""
        if extensions not in self._known:
            self._known[extensions] = self._decide(extensions)
        found = self._known[extensions]
        if isinstance(found, str):
            raise DataError(f"{where} {found}")
        return found

    def _decide(self, extensions: tuple[str, ...]) -> tuple[str, str] | str:
        there = ", ".join(sorted(extensions))
        pictures = [e for e in extensions if _role(e)]
        masks = [e for e in self.mask if e in extensions][:1] or [e for e in pictures if _role(e) == "mask"]
        images = [e for e in self.image if e in extensions][:1] or [e for e in pictures if e not in masks]
        if not masks and not self.mask and len(pictures) == 2:  # x.jpg and x.png: what is compressed with loss is no mask
            others = [e for e in pictures if e.rpartition(".")[2] not in _LOSSY and (not self.image or e not in images)]
            masks = others if len(others) == 1 else []
        images = [e for e in images if e not in masks]
        for told, found, what, key in ((self.mask, masks, "mask", "data.mask"), (self.image, images, "image", "data.image")):
            if (told and not set(told) & set(extensions)) or not found:
                wanted = f" {' or '.join(told)}" if told else ""
                return f"has no {what}{wanted} (it has {there}); add it to the shard, or name its extension by {key}."
            if len(found) > 1:
                return f"has {' and '.join(sorted(found))}, each of which may be the {what}; name one by {key}={found[0]}."
        return images[0], masks[0]


def _told(setting: str | None) -> tuple[str, ...]:
    return tuple(one.strip().lower().removeprefix(".") for one in setting.split(";")) if setting else ()


@lru_cache
def _role(extension: str) -> str | None:
    """What a member is, by its extension: image, mask, or nothing of interest."""
    *words, kind = extension.split(".")
    if f".{kind}" not in SUFFIXES:
        return None
    return "mask" if words and words[-1] in _MASKS else "image"
