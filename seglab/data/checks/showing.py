"""The Report on a terminal: findings with their remedies, a table of classes and splits, one line of verdict."""

from __future__ import annotations

import shutil

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seglab.data.checks.doctor import Report
from seglab.data.checks.findings import percent
from seglab.errors import visible

_STYLE = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_ROWS = 40


def show(report: Report, console: Console | None = None) -> None:
    """Print the report; names of files and classes are shown as they are, whatever they hold."""
    console = console or Console(width=None if shutil.get_terminal_size().columns > 100 else 128, highlight=False)
    for one in report.findings:
        line = Text(f"{one.severity:<8}", style=_STYLE[one.severity])
        line.append(f" {visible(one.text)}", style="none").append(f"  [{one.kind}]", style="dim")
        console.print(line, soft_wrap=True)
        if one.remedy:
            override = one.remedy.startswith("data.")
            typed = f'"{one.remedy}"' if override and "'" in one.remedy else one.remedy  # as a shell takes it
            console.print(Text(f"         -> {visible(typed)}", style="green" if override else "dim"), soft_wrap=True)
    if report.shares:
        console.print(_table(report))
    color = "red" if report.count("error") else "yellow" if report.count("warning") else "green"
    name = f"{visible(report.name)}: " if report.name else ""
    console.print(Text(f"{name}{report.verdict}", style=f"bold {color}"), soft_wrap=True)


def _table(report: Report) -> Table:
    splits = {split: share for split, share in report.shares.items() if share.images}
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("\nclass")
    for split, share in splits.items():
        for title in (f"{split} ({share.images})\npixels", "\nimages", "\nobjects"):
            table.add_column(title, justify="right", no_wrap=True)
    for k, name in list(enumerate(report.classes))[:_ROWS]:
        cells = []
        for share in splits.values():
            row = share.rows[k]
            cells += [percent(row.pixels / max(1, share.pixels)), str(row.images), "" if not row.objects else str(row.objects)]
        table.add_row(Text(visible(name)), *cells)
    if len(report.classes) > _ROWS:
        table.add_row(f"... and {len(report.classes) - _ROWS} more (--json)")
    if any(share.void for share in splits.values()):
        void = [cell for share in splits.values() for cell in (percent(share.void / max(1, share.pixels)), "", "")]
        table.add_row(Text("void", style="dim"), *void)
    return table
