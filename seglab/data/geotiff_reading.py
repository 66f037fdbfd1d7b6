"""Rasters of any number of bands with what they say of themselves: missing values, and where on Earth they lie.

tifffile reads TIFF; rasterio (GDAL), where it is installed, whatever else there is, and what tifffile cannot decode.
"""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from seglab.data import geotiff_vrt, reading_tiff
from seglab.data.geotiff_grid import Grid, of_tags
from seglab.data.reading import naming
from seglab.data.reading_tiff import Layout
from seglab.errors import DataError

TIFF = (".tif", ".tiff")
SUFFIXES = (*TIFF, ".jp2", ".vrt", ".img")
_DRIVERS = {".jp2": "JP2OpenJPEG", ".vrt": "VRT", ".img": "HFA"}
_NODATA = 42113  # GDAL's tag, a text
# No code, no network, and no sidecar files, of which nothing here knows when they change.
_CLOSED = {
    "GDAL_VRT_ENABLE_PYTHON": "NO", "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none", "GDAL_PAM_ENABLED": "NO",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
}  # fmt: skip


class Raster(NamedTuple):
    """What a file says of itself. `nodata`: the value that stands for none, if it has one; `grid`: where it lies, if told.

    `masked`: whether it holds a mask of where it has data (GDAL's internal mask), besides its bands.
    """

    height: int
    width: int
    bands: int
    dtype: str
    nodata: float | None
    grid: Grid | None
    masked: bool = False


class Stored(NamedTuple):
    """Values H W C of all bands, and H W, true where the file's own mask says that there are data (None: it has no mask)."""

    values: np.ndarray
    valid: np.ndarray | None = None


def raster(path: str, layout: Layout = "auto") -> Raster:
    """The Raster of a file, without decoding pixels; DataError names a file that cannot be read."""
    return _read(path, layout, False)[1]


def pixels(path: str, layout: Layout = "auto") -> tuple[Stored, Raster]:
    """What is stored, and the Raster; DataError names a file that cannot be read."""
    return _read(path, layout, True)


def grid(path: str) -> Grid | None:
    """Where a mask lies, if it is a TIFF that tells."""
    if not path.lower().endswith(TIFF):
        return None
    with naming(path), reading_tiff.opened(path) as file:
        return of_tags(file.pages.first.tags)


def _read(path: str, layout: Layout, decode: bool) -> tuple[Stored, Raster]:
    with naming(path):
        if not path.lower().endswith(TIFF):
            return _by_rasterio(path, decode)
        try:
            return _by_tifffile(path, layout, decode)
        except reading_tiff.Truncated:  # GDAL would not see it before it decodes
            raise
        except Exception:  # of a compression or a form that tifffile does not know, or damaged
            with suppress(Exception):
                return _by_rasterio(path, decode)
            raise  # what tifffile said


def _by_tifffile(path: str, layout: Layout, decode: bool) -> tuple[Stored, Raster]:
    with reading_tiff.opened(path) as file:
        height, width, _, layers, _, dtype = reading_tiff.described(file, os.path.getsize(path), layout)
        tags = file.pages.first.tags
        nodata = _number(tags[_NODATA].value) if _NODATA in tags else None
        mask = reading_tiff.mask_page(file)
        found = Raster(height, width, layers, dtype, nodata, of_tags(tags), mask is not None)
        if mask is not None and max(map(sum, zip(mask.dataoffsets, mask.databytecounts, strict=True))) > os.path.getsize(path):
            raise reading_tiff.Truncated("the file is truncated")
        if not decode:
            return Stored(np.empty(0)), found
        valid = None if mask is None else mask.asarray().astype(bool).reshape(height, width)
        return Stored(reading_tiff.pixels(file, layout), valid), found


def _number(text: Any) -> float | None:
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


def _by_rasterio(path: str, decode: bool) -> tuple[Stored, Raster]:
    try:
        import rasterio
    except ImportError:
        if path.lower().endswith(TIFF):
            raise  # the caller knows what is wrong
        raise DataError(f"{path} needs rasterio, which is not installed; pip install 'seglab[geo]', or store TIFF.") from None
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)  # most tiles are not
    suffix = os.path.splitext(path)[1].lower()
    place = geotiff_vrt.checked(path) if suffix == ".vrt" else os.path.abspath(path)
    driver = _DRIVERS.get(suffix, "GTiff")  # never guessed: some of GDAL's fetch what a file tells them to
    with rasterio.Env(**_CLOSED), rasterio.open(place, driver=driver) as file:
        if len(set(file.dtypes)) > 1:
            raise ValueError(f"its bands have the types {', '.join(sorted(set(file.dtypes)))}; store all with one")
        epsg = file.crs.to_epsg() if file.crs else None
        t = file.transform
        where = None if file.transform.is_identity else Grid((t.a, t.b, t.c, t.d, t.e, t.f), epsg)
        masked = file.mask_flag_enums[0] == [rasterio.enums.MaskFlags.per_dataset]  # no nodata value, and no alpha band
        found = Raster(file.height, file.width, file.count, file.dtypes[0], file.nodata, where, masked)
        if not decode:
            return Stored(np.empty(0)), found
        return Stored(np.moveaxis(file.read(), 0, -1), file.read_masks(1).astype(bool) if masked else None), found
