"""The page of a run: its numbers are those of results.json, it needs no network, and nothing that a run wrote is executed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from report_folders import change, run_folder

from seglab.errors import DataError, SeglabError, visible
from seglab.report import page, reading
from seglab.report.__main__ import run
from seglab.report.matrix import matrix, mistakes
from seglab.report.pictures import read_examples
from seglab.report.reading import DECODED, half_widths, read
from seglab.report.run_figures import recall_precision
from seglab.report.run_page import Settings, write
from seglab.results import read_per_image
from seglab.stats.difference import Difference
from seglab.stats.scores import Scores

HOSTILE = (
    "<script>alert(1)</script>", "../..", "\"quoted\" 'twice' `thrice`", "right\u202eto left", "x" * 300, "\udcff\udc80 not UTF-8",
    "{{ 7 * 7 }}{% raw %}", "$\\frac{1}{$", "a]]><!--", "javascript:alert(1)", "עברית", "bell\x07\x1b[31m",
)  # fmt: skip


class Page(HTMLParser):
    """What a test wants of a page: tags with their attributes, text, and the numbers by their key."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def keyed(self) -> dict[str, str]:
        return {a["data-key"]: a["data-value"] for _, a in self.tags if "data-key" in a}

    @property
    def text(self) -> str:
        return " ".join(self.words)


def made(folder, **kwargs) -> Page:
    return Page(write(folder, folder / "report.html", kwargs.get("settings", Settings())).read_text(encoding="utf-8"))


def leaves(value, path=""):
    """Path -> number, of everything in results.json."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, int | float) or value is None:
        return {path: value}
    return {
        k: v for name, item in items for k, v in leaves(item, f"{path}.{visible(str(name))}" if path else str(name)).items()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run_folder(tmp_path_factory.mktemp("run") / "a")


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def same_numbers(folder, found: Page) -> None:
    known = leaves(json.loads((folder / "results.json").read_text(encoding="utf-8")))
    for key, shown in found.keyed.items():
        assert json.loads(shown) == known[key], key
    wanted = [
        k
        for k in known
        if k.startswith(("metrics.", "passport.", "ledger.", "data.counts.", "speed.", "seconds", "parameters"))
    ]
    wanted += [k for k in known if k.startswith("per_class.test.")]
    assert set(wanted) <= set(found.keyed)


@pytest.fixture(scope="module")
def whole(folder):
    """The page of a run with every file, as text."""
    return write(folder, folder.parent / "whole.html", Settings()).read_text(encoding="utf-8")


def test_every_number_is_that_of_results_json(folder, whole):
    same_numbers(folder, Page(whole))


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(
        st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, min_value=-1e299, max_value=1e299), st.integers(-(10**18), 10**18)),
        min_size=4, max_size=4,
    )
)  # fmt: skip
def test_any_number_comes_through_whole(folder, tmp_path_factory, numbers):
    bare = tmp_path_factory.mktemp("any")
    shutil.copy(folder / "results.json", bare)
    metrics = dict(zip(("val/iou", "test/iou", "test/a", "test/b"), numbers, strict=True))
    shown = made(change(bare, metrics=metrics)).keyed
    for key, value in metrics.items():
        assert json.loads(shown[f"metrics.{key}"]) == value


def test_intervals_are_those_of_the_images(folder, whole):
    half = Difference.of(Scores.of(read_per_image(folder / "per_image.csv")[2][None], range(3))).half()
    own = [a["data-value"] for _, a in Page(whole).tags if "data-value" in a and "data-key" not in a]
    assert {repr(float(h)) for h in half} <= set(own)


def test_the_page_asks_no_network_for_anything_and_runs_only_its_own_script(whole):
    found = Page(whole)
    assert not re.search(r"https?:|[\"'(]//|@import|\burl\((?!#)", whole)
    addresses = [value for _, a in found.tags for name, value in a.items() if name in ("src", "href", "action", "srcset")]
    assert addresses
    assert all(value.startswith(("#", "data:image/")) for value in addresses)
    policy = next(a["content"] for tag, a in found.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    script = re.search(r"<script>(.*?)</script>", whole, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'")
    assert [tag for tag, _ in found.tags].count("script") == 1


def test_ids_are_unique_and_what_is_named_exists(whole):
    found = Page(whole)
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    named = [a[k].removeprefix("#") for _, a in found.tags for k in ("href", "data-line", "aria-labelledby") if k in a]
    named += [at for _, a in found.tags for v in a.values() if v for at in re.findall(r"url\(#([^)]*)\)", v)]
    assert set(named) <= set(ids)


def test_the_same_run_gives_the_same_bytes(folder, whole, tmp_path):
    other = run_folder(tmp_path / folder.name)
    names = [f"{f.parent.name}/{f.name}" for f in (folder, other)]
    assert write(other, tmp_path / "again.html", Settings()).read_text(encoding="utf-8").replace(names[1], names[0]) == whole


def test_every_section_is_filled_where_all_files_are_there(whole):
    found = Page(whole)
    missing = [a for _, a in found.tags if a.get("class") == "missing"]
    assert not missing
    assert [tag for tag, _ in found.tags].count("svg") == 6


def test_hostile_names_are_text(tmp_path, whole):
    folder = run_folder(tmp_path / "<img src=x onerror=alert(1)>", HOSTILE, ids=HOSTILE)
    change(folder, status=HOSTILE[0], error=HOSTILE[3], choices={"model": HOSTILE[0]})
    changed = [(name, name, name) for name in HOSTILE]
    found = made(folder, settings=Settings({}, changed))
    assert not {tag for tag, _ in found.tags} - {tag for tag, _ in Page(whole).tags} - {"code"}
    assert [tag for tag, _ in found.tags].count("script") == 1
    attributes = {name for _, a in found.tags for name in a}
    assert not [name for name in attributes if name.startswith("on")]
    same_numbers(folder, found)
    for name in HOSTILE:
        assert visible(name)[:20] in found.text, name
    assert "49" not in re.findall(r"\b49\b.*raw", found.text)
    assert not re.search("[\u202e\x07\x1b\ud800-\udfff]", found.text)
    assert max(len(word) for word in " ".join(w for w in found.words if "{" not in w).split()) <= 301


FILES = ("confidence.csv", "confusion.csv", "per_image.csv", "metrics.csv", "examples/examples.json")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_part_is_said(copy, name):
    (copy / name).unlink()
    assert [note for note in noted(copy) if note.startswith(f"No {name}")]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"class,bin,pixels,right\na,b,c,d\n", b"\xff\xfe\x00 nothing", b"[" * 4000])
def test_a_broken_part_is_said(copy, name, content):
    assert noted(copy) == []
    (copy / name).write_bytes(content)
    (note,) = noted(copy)
    assert name in note
    assert "\n" not in note


def noted(folder) -> list[str]:
    """What is said of the parts of a run's folder."""
    try:
        said = read_examples(folder, 10**6)[1]
    except DataError as error:
        said = [str(error)]
    return [*read(folder).notes.values(), *said]


