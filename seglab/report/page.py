"""Pages from templates: everything is escaped, nothing is loaded from elsewhere, and only the page's own script may run."""

from __future__ import annotations

import base64
import hashlib
import math
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from seglab.errors import ConfigError, disk, visible
from seglab.results import replacing

TEMPLATES = Path(__file__).with_name("templates")
NOTHING = "\N{EN DASH}"  # stands where there is no number
LIMIT = 5_000_000  # bytes of a page; mail and issue trackers take that


def render(template: str, **content: Any) -> str:
    """The page of a template in templates/ that extends base.html; ValueError (jinja2's) for a name that it lacks.

    Text is escaped and made visible wherever it is put; only what is Markup (figures.svg) is taken as it is.
    """
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    own = {
        "css": Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        "js": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return _environment().get_template(template).render(**own, **content)


def save(out: Path, html: str) -> Path:
    """Write a page, whole or not at all. ConfigError where it cannot be written."""
    try:
        with replacing(out) as file:
            file.write(html)
    except OSError as error:
        why = disk(error) or error.strerror
        raise ConfigError(f"{out} cannot be written ({why}); choose another file.") from error
    return out


def number(value: float | None, digits: int = 4) -> str:
    """A score with so many decimals; a dash for None and NaN."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def count(value: float | None) -> str:
    """A whole number, 12,345; a dash for None."""
    return NOTHING if value is None else f"{value:,.0f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 1 in percent; a dash for None and NaN."""
    return NOTHING if share is None or not math.isfinite(share) else f"{100 * share:.{digits}f} %"


def value(given: Any) -> str:
    """Any number as people write it: 0.0123, 3.2e-05, 12,345; text as it is; a dash for None."""
    if given is None or isinstance(given, str | bool):
        return NOTHING if given is None else str(given)
    if isinstance(given, int):
        return count(given)
    if not math.isfinite(given):
        return NOTHING
    if given == 0 or 1e-3 <= abs(given) < 100:
        return f"{given:.4f}"
    return count(given) if 1000 <= abs(given) < 1e9 else f"{given:.4g}"


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}" if text else ""


def short(text: str, length: int = 60) -> str:
    """The text on one line, its middle left out where it is longer."""
    text = visible(text)
    return text if len(text) <= length else f"{text[: length // 2]}…{text[len(text) - (length - 1) // 2 :]}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, finalize=_visible,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {f.__name__: f for f in (number, count, percent, value, sentence, short, visible)}
    return environment


def _visible(given: Any) -> Any:
    return visible(given) if isinstance(given, str) and not isinstance(given, Markup) else given
