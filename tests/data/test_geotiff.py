"""Rasters as satellites and aircraft bring them: the bands asked for, missing values nowhere, and masks in their image's place."""

import http.server
import logging
import sys
import threading

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seglab.data import geotiff_reading
from seglab.data.bands import Bands
from seglab.data.cache import cached
from seglab.data.converting import convert
from seglab.data.counting import class_counts
from seglab.data.folder import Folder
from seglab.data.geotiff import GeoTiff
from seglab.data.geotiff_grid import Grid, apart
from seglab.data.geotiff_reading import pixels, raster
from seglab.errors import ConfigError, DataError, SeglabError

RNG = np.random.default_rng(0)
SIZE = (12, 10)
NODATA, SCALE, TIE, KEYS = 42113, 33550, 33922, 34735
FORMS = {  # as GDAL and tifffile write them
    "contig": {"planarconfig": "contig"},
    "separate": {"planarconfig": "separate"},
    "tiled": {"planarconfig": "contig", "tile": (16, 16)},
    "tiled separate": {"planarconfig": "separate", "tile": (16, 16), "compression": "deflate"},
    "lzw": {"planarconfig": "contig", "compression": "lzw", "predictor": True},
    "deflate": {"planarconfig": "separate", "compression": "deflate", "predictor": True},
    "big-endian": {"planarconfig": "contig", "byteorder": ">"},
    "bigtiff": {"planarconfig": "contig", "bigtiff": True},
    "pages": {},
}


def tags(nodata=None, origin=None, pixel=10.0, point=False, epsg=32632):
    """GDAL's tags: the missing value as text, scale and tie point, and the directory of keys."""
    found = [] if nodata is None else [(NODATA, "s", 0, str(nodata), True)]
    if origin is not None:
        found += [(SCALE, "d", 3, (pixel, pixel, 0.0), True), (TIE, "d", 6, (0.0, 0.0, 0.0, *origin, 0.0), True)]
        keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 2 if point else 1, 3072, 0, 1, epsg)
        found.append((KEYS, "H", len(keys), keys, True))
    return found


