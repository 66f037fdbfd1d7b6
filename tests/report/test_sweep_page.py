"""The page of a sweep: its numbers are those of compare --json, it is whole for whatever runs left, and nothing executes."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
from compare_folders import counts, make, sweep
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.compare.__main__ import run as compare_door
from seglab.compare.answer import Comparison, Row, compare
from seglab.compare.sentences import sentence
from seglab.compare.writing import to_json
from seglab.errors import ConfigError, DataError, visible
from seglab.report import page as pages
from seglab.report import sweep_page
from seglab.report.sweep_axes import _axis, differing, parallel
from seglab.report.sweep_figures import brief, curves, front, history
from seglab.report.sweep_page import Scale, _lead, write
from seglab.report.sweep_runs import RunLine, listed
from seglab.results import read_results
from seglab.stats.verdicts import Verdict
from seglab.sweep.folder import Sweep
from seglab.sweep.trial import Trial

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'`",
    "right\u202eto left",
    "{{ 7 * 7 }}",
    "$\\frac{1}{$",
    "x" * 300,
    "bell\x07\x1b[31m",
    "\udcff",
)


class Page(HTMLParser):
    """Tags, the words of each, and the numbers by their keys: (data-value, what is shown)."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.keyed: dict[str, set[tuple[str, str]]] = {}
        self._key: tuple[str, str] | None = None
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if "data-key" in dict(attrs):
            self._key = dict(attrs)["data-key"], dict(attrs)["data-value"]

    def handle_data(self, data):
        self.words.append(data)
        if self._key:
            self.keyed.setdefault(self._key[0], set()).add((self._key[1], data.strip()))
            self._key = None

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] for _, attrs in self.tags if name in attrs]


