"""A known format that cannot be built: all faults of its files are told at once, as far as its pairs were found."""

import numpy as np
import pytest
from PIL import Image
from test_formats import build_voc

from seglab.data.checks import doctor
from seglab.data.voc import Voc


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def report(root):
    return doctor.examine(Voc, lambda: Voc(root=root), {"root": root, "channels": 3}, processes=1)


@pytest.fixture
def voc(tmp_path):
    build_voc(tmp_path / "voc")
    return tmp_path / "voc"


def test_three_kinds_of_faults_are_three_findings(voc):
    masks = sorted(voc.rglob("SegmentationClass/*.png"))
    images = {path.stem: path for path in voc.rglob("JPEGImages/*.jpg")}
    with Image.open(masks[0]) as mask:
        mask.crop((0, 0, mask.width - 1, mask.height)).save(masks[0])
    masks[1].write_bytes(b"")
    images[masks[2].stem].write_bytes(b"no image")
    found = report(voc)
    assert {one.kind: [name.split("/")[-1] for name in one.files] for one in found.findings if one.severity == "error"} == {
        "size_mismatch": [masks[0].name], "empty_file": [masks[1].name], "unreadable": [f"{masks[2].stem}.jpg"],
    }  # fmt: skip
    assert found.verdict == "Training would not start: 3 errors, 0 warnings."


def test_where_no_file_is_at_fault_the_refusal_is_told(voc):
    """An id that VOC does not have is known only to the format's own rules."""
    path = sorted(voc.rglob("SegmentationClass/*.png"))[0]
    with Image.open(path) as mask:
        ids = np.array(mask)
    ids[0, 0] = 77
    Image.fromarray(ids).save(path)
    [error] = [one for one in report(voc).findings if one.severity == "error"]
    assert error.kind == "refused"
    assert "77" in error.text


def test_without_pairs_the_refusal_is_all(voc):
    next(voc.rglob("ImageSets/Segmentation/train.txt")).unlink()
    [error] = report(voc).findings
    assert error.kind == "refused"
