"""The run folder's plain files: results.json and per_image.csv. Written by the engine, read by compare and report."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from seglab.errors import DataError, nearest

if TYPE_CHECKING:  # numpy is imported where it is used: sweeps read results.json, and every command knows of sweeps
    import numpy as np

SCHEMA = 1
FILE = "results.json"
KEYS = (
    "status", "seed", "choices", "overrides", "monitor", "score", "metrics", "per_class", "data", "parameters", "speed",
    "versions", "git", "seconds",
)  # fmt: skip
PACKAGES = (
    "seglab", "torch", "lightning", "segmentation-models-pytorch", "timm", "albumentations", "torchmetrics", "hydra-core",
    "numpy", "opencv-python-headless",
)  # fmt: skip
# Only some runs have these: the definition behind the headline mIoU and what others would give, what training showed of each
# class, what it ran on, what went wrong, the step at which the run was resumed last, CUDA operations that vary.
OPTIONAL = ("passport", "ledger", "device", "error", "resumed", "not_deterministic")
COUNTS = ("tp", "fp", "fn")


def write_results(folder: str | Path, results: dict[str, Any]) -> Path:
    """Write results.json (schema 1) into the folder, whole or not at all; NaN and infinity become null.

    `results` holds every key of `KEYS` (None where there is nothing to say), perhaps some of `OPTIONAL`; else ValueError.
    """
    unknown, missing = sorted(set(results) - {*KEYS, *OPTIONAL}), sorted(set(KEYS) - set(results))
    if unknown:
        raise ValueError(f"results.json has no key '{unknown[0]}'.{nearest(unknown[0], (*KEYS, *OPTIONAL))}")
    if missing:
        raise ValueError(f"results lack {', '.join(missing)}; give None where there is nothing to say.")
    ordered = {"schema": SCHEMA, **{key: results[key] for key in KEYS}, **{key: results.get(key) for key in OPTIONAL}}
    text = json.dumps(plain(ordered, "results"), indent=2, allow_nan=False)
    path = Path(folder) / FILE
    with replacing(path) as file:
        file.write(text + "\n")
    return path


def read_results(folder: str | Path) -> dict[str, Any]:
    """The results.json of a run folder. Raises DataError where it is missing, broken, or of another schema."""
    path = Path(folder) / FILE
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name the folder of a run that has ended.") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}); run again, or leave this folder out.") from error
    found = results.get("schema") if isinstance(results, dict) else None
    if found != SCHEMA:
        raise DataError(f"{path} has schema {found}, this seglab reads {SCHEMA}; use the seglab that wrote it, or run again.")
    missing = [key for key in KEYS if key not in results]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; it was edited or cut short: run again, or leave this folder out.")
    return results


def part(results: dict[str, Any], key: str) -> dict[str, Any]:
    """A part of results.json as a table; {} where it is anything else."""
    value = results.get(key)
    return value if isinstance(value, dict) else {}


def is_number(value: Any) -> bool:
    """Whether JSON had a number there, and one that a float can hold: its integers are endless."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def write_per_image(path: str | Path, split_ids: Sequence[str], rows: np.ndarray, classes: Sequence[str]) -> Path:
    """Write per_image.csv: column image, then <class>/tp, <class>/fp, <class>/fn of each class; one line per image.

    rows: int (N, 1 + 3K), the image's position in `split_ids`, then tp, fp, fn (pixels) of each class in turn.
    """
    import numpy as np

    rows, path = np.asarray(rows), Path(path)
    if rows.ndim != 2 or rows.shape[1] != 1 + 3 * len(classes):
        raise ValueError(f"rows are {rows.shape}; {len(classes)} classes need (N, {1 + 3 * len(classes)}).")
    if len(rows) and not 0 <= rows[:, 0].min() <= rows[:, 0].max() < len(split_ids):
        raise ValueError(f"rows name images {rows[:, 0].min()}..{rows[:, 0].max()} of a split of {len(split_ids)}.")
    header = ["image", *(f"{name}/{count}" for name in classes for count in COUNTS)]
    return write_table(path, header, ([split_ids[index], *counts] for index, *counts in rows.tolist()))


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write a CSV file, whole or not at all."""
    with replacing(path) as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def read_per_image(path: str | Path) -> tuple[list[str], list[str], np.ndarray]:
    """(image ids, class names, int64 counts (N, K, 3) of tp, fp, fn) of a per_image.csv. Raises DataError."""
    import numpy as np

    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            header, *lines = list(csv.reader(file)) or [[]]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); evaluate the run's checkpoint to write it.") from error
    except csv.Error as error:
        raise DataError(f"{path} is not a table ({error}); evaluate the run's checkpoint to write it again.") from error
    classes = [name.removesuffix("/tp") for name in header[1::3]]
    if header != ["image", *(f"{name}/{count}" for name in classes for count in COUNTS)] or not classes:
        raise DataError(f"{path} does not start with image, <class>/tp, <class>/fp, <class>/fn; evaluate again to write it.")
    try:
        counts = np.array([[int(value) for value in line[1:]] for line in lines], dtype=np.int64)
        return [line[0] for line in lines], classes, counts.reshape(len(lines), len(classes), 3)
    except (ValueError, IndexError) as error:
        bad = next((n for n, line in enumerate(lines, 2) if len(line) != len(header) or not all(map(str.isdigit, line[1:]))), 2)
        raise DataError(f"{path} is broken at record {bad}; evaluate the run's checkpoint to write it again.") from error


def git_state(folder: str | Path) -> dict[str, Any] | None:
    """{"commit", "dirty"} of the git checkout that holds the folder; None without git or outside a checkout.

    dirty: a tracked file differs from the commit. Untracked files, such as run folders, do not count.
    """
    command = ["git", "--no-optional-locks", "-C", str(folder), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), None)
    return {"commit": None if commit == "(initial)" else commit, "dirty": any(not line.startswith("#") for line in lines)}


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that decide a run's numbers, without importing them; None = not installed."""
    from importlib import metadata

    def version(package: str) -> str | None:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


def plain(value: Any, where: str) -> Any:
    """The value as JSON has it: numpy and 0-d tensor scalars as numbers, tuples as lists, NaN and infinity as None."""
    import numpy as np

    if isinstance(value, dict):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    elif not isinstance(value, (str, int, float)) and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{n}]") for n, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):  # float() because numpy's float64 is a float as well
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    raise ValueError(f"{where} is a {type(value).__name__}, which JSON cannot hold.")


def higher_is_better(monitor: str, mode: str) -> bool:
    """Whether the monitored value should rise: `mode` is max, min, or auto (min for a loss)."""
    return "loss" not in monitor if mode == "auto" else mode == "max"


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file that takes the path's place when closed without an error: a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # surrogateescape: image ids are file names, and those need not be UTF-8.
        with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            yield file
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # a read-only disk
            temporary.unlink(missing_ok=True)
