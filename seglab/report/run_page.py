"""The page of one run: what it scored and how far that can be trusted, from its folder's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seglab.errors import DataError
from seglab.report import page
from seglab.report.matrix import matrix, mistakes
from seglab.report.pictures import Example, read_examples
from seglab.report.reading import AGAIN, DECODED, Reading, half_widths, numbers, read
from seglab.report.run_figures import Figure, curves, precision_recall, reliability
from seglab.report.seen import seen
from seglab.results import higher_is_better, is_number, part

SECTIONS = (
    ("summary", "Summary"), ("curves", "Training"), ("seen", "What was seen"), ("classes", "Classes"),
    ("confusion", "Confusion"), ("images", "Images"), ("probabilities", "Probabilities"), ("scores", "All scores"),
    ("data", "Data"), ("settings", "Settings"), ("environment", "Environment"), ("passport", "Definition"),
)  # fmt: skip
COLUMNS = ("iou", "dice", "precision", "recall", "pixel_ap", "ap", "ap50", "support")
DEVICE = ("accelerator", "devices", "precision")  # of the trainer
Halves = tuple[float | None, list[float | None]] | None  # of half_widths
# (bytes of pictures, rows of classes): a page that grows too large is made again with less.
SIZES = ((3_400_000, 400), (1_000_000, 150), (0, 40))


@dataclass
class Settings:
    """What the door knows of a run's configuration. config: dotted key -> value; changed: (key, default, value)."""

    config: dict[str, Any] = field(default_factory=dict)
    changed: Sequence[tuple[str, str, str]] = ()
    note: str = ""


def write(folder: Path, out: Path, settings: Settings) -> Path:
    """Write the page of a run's folder. DataError where it has no results.json to read."""
    found = read(folder)
    half = half_widths(found)
    content = _content(found, settings, half)
    for budget, most in SIZES:
        content |= _examples(found, budget) | _classes(found, most, half)
        html = page.render("run.html", **content)
        if len(html.encode()) < page.LIMIT:
            break
    return page.save(out, html)


def _content(found: Reading, settings: Settings, half: Halves) -> dict[str, Any]:
    results = found.results
    metrics = numbers(results, "metrics")
    name = folder_name(found.folder)
    config, told = settings.config, results.get("device")  # older runs tell only what was asked for
    asked = [(key, config[f"trainer.{key}"]) for key in DEVICE if f"trainer.{key}" in config]
    return {
        "title": f"{name}: seglab", "name": name, "sections": SECTIONS, "results": results, "found": found,
        "notes": found.notes,
        "headline": found.headline, "split": found.split, "value": metrics.get(found.headline),
        "half": half[0] if half and found.headline.endswith("/iou") else None,
        "passport": _passport(results), "again": AGAIN,
        "seen": seen(results),
        "figures": _curves(found, str(config.get("mode", "auto"))), "probabilities": _probabilities(found),
        "ece": f"{found.split}/ece", "metrics": metrics, "scores": _scores(metrics),
        "matrix": matrix(found.confusion, found.classes, found.ignored) if found.confusion is not None else [],
        "mistakes": mistakes(found.confusion, found.classes) if found.confusion is not None else [],
        "data": part(results, "data"), "counts": numbers(part(results, "data"), "counts"), "colors": _colors(results),
        "settings": settings, "choices": part(results, "choices"),
        "speed": numbers(results, "speed"), "versions": part(results, "versions"), "git": part(results, "git"),
        "device": [("device", told)] if told else asked,
    }  # fmt: skip


def folder_name(folder: Path) -> str:
    """The last two parts of a run's folder, which is where its date and time or number are."""
    return "/".join(folder.resolve().parts[-2:])


def _curves(found: Reading, mode: str) -> list[Figure]:
    monitor = str(found.results["monitor"])
    return curves(found.curves, monitor, not higher_is_better(monitor, mode)) if found.curves else []