def test_a_page_without_any_file_but_results_says_so_of_each(folder, tmp_path):
    shutil.copy(folder / "results.json", tmp_path)
    found = made(tmp_path, settings=Settings(note="No .hydra/config.yaml"))
    assert all(f"No {name}" in found.text for name in (*FILES, ".hydra/config.yaml"))
    same_numbers(tmp_path, found)


def test_an_older_run_has_a_page(folder, tmp_path):
    results = json.loads((folder / "results.json").read_text())
    del results["passport"], results["ledger"], results["data"]["colors"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    text = made(tmp_path).text
    assert "No passport" in text
    assert "No ledger" in text


def test_a_run_that_is_not_scored_has_a_page(folder, tmp_path):
    shutil.copy(folder / "results.json", tmp_path)
    found = made(
        change(tmp_path, status="running", metrics=None, per_class=None, speed=None, score=None, passport=None, git=None)
    )
    assert "No score on test: the run has not been scored (it is running)" in found.text


def test_parts_of_other_types_are_left_out(copy):
    shutil.rmtree(copy / "examples")
    parts = {
        "metrics": [1],
        "per_class": {"test": [2]},
        "speed": "fast",
        "versions": 3,
        "data": {"classes": 5, "colors": {}, "counts": 1},
        "git": [],
        "choices": None,
        "passport": {"definition": 3},
        "ledger": {"samples": 3, "epochs": 1, "per_class": {"cell": {"images": "many"}, "dust": [1]}},
    }
    assert "No score on test" in made(change(copy, **parts)).text


def test_pictures_outside_of_their_folder_are_refused(copy, tmp_path):
    Image.new("RGB", (9, 9), "red").save(tmp_path / "secret.jpg")
    (copy / "examples" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    listed = json.loads((copy / "examples" / "examples.json").read_text())
    for entry, name in zip(listed["images"], ("../../secret.jpg", str(tmp_path / "secret.jpg"), "link.jpg"), strict=True):
        entry["files"]["image"] = name
    (copy / "examples" / "examples.json").write_text(json.dumps(listed))
    shown, said = read_examples(copy, 10**6)
    assert [sentence.rpartition(" lies ")[2] for sentence in said] == ["outside of examples/."] * 3
    assert shown == []


@pytest.mark.parametrize("budget", [10**6, 25_000, 16_000])
def test_pictures_keep_to_their_budget(folder, budget):
    shown, said = read_examples(folder, budget)
    total = sum(len(uri) for example in shown for uri in example.layers.values())
    assert len(shown) == 3
    assert total <= budget + 600  # the words before the bytes
    assert bool(said) == (budget < 10**5)


@pytest.mark.slow
def test_a_page_of_noise_stays_below_its_limit(copy):
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    for path in (copy / "examples").glob("*.jpg"):
        Image.fromarray(noise).save(path, quality=98)
    out = write(copy, copy / "report.html", Settings())
    assert out.stat().st_size < page.LIMIT
    assert "compressed further" in out.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_page_of_a_thousand_classes_with_long_names_stays_below_its_limit(copy):
    scores = {"iou": 0.5, "dice": 0.6, "precision": 0.7, "recall": 0.7, "support": 9}
    many = {str(n) + "\u202e" * 300: scores for n in range(1000)}
    out = write(change(copy, per_class={"test": many}), copy / "report.html", Settings())
    assert out.stat().st_size < page.LIMIT
    assert "results.json has" in Page(out.read_text(encoding="utf-8")).text


def test_largest_confusions_come_first_and_wide_matrices_are_a_list(tmp_path):
    rng = np.random.default_rng(0)
    counts, names = rng.integers(0, 99, (41, 41)), [str(n) for n in range(41)]
    assert matrix(counts, names, None) == []
    found = mistakes(counts, names)
    wrong = sorted((int(counts[t, p]) for t in range(41) for p in range(41) if t != p), reverse=True)
    assert [m.pixels for m in found] == wrong[:20]
    assert all(counts[int(m.truth), int(m.predicted)] == m.pixels and m.truth != m.predicted for m in found)


def test_bins_are_those_of_the_metric():
    source = Path(reading.__file__).parents[1] / "metrics" / "calibration.py"  # read, for it imports torch
    assert f"\nBINS = {reading.BINS} " in source.read_text()


def test_precision_and_recall_follow_from_the_bins():
    recall, precision = recall_precision(np.array([[10, 50, 5], [90, 20, 15], [99, 4, 4]]))
    np.testing.assert_allclose(recall, [0, 4 / 24, 19 / 24, 1])
    np.testing.assert_allclose(precision, [1, 1, 19 / 24, 24 / 74])
    assert len(recall_precision(np.array([[3, 7, 0]]))[0]) == 0


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["nowhere"], "There is no folder 'nowhere'"), (["--out=x.html"], "Name the folder"), (["a", "--uot=x"], "Did you mean '--out'"),
        (["empty"], "holds no results.json"), (["a", "--out="], "--out needs a value"), (["a", "--out=nowhere/x.html"], "cannot be written"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(folder, tmp_path, monkeypatch, argv, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a").mkdir()
    shutil.copy(folder / "results.json", tmp_path / "a")
    with pytest.raises(SeglabError, match=re.escape(sentence)) as error:
        run(argv)
    assert "\n" not in str(error.value)


def test_the_door_writes_the_page_and_one_line(copy, capsys):
    for name in FILES:
        (copy / name).unlink()
    run([str(copy)])
    assert capsys.readouterr().out.split()[0] == "report"
    found = Page((copy / "report.html").read_text(encoding="utf-8"))
    assert {"optimizer.lr", "0.001", "0.02"} <= set(found.words)


@pytest.mark.parametrize("headline", ["test/dice", "test/ap", "test/loss"])
def test_a_run_chosen_by_another_score_has_a_page_and_no_definition_that_is_not_its_own(copy, headline):
    metrics = json.loads((copy / "results.json").read_text())["metrics"]
    change(copy, monitor=headline.replace("test", "val"), metrics={**metrics, headline: 0.25})
    html = write(copy, copy / "report.html", Settings()).read_text()
    header = html[html.index("<header") : html.index("</header>")]
    assert f'data-key="metrics.{headline}"' in header
    assert "IoU" not in header


def test_one_test_image_gives_a_page_without_an_interval(tmp_path):
    found = made(run_folder(tmp_path / "one", images=1))
    assert "95 % interval" not in found.text


def test_images_of_a_group_are_judged_together(tmp_path):
    single = half_widths(read(run_folder(tmp_path / "a", ids=[f"p{n // 4}_{n:02}" for n in range(12)])))
    data = json.loads((tmp_path / "a" / "results.json").read_text())["data"]
    together = half_widths(read(change(tmp_path / "a", data={**data, "group": "^p[0-9]"})))
    assert together[0] != single[0]
    expected = Difference.of(
        Scores.of(read_per_image(tmp_path / "a" / "per_image.csv")[2][None], range(3), np.arange(12) // 4)
    ).half()
    assert together[0] == expected[0]
    change(tmp_path / "a", data={**data, "group": "^nobody"})  # an evaluation of other images
    assert half_widths(read(tmp_path / "a"))[0] == single[0]


@pytest.mark.parametrize("epoch", ["nan", "inf", "1e20", "-1e300"])
def test_epochs_that_cannot_be_drawn_are_left_out(copy, epoch):
    table = (copy / "metrics.csv").read_text().splitlines()
    table[3] = ",".join([epoch, *table[3].split(",")[1:]])
    (copy / "metrics.csv").write_text("\n".join(table) + "\n")
    assert "Learning rate" in made(copy).text


def test_a_class_may_be_called_as_the_rows_of_the_decoded_class_are(tmp_path):
    found = read(run_folder(tmp_path / "a", names=("(decoded)", "cell", "(ignored)")))
    plain = read(run_folder(tmp_path / "b"))
    assert np.array_equal(found.confidence[DECODED], plain.confidence[DECODED])
    assert np.array_equal(found.confidence["(decoded)"], plain.confidence["background"])
    assert set(found.confidence) == {DECODED, "(decoded)", "cell", "(ignored)"}
