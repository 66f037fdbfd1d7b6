"""Look at a data set before training on it: what is wrong, in which files, and the setting that mends it.

python -m seglab.check data=folder data.root=DIR [key=value ...] [--json] [--html=FILE.html]

Takes what python -m seglab.train takes, reads every file (again only where it has changed), and lists errors, warnings and
remarks with the override that mends each, then classes by split, then whether training would start. Nothing is changed, no
network is trained. Leaves with 1 if there is an error.

  --json             all of it, every file name included
  --html=FILE.html   a page with the files that findings name, their masks laid over them; it needs no network
"""

from __future__ import annotations

import inspect
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from seglab.config import load, plain, plain_door
from seglab.errors import ConfigError, nearest, shown


def run(argv: list[str]) -> None:
    """One examination, from the command line's arguments; SystemExit(1) if it found an error."""
    overrides, as_json, html = _parsed(argv)
    config = plain(load(overrides))

    from seglab.data.checks import showing

    report = _examined(config["data"])
    if as_json:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        showing.show(report)
    if html:
        from seglab.report import check_page

        place = check_page.write(report.to_dict(), report.example, Path(html), overrides, report.ignore)
        print(f"page {shown(place)}", file=sys.stderr if as_json else sys.stdout)
    if report.count("error"):
        sys.exit(1)


def _parsed(argv: list[str]) -> tuple[list[str], bool, str]:
    """Overrides, whether JSON is asked for, and the page's place ('' for none)."""
    overrides, as_json, html = [], False, ""
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            overrides.append(word)
        elif word == "--json":
            as_json = True
        elif name == "--html":
            html = value if equals else next(words, "")
            if not html:
                raise ConfigError("--html needs a value: --html=FILE.html")
        else:
            raise ConfigError(f"There is no flag '{word}'.{nearest(name, ['--json', '--html'])}")
    return overrides, as_json, html


def _examined(data: dict[str, Any]) -> Any:
    from seglab.build import check_settings, find
    from seglab.data.checks import doctor
    from seglab.data.selection import select
    from seglab.data.source import Source

    kind = find(data.get("_target_"), Source, "data")
    chosen = {k: v for k, v in data.items() if k in inspect.signature(select).parameters}
    own = {k: v for k, v in data.items() if k in inspect.signature(kind).parameters}
    check_settings(chosen, select, "data")
    check_settings(own, kind, "data")
    return doctor.examine(kind, partial(_built, {"_target_": data["_target_"], **own}, chosen), data)


def _built(node: dict[str, Any], chosen: dict[str, Any]) -> Any:
    """The source as training makes it."""
    from seglab.build import build
    from seglab.data.selection import select
    from seglab.data.source import Source

    return select(build(node, Source, "data"), **chosen)


def main() -> None:
    """`python -m seglab.check`."""
    plain_door(run, __doc__)


if __name__ == "__main__":
    main()
