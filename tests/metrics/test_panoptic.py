"""Panoptic quality of a map of classes: that of loops over pixels."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from object_scenes import IGNORE, quick, spec_of, values_of

from seglab.metrics.panoptic import Panoptic


def panoptic_loops(pred, target, k, scored):
    table = {}
    for c in scored:
        total, tp, fp, fn = 0, 0, 0, 0
        for p, t in zip(pred, target, strict=True):
            said, true = (p == c) & (t != IGNORE), t == c
            if (said | true).any():
                iou = (said & true).sum().item() / (said | true).sum().item()
                total, tp = (total + iou, tp + 1) if iou > 0.5 else (total, tp)
                fp += iou <= 0.5 and said.any().item()
                fn += iou <= 0.5 and true.any().item()
        n = tp + fp / 2 + fn / 2
        table[f"c{c}"] = (
            {"pq": total / n, "sq": total / tp if tp else 0, "rq": tp / n} if n else dict.fromkeys(("pq", "sq", "rq"), np.nan)
        )
    means = {n: [row[n] for row in table.values() if row[n] == row[n]] for n in ("pq", "sq", "rq")}
    return {n: np.mean(v) if v else np.nan for n, v in means.items()}, table


def blotches(rng, k, shape):
    target = np.kron(rng.integers(0, k, (shape[0], 2, 2)), np.ones((1, shape[1] // 2, shape[2] // 2), int))
    pred = np.where(rng.random(shape) < rng.choice([0.1, 0.5]), rng.integers(0, k, shape), target)
    target[rng.random(shape) < 0.1] = IGNORE
    return torch.from_numpy(pred), torch.from_numpy(target)


@quick
@given(st.integers(0, 2**32 - 1), st.sampled_from([(2, "binary"), (2, "multiclass"), (5, "multiclass"), (70, "multiclass")]))
def test_panoptic_equals_loops_over_pixels(seed, kind):
    k, mode = kind
    rng = np.random.default_rng(seed)
    spec = spec_of(k, False, mode)
    pred, target = blotches(rng, k, (rng.integers(1, 5), 8, 8))
    metric = Panoptic(spec)
    for i in itertools.chain(range(len(pred) - 1, -1, -1), [0]):  # one at a time, backwards, the first twice
        metric.update(pred[[i]], target[[i]], torch.tensor([i]))
    total, table = panoptic_loops(pred, target, k, spec.scored)
    np.testing.assert_allclose([values_of(metric)[n] for n in Panoptic.names], [total[n] for n in Panoptic.names], rtol=1e-12)
    mine = metric.per_class()
    assert list(mine) == list(table)
    for name, row in table.items():
        np.testing.assert_allclose([mine[name][n] for n in row], list(row.values()), rtol=1e-12)


def test_panoptic_of_one_image_by_hand():
    target = torch.tensor([[[1, 1, 1, 1, 0, 0, 0, 0]]])
    pred = torch.tensor([[[1, 1, 1, 0, 0, 0, 0, 0]]])
    metric = Panoptic(spec_of(2, False, "binary"))
    metric.update(pred, target, torch.tensor([0]))
    assert values_of(metric) == {"pq": 0.75, "sq": 0.75, "rq": 1}
    assert list(metric.per_class()) == ["c1"]
    assert metric.rows().tolist() == [[0, 4, 1, 0, 3, 0, 1]]
    perfect = Panoptic(spec_of(4, False))
    perfect.update(target, target, torch.tensor([0]))
    assert values_of(perfect) == {"pq": 1, "sq": 1, "rq": 1}
    assert np.isnan(perfect.per_class()["c3"]["pq"])
    with pytest.raises(ValueError, match="per_image"):
        Panoptic(spec_of(2, False), per_image=False)