def write(path, array, form="contig", **told):
    """An image H W C, with the tags asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = dict(FORMS[form])
    first = form in ("separate", "tiled separate", "deflate", "pages")
    stored = array[..., 0] if array.shape[2] == 1 else array.transpose(2, 0, 1) if first else array
    if array.shape[2] == 1:
        options.pop("planarconfig", None)
    tifffile.imwrite(
        path, np.ascontiguousarray(stored), photometric="minisblack", extratags=tags(**told), metadata=None, **options
    )


def mask(path, ids, **told):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(ids).save(path)
    else:
        tifffile.imwrite(path, ids, photometric="minisblack", extratags=tags(**told), metadata=None, compression="lzw")


def ids(size=SIZE, classes=3):
    found = RNG.integers(0, classes, size).astype(np.uint8)
    found.flat[:classes] = range(classes)
    return found


def dataset(root, images, masks=None, suffix=".tif", told=None, mask_told=None, form="contig"):
    """train/ with these images H W C, and val/ with the first of them."""
    masks = masks or [ids(image.shape[:2]) for image in images]
    for split, some in (("train", range(len(images))), ("val", [0])):
        for n in some:
            write(root / split / "images" / f"s{n}.tif", images[n], form, **(told or {}))
            mask(root / split / "masks" / f"s{n}{suffix}", masks[n], **(mask_told or {}))
    return masks


@settings(max_examples=60, deadline=None)
@given(form=st.sampled_from(sorted(FORMS)), kind=st.sampled_from(["uint8", "uint16", "int16", "float32", "float64"]),
       size=st.tuples(st.integers(2, 20), st.integers(2, 20)), channels=st.integers(1, 15), data=st.data())  # fmt: skip
def test_every_form_of_tiff_gives_the_bands_asked_for(tmp_path_factory, form, kind, size, channels, data):
    if form == "pages" and channels >= size[1]:
        return  # of pages nothing says which are bands
    array = (RNG.random((*size, channels)) * 100).astype(kind)
    path = tmp_path_factory.mktemp("t") / "a.tif"
    write(path, array, form)
    (stored, valid), said = pixels(str(path))
    assert valid is None
    np.testing.assert_array_equal(stored, array)
    assert (said.height, said.width, said.bands, said.dtype) == (*size, channels, kind)
    assert raster(str(path)) == said
    chosen = data.draw(st.lists(st.integers(1, channels), min_size=1, max_size=4))
    image, void = Bands(tuple(chosen), divide=7.0)(stored, None, "a")
    assert void is None
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    expected = np.stack([array[..., n - 1].astype(np.float32) / np.float32(7) for n in chosen], -1)
    np.testing.assert_array_equal(image, expected)


def test_layout_is_what_the_user_says_where_nothing_else_does(tmp_path):
    array = RNG.integers(0, 99, (13, 8, 8)).astype(np.uint16)  # 13 bands of 8 x 8: larger than the sides
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    at = str(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels(at, "first")[0].values, array.transpose(1, 2, 0))
    np.testing.assert_array_equal(pixels(at, "last")[0].values, array)
    assert pixels(at)[0].values.shape == (13, 8, 8)  # the smaller side, as the docs say
    write(tmp_path / "b.tif", array.transpose(1, 2, 0), "separate")  # here the file says it
    np.testing.assert_array_equal(pixels(str(tmp_path / "b.tif"))[0].values, array.transpose(1, 2, 0))


def test_values_are_scaled_as_said():
    made = lambda kind, **more: Bands(**more)(np.array([[[0, 100]]], kind), None, "a")[0]  # noqa: E731
    assert made("uint8").dtype == np.uint8
    assert made("uint8").tolist() == [[[0, 100]]]
    np.testing.assert_allclose(made("uint16"), [[[0, 100 / 65535]]], rtol=1e-6)
    np.testing.assert_allclose(made("float32"), [[[0, 100]]])
    for kind in ("uint8", "uint16", "int16", "float16", "float32", "float64"):
        np.testing.assert_allclose(made(kind, divide=10000), [[[0, 0.01]]], rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["uint8", "uint16", "int16", "float16", "float32", "float64"]), data=st.data(),
       how=st.sampled_from(["tag", "told", "nan"]), bands=st.sampled_from([None, (1,), (3, 1)]), fill=st.sampled_from([0.0, 0.5]))  # fmt: skip
def test_missing_values_never_get_through(kind, data, how, bands, fill):
    missing = {
        "uint8": 0,
        "uint16": 65535,
        "int16": -9999,
        "float16": -60000,
        "float32": -3.4028234663852886e38,
        "float64": -9999,
    }[kind]
    if how == "nan":
        if kind[0] != "f":
            return
        missing = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    stored = RNG.integers(1, 200, (6, 5, 3)).astype(kind)
    gone = RNG.random((6, 5, 3)) < 0.3
    gone[0, 0], gone[1, 1] = True, False
    stored[gone] = missing
    divide = None if kind in ("uint8", "float32") else 100.0
    asked = Bands(bands, divide, missing if how == "told" else None, fill)
    image, void = asked(stored, missing if how == "tag" else None, "a")
    chosen = gone if bands is None else gone[..., [b - 1 for b in bands]]
    np.testing.assert_array_equal(void, chosen.all(-1))
    assert np.isfinite(image).all()
    assert np.unique(image[chosen]).tolist() == [round(fill * 255) if kind == "uint8" else np.float32(fill)]
    kept = stored if bands is None else stored[..., [b - 1 for b in bands]]
    np.testing.assert_allclose(image[~chosen], kept[~chosen].astype(np.float32) / (divide or 1), rtol=1e-3)


@pytest.mark.parametrize("value", [-9999, -32768, float(np.finfo(np.float32).min)])
def test_a_likely_missing_value_that_nobody_declared_is_refused(value):
    stored = np.array([[[1.0], [value]]], np.float32)
    with pytest.raises(DataError, match=r"a\.tif holds -.* set data\.nodata=-") as error:
        Bands()(stored, None, "a.tif")
    assert "\n" not in str(error.value)
    assert Bands(nodata="none")(stored, None, "a.tif")[0].min() == np.float32(value)
    assert Bands(nodata=value)(stored, None, "a.tif")[1].tolist() == [[False, True]]


def test_sentinel_tiles_of_13_bands(tmp_path):
    images = [RNG.integers(1, 10000, (*SIZE, 13)).astype(np.uint16) for _ in range(3)]
    images[1][2, 3] = 0
    masks = dataset(
        tmp_path, images, told={"nodata": 0, "origin": (600000, 5e6)}, mask_told={"origin": (600000, 5e6)}, form="deflate"
    )
    source = GeoTiff(tmp_path, bands=[4, 3, 2], divide=10000, classes=["a", "b", "c"])
    sample = source.load("train", 1)
    assert source.spec.channels == 3
    assert sample["mask"][2, 3] == source.spec.ignore_index == 255
    np.testing.assert_allclose(np.delete(sample["image"].reshape(-1, 3), 2 * 10 + 3, 0),
                               np.delete(images[1][..., [3, 2, 1]].reshape(-1, 3), 2 * 10 + 3, 0) / 10000, rtol=1e-6)  # fmt: skip
    assert sample["image"][2, 3].tolist() == [0, 0, 0]
    expected = masks[1].copy()
    expected[2, 3] = 255
    np.testing.assert_array_equal(sample["mask"], expected)
    np.testing.assert_array_equal(source.load_mask("train", 1), expected)
    all_pixels = np.concatenate([i.reshape(-1, 13)[i.reshape(-1, 13).any(1)][:, [3, 2, 1]] for i in images]) / 10000
    np.testing.assert_allclose(source.spec.mean, all_pixels.mean(0), rtol=1e-4)  # missing pixels do not pull it down
    assert class_counts(source, "train").pixels == [
        sum(int((m == k).sum()) for m in [masks[0], expected, masks[2]]) for k in range(3)
    ]
    for cached_too in (source, cached(source, "disk", str(tmp_path / "kept"))):
        np.testing.assert_array_equal(cached_too.load("val", 0)["mask"], masks[0])


def test_naip_tiles_stay_bytes(tmp_path):
    images = [RNG.integers(0, 255, (*SIZE, 4)).astype(np.uint8) for _ in range(2)]
    dataset(tmp_path, images, suffix=".png", form="tiled")
    source = GeoTiff(tmp_path)
    assert source.load("train", 0)["image"].dtype == np.uint8
    np.testing.assert_array_equal(source.load("train", 1)["image"], images[1])
    assert source.spec.channels == 4


def test_radar_with_holes(tmp_path):
    images = [RNG.normal(-12, 4, (*SIZE, 2)).astype(np.float32) for _ in range(2)]
    images[0][:3] = np.nan
    images[0][5, 5, 0] = -np.inf  # log10(0)
    masks = dataset(tmp_path, images, form="separate")
    source = GeoTiff(tmp_path, fill=-25)
    sample = source.load("train", 0)
    assert np.isfinite(sample["image"]).all()
    assert (sample["mask"][:3] == 255).all()
    assert sample["mask"][5, 5] == masks[0][5, 5]  # the other band has data there
    assert sample["image"][5, 5, 0] == sample["image"][0, 0, 1] == -25
    assert np.isfinite(source.spec.mean).all()
    assert abs(source.spec.mean[1] + 12) < 2


@pytest.mark.parametrize(("ignore", "kind"), [(None, np.uint8), (7, np.uint8), (-1, np.int32), (1000, np.int32)])
def test_missing_data_count_nowhere_whatever_the_ignore_id(tmp_path, ignore, kind):
    images = [RNG.random((*SIZE, 2), np.float32) for _ in range(2)]
    images[0][4] = np.nan
    dataset(tmp_path, images)
    source = GeoTiff(tmp_path, ignore_index=ignore, classes=["a", "b", "c"])
    for index in (0, 1):
        assert source.load("train", index)["mask"].dtype == kind
    assert (source.load("train", 0)["mask"] == source.spec.ignore_index).sum() == SIZE[1]
    assert (source.load_mask("train", 0)[4] == source.spec.ignore_index).all()


def test_objects_are_converted(tmp_path):
    images = [RNG.integers(1, 250, (*SIZE, 4)).astype(np.uint8) for _ in range(2)]
    images[0][:2] = 0
    dataset(tmp_path / "d", images, [ids(classes=6), ids(classes=100)], told={"nodata": 0})
    source = GeoTiff(tmp_path / "d", foreground=True)
    done = convert(source, tmp_path / "plain")
    assert (done.settings, done.lost) == (("data.foreground=true",), ())
    ours = Folder(tmp_path / "plain", foreground=True)
    assert ours.spec.instances
    for n in range(2):
        a, b = ours.load("train", n), source.load("train", n)
        np.testing.assert_array_equal(a["mask"], b["mask"])
        inside = b["mask"] == 1
        np.testing.assert_array_equal(a["instances"] > 0, b["instances"] > 0)
        pairs = set(zip(a["instances"][inside].tolist(), b["instances"][inside].tolist(), strict=True))
        assert len({x for x, _ in pairs}) == len({y for _, y in pairs}) == len(pairs)


def test_objects_and_channels_of_classes_lose_what_has_no_data(tmp_path):
    images = [RNG.random((*SIZE, 2), np.float32) for _ in range(2)]
    images[0][:2] = np.nan
    found = np.zeros(SIZE, np.uint8)
    found[1:4], found[6:9] = 1, 2
    dataset(tmp_path / "o", images, [found, found])
    sample = GeoTiff(tmp_path / "o", foreground=True).load("train", 0)
    assert sorted(np.unique(sample["instances"])) == [0, 1, 2]
    assert (sample["instances"][:2] == 0).all()
    layers = RNG.integers(0, 2, (*SIZE, 4)).astype(np.uint8)
    for split in ("train", "val"):
        for n, image in enumerate(images):
            write(tmp_path / "m" / split / "images" / f"{n}.tif", image)
            write(tmp_path / "m" / split / "masks" / f"{n}.tif", layers)
    source = GeoTiff(tmp_path / "m", mode="multilabel")
    assert (source.load("train", 0)["mask"][:2] == source.spec.ignore_index).all()
    np.testing.assert_array_equal(source.load("train", 0)["mask"][2:], layers[2:])


def masked(path, image, valid):
    """An image H W C with GDAL's internal mask (a page marked by bit 4 of NewSubfileType), and an overview of both."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as file:
        file.write(image[..., 0] if image.shape[2] == 1 else image, photometric="minisblack", metadata=None, **({} if image.shape[2] == 1 else {"planarconfig": "contig"}))  # fmt: skip
        for kind, page in ((1, image[::2, ::2, 0]), (5, np.ones_like(valid[::2, ::2])), (4, valid)):
            file.write(page, photometric="minisblack", subfiletype=kind, metadata=None, compression="deflate")


