"""Tables of the package datasets give the samples of the same files in a folder; nothing of a table is kept by workers."""

import inspect
import io
import json
import logging
import multiprocessing
import os

import numpy as np
import pytest
import yaml
from PIL import Image

from seglab.config import conf_dir
from seglab.data.folder import Folder
from seglab.data.huggingface import HuggingFace
from seglab.data.shards_bytes import part_of
from seglab.errors import SeglabError

datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
pa = pytest.importorskip("pyarrow")
RNG = np.random.default_rng(0)
PICTURES = {"image": datasets.Image(), "mask": datasets.Image()}
PALETTE = [v for n in range(256) for v in (n * 37 % 256, n * 91 % 256, 255 - n)]


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def coded(array, form="PNG", palette=False):
    file = io.BytesIO()
    picture = Image.fromarray(array)
    if palette:
        picture.putpalette(PALETTE)
    picture.save(file, form)
    return file.getvalue()


def cell(data, path=None):
    return {"bytes": data, "path": path}


def rows(count, first=0, named=True):
    """Images as JPEG, masks as palette PNG of ids 0..2 and 255."""
    found = []
    for n in range(first, first + count):
        size = (8, 10 + n % 3)
        picture = coded(RNG.integers(0, 256, (*size, 3), np.uint8), "JPEG")
        labels = coded(RNG.choice(np.array([0, 1, 2, 255], np.uint8), size), palette=True)
        found.append({"image": cell(picture, f"a_{n:03d}.jpg" if named else None), "mask": cell(labels)})
    return found


def table(some, features=PICTURES):
    return datasets.Dataset.from_list(some, features=datasets.Features(features))


def as_folder(root, splits):
    for split, some in splits.items():
        for n, row in enumerate(some):
            stem = os.path.splitext(row["image"]["path"] or f"{split}_{n:06d}")[0]
            for kind, column, suffix in (("images", "image", "jpg"), ("masks", "mask", "png")):
                path = root / split / kind / f"{stem}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(row[column]["bytes"])
    return Folder(root)


def alike(ours, theirs):
    assert ours.spec == theirs.spec
    for split in ("train", "val", "test"):
        assert ours.ids(split) == theirs.ids(split)
        assert ours.sizes(split) == theirs.sizes(split)
        for n in range(len(ours.ids(split))):
            a, b = ours.load(split, n), theirs.load(split, n)
            for key in ("id", "image", "mask"):
                np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("form", ["saved", "parquet"])
def test_samples_are_those_of_the_same_files_in_a_folder(form, named, tmp_path):
    splits = {"train": rows(7, named=named), "validation": rows(3, 7, named), "test": rows(2, 10, named)}
    place = tmp_path / "table"
    if form == "saved":
        datasets.DatasetDict({s: table(some) for s, some in splits.items()}).save_to_disk(
            place, num_shards={"train": 3, "validation": 1, "test": 1}
        )
    else:
        for split, some in splits.items():
            (place / "data").mkdir(parents=True, exist_ok=True)
            table(some).to_parquet(place / f"data/{split}-00000-of-00001.parquet")
    ours = HuggingFace(str(place))
    folder = as_folder(tmp_path / "folder", splits)
    if not named:  # images without a name are called by their row
        assert ours.ids("val") == ["validation_000000", "validation_000001", "validation_000002"]
    alike(ours, folder)
    assert set(np.unique(ours.load("train", 0)["mask"])) <= {0, 1, 2, 255}  # the ids of a palette, not its colours


def test_one_table_is_split_by_hash_and_a_missing_val_is_a_share_of_train(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="seglab")
    table(rows(40)).save_to_disk(tmp_path / "one")
    alone = HuggingFace(str(tmp_path / "one"))
    sizes = {s: len(alone.ids(s)) for s in ("train", "val", "test")}
    assert sum(sizes.values()) == 40
    assert min(sizes.values()) > 0
    assert "There is no split for val and test; train is split by data.split." in caplog.text
    datasets.DatasetDict({"train": table(rows(40)), "test": table(rows(3, 40))}).save_to_disk(tmp_path / "two")
    two = HuggingFace(str(tmp_path / "two"))
    assert len(two.ids("test")) == 3
    assert {*two.ids("train"), *two.ids("val")} == {f"a_{n:03d}" for n in range(40)}
    assert 0 < len(two.ids("val")) < 15
    none = HuggingFace(str(tmp_path / "two"), val="none", test="none")
    assert (len(none.ids("train")), none.ids("val"), none.ids("test")) == (40, [], [])
    other = HuggingFace(str(tmp_path / "two"), train="test", val="train")
    assert (len(other.ids("train")), len(other.ids("val")), other.ids("test")) == (3, 40, [])


FORKED = []


def load_forked(index):
    return FORKED[0].load("train", index)["image"]


