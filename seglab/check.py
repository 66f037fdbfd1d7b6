"""Look at a data set before training on it: what is wrong, in which files, and the setting that mends it.

python -m seglab.check data=folder data.root=DIR [key=value ...] [--json]

Takes what python -m seglab.train takes, reads every file (again only where it has changed), and lists errors, warnings and
remarks with the override that mends each, then classes by split, then whether training would start. Nothing is changed, no
network is trained. Leaves with 1 if there is an error.

  --json    all of it, every file name included
"""

from __future__ import annotations

import inspect
import json
import sys
from functools import partial
from typing import Any

from seglab.config import load, plain, plain_door
from seglab.errors import ConfigError, nearest


def run(argv: list[str]) -> None:
    """One examination, from the command line's arguments; SystemExit(1) if it found an error."""
    flags = [a for a in argv if a.startswith("-")]
    for flag in flags:
        if flag != "--json":
            raise ConfigError(f"There is no flag '{flag}'.{nearest(flag, ['--json'])}")
    config = plain(load([a for a in argv if a not in flags]))

    from seglab.data.checks import showing

    report = _examined(config["data"])
    if flags:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        showing.show(report)
    if report.count("error"):
        sys.exit(1)


def _examined(data: dict[str, Any]) -> Any:
    from seglab.build import check_settings, find
    from seglab.data.checks import doctor
    from seglab.data.folder import Folder
    from seglab.data.selection import select
    from seglab.data.source import Source

    kind = find(data.get("_target_"), Source, "data")
    chosen = {k: v for k, v in data.items() if k in inspect.signature(select).parameters}
    own = {k: v for k, v in data.items() if k in inspect.signature(kind).parameters}
    check_settings(chosen, select, "data")
    check_settings(own, kind, "data")
    scale = data.get("scale", 1.0)
    given = partial(_built, {"_target_": data["_target_"], **own}, chosen)
    if issubclass(kind, Folder):
        return doctor.examine_folder(given, **own, scale=scale)
    return doctor.examine_source(given, own.get("root"), scale)


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
