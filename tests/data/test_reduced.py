"""JPEG decoded at a reduced size: near to the ordinary way, exactly of its size, never mixed up with it, and masks as ever."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seglab.config import load, plain
from seglab.data import reduced as module
from seglab.data.cache import cached
from seglab.data.cells import Cells
from seglab.data.coco import Coco
from seglab.data.folder import Folder
from seglab.data.folder_stats import read_alike
from seglab.data.module import Split
from seglab.data.reduced import largest, read_reduced, reduced, stored_size
from seglab.data.resizing import resize_image, scaled
from seglab.data.selection import select
from seglab.engine import assemble
from seglab.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


def picture(size, channels=3):
    """Smooth shapes and a little noise, as photographs have them."""
    coarse = RNG.integers(0, 256, (max(2, size[0] // 40), max(2, size[1] // 40), channels)).astype(np.uint8)
    image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).reshape(*size, channels)
    return np.clip(image + RNG.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def jpeg(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.squeeze()).save(path, "JPEG", quality=90, **options)
    return str(path)


def dataset(root, sizes=((50, 70), (51, 71)), suffix="jpg"):
    for split in ("train", "val"):
        for n, size in enumerate(sizes):
            image = picture(size)
            path = root / split / "images" / f"{n}.{suffix}"
            jpeg(path, image) if suffix == "jpg" else (
                path.parent.mkdir(parents=True, exist_ok=True),
                Image.fromarray(image).save(path),
            )
            (root / split / "masks").mkdir(parents=True, exist_ok=True)
            mask = RNG.integers(0, 2, size).astype(np.uint8)
            Image.fromarray(mask).save(root / split / "masks" / f"{n}.png")
    return root


def small(root, scale, **more):
    return reduced(Folder(root, **more), True, scale)


@settings(max_examples=80, deadline=None)
@given(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), st.floats(0.01, 0.5))
def test_the_reduction_is_the_largest_that_leaves_enough(size, scale):
    goal, left = scaled(size, scale), lambda by: [-(-side // by) for side in size]
    by = largest(size, goal)
    assert all(a >= b for a, b in zip(left(by), goal, strict=True))
    assert by == 8 or not all(a >= b for a, b in zip(left(2 * by), goal, strict=True))
    assert largest(size, size) == 1 or max(size) == 1


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(80, 200), st.integers(80, 200)),
    st.floats(0.1, 0.5),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 3]),
    st.booleans(),
)
def test_a_reduced_image_is_near_and_of_its_size(tmp_path_factory, size, scale, stored, channels, as_float):
    path = jpeg(tmp_path_factory.mktemp("j") / "a.jpg", picture(size, stored))
    found = read_reduced(path, channels, as_float, size, scale)
    exact = resize_image(read_alike(path, channels, as_float), scaled(size, scale))
    assert found.dtype == exact.dtype
    assert found.shape == exact.shape == (*scaled(size, scale), channels)
    assert np.abs(found.astype(float) - exact).mean() * (255 if as_float else 1) < 6


@pytest.mark.parametrize("scale", [0.5, 0.25, 0.125])
@pytest.mark.parametrize("extra", [0, 1, 4, 7])
def test_nothing_moves_where_the_size_is_no_multiple(tmp_path, scale, extra):
    size = (80 + extra, 80 + extra)
    ramp = np.linspace(20, 230, size[1])[None] / 2 + np.linspace(20, 230, size[0])[:, None] / 2
    path = jpeg(tmp_path / "a.jpg", np.repeat(ramp[..., None], 3, 2).astype(np.uint8))
    found = read_reduced(path, 3, False, size, scale).astype(float)
    exact = resize_image(read_alike(path, 3, False), scaled(size, scale))
    assert np.abs(found - exact).max() <= (3 if extra == 0 else 5)  # stretched, the far corner would be 15 off


def test_a_reduction_is_taken(tmp_path, monkeypatch):
    path, seen = jpeg(tmp_path / "a.jpg", picture((64, 96))), []
    real = cv2.imdecode
    monkeypatch.setattr(module.cv2, "imdecode", lambda data, flags: seen.append(real(data, flags)) or seen[-1])
    for scale, size in ((0.5, (32, 48)), (0.3, (32, 48)), (0.25, (16, 24)), (0.2, (16, 24)), (0.125, (8, 12)), (0.05, (8, 12))):
        assert read_reduced(path, 3, False, (64, 96), scale).shape[:2] == scaled((64, 96), scale)
        assert seen[-1].shape[:2] == size


@pytest.mark.parametrize("how", ["png", "cmyk", "tail"])
def test_what_libjpeg_cannot_reduce_is_read_as_ever(tmp_path, how):
    image, path = picture((40, 60)), tmp_path / ("a.png" if how == "png" else "a.jpg")
    if how == "png":
        Image.fromarray(image).save(path)
    elif how == "cmyk":
        Image.fromarray(image).convert("CMYK").save(path, "JPEG")
    else:
        path.write_bytes(Path(jpeg(tmp_path / "b.jpg", image)).read_bytes() + b"of a camera")
    exact = resize_image(read_alike(str(path), 3, False), (20, 30))
    np.testing.assert_array_equal(read_reduced(str(path), 3, False, (40, 60), 0.5), exact)


def test_exif_turns_nothing(tmp_path):
    image = picture((40, 60))
    exif = Image.Exif()
    exif[274] = 6
    turned, plain_one = jpeg(tmp_path / "a.jpg", image, exif=exif), jpeg(tmp_path / "b.jpg", image)
    np.testing.assert_array_equal(*(read_reduced(path, 3, False, (40, 60), 0.5) for path in (turned, plain_one)))


@pytest.mark.parametrize("how", ["cut", "text", "size"])
def test_a_file_that_changed_is_named(tmp_path, how):
    source = small(dataset(tmp_path), 0.5)
    path = tmp_path / "train/images/0.jpg"
    if how == "size":
        jpeg(path, picture((20, 20)))
    else:
        path.write_bytes(path.read_bytes()[:-40] if how == "cut" else b"text")
    with pytest.raises(DataError, match=r"images/0\.jpg"):
        source.load("train", 0)


@pytest.mark.parametrize("scale", [0.5, 0.3, 0.125])
def test_masks_sizes_and_scores_of_the_size_stay(tmp_path, scale):
    exact, source = Folder(dataset(tmp_path)), small(tmp_path, scale)
    for n in (0, 1):
        one, other = exact.load("val", n), source.load("val", n)
        assert other["image"].shape[:2] == scaled(one["size"], scale)
        assert other["size"] == one["size"]
        np.testing.assert_array_equal(other["mask"], one["mask"])
        assert stored_size(other).shape == one["image"].shape
        batch, expected = Split(source, "val", scale, None)[0, n], Split(exact, "val", scale, None)[0, n]
        np.testing.assert_array_equal(batch["image"], other["image"])  # not scaled twice
        np.testing.assert_array_equal(batch["mask"], expected["mask"])
        assert batch["image"].shape == expected["image"].shape
    assert source.spec == exact.spec  # mean and standard deviation are those of whole images
    assert source.fingerprint() == exact.fingerprint()


def test_a_cache_never_gives_the_other_kind(tmp_path):
    dataset(tmp_path / "d")
    kinds = {None: Folder(tmp_path / "d"), 0.5: small(tmp_path / "d", 0.5), 0.25: small(tmp_path / "d", 0.25)}
    for _ in range(2):
        for scale, source in kinds.items():
            kept = select(cached(source, "disk", str(tmp_path / "kept")), limit=2)
            image = kept.load("train", 0)["image"]
            np.testing.assert_array_equal(image, source.load("train", 0)["image"])
            assert image.shape[:2] == (scaled((50, 70), scale) if scale else (50, 70))
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_coco_gives_the_same(tmp_path):
    dataset(tmp_path / "d")
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 50 + n, "width": 70 + n} for n in (0, 1)]
    marks = [{"id": n, "image_id": n, "category_id": 1, "iscrowd": 0, "area": 100, "bbox": [5, 5, 10, 10],
              "segmentation": [[5, 5, 15, 5, 15, 15, 5, 15]]} for n in (0, 1)]  # fmt: skip
    for split in ("train", "val"):
        file = tmp_path / "d" / split / "_annotations.coco.json"
        file.write_text(json.dumps({"images": images, "annotations": marks, "categories": [{"id": 1, "name": "a"}]}))
        for n in (0, 1):
            (tmp_path / "d" / split / "images" / f"{n}.jpg").rename(tmp_path / "d" / split / f"{n}.jpg")
    exact, source = Coco(tmp_path / "d"), reduced(Coco(tmp_path / "d"), True, 0.5)
    one, other = exact.load("train", 1), source.load("train", 1)
    assert other["image"].shape[:2] == scaled((51, 71), 0.5)
    np.testing.assert_array_equal(other["instances"], one["instances"])
    path = str(tmp_path / "d/train/1.jpg")
    np.testing.assert_array_equal(other["image"], read_reduced(path, 3, False, (51, 71), 0.5))


def test_off_by_default_and_above_a_half(tmp_path):
    assert plain(load([]))["data"]["reduced_jpeg"] is False
    source = Folder(dataset(tmp_path))
    assert reduced(source).reduced is None
    assert reduced(source, True, 0.6).reduced is None
    with pytest.raises(ConfigError, match="has none"):
        reduced(Cells(size=32, train=2, val=1, test=1), True, 0.5)
    asked = plain(load(["data=folder", f"data.root={tmp_path}", "data.scale=0.5", "data.reduced_jpeg=true", "data.cache=ram"]))
    assert assemble.source(asked).load("val", 0)["image"].shape[:2] == scaled((50, 70), 0.5)
    with pytest.raises(ConfigError, match=r"data\.reduced_jpeg"):
        assemble.source({**asked, "data": {**asked["data"], "reduced_jpeg": 2}})


@pytest.mark.slow
def test_training_checks_and_pictures_take_it(tmp_path, train):
    dataset(tmp_path / "d", ((64, 64), (64, 64)))
    done = train("data=folder", f"data.root={tmp_path / 'd'}", "data.scale=0.5", "data.reduced_jpeg=true", "model=tiny", "data.batch_size=2",
                 "data.num_workers=0", "trainer.max_epochs=1", "trainer.accelerator=cpu", "logger=none", "pictures=1", tiny=False)  # fmt: skip
    assert done["status"] == "finished"
    with Image.open(next((done["run"] / "predictions").glob("*.png"))) as panel:
        assert panel.height >= 64
