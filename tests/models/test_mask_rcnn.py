"""Mask R-CNN: torchvision's answers and names, any size and encoder, losses that are whole, what its files may hold."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import detection
from torchvision.models.detection.roi_heads import paste_masks_in_image

from seglab.errors import CheckpointError, ConfigError
from seglab.models.batchnorm import FrozenNorm
from seglab.models.mask_rcnn import MaskRCNN
from seglab.types import Spec

SPEC = Spec(("background", "a", "b"), instances=True)
SMALL = {"encoder": "resnet18", "width": 16, "regions": 32, "proposals": 60}
ANCHORS = {"anchors": (8, 16, 32, 64, 128)}


def small(spec=SPEC, seed=0, **settings):
    torch.manual_seed(seed)
    return MaskRCNN(spec, **{**SMALL, **ANCHORS, **settings})


def targets(*counts, size=(64, 96)):
    found = []
    for count in counts:
        masks = torch.zeros(count, *size, dtype=torch.uint8)
        boxes = torch.zeros(count, 4)
        for n in range(count):
            x, y = 10 + 20 * n, 8 + 9 * n
            masks[n, y : y + 20, x : x + 16] = 1
            boxes[n] = torch.tensor([x, y, x + 16, y + 20])
        found.append({"boxes": boxes, "labels": torch.arange(count) % 2 + 1, "masks": masks})
    return found


def theirs(version):
    build = detection.maskrcnn_resnet50_fpn if version == 1 else detection.maskrcnn_resnet50_fpn_v2
    torch.manual_seed(0)
    net = build(
        weights=None, weights_backbone=None, num_classes=3, min_size=96, max_size=128, image_mean=[0] * 3, image_std=[1] * 3
    )
    for name, value in net.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)  # so that norms are no identities
    torch.nn.init.normal_(net.roi_heads.box_predictor.cls_score.weight, std=0.3)  # so that something is certain
    return net.eval()


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_names_and_answers_are_torchvisions(version):
    net, own = theirs(version), MaskRCNN(SPEC, version=version).eval()
    assert own.state_dict().keys() == net.state_dict().keys()
    own.load_state_dict(net.state_dict())
    images = torch.randn(2, 3, 96, 128)
    with torch.no_grad():
        wanted, found = net(list(images)), own(images)
    for right, ours in zip(wanted, found, strict=True):
        assert len(right["scores"]) > 5
        for key, value in (("boxes", ours.boxes), ("labels", ours.labels), ("scores", ours.scores)):
            assert torch.equal(right[key], value), key
        assert torch.equal(right["masks"], paste_masks_in_image(ours.masks[:, None], ours.boxes, (96, 128)))
        assert ours.size == (96, 128)


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_a_file_with_cocos_classes_fills_all_but_what_belongs_to_them(version, tmp_path, caplog):
    build = detection.maskrcnn_resnet50_fpn if version == 1 else detection.maskrcnn_resnet50_fpn_v2
    state = build(weights=None, weights_backbone=None, num_classes=91).state_dict()
    old = {  # the names of 2019, which the published file of v1 has
        r"mask_head\.(\d)\.0\.": lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.",
        r"rpn\.head\.conv\.0\.0\.": "rpn.head.conv.",
        r"fpn\.(inner|layer)_blocks\.(\d)\.0\.": r"fpn.\1_blocks.\2.",
    }
    names = {name: name for name in state}
    for pattern, by in old.items() if version == 1 else ():
        names = {name: re.sub(pattern, by, new) for name, new in names.items()}
    assert version == 2 or sum(a != b for a, b in names.items()) == 26
    torch.save({names[name]: value for name, value in state.items()}, tmp_path / "coco.pth")
    with caplog.at_level("INFO"):
        own = MaskRCNN(SPEC, version=version, weights=str(tmp_path / "coco.pth"))
    different = {name for name, value in own.state_dict().items() if value.shape != state[name].shape}
    assert different == {f"roi_heads.{n}.{p}" for n in ("box_predictor.cls_score", "box_predictor.bbox_pred", "mask_predictor.mask_fcn_logits") for p in ("weight", "bias")}  # fmt: skip
    assert all(torch.equal(v, state[n]) for n, v in own.state_dict().items() if n not in different)
    assert own.mean == (0.485, 0.456, 0.406)
    assert "6 tensors stay at random" in caplog.text


def test_an_encoders_file_fills_the_encoder(tmp_path):
    source = small(seed=1)
    save_file({f"model.{k}": v for k, v in source.encoder.state_dict().items()}, tmp_path / "encoder.safetensors")
    own = small(weights=str(tmp_path / "encoder.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(own.encoder.parameters(), source.encoder.parameters(), strict=True))
    assert not torch.equal(own.rpn.head.cls_logits.weight, source.rpn.head.cls_logits.weight)
    assert own.mean == (0.485, 0.456, 0.406)
    with pytest.raises(CheckpointError, match="does not belong to this encoder"):
        small(weights=str(tmp_path / "encoder.safetensors"), encoder="resnet34")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("counts", [(2, 3), (0, 2), (0, 0), (1,)])
def test_the_parts_of_the_loss_are_finite_and_reach_every_parameter(version, counts):
    net = small(version=version, seed=3).train()
    losses = net(torch.randn(len(counts), 3, 64, 96), targets(*counts))
    assert tuple(losses) == ("objectness", "proposal", "classifier", "box", "mask")
    assert set(losses) == set(MaskRCNN.parts)
    assert all(value.isfinite() and value.ndim == 0 for value in losses.values())
    sum(losses.values()).backward()
    for name, parameter in net.named_parameters():
        # None would stall DDP, where every process waits for every gradient.
        assert not parameter.requires_grad or parameter.grad is not None, name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    assert all(b.isfinite().all() for b in net.buffers())


@pytest.mark.parametrize(("size", "channels"), [((17, 40), 1), ((33, 97), 3), ((64, 64), 7)])
@torch.no_grad()
def test_any_size_and_channels(size, channels):
    net = small(Spec(("background", "a"), "binary", channels=channels, instances=True), min_score=0.0).eval()
    images = torch.randn(2, channels, *size)
    found = net(images)
    assert len(found) == 2
    for one in found:
        assert one.size == size
        assert len(one.scores) == len(one.labels) == len(one.boxes) == len(one.masks) > 0
        assert (one.scores.diff() <= 0).all()  # the most certain first
        assert set(one.labels.tolist()) == {1}
        assert (one.boxes >= 0).all()
        assert (one.boxes[:, 2] <= size[1]).all()
        assert (one.boxes[:, 3] <= size[0]).all()
    alone = net(images[1:])[0]
    torch.testing.assert_close(alone.scores, found[1].scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("encoder", ["vgg11", "tu-tf_efficientnet_lite0", "mit_b0", "tu-convnext_femto", "tu-hrnet_w18_small"])
def test_encoders_of_every_family(encoder):
    net = small(encoder=encoder).train()
    losses = net(torch.randn(1, 3, 64, 64), targets(1, size=(64, 64)))
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
    assert all(p.requires_grad for p in net.backbone.fpn.parameters())
    frozen = [p.requires_grad_(True) for p in net.encoder.parameters() if not p.requires_grad]
    total = sum(feature.sum() for feature in net.backbone(torch.randn(1, 3, 64, 64)).values())
    assert not frozen or not any(g is not None for g in torch.autograd.grad(total, frozen, allow_unused=True))


def test_half_precision_gives_boxes_scores_and_losses_in_float32():
    net = small()
    with torch.autocast("cpu", torch.bfloat16):
        losses = net.train()(torch.randn(1, 3, 64, 96), targets(2))
        with torch.no_grad():
            [found] = net.eval()(torch.randn(1, 3, 64, 96))
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert found.boxes.dtype == found.scores.dtype == found.masks.dtype == torch.float32


def test_all_of_it_in_half_precision():
    net = small().bfloat16()
    losses = net.train()(torch.randn(1, 3, 64, 96, dtype=torch.bfloat16), targets(2))
    sum(losses.values()).backward()
    with torch.no_grad():
        [found] = net.eval()(torch.randn(1, 3, 64, 96, dtype=torch.bfloat16))
    assert found.boxes.dtype == torch.float32


def test_frozen_norms_stay_as_they_are():
    net = small(freeze_norms=True).train()
    net = torch.nn.SyncBatchNorm.convert_sync_batchnorm(net).train()  # which would let them learn again
    norms = [m for m in net.encoder.modules() if isinstance(m, FrozenNorm)]
    assert len(norms) == 20
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in net.encoder.modules())
    before = [m.running_mean.clone() for m in norms]
    net(torch.randn(1, 3, 64, 96) + 5, targets(1))
    assert all(torch.equal(m.running_mean, b) for m, b in zip(norms, before, strict=True))
    assert not any(p.requires_grad for m in norms for p in m.parameters())
    assert small(freeze_norms=True).state_dict().keys() == small().state_dict().keys()


@pytest.mark.parametrize("encoder", ["resnet18", "tu-tf_efficientnet_lite0"])
def test_frozen_norms_compute_what_norms_do_in_evaluation(encoder):
    free, frozen = small(encoder=encoder).eval(), small(encoder=encoder, freeze_norms=True).train()
    frozen.load_state_dict(free.state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found = [net.backbone(image).values() for net in (free, frozen)]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_what_came_before_does_not_matter():
    """torchvision takes the scales of its features from the first image it sees, and keeps them."""
    fresh, used = small(min_score=0.0).eval(), small(min_score=0.0).eval()
    used(torch.randn(1, 3, 20, 40))
    image = torch.randn(1, 3, 100, 100)
    [a], [b] = fresh(image), used(image)
    assert torch.equal(a.boxes, b.boxes)
    assert torch.equal(a.masks, b.masks)


def test_anchors_are_no_half_precision():
    net, seen = small(), []
    forward = net.rpn.anchor_generator.forward
    net.rpn.anchor_generator.forward = lambda *a: seen.append(forward(*a)) or seen[-1]
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        net.eval()(torch.randn(1, 3, 64, 1056))
    assert seen[0][0].dtype == torch.float32
    assert (seen[0][0].mean(0).diff() != 0).any()


@torch.no_grad()
@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)])
@pytest.mark.parametrize("side", [6, 8, 30, 50])
def test_a_head_that_answers_what_it_is_taught_gives_the_object_back(corner, side):
    """From a true mask to what the heads are taught, and from that answer to pixels; at the image's border too."""
    from torchvision.models.detection.roi_heads import project_masks_on_boxes

    from seglab.tasks.instance import boxes_of, paste

    size = (64, 80)
    mask = torch.zeros(1, *size, dtype=torch.uint8)
    top, left = round(corner[0] * (size[0] - side)), round(corner[1] * (size[1] - side))
    mask[0, top : top + side, left : left + side] = 1
    box, seen = boxes_of(mask > 0), []

    def taught(logits, regions, masks, labels, which):
        seen.append(project_masks_on_boxes(masks[0], regions[0], which[0], 28))
        return logits.sum() * 0

    net = small().train()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seglab.models.detector.maskrcnn_loss", taught)
        patch.setattr(
            type(net.roi_heads), "select_training_samples", lambda *_: ([box], [torch.tensor([0])], [torch.tensor([1])], [box])
        )
        net(torch.randn(1, 3, *size), [{"boxes": box, "labels": torch.tensor([1]), "masks": mask}])
    back = paste(seen[0] * 0.9 + 0.05, box, size)
    assert torch.equal(back, mask > 0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"version": 3}, r"model\.version is 3; it must be 1 or 2"), ({"anchors": (8, 16)}, r"model\.anchors is \[8, 16\]; give 5"),
        ({"ratios": ()}, r"model\.ratios"), ({"width": 0}, r"model\.width is 0"), ({"regions": 0}, r"model\.regions is 0"),
        ({"detections": 0}, r"model\.detections is 0"), ({"min_score": 1.5}, r"model\.min_score is 1\.5"), ({"nms": -1}, r"model\.nms"),
        ({"encoder": "resnet99"}, "no encoder model.encoder=resnet99"),
        ({"encoder": "tu-vit_tiny_patch16_224"}, "model.encoder=tu-vit_tiny_patch16_224"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(settings, words):
    with pytest.raises(ConfigError, match=words) as error:
        small(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spec", [Spec(("background", "a"), "binary"), Spec(("a", "b"), "multilabel", instances=True)])
def test_data_without_objects_are_refused(spec):
    with pytest.raises(ConfigError, match=r"data\.foreground=true, with COCO annotations data=coco"):
        small(spec)
