"""ECE against torchmetrics, the area under the precision-recall curve against its definition, and their laws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from seglab.metrics.calibration import BINS, Calibration
from seglab.types import Spec

IGNORE = 255


def spec_of(mode, k):
    return Spec(classes=tuple(f"c{n}" for n in range(k)), mode=mode)


@st.composite
def cases(draw, mode):
    """Logits that are neither all right nor all wrong, decoded as the tasks do, and truth with void."""
    k = 2 if mode == "binary" else draw(st.integers(2, 5))
    made = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (draw(st.integers(1, 3)), 1 if mode == "binary" else k, 5, 6)
    logits = torch.randn(shape, generator=made) * draw(st.sampled_from([0.3, 2.0, 30.0]))
    truth_shape = shape if mode == "multilabel" else (shape[0], *shape[2:])
    target = torch.randint(0, k if mode == "multiclass" else 2, truth_shape, generator=made)
    target[torch.rand(truth_shape, generator=made) < draw(st.sampled_from([0.0, 0.3]))] = IGNORE
    if mode == "multiclass":
        return spec_of(mode, k), logits.argmax(1), target, logits.softmax(1)
    pred = logits > 0
    return spec_of(mode, k), pred[:, 0] if mode == "binary" else pred, target, logits.sigmoid()


def measure(spec, *batches):
    metric = Calibration(spec)
    for pred, target, probabilities in batches:
        metric.update(pred, target, None, probabilities)
    return metric


@settings(max_examples=50, deadline=None)
@given(cases("multiclass"))
def test_ece_equals_torchmetrics(case):
    spec, pred, target, probabilities = case
    reference = multiclass_calibration_error(probabilities, target, spec.num_classes, n_bins=15, ignore_index=IGNORE)
    found = measure(spec, (pred, target, probabilities)).compute()["ece"].item()
    # A probability on the edge of a bin may fall on either side in float32.
    assert found == pytest.approx(reference.item(), abs=1e-4) or near_an_edge(probabilities)


def near_an_edge(probabilities):
    scaled = probabilities.max(1).values * 15
    return bool(((scaled - scaled.round()).abs() < 1e-4).any())


@settings(max_examples=30, deadline=None)
@given(cases("binary"))
def test_binary_ece_is_of_the_decoded_class(case):
    spec, pred, target, probabilities = case
    valid = target != IGNORE
    sure = torch.where(pred, probabilities[:, 0], 1 - probabilities[:, 0])[valid]
    if near_an_edge(sure[:, None]) or not valid.any():
        return
    reference = binary_calibration_error(sure, (pred == target)[valid].long(), n_bins=15)
    assert measure(spec, (pred, target, probabilities)).compute()["ece"].item() == pytest.approx(reference.item(), abs=1e-4)


@pytest.mark.parametrize("mode", ["binary", "multiclass", "multilabel"])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_counts_are_those_of_every_pixel_and_do_not_depend_on_batches(mode, data):
    spec, pred, target, probabilities = data.draw(cases(mode))
    whole = measure(spec, (pred, target, probabilities))
    parts = measure(spec, *((pred[n : n + 1], target[n : n + 1], probabilities[n : n + 1]) for n in reversed(range(len(pred)))))
    assert whole.table() == parts.table()
    assert torch.equal(whole.compute()["ece"], parts.compute()["ece"]) or torch.isnan(whole.compute()["ece"])
    names = spec.classes[1:] if mode == "binary" else spec.classes
    for channel, name in enumerate(names):
        true = target[:, channel] if mode == "multilabel" else target
        label = 1 if mode != "multiclass" else channel
        valid = true != IGNORE
        p, is_k = probabilities[:, channel][valid].numpy(), (true == label)[valid].numpy()
        bins = np.minimum((p * np.float32(BINS)).astype(int), BINS - 1)
        expected = {
            (int(b), int((bins == b).sum()), int(is_k[bins == b].sum())) for b in np.unique(bins)
        }  # fmt: skip
        assert {row[1:] for row in whole.table() if row[0] == name} == expected


def test_pixel_ap_is_one_for_a_perfect_ranking_and_the_share_for_a_blind_one():
    spec = spec_of("binary", 2)
    target = torch.tensor([[[0, 0, 0, 1, 1, IGNORE]]])
    ranked = torch.tensor([[[[0.1, 0.2, 0.3, 0.8, 0.9, 0.99]]]])
    assert measure(spec, (ranked[:, 0] > 0.5, target, ranked)).per_class()["c1"]["pixel_ap"] == 1
    blind = torch.full_like(ranked, 0.4)
    assert measure(spec, (blind[:, 0] > 0.5, target, blind)).per_class()["c1"]["pixel_ap"] == pytest.approx(2 / 5)
    worst = 1 - ranked  # both true pixels come last: thresholds find 1 of 4, then 2 of 5
    found = measure(spec, (worst[:, 0] > 0.5, target, worst)).per_class()["c1"]["pixel_ap"]
    assert found == pytest.approx(0.5 * 1 / 4 + 0.5 * 2 / 5)


def test_nothing_valid_gives_no_number():
    spec = spec_of("multiclass", 3)
    target = torch.full((1, 2, 2), IGNORE)
    metric = measure(spec, (torch.zeros_like(target), target, torch.full((1, 3, 2, 2), 1 / 3)))
    assert torch.isnan(metric.compute()["ece"])
    assert all(np.isnan(row["pixel_ap"]) for row in metric.per_class().values())
    assert metric.table() == []
