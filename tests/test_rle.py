"""Run lengths: pycocotools' strings, there and back, and what is asked of them without decoding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference

from seglab import rle

cases = given(st.integers(0, 5), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 999))


def masks_of(count, height, width, share, seed):
    return np.random.default_rng(seed).random((count, height, width)) < share


@settings(max_examples=80, deadline=None)
@cases
def test_strings_masks_areas_and_boxes_are_those_of_pycocotools(count, height, width, share, seed):
    masks = masks_of(count, height, width, share, seed)
    rles, size = rle.encode(masks), (height, width)
    theirs = reference.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    assert rles == [one["counts"] for one in theirs]
    assert (rle.decode(rles, size) == masks).all()
    assert rle.areas(rles, size).tolist() == masks.sum((1, 2)).tolist()
    for mask, (x1, y1, x2, y2) in zip(masks, rle.boxes(rles, size), strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            assert (x1, y1, x2, y2) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@settings(max_examples=80, deadline=None)
@cases
def test_runs(count, height, width, share, seed):
    masks = masks_of(count, height, width, share, seed)
    for mask, one in zip(masks, rle.encode(masks), strict=True):
        lengths = rle.runs(one)
        assert (mask == np.repeat(np.arange(len(lengths)) % 2, lengths).reshape(width, height).T).all()


def test_runs_of_a_large_mask():
    mask = np.zeros((3000, 2500), bool)
    mask[2990:, 2400:] = mask[5, 7] = True
    lengths = rle.runs(rle.encode(mask[None])[0])
    assert (mask == np.repeat(np.arange(len(lengths)) % 2, lengths).reshape(2500, 3000).T).all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 3),
    st.sampled_from([np.int32, np.uint16, np.int64]),
    st.integers(0, 999),
)
def test_a_map_of_ids_in_one_pass(height, width, layers, kind, seed):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 4, (height, width, layers)).astype(kind)
    ids[ids > 0] += (4 * np.indices(ids.shape)[2][ids > 0]).astype(kind)  # an object lies in one layer
    wanted = [int(v) for v in rng.permutation(14) if v]  # some are in no layer
    masks = np.stack([(ids == v).any(-1) for v in wanted])
    assert rle.encode_ids(ids, wanted) == rle.encode(masks)
    assert rle.encode_ids(ids[..., 0], wanted) == rle.encode(np.stack([ids[..., 0] == v for v in wanted]))
    assert rle.encode_ids(ids, []) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 30), st.floats(0, 1), st.integers(0, 999))
def test_overlaps_are_whole_numbers_of_pixels(first, second, side, share, seed):
    a, b = masks_of(first, side, side + 3, share, seed), masks_of(second, side, side + 3, 1 - share, seed + 1)
    found = rle.overlaps(rle.encode(a), rle.encode(b), (side, side + 3))
    assert found.dtype == np.int64
    assert found.tolist() == (a[:, None] & b[None]).sum((2, 3)).tolist()


def test_instances_fill_in_what_is_not_told():
    masks = np.zeros((2, 6, 8), bool)
    masks[0, 1:3, 2:7] = True
    found = rle.instances(rle.encode(masks), (6, 8), [1, 2])
    assert found.boxes.tolist() == [[2, 1, 7, 3], [0, 0, 0, 0]]
    assert (found.scores.tolist(), found.crowd.tolist(), found.size) == ([1, 1], [False, False], (6, 8))
    none = rle.instances([], (6, 8), [])
    assert (none.boxes.shape, none.labels.dtype, none.crowd.dtype) == ((0, 4), np.int64, bool)
    with pytest.raises(ValueError, match="reshape"):
        rle.instances(rle.encode(masks), (6, 8), [1])
