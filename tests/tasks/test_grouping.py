"""Pixels become objects: each in one, none invented, touching ones apart, the same at every call."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter, label

from seglab.build import build
from seglab.config import conf_dir
from seglab.errors import ConfigError
from seglab.rle import areas, decode
from seglab.tasks.grouping import Components, Grouping, Watershed
from seglab.types import Spec

KINDS = (Components, Watershed)
SPEC = Spec(("background", "nucleus"), mode="binary", instances=True)
every_kind = pytest.mark.parametrize("kind", KINDS)


def discs(size, *circles):
    """The union of discs (y, x, radius), bool H W."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.any([(y - cy) ** 2 + (x - cx) ** 2 <= r * r for cy, cx, r in circles], 0)


def ones(region):
    return np.ones(region.shape, np.float32)


TWO = discs((60, 90), (30, 30, 15), (30, 57, 14))


def test_touching_discs_are_cut_by_watershed_alone():
    assert Components().split(TWO).max() == 1
    ids = Watershed().split(TWO)
    assert ids.max() == 2
    assert ids[30, 30] != ids[30, 57]
    cut = np.flatnonzero(np.diff(ids[30, 20:70]) != 0) + 20
    assert len(cut) == 1
    assert 43 <= cut[0] <= 46, "where they narrow"


def test_long_objects_stay_whole():
    bar, line = np.zeros((2, 60, 160), bool)
    bar[20:40, 20:140] = line[30, 10:150] = True
    y, x = np.mgrid[:60, :160]
    ellipse = ((y - 30) / 6) ** 2 + ((x - 80) / 60) ** 2 <= 1
    for region in (bar, line, ellipse):
        assert Watershed().split(region).max() == 1


def test_corners_touch():
    region = np.pad(np.eye(30, dtype=bool), 5)
    for kind in KINDS:
        assert kind().split(region).max() == 1


def test_an_object_cut_by_the_border_is_cut_apart_as_its_mirror_image_is():
    whole = discs((81, 120), (40, 40, 20), (40, 75, 19))
    half = Watershed().split(whole[40:])  # the centres lie on the border
    assert half.max() == 2
    mirrored = Watershed().split(np.concatenate([whole[40:][::-1], whole[40:]]))
    assert ((half > 0) == (mirrored[41:] > 0)).all()
    assert (half == mirrored[41:]).mean() > 0.99
    sliver = discs((40, 40), (-6, 20, 10))  # most of it lies outside
    assert Watershed(min_pixels=1).split(sliver).max() == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.floats(0, 3), st.integers(0, 99))
def test_every_pixel_of_a_region_is_in_one_object(height, width, share, blur, seed):
    noise = gaussian_filter(np.random.default_rng(seed).random((height, width)), blur)
    region = noise <= np.quantile(noise, share)
    parts, count = label(region, np.ones((3, 3)))
    for grouping in (Components(1), Watershed(1), Watershed(1, smooth=0, depth=0.01), Watershed(1, smooth=3.0)):
        ids = grouping.split(region)
        assert ids.dtype == np.int32
        assert ((ids > 0) == region).all()
        assert (np.unique(ids[region]) == np.arange(1, ids.max() + 1)).all()
        pairs = np.unique(np.stack([ids[region], parts[region]]), axis=1)
        assert pairs.shape[1] == ids.max(), "no object lies in two components"
        assert ids.max() >= count
        assert all(label(ids == i, np.ones((3, 3)))[1] == 1 for i in range(1, ids.max() + 1)), "objects are in one piece"
        found = grouping(region.astype(np.uint8), ones(region), SPEC)
        assert (decode(found.rles, found.size).sum(0) == region).all()


@pytest.mark.parametrize("smooth", [0, 1.0])
@pytest.mark.parametrize("depth", [0.05, 0.2, 0.71, 2.3])
def test_objects_are_those_of_the_deep_enough_peaks(smooth, depth):
    from skimage.morphology import local_maxima, reconstruction

    region = gaussian_filter(np.random.default_rng(3).random((150, 170)), 3) > 0.49
    height = distance_transform_edt(region)
    height = gaussian_filter(height, smooth) if smooth else height
    height[~region] = -9
    peaks = label(local_maxima(reconstruction(height - depth, height, footprint=np.ones((3, 3)))) & region, np.ones((3, 3)))[0]
    ids = Watershed(1, smooth, depth).split(region)
    assert ids.max() == peaks.max() > 2
    pairs = np.unique(np.stack([ids[peaks > 0], peaks[peaks > 0]]), axis=1)
    assert pairs.shape[1] == peaks.max(), "each in an object of its own"


@every_kind
def test_small_objects_are_dropped_and_nothing_else(kind):
    region = TWO.copy()
    region[2:5, 2:7] = True  # 15 pixels
    region[2:6, 80:84] = True  # 16 pixels
    found = kind(min_pixels=16)(region.astype(int), ones(region), SPEC)
    region[2:5, 2:7] = False
    assert (decode(found.rles, found.size).sum(0) == region).all()
    assert areas(found.rles, found.size).min() == 16


