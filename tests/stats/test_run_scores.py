"""Scores of runs from counts: equal to a recomputation by the definition, also without each cluster."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.metrics.definitions import class_scores
from seglab.metrics.definitions import headline as reference
from seglab.stats.scores import Scores, headline, iou


def brute(counts, scored):
    """mIoU and the classes' IoU by seglab.metrics, which defines them."""
    scores = class_scores(*counts.sum(0).T)
    return [reference(scores, scored, 0, 0)["iou"], *scores["iou"]]


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.booleans())
@settings(deadline=None, max_examples=60)
def test_scores_are_those_of_the_metrics_with_each_image_left_out(seed, runs, images, classes, binary):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 50, (runs, images, classes, 3)) * (rng.random((images, classes, 1)) < 0.5)
    scored = [classes - 1] if binary else list(range(classes))
    found = Scores.of(counts, scored)
    for run in range(runs):
        np.testing.assert_allclose(found.points[run], brute(counts[run], scored), rtol=1e-12)
        for image in range(images):
            np.testing.assert_allclose(found.left[run, image], brute(np.delete(counts[run], image, 0), scored), rtol=1e-12)


def test_a_cluster_is_left_out_as_a_whole_and_labels_need_no_order():
    counts = np.random.default_rng(0).integers(1, 90, (2, 6, 3, 3))
    found = Scores.of(counts, range(3), np.array(["b", "a", "b", "c", "a", "b"]))
    assert found.left.shape == (2, 3, 4)
    np.testing.assert_allclose(found.left[0, 1], brute(counts[0][[1, 3, 4]], range(3)))
    with pytest.raises(ValueError, match="2 labels"):
        Scores.of(counts, range(3), np.array([1, 2]))


def test_absent_classes_have_no_score_and_leave_the_mean():
    totals = np.array([[10, 0, 10], [0, 0, 0], [0, 5, 0]])
    np.testing.assert_array_equal(iou(totals), [0.5, np.nan, 0.0])
    assert headline(totals, range(3)) == 0.25
    assert np.isnan(headline(totals, [1]))


def test_large_counts_do_not_overflow():
    counts = np.full((1, 4, 1, 3), 2**31 - 1, dtype=np.int32)
    assert Scores.of(counts, [0]).points[0, 0] == pytest.approx(1 / 3)
