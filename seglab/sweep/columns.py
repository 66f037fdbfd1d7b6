"""Tables of trials: fitted to a terminal's width, and whole, one line a row, where there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from seglab.errors import visible
from seglab.sweep import words
from seglab.sweep.trial import Trial

FEW = 3  # axes that get a column each
NARROW = 100  # columns of a terminal
OTHERS = 60  # the width that the columns besides the axes take


@dataclass(frozen=True)
class Column:
    """A column: its heading, the side its cells lean to, and what gives way where it is too narrow for its longest cell."""

    name: str
    right: bool = False
    fold: bool = False  # its cells may take more than one line
    cut: bool = False  # or end in ...
    least: int = 10  # characters that such a column keeps


Row = Sequence[str | Text]


def show(out: Console, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print a table."""
    if out.is_terminal:
        out.print(grid(columns, rows, out.width))
    else:
        for line in lines(columns, rows):
            out.print(Text(line), soft_wrap=True)


def grid(columns: Sequence[Column], rows: Sequence[Row], width: int, one_line: bool = False) -> Grid:
    """The table for a terminal; `one_line`: cells that are too long for one line end in ..."""
    made = Grid(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    widths = iter(_widths(columns, rows, width))
    for column in columns:
        heading = _cell(column.name, column.cut or one_line)
        made.add_column(heading, justify="right" if column.right else "left", overflow="fold", width=next(widths))
    for row in rows:
        made.add_row(*(_cell(cell, c.cut or one_line) for c, cell in zip(columns, row, strict=True)))
    return made


def lines(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    """The table as plain lines, nothing left out."""
    texts = [[c.name for c in columns], *([str(cell).replace("\n", "  ") for cell in row] for row in rows)]
    texts = [[visible(text) for text in row] for row in texts]
    widths = [max(map(cell_len, column)) for column in zip(*texts, strict=True)]
    made = []
    for row in texts:
        spaces = [" " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)]
        cells = [s + text if c.right else text + s for c, s, text in zip(columns, spaces, row, strict=True)]
        made.append("  ".join(cells).rstrip())
    return made


def axes(trials: Sequence[Trial], width: int | None) -> tuple[list[Column], Callable[[Trial], list[str]]]:
    """Columns for what the trials differ in, and a trial's cells: one column an axis while they are few, else one for all.

    `width` is that of the terminal; None where there is none. A narrow one has only the values in the column for all.
    """
    keys = list(dict.fromkeys(key for trial in trials for key in trial.axes))
    if not keys:
        return [], lambda trial: []
    brief, narrow = width is not None, width is not None and width < NARROW

    def value(trial: Trial, key: str) -> str:
        return visible(_brief(trial.axes.get(key, "-"), brief))

    needed = sum(max(len(key), *(len(value(t, key)) for t in trials)) + 2 for key in keys)
    if len(keys) == 1 or (len(keys) <= FEW and (width is None or needed <= width - OTHERS)):
        return [Column(visible(k), fold=True) for k in keys], lambda trial: [value(trial, key) for key in keys]
    if not narrow:
        return [Column("settings", fold=True)], lambda trial: [label(trial, brief)]
    last = [key.rpartition(".")[2] for key in keys]
    heading = visible(", ".join(last if len(set(last)) == len(last) else keys))
    return [Column(heading, fold=True)], lambda trial: ["  ".join(value(trial, key) for key in keys)]


def label(trial: Trial, brief: bool) -> str:
    """The trial's name; `brief`: numbers of many digits are rounded."""
    short = {key: _brief(value, brief) for key, value in trial.axes.items()}
    return visible(replace(trial, axes=short).name())


def trials(
    shown: Sequence[Trial],
    of: Sequence[Trial],
    width: int | None,
    note: Callable[[Trial], str | Text],
    state: Callable[[Trial], str] = lambda trial: trial.state,
) -> tuple[list[Column], list[Row]]:
    """The table of trials at work: `shown` of the trials `of` a sweep, which decide on its headings."""
    common = words.monitor(of)
    headings, cells = axes(of, width)
    columns = [
        Column("trial", right=True), *headings, Column("state"), Column("on"), Column("epoch", right=True),
        Column(visible(common or "score"), right=True), Column("time", right=True), Column("", cut=True),
    ]  # fmt: skip
    rows: list[Row] = []
    for t in shown:
        time = words.duration(t.seconds) if t.attempts else ""
        how = (visible(t.place), words.epochs(t) if t.attempts else "", words.score(t, common) if t.attempts else "", time)
        rows.append([str(t.number), *cells(t), words.state(state(t)), *how, note(t)])
    return columns, rows


def _widths(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[int]:
    """Each column's width: what it needs, unless the table is too wide; then notes give way first, the widest axes next."""
    cells = zip(*([c.name for c in columns], *([str(cell) for cell in row] for row in rows)), strict=True)
    widths = [min(width, max(cell_len(visible(line)) for cell in column for line in cell.split("\n"))) for column in cells]
    excess = sum(widths) + 2 * len(columns) - width
    for kind in ("cut", "fold"):
        able = [n for n, column in enumerate(columns) if getattr(column, kind)]
        while excess > 0 and (n := max(able, key=lambda n: widths[n] - columns[n].least, default=None)) is not None:
            if widths[n] <= columns[n].least:
                break
            widths[n], excess = widths[n] - 1, excess - 1
    return widths


def _cell(cell: str | Text, cut: bool) -> Text:
    text = cell.copy() if isinstance(cell, Text) else Text("\n".join(visible(line) for line in cell.split("\n")))
    text.no_wrap, text.overflow = (True, "ellipsis") if cut else (None, "fold")
    return text


def _brief(value: str, wanted: bool) -> str:
    """A number of many digits, as samplers draw them, with four."""
    if wanted and len(value) > 9:
        with suppress(ValueError):
            return f"{float(value):.4g}"
    return value
