"""Every format a user may bring comes out with the right pixels, or as one sentence that names the file."""

import io

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seglab.data.folder_scan import scan_pair
from seglab.data.layout import Pair
from seglab.data.reading import read_header, read_image, read_mask
from seglab.errors import DataError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 5, 3), np.uint8)
IDS = RNG.integers(0, 4, (7, 5)).astype(np.uint8)


def save(path, array, mode=None, **options):
    Image.fromarray(array, mode).save(path, **options)
    return str(path)


@pytest.mark.parametrize(
    ("suffix", "channels"), [("png", 1), ("png", 3), ("png", 4), ("bmp", 1), ("bmp", 3), ("tif", 1), ("tif", 3), ("tif", 4)]
)
def test_lossless_8_bit_images_come_back_as_stored(tmp_path, suffix, channels):
    array = RNG.integers(0, 256, (7, 5, channels), np.uint8)
    path = save(tmp_path / f"a.{suffix}", array.squeeze())
    np.testing.assert_array_equal(read_image(path), array)
    header = read_header(path)
    assert header[:3] == (7, 5, channels)
    assert header.dtype == "uint8"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_png_is_scaled_and_keeps_the_order_of_its_channels(tmp_path, channels):
    array = RNG.integers(0, 65536, (7, 5, channels)).astype(np.uint16)
    stored = array if channels == 1 else array[..., [2, 1, 0, 3][:channels]]  # OpenCV writes BGR
    cv2.imwrite(str(tmp_path / "a.png"), stored)
    image = read_image(str(tmp_path / "a.png"))
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, array / 65535, atol=1e-7)
    assert read_header(str(tmp_path / "a.png")).dtype == "uint16"


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9),
    st.booleans(),
    st.sampled_from(["uint8", "uint16", "float32", "float64"]),
    st.sampled_from([None, "lzw", "zlib"]),
)
def test_tiff_channels_first_or_last(tmp_path_factory, channels, first, dtype, compression):
    array = (RNG.random((11, 13, channels)) * 200).astype(dtype)
    path = str(tmp_path_factory.mktemp("t") / "a.tif")
    stored = array.squeeze() if channels == 1 else array.transpose(2, 0, 1) if first else array
    tifffile.imwrite(path, stored, photometric="minisblack", compression=compression)
    image = read_image(path)
    expected = array.astype(np.float32) / 65535 if dtype == "uint16" else array
    assert image.dtype == (np.uint8 if dtype == "uint8" else np.float32)
    np.testing.assert_allclose(image, expected, rtol=1e-6)
    assert read_header(path)[:4] == (11, 13, channels, channels)


def test_jpeg_is_rgb_and_ignores_exif_orientation(tmp_path):
    flat = np.zeros((16, 8, 3), np.uint8)
    flat[:] = (200, 30, 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees to show"
    path = save(tmp_path / "a.jpg", flat, exif=exif, quality=95)
    assert np.abs(read_image(path).astype(int) - flat).max() < 8
    assert read_header(path)[:2] == (16, 8)


def test_grey_jpeg_has_one_channel_and_cmyk_becomes_rgb(tmp_path):
    grey = save(tmp_path / "a.jpg", RGB[..., 0])
    assert read_image(grey).shape == (7, 5, 1)
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "b.jpg")
    assert read_image(str(tmp_path / "b.jpg")).shape == (7, 5, 3)
    assert (read_header(grey).channels, read_header(str(tmp_path / "b.jpg")).channels) == (1, 3)


def test_a_palette_mask_is_indices_and_a_palette_image_colours(tmp_path):
    image = Image.fromarray(IDS)
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    for name in ("a.png", "a.bmp", "a.tif"):
        image.save(tmp_path / name)
        np.testing.assert_array_equal(read_mask(str(tmp_path / name)), IDS, err_msg=name)
        colors = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
        np.testing.assert_array_equal(read_image(str(tmp_path / name)), colors[IDS], err_msg=name)
        header = read_header(str(tmp_path / name))
        assert (header.channels, header.layers) == (3, 1)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_grey_masks_hold_ids_not_stretched_greys(tmp_path, bits):
    ids = RNG.integers(0, 2**bits, (6, 9)).astype(np.uint8)
    packed = np.packbits(np.unpackbits(ids[..., None], axis=-1)[..., -bits:].reshape(6, -1), axis=1)
    path = tmp_path / "a.png"
    path.write_bytes(_png(9, 6, bits, packed))
    np.testing.assert_array_equal(read_mask(str(path)), ids)
    assert read_image(str(path)).max() == int(ids.max()) * 255 // (2**bits - 1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint32"])
