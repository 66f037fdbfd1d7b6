"""What a batch shows of each class: against plain loops, for every kind of mask and device's way of counting."""

from __future__ import annotations

import pytest
import torch

from seglab.tasks.ledger import Ledger, class_pixels, seen
from seglab.types import Mode, Spec


def masks(mode: Mode, ignore: int, dtype: torch.dtype, classes: int = 5) -> tuple[Spec, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    names = ("a", "b") if mode == "binary" else tuple(f"c{n}" for n in range(classes))
    spec = Spec(names, mode, ignore)
    size = (3, len(names), 9, 7) if mode == "multilabel" else (3, 9, 7)
    mask = torch.randint(0, 2 if mode == "multilabel" else max(2, len(names) - 1), size, generator=generator)
    mask[torch.rand(size, generator=generator) < 0.2] = ignore
    return spec, mask.to(dtype)


@pytest.mark.parametrize("mode", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize(("ignore", "dtype"), [(255, torch.uint8), (-1, torch.int32), (255, torch.int64)])
def test_pixels_equal_a_loop(mode: Mode, ignore: int, dtype: torch.dtype) -> None:
    spec, mask = masks(mode, ignore, dtype)
    expected = [
        [int(((one[k] == 1) if mode == "multilabel" else (one == k)).sum()) for k in range(spec.num_classes)] for one in mask
    ]
    found = class_pixels(mask, spec)
    assert found.tolist() == expected
    assert found.dtype == torch.int64


def test_bytes_and_more_than_256_classes() -> None:
    spec = Spec(tuple(f"c{n}" for n in range(300)), ignore_index=65535)
    mask = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert class_pixels(mask, spec).tolist() == [[1] * 256 + [0] * 44]


def test_rows_and_sums() -> None:
    spec = Spec(("a", "b", "c"))
    mask = torch.tensor([[[0, 0, 255]], [[2, 1, 1]]], dtype=torch.uint8)
    batch = {"mask": mask, "target": torch.tensor([1, 2])}  # the first was aimed at b, which is covered
    found = seen(batch, spec)
    assert found[:, 0].tolist() == [[2, 0, 0], [0, 2, 1]]
    assert found[:, 1].tolist() == [[1, 0, 0], [0, 1, 1]]
    assert found[:, 2].sum() == 0
    assert found[:, 3].tolist() == [[0, 0, 0], [0, 0, 1]]
    assert seen({**batch, "objects": torch.tensor([[0, 4, 0], [0, 1, 2]])}, spec)[:, 2].tolist() == [[0, 4, 0], [0, 1, 2]]
    ledger = Ledger(3)
    ledger.update(found)
    ledger.update(found[:1])
    samples, counts = ledger.compute()
    assert samples == 3
    assert counts[0].tolist() == [4, 2, 1]