def read(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def curve(folder, scores, monitor="val/iou"):
    """A metrics.csv whose monitor is in every other epoch."""
    lines = [f"{n},{n},{s if n % 2 else ''}" for n, s in enumerate(scores)]
    (folder / "metrics.csv").write_text("\n".join([f"epoch,step,{monitor}", *lines]) + "\n")


def record(folder, trials, study=False):
    """A sweep.json of trials (state, axes, score, error)."""
    made = [
        Trial(
            n,
            [f"{k}={v}" for k, v in axes.items()],
            axes,
            str(n),
            monitor="val/iou",
            state=state,
            score=score,
            error=error,
            attempts=1,
        )
        for n, (state, axes, score, error) in enumerate(trials)
    ]
    Sweep(folder, ["loss=ce,dice+ce", "seed=0,1", "name='a b'"], trials=made, study=study).write()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sweep of 2 x 2 runs, a failed trial and one that waits; one run has a page of its own."""
    folder = sweep(tmp_path_factory.mktemp("sweep") / "made", seeds=2)
    for n in range(4):
        curve(folder / str(n), np.linspace(0, 0.5 + n / 10, 8))
    (folder / "3" / "report.html").write_text("")
    error = "TrainingError: the loss is <nan>"
    made = read_results(folder / "0")
    make(folder / "4", counts(), seed=2)
    (folder / "4" / "results.json").write_text(
        json.dumps({**made, "status": "failed", "score": None, "metrics": {}, "error": error})
    )
    axes = [
        {"loss": "ce", "seed": "0"},
        {"loss": "ce", "seed": "1"},
        {"loss": "dice+ce", "seed": "0"},
        {"loss": "dice+ce", "seed": "1"},
    ]
    trials = [("finished", a, 0.5 + 0.1 * (n > 1), None) for n, a in enumerate(axes)]
    record(
        folder,
        [
            *trials,
            ("failed", {"loss": "ce", "seed": "2"}, None, error),
            ("waiting", {"loss": "dice+ce", "seed": "2"}, None, None),
        ],
    )
    return folder


@pytest.fixture(scope="module")
def written(folder):
    return read(write([str(folder)], folder / "report.html"))


def flat(value, key=""):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, dict | list):
        yield key, value
    for k, inner in items:
        yield from flat(inner, f"{key}.{k}" if key else str(k))


def test_every_number_is_that_of_compare_and_of_results(folder, written):
    found = json.loads(to_json(compare([str(folder)])))
    names = [row["name"] for row in found["rows"]]
    found["verdicts"] = {names.index(name): verdict for name, verdict in found["verdicts"].items()}
    known = dict(flat(found))
    for n in range(4):
        results = read_results(folder / str(n))
        known |= {f"runs.{n}.score": results["score"], f"runs.{n}.metrics.test/iou": results["metrics"]["test/iou"]}
    shown = written.keyed
    for key, values in shown.items():
        for value, _ in values:
            assert (None if value == "null" else float(value)) == known.get(key), key
    wanted = [k for k in known if re.fullmatch(r"images|rows\.\d\.(seeds|test|half|val|params|speed|seconds)", k)]
    wanted += [k for k in known if re.fullmatch(r"verdicts\.\d\.(mIoU|classes\.\d)\.(difference|low|high|detectable)", k)]
    wanted += [f"verdicts.1.mIoU.{k}" for k in ("p", "adjusted")] + [k for k in known if k.startswith("runs.")]
    assert len(wanted) > 40
    assert set(wanted) <= set(shown)
    assert {text for _, text in shown["rows.0.test"]} == {f"{found['rows'][0]['test']:.4f}"}
    assert {text for _, text in shown["verdicts.1.mIoU.low"]} == {f"{found['verdicts'][1]['mIoU']['low']:+.4f}"}


def test_the_verdict_stands_first_in_the_words_of_compare(folder, written):
    found = compare([str(folder)])
    [(name, verdicts)] = found.verdicts.items()
    said = sentence(name, found.baseline, verdicts[0], found.margin)
    assert said in written.text
    text = (folder / "report.html").read_text()
    assert text.index('class="lead"') < text.index('class="lines forest"') < text.index('id="groups"') < text.index("<svg")
    assert "5 runs" not in written.text
    assert re.search(r"6 runs? · 2 groups · 20 test images · 1 failed · 1 waiting", written.text)


def test_failed_runs_have_their_reason_and_notes_say_what_was_left_out(written):
    assert "TrainingError: the loss is <nan>" in written.text
    assert re.search(r"left out: \S+4 is failed, not finished\.", written.text)
    assert "python -m seglab.train -m loss=ce,dice+ce seed=0,1 'name='\"'\"'a b'\"'\"''" in written.text


def test_lines_that_are_marked_are_there_and_links_lead_to_pages(folder, written):
    ids = written.attributes("id")
    lines = written.attributes("data-line")
    assert len(ids) == len(set(ids))
    assert len(lines) >= 4 + 2
    assert set(lines) <= set(ids)
    assert [href for href in written.attributes("href") if not href.startswith("#")] == ["./3/report.html"]
    assert all(href[1:] in ids for href in written.attributes("href") if href.startswith("#"))


def test_the_same_page_comes_from_compare(folder, written, tmp_path, capsys):
    compare_door([str(folder), f"--html={folder / 'again.html'}"])
    assert capsys.readouterr().out.rstrip().endswith("again.html")
    assert (folder / "again.html").read_text() == (folder / "report.html").read_text()  # equal ids as well
    with pytest.raises(ConfigError, match=r"none/a\.html cannot be written .*; choose another file\.$"):
        compare_door([str(folder), f"--html={tmp_path / 'none' / 'a.html'}"])


def test_runs_that_cannot_be_compared_are_listed_with_the_reason(tmp_path):
    make(tmp_path / "a", counts(10), seed=0)
    make(tmp_path / "b", counts(12), seed=1, val=math.nan)
    with pytest.raises(DataError) as refused:
        compare([str(tmp_path)])
    found = read(write([str(tmp_path)], tmp_path / "r.html"))
    assert str(refused.value) in found.text
    assert {"runs.a.score", "runs.b.metrics.test/iou"} <= set(found.keyed)
    assert found.keyed["runs.b.score"] == {("null", "–")}
    assert "verdicts" not in found.attributes("id")
    with pytest.raises(DataError, match="No run was found"):
        (tmp_path / "empty").mkdir()
        write([str(tmp_path / "empty")], tmp_path / "e.html")


def test_one_run_is_a_page_without_a_verdict(tmp_path):
    make(tmp_path / "a", counts(10))
    found = read(write([str(tmp_path)], tmp_path / "r.html"))
    assert "There is nothing to compare: one run" in found.text
    value = compare([str(tmp_path)]).rows[0].classes[2]
    assert found.keyed["rows.0.classes.2"] == {(str(value), f"{value:.4f}")}


def test_hostile_names_are_text(tmp_path):
    root = tmp_path / os.fsdecode(b'a <b> \xff#?"')
    axes = [{HOSTILE[n % len(HOSTILE)]: HOSTILE[(n + 3) % len(HOSTILE)], "seed": str(n)} for n in range(4)]
    for n in range(4):
        make(
            root / f"{n}",
            counts(12, 3, seed=n, quality=0.5 + 0.1 * n),
            seed=n,
            loss="ce",
            lr=n + 1,
            names=list(HOSTILE[:3]),
            overrides=[f"optimizer.lr={HOSTILE[n]}"],
        )
        (root / f"{n}" / "report.html").write_text("")
        curve(root / f"{n}", [0.1, 0.2, 0.3, 0.4])
    odd = root / "javascript:alert(1)&'\""
    make(odd, counts(12, 3), seed=9, names=list(HOSTILE[:3]), status="failed", error="".join(HOSTILE[:7]))
    (odd / "report.html").write_text("")
    trials = [("finished", a, 0.5 + n / 10, None) for n, a in enumerate(axes)]
    record(root, trials, study=True)
    found = read(write([str(root)], root / "report.html"))
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert [tag for tag, _ in found.tags].count("style") == 1
    assert not [a for _, attrs in found.tags for a in attrs if a.startswith("on")]
    links = [href for href in found.attributes("href") if not href.startswith("#")]
    assert len(links) == 5
    for href in links:
        assert re.fullmatch(r"\./[\w./%~-]+", href)
        assert os.path.exists(
            os.path.join(os.fsencode(root), unquote(href, errors="surrogateescape").encode("utf-8", "surrogateescape"))
        )
    assert visible(HOSTILE[0]) in found.text
    assert "\u202e" not in found.text
    assert "Best of the study" in found.text


def test_a_page_that_grows_too_large_is_made_with_less(tmp_path, monkeypatch):
    for n in range(6):
        make(tmp_path / str(n), counts(8, 4, seed=n), loss="+".join("abcdef"[: n + 1]), seed=0)
    sizes = []
    original = sweep_page.page
    monkeypatch.setattr(sweep_page, "SIZES", ((100, 2000, 300), (3, 0, 0)))
    monkeypatch.setattr(pages, "LIMIT", 100)
    monkeypatch.setattr(sweep_page, "page", lambda *args: sizes.append(len(html := original(*args))) or html)
    found = read(write([str(tmp_path)], tmp_path / "r.html"))
    assert sizes[1] < sizes[0]
    judged = {key.split(".")[1] for key in found.keyed if key.startswith("verdicts.")}
    assert len(judged) == 3
    assert "2 more groups are in the table below" in found.text
    assert {f"rows.{n}.test" for n in range(6)} <= set(found.keyed)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 6).map(float), st.integers(0, 6).map(float)), min_size=1, max_size=12), st.booleans())
def test_the_front_holds_all_that_nothing_beats(points, more):
    def beats(a, b):
        gain = a[0] >= b[0] if more else a[0] <= b[0]
        return gain and a[1] >= b[1] and a != b

    kept = front(points, more)
    assert sorted(kept) == [n for n, p in enumerate(points) if not any(beats(q, p) for q in points)]
    assert [points[n][0] for n in kept] == sorted((points[n][0] for n in kept), reverse=more)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=8, unique=True))
def test_numeric_axes_keep_the_order_and_labels_stand_where_values_do(values):
    axis = _axis("lr", [repr(v) for v in values], np.zeros(len(values)))
    if len(set(values)) > 1:
        assert np.all(np.diff(axis.places[np.argsort(values)]) >= -1e-9)
        assert axis.places.min() == pytest.approx(0)
        assert axis.places.max() == pytest.approx(1)
        if len(values) <= 6:
            assert sorted(at for at, _ in axis.ticks) == pytest.approx(sorted(axis.places))


def test_axes_are_logarithmic_over_decades_and_words_have_a_place_each():
    log = _axis("lr", ["0.0001", "0.001", "0.01"], np.zeros(3))
    assert log.places == pytest.approx([0, 0.5, 1])
    assert _axis("lr", ["1", "2", "4"], np.zeros(3)).places == pytest.approx([0, 1 / 3, 1])
    missing = _axis("lr", ["1", "", "3"], np.zeros(3))
    assert missing.places[1] < 0
    words = _axis("loss", ["ce", "dice", "ce", ""], np.array([0.0, 0.5, 1.0, 0.5]))
    assert [label for _, label in words.ticks] == ["ce", "dice", "–"]
    assert words.places[0] < words.ticks[0][0] < words.places[2] < words.places[1] < words.places[3]


def test_the_seed_is_an_axis_only_where_little_else_differs():
    runs = [RunLine("", str(n), {"a": str(n), "b": str(-n), "c": "1", "seed": str(n)}) for n in range(2)]
    assert differing(runs) == ["a", "b"]
    assert differing([RunLine("", "", {"a": str(n), "seed": str(n)}) for n in range(2)]) == ["a", "seed"]
    assert parallel(runs, "val/iou", True)[0] is None  # no scores


def test_the_best_run_has_the_strongest_line_on_top():
    runs = [RunLine("", str(n), {"a": str(n), "b": str(n * n)}, score=s, monitor="m") for n, s in enumerate((0.2, 0.9, 0.5))]
    for higher, best, worst in ((True, 1, 0), (False, 0, 1)):
        figure, lines, _ = parallel(runs, "m", higher)
        drawn = re.findall(r'id="(axes-run-\d)">.*?var\(--accent\) (\d+)%', figure.drawn, re.DOTALL)
        assert (drawn[0][0], drawn[-1]) == (lines[str(worst)], (lines[str(best)], "100"))


def test_a_page_elsewhere_links_back_to_the_runs(folder):
    links = [run.link for run in listed([str(folder)], None, folder.parent / "x" / "y" / "r.html").runs if run.link]
    assert links == ["../../made/3/report.html"]


def verdict(word, seeds=True):
    return [Verdict(word, 0.1, 0.05, 0.15, 0.01, 0.01, 0.1, None, seeds)]


@pytest.mark.parametrize(
    ("words", "best", "said"),
    [
        (
            ("worse", "unclear", "worse"),
            "a",
            "a is the best by val/iou. Of the 3 other groups 2 are worse than it and 1 cannot be told from it.",
        ),
        (("unclear", "unclear"), "a", "a is the best by val/iou. None of the 2 other groups can be told from it."),
        (("better", "better"), "b", "All 2 other groups are better than a."),
        (("better", "equivalent"), None, "Of the 2 other groups 1 is better than a and 1 is within 0.005 of a."),
    ],
)
def test_the_answer_counts_the_verdicts(words, best, said):
    row = Row("a", {}, 2, [], 0.5, 0.1, [], 0.5, None, None, None)
    verdicts = {f"b{n}": verdict(word) for n, word in enumerate(words)}
    found = Comparison([row], [], 1, 1, "val/iou", best, "a", 3, 0.005, verdicts, [])
    assert _lead(found) == said
    alone = replace(found, verdicts={name: verdict(v[0].word, False) for name, v in verdicts.items()})
    assert _lead(alone) == f"{said} With one seed a side the noise of training is not judged."


def test_long_numbers_are_cut_in_names_alone_where_samplers_drew_them():
    assert brief("lr=0.0016457429702614716 loss=0.3*dice+ce") == "lr=0.001646 loss=0.3*dice+ce"
    assert brief("wd=1.8379343151730172e-05 (2)") == "wd=1.838e-05 (2)"
    assert brief("v1.2.3 12345678 0.25") == "v1.2.3 12345678 0.25"


def test_many_runs_become_medians_and_bands():
    runs = [RunLine("", str(n), group=n % 2, monitor="val/iou", curve=[(float(e), n + e) for e in range(4)]) for n in range(70)]
    few, many = curves(runs[:10], ["a", "b"], "val/iou"), curves(runs, ["a", "b"], "val/iou")
    assert "Each of 10 runs" in few.says
    assert "median" in many.says
    assert [key[0] for key in many.keys] == ["a", "b"]
    assert many.drawn.count("<path") < 60
    assert curves(runs, ["a", "b"], "val/other") is None


def test_the_best_of_a_study_follows_its_direction():
    assert "0.1000 in trial 3" in history([1, 2, 3], [0.5, 0.7, 0.1], "val/loss", False).says
    assert "0.7000 in trial 2" in history([1, 2, 3], [0.5, 0.7, 0.1], "val/iou", True).says


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-1, 1) | st.just(math.nan) | st.none(), max_size=6))
def test_scales_hold_their_values(values):
    scale = Scale.over(values)
    for value in (v for v in values if v is not None and v == v):
        assert 0 < float(scale(value)[:-1]) < 100
    assert all(scale.low <= at <= scale.high for at, _ in scale.ticks)


def test_records_that_cannot_be_read_are_named(tmp_path):
    make(tmp_path / "0", counts(6))
    (tmp_path / "sweep.json").write_text("{")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "results.json").write_text('{"schema": 7}')
    found = listed([str(tmp_path)], None, tmp_path / "r.html")
    assert len(found.notes) == 1
    assert "is not a sweep's record" in found.notes[0]
    assert [run.status for run in found.runs] == ["finished", "unknown"]
    assert "has schema 7" in found.runs[1].reason
