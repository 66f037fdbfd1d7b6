"""Images of any number of bands, as satellites and aircraft take them: `data=geotiff data.root=DIR data.bands=[4,3,2]`."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seglab.data import geotiff_grid, geotiff_reading
from seglab.data.bands import Bands
from seglab.data.folder_classes import told_classes
from seglab.data.folder_scan import Scan, even_sample, in_threads
from seglab.data.folder_stats import both_or_neither, mean_and_std
from seglab.data.geotiff_reading import Raster
from seglab.data.layout import Pair, find_pairs, pair
from seglab.data.paired import existing, found_out
from seglab.data.reading import TIFF_MASK, Header, read_header, read_mask
from seglab.data.reading_tiff import Layout
from seglab.data.source import Source, written
from seglab.errors import DataError
from seglab.types import Sample, Spec

log = logging.getLogger("seglab")
_IMAGES = 64  # decoded before training, for mean and std
_MASKS = (*geotiff_reading.TIFF, ".png")
_SHIFT = 0.5  # pixels by which a mask may lie beside its image


class GeoTiff(Source):
    """Rasters and masks of equal stem in the layouts of data=folder; all headers are checked when it is made.

    `bands`, `divide`, `nodata` and `fill` as seglab.data.bands.Bands has them: a pixel without data in all chosen bands counts
    nowhere. `layout`: where a TIFF has its bands. What masks mean is told or found out as for a folder.
    """

    def __init__(
        self,
        root: str | Path | None,
        bands: Sequence[int] | None = None,
        layout: Layout = "auto",
        divide: float | None = None,
        nodata: float | Literal["none"] | None = None,
        fill: float = 0.0,
        classes: list[str] | None = None,
        mode: str | None = None,
        ignore_index: int | None = None,
        foreground: bool = False,
        colors: list | None = None,
        split: Sequence[float] = (0.7, 0.15, 0.15),
        group: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        both_or_neither(mean, std)
        self._layout, self._bands = layout, Bands(None if bands is None else tuple(bands), divide, nodata, fill)
        folder = existing(root, "geotiff")
        told = told_classes(folder, classes, ignore_index, colors)
        meaning = found_out(told, mode, foreground)
        self.pairs = find_pairs(folder, split, group, partial(pair, kinds=(geotiff_reading.SUFFIXES, _MASKS)))
        self.name, self.group = folder.resolve().name, group
        every = [one for some in self.pairs.values() for one in some]
        found = list(in_threads(self._look, every, "Reading headers", len(every)))
        self._channels = self._alike(every, [one for one, _ in found])
        numbers = iter(found)
        self._found = {split: [next(numbers) for _ in some] for split, some in self.pairs.items()}
        self.rules = r = meaning(every, [_scan(one, raster, mask) for one, (raster, mask) in zip(every, found, strict=True)])
        if mean is None or std is None:
            mean, std = self._measured()
        palette = tuple(told.colors or ()) if len(told.colors or ()) == len(r.classes) else ()
        self.spec = Spec(r.classes, r.mode, r.ignore_index, self._channels, tuple(mean), tuple(std), palette, r.instances)

    suffixes = geotiff_reading.SUFFIXES  # of what `reader` reads

    @staticmethod
    def reader(
        bands: Sequence[int] | None = None, layout: Layout = "auto", divide: float | None = None,
        nodata: float | Literal["none"] | None = None, fill: float = 0.0, **_: Any,
    ) -> Callable[[str], np.ndarray]:  # fmt: skip
        """What reads an image file as these settings of `data` do, for images that have no mask."""
        asked = Bands(None if bands is None else tuple(bands), divide, nodata, fill)
        return lambda path: _image(path, layout, asked)[0]

    def ids(self, split: str) -> list[str]:
        """The images' paths below their folder, without suffix, sorted."""
        return [one.id for one in self.pairs[split]]

    def sizes(self, split: str) -> list[tuple[int, int]]:
        """(height, width) of every image, from the headers."""
        return [(raster.height, raster.width) for raster, _ in self._found[split]]

    def load(self, split: str, index: int) -> Sample:
        """The chosen bands as H W C (uint8 or float32), and the class ids, ignore_index where there are no data."""
        one, (raster, _), rules = self.pairs[split][index], self._found[split][index], self.rules
        size = raster.height, raster.width
        image, void = _image(one.image, self._layout, self._bands)
        if image.shape[:2] != size or image.shape[2] != self._channels:
            raise DataError(f"{one.image} changed its size while in use; start again.")
        stored = self._stored(split, index)
        sample: Sample = {"image": image, "mask": self._marked(rules.codec(stored, one.mask), void), "id": one.id, "size": size}
        if rules.instances:
            sample["instances"] = rules.objects(stored, sample["mask"], one.mask)
        return sample

    def load_mask(self, split: str, index: int) -> np.ndarray:
        """The mask as class ids; the image is decoded only where it may lack data."""
        one, (raster, _) = self.pairs[split][index], self._found[split][index]
        if self._bands.may_miss(raster.dtype, raster.nodata, raster.masked):
            return self.load(split, index)["mask"]
        return self._marked(self.rules.codec(self._stored(split, index), one.mask), None)

    def stamp(self, split: str, index: int) -> int:  # noqa: D102
        return written(self.pairs[split][index].image, self.pairs[split][index].mask)

    def fingerprint(self) -> str:
        """16 hex digits over names, splits, headers, file sizes, and what images and masks mean; not over dates or `root`."""
        r, c = self.rules, self.rules.codec
        text = repr((r.classes, r.mode, r.ignore_index, r.instances, c.ids, c.rest, c.colored, c.layered))
        text += repr((self._bands, self._layout))
        for split, some in self.pairs.items():
            for one, found in zip(some, self._found[split], strict=True):
                text += repr((split, one.id, found, os.path.getsize(one.image), os.path.getsize(one.mask)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _look(self, one: Pair) -> tuple[Raster, Header]:
        """Both headers; DataError where the two files are not of one size and one place."""
        raster, mask = geotiff_reading.raster(one.image, self._layout), read_header(one.mask)
        self._bands.check(raster.bands, raster.dtype, one.image)
        if mask.lossy:
            raise DataError(TIFF_MASK.format(one.mask))
        if (raster.height, raster.width) != (mask.height, mask.width):
            raise DataError(
                f"{one.mask} is {mask.height} x {mask.width} (height x width), but its image {one.image} is {raster.height} x "
                f"{raster.width}; give both the same size{' (or set data.layout)' if raster.bands > 1 else ''}."
            )
        _same_place(one, raster)
        return raster, mask

    def _alike(self, pairs: Sequence[Pair], rasters: Sequence[Raster]) -> int:
        """The channels of every image; DataError names two files that differ in type or in number of bands."""
        first, chosen = rasters[0], self._bands.bands
        for one, raster in zip(pairs, rasters, strict=True):
            if raster.dtype != first.dtype:
                raise DataError(
                    f"{pairs[0].image} has pixels of type {first.dtype} and {one.image} of type {raster.dtype}; "
                    "store all with one."
                )
            if chosen is None and raster.bands != first.bands:
                raise DataError(
                    f"{pairs[0].image} has {first.bands} bands and {one.image} has {raster.bands}; choose by data.bands "
                    "those that all have (and data.layout, if bands were taken for rows)."
                )
        missing = {raster.nodata for raster in rasters if raster.nodata is not None}
        if missing and self._bands.nodata is None:
            values = ", ".join(f"{value:g}" for value in sorted(missing)[:3])
            log.info(
                "The images say that %s is no data; such pixels count nowhere (data.nodata=none takes them for data).", values
            )
        return first.bands if chosen is None else len(chosen)

    def _stored(self, split: str, index: int) -> np.ndarray:
        path, (raster, _) = self.pairs[split][index].mask, self._found[split][index]
        stored = read_mask(path)
        if stored.shape[:2] != (raster.height, raster.width):
            raise DataError(f"{path} changed its size while in use; start again.")
        return stored

    def _marked(self, mask: np.ndarray, void: np.ndarray | None) -> np.ndarray:
        """The class ids with ignore_index where there are no data, in a type that holds it in every mask of the set."""
        ignore = self.rules.ignore_index
        if mask.dtype == np.uint8 and not 0 <= ignore <= 255:
            mask = mask.astype(np.int32)
        if void is not None:
            mask[void] = ignore
        return mask

    def _measured(self) -> tuple[Sequence[float], Sequence[float]]:
        some = next(some for some in self.pairs.values() if some)  # train, unless there is none
        return mean_and_std(_valid(*_image(one.image, self._layout, self._bands)) for one in even_sample(some, _IMAGES))


def _image(path: str, layout: Layout, bands: Bands) -> tuple[np.ndarray, np.ndarray | None]:
    stored, raster = geotiff_reading.pixels(path, layout)
    bands.check(raster.bands, raster.dtype, path)
    return bands(stored.values, raster.nodata, path, stored.valid)


def _valid(image: np.ndarray, void: np.ndarray | None) -> np.ndarray:
    """The pixels that have data, as one row; of an image without any, all."""
    return image if void is None or void.all() else image[~void][None]


def _same_place(one: Pair, raster: Raster) -> None:
    mask = geotiff_reading.grid(one.mask)
    if mask is None or raster.grid is None:
        return
    if None not in (mask.epsg, raster.grid.epsg) and mask.epsg != raster.grid.epsg:
        raise DataError(
            f"{one.mask} is in the reference system EPSG:{mask.epsg}, but its image {one.image} in EPSG:{raster.grid.epsg}; "
            "warp the one to the other's grid (gdalwarp -r near for the mask)."
        )
    shift = geotiff_grid.apart(raster.grid, mask, (raster.height, raster.width))
    if shift > _SHIFT:
        raise DataError(
            f"{one.mask} lies up to {shift:.4g} pixels beside its image {one.image}, as their coordinates say (shifted, "
            "flipped or of another resolution); warp the one to the other's grid (gdalwarp -r near for the mask)."
        )


def _scan(one: Pair, raster: Raster, mask: Header) -> Scan:
    """The headers as the rules of masks ask for them."""
    image = Header(raster.height, raster.width, raster.bands, raster.bands, False, raster.dtype, "tiff")
    return Scan(image, mask, (os.path.getsize(one.image), os.path.getsize(one.mask)))