@pytest.mark.parametrize("bands", [1, 3, 13])
def test_a_mask_inside_the_file_says_where_there_are_no_data(tmp_path, bands):
    image = RNG.integers(1, 250, (*SIZE, bands)).astype(np.uint8)
    valid = np.ones(SIZE, bool)
    valid[:3], valid[7, 4] = False, False
    for split in ("train", "val"):
        masked(tmp_path / split / "images/a.tif", image, valid)
        mask(tmp_path / split / "masks/a.tif", ids())
    source = GeoTiff(tmp_path, fill=1.0)
    sample = source.load("train", 0)
    assert sample["image"].shape == image.shape
    np.testing.assert_array_equal(sample["mask"] == source.spec.ignore_index, ~valid)
    np.testing.assert_array_equal(source.load_mask("train", 0), sample["mask"])
    np.testing.assert_array_equal(sample["image"], np.where(valid[..., None], image, 255))
    np.testing.assert_array_equal(GeoTiff.reader(fill=1.0)(str(tmp_path / "train/images/a.tif")), sample["image"])
    everything = GeoTiff(tmp_path, nodata="none")
    np.testing.assert_array_equal(everything.load("train", 0)["image"], image)
    assert (everything.load_mask("train", 0) != everything.spec.ignore_index).all()


