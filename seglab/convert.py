"""Write a data set of any format as folders of images and masks, which data=folder reads.

python -m seglab.convert data=FORMAT [key=value ...] output=DIR

Takes what python -m seglab.train takes for its data, folds and parts included, and writes
DIR/{train,val,test}/{images,masks} and classes.json. Image files are copied as they are, unless the format changes them
(grey ones among colour images, for example). DIR must not exist; if the command is stopped, nothing is left.
"""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path
from typing import NoReturn

from seglab.config import load, plain, plain_door
from seglab.config.commandline import quoted
from seglab.errors import ConfigError, Stopped, shown

_AS_STORED = {"cache": "none", "cache_dir": None, "reduced_jpeg": False}  # images are written as the format gives them


def run(argv: list[str]) -> None:
    """One conversion, from the command line's arguments."""
    named = [a.partition("=")[2] for a in argv if a.startswith("output=")]
    if len(named) != 1 or not named[0]:
        raise ConfigError("Name the folder to write, once: output=DIR.")
    data = plain(load([a for a in argv if not a.startswith("output=")]))["data"]

    from seglab.data.converting import convert
    from seglab.engine import assemble

    target = Path(named[0]).expanduser()
    source = assemble.source({"data": {**data, **_AS_STORED}})
    done = convert(source, target)
    print(f"{shown(target)}: {', '.join(f'{n} {split}' for split, n in done.counts.items())} images, {done.bytes / 1e6:.3g} MB")
    for text in done.lost:
        print(f"not kept: {text}")
    group = [f"data.group={quoted(source.group)}"] if source.group else []
    more = [f"data.{key}={str(data[key]).replace(' ', '')}" for key in ("mean", "std") if data.get(key)]
    words = ["data=folder", f"data.root={_value(shown(target))}", *done.settings, *group, *more]
    print("python -m seglab.train", *map(_typed, words))


def _value(text: str) -> str:
    """A path as an override holds it: in quotes only where it is more than letters, digits and slashes."""
    simple = re.fullmatch(r"[\w./-]+", text, re.ASCII) and re.search("[a-z/]", text) and text not in ("null", "true", "false")
    return text if simple else quoted(text)


def _typed(word: str) -> str:
    """An argument as one types it to a shell: in double quotes where these are enough."""
    return f'"{word}"' if "'" in word and not re.search(r'["$`!\\]', word) else shlex.quote(word)


def _stop(*_: object) -> NoReturn:
    raise Stopped("ended by SIGTERM.")  # as Ctrl-C: what was begun is taken away


def main() -> None:
    """`python -m seglab.convert`."""
    signal.signal(signal.SIGTERM, _stop)
    plain_door(run, __doc__)


if __name__ == "__main__":
    main()