def _probabilities(found: Reading) -> list[Figure]:
    if not found.confidence:
        return []
    rows = part(part(found.results, "per_class"), found.split)
    areas = {name: numbers(rows, name).get("pixel_ap") for name in rows}
    classes = {name: bins for name, bins in found.confidence.items() if name != DECODED}
    drawn = [precision_recall(classes, areas)] if classes else []
    return drawn + ([reliability(found.confidence[DECODED])] if DECODED in found.confidence else [])


def _classes(found: Reading, most: int, half: Halves) -> dict[str, Any]:
    """The rows of classes (name, colour, half width of the IoU's interval, scores), the largest first where not all fit."""
    per_class = part(part(found.results, "per_class"), found.split)
    rows = {name: numbers(per_class, name) for name in per_class}
    halves = dict(zip(found.classes, half[1], strict=False)) if half else {}
    known = {key for scores in rows.values() for key in scores}
    columns = [key for key in COLUMNS if key in known] + sorted(known - set(COLUMNS))
    names = list(rows) if len(rows) <= most else sorted(rows, key=lambda name: -(rows[name].get("support") or 0))[:most]
    return {
        "columns": columns, "rows": [(name, halves.get(name), rows[name]) for name in names],
        "left_out": len(rows) - len(names), "with_halves": bool(halves),
    }  # fmt: skip


def _examples(found: Reading, budget: int) -> dict[str, Any]:
    examples: list[Example] = []
    try:
        examples, said = read_examples(found.folder, budget) if budget else ([], ["The page has no room for pictures."])
    except DataError as error:
        said = [str(error)]
    mode = part(found.results, "data").get("mode")
    overlap = mode == "multilabel" if mode else found.confusion is None
    key = _error_key(found.classes, overlap) if examples else []
    return {"examples": examples, "examples_said": said, "error_key": key}


def _error_key(classes: Sequence[str], overlap: bool) -> list[tuple[str, str]]:
    from seglab.viz.overlay import EXTRA, MISSED, WRONG  # OpenCV takes its time

    key = [("missed", MISSED), ("extra", EXTRA), ("wrong class", WRONG)]
    named = "background" in (name.lower() for name in classes)
    return [(name, _css(color)) for name, color in (key[:2] if len(classes) == 2 else key if named or overlap else key[2:])]


def _colors(results: dict[str, Any]) -> dict[str, str]:
    """Class -> CSS colour, for the classes that have one."""
    data = part(results, "data")
    classes, colors = data.get("classes"), data.get("colors")
    if not isinstance(classes, list) or not isinstance(colors, list):
        return {}
    good = lambda c: isinstance(c, list) and len(c) == 3 and all(isinstance(v, int) and 0 <= v < 256 for v in c)  # noqa: E731
    return {str(name): _css(color) for name, color in zip(classes, colors, strict=False) if good(color)}


def _css(color: Sequence[int]) -> str:
    return f"rgb({','.join(map(str, color))})"


def _passport(results: dict[str, Any]) -> dict[str, Any] | None:
    """The passport with its parts in the types that the template expects; None where there is none."""
    given = part(results, "passport")
    if not isinstance(given.get("definition"), str):
        return None
    others = given["others"] if isinstance(given.get("others"), list) else []
    return {
        "definition": given["definition"], "value": _number(given.get("value")),
        "others": [
            {"name": str(o.get("name")), "value": _number(o.get("value")), "definition": str(o.get("definition", "")),
             "key": f"passport.others.{n}.value"}
            for n, o in enumerate(others) if isinstance(o, dict)
        ],
    }  # fmt: skip


def _number(value: Any) -> float | int | None:
    return value if is_number(value) else None


def _scores(metrics: dict[str, float | int | None]) -> tuple[list[str], list[tuple[str, list[str | None]]]]:
    """The splits, and for each name of a score its key on each split."""
    splits = list(dict.fromkeys(key.partition("/")[0] for key in metrics))
    names = list(dict.fromkeys(key.partition("/")[2] for key in metrics))
    return splits, [(name, [f"{s}/{name}" if f"{s}/{name}" in metrics else None for s in splits]) for name in names]
