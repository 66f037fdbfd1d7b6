"""GDAL's virtual rasters: texts that name other files. Only the plain mosaics of gdalbuildvrt are let through to GDAL.

A VRT may also hold Python code, addresses to fetch from, paths to anywhere, and other VRTs (even inside a name). GDAL gets
no file but a text made anew from what was checked, so that it cannot find another meaning in the same names.
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
# To GDAL an attribute is as good as an element of its name, in upper or lower case: <SimpleSource sourcefilename="http://...">.
_ATTRIBUTES = {
    "rasterXSize", "rasterYSize", "RasterXSize", "RasterYSize", "dataType", "DataType", "band", "blockXSize", "blockYSize",
    "BlockXSize", "BlockYSize", "xOff", "yOff", "xSize", "ySize", "key", "domain", "format", "resampling", "relativeToVRT",
    "shared", "dataAxisToSRSAxisMapping", "coordinateEpoch",
}  # fmt: skip
_RASTERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cjP  ", b"EHFA_HEADER_TAG")  # TIFF, JPEG2000, IMG


def checked(path: str) -> str:
    """The text of a VRT with the whole paths of its rasters; DataError unless these lie beside it or below."""
    with open(path, "rb") as file:
        text = file.read()
    if b"<!" in re.sub(rb"<!--.*?-->", b"", text, flags=re.DOTALL):
        raise _refused(path, "has entities or a document type")
    mosaic = ET.fromstring(text)
    for part in mosaic.iter():
        if part.tag not in _PARTS:
            raise _refused(path, f"has a {visible(part.tag)}")
        odd = next((name for name in part.attrib if name not in _ATTRIBUTES), None)
        if odd is not None:
            raise _refused(path, f"has a {visible(part.tag)} with {visible(odd)}={visible(part.attrib[odd])}")
        if part.tag == "SourceFilename":
            if len(part):
                raise _refused(path, "has a SourceFilename with parts")
            part.text = _source(path, part.text or "", part.get("relativeToVRT") == "1")
            part.attrib.clear()
            part.set("relativeToVRT", "0")
    return ET.tostring(mosaic, encoding="unicode")


def _source(path: str, name: str, relative: bool) -> str:
    """The whole path of a raster that a VRT names."""
    if re.match(r"[^/\\]*:|[/\\]vsi", os.path.splitdrive(name)[1]):  # http://..., vrt://..., GTIFF_DIR:1:..., /vsicurl/...
        raise _refused(path, f"names {visible(name)}, which is no plain path,")
    if not relative and not os.path.isabs(name):
        raise _refused(path, f"names {visible(name)} relative to the folder that one stands in (relativeToVRT is not 1),")
    home = os.path.realpath(os.path.dirname(path))
    real = os.path.realpath(os.path.join(home, name))
    if not os.path.isfile(real) or os.path.commonpath([home, real]) != home:
        raise _refused(path, f"names {visible(name)}, which is no file beside it or below,")
    with open(real, "rb") as file:
        if not file.read(16).startswith(_RASTERS):
            raise _refused(path, f"names {visible(name)}, which is no TIFF, JP2 or IMG,")
    return real


def _refused(path: str, why: str) -> DataError:
    return DataError(f"{path} {why} and only mosaics as gdalbuildvrt writes them are read; store it as TIFF (gdal_translate).")
