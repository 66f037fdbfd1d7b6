"""False comparisons are refused by name, broken runs are left out by name, and hostile names are only text."""

from __future__ import annotations

import json

import numpy as np
import pytest
from compare_folders import counts, make, sweep
from hypothesis import given, settings
from hypothesis import strategies as st
from test_compare import text

from seglab import results
from seglab.compare.answer import compare
from seglab.compare.counting import _quick, read_counts
from seglab.compare.writing import latex, to_csv, to_json, to_latex
from seglab.errors import DataError


def pair(path, one, other):
    """Two runs made with these changes."""
    make(path / "one", counts(seed=1), loss="ce", **one)
    make(path / "other", counts(seed=2), loss="dice", **other)
    return [str(path)]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"names": ["class0", "class1", "car"]}, "other classes: .*car"),
        ({"ids": [f"photo_{n}" for n in range(20)]}, "other test images"),
        ({"fingerprint": "g"}, "other data: .*fingerprint g"),
        ({"passport": {"definition": "mean over images"}}, "other definitions of mIoU: .*'mean over images'"),
    ],
)
def test_other_classes_images_and_data_are_refused(tmp_path, changed, words):
    with pytest.raises(DataError, match=words):
        compare(pair(tmp_path, {"passport": {"definition": "over all images"}}, changed))


def test_a_run_that_does_not_state_its_definition_is_checked_by_its_counts_alone(tmp_path):
    assert len(compare(pair(tmp_path, {"passport": {"definition": "over all images"}}, {})).rows) == 2


def test_other_splits_and_masks_are_refused(tmp_path):
    data = {"classes": ["class0", "class1", "class2"], "counts": {"train": 9, "test": 20}, "fingerprint": "f"}
    with pytest.raises(DataError, match="other splits"):
        compare(pair(tmp_path / "a", {}, {"data": data}))
    make(tmp_path / "b" / "0", counts(), loss="ce")
    rows = counts(seed=1)
    rows[4, 1, 2] += 1
    make(tmp_path / "b" / "1", rows, loss="dice")
    with pytest.raises(DataError, match="mask of test image 'image_004' is another"):
        compare([str(tmp_path / "b")])
    found = compare([str(tmp_path / "b")], intersect=True)
    assert found.images == 19
    assert "compared on 19 of 20 test images, those with the same name and mask in all runs." in found.notes


def test_on_request_the_shared_images_are_compared_in_one_order(tmp_path):
    rows, ids = counts(30, seed=1), [f"image_{n:03}" for n in range(30)]
    make(tmp_path / "0", rows[:20], loss="ce", ids=ids[:20])
    other = counts(30, seed=2)
    make(tmp_path / "1", other[29:9:-1], loss="dice", ids=ids[29:9:-1], fingerprint="g")
    found = compare([str(tmp_path)], intersect=True, sort="name")
    assert found.images == 10
    alone = [make(tmp_path / "x" / str(n), r[10:20], loss=loss) for n, (r, loss) in enumerate(((rows, "ce"), (other, "dice")))]
    again = compare([str(path) for path in alone], sort="name")
    assert [row.test for row in found.rows] == [row.test for row in again.rows]
    make(tmp_path / "2", counts(5), loss="focal", ids=list("abcde"))
    with pytest.raises(DataError, match="no test image in common"):
        compare([str(tmp_path)], intersect=True)


def test_runs_that_cannot_be_compared_are_named_and_the_rest_is(tmp_path):
    sweep(tmp_path)

    def broken(name, file="results.json", content="", **changed):
        folder = make(tmp_path / name, counts(seed=50), seed=50, **changed)
        if content is None:
            (folder / file).unlink()
        elif content:
            (folder / file).write_text(content)

    future = json.dumps({"schema": 99})
    broken("half", content='{"schema": 1, "status"')
    broken("future", content=future)
    broken("missing", content=None)
    broken("running", status="running")
    broken("untested", metrics={"val/iou": 0.5})
    broken("uncounted", "per_image.csv", None)
    broken("cut", "per_image.csv", "image,class0/tp,class0/fp,class0/fn,class1/tp\nx,1")
    broken("bare", ".hydra/config.yaml", None)
    broken("garbled", ".hydra/config.yaml", "model: [\nloss: x\n")
    broken("edited", metrics={"test/iou": 0.123})
    broken("listed", content=json.dumps({**results.read_results(tmp_path / "0"), "metrics": [1]}))
    found = compare([str(tmp_path)])
    assert [row.seeds for row in found.rows] == [3, 3]
    names = ("half", "future", "missing", "running", "untested", "uncounted", "cut", "bare", "garbled", "edited", "listed")
    for name in names:
        assert sum(f"/{name}" in note for note in found.notes) == 1, (name, found.notes)
    assert len(found.notes) == len(names)
    assert all(note.startswith("left out: ") and "\n" not in note for note in found.notes)


