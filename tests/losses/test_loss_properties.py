"""House rule 4.5: losses are total. Each property runs over random modes, shapes, classes, ignored parts and scales."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seglab.losses.base import Loss
from seglab.losses.boundary import Boundary
from seglab.losses.ce import BinaryCrossEntropy, CrossEntropy
from seglab.losses.cldice import ClDice
from seglab.losses.focal import Focal
from seglab.losses.lovasz import Lovasz
from seglab.losses.mcc import MCC
from seglab.losses.ohem import OHEM
from seglab.losses.region import Dice, FocalTversky, Jaccard, Tversky
from seglab.losses.soft_ce import SoftCrossEntropy
from seglab.types import Spec

MAKE: dict[str, Callable[[Spec], Loss]] = {
    "ce": CrossEntropy,
    "ce-weighted": lambda s: CrossEntropy(s, class_weights=[0.5 + k for k in range(s.num_classes)]),
    "ce-smoothed": lambda s: CrossEntropy(s, label_smoothing=0.1),
    "bce": lambda s: BinaryCrossEntropy(s, pos_weight=3.0),
    "focal": Focal,
    "focal-half": lambda s: Focal(s, gamma=0.5, class_weights=[0.5 + k for k in range(s.num_classes)]),
    "dice": Dice,
    "dice-smooth": lambda s: Dice(s, smooth=1.0),
    "jaccard": Jaccard,
    "tversky": Tversky,
    "focal_tversky": FocalTversky,
    "lovasz": Lovasz,
    "mcc": MCC,
    "ohem": lambda s: OHEM(s, class_weights=[0.5 + k for k in range(s.num_classes)]),
    "soft_ce": lambda s: SoftCrossEntropy(s, class_weights=[0.5 + k for k in range(s.num_classes)]),
    "boundary": Boundary,
    "cldice": lambda s: ClDice(s, iterations=1),
}
REGION = ("dice", "jaccard", "tversky", "focal_tversky")
SOFT = ("ce-smoothed", "soft_ce")  # sure predictions cost something
SPATIAL = ("soft_ce", "boundary", "cldice")  # neighbours count
every_loss = pytest.mark.parametrize("name", MAKE)
some = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass
class Case:
    spec: Spec
    logits: torch.Tensor
    mask: torch.Tensor

    @property
    def ignored(self) -> torch.Tensor:
        """Boolean, broadcasts against the logits."""
        ignored = self.mask == self.spec.ignore_index
        return ignored if self.spec.mode == "multilabel" else ignored.unsqueeze(1)


def test_every_loss_on_logits_is_tested_here() -> None:
    files = (Path(__file__).parents[2] / "conf" / "loss").glob("*.yaml")
    assert {p.stem for p in files} - {"iou", "masks", "own"} == {name.partition("-")[0] for name in MAKE}


def make_spec(mode: str, classes: int, ignore: int = 255) -> Spec:
    classes = 2 if mode == "binary" else classes
    return Spec(tuple(f"c{k}" for k in range(classes)), mode=mode, ignore_index=ignore)  # type: ignore[arg-type]


@st.composite
def cases(draw: st.DrawFn, scales: tuple[float, ...] = (0.0, 1.0, 30.0, 1e4)) -> Case:
    """A legal input: absent classes, empty masks, all ignored, 1x1 images and batches of one come up often."""
    mode = draw(st.sampled_from(("binary", "multiclass", "multilabel")))
    spec = make_spec(mode, draw(st.integers(1, 5)), draw(st.sampled_from((255, -1, -100))))
    batch, height, width = draw(st.integers(1, 3)), draw(st.integers(1, 7)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    top = 2 if mode == "multilabel" else spec.num_classes
    present = draw(st.lists(st.integers(0, top - 1), min_size=1, max_size=top, unique=True))
    shape = (batch, spec.num_classes, height, width) if mode == "multilabel" else (batch, height, width)
    mask = rng.choice(present, shape)
    mask[rng.random(shape) < draw(st.sampled_from((0.0, 0.3, 1.0)))] = spec.ignore_index
    logits = rng.standard_normal((batch, spec.out_channels, height, width)) * draw(st.sampled_from(scales))
    return Case(spec, torch.from_numpy(logits.clip(-1e4, 1e4)).float(), torch.from_numpy(mask))


def build(name: str, spec: Spec) -> Loss:
    """The loss, or ce where it is not for the mode (a refusal is tested elsewhere)."""
    return MAKE["ce" if name == "bce" and spec.mode == "multiclass" else name](spec)


def value_and_grad(loss: Loss, logits: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, mask)
    value.backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


def perfect(case: Case, margin: float) -> torch.Tensor:
    """Logits that give each valid pixel its class by `margin`."""
    if case.spec.mode == "multiclass":
        right = case.mask.unsqueeze(1) == torch.arange(case.spec.num_classes).view(-1, 1, 1)
    else:
        right = (case.mask if case.spec.mode == "multilabel" else case.mask.unsqueeze(1)) == 1
    return torch.where(right, margin, -margin)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, "autocast"], ids=str)
@given(case=cases())
@settings(parent=some, max_examples=12)
def test_value_and_gradient_are_finite_and_ignored_pixels_get_none(name: str, dtype: torch.dtype | str, case: Case) -> None:
    loss = build(name, case.spec)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "autocast"):
        logits = case.logits if isinstance(dtype, str) else case.logits.to(dtype)
        value, grad = value_and_grad(loss, logits, case.mask)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(grad).all()
    assert value > -1e-5
    assert not grad[case.ignored.expand_as(grad)].any()
    if case.ignored.all():
        assert value == 0


@every_loss
@given(case=cases(), other=st.sampled_from((-1e4, -3.0, 0.0, 7.0, 1e4)))
@some
def test_what_lies_under_ignored_pixels_changes_no_bit(name: str, case: Case, other: float) -> None:
    loss = build(name, case.spec)
    value, grad = value_and_grad(loss, case.logits, case.mask)
    value2, grad2 = value_and_grad(loss, case.logits.masked_fill(case.ignored, other), case.mask)
    assert torch.equal(value, value2)
    assert torch.equal(grad, grad2)


@every_loss
@given(case=cases(scales=(1.0, 30.0)))
@some
def test_ignoring_pixels_equals_cutting_them_off(name: str, case: Case) -> None:
    loss = build(name, case.spec)
    pad = (0, 2, 0, 1)
    logits = torch.nn.functional.pad(case.logits, pad, value=5.0)
    mask = torch.nn.functional.pad(case.mask, pad, value=case.spec.ignore_index)
    value, grad = value_and_grad(loss, case.logits, case.mask)
    value2, grad2 = value_and_grad(loss, logits, mask)
    torch.testing.assert_close(value2, value)
    torch.testing.assert_close(grad2[..., : grad.shape[2], : grad.shape[3]], grad)


@pytest.mark.parametrize("name", [n for n in MAKE if n not in SOFT])
@given(case=cases())
@some
def test_perfect_logits_cost_nothing(name: str, case: Case) -> None:
    allowed = 1e-5**0.75 if name == "focal_tversky" else 1e-5  # the power lifts rounding errors, too
    assert build(name, case.spec)(perfect(case, 30.0), case.mask).abs() < allowed


@pytest.mark.parametrize("name", REGION)
@given(case=cases())
@some
def test_a_wholly_wrong_prediction_costs_one_however_few_classes_are_present(name: str, case: Case) -> None:
    if case.spec.mode == "multiclass" and case.spec.num_classes == 1:
        return  # there is nothing wrong to say
    logits = perfect(case, 30.0)
    logits = logits.roll(1, 1) if case.spec.mode == "multiclass" else -logits
    expected = 0.0 if case.ignored.all() else 1.0
    assert build(name, case.spec)(logits, case.mask).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", SPATIAL)
@given(case=cases(scales=(1.0, 30.0)))
@some
def test_turning_and_mirroring_the_image_changes_nothing(name: str, case: Case) -> None:
    loss = build(name, case.spec)
    logits, mask = case.logits.transpose(-1, -2).flip(-1), case.mask.transpose(-1, -2).flip(-1)
    torch.testing.assert_close(loss(logits, mask), loss(case.logits, case.mask))
    torch.testing.assert_close(loss(logits.flip(-1), mask.flip(-1)), loss(case.logits, case.mask))


@every_loss
@given(case=cases(scales=(1.0, 30.0)), seed=st.integers(0, 1000))
@some
def test_the_order_of_the_batch_and_of_the_pixels_does_not_matter(name: str, case: Case, seed: int) -> None:
    loss, gen = build(name, case.spec), torch.Generator().manual_seed(seed)
    logits, mask = case.logits, case.mask
    for dim in (0,) if name in SPATIAL else (0, -1, -2):
        order = torch.randperm(logits.shape[dim], generator=gen)
        logits, mask = logits.index_select(dim, order), mask.index_select(dim, order)
    torch.testing.assert_close(loss(logits, mask), loss(case.logits, case.mask))


@pytest.mark.parametrize("name", [n for n in MAKE if n not in ("bce", "cldice")])  # cldice leaves out the first class
@given(case=cases(scales=(1.0, 30.0)), seed=st.integers(0, 1000))
@some
def test_renaming_the_classes_changes_nothing(name: str, case: Case, seed: int) -> None:
    if case.spec.mode == "binary":
        return
    loss = MAKE[name](case.spec)
    value = loss(case.logits, case.mask)
    order = torch.randperm(case.spec.num_classes, generator=torch.Generator().manual_seed(seed))
    if case.spec.mode == "multilabel":
        mask = case.mask[:, order]
    else:
        mask = torch.where(case.mask == case.spec.ignore_index, case.mask, order.argsort()[case.mask.clamp(0, len(order) - 1)])
    if getattr(loss, "class_weights", None) is not None:
        loss.class_weights = loss.class_weights[order]
    torch.testing.assert_close(loss(case.logits[:, order], mask), value)


@pytest.mark.parametrize("name", [n for n in MAKE if n not in ("soft_ce", "cldice")])  # their neighbours may say otherwise
@given(case=cases(scales=(1.0,)))
@some
def test_wrong_pixels_are_pushed_the_right_way(name: str, case: Case) -> None:
    """The gradient at a pixel's own channel asks for more where the class is, for less where it is not."""
    _, grad = value_and_grad(build(name, case.spec), case.logits, case.mask)
    right = perfect(case, 1.0) > 0
    wrong = (case.logits > 0) != right
    wrong &= ~case.ignored
    if case.spec.mode == "multiclass":
        if case.spec.num_classes == 1:
            return
        guess = case.logits.argmax(1, keepdim=True)
        wrong = right & ~torch.zeros_like(right).scatter(1, guess, True)
    if name == "lovasz":  # its slope is 0 where the IoU of the worse pixels already is 0
        assert ((grad[wrong] < 0) == right[wrong])[grad[wrong] != 0].all()
        assert grad.any() or not wrong.any()
    else:
        assert ((grad[wrong] < 0) == right[wrong]).all()
        assert (grad[wrong] != 0).all()