@every_kind
@pytest.mark.parametrize("size", [(1, 1), (7, 90), (64, 64)])
def test_nothing_and_everything(kind, size):
    none = kind()(np.zeros(size, np.int64), np.ones(size, np.float32), SPEC)
    assert (none.size, none.rles, none.boxes.shape, none.labels.dtype) == (size, [], (0, 4), np.int64)
    whole = kind(min_pixels=1)(np.ones(size, np.int64), np.full(size, 0.75, np.float32), SPEC)
    assert whole.boxes.tolist() == [[0, 0, size[1], size[0]]]
    assert whole.scores.tolist() == [0.75]


@every_kind
def test_classes_are_told_apart_and_the_most_certain_comes_first(kind):
    spec = Spec(("background", "a", "b"), instances=True)
    ids = np.zeros((40, 60), np.uint8)
    ids[5:25, 5:20], ids[5:25, 20:40], ids[30:38, 5:50] = 2, 1, 2  # the first two touch
    confidence = np.random.default_rng(0).uniform(0.5, 0.7, ids.shape).astype(np.float32)
    confidence[30:38] += 0.25
    found = kind()(ids, confidence, spec)
    assert found.labels.tolist()[0] == 2
    assert sorted(found.labels.tolist()) == [1, 2, 2]
    assert (np.diff(found.scores) <= 0).all()
    for mask, score, name in zip(decode(found.rles, found.size), found.scores, found.labels, strict=True):
        assert score == pytest.approx(confidence[mask].mean(dtype=np.float64), rel=1e-12)
        assert (ids[mask] == name).all()
    assert not found.crowd.any()


@every_kind
def test_equal_scores_keep_the_order_of_classes(kind):
    ids = np.kron(np.arange(64).reshape(8, 8) % 3 + 1, np.pad(np.ones((6, 6), int), 2))
    confidence = np.where(ids == 2, 0.75, 0.5).astype(np.float32)
    found = kind()(ids, confidence, Spec(tuple("0123"), instances=True))
    assert found.labels.tolist() == [2] * 21 + [1] * 22 + [3] * 21
    for k in (1, 2, 3):
        corners = found.boxes[found.labels == k][:, [1, 0]].tolist()
        assert corners == sorted(corners), "and then of their places"


@every_kind
def test_the_same_at_every_call_and_inputs_are_left_alone(kind):
    rng = np.random.default_rng(1)
    ids, confidence = (rng.random((200, 300)) < 0.6).astype(np.int64), rng.random((200, 300), np.float32)
    kept = ids.copy(), confidence.copy()
    first, second = (kind()(ids, confidence, SPEC) for _ in range(2))
    assert first.rles == second.rles
    assert (first.scores == second.scores).all()
    assert (ids == kept[0]).all()
    assert (confidence == kept[1]).all()


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (Components, "min_pixels", 0), (Components, "min_pixels", 2.5), (Watershed, "min_pixels", True),
        (Watershed, "min_pixels", "all"), (Watershed, "smooth", -1), (Watershed, "smooth", float("nan")),
        (Watershed, "smooth", float("inf")), (Watershed, "depth", 0), (Watershed, "depth", float("nan")),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(kind, key, value):
    with pytest.raises(ConfigError, match=rf"instances\.{key} is .*; it must be"):
        kind(**{key: value})


@every_kind
def test_the_yaml_shows_every_argument_with_its_default(kind):
    shown = yaml.safe_load((conf_dir() / "instances" / f"{kind.__name__.lower()}.yaml").read_text())
    assert isinstance(build(shown, Grouping, "instances"), kind)
    del shown["_target_"]
    assert shown == {name: p.default for name, p in inspect.signature(kind).parameters.items()}


@pytest.mark.slow
def test_watershed_recovers_more_nuclei_from_their_true_foreground(data_dir):
    folder = data_dir("nuclei")
    names = json.loads((folder / "split.json").read_text())["train"]
    recovered, precise, total = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0), 0
    for name in names:
        truth = np.asarray(Image.open(folder / "labels" / name)).astype(np.int64)
        total += truth.max()
        for kind in KINDS:
            found = kind()(truth > 0, ones(truth), SPEC)
            masks = decode(found.rles, found.size)
            precise[kind] += len(masks)
            for mask in masks:
                near = np.bincount(truth[mask])
                best = int(near.argmax())
                recovered[kind] += near[best] / (mask.sum() + (truth == best).sum() - near[best]) >= 0.5
    assert total == 2837
    assert recovered[Components] / total < 0.80
    assert recovered[Watershed] / total > 0.94
    assert precise[Watershed] < total, "and does not cut whole ones into pieces"
