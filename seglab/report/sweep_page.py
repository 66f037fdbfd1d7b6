"""The page of a sweep, or of several runs: what compare says of them, in words first, and all that it rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from seglab.compare.answer import Comparison, Row, compare
from seglab.compare.sentences import able, interval, needed, points, sentence
from seglab.compare.sentences import short as brief_verdict
from seglab.compare.showing import amount, headed
from seglab.errors import DataError, visible
from seglab.report import page as pages
from seglab.report.page import short
from seglab.report.run_page import folder_name
from seglab.report.sweep_axes import parallel
from seglab.report.sweep_figures import brief, color, costs, curves, history
from seglab.report.sweep_runs import Listing, RunLine, listed
from seglab.results import higher_is_better
from seglab.stats.verdicts import Verdict
from seglab.sweep.words import duration

# What a page holds at most: groups that are judged one by one, cells of the table of classes, lines of its long form. A page
# that grows too large is made again with less.
SIZES = ((100, 2_000, 300), (40, 500, 100), (20, 0, 0))
WIDEST = 40  # classes of the table that can be read
SAID = 4  # verdicts in words that are not folded away


def write(paths: Sequence[str], out: Path, found: Comparison | None = None) -> Path:
    """Write the page of what lies below some folders. DataError where no run does; where they cannot be compared it says why.

    found: their comparison, where it was made already; else it is that of `compare(paths)`.
    """
    refused = ""
    if found is None:
        try:
            found = compare(paths)
        except DataError as error:
            refused = str(error)
    listing = listed(paths, found, out)
    if not listing.runs:
        raise DataError(refused or "No run was found; name the folders of runs or sweeps, such as multirun/.")
    for judged, cells, lines in SIZES:
        html = page(found, listing, paths, refused, judged, cells, lines)
        if len(html.encode()) < pages.LIMIT:
            break
    return pages.save(out, html)


def page(
    found: Comparison | None, listing: Listing, paths: Sequence[str], refused: str = "", judged: int = SIZES[0][0],
    cells: int = SIZES[0][1], lines: int = SIZES[0][2],
) -> str:  # fmt: skip
    """The page as HTML. refused: why there is no comparison; the rest: see SIZES."""
    runs, monitor = listing.runs, (found.monitor if found else None) or listing.monitor
    trials = [trial for sweep in listing.sweeps for trial in sweep.trials if trial.monitor == monitor]
    higher = trials[0].higher if trials else higher_is_better(monitor, "auto")
    drawn, run_lines, axes_said = parallel(runs, monitor, higher)
    content = {
        "name": _named(paths), "refused": refused, "found": found, "runs": runs, "monitor": monitor, "run_lines": run_lines,
        "axes": drawn, "axes_said": axes_said, "notes": [*(found.notes if found else []), *listing.notes],
        "commands": [_command(sweep.command, sweep.hydra) for sweep in listing.sweeps], "counts": _statuses(runs),
        "curves": curves(runs, [row.name for row in found.rows] if found else [], monitor), "history": _history(listing),
        "known": _known, "amount": amount, "duration": duration, "points": points, "able": able, "needed": needed,
        "told": brief_verdict, "clipped": _clipped, "color": lambda n: color(n)[1],
    }  # fmt: skip
    content |= _compared(found, runs, judged, cells, lines) if found else {"sections": ()}
    sections = [("summary", "Summary"), *content["sections"], ("curves", "Training"), ("runs", "Runs"), ("notes", "Notes")]
    sections += [("again", "Reproduce"), ("reading", "How to read")]
    return pages.render("sweep.html", title=f"{content['name']}: seglab", **content | {"sections": sections})


@dataclass(frozen=True)
class Scale:
    """Where a value stands on a line, in percent of its length, and the labels below it."""

    low: float
    high: float
    ticks: list[tuple[float, str]]

    @classmethod
    def over(cls, values: Sequence[float | None], signed: bool = False) -> Scale:
        """A scale that holds the values, with some room."""
        from matplotlib.ticker import MaxNLocator

        known = [value for value in values if value is not None and math.isfinite(value)] or [0.0]
        room = (max(known) - min(known)) * 0.04 or 0.01
        low, high = min(known) - room, max(known) + room
        ticks = [float(t) for t in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low <= t <= high]
        return cls(low, high, [(t, f"{t:+.4g}" if signed and abs(t) > 1e-9 else f"{round(t, 9):.4g}") for t in ticks])

    def __call__(self, value: float) -> str:
        """In percent, within the line."""
        return f"{100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low))):.2f}%"


def _compared(found: Comparison, runs: Sequence[RunLine], most: int, cells: int, lines: int) -> dict[str, Any]:
    """What the page needs of a comparison."""
    pairs = [(n, row, found.verdicts[row.name]) for n, row in enumerate(found.rows) if row.name in found.verdicts]
    ends = [end for _, _, (v, *_) in pairs for end in (_clipped(v.low), _clipped(v.high), v.difference)]
    heading, names = headed(found)
    axes = list(found.rows[0].axes)
    dots: dict[int, list[float]] = {}
    for run in runs:
        if run.group is not None and run.test is not None:
            dots.setdefault(run.group, []).append(run.test)
    figures, same = costs(found)
    sections = [("groups", "Groups")] + ([("classes", "Classes")] if len(found.classes) > 1 or not pairs else [])
    return {
        "sections": [*([("verdicts", "Verdicts")] if pairs else []), *sections, ("seeds", "Seeds"), ("axes", "Settings"),
                     ("cost", "Cost")],
        "lead": _lead(found), "said": [_sentence(found, row.name, v[0]) for _, row, v in pairs[:most]], "SAID": SAID,
        "pairs": pairs[:most], "others": len(pairs), "most": most, "heading": heading, "brief": brief,
        "names": {name: brief(value) for name, value in names.items()},
        "forest": Scale.over([*ends, 0.0, -found.margin, found.margin], signed=True),
        "columns": axes if 0 < len(axes) <= 4 else [], "dots": dots,
        "strip": Scale.over([*(value for own in dots.values() for value in own), *(row.test for row in found.rows)]),
        "other_images": any(abs(sum(own) / len(own) - found.rows[n].test) > 1e-6 for n, own in dots.items()),
        "figures": figures, "same": same, **_classes(found, pairs, cells, lines),
    }  # fmt: skip


def _classes(found: Comparison, pairs: Sequence[tuple[int, Row, list[Verdict]]], cells: int, lines: int) -> dict[str, Any]:
    """The table of classes: which groups and classes it has, and which verdicts stand in its long form."""
    places = list(range(len(found.classes)))
    if len(places) > WIDEST:  # those that move most
        moved = {
            c: max((abs(v[c + 1].difference) for *_, v in pairs if _known(v[c + 1].difference)), default=0) for c in places
        }
        places = sorted(sorted(places, key=lambda c: -moved[c])[:WIDEST])
    shown = pairs[: cells // max(1, len(places))] if len(pairs) > 1 else []
    size = max((abs(_known(v[c + 1].difference) or 0.0) for *_, v in shown for c in places), default=0.0) or 1.0
    listed = [(n, row, c, v[c + 1]) for n, row, v in pairs for c in places][:lines]
    says = {
        (n, c): f"{short(brief(row.name), 60)}, {short(found.classes[c], 40)}: {points(v[c + 1].difference)} "
        f"{interval(v[c + 1].low, v[c + 1].high)}, {brief_verdict(v[c + 1], found.margin)}"
        for n, row, v in shown for c in places
    }  # fmt: skip
    return {"class_places": places, "class_pairs": shown, "class_size": size, "class_lines": listed, "class_says": says}


def _lead(found: Comparison) -> str:
    """The answer in one or two sentences."""
    many = [verdicts[0].word for verdicts in found.verdicts.values()]
    if not many:
        row = found.rows[0]
        seeds = "one run: other seeds would give other scores" if row.seeds == 1 else f"{row.seeds} runs, one group"
        return f"There is nothing to compare: {seeds}."
    if len(many) == 1:
        [(name, verdicts)] = found.verdicts.items()
        return _sentence(found, name, verdicts[0])
    base, chosen = short(brief(found.baseline), 80), found.baseline == found.best
    first = f"{base} is the best by {visible(found.monitor or 'validation')}. " if chosen else ""
    it = "it" if chosen else base
    clauses = {"worse": f"worse than {it}", "better": f"better than {it}", "equivalent": f"within {found.margin:g} of {it}"}
    parts = [f"{_are(many.count(word))} {clause}" for word, clause in clauses.items() if word in many]
    parts += [f"{many.count('unclear')} cannot be told from {it}"] if "unclear" in many else []
    told = f"Of the {len(many)} other groups {', '.join(parts[:-1])} and {parts[-1]}."
    if len(parts) == 1:
        none = f"None of the {len(many)} other groups can be told from {it}."
        told = none if many[0] == "unclear" else f"All {len(many)} other groups are {clauses[many[0]]}."
    judged = all(verdicts[0].seeds_judged for verdicts in found.verdicts.values())
    return f"{first}{told}" + ("" if judged else " With one seed a side the noise of training is not judged.")


def _are(count: int) -> str:
    return f"{count} is" if count == 1 else f"{count} are"


def _sentence(found: Comparison, name: str, verdict: Verdict) -> str:
    return sentence(short(brief(name), 80), short(brief(found.baseline), 80), verdict, found.margin)


def _history(listing: Listing) -> Any:
    """The figure of the first study among the sweeps."""
    for sweep in (sweep for sweep in listing.sweeps if sweep.study):
        scored = [t for t in sweep.trials if _known(t.score) is not None]
        if scored:
            kind = scored[0].monitor, scored[0].higher
            same = sorted((t.number, float(t.score or 0)) for t in scored if (t.monitor, t.higher) == kind)
            return history([number for number, _ in same], [score for _, score in same], *kind)
    return None


def _named(paths: Sequence[str]) -> str:
    names = [folder_name(Path(path)) for path in paths]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _command(overrides: Sequence[str], hydra: Sequence[str]) -> str:
    return " ".join(["python -m seglab.train -m", *(quote(visible(word)) for word in (*overrides, *hydra))])


def _statuses(runs: Sequence[RunLine]) -> list[tuple[str, int]]:
    words = [run.status for run in runs]
    return [(word, words.count(word)) for word in dict.fromkeys(words) if word != "finished"]


def _known(value: float | None) -> float | None:
    """The value; None for what is no number."""
    return value if value is not None and math.isfinite(value) else None


def _clipped(value: float) -> float:
    """An end of an interval within what differences of scores can be."""
    return min(1.0, max(-1.0, value)) if math.isfinite(value) else value
