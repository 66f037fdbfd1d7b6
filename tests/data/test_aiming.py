"""Rare-class sampling: the shares are met, aimed samples show their class, all others stay what they were."""

from __future__ import annotations

from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.data.aiming import Aim, class_shares
from seglab.data.mixing import CutMix
from seglab.data.module import DataModule
from seglab.data.sampling import TrainBatches
from seglab.data.source import Source
from seglab.data.transforms import window
from seglab.errors import ConfigError, DataError
from seglab.tasks.ledger import seen
from seglab.types import SEEN, Mode, Sample, Spec

SPEC = Spec(("ground", "field", "mark"))


class Scenes(Source):
    """Images of 96 x 96 that show `mark` in every fifth, on 2 x 2 pixels somewhere."""

    name = "scenes"

    def __init__(self, mode: Mode = "multiclass", images: int = 25) -> None:
        self.spec = Spec(("ground", "mark") if mode == "binary" else ("ground", "field", "mark"), mode)
        self.mark = self.spec.num_classes - 1
        rng = np.random.default_rng(1)
        self.masks = []
        for i in range(images):
            mask = (rng.random((96, 96)) < 0.3).astype(np.uint8) * (mode != "binary")
            mask[:3] = 255
            row, column = rng.integers(0, 95, 2)
            if i % 5 == 0:
                mask[row : row + 2, column : column + 2] = self.mark
            if mode == "multilabel":
                mask = np.where(mask[..., None] == 255, 255, mask[..., None] == np.arange(3)).astype(np.uint8)
            self.masks.append(mask)

    def ids(self, split: str) -> list[str]:
        return [str(i) for i in range(len(self.masks))]

    def sizes(self, split: str) -> list[tuple[int, int]]:
        return [(96, 96)] * len(self.masks)

    def load(self, split: str, index: int) -> Sample:
        mask = self.masks[index]
        image = np.repeat((mask if mask.ndim == 2 else mask[..., 2])[..., None], 3, 2)
        return {"image": np.ascontiguousarray(image), "mask": mask, "id": str(index), "size": (96, 96)}


def transforms() -> dict[str, A.BasicTransform]:
    return {
        "turn": A.Affine(rotate=(-180, 180), scale=(0.3, 1.2), p=0.8),
        "cut": A.RandomCrop(30, 30, p=0.5),
        "flip": A.HorizontalFlip(p=0.5),
    }


def module(source: Source, **more: Any) -> DataModule:
    return DataModule(source, transforms(), seed=3, **{"batch_size": 5, "num_workers": 0, "crop": [24, 24], **more})


def epoch(data: DataModule, number: int = 0) -> dict[str, torch.Tensor]:
    loader = data.train_dataloader()
    loader.batch_sampler.set_epoch(number)
    batches = [{**batch, "seen": seen(batch, data.source.spec)} for batch in loader]
    return {key: torch.cat([batch[key] for batch in batches]) for key in ("image", "mask", "index", "seen")}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3000), st.integers(1, 70), st.integers(0, 2**40), st.integers(0, 400),
    st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(0, 1),
)  # fmt: skip
def test_every_class_gets_its_share_of_what_any_epoch_shows_to_within_a_sample(length, batch, seed, number, parts, total):
    given = {name: part / max(sum(parts), 1e-9) * total for name, part in zip(SPEC.classes, parts, strict=True)}
    aim = Aim(given, SPEC, np.ones((length, 3), np.uint32), seed, batch)
    batches = TrainBatches(length, batch, seed)
    batches.set_epoch(number)
    keys = [key for one in batches for key in one]
    targets = [found[0] for key in keys if (found := aim(*key))]
    for k, name in enumerate(SPEC.classes):
        assert abs(targets.count(k) - given[name] * len(keys)) <= 1 + 1e-6


def test_over_epochs_shares_that_are_no_whole_number_of_samples_are_met_too():
    aim = Aim({"mark": 0.3, "field": 0.05}, SPEC, np.ones((15, 3)), 0, 8)
    counts = np.zeros(3)
    for number in range(500):
        for index in np.argsort(aim._positions(number))[:8]:
            if found := aim(number, int(index)):
                counts[found[0]] += 1
    assert counts / 4000 == pytest.approx([0, 0.05, 0.3], abs=0.01)


def test_an_aimed_sample_is_of_an_image_that_shows_the_class_and_epochs_differ():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 3, (40, 3)).astype(np.uint32)
    pixels[0] = 1
    aim = Aim({"mark": 0.5, "field": 0.2}, SPEC, pixels, 0, 8)
    plans = [[aim(number, index) for index in range(40)] for number in range(3)]
    for plan in plans:
        assert all(pixels[image, target] > 0 for target, image in filter(None, plan))
    assert plans[0] != plans[1] != plans[2]
    assert plans[0] == [aim(0, index) for index in range(40)]
    images = {found[1] for number in range(60) for index in range(40) if (found := aim(number, index)) and found[0] == 2}
    assert images == set(np.flatnonzero(pixels[:, 2]))
    aimed = {index for number in range(60) for index in range(40) if aim(number, index)}
    assert len(aimed) == 40  # no image is left out for ever


