"""What runs differ in: their configurations, read only where their texts differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from seglab.compare.collecting import Run
from seglab.config.differences import NOT_SETTINGS
from seglab.config.dotted import written
from seglab.config.identity import BESIDE, INERT, beside
from seglab.config.mistakes import first_line
from seglab.errors import shown

WATCHING = {"seed", *BESIDE, *NOT_SETTINGS}
REPEATS = "data.fold"  # another fold is a repetition, as another seed is
SECTION = re.compile(r"^(?=[A-Za-z_]\w*:)", re.MULTILINE)


def settings(runs: Sequence[Run]) -> tuple[list[Run], list[dict[str, str]], list[str]]:
    """The runs that can be read, for each its dotted keys with values as a command line has them, and what was left out.

    Parts that are the same text in all runs are not read, and interpolations stay as written: what differs is what counts.
    Seeds, folds and what only concerns watching a run are left out.
    """
    texts = [_sections(run.config) for run in runs]
    names = list(dict.fromkeys(name for text in texts for name in text))
    same = {name for name in names if len({text.get(name) for text in texts}) == 1}
    read: dict[str, dict[str, str] | str] = {}
    good: list[Run] = []
    found: list[dict[str, str]] = []
    skipped: list[str] = []
    for run, text in zip(runs, texts, strict=True):
        parts = [part for name, part in text.items() if name not in same and name not in WATCHING]
        for part in parts:
            if part not in read:
                read[part] = _read(part)
        wrong = next((why for part in parts if isinstance(why := read[part], str)), None)
        if wrong is not None:
            skipped.append(f"left out: the configuration of {shown(run.folder)} cannot be read ({wrong}).")
            continue
        good.append(run)
        found.append({key: value for part in parts for key, value in read[part].items()})  # type: ignore[union-attr]
    return good, _alike(_with_inert(found)), skipped


def _with_inert(tables: list[dict[str, str]]) -> list[dict[str, str]]:
    """Keys that some runs have and older ones lack, in these with the values that change nothing."""
    for key, value in INERT.items():
        if any(key in table for table in tables):
            for table in tables:
                if not any(name == key or name.startswith(f"{key}.") for name in table):
                    table[key] = written(value)
    return tables


def _alike(tables: list[dict[str, str]]) -> list[dict[str, str]]:
    """A key that is one value in some tables and has parts in others, such as data.sampling, as one value in all."""
    keys = {key for table in tables for key in table}
    whole = {key[:at] for key in keys for at, sign in enumerate(key) if sign == "." and key[:at] in keys}
    for table in tables:
        for key in whole:
            parts = {name: table.pop(name) for name in [name for name in table if name.startswith(f"{key}.")]}
            if parts:
                table[key] = "{" + ", ".join(f"{name[len(key) + 1 :]}: {value}" for name, value in parts.items()) + "}"
    return tables


def _sections(text: str) -> dict[str, str]:
    """The parts of a YAML text by their top-level keys; the whole under '' if it is not laid out so."""
    first, *parts = SECTION.split(text)
    names = [part.partition(":")[0] for part in parts]
    if first.strip() or len(set(names)) < len(names) or not names:
        return {"": text}
    return dict(zip(names, parts, strict=True))


def _read(part: str) -> dict[str, str] | str:
    """The keys of a part, or why there are none."""
    try:
        plain = OmegaConf.to_container(OmegaConf.create(part), resolve=False)
    except RecursionError:
        return "it refers to itself without end"
    except Exception as error:  # the kinds of error of a YAML parser are many
        return first_line(error)
    if not isinstance(plain, dict):
        return "it is a list"
    keys: dict[str, str] = {}
    _flatten(plain, "", keys)
    return {key: value for key, value in keys.items() if not _watching(key)}


def _watching(key: str) -> bool:
    return key == REPEATS or key.partition(".")[0] in WATCHING or beside(key)


def _flatten(value: Any, name: str, into: dict[str, str]) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if value and (isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict | list) for v in value))):
        for key, inner in items:
            _flatten(inner, f"{name}.{key}" if name else str(key), into)
    else:
        into[name] = written(int(value) if isinstance(value, float) and value.is_integer() else value)
