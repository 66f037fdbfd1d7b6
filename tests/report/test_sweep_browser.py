"""The page of a sweep in headless Chromium: what can be pressed works, by mouse and by keyboard, and nothing runs over."""

from __future__ import annotations

import numpy as np
import pytest
from compare_folders import counts, make

from seglab.report.sweep_page import write

pytestmark = [pytest.mark.slow, pytest.mark.network]  # playwright talks to the browser over a pipe, its loop over a socket pair
NAMES = ["background", "<script>alert(1)</script>", "x" * 300]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Three losses of two seeds, costs that differ, a name of 300 characters, a failed run with a long reason."""
    folder = tmp_path_factory.mktemp("browser") / "sweep"
    for n in range(6):
        loss = ("ce", "dice", "y" * 300)[n // 2]
        run = make(
            folder / str(n), counts(20, 3, quality=0.5 + 0.1 * (n // 2), seed=n), seed=n % 2, loss=loss, val=0.5 + n / 20,
            names=NAMES, parameters=1000 * (1 + n // 2), seconds=10.0 + n // 2, overrides=[f"loss={loss}"],
        )  # fmt: skip
        lines = [f"{e},{e},{0.1 * e + n / 20}" for e in range(5)]
        (run / "metrics.csv").write_text("\n".join(["epoch,step,val/iou", *lines]) + "\n")
    make(folder / "6", counts(20, 3), seed=7, names=NAMES, status="failed", error="e" * 500)
    (folder / "2" / "report.html").write_text("<title>the run</title>")
    return write([str(folder)], folder / "report.html")


def numbers(page, section: str, title: str) -> list[float]:
    """The values of a column of a section's first table, from top to bottom."""
    return page.evaluate(
        """([section, title]) => { const table = document.querySelector(`#${section} table`);
        const at = [...table.tHead.rows[0].cells].findIndex(c => c.textContent.trim() === title);
        return [...table.tBodies[0].rows].map(r => parseFloat(r.cells[at].querySelector('[data-value]').dataset.value)); }""",
        [section, title],
    )


def test_every_figure_is_shown(opened):
    heights = opened.evaluate("[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().height)")
    assert len(heights) == 4  # settings, two costs that differ, curves
    assert min(heights) > 100


def test_the_groups_sort(opened):
    before = numbers(opened, "groups", "Test mIoU")
    head = opened.locator("#groups th .sort", has_text="Test mIoU")
    head.click()
    assert numbers(opened, "groups", "Test mIoU") == sorted(before, reverse=True)
    head.press("Enter")
    assert numbers(opened, "groups", "Test mIoU") == sorted(before)


def test_intervals_stand_where_their_numbers_say(opened):
    """The dot, the ends and zero on the track are in proportion to the numbers beside them."""
    drawn = opened.evaluate(
        """() => [...document.querySelectorAll('.forest li:not(.axis)')].map(li => {
        const box = s => li.querySelector(`.track .${s}`).getBoundingClientRect();
        const value = k => parseFloat(li.querySelector(`[data-key$='.${k}']`).dataset.value);
        return { at: [box('zero').left, box('dot').left + box('dot').width / 2, box('span').left, box('span').right],
                 of: [0, value('difference'), value('low'), value('high')] }; })"""
    )
    assert len(drawn) == 2
    at, of = (np.concatenate([row[key] for row in drawn]) for key in ("at", "of"))
    slope, offset = np.polyfit(of, at, 1)
    assert slope > 0
    assert np.abs(slope * np.array(of) + offset - at).max() < 1.5  # pixels


def test_a_row_of_the_runs_marks_its_line_by_mouse_and_by_arrow_keys(opened):
    marked = "[...document.querySelectorAll('#axes .forward')].map(e => e.id)"
    rows = opened.locator("#runs tbody tr")
    assert opened.evaluate(marked) == []
    rows.nth(1).hover()
    assert opened.evaluate(marked) == [rows.nth(1).get_attribute("data-line")]
    strokes = "e => getComputedStyle(e.querySelector('path')).strokeWidth"
    assert opened.locator("#axes .forward").evaluate(strokes) == "3px"
    opened.mouse.move(0, 0)
    rows.nth(0).focus()
    for n in (1, 2):
        opened.keyboard.press("ArrowDown")
        assert opened.evaluate(marked) == [rows.nth(n).get_attribute("data-line")]
    assert opened.locator("#runs tbody tr[tabindex='0']").count() == 1
    opened.keyboard.press("ArrowUp")
    assert opened.evaluate(marked) == [rows.nth(1).get_attribute("data-line")]


def test_a_name_of_the_legend_marks_the_curves_of_its_group(opened):
    opened.locator("#curves .key li").first.focus()
    assert opened.evaluate("[...document.querySelectorAll('#curves .forward')].length") == 1


def test_the_classes_are_read_out(opened):
    opened.locator(".matrix td[tabindex='0']").focus()
    opened.keyboard.press("ArrowRight")
    said = opened.locator(".matrix output").inner_text()
    assert said == opened.evaluate("document.activeElement.title")
    assert "<script>alert(1)</script>: " in said
    assert "[" in said
    assert said.endswith(("worse", "better", "cannot tell", "within 0.005"))


def test_a_run_links_to_its_own_page(opened):
    opened.locator("#runs tbody a").click()
    assert opened.title() == "the run"


@pytest.mark.parametrize("width", [360, 768, 1200])
def test_the_page_never_scrolls_sideways(opened, width):
    opened.set_viewport_size({"width": width, "height": 700})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    over = "e => !e.closest('.scroll') && !e.closest('svg') && e.getBoundingClientRect().right > innerWidth + 1"
    assert opened.evaluate(f"[...document.querySelectorAll('main *')].filter({over}).map(e => e.outerHTML.slice(0, 80))") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_light_and_dark(opened, scheme):
    """The contrast of text of each kind with the paper is at least 4.5 to 1 (WCAG 2.1, 1.4.3)."""
    opened.emulate_media(color_scheme=scheme)
    ratios = opened.evaluate(
        """() => { const parts = c => { const x = document.createElement('canvas').getContext('2d'); x.fillStyle = c; x.fillRect(0, 0, 1, 1);
          return [...x.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); };
        const light = c => { const [r, g, b] = parts(c); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const paper = light(getComputedStyle(document.body).backgroundColor);
        return ['.lead', '.quiet', '.verdict b', '.verdict .pm', '.mark', '.state.failed', '.up', '.down', '.axis small'].map(s => {
          const own = light(getComputedStyle(document.querySelector(s)).color);
          return [s, (Math.max(own, paper) + 0.05) / (Math.min(own, paper) + 0.05)]; }); }"""
    )
    assert [(name, ratio) for name, ratio in ratios if ratio < 4.5] == []