def test_workers_read_without_a_table(tmp_path):
    table(rows(6)).save_to_disk(tmp_path / "t", num_shards=2)
    data = HuggingFace(str(tmp_path / "t"), split=(1, 0, 0))
    assert not [one for one in vars(data).values() if type(one).__module__.startswith(("datasets", "pyarrow", "pandas"))]
    FORKED.append(data)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for n, theirs in enumerate(pool.map(load_forked, [0, 1, 2, 3, 4, 5])):
            np.testing.assert_array_equal(theirs, data.load("train", n)["image"])
    FORKED.clear()
    assert data.stamp("train", 0) != 0


def test_each_cell_is_where_it_is_said_to_be(tmp_path):
    """Large cells, empty ones, batches, several files: the bytes are those that datasets itself gives."""
    some = rows(25)
    made = datasets.Dataset.from_list(some, features=datasets.Features(PICTURES))
    made.save_to_disk(tmp_path / "t", num_shards=4)
    data = HuggingFace(str(tmp_path / "t"), split=(1, 0, 0))
    for pair, row in zip(data.pairs["train"], some, strict=True):
        for path, column in ((pair.image, "image"), (pair.mask, "mask")):
            part = part_of(path)
            with open(part.file, "rb") as file:
                file.seek(part.at)
                assert file.read(part.size) == row[column]["bytes"]


def test_class_names(tmp_path):
    features = {**PICTURES, "mask_classes": [datasets.ClassLabel(names=["sky", "road", "tree"])], "label": datasets.ClassLabel(names=["day", "night"])}  # fmt: skip
    some = [{**row, "mask_classes": [0, 2], "label": 1} for row in rows(4)]
    table(some, features).save_to_disk(tmp_path / "t")
    told = {"split": (1, 0, 0)}
    assert HuggingFace(str(tmp_path / "t"), **told).spec.classes == ("sky", "road", "tree")
    (tmp_path / "t/id2label.json").write_text(json.dumps({"0": "a", "2": "c", "1": "b"}))
    assert HuggingFace(str(tmp_path / "t"), **told).spec.classes == ("a", "b", "c")
    (tmp_path / "t/classes.json").write_text(json.dumps({"classes": ["x", "y", "z"]}))
    assert HuggingFace(str(tmp_path / "t"), **told).spec.classes == ("x", "y", "z")
    assert HuggingFace(str(tmp_path / "t"), classes=["1", "2", "3"], **told).spec.classes == ("1", "2", "3")
    # The label of a whole image does not name what its pixels are.
    table([{**row, "labels": 1} for row in rows(4)], {**PICTURES, "labels": datasets.ClassLabel(names=["p", "q", "r"])}).save_to_disk(tmp_path / "u")  # fmt: skip
    assert HuggingFace(str(tmp_path / "u"), **told).spec.classes == ("class_0", "class_1", "class_2")


