"""The lines of a CSV or JSONL file that names images, with the values of the known columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seglab.errors import DataError, is_text, nearest, visible

_COLUMNS = ("image", "mask", "id", "group", "split", "height", "width")
_NEEDED = _COLUMNS[:2]
Line = tuple[int, Sequence[Any]]  # its number, and the values of _COLUMNS: texts, or None


def lines_of(file: Path, setting: str) -> Iterator[Line]:
    """The lines of a list, one by one; DataError names the file, the line and what is wrong there."""
    if not file.is_file():
        near = [p.name for p in file.parent.iterdir() if p.is_file()] if file.parent.is_dir() else []
        hint = nearest(file.name, near)
        raise DataError(f"{setting}={file} does not exist; correct the path.{hint if 'Did' in hint else ''}")
    if file.suffix.lower() not in (".csv", ".jsonl"):
        raise DataError(f"{setting}={file} must be a .csv or .jsonl file.")
    parse = _csv if file.suffix.lower() == ".csv" else _jsonl
    try:
        # Spreadsheets begin a file with a byte order mark. A line ends where the format says, not where Python does.
        with file.open(encoding="utf-8-sig", newline="" if parse is _csv else "\n") as text:
            yield from parse(file, text)
    except (OSError, UnicodeError) as error:
        raise DataError(f"{file} cannot be read as UTF-8 text: {error}.") from error


def _csv(file: Path, text: Iterable[str]) -> Iterator[Line]:
    reader = csv.reader(text, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_columns(f"{file} line 1", header)
        places = [header.index(name) if name in header else None for name in _COLUMNS]
        for fields in reader:
            if len(fields) != len(header) or not all(fields):
                if not any(field.strip() for field in fields):
                    continue
                if len(fields) != len(header):
                    raise DataError(
                        f"{file} line {reader.line_num} has {len(fields)} fields, but the first line names {len(header)} "
                        "columns; put values that hold a comma in double quotes."
                    )
            values = [None if at is None else fields[at].strip() or None for at in places]
            if not (values[0] and values[1]):
                name = _NEEDED[bool(values[0])]
                raise DataError(f"{file} line {reader.line_num}: '{name}' is ''; it must be a text, such as images/a.png.")
            yield reader.line_num, values
    except csv.Error as error:
        raise DataError(f"{file} line {reader.line_num} is not valid CSV: {error}.") from error


def _jsonl(file: Path, text: Iterable[str]) -> Iterator[Line]:
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise DataError(f"{file} line {number} is not valid JSON: {error}.") from error
        if not isinstance(fields, dict):
            raise DataError(f'{file} line {number} is not a JSON object such as {{"image": "a.jpg", "mask": "a.png"}}.')
        _check_columns(f"{file} line {number}", list(fields))
        values = [str(value) if type(value) is int else value for value in map(fields.get, _COLUMNS)]
        wrong = [
            name
            for name, value in zip(_COLUMNS, values, strict=True)
            if not isinstance(value, str | None) or (name in _NEEDED and not value)
        ]
        if wrong:
            raise DataError(
                f"{file} line {number}: '{wrong[0]}' is {fields[wrong[0]]!r}; it must be a text, such as images/a.png."
            )
        if "\\ud" in line.lower() and (half := next((v for v in values if v and not is_text(v)), None)):
            raise DataError(f"{file} line {number}: '{visible(half)}' holds half of a character; correct the list.")
        yield number, [value or None for value in values]


def _check_columns(where: str, names: Sequence[str]) -> None:
    for name in _NEEDED:
        if name not in names:
            there = ", ".join(visible(n) for n in names[:8]) or "nothing"
            raise DataError(f"{where} has no column '{name}' (it has {there}); a list needs image and mask.")
    twice = next((name for name in _COLUMNS if list(names).count(name) > 1), None)
    if twice:
        raise DataError(f"{where} has the column '{twice}' twice; keep one of the two.")
