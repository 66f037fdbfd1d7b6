import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.errors import DataError
from seglab.types import Spec
from seglab.viz.overlay import EXTRA, MISSED, STRIPES, WRONG, error_key, error_map, overlay, to_rgb

SPEC = Spec(("background", "cat", "dog"))
BLACK = np.zeros((24, 24, 3), np.uint8)


def nearest_color(pixel, *colors):
    return min(colors, key=lambda c: sum((int(a) - b) ** 2 for a, b in zip(pixel, c, strict=True)))


@settings(max_examples=60, deadline=None)
@given(
    channels=st.sampled_from([None, 1, 2, 3, 4, 7]),
    dtype=st.sampled_from(["uint8", "uint16", "float32", "float64"]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_to_rgb_takes_any_image(channels, dtype, height, width, seed):
    shape = (height, width) if channels is None else (height, width, channels)
    image = np.random.default_rng(seed).uniform(0, 1 if "float" in dtype else 200, shape).astype(dtype)
    before = image.copy()
    rgb = to_rgb(image)
    assert rgb.shape == (height, width, 3)
    assert rgb.dtype == np.uint8
    assert (image == before).all()
    if channels in (None, 1):
        assert (rgb == rgb[..., :1]).all()
    if dtype == "uint8" and channels and channels >= 3:
        assert (rgb == image[..., :3]).all()
    rgb[:] = 0  # never a view of the caller's image
    assert (image == before).all()


def test_float_images_are_stretched_between_percentiles():
    image = np.linspace(0.4, 0.5, 10_000, dtype=np.float32).reshape(100, 100, 1)
    image[0, 0] = 1000  # one hot pixel does not darken the rest
    image[0, 1] = np.nan
    rgb = to_rgb(image)
    assert rgb.max() == 255
    assert 120 < np.median(rgb) < 135
    assert to_rgb(np.full((4, 4, 1), 0.5, np.float32)).tolist() == np.full((4, 4, 3), 128).tolist()


@pytest.mark.parametrize("shape", [(4,), (0, 4, 3), (1, 2, 3, 4)])
def test_to_rgb_refuses_other_shapes(shape):
    with pytest.raises(DataError, match="cannot be drawn"):
        to_rgb(np.zeros(shape))


def test_overlay_leaves_background_and_tints_classes():
    mask = np.zeros((24, 24), np.uint8)
    mask[4:14, 4:14] = 2
    image = np.full((24, 24, 3), 100, np.uint8)
    out = overlay(image, mask, SPEC, alpha=0.5)
    assert (out[mask == 0] == 100).all()
    color = np.array(SPEC.colors[2])
    assert tuple(out[9, 9]) == tuple(np.rint(100 + (color - 100) * 0.5).astype(int))
    assert tuple(out[4, 9]) == tuple(color), "the border carries the full colour"
    assert (image == 100).all()


def test_overlay_marks_ignored_and_unknown_pixels():
    mask = np.ones((24, 24), np.int64)
    mask[:, 12:] = 255
    mask[0, 0] = 77
    out = overlay(BLACK, mask, SPEC)
    assert {tuple(c) for c in out[:, 12:].reshape(-1, 3)} == set(STRIPES)
    assert tuple(out[0, 0]) == (255, 0, 255)


def test_the_image_border_is_no_class_border():
    out = overlay(BLACK, np.ones((24, 24), np.uint8), SPEC, alpha=0.5)
    assert len(np.unique(out.reshape(-1, 3), axis=0)) == 1


def test_error_map_tells_the_kinds_apart():
    truth = np.array([[0, 0, 1, 1, 2, 255, 255]])
    pred = np.array([[0, 1, 0, 2, 2, 1, 255]])
    out = error_map(pred, truth, SPEC)[0]
    kinds = [nearest_color(p, (60, 60, 60), MISSED, EXTRA, WRONG) for p in out[:5]]
    assert kinds == [(60, 60, 60), EXTRA, MISSED, WRONG, (60, 60, 60)]
    assert {tuple(p) for p in out[5:]} <= set(STRIPES)


def test_error_map_binary_and_without_background():
    out = error_map(np.array([[1, 0, 1]]), np.array([[0, 1, 1]]), Spec(("no", "yes"), "binary"))[0]
    assert [nearest_color(p, (60, 60, 60), MISSED, EXTRA) for p in out] == [EXTRA, MISSED, (60, 60, 60)]
    sky = Spec(("sky", "car"))
    assert nearest_color(error_map(np.array([[1]]), np.array([[0]]), sky)[0, 0], MISSED, EXTRA, WRONG) == WRONG
    assert [name for name, _ in error_key(sky)] == ["wrong class"]


def test_error_map_multilabel():
    spec = Spec(("a", "b"), "multilabel")
    truth = np.array([[[1, 0], [1, 0], [1, 0], [0, 255], [255, 255]]])
    pred = np.array([[[1, 0], [0, 0], [0, 1], [0, 1], [1, 1]]])
    out = error_map(pred, truth, spec)[0]
    kinds = [nearest_color(p, (60, 60, 60), MISSED, WRONG) for p in out[:4]]
    assert kinds == [(60, 60, 60), MISSED, WRONG, (60, 60, 60)]
    assert tuple(out[4]) in STRIPES


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), k=st.integers(2, 6), named=st.booleans())
def test_error_map_colours_exactly_the_wrong_pixels(seed, k, named):
    rng = np.random.default_rng(seed)
    spec = Spec(tuple(f"c{i}" for i in range(k - 1)) + (("background",) if named else ("other",)))
    truth, pred = rng.integers(0, k, (2, 16, 16))
    truth[rng.random((16, 16)) < 0.2] = 255
    image = rng.integers(0, 255, (16, 16, 4), dtype=np.uint8)
    out = error_map(pred, truth, spec, image).astype(int)
    coloured = np.ptp(out, axis=2) > 0
    assert (coloured == ((pred != truth) & (truth != 255))).all()


def test_sizes_that_differ_are_an_error():
    mask = np.zeros((5, 6), int)
    with pytest.raises(DataError, match="24x24"):
        overlay(BLACK, mask, SPEC)
    with pytest.raises(DataError, match="24x24"):
        error_map(mask, mask, SPEC, BLACK)
    with pytest.raises(DataError, match="does not fit"):
        error_map(mask, mask.T, SPEC)
