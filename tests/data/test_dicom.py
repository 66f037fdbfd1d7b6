"""DICOM series: slices in their place and unit, masks on the voxels they were drawn on, and one sentence for what is unfit."""

import logging

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed (pip install 'seglab[medical]')")
nib = pytest.importorskip("nibabel", reason="nibabel is not installed (pip install 'seglab[medical]')")

from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, generate_uid  # noqa: E402

from seglab.data.dicom import Dicom  # noqa: E402
from seglab.errors import DataError  # noqa: E402
from seglab.types import group_labels  # noqa: E402

RNG = np.random.default_rng(0)
SHAPE = (6, 7, 5)  # rows, columns, slices
AXIAL, CORONAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1)
CT, SEG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4"
SPACING, STEP, ORIGIN = (0.5, 0.75), 2.0, np.array([-20.0, 10.0, 100.0])


def base(kind, **tags):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = (
        kind,
        generate_uid(),
        ExplicitVRLittleEndian,
    )
    made = Dataset()
    made.file_meta, made.SOPClassUID, made.SOPInstanceUID = meta, kind, meta.MediaStorageSOPInstanceUID
    for key, value in tags.items():
        setattr(made, key, value)
    return made


def position(k, orientation=AXIAL):
    return (ORIGIN + k * STEP * np.cross(orientation[:3], orientation[3:])).tolist()


def series(folder, stored=None, orientation=AXIAL, **tags):
    """Slices as a scanner writes them, file names in another order than their places; {slice: its UID}."""
    stored = RNG.integers(0, 2000, SHAPE).astype(np.uint16) if stored is None else stored
    folder.mkdir(parents=True, exist_ok=True)
    uids, signed, bits = {}, int(stored.dtype.kind == "i"), stored.dtype.itemsize * 8
    made = {"SeriesInstanceUID": generate_uid(), "Rows": stored.shape[0], "Columns": stored.shape[1], "PixelSpacing": list(SPACING),
            "ImageOrientationPatient": list(orientation), "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": signed, "SliceThickness": STEP, **tags}  # fmt: skip
    for n, k in enumerate((3, 0, 2, 4, 1)):
        own = {"InstanceNumber": k + 1, "ImagePositionPatient": position(k, orientation), **made}
        one = base(CT, **{key: value for key, value in own.items() if value is not None})
        one.PixelData = stored[..., k].tobytes()
        one.save_as(folder / f"IM{n:03d}.dcm", enforce_file_format=True)
        uids[k] = one.SOPInstanceUID
    return stored, uids


def item(**tags):
    made = Dataset()
    for key, value in tags.items():
        setattr(made, key, value)
    return made


def seg(path, marks, uids, labels=("liver", "tumour"), orientation=AXIAL, by="both", **tags):
    """A SEG: marks is {(slice, segment): H W bool}; frames in another order than the slices."""
    groups, frames = [], []
    for (k, segment), mark in sorted(marks.items(), key=lambda one: (one[0][1], -one[0][0])):
        parts = {"SegmentIdentificationSequence": Sequence([item(ReferencedSegmentNumber=segment)])}
        if by != "uid":
            parts["PlanePositionSequence"] = Sequence([item(ImagePositionPatient=position(k, orientation))])
        if by != "place":
            source = item(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=uids[k])
            parts["DerivationImageSequence"] = Sequence([item(SourceImageSequence=Sequence([source]))])
        groups.append(item(**parts))
        frames.append(mark)
    shared = item(PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=list(orientation))]),
                  PixelMeasuresSequence=Sequence([item(PixelSpacing=list(SPACING), SliceThickness=STEP)]))  # fmt: skip
    rows, columns = frames[0].shape
    made = base(SEG, Modality="SEG", SegmentationType="BINARY", Rows=rows, Columns=columns, NumberOfFrames=len(frames), SamplesPerPixel=1,
                PhotometricInterpretation="MONOCHROME2", BitsAllocated=1, BitsStored=1, HighBit=0, PixelRepresentation=0,
                SegmentSequence=Sequence([item(SegmentNumber=n, SegmentLabel=name) for n, name in enumerate(labels, 1)]),
                SharedFunctionalGroupsSequence=Sequence([shared]), PerFrameFunctionalGroupsSequence=Sequence(groups))  # fmt: skip
    for key, value in tags.items():
        setattr(made, key, value)
    bits = np.packbits(np.stack(frames).ravel(), bitorder="little").tobytes()
    made.PixelData = bits + b"\0" * (len(bits) % 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)


