"""Where the members of a tar lie, from its headers alone: ustar, pax and GNU's long names.

Python's tarfile takes a damaged header in the middle for the end, so that a broken shard would lose samples in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK = 512
Read = Callable[[int, int], bytes]  # (offset, count) -> at most so many bytes
_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ\0": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}
LINK = -1
_FILES, _LINKS, _WITHOUT_BYTES = b"\0" + b"07", b"12", b"123456"  # links, devices and folders say a size, but have no bytes
_NAMES = b"xL"  # headers that name the next member: pax, GNU
_LONGEST = 1 << 20  # bytes of such a header
_EMPTY = bytes(BLOCK)


class Member(NamedTuple):
    """A file in the tar: its name, and where its bytes begin and how many they are (LINK: it is a link, and has none)."""

    name: str
    at: int
    size: int


def members(read: Read, length: int) -> Iterator[Member]:
    """The files and links of a tar of `length` bytes, in order; ValueError says what is wrong with it."""
    position = 0
    told: dict[str, str] = {}  # by the headers before a member's own
    while True:
        block = read(position, BLOCK)
        if position == 0:
            _plain(block)
        if block == _EMPTY:
            return
        if len(block) < BLOCK:
            raise ValueError("it is truncated, because no empty block ends it")
        kind, size, name = header(block, position)
        size = int(told.get("size", size)) if kind not in _NAMES else size
        if size < 0 or (kind in _NAMES and size > _LONGEST):
            raise ValueError(f"the header at byte {position} states an impossible size")
        at, position = position + BLOCK, position + BLOCK
        if kind not in _WITHOUT_BYTES:
            position += -(-size // BLOCK) * BLOCK
            if at + size > length:
                raise ValueError(f"it is truncated: '{told.get('path', name)}' goes on after its end")
        if kind in _NAMES:
            told |= _pax(read(at, size)) if kind == b"x" else {"path": _text(read(at, size))}
            continue
        name = told.get("path", name)
        if kind == b"S" or any(key.startswith("GNU.sparse") for key in told):
            raise ValueError(f"'{name}' is stored sparse; write the tar without --sparse")
        if kind in _FILES and not name.endswith("/"):
            yield Member(name, at, size)
        elif kind in _LINKS:
            yield Member(name, at, LINK)
        if kind != b"K" and kind != b"g":  # K: the target of a link; g: of all members, and none of what is asked for here
            told = {}


def header(block: bytes, position: int) -> tuple[bytes, int, str]:
    """(kind, size, name) of a header block; ValueError if its checksum does not fit."""
    # The checksum's own eight bytes count as spaces.
    if len(block) != BLOCK or _number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 32:
        raise ValueError(f"it is damaged at byte {position}, where the header of a member should be")
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:  # GNU's old headers have other things there
        name = f"{_text(block[345:500])}/{name}"
    return block[156:157], _number(block[124:136]), name


def _plain(block: bytes) -> None:
    """ValueError unless this is the beginning of a tar."""
    for magic, command in _COMPRESSED.items():
        if block.startswith(magic):
            raise ValueError(f"it is compressed, and samples are read from any place in it; unpack it ({command})")
    if not block:
        raise ValueError("it is empty")


def _number(field: bytes) -> int:
    """Octal digits; or, for sizes from 8 GB on, GNU's binary form."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return -1  # no checksum and no size: the block is no header


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax(records: bytes) -> dict[str, str]:
    """The keys and values of a pax header: lines such as `30 path=000123.jpg`, each beginning with its length."""
    found = {}
    while records.strip(b"\0"):
        length, _, _ = records.partition(b" ")
        line = records[len(length) + 1 : int(length)] if length.isdigit() else b""
        key, equals, value = line.removesuffix(b"\n").partition(b"=")
        if not equals:
            raise ValueError("a pax header of it is damaged")
        found[key.decode("utf-8", "surrogateescape")] = _text(value)
        records = records[int(length) :]
    return found
