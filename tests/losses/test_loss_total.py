"""The weighted sum, and the sentences for options and modes that cannot be."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.errors import ConfigError
from seglab.losses.base import Loss
from seglab.losses.ce import BinaryCrossEntropy, CrossEntropy
from seglab.losses.focal import Focal
from seglab.losses.lovasz import Lovasz
from seglab.losses.region import Dice, Jaccard, Tversky
from seglab.losses.total import Total
from seglab.types import Spec

SPEC = Spec(("sky", "road", "car"))
BINARY = Spec(("background", "cell"), mode="binary")
TAGS = Spec(("cat", "dog"), mode="multilabel")


def inputs(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 4, 5, generator=gen), torch.randint(0, 3, (2, 4, 5), generator=gen)


@given(a=st.floats(1e-3, 1e3), b=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_sum_parts_and_gradient_equal_those_by_hand(a: float, b: float, seed: int) -> None:
    logits, mask = inputs(seed)
    logits.requires_grad_()
    ce, dice = CrossEntropy(SPEC), Dice(SPEC)
    loss, parts = Total({"ce": (a, ce), "dice": (b, dice)})(logits, mask)
    torch.testing.assert_close(loss, a * ce(logits, mask) + b * dice(logits, mask))
    assert list(parts) == ["ce", "dice"]
    assert torch.equal(parts["ce"], ce(logits, mask))
    assert torch.equal(parts["dice"], dice(logits, mask))
    assert not any(part.requires_grad for part in parts.values())
    (grad,) = torch.autograd.grad(loss, logits)
    (by_hand,) = torch.autograd.grad(a * ce(logits, mask) + b * dice(logits, mask), logits)
    torch.testing.assert_close(grad, by_hand)


def test_a_total_is_a_module_without_state() -> None:
    total = Total({"ce": (1, CrossEntropy(SPEC, class_weights=[1, 2, 3])), "lovasz": (0.5, Lovasz(SPEC))})
    assert not total.state_dict()
    assert len(list(total.buffers())) == 3  # so that .to(device) reaches them
    void = torch.full((2, 4, 5), 255)
    loss, parts = total(inputs()[0].requires_grad_(), void)
    loss.backward()
    assert loss == 0
    assert set(parts) == {"ce", "lovasz"}


@pytest.mark.parametrize("weight", [0, -1.0, math.nan, math.inf, "0.5", None, True])
def test_a_weight_that_cannot_be_is_named(weight: Any) -> None:
    with pytest.raises(ConfigError, match=r"loss\.dice\.weight is .*above 0"):
        Total({"ce": (1.0, CrossEntropy(SPEC)), "dice": (weight, Dice(SPEC))})


def test_no_terms() -> None:
    with pytest.raises(ConfigError, match="loss=ce"):
        Total({})


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: BinaryCrossEntropy(SPEC), "'bce' is for binary and multilabel masks.*multiclass; use ce"),
        (lambda: CrossEntropy(SPEC, class_weights=[1, 2]), "class_weights is 2 numbers; give a list of 3.*sky, road, car"),
        (lambda: CrossEntropy(SPEC, class_weights=2.0), "class_weights is 2.0; give a list of 3"),  # type: ignore[arg-type]
        (lambda: CrossEntropy(SPEC, class_weights="1,2,3"), "class_weights is '1,2,3'; give a list"),  # type: ignore[arg-type]
        (lambda: CrossEntropy(SPEC, class_weights=[1, -2, 1]), r"class_weights\[1\] is -2; .*at least 0"),
        (lambda: CrossEntropy(SPEC, class_weights=[1, math.nan, 1]), r"class_weights\[1\] is nan"),
        (lambda: CrossEntropy(SPEC, class_weights=[0, 0, 0]), "all 0"),
        (lambda: CrossEntropy(BINARY, class_weights=[1.0]), "list of 2.*background, cell"),
        (lambda: CrossEntropy(SPEC, label_smoothing=1.0), "label_smoothing is 1.0; .*below 1"),
        (lambda: BinaryCrossEntropy(BINARY, pos_weight=0), "pos_weight is 0; .*above 0"),
        (lambda: BinaryCrossEntropy(TAGS, pos_weight=[1, 2, 3]), "pos_weight is 3 numbers; give a list of 2"),
        (lambda: BinaryCrossEntropy(BINARY, pos_weight="2"), "pos_weight is '2'"),  # type: ignore[arg-type]
        (lambda: Focal(SPEC, gamma=-1), "'focal': gamma is -1"),
        (lambda: Dice(SPEC, smooth=-1), "'dice': smooth is -1; .*at least 0"),
        (lambda: Jaccard(SPEC, smooth=math.inf), "'jaccard': smooth is inf"),
        (lambda: Tversky(SPEC, alpha=0), "'tversky': alpha is 0; .*above 0"),
        (lambda: Tversky(SPEC, beta=None), "beta is None"),  # type: ignore[arg-type]
    ],
)
def test_options_that_cannot_be_end_in_one_sentence(make: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("loss", [CrossEntropy(SPEC), Dice(SPEC), Dice(BINARY), Lovasz(TAGS)])
@pytest.mark.parametrize(
    ("logits", "mask"),
    [((2, 5, 4, 4), (2, 4, 4)), ((2, 3, 4, 4), (2, 1, 4, 4)), ((2, 3, 4, 4), (2, 4, 5)), ((2, 3, 4), (2, 4))],
)
def test_shapes_that_do_not_fit_are_an_error_not_a_broadcast(loss: Loss, logits: tuple[int], mask: tuple[int]) -> None:
    with pytest.raises(ConfigError, match="channels"):
        loss(torch.zeros(logits), torch.zeros(mask, dtype=torch.int64))


def test_class_weights_scale_freely_and_follow_the_device_dtype() -> None:
    logits, mask = inputs()
    small, large = (CrossEntropy(SPEC, class_weights=[f, 2 * f, 3 * f])(logits, mask) for f in (1e-37, 1e37))
    torch.testing.assert_close(small, large)
    loss = CrossEntropy(SPEC, class_weights=[1, 2, 4]).to(torch.bfloat16)  # as precision=bf16-true does
    torch.testing.assert_close(loss(logits, mask), CrossEntropy(SPEC, class_weights=[1, 2, 4])(logits, mask))
