"""Objects move with their image: ids, classes and crowds through layers, augmentation, mixing and batches."""

from __future__ import annotations

import hashlib

import albumentations as A
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.build import build
from seglab.config import conf_dir, load, plain
from seglab.data.cells import Cells
from seglab.data.mixing import ClassMix, CopyPaste, CutMix, Mosaic
from seglab.data.module import DataModule, collate
from seglab.data.objects import Objects, Pair, layered, merged, objects
from seglab.data.resizing import resize_layers
from seglab.data.source import Source
from seglab.data.transforms import Augment
from seglab.errors import ConfigError
from seglab.types import Spec

AUGMENTS = sorted(p.stem for p in (conf_dir() / "augment").glob("*.yaml"))
SPEC = Spec(("background", "a", "b", "c"), instances=True)


class Numbered(Source):
    """Channel 0 of image i is i + 1, channel 1 the id at each pixel; the class of id n is n % 3 + 1, id 3 is a crowd."""

    name = "numbered"
    spec = Spec(("background", "a", "b", "c"), channels=2, instances=True)

    def __init__(self, count=5, size=(24, 40), most=6):
        self.count, self.size, self.most = count, size, most

    def ids(self, split):
        return [f"{split}{i}" for i in range(self.count)]

    def sizes(self, split):
        return [self.size] * self.count

    def load(self, split, index):
        rng = np.random.default_rng(index)
        blocks = rng.integers(0, self.most + 1, (3, 5)) if index else np.zeros((3, 5), int)  # the first shows no object
        ids = blocks.repeat(8, 0).repeat(8, 1)[: self.size[0], : self.size[1]]
        image = np.stack([np.full_like(ids, index + 1), ids], 2).astype(np.uint8)
        number = np.arange(1, self.most + 1) if index else np.zeros(0, int)
        labels, crowd = number % 3 + 1, number == 3
        mask = np.concatenate([[0], labels])[ids].astype(np.uint8)
        held = {"instances": ids.astype(np.int32)[..., None], "labels": labels, "crowd": crowd}
        return {"image": image, "mask": mask, "id": str(index), "size": self.size, **held}


def test_ids_with_gaps_become_one_to_n_and_take_the_class_that_most_of_them_shows():
    ids = np.array([[0, 900, 900, 7], [7, 7, 65000, 0]], np.uint16)
    mask = np.array([[0, 2, 1, 3], [3, 1, 2, 0]], np.uint8)
    found = objects({"image": np.zeros((2, 4, 3), np.uint8), "mask": mask, "instances": ids, "id": "x", "size": (2, 4)}, 255)
    assert found.ids[..., 0].tolist() == [[0, 2, 2, 1], [1, 1, 3, 0]]
    assert found.labels.tolist() == [3, 1, 2]
    assert not found.crowd.any()
    full = objects({"image": mask, "mask": mask, "instances": ids * 0 + 4, "id": "x", "size": (2, 4)}, 255)
    assert (full.ids == 1).all()  # no background pixel at all
    none = objects({"image": mask, "mask": mask, "instances": ids * 0, "id": "x", "size": (2, 4)}, 255)
    assert none.ids.shape == (2, 4, 1)
    assert len(none.labels) == len(none.crowd) == 0
    for ignore in (255, -1):  # ignored pixels name no class
        some = np.where(ids == 7, ignore, mask.astype(np.int32))
        found = objects({"image": mask, "mask": some, "instances": ids, "id": "x", "size": (2, 4)}, ignore)
        assert found.labels.tolist() == [0, 1, 2]


def test_cells_say_which_object_is_of_which_class():
    seen = set()
    for index in range(4):
        sample = Cells(size=96, train=4).load("train", index)
        found = objects(sample, 255)
        assert (np.concatenate([[0], found.labels])[found.ids[..., 0]] == sample["mask"]).all()
        seen |= set(found.labels.tolist())
    assert seen == {1, 2}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 7), st.integers(0, 2**32 - 1), st.floats(0.05, 0.6))
