"""The quick part of the doctor: what a sample can show is found, what it cannot show is not claimed, and nothing is read twice."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_checks import FAULTS, each_mask, pair, root, save, sound  # noqa: F401  (fixtures)

from seglab.data.cells import Cells
from seglab.data.checks import doctor, gather, quick, verdicts
from seglab.data.checks.verdicts import Verdict
from seglab.data.folder import Folder
from seglab.data.folder_scan import even_sample
from seglab.data.selection import select
from seglab.errors import SeglabError

WORSE = ("error", "warning")
MEASURED = {"mean": [0.5] * 3, "std": [0.25] * 3}  # given, so that the constructor decodes no image


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def read(monkeypatch):
    """The ids of the pairs that are looked at."""
    seen = []
    real = gather.look_at
    monkeypatch.setattr(gather, "look_at", lambda *told: seen.append(told[0]) or real(*told))
    return seen


def over(root, selected=None, **settings):  # noqa: F811
    data = {"root": root, "scale": 1.0, **settings}
    own = {k: v for k, v in settings.items() if k != "scale"}
    source = select(Folder(root=root, **own), **(selected or {}))
    return quick.look_over(source, {**data, **(selected or {})})


def whole_check(root, **settings):  # noqa: F811
    own = {k: v for k, v in settings.items() if k != "scale"}
    data = {"root": root, "scale": 1.0, **settings}
    return doctor.examine(Folder, lambda: Folder(root=root, **own), data, processes=1)


def worse(verdict):
    return {one.kind for one in verdict.findings if one.severity in WORSE}


def test_a_sound_set_gives_nothing(sound):  # noqa: F811
    assert worse(over(sound)) == set()


# What needs all images, or two of them, is not for a sample.
NOT_OF_A_SAMPLE = {
    "class_never_seen", "class_not_trained", "copies_across_splits", "near_copies", "copies_with_other_masks",
    "clip_across_splits", "group_across_splits", "empty_masks",
}  # fmt: skip


FAST = ("truncated image", "exif", "depth", "objects", "shifted", "vanishing", "copies", "void", "smoothed", "begins at 1")


def cases():
    """All faults; the fast suite plants some of them, the slow one all."""
    told = [name for name, fault in FAULTS.items() if fault[2] != "info"]
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in told]


@pytest.mark.parametrize("name", cases())
def test_a_set_that_can_be_built_is_judged_as_the_whole_check_judges_it(name, root):  # noqa: F811
    """Kinds and remedies are the same on a set no larger than the sample, but for those that a sample cannot support."""
    plant, settings, _, kind, _, _ = FAULTS[name]
    plant(root)
    try:
        verdict = over(root, **settings)
    except SeglabError:  # refused before, as it always was
        assert whole_check(root, **settings).count("error")
        return
    whole = {(one.kind, one.severity, one.remedy) for one in whole_check(root, **settings).findings if one.severity in WORSE}
    quickly = {(one.kind, one.severity, one.remedy) for one in verdict.findings if one.severity in WORSE}
    assert quickly == {one for one in whole if one[0] not in NOT_OF_A_SAMPLE}
    if kind not in NOT_OF_A_SAMPLE:
        assert kind in {one[0] for one in quickly}


def many(folder, count, change=lambda n, image, mask: (image, mask)):
    """A folder of so many pairs, split by hash."""
    image, mask = pair(3)
    rng = np.random.default_rng(0)
    for n in range(count):
        noisy = (image.astype(int) + rng.integers(-9, 9, image.shape)).clip(0, 255).astype(np.uint8)
        a, b = change(n, noisy, mask.copy())
        save(folder / f"images/x{n:04d}.png", a)
        save(folder / f"masks/x{n:04d}.png", b)
    return folder


def test_a_sample_makes_no_claim_about_all(tmp_path):
    """Masks that are nearly all empty, and a class that the sample does not show: no error, no word of classes."""
    folder = many(tmp_path / "set", 150, lambda n, image, mask: (image, mask * 0))
    paths = [one.mask for some in Folder(root=folder, classes=["nothing", "thing"]).pairs.values() for one in some]
    mask = np.zeros((48, 64), np.uint8)
    mask[4:9, 4:9] = 1
    save(Path(next(path for path in paths if path not in even_sample(paths, 64))), mask)
    verdict = over(folder, classes=["nothing", "thing"])
    assert (verdict.looked, verdict.total) == (64, 150)
    assert worse(verdict) == {"constant_mask"}


def test_classes_are_those_that_training_reads_by(tmp_path):
    """The constructor counts classes in 200 masks; the sample shows fewer of them, and that is no fault."""

    def one_more(n, image, mask):
        if n == 2:
            mask[0, :8] = 3
        return image, mask

    folder = many(tmp_path / "set", 140, one_more)
    assert len(Folder(root=folder).spec.classes) == 4
    assert worse(over(folder)) == set()


def test_the_whole_check_reads_by_the_same_rules(tmp_path):
    """A class that the constructor's sample of masks has missed ends training: the check that reads all of them says so."""
    noise = np.random.default_rng(1)
    folder = many(
        tmp_path / "set", 210, lambda n, image, mask: (noise.integers(0, 255, (24, 32, 3), np.uint8), mask[8:32, 8:40])
    )
    split = {name: [one.id for one in some] for name, some in Folder(root=folder).pairs.items()}
    order = [id for some in split.values() for id in some]
    left = next(id for id in order if id not in even_sample(order, 200))
    mask = np.array(Image.open(folder / f"masks/{left}.png"))
    mask[0, :8] = 3
    save(folder / f"masks/{left}.png", mask)
    [error] = [one for one in whole_check(folder).findings if one.severity == "error"]
    assert (error.kind, error.files) == ("unknown_ids", (f"masks/{left}.png",))
    assert error.remedy == "data.classes=[...] with a name for each id up to 3"


