"""A page in headless Chromium: what can be pressed works, by mouse and by keyboard, and nothing is said on the console."""

from __future__ import annotations

import pytest
from report_folders import change, run_folder

from seglab.report.run_page import Settings, write

pytestmark = [pytest.mark.slow, pytest.mark.network]  # playwright talks to the browser over a pipe, its loop over a socket pair
NAMES = ("background", "cell", "dust", "<script>alert(1)</script>", "x" * 300)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = run_folder(tmp_path_factory.mktemp("browser") / "a", NAMES)
    changed = [("data.root", "null", "/" + "deep/" * 60), ("optimizer.lr", "0.001", "0.02")]
    return write(change(folder, error="e" * 500), folder / "report.html", Settings({}, changed))


def column(page, title: str) -> list[float]:
    """The values of a column of the table of classes, from top to bottom."""
    return page.evaluate(
        """title => { const table = document.querySelector('#classes table');
        const at = [...table.tHead.rows[0].cells].findIndex(c => c.textContent.trim() === title);
        return [...table.tBodies[0].rows].map(r => parseFloat(r.cells[at].querySelector('[data-value]').dataset.value)); }""",
        title,
    )


def test_every_picture_and_figure_is_shown(opened):
    assert opened.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert (
        opened.evaluate(
            "[...document.querySelectorAll('figure svg')].filter(s => s.getBoundingClientRect().height > 100).length"
        )
        == 6
    )


def test_tables_sort_by_click_and_by_keyboard(opened):
    head = opened.locator("#classes th .sort", has_text="IoU")
    before = column(opened, "IoU")
    head.click()
    assert column(opened, "IoU") == sorted(before, reverse=True)
    assert opened.locator("#classes th[aria-sort=descending]").inner_text().strip() == "IoU"
    head.press("Enter")
    assert column(opened, "IoU") == sorted(before)
    names = opened.locator("#classes th .sort", has_text="Class")
    names.focus()
    opened.keyboard.press("Space")
    shown = opened.locator("#classes tbody th").all_inner_texts()
    assert [t[:4] for t in shown] == ["<scr", "back", "cell", "dust", "xxxx"]
    assert opened.locator("#classes th[aria-sort=ascending]").count() == 1


def test_a_score_that_is_missing_stays_last(opened):
    rows = "[...document.querySelectorAll('#scores tbody tr')].map(r => r.cells[0].textContent.trim())"
    head = opened.locator("#scores th .sort", has_text="test")
    for _ in range(2):
        head.click()
        assert opened.evaluate(rows)[-1] == "aji"


def test_the_slider_cuts_the_picture(opened):
    clip = "getComputedStyle(document.querySelector('.example .upper')).clipPath"
    slider = opened.locator(".example input[type=range]").first
    first = opened.evaluate(clip)
    slider.focus()
    for _ in range(10):
        opened.keyboard.press("ArrowRight")
    assert opened.evaluate("document.querySelector('.example .stage').style.getPropertyValue('--cut')") == "60%"
    assert opened.evaluate(clip) != first
    box = slider.bounding_box()
    slider.click(position={"x": 0.25 * box["width"], "y": box["height"] / 2})
    assert abs(int(slider.input_value()) - 25) <= 3


def test_buttons_choose_what_lies_over_the_picture(opened):
    example = opened.locator(".example").first
    for name in ("Truth", "Errors", "Prediction"):
        example.get_by_role("button", name=name).press("Enter")
        visible = example.locator(".upper:visible")
        assert visible.count() == 1
        assert visible.get_attribute("data-kind") == name.lower()
        assert example.locator("button[aria-pressed=true]").inner_text() == name


def test_the_matrix_tells_its_counts_by_keyboard(opened):
    opened.locator(".matrix td[tabindex='0']").focus()
    opened.keyboard.press("ArrowDown")
    opened.keyboard.press("ArrowRight")
    said = opened.locator(".matrix output").inner_text()
    assert said.startswith("truth cell, predicted cell: ")
    assert said == opened.evaluate("document.activeElement.title")


def test_the_theme_turns(opened):
    paper = "getComputedStyle(document.body).backgroundColor"
    light = opened.evaluate(paper)
    opened.locator("#theme").click()
    dark = opened.evaluate(paper)
    assert dark != light
    assert opened.evaluate("getComputedStyle(document.querySelector('svg text')).fill") != "rgb(0, 0, 0)"
    opened.locator("#theme").press("Enter")
    assert opened.evaluate(paper) == light
    opened.emulate_media(color_scheme="dark")
    opened.locator("#theme").press("Enter")
    assert opened.evaluate(paper) == dark


@pytest.mark.parametrize("width", [360, 768, 1200])
def test_the_page_never_scrolls_sideways(opened, width):
    opened.set_viewport_size({"width": width, "height": 700})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        opened.evaluate(
            "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('svg')).length"
        )
        == 0
    )


def test_the_first_tab_leads_past_the_sections(opened):
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.id") == "main"
