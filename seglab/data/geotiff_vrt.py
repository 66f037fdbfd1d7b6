"""GDAL's virtual rasters: texts that name other files. Only the plain mosaics of gdalbuildvrt are let through to GDAL.

A VRT may also hold Python code, addresses to fetch from, paths to anywhere, and other VRTs (even inside a name).
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET

from seglab.errors import DataError, visible

_PARTS = {
    "VRTDataset", "SRS", "GeoTransform", "Metadata", "MDI", "VRTRasterBand", "ColorInterp", "NoDataValue", "HideNoDataValue",
    "Description", "SimpleSource", "ComplexSource", "SourceFilename", "SourceBand", "SourceProperties", "SrcRect", "DstRect",
    "NODATA", "Scale", "Offset", "UnitType", "BlockXSize", "BlockYSize", "OverviewList", "ScaleOffset", "ScaleRatio",
    "UseMaskBand",
}  # fmt: skip
_RASTERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cjP  ", b"EHFA_HEADER_TAG")  # TIFF, JPEG2000, IMG


def check(path: str) -> None:
    """DataError unless a VRT is a mosaic of rasters that lie beside it or below."""
    with open(path, "rb") as file:
        text = file.read()
    if b"<!" in re.sub(rb"<!--.*?-->", b"", text, flags=re.DOTALL):
        raise _refused(path, "has entities or a document type")
    for part in ET.fromstring(text).iter():
        if part.tag not in _PARTS or "subClass" in part.attrib:
            raise _refused(path, f"has a {visible(part.tag)} {visible(part.get('subClass', ''))}".rstrip())
        if part.tag == "SourceFilename":
            _check_source(path, part.text or "")


def _check_source(path: str, name: str) -> None:
    home = os.path.realpath(os.path.dirname(path))
    real = os.path.realpath(os.path.join(home, name))
    if not os.path.isfile(real) or os.path.commonpath([home, real]) != home:
        raise _refused(path, f"names {visible(name)}, which is no file beside it or below,")
    with open(real, "rb") as file:
        if not file.read(16).startswith(_RASTERS):
            raise _refused(path, f"names {visible(name)}, which is no TIFF, JP2 or IMG,")


def _refused(path: str, why: str) -> DataError:
    return DataError(f"{path} {why} and only mosaics as gdalbuildvrt writes them are read; store it as TIFF (gdal_translate).")