def test_integer_masks_keep_their_ids(tmp_path, dtype):
    mask = RNG.integers(0, np.iinfo(dtype).max, (7, 5)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", mask)
    np.testing.assert_array_equal(read_mask(str(tmp_path / "a.tif")), mask)
    if dtype in ("uint8", "uint16"):
        cv2.imwrite(str(tmp_path / "a.png"), mask)
        np.testing.assert_array_equal(read_mask(str(tmp_path / "a.png")), mask)


def test_a_transparent_colour_is_no_channel_but_alpha_is(tmp_path):
    path = save(tmp_path / "a.png", RGB, transparency=(1, 2, 3))
    np.testing.assert_array_equal(read_image(path), RGB)
    two = RNG.integers(0, 256, (7, 5, 2), np.uint8)
    path = save(tmp_path / "b.png", two, "LA")
    np.testing.assert_array_equal(read_image(path), two)
    assert read_header(path).alpha


def test_the_content_decides_not_the_suffix(tmp_path):
    path = save(tmp_path / "a.jpg", RGB, format="png")
    np.testing.assert_array_equal(read_image(path), RGB)


def _png(width, height, depth, rows):
    import struct
    import zlib

    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _encoded(kind):
    file = io.BytesIO()
    big = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    if kind == "tif":
        tifffile.imwrite(file, big, photometric="rgb")
    else:
        Image.fromarray(big).save(file, {"jpg": "jpeg"}.get(kind, kind))
    return file.getvalue()


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "tif"])
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.95])
def test_a_file_that_broke_off_is_found_by_its_header_and_by_decoding(tmp_path, kind, share):
    data = _encoded(kind)
    path = tmp_path / f"broken.{kind}"
    path.write_bytes(data[: int(len(data) * share)])
    for read in (read_header, read_image, read_mask):
        with pytest.raises(DataError) as error:
            read(str(path))
        assert "broken." in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp"])
def test_trailing_bytes_do_no_harm(tmp_path, kind):
    (tmp_path / "a").write_bytes(_encoded(kind) + b"camera notes")
    assert read_header(str(tmp_path / "a"))[:3] == (64, 64, 3)
    assert read_image(str(tmp_path / "a")).shape == (64, 64, 3)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=80), magic=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"BM", b"II*\0"]))
def test_noise_is_a_data_error_and_nothing_else(tmp_path_factory, data, magic):
    path = tmp_path_factory.mktemp("n") / "noise.png"
    path.write_bytes(magic + data)
    for read in (read_header, read_image, read_mask):
        with pytest.raises(DataError, match=r"noise\.png"):
            read(str(path))


@pytest.mark.parametrize(
    ("array", "reader", "word"),
    [
        (np.full((4, 4), np.nan, np.float32), read_image, "NaN"),
        (np.ones((4, 4), np.int32), read_image, "int32"),
        (np.full((4, 4), 0.5, np.float32), read_mask, "fractions"),
        (np.zeros((3, 4, 5, 6), np.uint8), read_image, "shape"),
    ],
)
def test_tiffs_that_cannot_be_used(tmp_path, array, reader, word):
    tifffile.imwrite(tmp_path / "odd.tif", array, photometric="minisblack")
    with pytest.raises(DataError, match=rf"odd\.tif.*{word}"):
        reader(str(tmp_path / "odd.tif"))


def test_jpeg_masks_are_refused(tmp_path):
    path = save(tmp_path / "lossy.png", IDS, format="jpeg")
    with pytest.raises(DataError, match=r"lossy\.png.*JPEG"):
        read_mask(path)


@pytest.mark.parametrize("code", [6, 7, 33003, 33005, 34712, 50001, 50002, 52546])
def test_tiff_masks_with_a_lossy_compression_are_refused_by_header_and_content(tmp_path, code):
    path, image = str(tmp_path / "m.tif"), str(save(tmp_path / "a.png", IDS))
    tifffile.imwrite(path, IDS, photometric="minisblack")
    assert not read_header(path).lossy
    np.testing.assert_array_equal(read_mask(path), IDS)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["Compression"].overwrite(code)
    assert read_header(path).lossy
    for read in (read_mask, lambda _: scan_pair(Pair("a", image, path))):
        with pytest.raises(DataError, match=r"m\.tif is a TIFF compressed as JPEG or the like"):
            read(path)
    assert scan_pair(Pair("a", path, image)).image.lossy  # as an image it may be