def test_rare_means_less_than_an_even_share_and_by_the_root_of_it():
    pixels = np.array([[9000, 810, 90], [0, 90, 10]], np.uint32)
    shares = class_shares({"rare": 0.4}, SPEC, pixels)
    assert shares[0] == 0
    assert shares.sum() == pytest.approx(0.4)
    assert shares[2] / shares[1] == pytest.approx(3)  # nine times as rare
    assert class_shares({"rare": 0.3, "ground": 0.1}, SPEC, pixels)[0] == pytest.approx(0.1)
    assert class_shares({"rare": 0.3}, SPEC, np.array([[5, 5, 5]])) == pytest.approx([0.1] * 3)
    assert class_shares({"rare": 0.3}, SPEC, np.array([[50, 5, 0]])) == pytest.approx([0, 0.3, 0])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"marks": 0.1}, "no class 'marks'. Did you mean 'mark'"), ({"mark": 1.2}, "data.sampling.mark is 1.2"), ({"mark": -0.1}, "from 0 to 1"),
        ({"mark": "a"}, "must be a share"), ({2: 0.3}, "name the class, not its id; the classes are ground, field, mark"),
        ({"rare": None}, "must be a share"), ({"mark": 0.6, "rare": 0.5}, "add up to 1.1"), ({"mark": True}, "must be a share"),
    ],
)  # fmt: skip
def test_impossible_shares(given, words):
    with pytest.raises(ConfigError, match=words):
        module(Scenes(), sampling=given).check()


def test_a_class_that_is_nowhere():
    source = Scenes()
    for mask in source.masks:
        mask[mask == 2] = 0
    with pytest.raises(DataError, match=r"data.sampling.mark: no training image shows this class"):
        module(source, sampling={"mark": 0.1}).check()


@pytest.mark.parametrize("mode", ["binary", "multiclass", "multilabel"])
def test_what_was_aimed_at_is_in_the_sample_whatever_moves_it(mode: Mode):
    data = module(Scenes(mode), sampling={"mark": 0.4})
    for number in range(3):
        found = epoch(data, number)
        aimed = found["seen"][:, SEEN.index("aimed"), data.source.mark]
        assert aimed.sum() == 10  # of 25
        mask = found["mask"] if mode != "multilabel" else (found["mask"][:, 2] == 1) * data.source.mark
        assert ((mask == data.source.mark).flatten(1).any(1) >= aimed.bool()).all()
        assert set(found["index"][aimed.bool()].tolist()) <= set(range(0, 25, 5))


def test_samples_that_are_not_aimed_stay_what_they_were():
    with_aim, without = epoch(module(Scenes(), sampling={"mark": 0.4}), 2), epoch(module(Scenes()), 2)
    free = with_aim["seen"][:, SEEN.index("aimed")].sum(1) == 0
    assert free.sum() == 15
    for key in ("image", "mask", "index"):
        assert torch.equal(with_aim[key][free], without[key][free])
    assert not torch.equal(with_aim["mask"], without["mask"])


def test_a_sample_at_half_size_still_shows_what_it_was_aimed_at():
    data = module(Scenes(), sampling={"mark": 0.4}, scale=0.4, crop=[16, 16])
    found = epoch(data)
    assert found["seen"][:, SEEN.index("aimed"), 2].sum() == 10


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(workers: int):
    alone, many = (epoch(module(Scenes(), sampling={"rare": 0.5}, num_workers=n), 1) for n in (0, workers))
    for key in alone:
        assert torch.equal(alone[key], many[key])


def test_the_pixel_is_anywhere_in_the_window_and_windows_stay_inside():
    rng = np.random.default_rng(0)
    image = np.arange(60 * 80).reshape(60, 80)
    places = []
    for hold in [(30, 40)] * 3000:
        cut = window((60, 80), (10, 10), rng, hold)(image, -1)
        places.append(np.argwhere(cut == image[hold])[0])
    counts = np.zeros((10, 10), int)
    np.add.at(counts, tuple(np.transpose(places)), 1)
    assert counts.min() > 10
    assert counts.max() < 60  # 30 expected at each place
    for hold in [(0, 0), (59, 79), (0, 79), (3, 5)]:
        for goal in [(10, 10), (70, 20), (100, 100)]:
            cut = window((60, 80), goal, rng, hold)(image, -1)
            assert cut.shape == goal
            assert (cut == image[hold]).sum() == 1


def test_seen_is_a_recount_of_what_is_given_also_where_a_mix_covers_it():
    data = module(Scenes(), sampling={"mark": 1.0}, mix=CutMix(p=1.0))
    found = epoch(data)
    shown = torch.stack([(found["mask"] == k).flatten(1).sum(1) for k in range(3)], 1)
    assert torch.equal(found["seen"][:, 0], shown)
    assert torch.equal(found["seen"][:, 1], (shown > 0).long())
    aimed = found["seen"][:, 3]
    assert torch.equal(aimed[:, 2], (shown[:, 2] > 0).long())
    assert 0 < aimed.sum() < 25
