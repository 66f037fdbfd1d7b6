"""Verdicts in words."""

from __future__ import annotations

import math

from seglab.stats.difference import PLANNED
from seglab.stats.verdicts import Verdict


def points(value: float) -> str:
    """A difference of scores with its sign."""
    return "-" if math.isnan(value) else f"{value:+.4f}"


def interval(low: float, high: float) -> str:
    """[low, high], within what differences of scores can be."""
    return "-" if math.isnan(low) else f"[{max(low, -1):+.4f}, {min(high, 1):+.4f}]"


def short(verdict: Verdict, margin: float) -> str:
    """The verdict in a few words."""
    if verdict.word == "unclear":
        return "cannot tell"
    told = f"within {margin:g}" if verdict.word == "equivalent" else verdict.word
    return told if verdict.seeds_judged else f"{told}, 1 seed"


def able(verdict: Verdict) -> str:
    """The smallest difference that would be shown."""
    return "-" if math.isnan(verdict.detectable) else f"{verdict.detectable:.4f}" if verdict.detectable < 1 else "none"


def needed(verdict: Verdict) -> str:
    """Seeds a side that would show a difference as large as the one found; nothing where that is not to be asked."""
    if verdict.seeds is None:
        return ""
    return "never" if math.isinf(verdict.seeds) else f"{verdict.seeds:.0f}" if verdict.seeds <= PLANNED else f">{PLANNED}"


def sentence(name: str, baseline: str, verdict: Verdict, margin: float) -> str:
    """The verdict on a pair as a person would say it."""
    span = interval(verdict.low, verdict.high)
    if verdict.word in ("better", "worse"):
        ahead, behind = (name, baseline) if verdict.word == "better" else (baseline, name)
        low, high = sorted((abs(verdict.low), abs(verdict.high)))
        told = f"{ahead} is better than {behind} by {abs(verdict.difference):.4f} mIoU [{low:.4f}, {high:.4f}]."
    elif verdict.word == "equivalent":
        told = f"{name} and {baseline} do not differ by more than {margin:g} mIoU: {_by(verdict)} {span}."
    elif math.isnan(verdict.detectable):
        told = f"Cannot tell {name} from {baseline}: one test image (or cluster), or nothing that varies, shows no noise."
    else:
        told = f"Cannot tell whether {name} differs from {baseline}: {_by(verdict)} {span}. {_outlook(verdict)}"
    if not verdict.seeds_judged:
        told += " This holds for these two networks; with one seed a side the noise of training is not judged."
    return told


def _by(verdict: Verdict) -> str:
    if verdict.difference == 0:
        return "its mIoU is equal"
    return f"its mIoU is {abs(verdict.difference):.4f} {'higher' if verdict.difference > 0 else 'lower'}"


def _outlook(verdict: Verdict) -> str:
    shown = (
        f"These seeds and this test set would show differences from {verdict.detectable:.4f} on, four times in five"
        if verdict.detectable < 1
        else "So few seeds show no difference reliably"
    )
    if verdict.seeds is None:
        return f"{shown}."
    if math.isinf(verdict.seeds):
        return f"{shown}; more seeds will not show one as small as this, the test set is too small."
    seeds = f"{verdict.seeds:.0f}" if verdict.seeds <= PLANNED else f"more than {PLANNED}"
    return f"{shown}; to show one as large as this takes {seeds} seeds a side."
