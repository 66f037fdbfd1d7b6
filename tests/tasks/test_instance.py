"""The instance task: what a detector is taught, what becomes of what it finds, and what it is told when it cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import TINY

from seglab import rle
from seglab.config import load, plain
from seglab.engine import assemble
from seglab.engine.keys import check_top
from seglab.errors import ConfigError
from seglab.tasks.instance import Instance, boxes_of, paste, segment, target
from seglab.tasks.truth import truth
from seglab.types import Detections, Spec

SPEC = Spec(("background", "a", "b"), instances=True)


def task(**settings):
    metrics = {phase: torch.nn.Module() for phase in ("val", "test")}
    return Instance(torch.nn.Identity(), torch.nn.Identity(), metrics, SPEC, **settings)


def test_boxes_are_the_outer_edges_of_the_pixels():
    rng = np.random.default_rng(0)
    masks = torch.from_numpy(rng.random((40, 9, 13)) < rng.uniform(0.01, 0.3, (40, 1, 1)))
    masks = masks[masks.flatten(1).any(1)]
    for mask, box in zip(masks, boxes_of(masks), strict=True):
        rows, columns = np.nonzero(mask.numpy())
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert boxes_of(torch.zeros(0, 4, 5, dtype=torch.bool)).shape == (0, 4)
    one = torch.zeros(1, 4, 5, dtype=torch.bool)
    one[0, 2, 3] = True
    assert boxes_of(one).tolist() == [[3, 2, 4, 3]]  # a pixel is a box of one by one, not a point


def test_what_is_taught_leaves_out_crowds_and_what_no_pixel_shows():
    layers = torch.zeros(2, 6, 8, dtype=torch.int32)
    layers[0, :2, :3], layers[0, 4:, :], layers[1, 1:3, 1:5] = 1, 3, 4  # 1 and 4 overlap, 2 has no pixel, 3 is a crowd
    labels, crowd = torch.tensor([2, 1, 1, 1, -1]), torch.tensor([False, False, True, False, False])
    found = target(layers, labels, crowd)
    assert found["labels"].tolist() == [2, 1]
    assert found["boxes"].tolist() == [[0, 0, 3, 2], [1, 1, 5, 3]]
    assert found["masks"].sum((1, 2)).tolist() == [6, 8]  # whole, where they overlap too
    assert (found["boxes"].dtype, found["labels"].dtype, found["masks"].dtype) == (torch.float32, torch.int64, torch.uint8)
    none = target(layers * 0, labels, crowd)
    assert none["boxes"].shape == (0, 4)
    assert none["masks"].shape == (0, 6, 8)
    no_ids = target(layers * 0, labels[:0], crowd[:0])
    assert len(no_ids["labels"]) == 0


def test_true_objects_of_a_batch():
    layers = torch.zeros(2, 2, 6, 8, dtype=torch.int32)
    layers[0, 0, :2, :3], layers[0, 1, 1:3, 1:5] = 3, 1
    batch = {
        "instances": layers,
        "labels": torch.tensor([[2, 1, 1], [-1, -1, -1]]),
        "crowd": torch.tensor([[0, 0, 1], [0, 0, 0]]) > 0,
    }
    first, second = truth(batch)
    assert first.labels.tolist() == [2, 1]  # ids 1 and 3
    assert first.crowd.tolist() == [False, True]
    assert rle.decode(first.rles, first.size).sum((1, 2)).tolist() == [8, 6]
    assert first.boxes.tolist() == [[1, 1, 5, 3], [0, 0, 3, 2]]
    assert (first.size, second.size, second.rles) == ((6, 8), (6, 8), [])


def test_segments_share_the_pixels_by_certainty():
    masks = np.zeros((4, 4, 10), bool)
    masks[0, :, :6], masks[1, :, 4:8], masks[2, :, 5:7], masks[3, :, 8:] = True, True, True, True
    scores = np.array([0.9, 0.8, 0.95, 0.3])
    ids = segment(masks, scores, 0.5)
    assert ids[0].tolist() == [1, 1, 1, 1, 1, 3, 3, 0, 0, 0]  # 2 keeps 1 of its 4 columns, 4 is not certain enough
    assert segment(masks, scores, 0.3)[0].tolist() == [1, 1, 1, 1, 1, 3, 3, 0, 4, 4]
    assert segment(masks[:2], scores[:2], 0.5)[0].tolist() == [1] * 6 + [0] * 4  # exactly half is not more than half
    assert segment(masks[:0], scores[:0], 0.5).shape == (4, 10)


def detections(scores, size=(8, 12)):
    boxes = torch.tensor([[0.0, 0.0, 6.0, 8.0], [6.0, 0.0, 12.0, 4.0], [6.0, 4.0, 12.0, 8.0]])
    masks = torch.ones(3, 28, 28)
    return Detections(boxes, torch.tensor([2, 1, 2]), torch.tensor(scores), masks, size)


def test_from_detections_to_a_map_of_classes_and_objects():
    made = task(min_score=0.5)
    output = made.at_size([detections([0.9, 0.8, 0.4]), detections([0.4, 0.3, 0.2])], (16, 24))  # twice as large
    for mask, (left, top, right, bottom) in zip(output[0].masks, output[0].boxes.astype(int), strict=True):
        assert mask[top:bottom, left:right].all()
        assert mask.sum() == (bottom - top) * (right - left)
    ids = made.decode(output)
    assert ids.shape == (2, 16, 24)
    assert ids.unique().tolist() == [0, 1, 2]
    assert (ids[0, :, :12] == 2).all()
    assert (ids[0, :8, 12:] == 1).all()
    assert (ids[0, 8:, 12:] == 0).all()
    assert not ids[1].any()
    found, segments = made.objects(output, made.decode(output))
    assert [len(one.rles) for one in found] == [3, 3]
    assert [len(one.rles) for one in segments] == [2, 0]
    assert found[0].scores.tolist() == pytest.approx([0.9, 0.8, 0.4])
    assert found[0].boxes.tolist() == [[0, 0, 12, 16], [12, 0, 24, 8], [12, 8, 24, 16]]
    assert segments[0].labels.tolist() == [2, 1]
    assert found[0].size == segments[1].size == (16, 24)


@pytest.mark.parametrize("seed", range(20))
def test_a_mask_that_is_read_in_its_box_comes_back_where_it_was(seed):
    """What a detector is taught (torchvision's reading of a mask in a box) and what is made of its answer are inverse."""
    from torchvision.models.detection.roi_heads import project_masks_on_boxes

    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :64]
    a, b = rng.uniform(4, 14, 2)
    mask = torch.from_numpy(((x - rng.uniform(16, 48)) / a) ** 2 + ((y - rng.uniform(16, 32)) / b) ** 2 < 1)[None]
    box = boxes_of(mask)
    grid = project_masks_on_boxes(mask.to(torch.uint8), box - 0.5, torch.zeros(1, dtype=torch.int64), 28)
    back = paste(grid, box, (48, 64))
    assert float((back & mask).sum() / (back | mask).sum()) > 0.97
    shifted = paste(grid, box + 1, (48, 64))
    assert float((shifted & mask).sum() / (shifted | mask).sum()) < 0.97


