"""What was found of a data set as it is, kept for the next start of training with the same settings.

It counts as long as all files, the settings and this part of seglab are the same; else the files are looked at again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from seglab.data import cache as store
from seglab.data.checks import cache as looks
from seglab.data.checks.findings import ORDER, Finding
from seglab.data.checks.gather import even_places, home
from seglab.data.layout import SPLITS
from seglab.data.selection import Selected
from seglab.data.source import Source

_SETTINGS = (
    "classes", "mode", "ignore_index", "foreground", "colors", "split", "group", "channels", "scale", "limit", "folds", "fold",
    "split_seed",
)  # fmt: skip
_STAMPS = 20_000  # of a larger set the times of so many files stand for all
_MOST = 32  # kept of one data root


@dataclass(frozen=True)
class Verdict:
    """What was found, and of how many of all samples; `whole`: by all that the doctor knows, not by its quick part."""

    findings: tuple[Finding, ...]
    looked: int
    total: int
    whole: bool = False


def keep(source: Source, data: Mapping[str, Any], findings: Sequence[Finding], looked: int | None = None) -> Verdict:
    """The verdict on `looked` samples (None: all), which is kept unless there are no files whose times could be asked."""
    total = count(source)
    verdict = Verdict(tuple(findings), total if looked is None else looked, total, looked is None)
    if (name := key(source, data)) is not None:
        file = place(source, data)
        kept = {k: v for k, v in _read(file).items() if k != name}
        kept = dict([*kept.items()][1 - _MOST :])
        kept[name] = {"looked": verdict.looked, "whole": verdict.whole, "findings": [one.to_dict() for one in findings]}
        store.keep(file, lambda out: out.write(json.dumps(kept).encode()))
    return verdict


def recall(source: Source, data: Mapping[str, Any]) -> Verdict | None:
    """The verdict that was kept on these very files and settings, if there is one."""
    name = key(source, data)
    if name is None:
        return None
    try:
        kept = _read(place(source, data))[name]
        findings = tuple(_finding(one) for one in kept["findings"])
        return Verdict(findings, int(kept["looked"]), count(source), kept["whole"] is True)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def count(source: Source) -> int:
    """How many samples there are."""
    return sum(len(source.ids(split)) for split in SPLITS)


def key(source: Source, data: Mapping[str, Any]) -> str | None:
    """Under which a verdict is kept; None for a data set without files."""
    stamps = [source.stamp(*one) for one in even_places(source, _STAMPS)]
    if not all(stamps):
        return None
    told = {name: data.get(name) for name in _SETTINGS}
    digest = hashlib.blake2b(json.dumps([_code(), source.fingerprint(), told, stamps], default=str).encode(), digest_size=16)
    if isinstance(source, Selected):  # whose fingerprint is that of the whole
        digest.update(repr([list(source.places[split]) for split in SPLITS]).encode())
    return digest.hexdigest()


def place(source: Source, data: Mapping[str, Any]) -> Path:
    """The file with the verdicts on a data root."""
    return looks.place(home(source, data.get("root")), ".verdicts.json")


def _read(file: Path) -> dict[str, Any]:
    try:
        kept = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _finding(told: dict[str, Any]) -> Finding:
    severity = told["severity"]
    if severity not in ORDER:
        raise ValueError("no severity")
    files, evidence = tuple(map(str, told["files"])), dict(told["evidence"])
    return Finding(severity, str(told["kind"]), str(told["text"]), files, evidence, str(told["remedy"]))


@cache
def _code() -> str:
    """A hash of the code that finds and reads: nobody has to remember to count versions."""
    digest = hashlib.blake2b()
    for file in sorted(Path(__file__).resolve().parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
