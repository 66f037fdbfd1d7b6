import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays, integer_dtypes, unsigned_integer_dtypes

from seglab.errors import DataError
from seglab.types import Spec
from seglab.viz.colors import IGNORE_COLOR, NOTHING_COLOR, UNKNOWN_COLOR, background, codes, colorize

THREE = Spec(("background", "cat", "dog"), ignore_index=-1)


def expected(value, spec):
    if value == spec.ignore_index:
        return IGNORE_COLOR
    return spec.colors[value] if 0 <= value < spec.num_classes else UNKNOWN_COLOR


@settings(max_examples=80, deadline=None)
@given(
    mask=st.one_of(integer_dtypes(), unsigned_integer_dtypes()).flatmap(
        lambda dtype: arrays(dtype, st.tuples(st.integers(1, 5), st.integers(1, 5)))
    ),
    ignore=st.sampled_from([255, -1, -100, 65535, 3]),
)
def test_every_id_of_every_type_gets_its_colour(mask, ignore):
    spec = Spec(("a", "b", "c"), ignore_index=ignore)
    picture = colorize(mask, spec)
    assert picture.dtype == np.uint8
    for (row, col), value in np.ndenumerate(mask):
        assert tuple(picture[row, col]) == expected(int(value), spec)


def test_large_ids_do_not_wrap_around():
    mask = np.array([[2**32 + 1, 2**63 - 1, -(2**32) + 1, 1]])
    assert codes(mask, THREE).tolist() == [[4, 4, 4, 1]]


def test_bool_mask():
    assert codes(np.array([[True, False]]), Spec(("background", "x"), "binary")).tolist() == [[1, 0]]


def test_multilabel_draws_later_classes_on_top():
    spec = Spec(("a", "b", "c"), "multilabel")
    mask = np.array([[[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 255, 0], [1, 255, 255]]])
    colors = [spec.colors[0], spec.colors[1], NOTHING_COLOR, IGNORE_COLOR, spec.colors[0]]
    assert [tuple(c) for c in colorize(mask, spec)[0]] == colors


def test_wrong_shape_is_an_error():
    with pytest.raises(DataError, match="shape"):
        colorize(np.zeros((4, 4, 2), int), THREE)
    with pytest.raises(DataError, match="shape"):
        colorize(np.zeros(4, int), THREE)


def test_background():
    assert background(Spec(("sky", "car"))) is None
    assert background(Spec(("sky", "Background"))) == 1
    assert background(Spec(("no", "yes"), "binary")) == 0
