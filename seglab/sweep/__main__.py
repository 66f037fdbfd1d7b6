"""See sweeps while they run, and after.

python -m seglab.sweep                  the sweeps below multirun/, the latest first
python -m seglab.sweep DIR              the trials of the sweep in a folder, or the sweeps below it
python -m seglab.sweep [DIR] --watch    the trials, redrawn every two seconds until all have ended; without DIR those
                                        of the latest sweep
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from seglab.config.doors import plain_door
from seglab.errors import ConfigError, DataError, nearest
from seglab.sweep import listing
from seglab.sweep.folder import FILE

ROOT = "multirun"  # where Hydra puts sweeps
FLAGS = ("--watch", "--help")


def run(argv: list[str]) -> None:
    """List sweeps, or show one, from the command line's arguments."""
    for flag in (a for a in argv if a.startswith("-") and a != "--watch"):
        raise ConfigError(f"There is no option '{flag}' here.{nearest(flag, FLAGS)}")
    folders = [Path(a) for a in argv if a != "--watch"]
    if len(folders) > 1:
        raise ConfigError("One sweep at a time: python -m seglab.sweep DIR.")
    path = folders[0] if folders else Path(ROOT)
    if path == Path(ROOT) and not path.is_dir():
        raise DataError(
            f"There is no {ROOT}/ here; start a sweep (python -m seglab.train -m loss=ce,dice+ce), or name its folder."
        )
    found = [path] if (path / FILE).exists() else listing.sweeps(path)
    if not found:
        what = f"holds no sweep: no {FILE} in it or below" if path.is_dir() else "is no folder"
        raise DataError(f"{path} {what}; name the folder of a sweep, such as {ROOT}/2026-01-31/12-00-00.")
    out = Console(highlight=False)
    if "--watch" in argv:
        listing.watch(out, found[0])
    elif found == [path]:
        listing.trials(out, listing.Seen(path))
    else:
        listing.overview(out, found)


if __name__ == "__main__":
    sys.argv[1:] = sys.argv[1:] or [ROOT]  # without arguments other doors print their help
    plain_door(run, __doc__)
