"""HuggingFace's tables of images: where each image's bytes lie in the Arrow files, so that no worker needs a table.

`datasets` keeps every data set as uncompressed Arrow files and maps them into memory. Here they are mapped once, to learn
where the bytes of each cell begin; a sample is then read as a part of a file is (see shards_bytes).
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seglab.data.shards_bytes import Part, read_range
from seglab.errors import ConfigError, DataError, nearest, visible

_OLDEST = 4  # older ones run a script that lies in a data set's folder
_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


class Cells(NamedTuple):
    """A column of images: a path or locator for each row (None where the cell is empty), and the name each came with."""

    places: list[str | None]
    names: list[str | None]


def tables(root: str, config: str | None) -> dict[str, Any]:
    """The splits of a folder (save_to_disk's, or of parquet files) or of a name on the hub; Config- or DataError if none."""
    datasets = _package()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    folder = Path(root).expanduser()
    try:
        if folder.exists():
            found = _local(datasets, folder, config)
        elif _NAME.fullmatch(root):
            found = datasets.load_dataset(root, config)
        else:
            raise DataError(f"data.root={root} does not exist; name a folder, or a data set on the hub such as OWNER/NAME.")
    except (DataError, ConfigError, KeyboardInterrupt):
        raise
    except Exception as error:  # its own errors, the hub's, the network's, those of Arrow
        why = visible(" ".join(str(error).split()).rstrip("."))[:300] or type(error).__name__
        if folder.exists():
            raise DataError(f"data.root={root} cannot be loaded as a data set: {why}.") from error
        raise DataError(
            f"data.root={root} is no folder here, and cannot be had from the hub: {why}; correct the name, or go online once."
        ) from error
    return dict(found) if isinstance(found, dict) else {str(found.split or "train"): found}


def _package() -> Any:
    """The package datasets; ConfigError if it is missing, or so old that it could run what a data set brings."""
    try:
        import datasets
    except ImportError as error:
        raise ConfigError('data=huggingface needs the package datasets; pip install "datasets>=4".') from error
    version = importlib.metadata.version("datasets")
    if int(version.split(".")[0]) < _OLDEST:
        raise ConfigError(f'datasets {version} may run code that a data set brings; pip install "datasets>={_OLDEST}".')
    return datasets


def _local(datasets: Any, folder: Path, config: str | None) -> Any:
    if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return datasets.load_from_disk(str(folder))
    if folder.is_file() or next(folder.rglob("*.parquet"), None) is None:
        raise DataError(
            f"data.root={folder} holds neither what save_to_disk writes nor .parquet files; name a folder that does."
        )
    return datasets.load_dataset(str(folder.resolve()), config)  # a bare name, such as parquet, may be one of its builders


def is_image(feature: Any) -> bool:
    """Whether a column holds images: datasets' Image, or what it is made of, where a file does not say so."""
    return type(feature).__name__ == "Image" or (isinstance(feature, dict) and feature.keys() == {"bytes", "path"})


def cells(table: Any, column: str, within: Sequence[Path]) -> Cells:
    """Where each image of a column lies. A path in it counts only if it leads to a file below one of the folders `within`."""
    import pyarrow

    found = Cells([], [])
    for entry in table.cache_files:
        file = entry["filename"]
        with pyarrow.memory_map(file) as mapped:
            base = mapped.read_buffer(1).address
            mapped.seek(0)
            for chunk in pyarrow.ipc.open_stream(mapped).read_all().column(column).chunks:
                _add(found, chunk, base, file, column, within)
    if len(found.places) != len(table) or getattr(table, "_indices", None) is not None:
        raise _unlike(f"The split '{table.split}'")
    return found


def _unlike(what: str) -> DataError:
    return DataError(f"{what} is not kept in files as it is loaded; write it anew by save_to_disk, and name that folder.")


def _add(found: Cells, chunk: Any, base: int, file: str, column: str, within: Sequence[Path]) -> None:
    """The cells of one chunk: a struct of bytes and path."""
    data, paths = chunk.field("bytes"), chunk.field("path").to_pylist()
    _, bounds, values = data.buffers()
    wide = np.int64 if str(data.type).startswith("large") else np.int32
    ends = np.frombuffer(bounds or b"", wide)[data.offset : data.offset + len(data) + 1].astype(np.int64)
    start = values.address - base if values is not None else 0
    if len(ends) and ends[-1] > ends[0]:
        first = int(ends[0])
        if not _is_at(file, start + first, values[first]):
            raise _unlike(file)  # compressed, for example
    empty, absent = data.is_null().to_pylist(), chunk.is_null().to_pylist()
    for n, path in enumerate(paths):
        name = f"{column} {len(found.places)}"
        found.names.append(os.path.basename(path) if path else None)
        if absent[n] or (empty[n] and not path):
            found.places.append(None)
        elif empty[n]:
            found.places.append(_inside(path, within, file, name))
        else:
            found.places.append(str(Part(file, name, start + int(ends[n]), int(ends[n + 1] - ends[n]))))


def _is_at(file: str, at: int, byte: int) -> bool:
    try:
        return read_range(file, at, 1)[0] == byte
    except (OSError, ValueError):  # before the file begins, or after its end
        return False


def _inside(path: str, within: Sequence[Path], file: str, name: str) -> str:
    real = Path(path).resolve()
    if not any(real.is_relative_to(folder.resolve()) for folder in within):
        raise DataError(
            f"{file} names the file {visible(path)} for {name}, which lies outside of the data set; write it anew by "
            "save_to_disk, which takes the images into it."
        )
    return str(real)


def split_names(there: Sequence[str], given: dict[str, str | None], known: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Which of the table's splits are train, val and test: as told (`none`: nothing), else by their names."""
    found = {}
    for split, name in given.items():
        if name == "none":
            continue
        if name is not None and name not in there:
            raise ConfigError(f"data.{split}={name}: there is no split of that name.{nearest(name, there)}")
        name = name or next((one for one in known[split] if one in there and one not in given.values()), None)
        if name is not None:
            found[split] = name
    return found
