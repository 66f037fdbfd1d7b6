"""Slices of volumes: image and mask agree however they are stored, a volume stays whole, and what lies elsewhere is refused."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

nib = pytest.importorskip("nibabel", reason="nibabel is not installed (pip install 'seglab[medical]')")

from seglab.data.cache import cached  # noqa: E402
from seglab.data.converting import convert  # noqa: E402
from seglab.data.counting import class_counts  # noqa: E402
from seglab.data.folder import Folder  # noqa: E402
from seglab.data.nifti import Nifti  # noqa: E402
from seglab.data.nifti_reading import NiftiVolume  # noqa: E402
from seglab.data.selection import select  # noqa: E402
from seglab.data.volumes_grid import AXES, check_affine, in_ras, orientation, place, plane, turned  # noqa: E402
from seglab.data.volumes_volume import Recent, Volume  # noqa: E402
from seglab.errors import ConfigError, DataError, SeglabError  # noqa: E402
from seglab.types import group_labels  # noqa: E402

RNG = np.random.default_rng(0)
SHAPE = (7, 6, 5)
AFFINE = np.array([[2.0, 0, 0, -30], [0, 3.0, 0, 10], [0, 0, 4.0, 100], [0, 0, 0, 1]])
CODES = [a + b + c for a, b, c in [("RL", "AP", "SI"), ("AP", "RL", "IS"), ("IS", "RL", "PA"), ("LR", "PA", "SI")]
         for a in a for b in b for c in c]  # fmt: skip


def save(path, array, code="RAS", affine=AFFINE):
    """An array whose axes are RAS, stored in another orientation at the same place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    wanted = nib.orientations.axcodes2ornt(code)
    image.as_reoriented(nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), wanted)).to_filename(path)


def labels(shape=SHAPE, classes=3):
    found = RNG.integers(0, classes, shape).astype(np.uint8)
    found.flat[:classes] = range(classes)
    return found


def values(shape=SHAPE):
    return RNG.integers(-1000, 1000, shape).astype(np.int16)


def dataset(root, train=2, codes=("RAS", "LPS"), suffix=".nii.gz", shape=SHAPE):
    """{name: (image, mask)} as RAS arrays; train of `train` volumes and val of one."""
    made = {}
    for n in range(train + 1):
        split = "train" if n < train else "val"
        made[f"v{n}"] = values(shape), labels(shape)
        save(root / split / "images" / f"v{n}{suffix}", made[f"v{n}"][0], codes[n % len(codes)])
        save(root / split / "masks" / f"v{n}{suffix}", made[f"v{n}"][1], codes[(n + 1) % len(codes)])
    return made


def seen(array, axis, k):
    """What a radiologist sees: the patient's right on the left, head (of axial slices the front) up; stated a second time."""
    if axis == "axial":
        return np.array([[array[x, y, k] for x in range(array.shape[0])[::-1]] for y in range(array.shape[1])[::-1]])
    if axis == "coronal":
        return np.array([[array[x, k, z] for x in range(array.shape[0])[::-1]] for z in range(array.shape[2])[::-1]])
    return np.array([[array[k, y, z] for y in range(array.shape[1])[::-1]] for z in range(array.shape[2])[::-1]])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CODES), st.sampled_from(["axial", "coronal", "sagittal"]), st.data())
def test_any_orientation_gives_the_same_slices(code, axis, data):
    array = RNG.integers(0, 1000, SHAPE)
    image = nib.Nifti1Image(array.astype(np.int32), AFFINE)
    stored = image.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(code))
    )
    turns, a = orientation(stored.affine), AXES[axis]
    shape, affine = in_ras(stored.shape, stored.affine, turns)
    assert shape == SHAPE
    np.testing.assert_allclose(affine, AFFINE)
    k = data.draw(st.integers(0, SHAPE[a] - 1))
    on, at = place(turns, stored.shape, a, k)
    slab = np.asarray(stored.dataobj).take([at], on)
    np.testing.assert_array_equal(plane(turned(slab, turns), a), seen(array, axis, k))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal", 1])