def labels():
    """A label for each voxel, R C S: 0, 1 or 2; slice 0 has none."""
    found = RNG.integers(0, 3, SHAPE).astype(np.uint8)
    found[..., 0] = 0
    found[0, 0, 1:], found[0, 1, 1:] = 1, 2
    return found


def marks_of(found):
    return {(k, n): found[..., k] == n for k in range(found.shape[2]) for n in (1, 2) if (found[..., k] == n).any()}


def case(root, split, name, how="seg", **tags):
    """A series and its mask; (stored, labels)."""
    found, folder = labels(), root / split / "masks"
    stored, uids = series(root / split / "images" / name, **tags)
    if how == "nifti":
        folder.mkdir(parents=True, exist_ok=True)
        affine = np.diag([-1.0, -1, 1, 1]) @ np.array(
            [[0, SPACING[1], 0, ORIGIN[0]], [SPACING[0], 0, 0, ORIGIN[1]], [0, 0, STEP, ORIGIN[2]], [0, 0, 0, 1]]
        )
        nib.as_closest_canonical(nib.Nifti1Image(found, affine)).to_filename(folder / f"{name}.nii.gz")
    else:
        seg(folder / f"{name}.dcm", marks_of(found), uids, by=how if how in ("uid", "place") else "both")
    return stored, found


@pytest.mark.parametrize("how", ["seg", "uid", "place", "nifti"])
def test_slices_come_in_their_place_with_their_labels(tmp_path, how):
    made = {split: case(tmp_path, split, "p1", how, RescaleSlope=2, RescaleIntercept=-1024) for split in ("train", "val")}
    (tmp_path / "train/images/p1/LICENSE").write_text("of an archive")
    source = Dicom(tmp_path, window=[-500, 500])
    assert source.ids("train") == [f"p1/{k:04d}" for k in range(SHAPE[2])]
    assert source.spec.classes == (("background", "liver", "tumour") if how != "nifti" else ("class_0", "class_1", "class_2"))
    for split, (stored, found) in made.items():
        for k in range(SHAPE[2]):
            sample = source.load(split, k)  # axial slices as DICOM shows them: rows to the back, columns to the left
            np.testing.assert_array_equal(sample["mask"], found[..., k])
            np.testing.assert_allclose(
                sample["image"][..., 0], np.clip((stored[..., k] * 2.0 - 1024 + 500) / 1000, 0, 1), atol=1e-6
            )
    assert set(group_labels(source.ids("train"), source.group, "group")) == {"p1"}
    assert source.stamp("train", 0) != source.stamp("train", 1)


@pytest.mark.parametrize("axis", ["sagittal", "coronal"])
def test_other_cuts_see_the_same_voxels(tmp_path, axis):
    made = {split: case(tmp_path, split, "p", "seg") for split in ("train", "val")}
    source = Dicom(tmp_path, axis=axis, window=[0, 2000])
    stored, found = made["train"]
    for k in range(len(source.ids("train"))):
        cut = (lambda a: a[::-1][k][:, ::-1].T) if axis == "coronal" else (lambda a: a[:, ::-1][:, k][:, ::-1].T)  # noqa: B023
        sample = source.load("train", k)
        np.testing.assert_array_equal(sample["mask"], cut(found))
        np.testing.assert_allclose(sample["image"][..., 0], cut(stored) / 2000, atol=1e-6)


