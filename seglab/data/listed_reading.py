"""Read a CSV or JSONL file that names images and their masks, one pair a line."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seglab.data.layout import Pair
from seglab.errors import DataError, nearest, visible

_COLUMNS = ("image", "mask", "id", "group", "split")
_NEEDED = _COLUMNS[:2]


class Row(NamedTuple):
    """A line of a list: its pair, group and split where it has them, and `where` it stands, for messages."""

    pair: Pair
    group: str | None
    split: str | None
    where: str


def read_rows(file: Path, setting: str) -> list[Row]:
    """The rows of a list; DataError names the file and line of what is missing or wrong.

    Paths are relative to the list's folder. An image's name is its id, or the path of the image without suffix; with a
    group it begins with the group and a slash.
    """
    if not file.is_file():
        near = [p.name for p in file.parent.iterdir() if p.is_file()] if file.parent.is_dir() else []
        hint = nearest(file.name, near)
        raise DataError(f"{setting}={file} does not exist; correct the path.{hint if 'Did' in hint else ''}")
    if file.suffix.lower() not in (".csv", ".jsonl"):
        raise DataError(f"{setting}={file} must be a .csv or .jsonl file.")
    try:
        text = file.read_text(encoding="utf-8-sig")  # spreadsheets begin a file with a byte order mark
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as UTF-8 text: {error}.") from error
    lines = _csv(file, text) if file.suffix.lower() == ".csv" else _jsonl(file, text)
    rows = [_row(file, number, fields) for number, fields in lines]
    if not rows:
        raise DataError(f"{file} lists no image; write one line per image under the columns image and mask.")
    return rows


def distinct(rows: Iterable[Row]) -> None:
    """DataError for an image that is listed twice, and for two images of one name."""
    images: dict[str, Row] = {}
    names: dict[str, Row] = {}
    for row in rows:
        other = images.setdefault(os.path.normpath(row.pair.image), row)
        if other is not row:
            raise DataError(
                f"{row.where} lists the image {row.pair.image} again, which {other.where} has; keep one of the two."
            )
        other = names.setdefault(row.pair.id, row)
        if other is not row:
            raise DataError(
                f"{row.where} and {other.where} both have an image named '{visible(row.pair.id)}'; tell them apart by a "
                "column id."
            )


def _csv(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_columns(f"{file} line 1", header)
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if len(fields) != len(header):
                raise DataError(
                    f"{file} line {reader.line_num} has {len(fields)} fields, but the first line names {len(header)} columns; "
                    "put values that hold a comma in double quotes."
                )
            yield reader.line_num, {name: value.strip() for name, value in zip(header, fields, strict=True)}
    except csv.Error as error:
        raise DataError(f"{file} line {reader.line_num} is not valid CSV: {error}.") from error


def _jsonl(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise DataError(f"{file} line {number} is not valid JSON: {error}.") from error
        if not isinstance(fields, dict):
            raise DataError(f'{file} line {number} is not a JSON object such as {{"image": "a.jpg", "mask": "a.png"}}.')
        _check_columns(f"{file} line {number}", list(fields))
        yield number, fields


def _check_columns(where: str, names: Sequence[str]) -> None:
    for name in _NEEDED:
        if name not in names:
            there = ", ".join(visible(n) for n in names[:8]) or "nothing"
            raise DataError(f"{where} has no column '{name}' (it has {there}); a list needs image and mask.")
    twice = next((name for name in _COLUMNS if list(names).count(name) > 1), None)
    if twice:
        raise DataError(f"{where} has the column '{twice}' twice; keep one of the two.")


def _row(file: Path, number: int, fields: dict[str, Any]) -> Row:
    where = f"{file} line {number}"
    told = {name: fields.get(name) for name in _COLUMNS}
    told |= {name: str(value) for name, value in told.items() if type(value) is int}
    wrong = next((name for name, value in told.items() if not isinstance(value, str | None)), None)
    wrong = wrong or next((name for name in _NEEDED if not told[name]), None)
    if wrong:
        raise DataError(f"{where}: '{wrong}' is {fields[wrong]!r}; it must be a text, such as images/a.png.")
    paths = {name: os.path.join(file.parent, str(told[name])) for name in _NEEDED}
    for name, path in paths.items():
        if not os.path.isfile(path):
            raise DataError(f"{where}: the {name} {visible(path)} does not exist; paths are relative to the list's folder.")
    image = str(told["image"]).replace("\\", "/")
    name = _inside(told["id"] or os.path.splitext(os.path.normpath(image))[0])
    group = told["group"] or None
    if group:
        name = f"{group.replace('/', '_')}/{name}"
    return Row(Pair(name, paths["image"], paths["mask"]), group, told["split"] or None, where)


def _inside(name: str) -> str:
    """A name that leads nowhere else when files are called by it: no drive, no root, no way up."""
    parts = [part for part in re.sub("^[A-Za-z]:", "", name).split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "image"
