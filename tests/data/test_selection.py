"""Folds and parts of a data set: complete, disjoint, balanced, whole groups, nested; and what is refused."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from seglab.data.cells import Cells
from seglab.data.converting import convert
from seglab.data.folder import Folder
from seglab.data.layout import Pair, hashed_split
from seglab.data.selection import assign, select
from seglab.data.source import Source
from seglab.errors import ConfigError, DataError
from seglab.types import Spec, group_labels


class Made(Source):
    """Images named clip_number, of 4x4 pixels; image n shows class 1 in every fifth."""

    name, spec = "made", Spec(classes=("background", "rare"))

    def __init__(self, train=20, val=10, test=4, group=None):
        names = {"train": train, "val": val, "test": test}
        self._ids = {split: [f"{split[:2]}{n // 3}_{n:02}" for n in range(count)] for split, count in names.items()}
        self.group = group

    def ids(self, split):
        return self._ids[split]

    def sizes(self, split):
        return [(4, 4 + n % 2) for n in range(len(self._ids[split]))]

    def load(self, split, index):
        mask = np.zeros((4, 4 + index % 2), np.uint8)
        mask[0, 0] = index % 5 == 0
        return {
            "image": np.full((*mask.shape, 3), index, np.uint8),
            "mask": mask,
            "id": self._ids[split][index],
            "size": mask.shape,
        }


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(0, 3), st.data())
def test_folds_keep_groups_whole_and_spread_every_class(folds, seed, data):
    count = data.draw(st.integers(folds, 60))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    each = data.draw(st.integers(1, 4))
    groups = [f"g{n}" for n in rng.integers(0, max(count // each, 1), count)]
    assume(len(set(groups)) >= folds)
    shown = rng.random((count, 3)) < np.array([1.0, 0.5, 0.1])
    found = np.array(assign(groups, shown, folds, seed))
    assert found.tolist() == assign(groups, shown, folds, seed)
    assert all(len(set(found[np.array(groups) == g])) == 1 for g in set(groups))
    largest = max(groups.count(g) for g in groups)
    assert set(found) == set(range(folds)) or largest > 1
    if largest == 1:
        for k in range(3):
            held = np.bincount(found[shown[:, k]], minlength=folds)
            # Dealing out the classes that are rarer first may unbalance a more frequent one, but never by more than they are.
            assert held.max() - held.min() <= 1 + shown[:, [j for j in range(3) if shown[:, j].sum() < shown[:, k].sum()]].sum()


def test_each_image_is_in_val_of_exactly_one_fold_and_test_stays():
    source = Made()
    seen = []
    for fold in range(5):
        found = select(source, folds=5, fold=fold)
        assert not set(found.ids("train")) & set(found.ids("val"))
        assert sorted(found.ids("train") + found.ids("val")) == sorted(source.ids("train") + source.ids("val"))
        assert found.ids("test") == source.ids("test")
        assert len(found.ids("val")) == 6
        rare = [found.load("val", n)["mask"].any() for n in range(6)]
        assert sum(rare) in (1, 2)  # six images show it
        for n, name in enumerate(found.ids("val")):
            sample = found.load("val", n)
            assert sample["id"] == name
            assert found.sizes("val")[n] == sample["size"]
            assert np.array_equal(found.load_mask("val", n), sample["mask"])
        seen += found.ids("val")
    assert sorted(seen) == sorted(source.ids("train") + source.ids("val"))


def test_groups_stay_together_in_folds_and_in_a_hashed_split():
    for fold in range(3):
        found = select(Made(group="^[^_]+"), folds=3, fold=fold)
        clips = [{name.split("_")[0] for name in found.ids(split)} for split in ("train", "val")]
        assert not clips[0] & clips[1]
    pairs = [Pair(f"clip{n // 10:02}_{n:03}", "", "") for n in range(300)]
    split = hashed_split(pairs, (0.6, 0.2, 0.2), "^clip[0-9]+")
    clips = [{one.id.split("_")[0] for one in some} for some in split.values()]
    assert sum(map(len, clips)) == len(set().union(*clips)) == 30
    assert all(clips)


@given(st.floats(0.05, 1), st.floats(0.05, 1), st.integers(0, 3))
def test_parts_are_nested(one, other, seed):
    less, more = sorted((one, other))
    source = Made(train=40)
    small, large = (select(source, limit=part, split_seed=seed) for part in (less, more))
    assert len(small.ids("train")) == int(np.ceil(round(less * 40, 9)))
    assert set(small.ids("train")) <= set(large.ids("train"))
    assert small.ids("train") == [name for name in source.ids("train") if name in set(small.ids("train"))]
    assert small.ids("val") == source.ids("val")


@pytest.mark.parametrize(("part", "count"), [(0.07, 7), (0.14, 14), (0.28, 28), (0.56, 56), (0.071, 8), (1.0, 100)])
def test_a_fraction_is_not_rounded_up_by_its_last_digit(part, count):
    assert len(select(Made(train=100), limit=part).ids("train")) == count


def test_groups_are_looked_for_before_training_and_told_where_two_splits_share_one(caplog):
    with caplog.at_level("WARNING", "seglab"):
        select(Made(group="^[a-z]+"))
        assert not caplog.text
        select(Made(group="[0-9]+_"))
    assert "groups are in train and in test, such as '0_'" in caplog.text
    with pytest.raises(DataError, match=r"data\.group='zzz' matches nothing in 'tr0_00'"):
        select(Made(group="zzz"))


def test_another_seed_draws_other_images():
    parts = [select(Made(), limit=8, split_seed=seed) for seed in range(4)]
    assert len({tuple(part.ids("train")) for part in parts}) == 4


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"folds": 1}, ConfigError, "folds must be 2 or more"),
        ({"folds": 5, "fold": 5}, ConfigError, "data.fold=5 of data.folds=5"),
        ({"folds": 31}, DataError, "there are only 30 images or groups"),
        ({"fold": 2}, ConfigError, "data.fold=2 needs the number of folds"),
        ({"folds": 2, "none": True}, DataError, "has no images in train and val"),
        ({"limit": float("nan")}, ConfigError, "data.limit=nan must be"),
        ({"limit": 0}, ConfigError, "data.limit=0 must be"),
        ({"limit": 1.5}, ConfigError, "at most 1"),
        ({"limit": 21}, ConfigError, "more than the 20 training images"),
    ],
)
def test_impossible_values_are_named(asked, error, words):
    with pytest.raises(error, match=words):
        select(Made(0, 0) if asked.pop("none", False) else Made(), **asked)


@pytest.mark.parametrize(("pattern", "words"), [("(", "no regular expression"), ("^x", "matches nothing in 'tr0_00'")])
def test_groups_that_cannot_be_found_are_named(pattern, words):
    with pytest.raises(DataError, match=f"data.group=.*{words}"):
        select(Made(group=pattern), folds=3)


def test_a_run_takes_its_fold_and_says_how_many_images_it_had(train):
    found = train("data.folds=3", "data.fold=1", "data.limit=4", "pictures=0")
    assert found["data"]["counts"] == {"train": 4, "val": 4, "test": 4}
    assert found["data"]["whole"] == {"train": 8, "val": 4, "test": 4}
    assert found["data"]["fingerprint"] == Cells(48, 8, 4, 4).fingerprint()


class Numbered(Made):
    """Images called alike in every split: PATIENT_NUMBER."""

    def __init__(self, patients=4, **more):
        super().__init__(**more)
        self._ids = {split: [f"p{n % patients}_{n:02}" for n in range(len(some))] for split, some in self._ids.items()}


@pytest.mark.parametrize("group", [None, "^p[0-9]+", "(?<=_).$|[0-9]$"])
def test_pooled_images_of_one_name_stay_two(group):
    source = Numbered(group=group)
    held = {}
    for fold in range(3):
        made = select(source, folds=3, fold=fold)
        ids = {split: list(made.ids(split)) for split in ("train", "val", "test")}
        assert len({*ids["train"], *ids["val"]}) == 30
        for split in ("train", "val", "test"):
            for n, id in enumerate(ids[split]):
                of, at = made.places[split][n]
                assert id.endswith(source.ids(of)[at] if group is None and of == "test" else f"{of}/{source.ids(of)[at]}")
                assert made.load(split, n)["id"] == id
                if group is not None:  # the group is that of the name as it was
                    [label] = group_labels([id], made.group, "data.group")
                    assert [label] == group_labels([source.ids(of)[at]], group, "data.group")
        if group is not None:
            assert not set(group_labels(ids["train"], made.group, "g")) & set(group_labels(ids["val"], made.group, "g"))
        held |= dict.fromkeys(ids["val"])
    assert len(held) == 30  # an image has one name in all folds


def test_names_that_do_not_collide_stay():
    for source in (Made(), Made(group="^[a-z]+[0-9]+")):
        made = select(source, folds=3, fold=1)
        assert sorted([*made.ids("train"), *made.ids("val")]) == sorted([*source.ids("train"), *source.ids("val")])
        assert made.group == source.group
    assert list(select(Numbered(), limit=0.5).ids("val")) == Numbered().ids("val")


def test_folds_of_images_of_one_name_are_converted(tmp_path):
    made = select(Numbered(), folds=3, fold=1)
    convert(made, tmp_path / "plain")
    plain = Folder(tmp_path / "plain")
    for split in ("train", "val", "test"):
        assert sorted(made.ids(split)) == list(plain.ids(split))
