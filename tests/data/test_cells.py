import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.data.cells import Cells
from seglab.errors import ConfigError

SPLITS = ("train", "val", "test")


def digest(source, split="train", count=4):
    parts = [source.load(split, i)[key].tobytes() for i in range(count) for key in ("image", "mask", "instances")]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(32, 150),
    width=st.integers(32, 150),
    channels=st.sampled_from([1, 3]),
    cells=st.tuples(st.integers(1, 200), st.integers(1, 200)).map(sorted),
    seed=st.integers(0, 2**32 - 1),
    split=st.sampled_from(SPLITS),
)
def test_sample_is_well_formed(height, width, channels, cells, seed, split):
    source = Cells([height, width], 2, 2, 2, channels=channels, cells=cells, seed=seed)
    sample = source.load(split, 1)
    image, mask, instances = sample["image"], sample["mask"], sample["instances"]
    assert (image.dtype, mask.dtype, instances.dtype) == (np.uint8, np.uint8, np.uint16)
    assert image.shape == (height, width, channels)
    assert mask.shape == instances.shape == sample["size"] == source.sizes(split)[1] == (height, width)
    assert sample["id"] == source.ids(split)[1]
    assert ((mask > 0) == (instances > 0)).all()
    ids = np.unique(instances[instances > 0])
    assert ids.tolist() == list(range(1, len(ids) + 1)), "ids are contiguous from 1 and no cell is hidden whole"
    assert len(ids) >= 1
    for i in ids:
        assert len(np.unique(mask[instances == i])) == 1, "an instance has one class"
    assert mask.max() < source.spec.num_classes
    assert image.std() > 1


def test_two_processes_draw_the_same_bytes():
    code = (
        "import hashlib; from seglab.data.cells import Cells; s = Cells(96, seed=5)\n"
        "print(hashlib.sha256(b''.join(s.load('train', i)[k].tobytes() for i in range(4) "
        "for k in ('image', 'mask', 'instances'))).hexdigest())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert out == digest(Cells(96, seed=5))


def test_an_image_depends_on_its_address_only():
    few, many = Cells(64, 3, 1, 1), Cells(64, 30, 10, 10)
    many.load("val", 2)
    assert few.load("train", 2)["image"].tobytes() == many.load("train", 2)["image"].tobytes()
    first = [Cells(64).load(s, i)["image"].tobytes() for s in SPLITS for i in range(8)]
    first += [Cells(64, seed=1).load("train", i)["image"].tobytes() for i in range(8)]
    assert len(set(first)) == len(first), "splits, indices and seeds share no image"


def test_what_is_loaded_may_be_changed():
    source = Cells(64)
    before = digest(source)
    for i in range(4):
        sample = source.load("train", i)
        for key in ("image", "mask", "instances"):
            sample[key][:] = 7
    assert digest(source) == before


def test_cache_is_bounded_and_stays_home(monkeypatch):
    monkeypatch.setattr("seglab.data.cells._CACHE_IMAGES", 3)
    source = Cells(64)
    fresh = digest(source, count=6)
    assert len(source._cache) == 3
    assert digest(source, count=6) == fresh
    copy = pickle.loads(pickle.dumps(source))
    assert not copy._cache
    assert digest(copy, count=6) == fresh
    monkeypatch.setattr("seglab.data.cells._CACHE_BYTES", 30_000)
    small = Cells(64)
    digest(small)
    assert len(small._cache) == 1, "24 KB each"


def test_fingerprint_follows_every_argument():
    changes = [{}, {"size": 128}, {"train": 8}, {"val": 8}, {"test": 8}, {"channels": 1}, {"cells": (5, 6)}, {"seed": 1}]
    prints = [Cells(**change).fingerprint() for change in changes]
    assert len(set(prints)) == len(prints)
    assert Cells().fingerprint() == Cells().fingerprint()


def test_spec_statistics_are_measured():
    for channels in (1, 3):
        source = Cells(channels=channels)
        images = np.stack([source.load("train", i)["image"] for i in range(60)]) / 255
        np.testing.assert_allclose(images.mean((0, 1, 2)), source.spec.mean, atol=0.03)
        np.testing.assert_allclose(images.std((0, 1, 2)), source.spec.std, atol=0.03)


def test_no_threshold_solves_it_and_no_kind_is_brighter():
    source = Cells()
    both = union = 0
    light = {1: [], 2: []}
    for i in range(30):
        sample = source.load("train", i)
        grey, truth = sample["image"].mean(2), sample["mask"] > 0
        # The best of all thresholds, chosen per image with the truth in hand: an upper bound for Otsu and its kin.
        best = max(range(10, 200, 6), key=lambda t: (truth & (grey > t)).sum() / (truth | (grey > t)).sum())
        both += (truth & (grey > best)).sum()
        union += (truth | (grey > best)).sum()
        for kind, values in light.items():
            values.extend(grey[sample["mask"] == kind][::50])
    assert both / union < 0.8
    assert abs(np.median(light[1]) - np.median(light[2])) < 0.25 * np.std(light[1])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", 0), ("size", 31), ("size", "256"), ("size", [256]), ("size", [64, 64.5]), ("size", True), ("size", 10**6),
        ("train", -1), ("val", 1.5), ("test", "ten"), ("channels", 2), ("channels", "3"), ("channels", True),
        ("cells", 20), ("cells", (0, 4)), ("cells", (9, 4)), ("cells", (1, 2, 3)), ("seed", -1), ("seed", None),
    ],
)  # fmt: skip
def test_wrong_values_name_their_key(key, value):
    with pytest.raises(ConfigError, match=rf"data\.{key}\b"):
        Cells(**{key: value})


def test_empty_split_and_wrong_names():
    source = Cells(64, test=0)
    assert source.ids("test") == source.sizes("test") == []
    with pytest.raises(IndexError):
        source.load("test", 0)
    with pytest.raises(IndexError):
        source.load("train", -1)
    with pytest.raises(ConfigError, match="Did you mean 'train'"):
        source.ids("trian")
