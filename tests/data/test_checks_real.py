"""The doctor on real data: clean sets are called clean, CamVid's leak is found, and faults planted in copies are named."""

import json
import shutil
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from seglab.data.checks.doctor import examine_folder
from seglab.data.folder import Folder

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def examine(root, processes=2, **settings):
    told = {k: v for k, v in settings.items() if k != "scale"}
    return examine_folder(lambda: Folder(root=root, **told), root, processes=processes, **settings)


def above_info(report):
    return {one.kind for one in report.findings if one.severity != "info"}


def test_the_nuclei_are_clean(data_dir):
    report = examine(data_dir("nuclei"), foreground=True)
    assert above_info(report) == set()
    # The set's own record of its nuclei.
    assert [report.shares[split].rows[1].objects for split in ("train", "val", "test")] == [2837, 728, 555]


def test_nuclei_read_as_classes_are_told_to_be_objects(data_dir):
    report = examine(data_dir("nuclei"))
    [error] = [one for one in report.findings if one.severity == "error"]
    assert (error.kind, error.remedy) == ("object_ids", "data.foreground=true")


def test_camvid_has_nothing_but_its_leak(data_dir):
    root = data_dir("camvid")
    start = time.process_time()
    report = examine(root, processes=1)  # the time of other processes cannot be asked for
    used = time.process_time() - start
    assert above_info(report) == {"clip_across_splits"}
    leaks = {one.evidence["clip"]: one.evidence["frames"] for one in report.findings if one.kind == "clip_across_splits"}
    assert leaks == {"0016E5_": {"train": 204, "val": 101}, "0001TP_": {"train": 62, "test": 62}}
    assert used < 60, f"{used:.1f} s of CPU"  # 30 s on two cores
    start = time.process_time()
    assert examine(root, processes=1).to_dict() == report.to_dict()  # from the cache
    assert time.process_time() - start < used / 2


def test_camvid_without_its_classes_is_understood(data_dir, tmp_path):
    root = camvid(data_dir, tmp_path, 60)
    (root / "classes.json").unlink()
    report = examine(root, classes=[f"c{i}" for i in range(11)])
    [error] = [one for one in report.findings if one.severity == "error"]
    assert (error.kind, error.remedy) == ("unknown_ids", "data.ignore_index=11")
    assert examine(root, classes=[f"c{i}" for i in range(11)], ignore_index=11).count("error") == 0


def camvid(data_dir, tmp_path, count):
    """The first `count` pairs of each split."""
    root = data_dir("camvid")
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            (tmp_path / "set" / split / kind).mkdir(parents=True)
            for path in sorted((root / split / kind).iterdir())[:count]:
                shutil.copy(path, tmp_path / "set" / split / kind)
    shutil.copy(root / "classes.json", tmp_path / "set")
    return tmp_path / "set"


def each_mask(root, change):
    for path in root.rglob("masks/*.png"):
        Image.fromarray(change(np.array(Image.open(path)))).save(path)


def jpeg_once(mask):
    """The mask after a JPEG file, as what comes back from a tool that knows no better."""
    return cv2.imdecode(cv2.imencode(".jpg", mask, [cv2.IMWRITE_JPEG_QUALITY, 90])[1], cv2.IMREAD_UNCHANGED)


def smaller(mask):
    return cv2.resize(cv2.resize(mask, (240, 180), interpolation=cv2.INTER_LINEAR), (480, 360), interpolation=cv2.INTER_LINEAR)


FAULTS = {
    "shifted by 3, 0": (lambda mask: np.roll(mask, 3, 0), "shifted_masks"),
    "shifted by -2, 5": (lambda mask: np.roll(mask, (-2, 5), (0, 1)), "shifted_masks"),
    "off by one": (lambda mask: np.where(mask == 11, 11, mask + 1).astype(np.uint8), "class_never_seen"),
    "void as 255": (lambda mask: np.where(mask == 11, 255, mask).astype(np.uint8), "unknown_ids"),
    "jpeg on the way": (lambda mask: jpeg_once(mask * 20), "smoothed_masks"),
    "smoothed": (lambda mask: cv2.GaussianBlur(mask * 20, (5, 5), 0), "smoothed_masks"),
    "resized with interpolation": (lambda mask: smaller(mask * 20), "smoothed_masks"),
    "colours": (lambda mask: np.random.default_rng(0).integers(0, 256, (256, 3)).astype(np.uint8)[mask], "color_table"),
    "empty": (np.zeros_like, "empty_masks"),
    "transposed size": (lambda mask: np.ascontiguousarray(mask.T), "swapped_sides"),
    "half void": (lambda mask: np.where(np.arange(480) < 240, 11, mask).astype(np.uint8), "void"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_all_masks_of_camvid_is_named(name, data_dir, tmp_path):
    change, kind = FAULTS[name]
    root = camvid(data_dir, tmp_path, 24)
    if kind == "color_table":
        (root / "classes.json").unlink()
    each_mask(root, change)
    assert kind in above_info(examine(root, processes=1))


def test_a_shift_is_measured(data_dir, tmp_path):
    root = camvid(data_dir, tmp_path, 30)
    each_mask(root, lambda mask: np.roll(mask, (4, -3), (0, 1)))
    [one] = [one for one in examine(root, processes=1).findings if one.kind == "shifted_masks"]
    assert abs(one.evidence["dy"] + 4) <= 1  # CamVid's own outlines are a pixel wide
    assert abs(one.evidence["dx"] - 3) <= 1


def test_leaks_planted_among_the_nuclei(data_dir, tmp_path):
    root = shutil.copytree(data_dir("nuclei"), tmp_path / "set")
    split = json.loads((root / "split.json").read_text())
    source, copied, again = split["train"][0], "copy_of_a.png", "saved_anew.png"
    for kind in ("images", "labels"):
        shutil.copy(root / kind / source, root / kind / copied)
        shutil.copy(root / kind / split["train"][1], root / kind / again)
    image = np.array(Image.open(root / "images" / again))
    Image.fromarray(cv2.GaussianBlur(image, (3, 3), 0)).save(root / "images" / again)
    split["test"] += [copied, again]
    (root / "split.json").write_text(json.dumps(split))
    found = {one.kind: one for one in examine(root, foreground=True).findings}
    assert f"images/{copied}" in found["copies_across_splits"].files
    assert f"images/{again}" in found["near_copies"].files


def test_processes_see_what_one_process_sees(data_dir, tmp_path, monkeypatch):
    root = camvid(data_dir, tmp_path, 30)
    alone = examine(root, processes=1).to_dict()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert examine(root, processes=3).to_dict() == alone