def test_layers_hold_every_object_whole(count, seed, share):
    masks = np.random.default_rng(seed).random((count, 7, 9)) < share
    ids = layered(masks)
    assert ids.shape[:2] == (7, 9)
    assert ids.shape[2] >= 1
    assert all(((ids == n).any(-1) == mask).all() for n, mask in enumerate(masks, 1))
    assert layered(masks[:1]).shape[2] == 1


@pytest.mark.parametrize("group", AUGMENTS)
@pytest.mark.parametrize("ignore", [255, 5, -1])
def test_ids_and_mask_go_through_one_map(group, ignore):
    nodes = plain(load([f"augment={group}"]))["augment"]
    transforms = {k: build(v, (A.BasicTransform, A.BaseCompose), k) for k, v in nodes.items()}
    spec = Spec(tuple("abcd"), ignore_index=ignore)
    augment = Augment(transforms, spec, (50, 70), seed=1)
    rng = np.random.default_rng(0)
    first = rng.integers(240, 270, (6, 4)).repeat(10, 0).repeat(10, 1).astype(np.int32)  # ids around ignore_index
    second = rng.integers(0, 9, (6, 4)).repeat(10, 0).repeat(10, 1).astype(np.int32)
    held = Objects(np.stack([first, second], -1), np.ones(270, np.int64), np.zeros(270, bool))
    uncovered = 0
    for index in range(12):
        image, mask, moved = augment(Pair(np.zeros((60, 40, 3), np.uint8), (first % 4).astype(np.int32), held), 3, index)
        assert image.shape[:2] == mask.shape == moved.ids.shape[:2] == (50, 70)
        assert moved.ids.dtype == np.int32
        bare = mask == ignore
        uncovered += bare.sum()
        assert (moved.ids[bare] == 0).all()  # what was uncovered belongs to no object
        assert (moved.ids[~bare][:, 0] % 4 == mask[~bare]).all()
        assert set(np.unique(moved.ids[..., 0])) <= {0, *np.unique(first)}
        assert set(np.unique(moved.ids[..., 1])) <= set(range(9))
    assert uncovered > 0  # the window is wider than the image
    plain_pair = augment(Pair(np.zeros((60, 40, 3), np.uint8), (first % 4).astype(np.int32)), 3, 0)
    again = augment(Pair(np.zeros((60, 40, 3), np.uint8), (first % 4).astype(np.int32), held), 3, 0)
    assert plain_pair.objects is None
    # Asking for objects changes nothing else, but that OpenCV places bytes and wider numbers a hair apart in a warp.
    assert (plain_pair.mask == again.mask).mean() > (0.99 if group == "strong" else 0.9999)


@pytest.mark.parametrize("kind", [CutMix, ClassMix, Mosaic, CopyPaste])
def test_mixing_keeps_every_pixel_with_its_own_object(kind):
    source, several = Numbered(), 0
    split = DataModule(source, {}, 3, batch_size=1, num_workers=0, mix=kind(p=1), instances=True).train_dataloader().dataset
    for epoch in range(8):
        for index in range(5):
            sample = split[epoch, index]
            ids, labels, crowd = sample["instances"], sample["labels"], sample["crowd"]
            assert (np.concatenate([[0], labels])[ids].max(-1) == sample["mask"]).all()
            several += len(np.unique(sample["image"][..., 0])) > 1
            for n in np.unique(ids[ids > 0]):
                where = (ids == n).any(-1)
                assert len(np.unique(sample["image"][where], axis=0)) == 1  # of one image, and of one object there
                assert crowd[n - 1] == (sample["image"][where][0, 1] == 3)
            shown = sample["image"][..., 1] > 0
            assert ((ids > 0).any(-1) == shown).all()
    assert several > 10