def test_slices_are_what_is_stored_windowed(tmp_path, suffix, axis):
    made = dataset(tmp_path, suffix=suffix)
    source = Nifti(tmp_path, axis=axis, window=[-160, 240])
    named = {0: "sagittal", 1: "coronal", 2: "axial"}.get(axis, axis)
    length = SHAPE[AXES[axis]]
    assert source.ids("train") == [f"v{n}/{k:04d}" for n in (0, 1) for k in range(length)]
    for split, index in [("train", 0), ("train", length + 2), ("val", length - 1)]:
        sample = source.load(split, index)
        name, k = sample["id"].split("/")
        image, mask = made[name]
        np.testing.assert_array_equal(sample["mask"], seen(mask, named, int(k)))
        expected = np.clip((seen(image, named, int(k)).astype(np.float64) + 160) / 400, 0, 1)
        np.testing.assert_allclose(sample["image"][..., 0], expected, atol=1e-6)
        assert sample["image"].dtype == np.float32
        assert sample["size"] == source.sizes(split)[index] == sample["mask"].shape
        np.testing.assert_array_equal(source.load_mask(split, index), sample["mask"])


def test_without_a_window_percentiles_of_each_volume_hold(tmp_path):
    made = dataset(tmp_path)
    source = Nifti(tmp_path)
    low, high = np.percentile(made["v1"][0].astype(np.float32), (0.5, 99.5))
    expected = np.clip((seen(made["v1"][0], "axial", 2) - low) / (high - low), 0, 1)
    np.testing.assert_allclose(source.load("train", 7)["image"][..., 0], expected, atol=1e-5)


def test_bytes_stay_bytes_and_channels_come_as_one_file_or_many(tmp_path):
    volumes = RNG.integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
    for split in ("train", "val"):
        save(tmp_path / "one" / split / "images" / "case_0000.nii.gz", volumes)
        save(tmp_path / "one" / split / "masks" / "case_0000.nii.gz", labels())  # a number that is no channel
        for c in range(3):
            save(tmp_path / "many" / split / "images" / f"case_000{c}.nii.gz", volumes[..., c], "LPI")
        save(tmp_path / "many" / split / "masks" / "case.nii.gz", labels())
    for kind, id in (("one", "case_0000/0001"), ("many", "case/0001")):
        source = Nifti(tmp_path / kind)
        sample = source.load("train", 1)
        assert sample["id"] == id
        assert sample["image"].dtype == np.uint8
        np.testing.assert_array_equal(sample["image"], seen(volumes, "axial", 1))
    (tmp_path / "many/train/images/case_0001.nii.gz").unlink()
    with pytest.raises(DataError, match="none numbered 0001"):
        Nifti(tmp_path / "many")


def test_a_scaled_header_counts(tmp_path):
    array = np.full(SHAPE, 10, np.uint8)
    for split in ("train", "val"):
        image = nib.Nifti1Image(array, AFFINE)
        image.header.set_slope_inter(2.0, -5.0)
        (tmp_path / split / "images").mkdir(parents=True)
        image.to_filename(tmp_path / split / "images" / "a.nii")
        save(tmp_path / split / "masks" / "a.nii", labels())
    stored = nib.load(tmp_path / "train/images/a.nii")
    expected = float(np.asarray(stored.dataobj)[0, 0, 0])
    assert stored.dataobj.slope != 1
    sample = Nifti(tmp_path, window=[0, 20]).load("train", 0)
    np.testing.assert_allclose(sample["image"], np.clip(expected / 20, 0, 1), atol=1e-6)


def test_empty_slices_leave_train_only(tmp_path):
    for split in ("train", "val"):
        for name in ("a", "b"):
            mask = np.zeros(SHAPE, np.uint8)
            mask[2, 3, 1], mask[:, :, 3] = 1, 255
            save(tmp_path / split / "images" / f"{name}.nii.gz", values(), "SPL")
            save(tmp_path / split / "masks" / f"{name}.nii.gz", mask, "PLI")
    source = Nifti(tmp_path, empty=False, classes=["background", "organ"], ignore_index=255)
    assert source.ids("train") == ["a/0001", "b/0001"]
    assert len(source.ids("val")) == 2 * SHAPE[2]
    assert Nifti(tmp_path, empty=False, axis="sagittal", classes=["background", "organ"], ignore_index=255).ids("train") == [
        "a/0002",
        "b/0002",
    ]
    assert class_counts(source, "train").pixels == [2 * (42 - 1), 2]


