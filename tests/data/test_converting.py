"""A converted data set gives, as data=folder, the same names, images, masks, classes and splits; or nothing is written."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
import test_formats
import test_outlined
import test_shards
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from seglab.data import converting
from seglab.data.cells import Cells
from seglab.data.coco import Coco
from seglab.data.converting import convert
from seglab.data.folder import Folder
from seglab.data.selection import select
from seglab.data.shards import Shards
from seglab.data.source import Source
from seglab.errors import DataError
from seglab.types import Spec

RNG = np.random.default_rng(0)
SPLITS = ("train", "val", "test")


def same(source, place, objects=False):
    """Convert, and compare what data=folder reads with what the source gives; the Converted."""
    done = convert(source, place)
    keys = dict(one.removeprefix("data.").split("=") for one in done.settings)
    ours = Folder(place, **{k: v == "true" if k == "foreground" else v for k, v in keys.items()})
    for key in ("classes", "mode", "ignore_index", "channels", "colors"):
        assert getattr(ours.spec, key) == getattr(source.spec, key), key
    assert ours.spec.instances == objects
    for split in SPLITS:
        names = list(source.ids(split))
        assert list(ours.ids(split)) == sorted(names)
        for n, name in enumerate(ours.ids(split)):
            a, b = ours.load(split, n), source.load(split, names.index(name))
            assert a["id"] == b["id"]
            for one in ("image", "mask", *(["instances"] if objects else [])):
                np.testing.assert_array_equal(a[one], b[one], err_msg=name)
            assert a["image"].dtype == b["image"].dtype
    assert not [one for one in os.listdir(place.parent) if one.startswith(f".{place.name}")]
    return done


def copied(place, origin):
    """How many files below `origin` are, byte for byte, among the images below `place`."""
    there = {path.read_bytes() for path in place.rglob("images/**/*") if path.is_file()}
    return sum(path.read_bytes() in there for path in origin.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", test_formats.BUILD)
def test_known_formats(name, tmp_path):
    test_formats.BUILD[name](tmp_path / "from")
    data = test_formats.source(name, tmp_path / "from")
    done = same(data, tmp_path / "to")
    assert done.counts == {split: len(data.ids(split)) for split in SPLITS if len(data.ids(split))}
    # Of these formats some images are grey, or have an alpha channel; they are converted, all others are copied.
    converted = {"ade20k": 3, "pet": 2}.get(name, 0)
    assert copied(tmp_path / "to", tmp_path / "from") == sum(done.counts.values()) - converted
    assert (done.settings, done.lost) == ((), ())


@pytest.mark.parametrize("name", ["coco", *test_outlined.BUILD])
def test_outlined_objects(name, tmp_path):
    build, kind = (test_outlined.build_coco, Coco) if name == "coco" else (test_outlined.BUILD[name], test_outlined.KINDS[name])
    build(tmp_path / "from")
    done = same(kind(tmp_path / "from"), tmp_path / "to")
    assert copied(tmp_path / "to", tmp_path / "from") == 4
    assert done.lost == ("single objects: data=folder has the map of classes only",)


def test_tar_shards(tmp_path):
    some = {f"night.d/{n:03d}": (test_shards.image(), test_shards.mask()) for n in range(12)}
    test_shards.by_tarfile(tmp_path / "from/a.tar", some)
    done = same(Shards(train=str(tmp_path / "from/a.tar")), tmp_path / "to")
    assert sum(done.counts.values()) == 12
    there = {path.read_bytes() for path in (tmp_path / "to").rglob("images/**/*.jpg")}
    assert there == {image for image, _ in some.values()}


def test_tables_of_huggingface(tmp_path):
    pytest.importorskip("datasets", reason="the package datasets is not installed")
    import test_huggingface

    from seglab.data.huggingface import HuggingFace

    rows = test_huggingface.rows(9)
    test_huggingface.table(rows).save_to_disk(tmp_path / "from", num_shards=2)
    same(HuggingFace(str(tmp_path / "from")), tmp_path / "to")
    there = {path.read_bytes() for path in (tmp_path / "to").rglob("images/*.jpg")}
    assert there == {row["image"]["bytes"] for row in rows}


def test_drawn_cells_and_folds(tmp_path):
    cells = Cells(size=32, train=6, val=3, test=2)
    same(cells, tmp_path / "to")
    fold = select(cells, folds=3, fold=1)
    done = same(fold, tmp_path / "fold")
    assert done.counts == {"train": 6, "val": 3, "test": 2}
    assert fold.ids("val") != cells.ids("val")


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if array.ndim == 2 and array.dtype in (np.uint8, np.uint16):
        assert cv2.imwrite(str(path), array)
    else:
        tifffile.imwrite(path, array, photometric="minisblack")


def folder(root, images, masks, told=None):
    for n, (image, mask) in enumerate(zip(images, masks, strict=True)):
        save(root / f"images/{n}.tif", image)
        save(root / f"masks/{n}.{'png' if mask.ndim == 2 and mask.dtype != np.int32 else 'tif'}", mask)
    if told:
        (root / "classes.json").write_text(json.dumps(told))
    return root


def test_bands_sixteen_bits_and_floats(tmp_path):
    masks = [RNG.integers(0, 3, (19, 21)).astype(np.uint8) for _ in range(4)]
    for name, images in {
        "bands": [RNG.integers(0, 65536, (19, 21, 13)).astype(np.uint16) for _ in masks],
        "first": [RNG.integers(0, 256, (5, 19, 21)).astype(np.uint8) for _ in masks],
        "float": [RNG.normal(size=(19, 21)).astype(np.float32) for _ in masks],
        "mixed": [RNG.integers(0, 255 + 65280 * (n % 2), (19, 21)).astype(np.uint16 if n % 2 else np.uint8) for n in range(4)],
    }.items():
        root = folder(tmp_path / name, images, masks)
        same(Folder(root, split=(0.5, 0.5, 0)), tmp_path / f"{name} to")
        assert copied(tmp_path / f"{name} to", root / "images") == 4


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 13])
def test_multilabel_masks(layers, tmp_path):
    images = [RNG.integers(0, 256, (18, 19, 3)).astype(np.uint8) for _ in range(3)]
    masks = [RNG.choice(np.array([0, 1, 255], np.uint8), (18, 19, layers)).squeeze() for _ in images]
    root = folder(tmp_path / "from", images, masks, {"classes": [f"c{n}" for n in range(layers)], "ignore_index": 255})
    done = same(Folder(root, mode="multilabel", split=(1, 0, 0)), tmp_path / "to")
    assert done.settings == (("data.mode=multilabel",) if layers in (1, 3) else ())


@pytest.mark.parametrize("highest", [5, 254, 255, 300, 70000])
def test_objects_of_one_class_stay_apart(highest, tmp_path):
    images = [RNG.integers(0, 256, (20, 21, 3)).astype(np.uint8) for _ in range(3)]
    masks = [RNG.permutation(highest - np.arange(420) % min(highest, 350)).reshape(20, 21) for _ in images]
    for mask in masks:
        mask[0] = 0
    kind = np.uint8 if highest < 256 else np.uint16 if highest < 65536 else np.int32
    root = folder(tmp_path / "from", images, [m.astype(kind) for m in masks])
    source = Folder(root, foreground=True, split=(1, 0, 0))
    done = same(source, tmp_path / "to", objects=True) if highest < 255 else convert(source, tmp_path / "to")
    assert (done.settings, done.lost) == (("data.foreground=true",), ())
    ours = Folder(tmp_path / "to", foreground=True)
    for n in range(3):  # where an id had the number that means 'ignore', numbers are others, and the objects the same
        a, b = ours.load("train", n), source.load("train", n)
        np.testing.assert_array_equal(a["mask"], b["mask"])
        pairs = set(zip(a["instances"].ravel().tolist(), b["instances"].ravel().tolist(), strict=True))
        assert len({x for x, _ in pairs}) == len({y for _, y in pairs}) == len(pairs)
        assert (0, 0) in pairs


class Held(Source):
    """A data set of arrays."""

    name = "held"

    def __init__(self, spec, samples):
        self.spec, self.samples = spec, samples

    def ids(self, split):
        return [one[0] for one in self.samples[split]]

    def sizes(self, split):
        return [one[1].shape[:2] for one in self.samples[split]]

    def load(self, split, index):
        name, image, mask = self.samples[split][index]
        return {"image": image, "mask": mask, "id": name, "size": image.shape[:2]}


@st.composite
def held(draw):
    channels = draw(st.sampled_from([1, 2, 3, 4, 5, 13]))
    floats = draw(st.booleans())
    mode = draw(st.sampled_from(["binary", "multiclass", "multilabel"]))
    count = (
        2 if mode == "binary" else draw(st.sampled_from([2, 3, 4, 255, 256, 300] if mode == "multiclass" else [1, 2, 3, 4, 6]))
    )
    first = draw(st.sampled_from(["background", "sky", "no-thing", "Ünï"]))
    ignore = draw(st.sampled_from([-1, 255, 65535, 100000] if count <= 255 else [-100, 65535, 70000]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spec = Spec((first, *(f"c{n}" for n in range(1, count))), mode, ignore, channels)
    letters = st.text(st.sampled_from("ab._ -é0"), min_size=1, max_size=6).filter(
        lambda s: not s.startswith(".") and s[-1] not in " ."
    )
    names = draw(st.lists(st.lists(letters, min_size=1, max_size=2).map("/".join), min_size=1, max_size=4, unique_by=str.lower))
    samples = {split: [] for split in SPLITS}
    for n, name in enumerate(names):
        size = (int(rng.integers(1, 9)), int(rng.integers(1, 9)))
        image = rng.integers(0, 256, (*size, channels)).astype(np.uint8)
        labels = np.array([*range(2 if mode == "multilabel" else count), ignore])
        mask = rng.choice(labels, (*size, count) if mode == "multilabel" else size).astype(np.int32)
        samples[SPLITS[n % 3]].append((name, image.astype(np.float32) / 7 if floats else image, mask))
    return Held(spec, samples)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(held())
def test_any_data_set_comes_back_or_is_refused(tmp_path_factory, source):
    place = tmp_path_factory.mktemp("any") / "to"
    names = [name for split in SPLITS for name in source.ids(split)]
    try:
        same(source, place)
    except DataError as error:
        # What a folder cannot tell: a name that is also a folder's with a suffix, or a single class.
        assert "\n" not in str(error)
        assert any(f"{a}{suffix}/" in b for a in names for b in names for suffix in (".png", ".tif")), error
        assert not place.exists()


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/../../b", "a//b", "a/./b", "C:b", "a\\b", "a\0b", "", ".", ".."])
def test_a_name_that_leads_outside_is_refused(name, tmp_path):
    sample = (name, np.zeros((4, 4, 3), np.uint8), np.eye(4, dtype=np.uint8))
    source = Held(Spec(("background", "a")), {"train": [sample], "val": [], "test": []})
    with pytest.raises(DataError, match="has a name that leads outside of the folder"):
        convert(source, tmp_path / "to")
    assert os.listdir(tmp_path) == []


def plain(count=3, **changes):
    samples = [(f"{n}", np.full((4, 4, 3), n, np.uint8), np.eye(4, dtype=np.uint8)) for n in range(count)]
    source = Held(Spec(("background", "a"), "binary"), {"train": samples, "val": [], "test": []})
    vars(source).update(changes)
    return source


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([], "has no image"),
        ([(".a", 0)], "would be a hidden file"),
        ([("a", 0), ("a", 1)], "Two images would be called a.png"),
        ([("a", 0), ("a.png/b", 1)], "need one name for a file and a folder"),
        ([("b", 0), ("b_x", 7)], "data=folder cannot hold 'held': .*7"),
    ],
)
def test_what_a_folder_cannot_hold_is_refused_and_nothing_is_left(samples, words, tmp_path):
    made = [(name, np.zeros((4, 4, 3), np.uint8), np.full((4, 4), value, np.uint8)) for name, value in samples]
    source = Held(Spec(("background", "a"), "binary"), {"train": made, "val": [], "test": []})
    with pytest.raises(DataError, match=words) as error:
        convert(source, tmp_path / "to")
    assert "\n" not in str(error.value)
    assert str(tmp_path / ".to") not in str(error.value)
    assert os.listdir(tmp_path) == []


def test_what_is_there_stays(tmp_path):
    for make in (lambda p: p.mkdir(), lambda p: p.write_text("mine"), lambda p: p.symlink_to(tmp_path / "nowhere")):
        place = tmp_path / "to"
        make(place)
        with pytest.raises(DataError, match="exists; name a folder that does not"):
            convert(plain(), place)
        assert os.path.lexists(place)
        place.rmdir() if place.is_dir() else place.unlink()
    with pytest.raises(DataError, match="is no folder; make it"):
        convert(plain(), tmp_path / "none/to")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device"), DataError("a bad file")]
)
@pytest.mark.parametrize("after", [0, 20])
def test_a_failure_leaves_nothing(error, after, tmp_path, monkeypatch):
    real, count = converting.write_mask, iter(range(1000))

    def fail(*arguments):
        if next(count) >= after:
            raise error
        return real(*arguments)

    monkeypatch.setattr(converting, "write_mask", fail)
    with pytest.raises(type(error)):
        convert(plain(50), tmp_path / "to")
    assert os.listdir(tmp_path) == []


def test_the_folder_appears_whole(tmp_path):
    seen, done = [], threading.Event()

    def watch():
        while not done.is_set():
            if (tmp_path / "to").exists():
                seen.append(len(list((tmp_path / "to/train/masks").iterdir())))
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    convert(plain(60), tmp_path / "to")
    done.set()
    thread.join()
    assert set(seen) <= {60}
    assert os.stat(tmp_path / "to").st_mode & 0o777 == os.stat(tmp_path / "to/train").st_mode & 0o777


def test_a_copy_keeps_what_decoders_leave_out(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "from/images").mkdir(parents=True)
    Image.fromarray(RNG.integers(0, 256, (8, 16, 3), np.uint8)).save(
        tmp_path / "from/images/a.JPEG", "JPEG", exif=exif, quality=50
    )
    save(tmp_path / "from/masks/a.png", np.eye(8, 16, dtype=np.uint8))
    same(Folder(tmp_path / "from", split=(1, 0, 0)), tmp_path / "to")
    assert (tmp_path / "to/train/images/a.jpeg").read_bytes() == (tmp_path / "from/images/a.JPEG").read_bytes()


SLOW = """
import sys, time
from seglab.data import converting
real = converting.write_mask
converting.write_mask = lambda *a: (time.sleep(0.2), real(*a))[1]
print("started", flush=True)
sys.argv[1:] = ["data=cells", "data.size=32", "output=to"]
from seglab import convert
convert.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(number, tmp_path):
    job = subprocess.Popen(
        [sys.executable, "-c", SLOW], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".to.*/whole/train/masks/*")):
        assert job.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job.send_signal(number)
    _, said = job.communicate(timeout=120)
    assert (job.returncode, said) == (128 + number, f"Stopped: ended by {number.name}.\n")
    assert os.listdir(tmp_path) == []
