"""What a study searches: axes of choices and numbers, what may not be asked of them, and their values as override texts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from seglab.errors import ConfigError

DIGITS = 4  # of a suggested number, in the command of its trial: as exact as anybody needs, and readable


@dataclass(frozen=True)
class Choice:
    """One of several override texts, such as `ce` and `0.3*dice+0.7*ce`; `key` may begin with + as Hydra has it."""

    key: str
    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.texts:
            raise ConfigError(f"{self.name}: there is nothing to choose from; give values such as {self.name}=A,B.")
        object.__setattr__(self, "texts", tuple(dict.fromkeys(self.texts)))

    @property
    def name(self) -> str:
        """The key without Hydra's +."""
        return self.key.lstrip("+")

    def distribution(self) -> Any:
        """It as optuna has it."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.texts)

    def values(self) -> list[Any]:
        """All of them."""
        return list(self.texts)

    def text(self, value: Any) -> str:
        """The value behind the = of an override."""
        return str(value)

    def describe(self) -> str:
        """It in words, by which a resumed study knows it."""
        return f"{self.name} in {', '.join(self.texts)}"


@dataclass(frozen=True)
class Number:
    """A number between two, both included: any, on a logarithmic scale or not, or one of those `step` apart."""

    key: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False

    def __post_init__(self) -> None:
        key, low, high = self.name, self.low, self.high
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ConfigError(f"{key}: an interval from {low:g} to {high:g} has no end; give two finite numbers.")
        if low >= high and not (self.step and low == high):
            raise ConfigError(f"{key}: the interval from {low:g} to {high:g} is empty; give the smaller number first.")
        if self.log and low <= 0:
            raise ConfigError(f"{key}: a logarithmic scale has no {low:g}; begin above 0, or leave out tag(log, ...).")
        if self.log and self.step not in (None, 1 if self.integer else None):
            raise ConfigError(f"{key}: a logarithmic scale has no steps; write tag(log, interval({low:g},{high:g})).")

    @property
    def name(self) -> str:
        """The key without Hydra's +."""
        return self.key.lstrip("+")

    def distribution(self) -> Any:
        """It as optuna has it."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def values(self) -> list[Any] | None:
        """All of them; None where they are endless."""
        if self.integer:
            return list(range(int(self.low), int(self.high) + 1, int(self.step or 1)))
        if self.step is None:
            return None
        count = round((self.high - self.low) / self.step)
        return [self.low + n * self.step for n in range(count + 1)]

    def text(self, value: Any) -> str:
        """The value behind the = of an override, to so many digits, and still within the bounds."""
        if self.integer:
            return str(int(value))
        if self.step is not None:
            return repr(round(float(value), 10))  # 0.30000000000000004 is 0.3
        return repr(min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high))

    def describe(self) -> str:
        """It in words, by which a resumed study knows it."""
        kind = "whole numbers" if self.integer else "numbers"
        scale = " on a logarithmic scale" if self.log else f" in steps of {self.step:g}" if self.step else ""
        return f"{self.name} in {kind} from {self.low:g} to {self.high:g}{scale}"


Axis = Choice | Number


def size(axes: Sequence[Axis]) -> int | None:
    """How many points the space has; None where it is endless."""
    total = 1
    for axis in axes:
        if isinstance(axis, Number) and axis.integer:
            count: int | None = (int(axis.high) - int(axis.low)) // int(axis.step or 1) + 1
        else:
            found = axis.values()
            count = None if found is None else len(found)
        if count is None:
            return None
        total *= count
    return total


def grid(axes: Sequence[Axis]) -> Iterator[tuple[Any, ...]]:
    """All points of a finite space, in the order of Hydra's own sweeps: the last axis changes fastest."""
    return itertools.product(*(axis.values() or () for axis in axes))


def check(axes: Sequence[Axis], sampler: str, trials: int) -> None:
    """ConfigError for a space that cannot be searched in this way."""
    if not axes:
        raise ConfigError(
            "hydra/sweeper=optuna has nothing to search; give hparams=lr, or an axis such as "
            "'optimizer.lr=tag(log, interval(1e-4,1e-2))'."
        )
    if sampler != "grid":
        return
    for axis in axes:
        if isinstance(axis, Number) and axis.values() is None:
            raise ConfigError(
                f"hydra.sweeper.sampler=grid cannot try every number between {axis.low:g} and {axis.high:g} for {axis.name}; "
                f"give values, such as {axis.name}=A,B or range(...), or take another sampler."
            )
    if (points := size(axes) or 0) > trials:
        raise ConfigError(
            f"The grid has {points} points, and hydra.sweeper.trials is {trials}; give hydra.sweeper.trials={points}, or "
            f"hydra.sweeper.sampler=random."
        )
