"""One lookup gives the same class ids whatever the stored type, and never lets an unknown value pass."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seglab.data.mask_codec import Codec, code, codes
from seglab.errors import DataError

DTYPES = ["uint8", "uint16", "int16", "int32", "uint32"]


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(DTYPES), st.integers(1, 300), st.sampled_from([255, 7, 65535, 1000]))
def test_ids_equal_a_plain_loop_for_every_stored_type(data, dtype, classes, ignore):
    codec = Codec((*((i, i) for i in range(classes)), (ignore, ignore)))
    top = min(np.iinfo(dtype).max, 1200)
    stored = data.draw(hnp.arrays(dtype, (3, 4), elements=st.integers(0, top)))
    known = set(range(classes)) | {ignore}
    if all(int(v) in known for v in stored.ravel()):
        out = codec(stored, "m.png")
        np.testing.assert_array_equal(out, stored)
        assert out.dtype in (np.uint8, np.int32)
        assert out.dtype == np.int32 or max(known) <= 255
    else:
        row, column = next((int(r), int(c)) for r, c in np.ndindex(3, 4) if int(stored[r, c]) not in known)
        with pytest.raises(DataError, match=rf"m\.png holds the id {stored[row, column]} at row {row}, column {column}"):
            codec(stored, "m.png")


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(DTYPES), st.sampled_from([None, 255, 300]))
def test_foreground_is_all_but_zero_and_ignore(data, dtype, ignore):
    stored = data.draw(hnp.arrays(dtype, (3, 4), elements=st.integers(0, min(np.iinfo(dtype).max, 70000))))
    keep = () if ignore is None else ((ignore, ignore),)
    out = Codec(((0, 0), *keep), rest=1)(stored, "m.png")
    expected = [[0 if v == 0 else ignore if v == ignore else 1 for v in row] for row in stored.tolist()]
    np.testing.assert_array_equal(out, expected)


def test_zero_and_255_become_zero_and_one_as_uint8():
    out = Codec(((0, 0), (255, 1)))(np.array([[0, 255]], np.uint16), "m.png")
    assert out.tolist() == [[0, 1]]
    assert out.dtype == np.uint8


def test_a_negative_ignore_id_is_kept():
    out = Codec(((0, 0), (1, 1), (-1, -1)))(np.array([[0, 1, -1]], np.int32), "m.tif")
    assert out.tolist() == [[0, 1, -1]]
    assert out.dtype == np.int32


def test_full_byte_range_of_ids_needs_int32():
    codec = Codec(tuple((i, i) for i in range(256)))
    assert codec(np.arange(256, dtype=np.uint8).reshape(16, 16), "m.png").dtype == np.int32


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, (3, 4, 3)))
def test_codes_tell_all_colours_apart(rgb):
    expected = [[code(tuple(int(v) for v in pixel)) for pixel in row] for row in rgb]
    np.testing.assert_array_equal(codes(rgb, "m.png"), expected)


def test_colours_and_an_unknown_colour():
    codec = Codec(((code((128, 0, 0)), 0), (code((0, 0, 128)), 1), (code((0, 0, 0)), 255)), colored=True)
    rgb = np.array([[[128, 0, 0], [0, 0, 128], [0, 0, 0]]], np.uint8)
    assert codec(rgb, "m.png").tolist() == [[0, 1, 255]]
    rgb[0, 2] = (1, 2, 3)
    with pytest.raises(DataError, match=r"m\.png holds the colour \[1, 2, 3\] at row 0, column 2"):
        codec(rgb, "m.png")


@pytest.mark.parametrize("shape", [(5, 6, 2), (5, 6, 4), (5, 6, 7), (5, 6, 1)])
def test_layers_are_mapped_one_by_one(shape):
    stored = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), shape)
    out = Codec(((0, 0), (255, 1)), layered=True)(stored, "m.tif")
    np.testing.assert_array_equal(out, stored // 255)


@pytest.mark.parametrize(
    "ids", [{0: 0, 1: 1, 2: 2}, {0: 0, 1: 1, 2: 2, 255: 255}, {0: 0, 1: 1, 2: 2, 3: 255}, {0: 0, 1: 2, 2: 1, 255: 255}]
)
def test_ids_that_stay_as_they_are_are_checked_as_all_others(ids):
    codec = Codec(tuple(ids.items()), remedy="x")
    for value in range(256):
        mask = np.array([[0, 1, value]], np.uint8)
        if value in ids:
            assert codec(mask, "m.png").tolist() == [[ids[v] for v in (0, 1, value)]]
        else:
            with pytest.raises(DataError, match=f"the id {value} at row 0, column 2"):
                codec(mask, "m.png")