def test_a_volume_is_one_group_and_stays_whole(tmp_path):
    for n in range(12):
        save(tmp_path / "images" / f"p{n % 6}_scan{n}.nii.gz", values())
        save(tmp_path / "masks" / f"p{n % 6}_scan{n}.nii.gz", labels())
    plain = Nifti(tmp_path, split=[0.5, 0.25, 0.25])
    volumes = {s: {id.rpartition("/")[0] for id in plain.ids(s)} for s in ("train", "val", "test")}
    assert sum(len(v) for v in volumes.values()) == 12
    assert set(group_labels(plain.ids("train"), plain.group, "group")) == volumes["train"]
    patients = Nifti(tmp_path, split=[0.5, 0.25, 0.25], group="^[^_]+")
    groups = {s: set(group_labels(patients.ids(s), patients.group, "group")) for s in ("train", "val", "test")}
    assert sorted(g for some in groups.values() for g in some) == [f"p{n}" for n in range(6)]  # each in one split
    folded = select(patients, folds=3, fold=1)
    held = [set(group_labels(folded.ids(s), folded.group, "group")) for s in ("train", "val")]
    assert held[1]
    assert not held[0] & held[1]


def test_nnunet_and_decathlon(tmp_path):
    for n in range(6):
        folder = "Tr" if n < 4 else "Ts"
        for c in range(2):
            save(tmp_path / f"images{folder}" / f"la_{n:03d}_000{c}.nii.gz", values())
        save(tmp_path / f"labels{folder}" / f"la_{n:03d}.nii.gz", labels(classes=2))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "atrium": 1, "ignore": 2}}))
    source = Nifti(tmp_path)
    assert source.spec.classes == ("background", "atrium")
    assert source.spec.ignore_index == 2
    assert source.spec.channels == 2
    assert len(source.ids("train")) + len(source.ids("val")) == 4 * SHAPE[2]
    assert {id.split("/")[0] for id in source.ids("test")} == {"la_004", "la_005"}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "left atrium"}}))
    assert Nifti(tmp_path).spec.classes == ("background", "left atrium")
    for wrong in ({"background": 0, "whole": [1, 2]}, {"0": "a", "2": "b"}, None, []):
        (tmp_path / "dataset.json").write_text(json.dumps({"labels": wrong}))
        with pytest.raises(DataError, match=r"dataset\.json: 'labels'"):
            Nifti(tmp_path)


def shifted(by, axis=0):
    moved = AFFINE.copy()
    moved[axis, 3] += by
    return moved


flipped = AFFINE @ np.diag([-1.0, 1, 1, 1])
MISTAKES = [
    ("masks", lambda: (labels(), "RAS", shifted(2.0)), "up to 1 voxels beside"), ("masks", lambda: (labels(), "RAS", shifted(0.8)), None),
    ("masks", lambda: (labels(), "RAS", flipped), "voxels beside"), ("masks", lambda: (labels(), "RAS", np.eye(4)), "voxels beside"),
    ("masks", lambda: (labels((7, 6, 4)), "RAS", AFFINE), "7 x 6 x 4 voxels"), ("masks", lambda: (labels() + np.float32(0.5), "RAS", AFFINE), "holds fractions"),
    ("masks", lambda: (labels((*SHAPE, 2)), "RAS", AFFINE), "has 2 channels"), ("masks", lambda: (labels() * np.uint8(30), "RAS", AFFINE), r"slice \d+\) holds the id"),
    ("images", lambda: (np.full(SHAPE, np.nan, np.float32), "RAS", AFFINE), "NaN"), ("images", lambda: (values((*SHAPE, 2)), "RAS", AFFINE), "2 channels"),
    ("images", lambda: (np.zeros(SHAPE, np.uint8), "RAS", AFFINE), "set data.window"), ("images", lambda: (np.zeros(SHAPE, np.complex64), "RAS", AFFINE), "type complex64"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "made", "words"), MISTAKES, ids=[m[2] or "near enough" for m in MISTAKES])