def test_an_image_without_detections():
    made = task()
    none = Detections(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0), torch.zeros(0, 28, 28), (8, 12))
    output = made.at_size([none], (8, 12))
    assert not made.decode(output).any()
    assert [len(some[0].rles) for some in made.objects(output, made.decode(output))] == [0, 0]


RCNN = ["model=mask_rcnn", "model.encoder=resnet18", "model.width=16"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["loss=dice+ce"], r"loss 'dice' is computed from logits, and model=MaskRCNN gives instances; use loss=own, whose parts have "
                           r"weights: loss\.own\.objectness, proposal, classifier, box, mask"),
        (["task=semantic"], "gives instances, and task=Semantic works on logits"), (["loss.own.mask=-1"], "loss 'own': mask is -1"),
        ([f"loss.own.{p}=0" for p in ("objectness", "proposal", "classifier", "box", "mask")], "at least one a weight above 0"),
        (["task.min_score=2"], r"task\.min_score is 2"), (["instances=watershed"], "finds objects itself; set instances=none"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(overrides, words):
    given = [o for o in TINY if not o.startswith("model=")]
    config = check_top(plain(load([*given, *RCNN, *overrides])))
    with pytest.raises(ConfigError, match=words) as error:
        assemble.task(config, SPEC)
    assert "\n" not in str(error.value)


def test_a_semantic_network_needs_loss_own_no_more_than_a_detector_dice():
    config = check_top(plain(load([*TINY, "loss=own"])))
    with pytest.raises(ConfigError, match=r"computed from instances, and model=Tiny gives logits; use loss=dice\+ce"):
        assemble.task(config, SPEC)


def test_the_parts_of_the_loss_have_weights():
    config = check_top(plain(load([*TINY, *RCNN, "model=mask_rcnn", "loss.own.mask=3", "loss.own.box=0", "loss.own.weight=2"])))
    made = assemble.task(config, SPEC)
    parts = {name: torch.tensor(float(n)) for n, name in enumerate(made.network.parts, 1)}
    total, logged = made.compute_loss(parts, {"mask": None})
    assert parts.keys() == {"objectness", "proposal", "classifier", "box", "mask"}
    assert float(total) == 2 * (1 + 2 + 3 + 3 * 5)
    assert made.losses("train") == ("loss", "loss/own", *(f"loss/{p}" for p in parts))
    assert made.losses("val") == ()
    assert {f"loss/{name}" for name in logged} == set(made.losses("train")[1:])
    assert config["monitor"] == "val/ap"