@pytest.mark.parametrize(
    ("columns", "told", "found"),
    [
        (("image", "mask"), {}, ("image", "mask")),
        (("pixel_values", "label"), {}, ("pixel_values", "label")),
        (("photo", "annotation"), {}, ("photo", "annotation")),
        (("image", "truth"), {}, ("image", "truth")),
        (("image", "mask", "depth"), {}, ("image", "mask")),
        (("a", "b"), {"mask": "a"}, ("b", "a")),
        (("a", "b"), {}, None),
        (("image", "mask", "label"), {}, None),
        (("image", "mask", "label"), {"mask": "label"}, ("image", "label")),
        (("image",), {}, None),
    ],
)
def test_columns_are_found_where_only_one_pair_is_plausible(columns, told, found, tmp_path):
    [row] = rows(1)
    cells = {c: row["image"] if found and c == found[0] else row["mask"] for c in columns}
    table([cells], dict.fromkeys(columns, datasets.Image())).save_to_disk(tmp_path / "t")
    if found is None:
        with pytest.raises(SeglabError, match=r"Which columns hold image and mask\? Set data\.image and data\.mask"):
            HuggingFace(str(tmp_path / "t"), **told)
        return
    [pair] = HuggingFace(str(tmp_path / "t"), split=(1, 0, 0), **told).pairs["train"]
    assert (part_of(pair.image).name, part_of(pair.mask).name) == (f"{found[0]} 0", f"{found[1]} 0")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"root": None}, r"data\.root is not set"),
        ({"root": "./nowhere"}, r"data\.root=\./nowhere does not exist"),
        ({"root": "no/such/place"}, "does not exist"),
        ({"root": "nobody/nothing"}, "is no folder here, and cannot be had from the hub: .*go online once"),
        ({"root": "empty"}, r"holds neither what save_to_disk writes nor \.parquet"),
        ({"root": "t", "train": "trian"}, r"data\.train=trian: there is no split of that name\. Did you mean 'train'"),
        ({"root": "t", "train": "none", "val": "none", "test": "none"}, "has the splits train; name one by data.train"),
        ({"root": "t", "image": "imgae"}, "no column of that name. Did you mean 'image'"),
        ({"root": "t", "mask": "words"}, r"data\.mask=words: it holds no images; those that do: image, mask"),
        ({"root": "t", "split": [1, 1, 1]}, "three fractions"),
    ],
)
def test_settings_that_cannot_be_meant(settings, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    table([{**row, "words": "x"} for row in rows(3)], {**PICTURES, "words": datasets.Value("string")}).save_to_disk("t")
    with pytest.raises(SeglabError, match=words) as error:
        HuggingFace(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mask": None}, r"The row 'a_000' of the split 'train' has no mask"),
        ({"mask": cell(b"no image")}, r"\.arrow!mask 0 cannot be read"),
        ({"mask": cell(coded(np.zeros((3, 3), np.uint8)))}, r"mask 0.* is 3 x 3"),
        ({"image": cell(None, "{secret}")}, "lies outside of the data set"),
        ({"image": cell(None, "{root}/../secret.png")}, "lies outside of the data set"),
    ],
)
def test_tables_that_cannot_be_used(change, words, tmp_path, monkeypatch):
    (tmp_path / "secret.png").write_bytes(coded(np.zeros((8, 10, 3), np.uint8)))
    [row] = rows(1)
    for name, one in change.items():
        if one and one["path"]:
            one = cell(None, one["path"].format(secret=tmp_path / "secret.png", root=tmp_path / "t"))
        row[name] = one
    (tmp_path / "t").mkdir()
    schema = pa.schema([(c, pa.struct({"bytes": pa.binary(), "path": pa.string()})) for c in ("image", "mask")])
    told = json.dumps({"info": {"features": {c: {"_type": "Image"} for c in ("image", "mask")}}})
    flat = pa.Table.from_pylist([row], schema.with_metadata({"huggingface": told}))
    datasets.Dataset(flat).save_to_disk(tmp_path / "saved")  # takes the files into the table
    with (
        pa.OSFile(str(tmp_path / "saved/data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, flat.schema) as out,
    ):
        out.write_table(flat)
    with pytest.raises(SeglabError, match=words) as error:
        HuggingFace(str(tmp_path / "saved"), split=(1, 0, 0)).load("train", 0)
    assert "\n" not in str(error.value)


def test_a_compressed_table_is_refused_and_a_file_inside_the_folder_is_read(tmp_path):
    [row] = rows(1)
    table([row]).save_to_disk(tmp_path / "t")
    place = tmp_path / "t/data-00000-of-00001.arrow"
    with pa.memory_map(str(place)) as mapped:
        flat = pa.ipc.open_stream(mapped).read_all()
        flat = pa.Table.from_pylist(flat.to_pylist(), flat.schema)
    with (
        pa.OSFile(str(place), "wb") as file,
        pa.ipc.new_stream(file, flat.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as out,
    ):
        out.write_table(flat)
    with pytest.raises(SeglabError, match="is not kept in files as it is loaded; write it anew by save_to_disk"):
        HuggingFace(str(tmp_path / "t"), split=(1, 0, 0))
    (tmp_path / "t/a.jpg").write_bytes(row["image"]["bytes"])
    inside = pa.Table.from_pylist([{**row, "image": cell(None, str(tmp_path / "t/a.jpg"))}], flat.schema)
    with pa.OSFile(str(place), "wb") as file, pa.ipc.new_stream(file, flat.schema) as out:
        out.write_table(inside)
    data = HuggingFace(str(tmp_path / "t"), split=(1, 0, 0))
    assert data.ids("train") == ["a"]
    assert data.load("train", 0)["image"].shape == (8, 10, 3)


def test_a_version_that_could_run_code_is_refused(tmp_path, monkeypatch):
    from seglab.data import huggingface_tables

    monkeypatch.setattr(huggingface_tables.importlib.metadata, "version", lambda name: "3.6.0")
    with pytest.raises(SeglabError, match=r"datasets 3\.6\.0 may run code"):
        HuggingFace(str(tmp_path))
    text = inspect.getsource(huggingface_tables)
    assert "trust_remote_code" not in text


def test_the_yaml_has_the_arguments_with_their_defaults():
    node = yaml.safe_load((conf_dir() / "data/huggingface.yaml").read_text())
    assert node.pop("defaults") == [{"/loader@_here_": "default"}]
    assert node.pop("_target_") == f"{HuggingFace.__module__}.{HuggingFace.__name__}"
    expected = {k: None if p.default is p.empty else p.default for k, p in inspect.signature(HuggingFace).parameters.items()}
    assert node == {k: list(v) if isinstance(v, tuple) else v for k, v in expected.items()}


@pytest.mark.parametrize("name", ["parquet", "imagefolder", "json"])
def test_a_folder_called_as_a_builder_of_datasets_is_the_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    table(rows(5)).to_parquet(tmp_path / name / "train.parquet")
    assert HuggingFace(name).name == name
    assert sum(len(HuggingFace(name).ids(split)) for split in ("train", "val", "test")) == 5
