"""The doctor's Report: findings, whether training would start, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from seglab.data.checks.findings import Finding, many
from seglab.data.checks.shares import Share


class Example(NamedTuple):
    """A pair to be drawn: its image H W C as stored, and H W ids of classes (None where there is no mask to lay over it)."""

    id: str
    image: np.ndarray
    mask: np.ndarray | None


@dataclass(frozen=True)
class Report:
    """Findings, the worst first; whether training would start and, if not, its words; numbers by split and class.

    `example` decodes the pair of a file that a finding names; None where there is nothing to see.
    """

    name: str
    findings: list[Finding]
    refusal: str | None = None
    classes: tuple[str, ...] = ()
    shares: dict[str, Share] = field(default_factory=dict)
    ignore: int = 255
    example: Callable[[str], Example | None] = field(default=lambda file: None, repr=False, compare=False)

    def count(self, severity: str) -> int:
        """How many findings are of this severity."""
        return sum(one.severity == severity for one in self.findings)

    @property
    def verdict(self) -> str:
        """One line."""
        errors, warnings = self.count("error"), self.count("warning")
        if self.refusal is not None:
            return f"Training would not start: {many(errors, 'error')}, {many(warnings, 'warning')}."
        if errors:
            return f"Training would start, and end or go wrong later: {many(errors, 'error')}, {many(warnings, 'warning')}."
        return f"Training would start: no error, {many(warnings, 'warning') if warnings else 'no warning'}."

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "name": self.name, "verdict": self.verdict, "starts": self.refusal is None, "refusal": self.refusal,
            "errors": self.count("error"), "warnings": self.count("warning"), "classes": list(self.classes),
            "findings": [one.to_dict() for one in self.findings],
            "splits": {split: share.to_dict(self.classes) for split, share in self.shares.items()},
        }  # fmt: skip
