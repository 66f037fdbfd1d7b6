"""Of very many training images a sample is looked at; the rest is checked when loaded, as strictly as at the start."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from seglab.data import headers, listed_reading
from seglab.data.cache import cached
from seglab.data.folder import Folder
from seglab.data.folder_scan import scan
from seglab.data.layout import find_pairs
from seglab.data.listed import Listed
from seglab.data.listed_reading import read_rows
from seglab.data.module import DataModule
from seglab.data.selection import select
from seglab.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[2]
COUNT, ODD = 40, 7  # images of a split; one that the sample of 5 leaves out


@pytest.fixture
def large(monkeypatch):
    """Splits of more than 10 images are large."""
    monkeypatch.setattr(headers, "LARGE", 10)
    monkeypatch.setattr(headers, "SAMPLE", 5)


def save(path, shape, kind="image", dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    value = np.random.default_rng(len(str(path))).integers(0, 2 if kind == "mask" else 250, shape).astype(dtype)
    Image.fromarray(value).save(path)


def build(root, count=COUNT, size=(8, 6), val=4):
    for split, n in (("train", count), ("val", val)):
        for i in range(n):
            save(root / split / "images" / f"{i:02}.png", (*size, 3))
            save(root / split / "masks" / f"{i:02}.png", size, "mask")
    return root


def lists(root, sizes=True, count=COUNT, train="train.csv"):
    """Lists of what `build` made."""
    for split, n in (("train", count), ("val", 4)):
        with (root / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "mask", "height", "width"][: 4 if sizes else 2])
            writer.writerows(
                [f"{split}/images/{i:02}.png", f"{split}/masks/{i:02}.png", 8, 6][: 4 if sizes else 2] for i in range(n)
            )
    return {"train": root / train, "val": root / "val.csv"}


def text_of(data):
    r, c = data.rules, data.rules.codec
    return repr((r.classes, r.mode, r.ignore_index, r.instances, c.ids, c.rest, c.colored, c.layered, data.spec.channels))


def test_the_fingerprint_of_a_set_that_is_looked_at_whole_is_what_it_was(tmp_path):
    data, pairs = Folder(build(tmp_path, 6)), find_pairs(tmp_path)
    listed = [(split, one.id, found) for split in pairs for one, found in zip(pairs[split], scan(pairs[split]), strict=True)]
    expected = hashlib.sha256((text_of(data) + repr(listed)).encode()).hexdigest()[:16]
    assert data.fingerprint() == expected


def test_a_sample_gives_what_the_whole_gives(tmp_path, monkeypatch, caplog):
    told = {"mean": (0.5,) * 3, "std": (0.5,) * 3}  # else measured on other images
    whole = Folder(build(tmp_path), **told)
    monkeypatch.setattr(headers, "LARGE", 10)
    monkeypatch.setattr(headers, "SAMPLE", 5)
    with caplog.at_level("INFO", "seglab"):
        part = Folder(tmp_path, **told)
    assert (
        "train: 5 of 40 images are looked at now, the others when loaded (python -m seglab.check looks at all)" in caplog.text
    )
    assert part.spec == whole.spec
    assert (part.seen_sizes("train"), whole.seen_sizes("train")) == (({(8, 6)}, False), ({(8, 6)}, True))
    assert part.seen_sizes("val") == ({(8, 6)}, True)
    for n in range(COUNT):
        ours, theirs = part.load("train", n), whole.load("train", n)
        assert ours["id"] == theirs["id"]
        assert all(np.array_equal(ours[key], theirs[key]) for key in ("image", "mask"))
        assert np.array_equal(part.load_mask("train", n), theirs["mask"])
    assert part.sizes("train") == whole.sizes("train")


def grey(root):
    save(root / f"train/images/{ODD:02}.png", (8, 6))


def deep(root):
    save(root / f"train/images/{ODD:02}.png", (8, 6), dtype=np.uint16)


def other_mask(root):
    save(root / f"train/masks/{ODD:02}.png", (6, 8), "mask")


def layers(root):
    Image.fromarray(np.zeros((8, 6, 4), np.uint8)).convert("LA").save(root / f"train/masks/{ODD:02}.png")


def jpeg(root):
    Image.new("L", (6, 8)).save(root / f"train/masks/{ODD:02}.png", format="JPEG")


def unknown(root):
    Image.new("L", (6, 8), 9).save(root / f"train/masks/{ODD:02}.png")


def broken(root):
    (root / f"train/images/{ODD:02}.png").write_bytes(b"no image")


def gone(root):
    (root / f"train/images/{ODD:02}.png").unlink()


def larger(root):
    save(root / f"train/images/{ODD:02}.png", (8, 9, 3))
    save(root / f"train/masks/{ODD:02}.png", (8, 9), "mask")


FAULTS = {
    "another number of channels": (grey, {}, r"00\.png has 3 channels and .*07\.png has 1; set data\.channels=3"),
    "another type": (deep, {"channels": 3}, r"07\.png has pixels of type uint16, but all .* have uint8"),
    "a mask of another size": (other_mask, {}, r"07\.png is 6 x 8 .*, but its image .* is 8 x 6"),
    "a JPEG mask": (jpeg, {}, r"07\.png is JPEG"),
    "an unknown id": (unknown, {}, r"07\.png holds the id 9"),
    "no image": (broken, {}, r"07\.png cannot be read"),
    "a missing file": (gone, {}, r"07\.png cannot be read"),
    "a size that is not the list's": (larger, {"sizes": True}, r"07\.png is 8 x 9 .*, but its list says 8 x 6; correct"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_the_sample_missed_is_named_when_it_is_loaded(name, tmp_path, large):
    plant, more, words = FAULTS[name]
    told = {key: value for key, value in more.items() if key != "sizes"}
    named = lists(build(tmp_path), "sizes" in more)
    plant(tmp_path)
    data = Listed(**named, classes=["a", "b"], **told)
    assert data.load("train", ODD + 1)["image"].shape == (8, 6, 3)
    for load in [data.load] if "image" in name or "type" in name or "missing" in name else [data.load, data.load_mask]:
        with pytest.raises(DataError, match=words) as error:
            load("train", ODD)
        assert "\n" not in str(error.value)


def test_an_alpha_channel_in_a_mask_is_as_welcome_as_at_the_start(tmp_path, large):
    layers(build(tmp_path))
    assert Folder(tmp_path, classes=["a", "b"]).load("train", ODD)["mask"].max() == 0


def test_a_fault_in_the_sample_or_in_val_is_named_at_the_start(tmp_path, large):
    build(tmp_path, val=20)
    (tmp_path / "val/images/07.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"val.images.07\.png cannot be read"):
        Folder(tmp_path)
    build(tmp_path, val=20)
    (tmp_path / f"train/images/{COUNT - 1:02}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=rf"train.images.{COUNT - 1}\.png cannot be read"):
        Folder(tmp_path)


def test_the_fingerprint_of_a_sample_covers_all_names_and_not_the_place(tmp_path, large):
    first = Folder(build(tmp_path / "a")).fingerprint()
    assert Folder(build(tmp_path / "b")).fingerprint() == first
    for kind in ("images", "masks"):
        (tmp_path / f"b/train/{kind}/07.png").rename(tmp_path / f"b/train/{kind}/07b.png")
    assert Folder(tmp_path / "b").fingerprint() != first


def test_sizes_that_the_list_tells_are_believed_and_held_against_what_is_read(tmp_path, large, monkeypatch):
    told = Listed(**lists(build(tmp_path)))
    monkeypatch.setattr(headers, "scan", lambda _: pytest.fail("all headers are read"))
    assert told.sizes("train") == [(8, 6)] * COUNT
    assert told.seen_sizes("train") == ({(8, 6)}, True)
    monkeypatch.undo()
    save(tmp_path / "train/images/00.png", (8, 5, 3))
    save(tmp_path / "train/masks/00.png", (8, 5), "mask")
    with pytest.raises(DataError, match=r"00\.png is 8 x 5 .*, but its list says 8 x 6"):
        Listed(**lists(tmp_path))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("8,", r"line 2: 'width' is missing"),
        ("8,-6", r"line 2: 'width' is '-6'; it must be a whole number of pixels"),
        ("0,6", r"line 2: 'height' is '0'"),
        (",", r"line 2 has no height and width, but line 3 has"),
    ],
)
def test_wrong_sizes_in_a_list(tmp_path, line, words):
    build(tmp_path, 3)
    named = lists(tmp_path, count=3)
    rows = named["train"].read_text().splitlines()
    named["train"].write_text("\n".join([rows[0], f"train/images/00.png,train/masks/00.png,{line}", *rows[2:]]))
    with pytest.raises(DataError, match=words):
        Listed(**named)


def test_of_a_large_list_a_sample_of_the_files_is_looked_for(tmp_path, large):
    named = lists(build(tmp_path), sizes=False)
    (tmp_path / "train/masks/39.png").unlink()
    with pytest.raises(DataError, match=r"train\.csv line 41: the mask .*39\.png does not exist"):
        Listed(**named)


def module(source, **settings):
    return DataModule(source, {}, seed=0, batch_size=4, num_workers=0, **settings)


def test_images_of_another_size_than_the_sample_do_not_break_batches(tmp_path, large):
    larger(build(tmp_path))
    source = select(cached(Folder(tmp_path, classes=["a", "b"])), limit=1.0)
    shapes = {tuple(batch["image"].shape[2:]) for batch in module(source).train_dataloader()}
    assert shapes == {(8, 6)}
    with pytest.raises(ConfigError, match=r"data\.crop=null needs images of one size, but there are \(8, 6\) and \(8, 9\)"):
        module(source, crop=None)


def test_where_the_sample_is_equal_training_sees_whole_images(tmp_path, monkeypatch):
    whole = list(module(Folder(build(tmp_path))).train_dataloader())
    monkeypatch.setattr(headers, "LARGE", 10)
    monkeypatch.setattr(headers, "SAMPLE", 5)
    part = list(module(Folder(tmp_path)).train_dataloader())
    for one, other in zip(whole, part, strict=True):
        assert all(np.array_equal(one[key], other[key]) for key in ("image", "mask", "index"))


def test_parts_and_folds_know_their_sizes(tmp_path, large):
    larger(build(tmp_path))
    source = Folder(tmp_path, classes=["a", "b"])
    fold = select(source, folds=3, fold=1)
    for split in ("train", "val"):
        assert fold.sizes(split) == [fold.load(split, n)["size"] for n in range(len(fold.ids(split)))]
    assert sum((8, 9) in fold.sizes(split) for split in ("train", "val")) == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text("ab./-_ ", min_size=1, max_size=8), min_size=1, max_size=6))
def test_names_and_doubles_of_a_list_do_not_depend_on_what_else_it_holds(tmp_path, monkeypatch, images):
    """Paths without anything odd are read by a shorter way; one that is odd sends all of a chunk the long way."""
    monkeypatch.setattr(listed_reading, "_check_there", lambda rows: None)
    images = [image for image in images if image.strip() == image]
    (tmp_path / "l.csv").write_text("\n".join(["image,mask", "./odd,m", *(f"{image},m" for image in images)]))
    together = read_rows(tmp_path / "l.csv", "data.train")
    for n, image in enumerate(images, 1):
        (tmp_path / "l.csv").write_text(f"image,mask\n{image},m")
        alone = read_rows(tmp_path / "l.csv", "data.train")
        assert alone.pairs == together.pairs[n : n + 1]
        assert (alone.image_hashes[0], alone.name_hashes[0]) == (together.image_hashes[n], together.name_hashes[n])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc")
def test_a_million_images_start_soon_and_in_little_memory():
    """Seconds are those of the CPU: how many more pass depends on what else the machine does."""
    place = ["--place", "/dev/shm"] if os.access("/dev/shm", os.W_OK) else []
    command = [sys.executable, str(ROOT / "benchmarks/scale.py"), "--json", *place]
    small, large = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout).values()
    assert large["cpu"] < 20
    assert large["own"] < 1000
    assert large["own"] < small["own"] + 350
    assert 0 < large["worker"] < 50
