"""Which files make a pair and in which split it lies, from names alone."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.data.layout import Pair, find_pairs, hashed_split
from seglab.errors import ConfigError, DataError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def ids(pairs):
    return {split: [one.id for one in some] for split, some in pairs.items()}


def test_split_folders_with_a_missing_test(tmp_path):
    touch(tmp_path, *(f"{s}/{k}/{n}" for s in ("train", "valid") for k in ("images", "masks") for n in ("b.png", "a.png")))
    pairs = find_pairs(tmp_path)
    assert ids(pairs) == {"train": ["a", "b"], "val": ["a", "b"], "test": []}
    assert pairs["val"][0] == Pair("a", str(tmp_path / "valid/images/a.png"), str(tmp_path / "valid/masks/a.png"))


def test_only_a_test_folder_is_enough(tmp_path):
    touch(tmp_path, "test/images/a.jpg", "test/labels/a.png")
    assert ids(find_pairs(tmp_path)) == {"train": [], "val": [], "test": ["a"]}


def test_split_folders_below_images_and_masks(tmp_path, caplog):
    caplog.set_level("INFO", logger="seglab")
    touch(tmp_path, "img_dir/train/a.jpg", "ann_dir/train/a.png", "img_dir/val/b.jpg", "ann_dir/val/b.png")
    assert ids(find_pairs(tmp_path)) == {"train": ["a"], "val": ["b"], "test": []}
    assert "'img_dir'" in caplog.text
    assert "'ann_dir'" in caplog.text


def test_nested_folders_hidden_files_and_strangers(tmp_path):
    touch(tmp_path, "images/x/a.png", "images/y/a.png", "images/.x.png", "images/.git/c.png", "images/Thumbs.db")
    touch(tmp_path, "masks/x/a.tif", "masks/y/a.tif", "masks/._a.tif", "masks/readme.txt")
    assert ids(find_pairs(tmp_path, (1, 0, 0)))["train"] == ["x/a", "y/a"]


def test_a_folder_named_like_a_split_beside_others_is_an_ordinary_folder(tmp_path):
    touch(tmp_path, "images/train/a.png", "images/more/b.png", "masks/train/a.png", "masks/more/b.png")
    assert ids(find_pairs(tmp_path, (1, 0, 0)))["train"] == ["more/b", "train/a"]


@pytest.mark.parametrize("ending", ["_mask", "-mask", "_label", "_gt"])
def test_an_ending_that_all_masks_share_is_left_out(tmp_path, ending, caplog):
    caplog.set_level("INFO", logger="seglab")
    touch(tmp_path, "images/a.jpg", "images/b.jpg", f"masks/a{ending}.png", f"masks/b{ending}.png")
    assert ids(find_pairs(tmp_path, (0, 1, 0)))["val"] == ["a", "b"]
    assert f"'{ending}'" in caplog.text


def test_split_json_with_and_without_suffix(tmp_path, caplog):
    caplog.set_level("INFO", logger="seglab")
    touch(tmp_path, *(f"{k}/{n}.png" for k in ("images", "labels") for n in "abcd"))
    (tmp_path / "split.json").write_text(json.dumps({"train": ["c.png", "a"], "val": ["b"]}))
    assert ids(find_pairs(tmp_path)) == {"train": ["a", "c"], "val": ["b"], "test": []}
    assert "leaves out 1 of 4" in caplog.text


names = st.sets(st.text("abcdefgh0123456789_/-", min_size=1, max_size=12), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(names, names)
def test_a_split_does_not_change_when_files_are_added(some, more):
    def split_of(all_names):
        split = hashed_split([Pair(n, "", "") for n in sorted(all_names)], (0.6, 0.2, 0.2))
        return {one.id: s for s, pairs in split.items() for one in pairs}

    before, after = split_of(some), split_of(some | more)
    assert set(after) == some | more
    assert all(after[n] == before[n] for n in some)


def test_fractions_are_met_and_the_assignment_is_pinned():
    split = hashed_split([Pair(f"image_{i:04}", "", "") for i in range(4000)], (0.7, 0.15, 0.15))
    shares = [len(split[s]) / 4000 for s in ("train", "val", "test")]
    assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.02)
    # A change of the hash would move users' images between train and test: a leak between two versions of seglab.
    assert [one.id for one in split["test"][:4]] == ["image_0001", "image_0026", "image_0029", "image_0032"]


def test_a_small_set_with_an_empty_split_is_warned_about(caplog):
    hashed_split([Pair("a", "", "")], (0.7, 0.15, 0.15))
    assert "split.json" in caplog.text


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.2, 0.2), (1.2, -0.1, -0.1), (0.5, 0.3, 0.2, 0.0)])
def test_bad_fractions(fractions):
    with pytest.raises(ConfigError, match=r"data\.split"):
        hashed_split([], fractions)


MISTAKES = {
    "nothing there": ([], "holds nothing"),
    "no masks": (["images/a.png"], "no masks folder"),
    "no images": (["masks/a.png"], "no images folder"),
    "files at the top": (["a.png", "a_mask.png"], r"a\.png"),
    "train without masks": (["train/images/a.png"], r"train has no masks folder"),
    "empty val": (["train/images/a.png", "train/masks/a.png", "val/images/x.txt", "val/masks/a.png"], r"val.images holds no"),
    "empty masks": (["images/a.png", "masks/readme.md"], r"masks holds no"),
    "mask missing": (
        ["images/a.png", "images/b.png", "images/c.png", "masks/a.png"],
        r"b\.png has no mask \(nor have 1 more\)",
    ),
    "image missing": (["images/a.png", "masks/a.png", "masks/b.png"], r"masks.b\.png has no image"),
    "two images of a stem": (["images/a.png", "images/a.jpg", "masks/a.png"], r"a\.jpg and .*a\.png have the same stem"),
    "two masks of a stem": (["images/a.png", "masks/a.png", "masks/a.tif"], r"masks.a\.png and .*a\.tif have the same stem"),
    "no mask folder for val": (
        ["images/train/a.png", "images/val/b.png", "masks/train/a.png"],
        r"images.val has no counterpart",
    ),
    "nested differently": (["images/x/a.png", "masks/a.png"], r"a\.png has no mask"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_the_layout(tmp_path, name):
    files, pattern = MISTAKES[name]
    touch(tmp_path, *files)
    with pytest.raises(DataError, match=pattern) as error:
        find_pairs(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        ('{"train": ["a"], "val": ["a"]}', "'a' under 'train' and again under 'val'"),
        ('{"train": ["image_1"]}', r"'image_1'.*Did you mean 'image_12'"),
        ('{"trian": ["a"]}', "'trian'.*Did you mean 'train'"),
        ('{"train": "a"}', "must be a list"),
        ('{"train": [], "val": []}', "lists no image"),
        ('["a"]', "list at its top level"),
        ('{"train": [', "not valid JSON"),
    ],
)
def test_mistakes_in_split_json(tmp_path, content, pattern):
    touch(tmp_path, *(f"{k}/{n}.png" for k in ("images", "masks") for n in ("a", "b", "image_12")))
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(DataError, match=rf"split\.json.*{pattern}"):
        find_pairs(tmp_path)
