"""The comparison on a terminal, and as whole lines where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from seglab.compare.answer import Comparison
from seglab.compare.answer import Row as Line
from seglab.compare.sentences import able, interval, needed, points, sentence, short
from seglab.errors import visible
from seglab.stats.verdicts import Verdict
from seglab.sweep.columns import Column, Row, show
from seglab.sweep.words import duration

JUDGED = (
    Column("differs", right=True), Column("interval"), Column("verdict"), Column("shows", right=True),
    Column("seeds", right=True),
)  # fmt: skip
STYLES = {"better": "green", "worse": "red", "equivalent": "cyan", "unclear": "yellow"}


def amount(value: float | None) -> str:
    """A count with three digits: 28.4k, 24.4M."""
    if value is None:
        return "-"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def score(value: float | None) -> str:
    """A score with four digits."""
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def around(row: Line) -> str:
    """Half the width of a group's interval."""
    return "-" if math.isnan(row.half) else f"±{min(row.half, 1.0):.4f}"


def headed(found: Comparison) -> tuple[str, dict[str, str]]:
    """The heading of the groups' column and what stands in it: the values alone where one setting differs."""
    keys = {tuple(row.axes) for row in found.rows}
    if len(keys) == 1 and len(key := keys.pop()) == 1:
        return visible(key[0]), {row.name: visible(row.axes[key[0]]) for row in found.rows}
    return "group", {row.name: visible(row.name) for row in found.rows}


def display(out: Console, found: Comparison, classes: bool) -> None:
    """Print the table of groups and the verdicts."""
    brief = out.is_terminal
    seeds = {row.name: row.seeds for row in found.rows}
    runs = sum(seeds.values())
    images = f"{found.images} test image{'s' if found.images > 1 else ''}"
    if found.clusters < found.images:
        images += f" in {found.clusters} clusters"
    out.print(
        Text(f"{runs} run{'s' if runs > 1 else ''} in {len(seeds)} group{'s' if len(seeds) > 1 else ''}, {images}", "bold"),
        soft_wrap=True,
    )
    heading, names = headed(found)
    columns = [
        Column(heading, fold=True), Column("n", right=True), Column("test mIoU", right=True), Column("±95 %", right=True),
        Column("params", right=True), Column("img/s", right=True), Column("time", right=True),
        Column(visible(found.monitor or "val"), right=True),
    ]  # fmt: skip
    rows: list[Row] = []
    for row in found.rows:
        best = row.name == found.best and len(seeds) > 1
        name = Text(f"{names[row.name]}{' *' if best else ''}", style="bold green" if best else "")
        time = "-" if row.seconds is None else duration(row.seconds)
        numbers = (score(row.test), around(row), amount(row.params), amount(row.speed), time, score(row.val))
        rows.append([name, str(row.seeds), *numbers])
    show(out, columns, rows)
    if found.best is not None and len(seeds) > 1:
        out.print(Text(f"* the best by {visible(found.monitor or 'val')}", style="dim" if brief else ""), soft_wrap=True)
    if len(found.verdicts) == 1:
        [(other, verdicts)] = found.verdicts.items()
        text = sentence(visible(other), visible(found.baseline), verdicts[0], found.margin)
        out.print(Text(f"\n{text}", STYLES[verdicts[0].word]), soft_wrap=not brief)
    elif found.verdicts:
        _verdicts(out, found)
    if classes:
        _classes(out, found)


def _verdicts(out: Console, found: Comparison) -> None:
    title = f"Against {visible(found.baseline)}, on test (Holm's correction over {found.pairs} pairs)"
    out.print(Text(f"\n{title}", "bold"), soft_wrap=not out.is_terminal)
    heading, names = headed(found)
    judged = [(row.name, found.verdicts[row.name][0]) for row in found.rows if row.name in found.verdicts]
    rows: list[Row] = [[names[name], *_cells(verdict, found.margin)] for name, verdict in judged]
    show(out, [Column(heading, fold=True), *JUDGED], rows)
    _key(out, [verdict for _, verdict in judged])
    if found.pairs > len(judged):
        text = "All pairs are counted, for val chose the baseline; --baseline=NAME, named beforehand, shows more."
        out.print(Text(text, "dim" if out.is_terminal else ""), soft_wrap=not out.is_terminal)


def _classes(out: Console, found: Comparison) -> None:
    base = next(row for row in found.rows if row.name == found.baseline)
    rows: list[Row]
    if not found.verdicts:
        rows = [[visible(c), score(v)] for c, v in zip(found.classes, base.classes, strict=True)]
        show(out, [Column("class", fold=True), Column("IoU", right=True)], rows)
    for row in (row for row in found.rows if row.name in found.verdicts):
        title = f"{visible(row.name)} against {visible(base.name)}, by class"
        out.print(Text(f"\n{title}", "bold"), soft_wrap=not out.is_terminal)
        verdicts = found.verdicts[row.name][1:]
        lines = zip(found.classes, row.classes, verdicts, strict=True)
        rows = [[visible(name), score(value), *_cells(v, found.margin)] for name, value, v in lines]
        show(out, [Column("class", fold=True), Column("IoU", right=True), *JUDGED], rows)
    _key(out, [v for verdicts in found.verdicts.values() for v in verdicts[1:]])
    if found.verdicts:
        text = f"by class: Holm's correction over {found.pairs * len(found.classes)} pairs x classes"
        out.print(Text(text, "dim" if out.is_terminal else ""), soft_wrap=True)


def _cells(verdict: Verdict, margin: float) -> tuple[str, str, Text, str, str]:
    told = Text(short(verdict, margin), style=STYLES[verdict.word])
    return points(verdict.difference), interval(verdict.low, verdict.high), told, able(verdict), needed(verdict)


def _key(out: Console, verdicts: Sequence[Verdict]) -> None:
    """What the last columns mean, where they say something."""
    if any(v.word == "unclear" for v in verdicts):
        text = "shows: the smallest difference that would be shown, four times in five"
        if any(v.seeds is not None for v in verdicts):
            text += "\nseeds: a side, to show one as large as found (never: too small a test set)"
        out.print(Text(text, "dim" if out.is_terminal else ""), soft_wrap=True)