def test_copy_paste_takes_whole_objects_and_never_a_crowd():
    first = Objects(np.ones((4, 6, 1), np.int32), np.array([2]), np.array([False]))
    ids = np.zeros((4, 6, 2), np.int32)
    ids[:2, :3, 0], ids[1:3, 2:5, 1], ids[3, :, 0] = 1, 2, 3  # 1 and 2 overlap, 3 is a crowd
    second = Objects(ids, np.array([1, 2, 1]), np.array([False, False, True]))
    sizes = set()
    for seed in range(40):
        owner, held = CopyPaste(share=0.5).owners_of([first, second], np.random.default_rng(seed))
        assert not owner[3].any()
        sizes.add(int(owner.sum()))
        pasted = merged(held, owner)
        assert pasted.labels.tolist() == [2, 1, 2, 1]
        assert {*np.unique(pasted.ids)} <= {0, 1, 2, 3}
        shown = [int((pasted.ids == n).any(2).sum()) for n in (2, 3)]
        assert shown in ([0, 0], [6, 0], [0, 6], [6, 6])  # whole, also where they overlap, and no piece of another
        assert ((pasted.ids[..., 0] == 1) == ~owner.astype(bool)).all()  # what is covered is hidden
    assert sizes == {0, 6, 11}
    empty = Objects(np.zeros((4, 6, 1), np.int32), np.zeros(0, np.int64), np.zeros(0, bool))
    assert not CopyPaste().owners_of([first, empty], np.random.default_rng(0))[0].any()
    for wrong in (0, 1.5, -1):
        with pytest.raises(ConfigError, match=r"mix\.share"):
            CopyPaste(share=wrong)


def test_copy_paste_needs_objects():
    source = Numbered()
    source.spec = Spec(("background", "a", "b", "c"), channels=2)
    with pytest.raises(ConfigError, match="does not tell them apart; use mix=classmix"):
        DataModule(source, {}, 0, num_workers=0, mix=CopyPaste())
    with pytest.raises(ConfigError, match=r"does not tell objects apart.*instances=none"):
        DataModule(source, {}, 0, num_workers=0, instances=True)


def test_copy_paste_serves_semantic_training_too():
    data = DataModule(Numbered(), {}, 3, batch_size=5, num_workers=0, mix=CopyPaste(p=1))
    batch = next(iter(data.train_dataloader()))
    assert batch.keys() == {"image", "mask", "index", "target"}
    image, mask = batch["image"], batch["mask"]
    assert len(image[:, 0].unique()) > 1
    known = np.array([0, 2, 3, 1, 2, 3, 1])  # the class of ids 0..6
    assert (known[image[:, 1].long()] == mask.numpy()).all()


def test_a_batch_is_filled_up_and_may_hold_no_object():
    samples = [
        {"image": np.zeros((4, 5, 3), np.uint8), "mask": np.zeros((4, 5), np.uint8), "index": i,
         "instances": np.full((4, 5, layers), min(n, 1), np.int32), "labels": np.arange(1, n + 1), "crowd": np.ones(n, bool)}
        for i, (layers, n) in enumerate(((1, 0), (3, 2), (1, 1)))
    ]  # fmt: skip
    batch = collate(samples)
    assert batch["instances"].shape == (3, 3, 4, 5)
    assert batch["labels"].tolist() == [[-1, -1], [1, 2], [1, -1]]
    assert batch["crowd"].tolist() == [[False, False], [True, True], [True, False]]
    none = collate(samples[:1])
    assert none["labels"].shape == none["crowd"].shape == (1, 0)
    assert batch["instances"][2].sum() == 20


def test_layers_are_resized_like_masks():
    ids = np.random.default_rng(0).integers(0, 9, (30, 20, 6)).astype(np.int32)  # more layers than OpenCV has channels
    small = resize_layers(ids, (15, 10))
    assert small.shape == (15, 10, 6)
    assert all((small[..., i] == resize_layers(ids[..., i : i + 1], (15, 10))[..., 0]).all() for i in range(6))


def test_the_same_objects_for_any_number_of_workers():
    def epoch(workers):
        data = DataModule(Numbered(), {"turn": A.D4(p=1)}, 0, batch_size=2, num_workers=workers, mix=CopyPaste(), instances=True,
                          crop=[24, 24])  # fmt: skip
        batches = [*data.train_dataloader()]
        return hashlib.sha256(b"".join(b[k].numpy().tobytes() for b in batches for k in b)).hexdigest()

    assert epoch(0) == epoch(2)
