"""The page of a check: every number is the report's, everything is escaped, and it stays small whatever it is told."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from seglab.data.checks.findings import Finding
from seglab.data.checks.report import Example, Report
from seglab.data.checks.shares import Row, Share
from seglab.errors import ConfigError
from seglab.report import check_page, page
from seglab.report.check_figures import channels, object_sizes

BAD = "<img src=x onerror=alert(1)>\x1b[31m\u202e"


class Words(HTMLParser):
    """Tags with attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def share(images, areas, pixels=(60, 40), void=0):
    from collections import Counter

    rows = [Row(n, images, sum(some.values()), 4.0) for n, some in zip(pixels, areas, strict=True)]
    return Share(images, sum(pixels) + void, void, rows, [Counter(some) for some in areas], (0.4, 0.5, 0.6), (0.1, 0.2, 0.3))


def told(*findings, classes=("ground", "car"), **more):
    shares = {"train": share(7, [{50: 1}, {1: 2, 3: 4, 4: 1}]), "val": share(2, [{}, {8: 1}]), "test": Share()}
    shares["test"].rows, shares["test"].areas = [Row(), Row()], [{}, {}]
    return Report("set", list(findings), None, classes, shares, **more)


def picture(mask=True, side=40):
    image = np.random.default_rng(0).integers(0, 255, (side, side + 8, 3), np.uint8)
    ids = np.zeros((side, side + 8), np.int32)
    ids[5:20, 5:20], ids[25:30, 5:9], ids[0, :] = 1, -1, 255
    return Example("x", image, ids if mask else None)


def written(report, tmp_path, find=lambda file: None, given=("data=folder",)) -> str:
    return check_page.write(report.to_dict(), find, tmp_path / "out.html", given, report.ignore).read_text()


def test_numbers_are_those_of_the_report(tmp_path):
    words = Words(written(told(), tmp_path))
    values = [float(tag["data-value"]) for _, tag in words.tags if "data-value" in tag]
    assert values[:2] == [7, 2]  # images; test is empty and not there
    assert values[2:14] == [0.6, 7, 1, 0.6, 2, 0, 0.4, 7, 7, 0.4, 2, 1]  # share, images, objects of a class in each split
    assert "Training would start: no error, no warning." in words.text
    assert "Nothing is wrong with it" in words.text


def test_findings_stand_with_what_mends_them(tmp_path):
    one = Finding("error", "unknown_ids", "Two masks hold 7.", ("a.png", "b.png"), {"share": 0.25}, "data.classes=[a,'b c']")
    two = Finding("warning", "exif", "Turned.", (), {}, "turn the pixels")
    html = written(told(one, two), tmp_path)
    assert re.findall(r'<pre class="override"[^>]*>(.*?)</pre>', html) == ["&#34;data.classes=[a,&#39;b c&#39;]&#34;"]
    assert '<p class="remedy">Turn the pixels.</p>' in html
    assert "<dd>0.2500</dd>" in html
    order = [html.index(words) for words in ("Two masks hold 7.", "Turned.")]
    assert order == sorted(order)


def test_nothing_in_the_data_is_obeyed(tmp_path):
    finding = Finding("error", BAD, f"{BAD}.", (BAD,), {BAD: BAD, "more": {BAD: 1}}, f"data.x={BAD}")
    html = written(told(finding, classes=(BAD, "car")), tmp_path, lambda file: picture(), (f"data.root={BAD}",))
    words = Words(html)
    assert all(tag.get("src", "data:").startswith("data:") for _, tag in words.tags)
    assert not any("onerror" in tag for _, tag in words.tags)
    assert "\x1b" not in html
    assert "\u202e" not in html
    policy = next(tag["content"] for _, tag in words.tags if tag.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert not re.search(r"(?:https?:)?//\w", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html))


def pictures(html: str) -> Iterator[Image.Image]:
    for data in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html):
        yield Image.open(io.BytesIO(base64.b64decode(data)))


def test_files_are_shown_with_and_without_their_mask(tmp_path):
    finding = Finding("warning", "odd", "Look at b.png.", ("a.png", "b.png", "broken.png", "bare.png"))
    find = {"a.png": picture(), "b.png": picture(), "bare.png": picture(mask=False)}.get
    html = written(told(finding), tmp_path, find)
    shown = list(pictures(html))
    assert [one.size for one in shown] == [(48, 40)] * 5  # two of a, two of b, one of the bare one
    names = re.findall(r'<figcaption><code class="name">(.*?)</code>(.*?)</figcaption>', html)
    assert names == [("b.png", ""), ("a.png", ""), ("bare.png", " no mask fits on it")]  # the one that is named first
    laid, bare = (np.asarray(one, np.int32) for one in shown[:2])
    changed = np.abs(laid - bare).max(2) > 40
    assert changed[7:18, 7:18].mean() > 0.3  # a class
    magenta = laid[26:29, 6:8].mean((0, 1))
    assert magenta[1] < 160 < min(magenta[0], magenta[2])


@pytest.mark.slow
def test_a_page_with_thousands_of_files_stays_small(tmp_path):
    large = Example("x", np.random.default_rng(0).integers(0, 255, (640, 640, 3), np.uint8), np.zeros((640, 640), np.int32))
    findings = [Finding("error", f"kind{n}", "Bad.", tuple(f"{n}/{k}.png" for k in range(3000))) for n in range(30)]
    asked = []
    html = written(told(*findings), tmp_path, lambda file: asked.append(file) or large)
    assert len(html.encode()) < page.LIMIT
    assert len(list(pictures(html))) <= 72
    assert len(asked) == len(set(asked)) <= 36  # none is decoded twice
    assert "and 2,800 more (--json)" in html


def test_a_set_that_cannot_be_read_at_all_has_a_page(tmp_path):
    html = written(Report("", [Finding("error", "refused", "No folder.")], "No folder."), tmp_path)
    assert "Training would not start: 1 error, 0 warnings." in html
    assert 'id="classes"' not in html


def test_objects_are_counted_by_octaves_as_the_histogram_has_them():
    rows = told().to_dict()["splits"]
    assert rows["train"]["classes"]["car"]["sizes"] == [2, 4, 1]  # 1; 2-3; 4-7
    assert rows["val"]["classes"]["car"]["sizes"] == [0, 0, 0, 1]
    assert sum(rows["train"]["classes"]["ground"]["sizes"]) == 1
    figure = object_sizes(["ground", "car"], rows)
    assert [name for name, *_ in figure.keys] == ["car", "ground"]
    assert object_sizes(["ground"], {"train": {"classes": {"ground": {"sizes": []}}}}) is None


@pytest.mark.parametrize(
    ("means", "drawn"), [([[0.1] * 3] * 2, True), ([[0.1] * 3, [0.1]], False), ([[0.1] * 40] * 2, False), ([[], []], False)]
)
def test_channels_are_drawn_where_they_are_alike_and_few(means, drawn):
    splits = {name: {"mean": mean, "std": mean} for name, mean in zip(("train", "val"), means, strict=True)}
    assert (channels(splits) is not None) == drawn


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be written .*; choose another file\.$"):
        check_page.write(told().to_dict(), lambda file: None, tmp_path / "file/out.html", [], 255)
