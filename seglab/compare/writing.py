"""The comparison for other programs: JSON, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from typing import Any

from seglab.compare.answer import Comparison
from seglab.compare.sentences import interval, short
from seglab.compare.showing import amount, around, score
from seglab.errors import visible
from seglab.results import plain

ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", '"': "''",
}  # fmt: skip


def to_json(found: Comparison) -> str:
    """Everything; what is not known is null. Scores and differences are shares (0.01 is one point of mIoU)."""
    verdicts = {
        name: {"mIoU": asdict(first), "classes": [{"class": c, **asdict(v)} for c, v in zip(found.classes, rest, strict=True)]}
        for name, (first, *rest) in found.verdicts.items()
    }
    return json.dumps(plain({"schema": 1, **asdict(found), "verdicts": verdicts}, "the comparison"), indent=1, allow_nan=False)


def to_csv(found: Comparison) -> str:
    """A line for each group, with its verdict against the baseline."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    axes = list(dict.fromkeys(key for row in found.rows for key in row.axes))
    kept = ("seeds", "test", "half", "val", "params", "speed", "seconds")
    judged = ("word", "difference", "low", "high", "p", "adjusted", "detectable", "seeds")
    head = [
        "group",
        *axes,
        *kept,
        *(f"iou/{c}" for c in found.classes),
        *("verdict" if j == "word" else f"verdict_{j}" for j in judged),
    ]
    writer.writerow([_cell(cell) for cell in head])
    for row in found.rows:
        verdict = found.verdicts.get(row.name)
        told = [getattr(verdict[0], key) for key in judged] if verdict else ["baseline", *[None] * (len(judged) - 1)]
        cells = [row.name, *(row.axes.get(key, "") for key in axes), *(getattr(row, key) for key in kept), *row.classes, *told]
        writer.writerow([_cell(cell) for cell in cells])
    return out.getvalue().rstrip("\n")


def to_latex(found: Comparison) -> str:
    """A table for a paper, with booktabs; the best in bold."""
    lines = [r"\begin{tabular}{lrrrrl}", r"\toprule", r"group & seeds & mIoU & 95\,\% & parameters & verdict \\", r"\midrule"]
    for row in found.rows:
        verdict, value = found.verdicts.get(row.name), score(row.test)
        told = "baseline" if verdict is None else short(verdict[0], found.margin).partition(" (")[0]
        if verdict is not None and verdict[0].word in ("better", "worse"):
            told += f" {interval(verdict[0].low, verdict[0].high)}"
        value = rf"\textbf{{{value}}}" if row.name == found.best else value
        half = around(row).replace("±", r"$\pm$")
        lines.append(rf"{latex(row.name)} & {row.seeds} & {value} & {half} & {amount(row.params)} & {latex(told)} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def latex(text: str) -> str:
    """The text with what LaTeX would obey escaped."""
    return "".join(ESCAPES.get(c, c) for c in visible(text))


def _cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; what is not known is empty."""
    if isinstance(value, str):
        return f"'{visible(value)}" if value[:1] in ("=", "+", "-", "@") else visible(value)
    return "" if isinstance(value, float) and math.isnan(value) else value
