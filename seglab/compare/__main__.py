"""Compare finished runs: groups that differ in more than the seed, and what can be said of their differences.

python -m seglab.compare DIR ...        all runs in and below the folders of runs and sweeps

  --baseline=NAME    the group that the others are judged against, by its name or value (loss=ce, ce); else the best by val
  --margin=0.005     differences of mIoU below this do not matter
  --classes          verdicts for each class as well
  --sort=val         the order of the groups: val, test, params, speed, seconds or name
  --intersect        runs with other test images: compare on those that all have
  --cluster=REGEX    images whose names match alike belong together (a clip, a patient): --cluster='^[^_]+'
  --html=FILE        the page that python -m seglab.report writes, with these options
  --json --csv --latex   for other programs
  --wandb[=PROJECT]  the tables as a run of Weights & Biases, in the project seglab if none is named

Verdicts are on the test split, selection is by the monitor of validation. docs/compare.md says how far they can be trusted.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from seglab.compare.answer import MARGIN, Comparison, compare
from seglab.compare.showing import display
from seglab.compare.writing import to_csv, to_json, to_latex
from seglab.config.doors import plain_door
from seglab.errors import ConfigError, nearest, shown, visible
from seglab.weights_and_biases import PROJECT, check_project

FLAGS = ("--classes", "--intersect", "--json", "--csv", "--latex")
VALUES = ("--baseline", "--margin", "--sort", "--cluster", "--html")
WRITERS = {"--json": to_json, "--csv": to_csv, "--latex": to_latex}
WANDB = "--wandb"
MANY = 12  # lines on what was left out


def run(argv: list[str]) -> None:
    """Compare, from the command line's arguments."""
    flags, values, paths = _parsed(argv)
    margin = _margin(values["--margin"]) if "--margin" in values else MARGIN
    if WANDB in values:
        check_project(values[WANDB], WANDB)
    written = [flag for flag in WRITERS if flag in flags]
    if len(written) > 1:
        raise ConfigError(f"{written[0]} and {written[1]} are two outputs; give one.")
    found = compare(
        paths, values.get("--baseline"), margin, "--intersect" in flags, values.get("--cluster"), values.get("--sort", "val")
    )
    page = _page(paths, values["--html"], found) if "--html" in values else None  # before a reader of the rest may leave
    if written:
        print(WRITERS[written[0]](found))
    else:
        display(Console(highlight=False), found, "--classes" in flags)
        sys.stdout.flush()
    if page:
        print(page, file=sys.stderr if written else sys.stdout)
    if WANDB in values:
        from seglab.compare.tracking import track  # wandb takes a second to import

        print(track(found, values[WANDB]), file=sys.stderr)  # not among what another program reads
    for note in found.notes[:MANY]:
        print(visible(note), file=sys.stderr)
    if len(found.notes) > MANY:
        print(f"and {len(found.notes) - MANY} more lines like these; --json has them all", file=sys.stderr)


def _parsed(argv: list[str]) -> tuple[set[str], dict[str, str], list[str]]:
    flags, values, paths = set(), {}, []
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if not word.startswith("--") or word == "--":
            paths.append(word)
        elif name == WANDB:  # its value is never the next word, which is a folder
            values[WANDB] = value if equals else PROJECT
        elif name in VALUES:
            values[name] = value if equals else next(words, "")
            if not values[name]:
                raise ConfigError(f"{name} needs a value: {name}=...")
        elif word in FLAGS:
            flags.add(word)
        else:
            raise ConfigError(f"There is no option '{word}' here.{nearest(name, (*FLAGS, *VALUES, WANDB))}")
    if not paths:
        raise ConfigError("Name the folders of runs or sweeps: python -m seglab.compare multirun.")
    return flags, values, paths


def _page(paths: list[str], file: str, found: Comparison) -> str:
    """Write the page; a line that says where it lies."""
    from seglab.report import sweep_page  # matplotlib takes a second to import

    return f"report {shown(sweep_page.write(paths, Path(file), found))}"


def _margin(text: str) -> float:
    try:
        margin = float(text)
    except ValueError:
        margin = -1.0
    if not 0 <= margin < 1:
        raise ConfigError(f"--margin={text} is no difference of mIoU; give one between 0 and 1, such as 0.005.")
    return margin


if __name__ == "__main__":
    plain_door(run, __doc__)
