"""The page of a data set's check: what is wrong, with the files to look at, and its classes, objects and colours in numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seglab.report import page
from seglab.report.check_figures import channels, object_sizes
from seglab.report.thumbnails import Drawn, Pair, draw
from seglab.types import distinct_colors

WORDS = {"error": "Error", "warning": "Warning", "info": "Remark"}
SECTIONS = (
    ("summary", "Summary"),
    ("findings", "Findings"),
    ("classes", "Classes"),
    ("objects", "Objects"),
    ("images", "Images"),
)
# (thumbnails in all, of one finding, their longest side): a page that grows too large is made again with less.
SIZES = ((36, 4, 320), (18, 2, 200), (0, 0, 0))
_CLASSES, _FILES, _EVIDENCE = 400, 200, 600


@dataclass
class Card:
    """One finding, as the page shows it. command: what can be pasted, '' where the remedy is words."""

    severity: str
    word: str
    kind: str
    text: str
    remedy: str
    command: str
    evidence: list[tuple[str, str]]
    files: list[str]
    left_out: int
    drawn: list[Drawn]


def write(report: Mapping[str, Any], find: Callable[[str], Pair | None], out: Path, given: Sequence[str], ignore: int) -> Path:
    """Write the page of a report (as doctor.Report.to_dict gives it). `find` decodes the pair of a file, None if it cannot.

    given: the overrides that were examined, for the command to try again. ConfigError where `out` cannot be written.
    """
    seen: dict[str, Pair | None] = {}
    for most, each, side in SIZES:
        left, cards = most, []
        for finding in report["findings"]:
            drawn = _drawn(_telling(finding), min(each, left), side, report["classes"], ignore, find, seen)
            left -= len(drawn)
            cards.append(_card(finding, drawn))
        html = page.render("check.html", **_content(report, cards, given))
        if len(html.encode()) < page.LIMIT:
            break
    return page.save(out, html)


def _telling(finding: Mapping[str, Any]) -> list[str]:
    """The files, those that its sentence names first."""
    files = [*finding["evidence"].get("meet", ()), *finding["files"]]
    return sorted(dict.fromkeys(files), key=lambda name: name not in finding["text"])


def _drawn(
    files: Sequence[str], most: int, side: int, classes: Sequence[str], ignore: int, find: Callable[[str], Pair | None],
    seen: dict[str, Pair | None],
) -> list[Drawn]:  # fmt: skip
    found: list[Drawn] = []
    for name in files[: 3 * most]:  # of damaged files nothing can be shown
        if len(found) == most:
            break
        if name not in seen:
            seen[name] = find(name)
        if (pair := seen[name]) is not None:
            found.append(draw(pair, name, classes, ignore, side))
    return found


def _card(finding: Mapping[str, Any], drawn: list[Drawn]) -> Card:
    files, remedy = finding["files"], finding["remedy"]
    override = remedy.startswith(("data.", "loss.")) and " " not in remedy.partition("=")[0] and "[...]" not in remedy
    command = f'"{remedy}"' if override and "'" in remedy else remedy if override else ""
    evidence = [(key.replace("_", " "), _words(value)) for key, value in finding["evidence"].items()]
    return Card(
        finding["severity"], WORDS[finding["severity"]], finding["kind"], finding["text"], remedy, command,
        [(key, words) for key, words in evidence if words], files[:_FILES], max(0, len(files) - _FILES), drawn,
    )  # fmt: skip


def _words(value: Any) -> str:
    """A piece of evidence in words; '' for lists of records, which the JSON has."""
    if isinstance(value, float):
        return page.value(value)
    if isinstance(value, dict):
        said = ", ".join(f"{key} {_words(one)}" for key, one in value.items() if not isinstance(one, dict))
        return said if len(said) < _EVIDENCE else f"{said[:_EVIDENCE]} …"
    if isinstance(value, list):
        return "" if any(isinstance(one, dict | list) for one in value) else ", ".join(map(_words, value))[:_EVIDENCE]
    return str(value)


def _content(report: Mapping[str, Any], cards: list[Card], given: Sequence[str]) -> dict[str, Any]:
    splits = {split: told for split, told in report["splits"].items() if told["images"]}
    classes = report["classes"][:_CLASSES]
    sections = [one for one in SECTIONS if one[0] in ("summary", "findings") or splits]
    rows = [(name, [_cell(told, name) for told in splits.values()]) for name in classes]
    top = max((share for _, cells in rows for _, share in cells), default=0) or 1
    return {
        "title": f"{report['name'] or 'Data'}: check", "sections": sections, "report": report, "cards": cards,
        "counts": {severity: sum(card.severity == severity for card in cards) for severity in WORDS}, "words": WORDS,
        "command": " ".join(["python -m seglab.check", *map(_quoted, given)]), "splits": splits, "rows": rows, "top": top,
        "left_out": len(report["classes"]) - len(classes),
        "colors": [f"rgb({','.join(map(str, color))})" for color in distinct_colors(len(classes))],
        "void": [told["void"] / max(1, told["pixels"]) for told in splits.values()],
        "sizes": object_sizes(report["classes"], splits), "channels": channels(splits),
        "tones": [(split, told["mean"], told["std"]) for split, told in splits.items()],
    }  # fmt: skip


def _cell(told: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], float]:
    """A class in a split: its numbers, and its share of the pixels."""
    row = told["classes"][name]
    return row, row["pixels"] / max(1, told["pixels"])


def _quoted(override: str) -> str:
    if not set(override) & set(" '\"$\\[]*&;|<>()`"):
        return override
    return f'"{override}"' if "'" in override else f"'{override}'"