def test_a_coronal_series_is_turned(tmp_path):
    for split in ("train", "val"):
        stored, uids = series(tmp_path / split / "images" / "p", orientation=CORONAL)
        found = labels()
        seg(tmp_path / split / "masks" / "p.dcm", marks_of(found), uids, orientation=CORONAL)
    source = Dicom(tmp_path, axis="coronal", window=[0, 2000])
    # Slices grow along x times -z = y in LPS, to the back; numbers grow to the front.
    sample = source.load("val", 0)
    np.testing.assert_array_equal(sample["mask"], found[..., -1])
    np.testing.assert_allclose(sample["image"][..., 0], stored[..., -1] / 2000, atol=1e-6)


def test_without_places_the_numbers_count(tmp_path):
    made = [
        case(tmp_path, split, "p", "uid", ImagePositionPatient=None, ImageOrientationPatient=None) for split in ("train", "val")
    ]
    source = Dicom(tmp_path, window=[0, 2000])
    for k in range(SHAPE[2]):
        np.testing.assert_array_equal(source.load("train", k)["mask"], made[0][1][..., k])
        np.testing.assert_allclose(source.load("train", k)["image"][..., 0], made[0][0][..., k] / 2000, atol=1e-6)
    case(tmp_path / "n", "train", "p", "nifti", ImagePositionPatient=None)
    with pytest.raises(DataError, match="use a SEG"):
        Dicom(tmp_path / "n")


@pytest.mark.parametrize(("kind", "ends"), [(np.uint16, 4095), (np.int16, -1), (np.uint8, 255)])
def test_inverted_grey_is_turned_back(tmp_path, kind, ends):
    stored = RNG.integers(0, 250, SHAPE).astype(kind)
    bits = {"BitsStored": 12, "HighBit": 11} if kind is np.uint16 else {}
    for split in ("train", "val"):
        case(tmp_path, split, "p", stored=stored, PhotometricInterpretation="MONOCHROME1", **bits)
    source = Dicom(tmp_path, window=None if kind is np.uint8 else [-5000, 5000])
    image = source.load("train", 1)["image"][..., 0]
    expected = ends - stored[..., 1].astype(np.float64)
    if kind is np.uint8:
        np.testing.assert_array_equal(image, expected)
        assert image.dtype == np.uint8
    else:
        np.testing.assert_allclose(image, (expected + 5000) / 10000, atol=1e-6)


def test_empty_slices_leave_train(tmp_path):
    for split in ("train", "val"):
        case(tmp_path, split, "p")
    assert len(Dicom(tmp_path, empty=False).ids("train")) == SHAPE[2] - 1
    assert len(Dicom(tmp_path, empty=False).ids("val")) == SHAPE[2]


def edit(path, **tags):
    found = pydicom.dcmread(path)
    for key, value in tags.items():
        setattr(found, key, value)
    found.save_as(path)


def compress(path):
    found = pydicom.dcmread(path)
    found.file_meta.TransferSyntaxUID = JPEGLSLossless
    found.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7junk\xff\xd9"])
    found["PixelData"].VR = "OB"
    found.save_as(path)


SPOILS = {
    "two series": (lambda p: edit(p, SeriesInstanceUID=generate_uid()), "two series"),
    "a gap": (
        lambda p: edit(p, ImagePositionPatient=position(1.35)),
        "lies 0.7 mm above .* 2 mm apart",
    ),
    "the same place": (lambda p: edit(p, ImagePositionPatient=position(1)), "at the same place"),
    "no place": (
        lambda p: [edit(one, PixelSpacing=[0, 0.5]) for one in p.parent.iterdir()],
        "images/p cannot be read: .*where its voxels lie",
    ),
    "a localizer": (lambda p: edit(p, ImageOrientationPatient=list(CORONAL)), "two orientations"),
    "another size": (lambda p: edit(p, Rows=3, Columns=14), "two sizes"),
    "colours": (lambda p: edit(p, PhotometricInterpretation="RGB"), "has colours"),
    "enhanced": (lambda p: edit(p, NumberOfFrames=4), "dcm2niix"),
    "compressed": (compress, r"JPEG-LS.*pylibjpeg"),
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:-30]), "cannot be read"),
    "text": (lambda p: p.write_text("not dicom"), "cannot be read"),
}


