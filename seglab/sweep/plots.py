"""The pictures of a study: history.png, importance.png, and pareto.png where there are several objectives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from seglab.sweep.plan import quiet
from seglab.types import Color
from seglab.viz.legend import length, text

WIDTH, HEIGHT = 960, 560

_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 32, 96, 64
_FINE = 4  # lines are drawn so many times larger and averaged, which smooths them
_PAPER, _INK, _QUIET, _GRID = (255, 255, 255), (28, 30, 34), (110, 115, 124), (232, 234, 237)
_LINE, _DOT, _PRUNED, _MARK = (0, 92, 158), (86, 160, 211), (176, 180, 187), (213, 94, 0)
_AROUND = 0.06  # room around the points, as a share of the axis


def plots(study: Any) -> list[str]:
    """Draw what there is to see of a study into its folder; the names of the files. Nothing before two trials are complete."""
    done, folder, names = study.complete(), study.sweep.path, objectives(study)
    if len(done) < 2:
        return []
    drawn = []
    if len(names) == 1:
        points = [(t.user_attrs["trial"], value) for t, value in _judged(study)]
        points, ended = points[: len(done)], points[len(done) :]
        drawn.append(_save(history(points, ended, names[0], study.plan.directions[0] == "maximize"), folder / "history.png"))
    else:
        front = {t.number for t in study.best()}
        values = [(t.values[0], t.values[1], t.user_attrs["trial"], t.number in front) for t in done]
        drawn.append(_save(pareto(values, names[:2], study.plan.directions), folder / "pareto.png"))
    if shares := importances(study):
        drawn.append(_save(importance(shares, names[0], len(_judged(study))), folder / "importance.png"))
    return drawn


def objectives(study: Any) -> list[str]:
    """The names of what is searched for."""
    if study.plan.objectives:
        return list(study.plan.objectives)
    return [next((t.monitor for t in study.sweep.trials if t.monitor != "auto"), "score")]


def importances(study: Any) -> dict[str, float]:
    """Axis -> its share in what makes a trial good, by PED-ANOVA (Watanabe et al. 2023, https://arxiv.org/abs/2304.10255).

    Pruned trials count with the score that they had. {} where it cannot be told: of one axis, or few trials, or all alike.
    """
    judged = _judged(study)
    if len(study.plan.axes) < 2 or len(judged) < 8:
        return {}
    optuna = quiet()
    one = optuna.create_study(direction=study.plan.directions[0])  # in memory; of several objectives it is the first one's
    for record, value in judged:
        one.add_trial(optuna.trial.create_trial(params=record.params, distributions=record.distributions, value=value))
    try:
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(one, evaluator=evaluator)
    except (ValueError, RuntimeError, ZeroDivisionError):
        return {}
    return found if sum(found.values()) > 0 and all(map(math.isfinite, found.values())) else {}


def _judged(study: Any) -> list[tuple[Any, float]]:
    """Optuna's records with their (first) values; those of pruned trials with their score."""
    done = [(record, record.values[0]) for record in study.complete()]
    if len(study.plan.directions) > 1:
        return done
    pruned = [(t, study.trial(t)) for t in study.study.get_trials(deepcopy=False) if t.state.name == "PRUNED"]
    return done + [(record, trial.score) for record, trial in pruned if trial and trial.score is not None]


@dataclass(frozen=True)
class _Axis:
    """Values to pixels, along one side of the picture."""

    low: float
    high: float
    first: float
    last: float

    @classmethod
    def of(cls, values: Sequence[float], first: float, last: float) -> _Axis:
        low, high = min(values), max(values)
        room = _AROUND * (high - low) or 0.01 * abs(high) or 1.0
        return cls(low - room, high + room, first, last)

    def __call__(self, value: float) -> float:
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)

    def levels(self) -> list[float]:
        """Four to nine round values within it."""
        rough = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(rough))
        step = min((s * unit for s in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
        return [n * step for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


class _Canvas:
    """A white picture: lines and dots first, then `finish`, then words."""

    def __init__(self, height: int = HEIGHT) -> None:
        self.height = height
        self.image = Image.new("RGB", (WIDTH * _FINE, height * _FINE), _PAPER)
        self.draw = ImageDraw.Draw(self.image)

    def line(self, points: Sequence[tuple[float, float]], color: Color, width: float) -> None:
        self.draw.line([(x * _FINE, y * _FINE) for x, y in points], color, round(width * _FINE), joint="curve")

    def dot(self, x: float, y: float, radius: float, fill: Color, ring: Color | None = None) -> None:
        box = [v * _FINE for v in (x - radius, y - radius, x + radius, y + radius)]
        self.draw.ellipse(box, fill, ring, 2 * _FINE if ring else 0)

    def bar(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        box = [v * _FINE for v in (left, top, max(right, left + 2), bottom)]
        self.draw.rounded_rectangle(box, 3 * _FINE, color, corners=(False, True, True, False))

    def finish(self, title: str, below: str) -> None:
        self.image = self.image.resize((WIDTH, self.height), Image.Resampling.BOX)
        self.draw = ImageDraw.Draw(self.image)
        text(self.draw, (_LEFT, 32), title, 19, _INK, WIDTH - _LEFT - _RIGHT)
        text(self.draw, (_LEFT, 58), below, 13, _QUIET, WIDTH - _LEFT - _RIGHT)

    def word(self, x: float, y: float, words: str, anchor: float = 0.0, size: int = 12, color: Color = _QUIET) -> None:
        """`anchor`: which share of the words is left of x."""
        text(self.draw, (round(x - anchor * length(words, size)), round(y)), words, size, color, WIDTH)


def history(done: Sequence[tuple[int, float]], pruned: Sequence[tuple[int, float]], name: str, higher: bool) -> Image.Image:
    """Score over trial: (number, score) of the complete ones and of the pruned ones, and the best so far as a line."""
    canvas = _Canvas()
    floor, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    last = max(number for number, _ in (*done, *pruned))
    xs, ys = _Axis.of([0, max(last, 1)], _LEFT, right), _Axis.of([v for _, v in (*done, *pruned)], floor, _TOP)
    _frame(canvas, ys)
    steps: list[tuple[float, float]] = []
    best = sorted(done)[0]
    for number, value in sorted(done):
        better = value > best[1] if higher else value < best[1]
        if steps:
            steps.append((xs(number), ys(best[1])))
        best = (number, value) if better or not steps else best
        steps.append((xs(number), ys(best[1])))
    canvas.line([*steps, (xs(last), ys(best[1]))], _LINE, 2.2)
    for number, value in pruned:
        canvas.dot(xs(number), ys(value), 4.2, _PAPER, _PRUNED)
    for number, value in done:
        canvas.dot(xs(number), ys(value), 4.2, _DOT)
    canvas.dot(xs(best[0]), ys(best[1]), 7, _MARK, _PAPER)
    told = f"{len(done)} trials complete" + (f", {len(pruned)} pruned" if pruned else "")
    canvas.finish(f"Best {name} {best[1]:.4g} in trial {best[0]}", told)
    _levels(canvas, ys)
    for level in (n for n in xs.levels() if n == round(n) and n >= 0):
        canvas.word(xs(level), floor + 18, f"{level:.0f}", 0.5)
    canvas.word((_LEFT + right) / 2, HEIGHT - 18, "trial", 0.5)
    canvas.word(_LEFT - 12, _TOP - 14, name, 1 if length(name, 12) < _LEFT - 16 else (_LEFT - 24) / length(name, 12))
    _key(canvas, [("complete", _DOT, None), ("pruned", _PAPER, _PRUNED)] if pruned else [("complete", _DOT, None)])
    return canvas.image


def pareto(done: Sequence[tuple[float, float, int, bool]], names: Sequence[str], directions: Sequence[str]) -> Image.Image:
    """The second objective over the first: of each trial both, its number, and whether no other one beats it."""
    canvas = _Canvas()
    floor, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    xs, ys = _Axis.of([d[0] for d in done], _LEFT, right), _Axis.of([d[1] for d in done], floor, _TOP)
    _frame(canvas, ys)
    front = sorted((d[0], d[1]) for d in done if d[3])
    canvas.line([(xs(a), ys(b)) for a, b in front], _LINE, 2.2)
    for a, b, _, best in sorted(done, key=lambda d: d[3]):
        canvas.dot(xs(a), ys(b), 6.5 if best else 4.2, _MARK if best else _DOT, _PAPER if best else None)
    arrows = [
        f"{name}: {'higher' if way == 'maximize' else 'lower'} is better" for name, way in zip(names, directions, strict=False)
    ]
    canvas.finish(
        f"{names[1]} over {names[0]}", f"{len(front)} of {len(done)} trials are beaten by no other; {', '.join(arrows)}"
    )
    _levels(canvas, ys)
    for level in xs.levels():
        canvas.word(xs(level), floor + 18, _short(level), 0.5)
    canvas.word((_LEFT + right) / 2, HEIGHT - 18, names[0], 0.5)
    for a, b, number, best in done:
        if best:
            canvas.word(xs(a) + 10, ys(b) - 11, str(number), 0 if xs(a) < right - 30 else 1, color=_INK)
    canvas.word(24, _TOP - 14, names[1])
    _key(canvas, [("front, with the trial's number", _MARK, None), ("other trials", _DOT, None)])
    return canvas.image


def importance(shares: dict[str, float], name: str, trials: int) -> Image.Image:
    """A bar for each axis, the largest first; the shares are scaled to 100 %."""
    total, rows = sum(shares.values()), sorted(shares.items(), key=lambda s: -s[1])
    canvas = _Canvas(_TOP + 38 * len(rows) + 24)
    left = _LEFT + min(max(length(key, 14) for key, _ in rows), 320) + 16
    most, scale = rows[0][1] / total, WIDTH - _RIGHT - 56 - left
    for n, (_, share) in enumerate(rows):
        top = _TOP + 38 * n
        canvas.bar(left, top + 6, left + scale * share / total / most, top + 30, _LINE if n == 0 else _DOT)
    canvas.finish(f"What {name} depends on", f"PED-ANOVA over {trials} trials: a hint at what to look into, no measurement")
    for n, (key, share) in enumerate(rows):
        middle = _TOP + 38 * n + 18
        text(canvas.draw, (_LEFT, middle), key, 14, _INK, left - _LEFT - 16)
        canvas.word(left + scale * share / total / most + 10, middle, f"{100 * share / total:.0f} %", size=13)
    return canvas.image


def _frame(canvas: _Canvas, ys: _Axis) -> None:
    for level in ys.levels():
        canvas.line([(_LEFT, ys(level)), (WIDTH - _RIGHT, ys(level))], _GRID, 1)
    canvas.line([(_LEFT, HEIGHT - _BOTTOM), (WIDTH - _RIGHT, HEIGHT - _BOTTOM)], _QUIET, 1)


def _levels(canvas: _Canvas, ys: _Axis) -> None:
    for level in ys.levels():
        canvas.word(_LEFT - 12, ys(level), _short(level), 1)


def _key(canvas: _Canvas, entries: Sequence[tuple[str, Color, Color | None]]) -> None:
    x = float(WIDTH - _RIGHT)
    for words, fill, ring in reversed(entries):
        x -= length(words, 12)
        canvas.word(x, _TOP - 14, words)
        box = (x - 15, _TOP - 18, x - 6, _TOP - 9)
        canvas.draw.ellipse(box, fill, ring, 2 if ring else 0)
        x -= 32


def _short(value: float) -> str:
    for unit, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e3 if sign == 'k' else unit):.4g}{sign}"
    return f"{value:.4g}"


def _save(image: Image.Image, path: Path) -> str:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    image.save(temporary, "PNG")
    temporary.replace(path)
    return path.name
