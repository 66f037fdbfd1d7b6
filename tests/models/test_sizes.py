"""Padding: mirrored, aligned at the top left, absent where nothing is missing."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.models.sizes import grown, pad

sides = st.integers(1, 40)


@settings(max_examples=150, deadline=None)
@given(height=sides, width=sides, multiple=st.integers(1, 48), smallest=st.integers(1, 100))
def test_pad_mirrors_to_the_least_fitting_size(height, width, multiple, smallest):
    image = torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width)
    out = pad(image, multiple, smallest)
    for size, now in zip((height, width), out.shape[-2:], strict=True):
        assert now % multiple == 0
        assert now >= max(size, smallest)
        assert now - multiple < max(size, smallest)
    rows, columns = (_mirrored(n, m) for n, m in zip((height, width), out.shape[-2:], strict=True))
    assert torch.equal(out, image[:, :, rows][..., columns])


def _mirrored(size, goal):
    """0 1 2 1 0 1 2 ... for size 3: a triangular wave."""
    period = max(2 * (size - 1), 1)
    return [min(i % period, period - i % period) if size > 1 else 0 for i in range(goal)]


def test_a_fitting_image_is_not_touched():
    image = torch.randn(2, 3, 64, 96)
    assert pad(image, 32, 64) is image


def test_memory_format_and_dtype_stay():
    image = torch.randn(2, 3, 33, 50, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    out = pad(image, 32)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_grown():
    assert [grown(n, 32, 64) for n in (1, 64, 65, 97)] == [64, 64, 96, 128]
