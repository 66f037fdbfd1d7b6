"""The page of a check in headless Chromium: it fits every width, its masks go away under the pointer, its tables sort."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from seglab import check

pytestmark = [pytest.mark.slow, pytest.mark.network]  # playwright talks to the browser over a pipe, its loop over a socket pair


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A set with a copy across splits, an id of no class and long names, through the command itself."""
    root, rng = tmp_path_factory.mktemp("page"), np.random.default_rng(0)
    for n in range(12):
        image, mask = rng.integers(0, 200, (48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
        mask[n : n + 20, 8:40] = 1 + n % 2
        if n == 3:
            mask[:4] = 9
        for split in ["train"] + ["val"] * (n < 3):
            for kind, array in (("images", image), ("masks", mask)):
                (root / split / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(root / split / kind / f"{'abcdefghijkl'[n]}{'x' * 90}.png")
    out = root / "out.html"
    with pytest.raises(SystemExit):
        check.run(["data=folder", f"data.root={root}", "data.classes=[ground,car,tree]", f"--html={out}"])
    return out


def test_pictures_and_figures_are_shown(opened):
    assert opened.evaluate("document.images.length") >= 4
    assert opened.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert opened.evaluate("[...document.querySelectorAll('figure svg')].every(s => s.getBoundingClientRect().height > 100)")
    assert opened.evaluate("document.querySelectorAll('figure svg').length") == 2


def test_the_mask_goes_away_under_the_pointer(opened):
    opened.emulate_media(reduced_motion="reduce")
    thumb = opened.locator(".thumb .pair").first
    opacity = "getComputedStyle(document.querySelector('.thumb .bare')).opacity"
    assert opened.evaluate(opacity) == "0"
    thumb.hover()
    assert opened.evaluate(opacity) == "1"


def test_classes_sort_by_their_pixels(opened):
    names = "[...document.querySelectorAll('#classes tbody th')].map(r => r.textContent.trim())"
    shares = (
        "[...document.querySelectorAll('#classes tbody tr')].map(r => +r.cells[1].querySelector('[data-value]').dataset.value)"
    )
    opened.locator("#classes th .sort", has_text="Pixels").first.click()
    assert opened.evaluate(shares) == sorted(opened.evaluate(shares), reverse=True)
    opened.locator("#classes th .sort", has_text="Class").click()
    assert opened.evaluate(names) == ["car", "ground", "tree"]


def test_bars_are_as_long_as_their_shares(opened):
    told = opened.evaluate(
        "[...document.querySelectorAll('#classes td.bar')].map(c => [c.querySelector('i').getBoundingClientRect().width,"
        " +c.querySelector('[data-value]').dataset.value, c.cellIndex])"
    )
    for column in {at for *_, at in told}:
        widths, values = zip(*[(w, v) for w, v, at in told if at == column], strict=True)
        assert np.allclose(np.array(widths) / max(widths), np.array(values) / max(values), atol=0.03)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1200])
def test_the_page_never_scrolls_sideways(opened, width, scheme):
    opened.emulate_media(color_scheme=scheme)
    opened.set_viewport_size({"width": width, "height": 700})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    wide = "e => !e.closest('.scroll') && !e.closest('svg') && e.getBoundingClientRect().right > innerWidth + 1"
    assert opened.evaluate(f"[...document.querySelectorAll('main *')].filter({wide}).length") == 0