def test_where_nothing_is_left_it_is_said_why(tmp_path):
    make(tmp_path / "0", counts(), status="failed")
    with pytest.raises(DataError, match=r"can be compared: .*is failed, not finished"):
        compare([str(tmp_path)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="No run was found"):
        compare([str(tmp_path / "empty")])


NAMES = ["<script>alert(1)</script>", "[bold red]x[/] ../../\x1b[31m", "\u202eevil " + "n" * 300]


def test_hostile_names_are_text(tmp_path):
    ids = [f"=cmd|'/c calc'!A{n}\x1b[2J[link=x]\",\n" for n in range(20)]
    for n, loss in enumerate(("=ce", "dice")):
        choice = f"{loss}\x1b[31m[/][bold]\n\u202e$(x)%_{{}}"
        make(
            tmp_path / f"[red]{n}\x1b]0;x\x07", counts(seed=n), loss=f"l{n}", names=NAMES, ids=ids,
            choices={"loss": choice}, overrides=[f"loss={choice}"],
        )  # fmt: skip
    make(tmp_path / "\x1b[31m[bold]broken", counts(), status="\x1b[5mfailed\n")
    found = compare([str(tmp_path)])
    shown = [text(found, True), text(found, True, width=80), to_csv(found), *found.notes, to_latex(found)]
    for output in shown:
        assert not {"\x07", "\u202e", "\r"} & set(output)
        assert "\x1b[31m" not in output
        assert "\x1b]0" not in output
    assert "[/][bold]" in shown[0]
    assert ",'=ce" in shown[2]
    assert NAMES[0] in shown[0]
    assert max(map(len, shown[1].splitlines())) <= 80
    assert list(json.loads(to_json(found))["classes"]) == NAMES
    assert latex("a_b%$\\{x}") == r"a\_b\%\$\textbackslash{}\{x\}"


def test_links_and_the_insides_of_runs_are_not_followed(tmp_path):
    sweep(tmp_path / "s")
    (tmp_path / "s" / "best").symlink_to("3", target_is_directory=True)
    make(tmp_path / "s" / "0" / "checkpoints" / "inner", counts(seed=9), seed=9)
    found = compare([str(tmp_path), str(tmp_path / "s" / "1"), str(tmp_path / "s" / "2" / "results.json")])
    assert [row.seeds for row in found.rows] == [3, 3]
    assert found.notes == []


@given(st.integers(0, 10**6), st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5))
@settings(deadline=None, max_examples=40)
def test_the_quick_reader_agrees_with_the_careful_one(tmp_path_factory, seed, ids):
    path = tmp_path_factory.mktemp("x") / "per_image.csv"
    rows = np.random.default_rng(seed).integers(0, 10**9, (len(ids), 7))
    rows[:, 0] = range(len(ids))
    results.write_per_image(path, ids, rows, ["a", "b c"])
    for found in (results.read_per_image(path), read_counts(path)):
        assert found[:2] == (ids, ["a", "b c"])
        np.testing.assert_array_equal(found[2].reshape(len(ids), 6), rows[:, 1:])


@pytest.mark.parametrize("line", ["x,1,2", "x,1,2,3,4", "x,1,2,y", "x,1,2,", "x,1.5,2,3", "x"])
def test_a_broken_line_is_left_to_the_careful_reader(tmp_path, line):
    path = tmp_path / "per_image.csv"
    path.write_text(f"image,a/tp,a/fp,a/fn\nok,1,2,3\n{line}\n")
    assert _quick(path) is None
    with pytest.raises(DataError, match="broken at record 3"):
        read_counts(path)


def test_plain_files_take_the_quick_way(tmp_path):
    make(tmp_path / "0", counts())
    assert _quick(tmp_path / "0" / "per_image.csv") is not None


@pytest.mark.parametrize(
    "damage",
    [
        {"speed": [1]},
        {
            "data": {
                "classes": ["class0", "class1", "class2"],
                "counts": {"test": 20, "x": []},
                "whole": 3,
                "group": [],
                "fold": "x",
                "fingerprint": "f",
            }
        },
        {"parameters": 10**400, "seconds": -(10**400), "score": 10**400},
        {"metrics": {"test/iou": 10**400}},
        {"passport": 3},
        {"seed": [], "overrides": 3, "choices": {"model": 3}},
    ],
)
def test_a_damaged_results_file_never_ends_the_comparison(tmp_path, damage):
    sweep(tmp_path / "good")
    make(tmp_path / "bad", counts(seed=99), **{"seed": 99, **damage})
    found = compare([str(tmp_path)])
    assert sum(row.seeds for row in found.rows) + len([n for n in found.notes if n.startswith("left out")]) == 7
