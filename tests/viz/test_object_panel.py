"""Objects on their image: whose colour is whose, what is written where, and that any input gives a picture."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seglab.data.cells import Cells
from seglab.errors import DataError
from seglab.rle import decode, encode, encode_ids, instances
from seglab.types import Spec
from seglab.viz.colors import OBJECT_COLORS, object_colors, spread
from seglab.viz.legend import length
from seglab.viz.objects import CROWDED, SIDE, _ids, object_panel, paint
from seglab.viz.overlay import STRIPES

SPEC = Spec(("background", "cell"), "binary", instances=True)
TWO = Spec(("background", "cat", "dog"), instances=True)
NONE = np.full(1, -1)


def squares(size, *corners, side=20, labels=None, scores=None, crowd=None):
    """Instances of squares with these (y, x) corners."""
    rles = []
    for y, x in corners:
        mask = np.zeros((1, *size), bool)
        mask[0, y : y + side, x : x + side] = True
        rles += encode(mask)
    return instances(rles, size, labels or [1] * len(corners), scores, crowd)


def has(picture, color):
    return bool((picture == np.array(color)).all(2).any())


def test_small_objects_lie_on_large_ones_and_crowds_below():
    masks = np.zeros((3, 30, 30), bool)
    masks[0, 10:14, 10:14] = masks[1, 5:25, 5:25] = masks[2, :12, :12] = True
    ids = _ids(np.zeros((30, 30, 3), np.uint8), instances(encode(masks), (30, 30), [1, 1, 1], crowd=[0, 0, 1]))
    assert (ids[10:14, 10:14] == 1).all()
    assert ids[6, 6] == 2
    assert ids[2, 2] == 3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(5, 9), st.integers(0, 99))
def test_neighbours_differ_while_there_are_colours(count, colors, seed):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 200, (count, 2)).astype(float)
    boxes = np.concatenate([low, low + rng.integers(1, 30, (count, 2))], 1)
    given_ = np.where(rng.random(count) < 0.2, rng.integers(0, colors, count), -1)
    picked = spread(boxes, 3, colors, given_)
    assert (picked == spread(boxes, 3, colors, given_)).all()
    assert (picked[given_ >= 0] == given_[given_ >= 0]).all()
    assert ((picked >= 0) & (picked < colors)).all()
    close = ((boxes[:, None, :2] - 3 < boxes[:, 2:]) & (boxes[:, None, 2:] + 3 > boxes[:, :2])).all(2)
    for i in np.flatnonzero(given_ < 0):
        if close[i].sum() <= colors:  # itself and fewer neighbours than colours
            before = [j for j in np.flatnonzero(close[i]) if j != i and (given_[j] >= 0 or j < i)]
            assert picked[i] not in picked[before]


def test_object_colours_are_no_class_colours():
    near = Spec(("background", "a"), colors=((0, 0, 0), OBJECT_COLORS[0]))
    assert not (object_colors(near) == OBJECT_COLORS[0]).all(1).any()
    assert len(object_colors(Spec(("background", "a"), colors=((0, 0, 0), (128, 128, 128))))) == len(OBJECT_COLORS)
    many = Spec(tuple(f"c{i}" for i in range(90)))
    assert len(object_colors(many)) >= 5


def test_touching_objects_are_told_apart_with_an_outline():
    black = np.zeros((60, 60, 3), np.uint8)
    out = paint(black, squares((60, 60), (20, 10), (20, 30)), SPEC, scores=False)
    left, right = out[30, 20], out[30, 40]
    assert (left != right).any()
    outlines = [tuple(out[30, x]) for x in (29, 30)]  # the boxes end here too, and lie on top at their edges
    assert outlines[0] == outlines[1] == SPEC.colors[1]
    assert (out[:18] == 0).all()
    round_ = np.hypot(*(np.mgrid[:60, :60] - 30)) < 20
    disc = paint(black, instances(encode(round_[None]), (60, 60), [1]), SPEC, scores=False)
    assert any(has(disc, color) for color in object_colors(SPEC)), "the outline is in full colour"


def test_crowds_are_striped_without_a_box():
    out = paint(np.full((90, 90, 3), 9, np.uint8), squares((90, 90), (30, 30), side=40, crowd=[True]), SPEC)
    inside = {tuple(int(v) for v in pixel) for pixel in out[30:70, 30:70].reshape(-1, 3)}
    assert inside == set(STRIPES)
    assert (out[:30] == 9).all()


def test_found_objects_have_the_colours_of_the_true_ones_they_cover():
    size = (120, 200)
    corners = [(10, 10), (10, 34), (50, 60), (80, 150)]
    truth = squares(size, *corners)
    shifted = squares(size, (81, 152), (10, 110), (51, 60), (10, 10), (12, 33), scores=[0.9, 0.8, 0.7, 0.6, 0.5])
    image = np.zeros((*size, 3), np.uint8)
    out = object_panel(image, truth, shifted, SPEC)
    scale, top = SIDE // 200, 40
    step = 200 * scale + 12

    def at(tile, y, x):
        return out[top + y * scale, 20 + tile * step + x * scale].tolist()

    for y, x in corners:
        assert at(0, y + 10, x + 12) == [0, 0, 0]
        assert at(1, y + 10, x + 12) == at(2, y + 10, x + 12) != [0, 0, 0]
    assert at(1, 20, 122) == [0, 0, 0] != at(2, 20, 122)


def test_true_objects_show_no_score():
    objects = squares((100, 100), (40, 40), side=40)
    out = object_panel(np.zeros((100, 100, 3), np.uint8), objects, objects, SPEC)[40:]
    above = [out[: 40 * 6 - 2, 20 + i * 612 : 620 + i * 612] for i in range(3)]
    assert [has(tile, SPEC.colors[1]) for tile in above] == [False, False, True]


def test_the_first_of_two_found_has_the_partner():
    image, truth = np.zeros((60, 60, 3), np.uint8), squares((60, 60), (20, 20))
    masks = np.zeros((2, 60, 60), bool)
    masks[0, 20:40, 20:40] = masks[1, 26:40, 20:40] = True
    out = object_panel(image, truth, instances(encode(masks), (60, 60), [1, 1], [0.9, 0.4]), SPEC)
    tile = 60 * (SIDE // 60 + (SIDE % 60 >= 30))
    first = out[40:, 20 + 2 * (tile + 12) :]
    assert tuple(out[40 + 22 * tile // 60, 20 + tile + 12 + 24 * tile // 60]) == tuple(first[22 * tile // 60, 24 * tile // 60])
    assert (first[22 * tile // 60, 24 * tile // 60] != first[35 * tile // 60, 24 * tile // 60]).any()


def test_labels_name_class_and_score_where_there_is_room():
    image = np.zeros((200, 300, 3), np.uint8)
    red, blue = TWO.colors[1:]
    big = squares((200, 300), (60, 40), (60, 180), side=80, labels=[1, 2], scores=[0.93, 0.5])
    named, bare = paint(image, big, TWO), paint(image, big, TWO, scores=False)
    high = 14

    def chip(picture, x, color):
        return int((picture[60 - high, x : x + 100] == color).all(1).sum())

    assert chip(named, 40, red) == length("cat 0.93", 11) + 5
    assert chip(named, 180, blue) == length("dog 0.50", 11) + 5
    assert chip(bare, 40, red) == length("cat", 11) + 5
    alone = squares((200, 300), (60, 40), side=80, scores=[0.93])
    assert chip(paint(image, alone, SPEC), 40, SPEC.colors[1]) == length("0.93", 11) + 5
    assert chip(paint(image, alone, SPEC, scores=False), 40, SPEC.colors[1]) == 0, "one class need not be named"


def test_labels_are_left_out_where_they_could_not_be_read():
    image = np.zeros((400, 400, 3), np.uint8)
    color = SPEC.colors[1]
    corners = [(5 + 45 * (i // 8), 5 + 45 * (i % 8)) for i in range(64)]
    for count, labelled in ((CROWDED, True), (CROWDED + 1, False)):
        out = paint(image, squares((400, 400), *corners[:count]), SPEC)
        assert bool((out[45 - 12 : 45, 5:30] == color).all(2).sum() > 60) == labelled
    tiny = paint(image, squares((400, 400), (200, 200), side=12), SPEC)
    assert (tiny[:200] == 0).all()
    assert (tiny[212:] == 0).all()
    stacked = squares((400, 400), *[(200, 200)] * 9, side=60, scores=list(np.linspace(0.9, 0.1, 9)))
    first = paint(image, squares((400, 400), (200, 200), side=60, scores=[0.9]), SPEC)
    wide = length("0.90", 11) + 5
    assert (paint(image, stacked, SPEC)[186:200, 200 : 200 + wide] == first[186:200, 200 : 200 + wide]).all(), "none covers it"


def test_labels_cover_no_object():
    image, masks = np.zeros((200, 200, 3), np.uint8), np.zeros((2, 200, 200), bool)
    masks[0, 100:180, 50:150] = masks[1, 80:98, 52:66] = True  # where the label of the first would be
    out = paint(image, instances(encode(masks), (200, 200), [1, 1]), SPEC)
    assert not (out[82:96, 54:64] == SPEC.colors[1]).all(2).any()
    assert (out[87:99, 148:150] == SPEC.colors[1]).all(), "the label begins further right"


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (900, 2), (64, 64), (97, 131), (500, 640), (641, 30), (2600, 300)])
@pytest.mark.parametrize("channels", [1, 4])
def test_any_size_gives_a_panel_of_sane_size(size, channels):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*size, channels)).astype(np.uint8)
    ids = rng.integers(0, 4, (size[0] // 8 + 1, size[1] // 8 + 1)).repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
    values = [v for v in (1, 2, 3) if (ids == v).any()]
    objects = instances(encode_ids(ids, values), size, [1] * len(values))
    spec = Spec(("background", "thing"), channels=channels, instances=True)
    empty = instances([], size, [])
    for truth, found in ((objects, objects), (objects, empty), (empty, objects), (empty, empty)):
        out = object_panel(image, truth, found, spec, "a title")
        assert out.dtype == np.uint8
        assert max(out.shape[:2]) <= 3 * (SIDE * 4 / 3 + 40)
        assert (out[:8] == 255).all()
        assert (out[-8:] == 255).all()
        assert paint(image, truth, spec).shape == (*size, 3)


def test_empty_masks_and_boxes_outside_are_no_error():
    size = (50, 60)
    objects = instances(
        encode(np.zeros((2, *size), bool)), size, [1, 1], at=[[-20, -5, 30, 90], [80, 80, 90, 90]], scores=[0.5, 0.4]
    )
    out = paint(np.zeros((*size, 3), np.uint8), objects, SPEC)
    assert has(out, SPEC.colors[1])
    object_panel(np.zeros((*size, 3), np.uint8), objects, objects, SPEC)


def test_the_legend_counts():
    image = np.zeros((60, 60, 3), np.uint8)
    few, more = squares((60, 60), (5, 5)), squares((60, 60), (5, 5), (30, 30))
    pictures = [object_panel(image, t, f, TWO) for t, f in ((few, few), (few, more), (more, few))]
    legends = [p[-34:] for p in pictures]
    assert (legends[0] != legends[1]).any()
    assert (legends[1] != legends[2]).any()
    assert all(has(key, color) for key in legends for color in TWO.colors[1:])
    assert not has(legends[0], STRIPES[0])
    crowd = squares((60, 60), (5, 5), crowd=[True])
    assert has(object_panel(image, crowd, few, TWO)[-34:], STRIPES[0])
    many = Spec(("background", *(f"c{i}" for i in range(40))), instances=True)
    assert object_panel(image, few, few, many).shape == pictures[0].shape, "only the one class in the picture is listed"


def test_sizes_that_differ_are_an_error():
    image, objects = np.zeros((60, 60, 3), np.uint8), squares((60, 61), (5, 5))
    with pytest.raises(DataError, match="60x60 does not fit objects in one of 60x61"):
        paint(image, objects, SPEC)
    with pytest.raises(DataError, match="does not fit"):
        object_panel(image, squares((60, 60), (5, 5)), objects, SPEC)


def test_inputs_are_left_alone_and_output_is_stable():
    source = Cells(size=128, train=1)
    sample = source.load("train", 0)
    ids = sample["instances"]
    values = [int(v) for v in np.unique(ids) if v]
    objects = instances(encode_ids(ids, values), ids.shape, [int(sample["mask"][ids == v].max()) for v in values])
    kept, boxes = sample["image"].copy(), objects.boxes.copy()
    assert (object_panel(kept, objects, objects, source.spec) == object_panel(kept, objects, objects, source.spec)).all()
    assert (paint(kept, objects, source.spec) == paint(kept, objects, source.spec)).all()
    assert (kept == sample["image"]).all()
    assert (objects.boxes == boxes).all()
    assert not np.shares_memory(paint(kept, instances([], ids.shape, []), source.spec), kept)


@pytest.mark.slow
def test_a_large_image_takes_seconds():
    rng, size = np.random.default_rng(0), (2000, 2000)
    objects = squares(size, *rng.integers(0, 1900, (300, 2)).tolist(), side=90)
    image = rng.integers(0, 255, (*size, 3)).astype(np.uint8)
    started = time.process_time()
    object_panel(image, objects, objects, SPEC)
    paint(image, objects, SPEC)
    assert time.process_time() - started < 5


@pytest.mark.slow
def test_nuclei_panel(data_dir):
    folder = data_dir("nuclei")
    name = json.loads((folder / "split.json").read_text())["test"][0]
    labels = np.asarray(Image.open(folder / "labels" / name)).astype(np.int32)
    objects = instances(encode_ids(labels, range(1, labels.max() + 1)), labels.shape, [1] * labels.max())
    assert decode(objects.rles, objects.size).sum() == (labels > 0).sum()
    image = np.asarray(Image.open(folder / "images" / name).convert("RGB"))
    out = object_panel(image, objects, objects, SPEC, name)
    assert out.shape == (630, 3 * 512 + 2 * 12 + 40, 3)
