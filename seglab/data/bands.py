"""From the stored values of a raster to what a network sees: chosen bands, scaled, and nothing where there is no data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from seglab.errors import ConfigError, DataError

_FULL = {"uint8": 255.0, "uint16": 65535.0}
_FLOATS = ("float16", "float32", "float64")
TYPES = (*_FULL, "int16", *_FLOATS)
# Numbers that stand for "no data" in files that forget to say so; no reflectance, elevation or backscatter is one of them.
_LIKELY = {-9999.0, -99999.0, -32768.0, float(np.finfo(np.float32).min), float(np.finfo(np.float64).min)}


@dataclass(frozen=True)
class Bands:
    """`bands` (from 1; None: all) divided by `divide` (None: uint8 stays, uint16 by 65535, floats as they are).

    `nodata` counts as missing, as do NaN and infinity: None believes the file, "none" takes every number for data. Missing
    values become `fill`, on the scale that the network sees (of uint8 images 0..1). ConfigError for what cannot be.
    """

    bands: tuple[int, ...] | None = None
    divide: float | None = None
    nodata: float | Literal["none"] | None = None
    fill: float = 0.0

    def __post_init__(self) -> None:
        if self.bands is not None and (not self.bands or min(self.bands) < 1):
            raise ConfigError(
                f"data.bands={list(self.bands)} must be numbers of bands from 1 on (as GDAL counts), at least one."
            )
        if self.divide is not None and not 0 < self.divide < math.inf:
            raise ConfigError(f"data.divide={self.divide} must be a number above 0, or null.")
        if isinstance(self.nodata, str) and self.nodata != "none":
            raise ConfigError(f"data.nodata='{self.nodata}' must be a number, null (as the file says) or none.")
        if not math.isfinite(self.fill):
            raise ConfigError(f"data.fill={self.fill} must be a number.")

    def check(self, stored: int, dtype: str, path: str) -> None:
        """Config- or DataError where a file of `stored` bands of this type cannot give what is asked."""
        if self.bands is not None and max(self.bands) > stored:
            raise ConfigError(
                f"data.bands={list(self.bands)}, but {path} has {stored} band{'s' * (stored > 1)}, counted from 1."
            )
        if dtype not in TYPES:
            raise DataError(f"{path} has pixels of type {dtype}; store it as uint8, uint16, int16 or float32.")
        if dtype == "int16" and self.divide is None:
            raise ConfigError(
                f"{path} has pixels of type int16, which have no scale of their own; set data.divide (1 = as they are)."
            )
        if dtype == "uint8" and self.divide is None and not 0 <= self.fill <= 1:
            raise ConfigError(
                f"data.fill={self.fill}, but {path} has pixels of type uint8, which mean 0..1; choose such a number."
            )

    def may_miss(self, dtype: str, tag: float | None, masked: bool = False) -> bool:
        """Whether a file of this type that states `tag` as missing, or has a mask of its own, can hold missing values."""
        return dtype in _FLOATS or self._missing(tag) is not None or (masked and self.nodata != "none")

    def __call__(
        self, stored: np.ndarray, tag: float | None, path: str, valid: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The image H W C, uint8 or float32, of stored H W C; and H W, true where no chosen band has data (None: nowhere).

        `valid` H W: the file's own mask of where there are data.
        """
        chosen = stored if self.bands is None else stored[..., [n - 1 for n in self.bands]]
        missing = self._missing(tag)
        if missing is None and self.nodata is None:
            self._refuse_unsaid(chosen, path)
        void: np.ndarray | None = self._void(chosen, missing)
        if valid is not None and self.nodata != "none":
            void = np.broadcast_to(~valid[..., None], chosen.shape) if void is None else void | ~valid[..., None]
        scale = self.divide or _FULL.get(stored.dtype.name, 1.0)
        if stored.dtype == np.uint8 and self.divide is None:
            image, fill = np.array(chosen, order="C"), float(round(self.fill * 255))
        else:
            with np.errstate(over="ignore"):
                image, fill = np.array(chosen, np.float32, order="C"), self.fill
            if scale != 1:
                image /= np.float32(scale)
            if stored.dtype.kind == "f":
                lost = ~np.isfinite(image)  # NaN and infinity, and what float32 cannot hold
                void = lost if void is None else void | lost
        if void is None or not void.any():
            return image, None
        image[void] = fill
        return image, np.asarray(void.all(-1))

    def _missing(self, tag: float | None) -> float | None:
        return tag if self.nodata is None else None if self.nodata == "none" else self.nodata

    def _void(self, chosen: np.ndarray, missing: float | None) -> Any:
        """Where the values are the missing one, as the file's own type rounds it; None where none can be."""
        if missing is None or not math.isfinite(missing):
            return None
        if chosen.dtype.kind != "f":
            limits = np.iinfo(chosen.dtype)
            return chosen == int(missing) if missing == int(missing) and limits.min <= missing <= limits.max else None
        with np.errstate(over="ignore"):
            return chosen == np.float64(missing).astype(chosen.dtype)

    def _refuse_unsaid(self, chosen: np.ndarray, path: str) -> None:
        if chosen.dtype.kind == "u" or not chosen.size:
            return
        low = float(np.fmin.reduce(chosen, axis=None))
        if low in _LIKELY:
            raise DataError(
                f"{path} holds {low:g}, which mostly stands for missing data, and does not say so; set data.nodata={low:g} "
                "(or none, if it is a measurement)."
            )