def test_a_mask_inside_the_file_that_broke_off_is_found_at_once(tmp_path):
    masked(tmp_path / "a.tif", np.ones((64, 64, 1), np.uint8), RNG.integers(0, 2, (64, 64)).astype(bool))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        at = file.pages[3].dataoffsets[0]
    whole = (tmp_path / "a.tif").read_bytes()
    raster(str(tmp_path / "a.tif"))
    (tmp_path / "a.tif").write_bytes(whole[: at + 20])
    with pytest.raises(DataError, match=r"a\.tif cannot be read"):
        raster(str(tmp_path / "a.tif"))


@pytest.mark.parametrize("code", [6, 7, 33003, 33004, 33005, 34712, 50001, 50002, 52546])
def test_masks_whose_compression_changes_ids_are_refused(tmp_path, code):
    dataset(tmp_path, [RNG.integers(1, 99, (16, 16, 2)).astype(np.uint8)])
    at = tmp_path / "train/masks/s0.tif"
    with tifffile.TiffFile(at, mode="r+") as file:
        file.pages.first.tags["Compression"].overwrite(code)
    with pytest.raises(DataError, match=r"train/masks/s0\.tif is a TIFF compressed as JPEG .* as PNG"):
        GeoTiff(tmp_path, classes=["a", "b", "c"])