@every_loss
@pytest.mark.parametrize("mode", ["binary", "multilabel"])
def test_an_empty_mask_pushes_every_false_positive_down(name: str, mode: str) -> None:
    spec = make_spec(mode, 3)
    logits = torch.randn(2, spec.out_channels, 4, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros((2, 3, 4, 5) if mode == "multilabel" else (2, 4, 5), dtype=torch.int64)
    value, grad = value_and_grad(MAKE[name](spec), logits, mask)
    assert value > 0
    if name == "lovasz":
        assert (grad[logits > -1] > 0).all()  # inside the hinge's margin
    else:
        assert (grad > 0).all() if name not in ("ce-smoothed", "ohem") else (grad[logits > 0] > 0).all()


@every_loss
@pytest.mark.parametrize("mode", ["binary", "multiclass", "multilabel"])
def test_layout_and_repetition_change_no_bit_and_nothing_enters_a_checkpoint(name: str, mode: str) -> None:
    spec = make_spec(mode, 3)
    loss = build(name, spec)
    gen = torch.Generator().manual_seed(0)
    logits = torch.randn(2, spec.out_channels, 33, 17, generator=gen)
    mask = torch.randint(0, 2, (2, 3, 33, 17) if mode == "multilabel" else (2, 33, 17), generator=gen)
    value, grad = value_and_grad(loss, logits, mask)
    again, grad2 = value_and_grad(loss, logits, mask)
    assert torch.equal(value, again)
    assert torch.equal(grad, grad2)
    last, grad3 = value_and_grad(loss, logits.to(memory_format=torch.channels_last), mask)
    torch.testing.assert_close(last, value)
    torch.testing.assert_close(grad3.contiguous(), grad)
    assert not loss.state_dict()
    assert not list(loss.parameters())


class Product(Loss):
    name = "product"

    def compute(self, logits: torch.Tensor, mask: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return (logits * valid).flatten() @ logits.flatten()


def test_a_new_loss_is_kept_in_float32_by_the_base() -> None:
    logits = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 8, 8, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        value = Product(make_spec("binary", 2))(logits, mask)
    torch.testing.assert_close(value, logits.square().sum())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@every_loss
@pytest.mark.parametrize("mode", ["binary", "multiclass", "multilabel"])
def test_deterministic_on_cuda_and_equal_to_cpu(name: str, mode: str) -> None:
    spec = make_spec(mode, 5)
    gen = torch.Generator().manual_seed(0)
    logits = torch.randn(4, spec.out_channels, 128, 128, generator=gen)
    mask = torch.randint(0, 2, (4, 5, 128, 128) if mode == "multilabel" else (4, 128, 128), generator=gen)
    mask[..., :9] = 255
    cpu = value_and_grad(build(name, spec), logits, mask)
    loss = build(name, spec).cuda()
    torch.use_deterministic_algorithms(True)
    try:
        runs = [value_and_grad(loss, logits.cuda(), mask.cuda()) for _ in range(5)]
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(runs[0][0].cpu(), cpu[0])
    torch.testing.assert_close(runs[0][1].cpu(), cpu[1])
    assert all(torch.equal(runs[0][0], v) and torch.equal(runs[0][1], g) for v, g in runs)
