"""What the doctor says: findings, and the words they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
ORDER: tuple[Severity, ...] = ("error", "warning", "info")
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One thing found: `kind` is a stable slug, `files` are all concerned, `remedy` an override (key=value) or the action.

    An error ends training or makes it worthless; a warning makes a score that cannot be trusted likely.
    """

    severity: Severity
    kind: str
    text: str
    files: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return {"severity": self.severity, "kind": self.kind, "text": self.text, "files": list(self.files),
                "evidence": self.evidence, "remedy": self.remedy}  # fmt: skip


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings; of one severity in the order in which they were found."""
    return sorted(findings, key=lambda one: ORDER.index(one.severity))


def named(names: Sequence[str]) -> str:
    """A few of the names: `a.png, b.png, c.png and 4 more`."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def many(count: int, noun: str) -> str:
    """The count with its noun: `1 mask`, `3 masks`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def said(count: int, one: str, several: str) -> str:
    """The count with the words that fit it: `1 mask holds`, `3 masks hold`."""
    return f"{count} {one if count == 1 else several}"


def percent(share: float) -> str:
    """A share in words of two digits: `3.1 %`, `0.04 %`."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