def test_opening_a_file_says_nothing_but_others_are_heard(tmp_path, caplog):
    dataset(tmp_path, [RNG.random((*SIZE, 2), np.float32)] * 2, told={"nodata": "-3.4028235e+38"})  # of which tifffile warns
    source = GeoTiff(tmp_path)
    source.load("train", 0)
    assert not [one for one in caplog.records if one.name == "tifffile"]
    logging.getLogger("tifffile").warning("of a notebook's own reading")
    assert "notebook's own" in caplog.text


# Where files lie.


@settings(max_examples=80, deadline=None)
@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.1, 100), st.booleans())
def test_a_shift_is_told_in_pixels(columns, rows, pixel, flipped):
    image = Grid((pixel, 0, 1000, 0, -pixel, 2000))
    moved = Grid((pixel, 0, 1000 + columns * pixel, 0, -pixel, 2000 + rows * pixel))
    assert apart(image, moved, (50, 40)) == pytest.approx(max(abs(columns), abs(rows)), abs=1e-6)
    if flipped:
        assert apart(image, Grid((pixel, 0, 1000, 0, pixel, 2000 - 50 * pixel)), (50, 40)) == pytest.approx(50)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"origin": (1010, 2000)}, "lies up to 1 pixels beside"), ({"origin": (1000, 1994)}, "0.6 pixels"), ({"origin": (1000, 2000), "pixel": 20.0}, "12 pixels"),
        ({"origin": (1000, 2000), "epsg": 32633}, "EPSG:32633"), ({"origin": (1000, 2000), "point": True}, None), ({"origin": (1004, 2000)}, None), ({}, None),
    ],
)  # fmt: skip
def test_masks_beside_their_images_are_refused(tmp_path, told, words):
    dataset(tmp_path, [RNG.random((*SIZE, 2), np.float32)] * 2, told={"origin": (1000, 2000)}, mask_told=told)
    if words is None:
        assert len(GeoTiff(tmp_path).ids("train")) == 2
        return
    with pytest.raises(DataError, match=words) as error:
        GeoTiff(tmp_path)
    assert "masks/s0.tif" in str(error.value)
    assert "images/s0.tif" in str(error.value)


def test_pixels_as_points_lie_half_a_pixel_elsewhere(tmp_path):
    write(tmp_path / "area.tif", np.zeros((*SIZE, 1), np.uint8), origin=(1000, 2000))
    write(tmp_path / "point.tif", np.zeros((*SIZE, 1), np.uint8), origin=(1005, 1995), point=True)
    area, point = (raster(str(tmp_path / name)).grid for name in ("area.tif", "point.tif"))
    assert area == point == Grid((10, 0, 1000, 0, -10, 2000), 32632)


# Mistakes.