def test_the_second_time_no_file_is_read(root, read):  # noqa: F811
    first = over(root)
    assert len(read) == 16
    assert over(root) == first
    assert over(root, scale=0.5).looked == 16  # other settings, the same files
    assert len(read) == 16


def test_after_a_whole_check_all_of_it_is_known(root, read):  # noqa: F811
    FAULTS["copies"][0](root)
    whole_check(root)
    read.clear()
    assert "copies_across_splits" in worse(over(root))
    assert "copies_across_splits" in worse(over(root, scale=0.9))  # settings that the check did not see
    assert read == []


def test_what_a_sample_showed_does_not_hide_what_a_whole_check_found_since(root, read):  # noqa: F811
    FAULTS["copies"][0](root)
    assert "copies_across_splits" not in worse(over(root))
    whole_check(root, scale=0.5)
    read.clear()
    assert "copies_across_splits" in worse(over(root))
    assert read == []


def test_a_relative_root_is_the_same_root(root, read, monkeypatch):  # noqa: F811
    whole_check(root)
    read.clear()
    monkeypatch.chdir(root.parent)
    assert over(root.name).findings == over(root).findings
    assert over(root.name, scale=0.9).looked  # settings that are new, looks that are not
    assert read == []


def test_a_file_of_another_time_is_looked_at_anew(root, read):  # noqa: F811
    over(root)
    read.clear()
    os.utime(root / "train/images/traina.png", (5, 5))
    over(root)
    assert read == ["traina"]


@pytest.mark.parametrize("what", ["images", "masks"])
def test_a_file_written_anew_is_looked_at_anew(what, root, read):  # noqa: F811
    whole_check(root)
    over(root)
    read.clear()
    path = root / f"train/{what}/traina.png"
    array = np.array(Image.open(path))
    save(path, array * 0 + (90 if what == "images" else 0))
    os.utime(path, (5, 5))
    assert ("constant_image" if what == "images" else "constant_mask") in {one.kind for one in over(root).findings}
    assert read == ["traina"]


def test_a_file_that_is_not_trained_on_ends_nothing(root):  # noqa: F811
    """With data.limit or folds only what is selected is judged, by the sample and by all findings."""
    used = set(select(Folder(root=root), limit=2).ids("train"))
    unused = next(path for path in sorted((root / "train/images").iterdir()) if path.stem not in used)
    data = bytearray(unused.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    unused.write_bytes(data)
    assert "unreadable" in worse(over(root, **MEASURED))
    assert worse(over(root, {"limit": 2}, **MEASURED)) == set()
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])
    whole_check(root, **MEASURED)
    assert "unreadable" in worse(over(root, **MEASURED))
    assert "unreadable" not in worse(over(root, {"limit": 2}, **MEASURED))


def test_masks_that_are_void_all_over_are_no_second_scale(root):  # noqa: F811
    """0/1 masks, and some of 255 alone: 255 is void, as training reads it."""
    each_mask(root, lambda mask: (mask > 0).astype(np.uint8))
    each_mask(root, lambda mask: mask * 0 + 255, ["traina"])
    assert Folder(root=root).spec.classes == ("background", "foreground")
    assert not {"two_scales", "unknown_ids"} & worse(over(root))
    assert "two_scales" not in {one.kind for one in whole_check(root).findings}


def test_many_thin_classes_with_names_are_not_refused(root):  # noqa: F811
    """Thirty classes of lines look as smoothing does; where all have names training goes on, with a warning."""

    def lines(mask):
        out = mask * 0
        for n in range(1, 30):
            out[n + 2, 5 : 6 + n % 2] = n
        return out

    each_mask(root, lines)
    told = over(root, classes=["background", *(f"line{n}" for n in range(1, 30))])
    assert [one.severity for one in told.findings if one.kind == "smoothed_masks"] == ["warning"]


def test_drawn_data_need_no_check(monkeypatch):
    monkeypatch.setattr(Cells, "load", lambda *_: pytest.fail("there are no files, so nothing can be wrong with them"))
    assert quick.look_over(Cells(size=48, train=4, val=2, test=2), {}) == Verdict((), 0, 0)


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"a": 1}', b"\xff\xfe{", b"[" * 100_000])
def test_broken_verdicts_are_ignored(root, read, damage):  # noqa: F811
    first = over(root)
    source = Folder(root=root)
    file = verdicts.place(source, {"root": root})
    file.write_bytes(damage)
    assert over(root) == first
    assert json.loads(file.read_text())
    assert len(read) == 16  # the looks are still there


@pytest.mark.parametrize("field", ["severity", "kind", "text", "files", "evidence", "remedy"])
def test_a_verdict_that_lacks_a_part_is_ignored(root, field):  # noqa: F811
    FAULTS["blank image"][0](root)
    first = over(root)
    file = verdicts.place(Folder(root=root), {"root": root})
    kept = json.loads(file.read_text())
    for one in kept.values():
        for finding in one["findings"]:
            del finding[field]
    file.write_text(json.dumps(kept))
    assert over(root) == first


def test_a_cache_that_cannot_be_written_harms_nothing(root, tmp_path):  # noqa: F811
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert worse(over(root)) == set()
    assert worse(over(root)) == set()


def test_verdicts_do_not_pile_up(root):  # noqa: F811
    for n in range(34):
        over(root, scale=0.5 + n / 100)
    assert len(json.loads(verdicts.place(Folder(root=root), {"root": root}).read_text())) == 32