@pytest.mark.parametrize("how", SPOILS)
def test_unfit_slices_are_named(tmp_path, how):
    for split in ("train", "val"):
        case(tmp_path, split, "p")
    spoil, words = SPOILS[how]
    spoil(tmp_path / "train/images/p/IM002.dcm")
    with pytest.raises(DataError, match=words) as error:
        source = Dicom(tmp_path)
        [source.load("train", k) for k in range(SHAPE[2])]
    assert "train/images/p" in str(error.value)
    assert "\n" not in str(error.value)


def one_seg(root, **more):
    _, uids = series(root / "train/images/p")
    marks = marks_of(labels())
    seg(root / "train/masks/p.dcm", more.pop("marks", lambda m: m)(marks), more.pop("uids", lambda u: u)(uids), **more)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"uids": lambda u: {k: generate_uid() for k in u}}, "belongs to no slice"), ({"uids": lambda u: {k: u[(k + 1) % 5] for k in u}}, "lies elsewhere"),
        ({"orientation": CORONAL, "by": "uid"}, "turned otherwise"), ({"by": "place", "orientation": CORONAL}, "belongs to no slice|turned otherwise"),
        ({"SegmentationType": "FRACTIONAL"}, "FRACTIONAL"), ({"SOPClassUID": CT}, "no DICOM segmentation object"),
        ({"marks": lambda m: {**m, (1, 1): np.ones(SHAPE[:2], bool), (1, 2): np.ones(SHAPE[:2], bool)}}, "as 1 and as 2|as 2 and as 1"),
        ({"marks": lambda m: {key: mark.T for key, mark in m.items()}}, "7 x 6"),
    ],
)  # fmt: skip
def test_segmentations_of_other_voxels_are_refused(tmp_path, more, words):
    one_seg(tmp_path, **more)
    with pytest.raises(DataError, match=words) as error:
        Dicom(tmp_path)
    assert "masks/p.dcm" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_number_that_means_two_things_is_refused(tmp_path):
    for n, names in enumerate([("liver", "tumour"), ("tumour", "liver")]):
        _, uids = series(tmp_path / "train/images" / f"p{n}")
        seg(tmp_path / "train/masks" / f"p{n}.dcm", marks_of(labels()), uids, labels=names)
    with pytest.raises(DataError, match=r"p0\.dcm calls segment 1 'liver' and .*p1\.dcm 'tumour'"):
        Dicom(tmp_path)


def test_layouts_that_do_not_fit_are_one_sentence(tmp_path):
    case(tmp_path, "train", "p")
    (tmp_path / "train/masks/p.nii.gz").write_bytes(b"")
    with pytest.raises(DataError, match="has 2 masks"):
        Dicom(tmp_path)
    for mask in (tmp_path / "train/masks").iterdir():
        mask.unlink()
    with pytest.raises(DataError, match="has no mask; expected is one"):
        Dicom(tmp_path)
    for file in (tmp_path / "train/images/p").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="holds no folder of DICOM files"):
        Dicom(tmp_path)


def test_series_lie_in_folders_of_patients(tmp_path, caplog):
    for name in ("a/s1", "a/s2", "b/s1"):
        for split in ("train", "val"):
            case(tmp_path, split, name)
    with caplog.at_level(logging.INFO):
        source = Dicom(tmp_path, group="^[^/]+")
    assert source.ids("train")[0] == "a/a/s1/0000"
    assert set(group_labels(source.ids("train"), source.group, "group")) == {"a", "b"}