def test_volumes_that_do_not_fit_are_named(tmp_path, where, made, words):
    dataset(tmp_path)
    array, code, affine = made()
    save(tmp_path / "train" / where / "v1.nii.gz", array, code, affine)
    if words is None:
        Nifti(tmp_path, classes=["a", "b", "c"])
        return
    with pytest.raises(DataError, match=words) as error:
        Nifti(tmp_path, classes=["a", "b", "c"])
    assert "v1.nii.gz" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"window": [5]}, "two numbers"), ({"window": [5, 5]}, "two numbers"), ({"window": [0, float("inf")]}, "two numbers"),
        ({"mode": "multilabel"}, "multilabel"), ({"group": "^x"}, "matches nothing"), ({"std": [1.0]}, "belong together"), ({"root": None}, "data=nifti"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_one_sentence(tmp_path, asked, words):
    dataset(tmp_path)
    with pytest.raises(SeglabError, match=words) as error:
        Nifti(**{"root": tmp_path, **asked})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", ["cut", "text", "empty", "twice", "lonely"])
def test_broken_files_are_named(tmp_path, how):
    dataset(tmp_path)
    at = tmp_path / "train/images/v1.nii.gz"
    if how == "cut":
        at.write_bytes(at.read_bytes()[:-150])
    elif how == "twice":
        save(tmp_path / "train/images/v1.nii", values())
    elif how == "lonely":
        (tmp_path / "train/masks/v1.nii.gz").unlink()
    else:
        at.write_bytes(b"no volume" if how == "text" else b"")
    with pytest.raises(DataError, match=r"v1\.nii") as error:
        source = Nifti(tmp_path)
        [source.load("train", n) for n in range(len(source.ids("train")))]
    assert "\n" not in str(error.value)


def test_volumes_are_read_once_and_workers_get_none(tmp_path):
    class Counted(Volume):
        def __init__(self, name, megabytes):
            self.path, self.megabytes, self.reads = name, megabytes, 0

        def read(self):
            self.reads += 1
            return np.zeros((self.megabytes, 1000, 1000, 1), np.uint8)

    recent, a, b = Recent(5 * 10**6), Counted("a", 3), Counted("b", 3)
    for volume in (a, a, b, b, a):
        recent.whole(volume)
    assert (a.reads, b.reads) == (2, 1)  # both do not fit
    assert len(pickle.dumps(recent)) < 1000
    huge = Counted("h", 9)
    assert recent.whole(huge) is recent.whole(huge)


def test_the_fingerprint_and_a_cache_follow_the_settings(tmp_path):
    made = dataset(tmp_path / "d")
    asked = [{}, {"window": [0, 100]}, {"axis": "coronal"}, {"empty": False}, {"classes": ["a", "b", "c", "d"]}]
    prints = [Nifti(tmp_path / "d", **one).fingerprint() for one in asked[:3]] + [
        Nifti(tmp_path / "d", **asked[4]).fingerprint()
    ]
    assert len(set(prints)) == 4
    kept = cached(Nifti(tmp_path / "d", window=[0, 100]), "disk", str(tmp_path / "kept"))
    for _ in range(2):
        np.testing.assert_array_equal(kept.load("train", 1)["mask"], seen(made["v0"][1], "axial", 1))


AFFINES = {
    "zero": np.zeros((3, 4)), "a row of zeros": AFFINE[:3] * [[1], [1], [0]], "nan": np.full((3, 4), np.nan),
    "flat": np.array([[2.0, 2, 0, 0], [3, 3, 0, 0], [0, 0, 4, 0]]), "infinite": np.where(AFFINE[:3] == 4, np.inf, AFFINE[:3]),
}  # fmt: skip


@pytest.mark.parametrize("which", AFFINES)
@pytest.mark.parametrize("where", ["images", "masks"])
def test_an_affine_that_gives_voxels_no_place_is_named(tmp_path, which, where):
    dataset(tmp_path, suffix=".nii")
    at = tmp_path / "train" / where / "v1.nii"
    with np.errstate(all="ignore"):
        told = bytearray(at.read_bytes())
        told[254:256], told[280:328] = (
            np.int16(1).tobytes(),
            np.nan_to_num(AFFINES[which], nan=np.nan, posinf=np.inf).astype("<f4").tobytes(),
        )
    at.write_bytes(told)
    with pytest.raises(DataError, match=rf"{where}/v1\.nii cannot be read: .*where its voxels lie") as error:
        Nifti(tmp_path)
    assert "\n" not in str(error.value)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.floats(0.01, 100)] * 3), st.floats(-0.6, 0.6), st.floats(-0.6, 0.6))
