"""The other conventions: each against a plain loop, their order against the laws between them, and a worked example."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_jaccard_index

from seglab.metrics.confusion import Confusion
from seglab.types import Spec

IGNORE = 255


def measured(spec, pred, target):
    metric = Confusion(spec, per_image=True)
    metric.update(pred, target, torch.arange(len(pred)))
    found = metric.passport()
    return found, {other["name"]: other["value"] for other in found["others"]}, metric


@st.composite
def images(draw):
    k = draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 4)), 4, 5)
    pred, target = (torch.from_numpy(rng.integers(0, draw(st.integers(1, k)), shape)) for _ in range(2))
    target[torch.from_numpy(rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 1.0])))] = IGNORE
    return Spec(classes=tuple(f"c{n}" for n in range(k))), pred, target


def by_hand(k, pred, target, void=False):
    """IoU of each class; NaN where it is in neither."""
    valid = target != IGNORE
    found = []
    for c in range(k):
        p, t = (pred == c) & (valid | void), (target == c) & valid
        both, either = int((p & t).sum()), int((p | t).sum())
        found.append(both / either if either else np.nan)
    return np.array(found)


@settings(max_examples=60, deadline=None)
@given(images())
def test_each_convention_is_what_its_definition_says(case):
    spec, pred, target = case
    k = spec.num_classes
    found, others, _ = measured(spec, pred, target)
    whole, single = by_hand(k, pred, target), np.array([by_hand(k, p, t) for p, t in zip(pred, target, strict=True)])

    def mean(values):
        values = np.asarray(values)[np.isfinite(values)]
        return pytest.approx(values.mean()) if values.size else None

    valid = target != IGNORE
    some = single[valid.flatten(1).any(1).numpy()]  # of an image that is ignored as a whole nothing is known
    support = np.array([int((target == c).sum()) for c in range(k)])
    hit = int(((pred == target) & valid).sum())
    expected = {
        "mean over images": mean([np.mean(row[np.isfinite(row)]) for row in single if np.isfinite(row).any()]),
        "mean over images, absent = 0": mean(np.where(np.isfinite(some), some, 0).mean(1)),
        "mean over images, absent = 1": mean(np.where(np.isfinite(some), some, 1).mean(1)),
        "absent = 0": mean(np.where(np.isfinite(whole), whole, 0)),
        "absent = 1": mean(np.where(np.isfinite(whole), whole, 1)),
        "micro": pytest.approx(hit / (2 * int(valid.sum()) - hit)) if valid.any() else None,
        "by frequency": pytest.approx(np.nansum(whole * support) / support.sum()) if support.sum() else None,
        "ignored counted": mean(by_hand(k, pred, target, void=True)),
    }
    assert found["value"] == mean(whole)
    assert others == expected
    if found["value"] is not None:
        assert others["absent = 0"] <= found["value"] <= others["absent = 1"]


def test_binary_data_report_the_foreground_and_say_what_the_background_would_add():
    spec = Spec(classes=("background", "cell"), mode="binary")
    pred, target = torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[[0, 1, 1, IGNORE]]])
    found, others, metric = measured(spec, pred, target)
    assert found["value"] == pytest.approx(1 / 2)
    assert "background is not in it" in found["definition"]
    assert others["background counted"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert others["ignored counted"] == pytest.approx(1 / 3)
    assert "micro" not in others
    assert metric.predicted_on_ignored().tolist() == [[0, 1]]


def test_multilabel_counts_ignored_answers_of_each_label():
    spec = Spec(classes=("a", "b"), mode="multilabel")
    pred = torch.tensor([[[[1, 1, 0]], [[1, 0, 1]]]])
    target = torch.tensor([[[[1, IGNORE, 0]], [[IGNORE, IGNORE, 1]]]])
    found, others, metric = measured(spec, pred, target)
    assert metric.predicted_on_ignored().tolist() == [[1, 1]]
    assert found["value"] == 1
    assert others["ignored counted"] == pytest.approx(1 / 2)


def test_one_prediction_has_many_mious():
    """Images without a class, a class nobody has, void: conventions differ by far more than methods do."""
    spec = Spec(classes=("sky", "road", "car", "sign"))
    target = torch.tensor([[0] * 6 + [1] * 4, [0] * 5 + [1] * 4 + [2], [0] * 8 + [IGNORE] * 2]).view(3, 2, 5)
    pred = torch.tensor([[0] * 6 + [1] * 4, [0] * 5 + [1] * 5, [0] * 8 + [2] * 2]).view(3, 2, 5)
    found, others, _ = measured(spec, pred, target)
    assert found["value"] == pytest.approx((1 + 8 / 9 + 0) / 3)
    assert found["value"] == pytest.approx(
        multiclass_jaccard_index(pred, target, 4, average="macro", ignore_index=IGNORE).item(), abs=1e-6
    )
    assert others["absent = 0"] == pytest.approx((1 + 8 / 9 + 0 + 0) / 4)
    assert others["micro"] > 0.9
    assert others["mean over images, absent = 1"] > others["mean over images"] > found["value"]
    assert len({round(v, 6) for v in others.values()}) >= 6
