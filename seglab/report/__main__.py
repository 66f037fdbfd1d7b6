"""Write one HTML page about a run, or about a sweep: a file that needs no network.

python -m seglab.report RUN                the folder of a run; the page is RUN/report.html
python -m seglab.report SWEEP ...          folders of sweeps, or of several runs: they are compared

  --out=FILE.html    where the page goes
"""

from __future__ import annotations

from pathlib import Path

from seglab.config.doors import plain_door
from seglab.errors import ConfigError, DataError, nearest, shown
from seglab.report.run_page import Settings
from seglab.results import FILE

PAGE = "report.html"


def run(argv: list[str]) -> None:
    """Write the page, from the command line's arguments; prints where it lies."""
    paths, out = _parsed(argv)
    folders = [path.parent if path.name == FILE else path for path in map(Path, paths)]
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"There is no folder '{folder}'; name that of a run or of a sweep, such as outputs/DATE/TIME.")
    place = Path(out) if out else folders[0] / PAGE
    if len(folders) == 1 and (folders[0] / FILE).exists():
        from seglab.report import run_page

        run_page.write(folders[0], place, settings(folders[0]))
    elif len(folders) > 1 or _holds_runs(folders[0]):
        from seglab.report import sweep_page

        sweep_page.write([str(folder) for folder in folders], place)
    else:
        raise DataError(f"'{folders[0]}' holds no {FILE}, and no runs below it; name the folder of a run or of a sweep.")
    print(f"report {shown(place)}")


def settings(folder: Path) -> Settings:
    """What a run's configuration sets otherwise than the defaults."""
    from seglab.config.composing import COMPOSING, composed
    from seglab.config.differences import differences, run_config
    from seglab.config.dotted import flat

    try:
        own, default = run_config(str(folder)), flat(composed([]))
    except ConfigError:
        return Settings(note="No .hydra/config.yaml that can be read: it lies in the folder of the run itself.")
    except COMPOSING as error:
        return Settings(note=f"The defaults cannot be composed ({error}).")
    return Settings(own, differences(default, own))


def _holds_runs(folder: Path) -> bool:
    return (folder / "sweep.json").exists() or any(folder.glob(f"*/{FILE}")) or any(folder.glob(f"*/*/{FILE}")) \
        or any(folder.glob(f"*/*/*/{FILE}"))  # fmt: skip


def _parsed(argv: list[str]) -> tuple[list[str], str]:
    paths, out = [], ""
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if not word.startswith("--"):
            paths.append(word)
        elif name == "--out":
            out = value if equals else next(words, "")
            if not out:
                raise ConfigError("--out needs a value: --out=FILE.html")
        else:
            raise ConfigError(f"There is no option '{word}' here.{nearest(name, ('--out',))}")
    if not paths:
        raise ConfigError("Name the folder of a run or of a sweep: python -m seglab.report outputs/DATE/TIME.")
    return paths, out


if __name__ == "__main__":
    plain_door(run, __doc__)