@pytest.mark.parametrize(
    ("asked", "kind", "words"),
    [
        ({"bands": [0, 1]}, "uint8", "from 1 on"), ({"bands": []}, "uint8", "at least one"), ({"bands": [4, 3, 9]}, "uint8", "has 4 bands"),
        ({"divide": 0}, "uint8", "above 0"), ({}, "int16", r"data.divide \(1 ="), ({}, "uint32", "uint32; store it"), ({}, "complex64", "complex64; store it"),
        ({"nodata": "nothing"}, "uint8", "null"), ({"fill": 3}, "uint8", "0..1"), ({"fill": float("nan")}, "uint8", "must be a number"),
        ({"mean": [0.5]}, "uint8", "belong together"), ({"root": None}, "uint8", "data=geotiff data.root=DIR"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_one_sentence(tmp_path, asked, kind, words):
    dataset(tmp_path, [RNG.integers(1, 99, (*SIZE, 4)).astype(kind)] * 2)
    with pytest.raises(SeglabError, match=words) as error:
        GeoTiff(**{"root": tmp_path, **asked})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: write(root / "train/images/s1.tif", np.zeros((*SIZE, 3), np.uint8)), "4 bands and .*s1.tif has 3"),
        (lambda root: write(root / "train/images/s1.tif", np.zeros((*SIZE, 4), np.uint16)), "uint8 and .*s1.tif of type uint16"),
        (lambda root: write(root / "train/images/s1.tif", np.zeros((9, 9, 4), np.uint8)), "s1.tif is 12 x 10 .* 9 x 9"),
        (lambda root: (root / "train/images/s1.tif").write_bytes((root / "train/images/s0.tif").read_bytes()[:-200]), "s1.tif cannot be read"),
        (lambda root: (root / "train/images/s1.tif").write_bytes(b"not a tiff"), "s1.tif cannot be read"),
        (lambda root: (root / "train/masks/s1.tif").unlink(), "s1.tif has no mask"),
        (lambda root: mask(root / "train/masks/s1.tif", np.full(SIZE, 77, np.uint8)), "s1.tif holds the id 77"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_named(tmp_path, spoil, words):
    dataset(tmp_path, [RNG.integers(1, 99, (*SIZE, 4)).astype(np.uint8)] * 2)
    spoil(tmp_path)
    with pytest.raises(DataError, match=words) as error:
        GeoTiff(tmp_path, classes=["a", "b", "c"])
    assert "\n" not in str(error.value)


def test_the_log_says_what_the_files_call_missing(tmp_path, caplog):
    dataset(tmp_path, [RNG.integers(1, 99, (*SIZE, 2)).astype(np.uint8)] * 2, told={"nodata": 0})
    with caplog.at_level(logging.INFO, "seglab"):
        GeoTiff(tmp_path)
    assert "say that 0 is no data" in caplog.text


def test_the_fingerprint_follows_what_is_seen(tmp_path):
    dataset(tmp_path, [RNG.integers(1, 99, (*SIZE, 4)).astype(np.uint8)] * 2)
    asked = [
        {},
        {"bands": [1, 2]},
        {"bands": [2, 1]},
        {"divide": 2},
        {"nodata": 5},
        {"fill": 0.5},
        {"classes": ["a", "b", "c", "d"]},
    ]
    prints = [GeoTiff(tmp_path, **one).fingerprint() for one in asked]
    assert len(set(prints)) == len(asked)
    assert GeoTiff(tmp_path).fingerprint() == prints[0]


def test_images_without_masks_are_read_alike(tmp_path):
    dataset(tmp_path, [RNG.integers(1, 9999, (*SIZE, 5)).astype(np.int16)] * 2)
    asked = {"bands": [5, 1], "divide": 10000.0, "nodata": 3.0}
    read = GeoTiff.reader(**asked, root="elsewhere", classes=None)
    sample = GeoTiff(tmp_path, **asked).load("train", 0)
    np.testing.assert_array_equal(read(str(tmp_path / "train/images/s0.tif")), sample["image"])


# rasterio, where it is installed.


@pytest.fixture
def rasterio():
    return pytest.importorskip("rasterio", reason="rasterio is not installed (pip install 'seglab[geo]')")


def georeferenced(rasterio, path, array, driver, left=1000.0, **more):
    from rasterio.transform import from_origin

    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "driver": driver,
        "height": array.shape[0],
        "width": array.shape[1],
        "count": array.shape[2],
        "dtype": array.dtype.name,
    }
    with rasterio.open(path, "w", **about, crs="EPSG:32632", transform=from_origin(left, 2000.0, 10.0, 10.0), **more) as file:
        file.write(array.transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", [".tif", ".jp2", ".img"])
def test_gdal_files_are_read_and_placed(tmp_path, rasterio, suffix):
    driver, more = {".tif": ("COG", {"compress": "deflate"}), ".jp2": ("JP2OpenJPEG", {"QUALITY": "100", "REVERSIBLE": "YES"}),
                    ".img": ("HFA", {})}[suffix]  # fmt: skip
    array = RNG.integers(1, 9999, (40, 30, 4)).astype(np.uint16)
    for split in ("train", "val"):
        georeferenced(rasterio, tmp_path / split / "images" / f"a{suffix}", array, driver, **more)
        georeferenced(rasterio, tmp_path / split / "masks" / "a.tif", ids((40, 30))[..., None], "GTiff", compress="lzw")
    source = GeoTiff(tmp_path, bands=[4, 1], divide=10000)
    np.testing.assert_allclose(source.load("train", 0)["image"], array[..., [3, 0]] / 10000, rtol=1e-6)
    assert raster(str(tmp_path / "train/images" / f"a{suffix}")).grid == Grid((10, 0, 1000, 0, -10, 2000), 32632)
    georeferenced(rasterio, tmp_path / "train/masks/a.tif", ids((40, 30))[..., None], "GTiff", left=1010.0)
    with pytest.raises(DataError, match="1 pixels beside"):
        GeoTiff(tmp_path)


def test_both_readers_say_the_same(tmp_path, rasterio):
    array = RNG.normal(0, 1, (33, 47, 5)).astype(np.float32)
    georeferenced(rasterio, tmp_path / "a.tif", array, "GTiff", nodata=-5.5, tiled=True, blockxsize=16, blockysize=16,
                  compress="lzw", predictor=3, interleave="band")  # fmt: skip
    at = str(tmp_path / "a.tif")
    ours, theirs = geotiff_reading._by_tifffile(at, "auto", True), geotiff_reading._by_rasterio(at, True)
    assert ours[1] == theirs[1]
    np.testing.assert_array_equal(ours[0].values, array)
    np.testing.assert_array_equal(theirs[0].values, array)


def test_rasterio_reads_what_tifffile_cannot(tmp_path, rasterio, monkeypatch):
    array = RNG.integers(0, 99, (*SIZE, 3)).astype(np.uint8)
    write(tmp_path / "a.tif", array)

    def fail(*_):
        raise ValueError("no codec")

    monkeypatch.setattr(geotiff_reading.reading_tiff, "pixels", fail)
    np.testing.assert_array_equal(pixels(str(tmp_path / "a.tif"))[0].values, array)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(DataError, match="no codec"):
        pixels(str(tmp_path / "a.tif"))
    with pytest.raises(DataError, match=r"b\.jp2 needs rasterio.*seglab\[geo\]"):
        pixels(str(tmp_path / "b.jp2"))


VRT = """<VRTDataset rasterXSize="10" rasterYSize="12"><VRTRasterBand dataType="Byte" band="1"{more}>
<SimpleSource><SourceFilename relativeToVRT="1">{source}</SourceFilename><SourceBand>2</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""


def test_a_vrt_reads_what_lies_beside_it_and_runs_nothing(tmp_path, rasterio):
    array = RNG.integers(0, 99, (*SIZE, 3)).astype(np.uint8)
    home = tmp_path / "home"
    for place in (tmp_path / "out.tif", home / "in.tif"):
        write(place, array)

    def vrt(source, more=""):
        (home / "a.vrt").write_text(VRT.format(source=source, more=more))
        return str(home / "a.vrt")

    np.testing.assert_array_equal(pixels(vrt("in.tif"))[0].values, array[..., 1:2])
    (home / "hidden.tif").write_text(VRT.format(source="../out.tif", more=""))
    (home / "link.tif").symlink_to(tmp_path / "out.tif")
    outside = ["../out.tif", str(tmp_path / "out.tif"), "/vsicurl/http://127.0.0.1:9/a.tif", "hidden.tif", "link.tif", "GTIFF_DIR:1:../out.tif",
               "&lt;VRTDataset/&gt;", "a.vrt", "."]  # fmt: skip
    for source in outside:
        with pytest.raises(DataError, match=r"a\.vrt names .*gdal_translate") as error:
            pixels(vrt(source))
        assert "\n" not in str(error.value)
    code = f"<PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionType>f</PixelFunctionType><PixelFunctionCode>import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()</PixelFunctionCode>"
    derived = VRT.format(source="in.tif", more=' subClass="VRTDerivedRasterBand"').replace(
        "<SimpleSource>", f"{code}<SimpleSource>", 1
    )
    for text in (
        derived,
        derived.replace(' subClass="VRTDerivedRasterBand"', ""),
        "<!DOCTYPE x>" + VRT.format(source="in.tif", more=""),
        "<VRT",
        "",
    ):
        (home / "a.vrt").write_text(text)
        with pytest.raises(DataError, match=r"a\.vrt"):
            pixels(str(home / "a.vrt"))
    assert not (tmp_path / "ran").exists()


def test_gdal_finds_no_other_meaning_in_the_names_of_a_vrt(tmp_path, rasterio, monkeypatch):
    home, secret = tmp_path / "home", np.full((*SIZE, 3), 77, np.uint8)
    asked = []

    class Served(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

    server = http.server.HTTPServer(("127.0.0.1", 0), Served)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/x.tif"
    own = RNG.integers(0, 70, (*SIZE, 3)).astype(np.uint8)
    write(tmp_path / "cwd/sub/a.tif", secret)
    write(tmp_path / "out.tif", secret)
    # Each of these names is a file below the VRT's folder, too.
    connected = f"vrt://{tmp_path}/out.tif?bands=2"
    for name in ("sub/a.tif", address, connected):
        write(home / name.replace("//", "/"), own)
    monkeypatch.chdir(tmp_path / "cwd")

    def read(source, relative, more=""):
        text = VRT.format(source=source.replace("&", "&amp;"), more="").replace(
            'relativeToVRT="1"', f'relativeToVRT="{relative}"'
        )
        (home / "a.vrt").write_text(text.replace("<SimpleSource>", f"<SimpleSource{more}>"))
        return pixels(str(home / "a.vrt"))[0].values

    try:
        for source in (address, connected):
            for relative in (0, 1):
                with pytest.raises(DataError, match=r"a\.vrt names .*no plain path"):
                    read(source, relative)
        with pytest.raises(DataError, match="relative to the folder that one stands in"):
            read("sub/a.tif", 0)
        for more in (f' SourceFilename="{address}"', f' sourcefilename="{address}"', ' subclass="VRTDerivedRasterBand"'):
            with pytest.raises(DataError, match=r"a\.vrt has a SimpleSource with"):
                read("sub/a.tif", 1, more)
        np.testing.assert_array_equal(read("sub/a.tif", 1), own[..., 1:2])
        np.testing.assert_array_equal(read(str(home / "sub/a.tif"), 0), own[..., 1:2])
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []


def test_both_readers_see_the_mask_inside_a_file_and_none_beside_it(tmp_path, rasterio):
    array = RNG.integers(1, 99, (33, 47, 3)).astype(np.uint8)
    valid = RNG.integers(0, 2, (33, 47)).astype(bool)
    for inside in (True, False):
        at = tmp_path / f"{inside}.tif"
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside):
            georeferenced(rasterio, at, array, "GTiff")
            with rasterio.open(at, "r+") as file:
                file.write_mask(valid)
        assert at.with_name(f"{inside}.tif.msk").exists() == (not inside)
        for found, said in (geotiff_reading._by_tifffile(str(at), "auto", True), geotiff_reading._by_rasterio(str(at), True)):
            np.testing.assert_array_equal(found.values, array)
            assert said.masked == inside
            if inside:
                np.testing.assert_array_equal(found.valid, valid)
            else:
                assert found.valid is None


def test_a_tiff_by_name_alone_is_not_opened_by_another_driver(tmp_path, rasterio):
    write(tmp_path / "in.tif", np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / "a.tif").write_text(VRT.format(source="in.tif", more=""))
    with pytest.raises(DataError, match=r"a\.tif cannot be read"):
        pixels(str(tmp_path / "a.tif"))


@pytest.mark.slow
def test_a_network_is_trained_on_it(train, tmp_path):
    images = [RNG.integers(1, 9999, (32, 32, 13)).astype(np.uint16) for _ in range(4)]
    images[0][:8] = 0
    dataset(tmp_path / "d", images, told={"nodata": 0})
    done = train("data=geotiff", f"data.root={tmp_path / 'd'}", "data.bands=[4,3,2]", "data.divide=10000", "model=tiny",
                 "data.batch_size=2", "data.num_workers=0", "trainer.max_epochs=1", "trainer.accelerator=cpu", "logger=none", "pictures=0", tiny=False)  # fmt: skip
    assert done["status"] == "finished"
    assert done["data"]["name"] == "d"
    from seglab import checkpoint
    from seglab.engine.predicting import predict

    saved = checkpoint.load(str(done["run"] / "checkpoints" / "best.ckpt"))
    written = predict(saved, saved.config, tmp_path / "d/val/images", tmp_path / "out")
    assert [path.name for path in written] == ["s0.png"]


def test_predict_and_train_read_alike(tmp_path):
    from seglab.config import load, plain
    from seglab.engine import assemble
    from seglab.engine.predicting import find_images

    dataset(tmp_path, [RNG.integers(1, 9999, (*SIZE, 5)).astype(np.uint16)] * 2)
    config = plain(load(["data=geotiff", f"data.root={tmp_path}", "data.bands=[5,1]", "data.divide=10000", "data.nodata=none"]))
    expected = assemble.source(config).load("train", 0)["image"]
    read, suffixes = assemble.reader(config)
    np.testing.assert_array_equal(read(str(tmp_path / "train/images/s0.tif")), expected)
    for name in ("a.jp2", "b.VRT", "c.img", "d.tiff", "e.txt"):
        (tmp_path / "others" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "others" / name).touch()
    assert [name for name, _ in find_images(tmp_path / "others", suffixes)] == ["a", "b", "c", "d"]
    with pytest.raises(ConfigError, match="has none"):
        assemble.source({**config, "data": {**config["data"], "reduced_jpeg": True, "scale": 0.5}})


def test_readers_and_settings_are_those_of_the_yaml():
    import inspect

    names = set(inspect.signature(GeoTiff.reader).parameters) - {"_"}
    assert names == {"bands", "layout", "divide", "nodata", "fill"} <= set(inspect.signature(GeoTiff).parameters)
    with pytest.raises(ConfigError, match="from 1 on"):
        GeoTiff.reader(bands=[0])