def test_affines_of_scanners_are_not_refused(spacing, turn, shear):
    turned = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), shear], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turned @ np.diag(spacing)
    check_affine(affine)
    affine[:3, 2] = affine[:3, 1] * 2
    with pytest.raises(ValueError, match="where its voxels lie"):
        check_affine(affine)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7 * 6 * 5 * 2))
def test_a_file_that_broke_off_is_found_by_its_header(tmp_path_factory, lost):
    root = tmp_path_factory.mktemp("cut")
    save(root / "a.nii", values())
    whole = (root / "a.nii").read_bytes()
    NiftiVolume([str(root / "a.nii")])
    (root / "a.nii").write_bytes(whole[:-lost])
    with pytest.raises(DataError, match=r"a\.nii cannot be read: it is truncated"):
        NiftiVolume([str(root / "a.nii")])


def test_image_files_are_not_predicted_without_the_window(tmp_path):
    from seglab.config import load, plain
    from seglab.engine import assemble

    for kind in ("nifti", "dicom"):
        config = plain(load([f"data={kind}", f"data.root={tmp_path}", "data.window=[-160,240]"]))
        with pytest.raises(ConfigError, match=r"windowed slices of volumes.*seglab\.evaluate"):
            assemble.reader(config)
        assert not assemble.predicts(config)
    assert assemble.predicts(plain(load(["data=geotiff", f"data.root={tmp_path}"])))


def test_volumes_of_one_name_in_two_splits_are_called_volumes(tmp_path, caplog):
    for split in ("train", "val"):
        save(tmp_path / split / "images" / "p_1.nii.gz", values())
        save(tmp_path / split / "masks" / "p_1.nii.gz", labels())
    select(Nifti(tmp_path))
    assert "train and val have volumes of the same name (1, such as 'p_1')" in caplog.text
    assert "data.group" not in caplog.text
    caplog.clear()
    select(Nifti(tmp_path, group="^p"))
    assert "data.group: 1 groups" in caplog.text


def test_objects_of_volumes_are_converted(tmp_path):
    for split in ("train", "val"):
        save(tmp_path / "d" / split / "images" / "a.nii.gz", values())
        save(tmp_path / "d" / split / "masks" / "a.nii.gz", labels(classes=5))
    source = Nifti(tmp_path / "d", foreground=True, window=[-160, 240])
    done = convert(source, tmp_path / "plain")
    assert (done.settings, done.lost) == (("data.foreground=true",), ())
    ours = Folder(tmp_path / "plain", foreground=True)
    assert ours.spec.instances
    for n in range(SHAPE[2]):
        for key in ("mask", "instances", "image"):
            np.testing.assert_array_equal(ours.load("val", n)[key], source.load("val", n)[key])


@pytest.mark.slow
def test_a_network_is_trained_on_it(train, tmp_path):
    dataset(tmp_path / "d", shape=(33, 32, 4))
    done = train("data=nifti", f"data.root={tmp_path / 'd'}", "data.window=[-160,240]", "model=tiny", "data.batch_size=4",
                 "data.num_workers=0", "trainer.max_epochs=1", "trainer.accelerator=cpu", "logger=none", "pictures=0", tiny=False)  # fmt: skip
    assert done["status"] == "finished"
    assert done["data"]["group"] == "^(.+)/[0-9]+$"
