"""The formats of known data sets: files as the real tools write them become exactly the classes that their makers state."""

import csv
import inspect
import json
import logging
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seglab.config import conf_dir
from seglab.data import ade20k, cityscapes, pet, voc
from seglab.data.ade20k import Ade20k
from seglab.data.cityscapes import Cityscapes
from seglab.data.listed import Listed
from seglab.data.paired import stated
from seglab.data.pet import Pet
from seglab.data.selection import select
from seglab.data.voc import Voc
from seglab.errors import DataError, SeglabError

SIZE = (24, 32)
RNG = np.random.default_rng(0)
# Stated here a second time, in the form of the data sets' own documents.
TRAIN_IDS = [255] * 7 + [
    0,
    1,
    255,
    255,
    2,
    3,
    4,
    255,
    255,
    255,
    5,
    255,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
    15,
    255,
    255,
    16,
    17,
    18,
]
MEANING = {
    "voc": {**{n: n for n in range(21)}, 255: 255},
    "cityscapes": dict(enumerate(TRAIN_IDS)),
    "ade20k": {0: 255, **{n: n - 1 for n in range(1, 151)}},
    "pet": {1: 1, 2: 0, 3: 255},
    "list": {0: 0, 1: 1, 2: 2, 255: 255},
}


def save(path, array, palette=None, form=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette(palette)  # mode P, as VOC's masks are
    image.save(path, form)


def picture(path, channels=3, size=SIZE, form=None):
    save(path, RNG.integers(0, 256, (*size, channels)[: 2 if channels == 1 else 3], np.uint8), form=form)


def stored(name, number, size=SIZE):
    """A mask of random ids of the format; the first one of each set holds all of them."""
    values = np.array(list(MEANING[name]), np.uint8)
    mask = RNG.choice(values, size)
    if number == 0:
        mask.ravel()[: len(values)] = values
    return mask


def build_voc(root):
    """Masks {id: as stored} of two training, two validation images, and one of SBD's."""
    folder, masks = root / "VOCdevkit/VOC2012", {}
    colors = [c for color in voc.palette(256) for c in color]
    for n, stem in enumerate(("2007_000032", "2007_000039", "2007_000033", "2007_000042", "2008_000008")):
        masks[stem] = stored("voc", n, (24 + n, 32))
        picture(folder / f"JPEGImages/{stem}.jpg", size=(24 + n, 32))
        place = "SegmentationClassAug" if stem.startswith("2008") else "SegmentationClass"
        save(folder / f"{place}/{stem}.png", masks[stem], None if stem.startswith("2008") else colors)
    picture(folder / "JPEGImages/2008_000001.jpg")  # one without a mask, as most of VOC's
    lists = folder / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for name, stems in (("train", (0, 1)), ("val", (2, 3)), ("trainval", (0, 1, 2, 3))):
        (lists / f"{name}.txt").write_text("".join(f"{list(masks)[n]}\n" for n in stems))
    lines = [f"/JPEGImages/{s}.jpg /SegmentationClassAug/{s}.png" for s in ("2007_000032", "2007_000039", "2008_000008")]
    (lists / "train_aug.txt").write_text("\n".join(lines))
    return masks


def build_cityscapes(root):
    masks = {}
    for split, city in (("train", "aachen"), ("train", "bochum"), ("val", "lindau"), ("test", "berlin")):
        for n in range(2):
            stem = f"{city}_00000{n}_000019"
            masks[f"{city}/{stem}"] = mask = stored("cityscapes", n)
            picture(root / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png")
            truth = root / f"gtFine/{split}/{city}/{stem}_gtFine_"
            save(truth.with_name(truth.name + "labelIds.png"), np.zeros_like(mask) if split == "test" else mask)
            save(truth.with_name(truth.name + "instanceIds.png"), mask.astype(np.uint16) * 1000)
            save(truth.with_name(truth.name + "color.png"), np.dstack([mask] * 4))
    return masks


def build_ade20k(root):
    masks = {}
    for split, short, count in (("training", "train", 3), ("validation", "val", 2)):
        for n in range(count):
            stem = f"ADE_{short}_0000000{n + 1}"
            masks[stem] = stored("ade20k", n)
            picture(root / f"ADEChallengeData2016/images/{split}/{stem}.jpg", 1 if n else 3)
            save(root / f"ADEChallengeData2016/annotations/{split}/{stem}.png", masks[stem])
    return masks


def build_pet(root):
    masks = {}
    folder = root / "oxford-iiit-pet"
    for n in range(14):
        stem = f"{'Abyssinian' if n % 2 else 'basset_hound'}_{n}"
        masks[stem] = stored("pet", n)
        picture(folder / f"images/{stem}.jpg", 4 if n == 3 else 1 if n == 5 else 3, form="PNG" if n == 3 else "JPEG")
        save(folder / f"annotations/trimaps/{stem}.png", masks[stem])
    save(folder / "annotations/trimaps/Abyssinian_34.png", stored("pet", 1))
    picture(folder / "images/Abyssinian_34.jpg", 1, form="GIF")
    (folder / "annotations/trimaps/._Abyssinian_1.png").write_bytes(b"a Mac wrote this")
    lines = [f"{stem} {1 + n % 2} 1 1\n" for n, stem in enumerate(masks)]
    (folder / "annotations/trainval.txt").write_text("".join(lines[:10]) + "Abyssinian_34 1 1 1\n")
    (folder / "annotations/test.txt").write_text("".join(lines[10:]))
    return masks


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def build_list(root):
    """Pairs scattered over folders, named by train.csv, val.jsonl, and all.csv with splits and groups."""
    masks, rows = {}, []
    for n in range(8):
        name = f"day {n % 2}/a, {n}"
        masks[f"day {n % 2}/a, {n}"] = stored("list", n)
        picture(root / f"{name}.jpg")
        save(root / f"truth/{n}.png", masks[name])
        rows.append({"image": f"{name}.jpg", "mask": f"truth/{n}.png", "group": f"p{n // 2}"})
    write_csv(root / "train.csv", [{k: row[k] for k in ("image", "mask")} for row in rows[:5]])
    (root / "val.jsonl").write_text("\n".join(json.dumps({"image": r["image"], "mask": r["mask"]}) for r in rows[5:]))
    write_csv(root / "all.csv", [{**row, "split": ("train", "validation")[n // 6]} for n, row in enumerate(rows)])
    write_csv(root / "groups.csv", rows)
    return masks


BUILD = {"voc": build_voc, "cityscapes": build_cityscapes, "ade20k": build_ade20k, "pet": build_pet, "list": build_list}
KINDS = {"voc": Voc, "cityscapes": Cityscapes, "ade20k": Ade20k, "pet": Pet, "list": Listed}


def source(name, place, **settings):
    """The data set; lists are named as those below `place`."""
    if name != "list":
        return KINDS[name](**{"root": place, **settings})
    lists = settings if {"train", "file"} & settings.keys() else {"train": "train.csv", "val": "val.jsonl", **settings}
    return Listed(**{k: place / v if k in ("train", "val", "file") and v else v for k, v in lists.items()})


@pytest.fixture
def info(caplog):
    caplog.set_level(logging.INFO, logger="seglab")
    return caplog


@pytest.mark.parametrize("name", BUILD)
def test_every_pixel_is_the_class_that_the_format_states(name, tmp_path):
    masks = BUILD[name](tmp_path)
    data = source(name, tmp_path)
    table = np.full(256, 77)
    table[list(MEANING[name])] = list(MEANING[name].values())
    seen = 0
    for split in ("train", "val", "test"):
        assert data.ids(split) == sorted(data.ids(split))
        for n, image in enumerate(data.ids(split)):
            sample = data.load(split, n)
            np.testing.assert_array_equal(sample["mask"], table[masks[image]], err_msg=image)
            np.testing.assert_array_equal(data.load_mask(split, n), sample["mask"])
            assert (sample["image"].shape, data.sizes(split)[n]) == ((*masks[image].shape, 3), masks[image].shape)
            seen += 1
    assert seen == {"voc": 4, "cityscapes": 6, "ade20k": 5, "pet": 14, "list": 8}[name]
    assert data.spec.ignore_index == 255
    assert data.spec.num_classes == len(set(MEANING[name].values()) - {255})


def test_docs_the_format_of_ones_own(tmp_path):
    text = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8")
    space: dict = {}
    exec(re.search(r"```python\n(.*?)```", text, re.S)[1], space)
    node = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.S)[1])
    assert node.keys() - {"defaults", "_target_"} == inspect.signature(space["Terraces"]).parameters.keys()
    for n in range(3):
        picture(tmp_path / f"scenes/{n}.jpg")
        save(tmp_path / f"truth/{n}.png", np.array([[10, 20], [99, 20 + (n == 2)]], np.uint8).repeat(12, 0).repeat(16, 1))
    with pytest.raises(DataError, match=r"2\.png holds the id 21 at row 12, column 16, but terraces have 10"):
        space["Terraces"](tmp_path)
    save(tmp_path / "truth/2.png", np.full(SIZE, 20, np.uint8))
    data = space["Terraces"](tmp_path, split=(1, 0, 0))
    assert data.load("train", 0)["mask"][::12, ::16].tolist() == [[0, 1], [255, 1]]


@pytest.mark.parametrize("name", BUILD)
def test_the_yaml_has_the_arguments_with_their_defaults(name):
    node = yaml.safe_load((conf_dir() / f"data/{name}.yaml").read_text())
    assert node.pop("defaults") == [{"/loader@_here_": "default"}]
    kind = KINDS[name]
    assert node.pop("_target_") == f"{kind.__module__}.{kind.__name__}"
    expected = {k: None if p.default is p.empty else p.default for k, p in inspect.signature(kind).parameters.items()}
    assert node == {k: list(v) if isinstance(v, tuple) else v for k, v in expected.items()}


TABLES = {"voc": (voc.CLASSES, voc.IDS), "cityscapes": (list(cityscapes.CLASSES), cityscapes.IDS["labelIds"]),
          "trainids": (list(cityscapes.CLASSES), cityscapes.IDS["labelTrainIds"]),
          "ade20k": (ade20k.CLASSES, ade20k.IDS), "pet": (pet.CLASSES, pet.IDS)}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_each_class_has_one_id_and_every_other_id_is_refused(name, data):
    classes, ids = TABLES[name]
    assert sorted(v for v in ids.values() if v != 255) == list(range(len(classes)))
    codec = stated(classes, ids, "the remedy")([], []).codec
    values = data.draw(st.lists(st.sampled_from(sorted(ids)), min_size=1, max_size=30))
    assert codec(np.array([values], np.uint8), "m.png").tolist() == [[ids[v] for v in values]]
    place, wrong = data.draw(st.integers(0, len(values) - 1)), data.draw(st.sampled_from(sorted({*range(256)} - ids.keys())))
    values[place] = wrong
    with pytest.raises(DataError, match=rf"m\.png holds the id {wrong} at row 0, column {place}, but the remedy"):
        codec(np.array([values], np.uint8), "m.png")


def test_voc_is_what_its_lists_say(tmp_path, info):
    build_voc(tmp_path)
    data = source("voc", tmp_path)
    assert {s: data.ids(s) for s in ("train", "val", "test")} == {
        "train": ["2007_000032", "2007_000039"], "val": ["2007_000033", "2007_000042"], "test": []}  # fmt: skip
    assert (data.name, data.spec.classes[0], data.spec.classes[15], data.spec.mode) == (
        "VOC2012",
        "background",
        "person",
        "multiclass",
    )
    assert [data.spec.colors[n] for n in (0, 1, 2, 15, 20)] == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (192, 128, 128),
        (0, 64, 128),
    ]
    assert "test is empty; data.test=val scores" in info.text
    assert "data.train=train_aug takes its images" in info.text
    more = source("voc", tmp_path / "VOCdevkit", train="train_aug")
    assert more.ids("train") == ["2007_000032", "2007_000039", "2008_000008"]
    assert more.fingerprint() != data.fingerprint()
    assert source("voc", tmp_path / "VOCdevkit/VOC2012").fingerprint() == data.fingerprint()


def test_weights_can_be_chosen_on_a_fold_and_scored_on_val(tmp_path, info):
    build_voc(tmp_path)
    fold = select(source("voc", tmp_path, train="train_aug", val=None, test="val"), folds=3)
    assert fold.ids("test") == ["2007_000033", "2007_000042"]
    assert (len(fold.ids("train")), len(fold.ids("val"))) == (2, 1)
    assert not {*fold.ids("train"), *fold.ids("val")} & {*fold.ids("test")}
    assert "flattered" not in info.text


@pytest.mark.parametrize("name", ["voc", "cityscapes", "ade20k"])
def test_validation_is_scored_as_test_only_when_asked_and_that_is_said(name, tmp_path, info):
    BUILD[name](tmp_path)
    assert source(name, tmp_path).ids("test") == []
    assert "not public, so test is empty" in info.text
    assert "flattered" not in info.text
    asked = source(name, tmp_path, test="val")
    assert asked.ids("test") == asked.ids("val") != []
    assert "test and val are the same 2 images" in info.text


def test_cityscapes_reads_train_ids_where_there_are_no_label_ids(tmp_path):
    build_cityscapes(tmp_path)
    whole = source("cityscapes", tmp_path)
    assert [whole.spec.classes[n] for n in (0, 10, 18)] == ["road", "sky", "bicycle"]
    assert whole.spec.colors[13] == (0, 0, 142)
    assert whole.ids("val") == ["lindau/lindau_000000_000019", "lindau/lindau_000001_000019"]
    masks = [whole.load_mask("train", n) for n in range(4)]
    for path in list(tmp_path.rglob("*_labelIds.png")):
        mask = np.array(TRAIN_IDS, np.uint8)[np.array(Image.open(path))]
        path.unlink()
        save(path.with_name(path.name.replace("labelIds", "labelTrainIds")), mask)
    again = source("cityscapes", tmp_path)
    for n, mask in enumerate(masks):
        np.testing.assert_array_equal(again.load_mask("train", n), mask)


def test_cities_stay_together_in_folds_when_asked(tmp_path):
    build_cityscapes(tmp_path)
    fold = select(source("cityscapes", tmp_path, group="^[^/]+"), folds=3)
    assert not {i.split("/")[0] for i in fold.ids("train")} & {i.split("/")[0] for i in fold.ids("val")}
    assert len(fold.ids("train")) + len(fold.ids("val")) == 6


def test_ade20k_names_its_classes_as_its_table_does(tmp_path):
    build_ade20k(tmp_path)
    assert len(set(ade20k.CLASSES)) == 150
    names = source("ade20k", tmp_path).spec.classes
    some = "grass chair field cushion fireplace stairway bench hovel television buffet swimming_pool ball dishwasher fan flag"
    assert [name.replace(" ", "_") for name in names[9::10]] == some.split()  # 10, 20 ... 150 in the table
    assert (names[60:63], names[130], names[141]) == (("river", "bridge", "bookcase"), "screen", "crt screen")
    rows = [f"{n + 1} \t0.1\t1\t1\t{name}, another name \n" for n, name in enumerate(reversed(ade20k.CLASSES))]
    (tmp_path / "ADEChallengeData2016/objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n" + "".join(rows))
    assert source("ade20k", tmp_path).spec.classes == ade20k.CLASSES[::-1]


def test_pet_splits_trainval_by_name_and_leaves_gifs_out(tmp_path, info):
    build_pet(tmp_path)
    data = source("pet", tmp_path, val=0.4)
    assert (data.spec.classes, data.spec.mode) == (("background", "pet"), "binary")
    assert len(data.ids("test")) == 4
    assert 0 < len(data.ids("val")) < 10
    listed = (tmp_path / "oxford-iiit-pet/annotations/trainval.txt").read_text()
    assert {*data.ids("train"), *data.ids("val")} == {line.split()[0] for line in listed.splitlines()[:-1]}
    assert "Left out of trainval.txt: GIFs named .jpg (1)" in info.text
    fewer = tmp_path / "oxford-iiit-pet/annotations/trainval.txt"
    fewer.write_text("\n".join(listed.splitlines()[2:]))
    after = source("pet", tmp_path, val=0.4)
    assert set(after.ids("val")) <= set(data.ids("val"))
    assert set(after.ids("train")) <= set(data.ids("train"))


def test_pet_is_fetched_only_when_asked_and_only_once(tmp_path, monkeypatch):
    calls = []

    def fetch(root, download):
        calls.append((root, download))
        if root.endswith("new"):
            raise OSError("no\nroute")
        build_pet(tmp_path)

    # The real one is in the slow test below: torchvision takes seconds to import.
    monkeypatch.setitem(sys.modules, "torchvision.datasets", SimpleNamespace(OxfordIIITPet=fetch))
    with pytest.raises(DataError, match=r"no folder images .*or set data\.download=true to fetch"):
        source("pet", tmp_path)
    with pytest.raises(DataError, match=r"does not exist; correct the path, or set data\.download=true to fetch"):
        source("pet", tmp_path / "new")
    assert not calls
    for root in (tmp_path, tmp_path, tmp_path / "oxford-iiit-pet"):
        assert len(source("pet", root, download=True).ids("test")) == 4
    assert calls == [(str(tmp_path), True)]
    with pytest.raises(DataError, match=r"could not be fetched into .* \(no route\); try again later\.$"):
        source("pet", tmp_path / "new", download=True)


@pytest.mark.slow
def test_torchvision_puts_the_pets_where_they_are_looked_for(tmp_path, monkeypatch):
    from torchvision.datasets import OxfordIIITPet

    def fetch(self):
        assert self._base_folder == tmp_path / "oxford-iiit-pet"
        build_pet(self._base_folder.parent)

    monkeypatch.setattr(OxfordIIITPet, "_download", fetch)
    ours = source("pet", tmp_path, download=True)
    theirs = OxfordIIITPet(str(tmp_path), "test", target_types="segmentation")
    names = [path.stem for path in theirs._images]
    assert sorted(names) == ours.ids("test")
    for name, (image, trimap) in zip(names, theirs, strict=True):
        n = ours.ids("test").index(name)
        np.testing.assert_array_equal(ours.load("test", n)["image"], np.array(image))
        np.testing.assert_array_equal(ours.load_mask("test", n), np.array([77, 1, 0, 255])[np.array(trimap)])


def test_a_list_of_all_splits_keeps_its_groups_together(tmp_path, info):
    masks = build_list(tmp_path)
    told = source("list", tmp_path, file="all.csv")
    assert told.ids("train") == sorted(f"p{n // 2}/{name}" for n, name in enumerate(masks) if n < 6)
    assert len(told.ids("val")) == 2
    assert told.group == "^[^/]+"
    assert told.spec.classes == ("class_0", "class_1", "class_2")
    free = source("list", tmp_path, file="groups.csv", split=(0.5, 0.5, 0), classes=["sky", "road", "car"])
    assert free.spec.classes == ("sky", "road", "car")
    groups = [{i.split("/")[0] for i in free.ids(s)} for s in ("train", "val")]
    assert not groups[0] & groups[1]
    assert groups[0] | groups[1] == {"p0", "p1", "p2", "p3"}
    assert "has no column 'split'" in info.text


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "a", "b.c", "", "C:", "é"]), min_size=1, max_size=6))
def test_names_from_a_list_lead_nowhere(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("names")
    picture(folder / "i.png")
    save(folder / "m.png", np.array([[0, 1]], np.uint8).repeat(24, 0).repeat(16, 1))
    write_csv(folder / "l.csv", [{"image": "i.png", "mask": "m.png", "id": "/".join(parts) or "x"}])
    [name] = source("list", folder, train="l.csv").ids("train")
    assert name
    assert (folder / name).resolve().is_relative_to(folder.resolve())


def test_a_group_leads_nowhere_either(tmp_path):
    picture(tmp_path / "i.png")
    save(tmp_path / "m.png", np.array([[0, 1]], np.uint8).repeat(24, 0).repeat(16, 1))
    write_csv(tmp_path / "l.csv", [{"image": "i.png", "mask": "m.png", "group": ".."}])
    assert source("list", tmp_path, train="l.csv").ids("train") == ["image/i"]


def test_one_image_is_one_image_however_its_path_is_written(tmp_path, monkeypatch):
    build_list(tmp_path / "set")
    rows = (tmp_path / "set" / "train.csv").read_text(encoding="utf-8-sig").splitlines()
    monkeypatch.chdir(tmp_path)
    head, image, mask = "image,mask", *next(csv.reader([rows[1]]))
    write = lambda name: (tmp_path / "set" / "v.csv").write_text(f'{head}\n"{name}","{mask}"\n')  # noqa: E731
    for written in (tmp_path / "set" / image, f"../set/{image}", f"./{image}"):
        write(written)
        with pytest.raises(DataError, match=r"lists the image .* again"):
            Listed(train="set/train.csv", val="set/v.csv")


@pytest.mark.parametrize("column", ["id", "group"])
def test_half_of_a_character_is_refused_where_it_stands(tmp_path, column):
    picture(tmp_path / "i.png")
    save(tmp_path / "m.png", np.array([[0, 1]], np.uint8).repeat(24, 0).repeat(16, 1))
    (tmp_path / "l.jsonl").write_text(json.dumps({"image": "i.png", "mask": "m.png", column: "a\ud83d"}))
    with pytest.raises(DataError, match=r"l\.jsonl line 1: 'a\\ud83d' holds half of a character"):
        source("list", tmp_path, train="l.jsonl")


def line(file, text, n=None):
    """Replace line `n` of a file of the list format, or append one."""

    def plant(root):
        lines = (root / file).read_text(encoding="utf-8-sig").splitlines()
        lines[len(lines) if n is None else n : len(lines) if n is None else n + 1] = [text]
        (root / file).write_text("\n".join(lines))

    return plant


def drop(pattern):
    """Remove the first file that fits."""
    return lambda root: sorted(root.rglob(pattern))[0].unlink()


def spoil(pattern, value):
    """Write an id that the format does not have into the first mask that fits."""

    def plant(root):
        path = sorted(root.rglob(pattern))[0]
        with Image.open(path) as image:
            mask, colors = np.array(image), image.getpalette()
        mask[2, 3] = value
        save(path, mask, colors)

    return plant


def rgb(pattern):
    def plant(root):
        path = sorted(root.rglob(pattern))[0]
        with Image.open(path) as image:
            image.convert("RGB").save(path)

    return plant


def nothing(root):
    pass


def renamed(old, new):
    return lambda root: sorted(root.rglob(old))[0].rename(root / new)


ADE = "ADEChallengeData2016"
LIST, ALL = {"train": "train.csv"}, {"file": "all.csv"}
MISTAKES = {
    "voc, no root": ("voc", nothing, {"root": None}, r"data\.root is not set.*data=voc data\.root=DIR"),
    "voc, no folder": ("voc", nothing, {"root": "VOC201"}, r"data\.root=VOC201 does not exist"),
    "voc, another folder": ("voc", renamed("JPEGImages", "x"), {}, r"no folder JPEGImages \(it holds VOCdevkit, x\)"),
    "voc, no list": ("voc", nothing, {"train": "trian"}, r"data\.train=trian: .* has no list of that name\. Did you mean 'train'"),
    "voc, no image": ("voc", drop("2007_000033.jpg"), {}, r"val\.txt lists '2007_000033', but .*JPEGImages has no 2007_000033\.jpg"),
    "voc, no mask": ("voc", drop("2007_000042.png"), {}, r"val\.txt lists '2007_000042', but neither SegmentationClass nor"),
    "voc, a leak": ("voc", nothing, {"train": "trainval"}, r"data\.train=trainval and data\.val=val share 2 images \(2007_000033"),
    "voc, 21": ("voc", spoil("2007_000039.png", 21), {}, r"2007_000039\.png holds the id 21 at row 2, column 3, but VOC's masks hold"),
    "voc, colours": ("voc", rgb("2007_000039.png"), {}, r"2007_000039\.png has 3 channels, but the masks of this format have one"),
    "city, a zip apart": ("cityscapes", renamed("gtFine", "gt"), {}, r"no folder gtFine .*unpack leftImg8bit_trainvaltest"),
    "city, no mask": ("cityscapes", drop("bochum_000001*labelIds.png"), {}, r"bochum_000001_000019_leftImg8bit\.png has no mask"),
    "city, no images": ("cityscapes", renamed("leftImg8bit/val", "v"), {}, r"leftImg8bit/val holds no CITY/"),
    "city, 34": ("cityscapes", spoil("aachen_000001*labelIds.png", 34), {}, r"labelIds\.png holds the id 34 .* label ids are 0\.\.33"),
    "city, train ids": ("cityscapes", spoil("aachen_000001*labelIds.png", 255), {}, r"labelIds\.png holds the id 255"),
    "city, test": ("cityscapes", nothing, {"test": "test"}, r"data\.test=test must be null, or val"),
    "ade, the full set": ("ade20k", renamed("images/training", "t"), {}, r"no folder images/training .*unpack ADEChallengeData2016"),
    "ade, no mask": ("ade20k", drop("annotations/training/ADE_train_00000002.png"), {}, r"ADE_train_00000002\.jpg has no mask"),
    "ade, 151": ("ade20k", spoil("ADE_val_00000001.png", 151), {}, r"ADE_val_00000001\.png holds the id 151 .*hold 0\.\.150"),
    "ade, half a table": ("ade20k", lambda r: (r / ADE / "objectInfo150.txt").write_text("Idx\tName\n1\twall\n"), {},
                          r"objectInfo150\.txt does not name the classes 1 to 150"),
    "pet, no trimap": ("pet", drop("trimaps/Abyssinian_3.png"), {}, r"trainval\.txt lists 'Abyssinian_3', but .*Abyssinian_3\.png does not"),
    "pet, no list": ("pet", drop("test.txt"), {}, r"annotations/test\.txt does not exist"),
    "pet, a 0": ("pet", spoil("trimaps/Abyssinian_7.png", 0), {}, r"Abyssinian_7\.png holds the id 0 .* a trimap holds 1"),
    "pet, share": ("pet", nothing, {"val": 1.0}, r"data\.val=1\.0 must be a share of trainval\.txt"),
    "list, none": ("list", nothing, {"train": None}, r"Name the lists by data\.train"),
    "list, both": ("list", nothing, LIST | ALL, r"Name the lists by data\.train"),
    "list, no file": ("list", nothing, {"train": "trian.csv"}, r"trian\.csv does not exist; correct the path\. Did you mean 'train\.csv'"),
    "list, a table": ("list", renamed("train.csv", "train.xlsx"), {"train": "train.xlsx"}, r"must be a \.csv or \.jsonl file"),
    "list, no column": ("list", line("train.csv", "image,label", 0), LIST, r"train\.csv line 1 has no column 'mask' \(it has image, label\)"),
    "list, semicolons": ("list", line("train.csv", "image;mask", 0), LIST, r"no column 'image' \(it has image;mask\)"),
    "list, a column twice": ("list", line("train.csv", "image,mask,mask", 0), LIST, r"has the column 'mask' twice"),
    "list, a bare comma": ("list", line("train.csv", "day 0/a, 0.jpg,truth/0.png", 3), LIST, r"line 4 has 3 fields, but the first line names 2"),
    "list, a lost quote": ("list", line("train.csv", '"day 0/a, 0.jpg,truth/0.png', 3), LIST, r"line \d+ is not valid CSV"),
    "list, no image": ("list", line("train.csv", "b.jpg,truth/0.png"), LIST, r"train\.csv line 7: the image .*b\.jpg does not exist"),
    "list, an empty field": ("list", line("train.csv", ",truth/0.png"), LIST, r"line 7: 'image' is ''; it must be a text"),
    "list, twice": ("list", line("train.csv", '"day 0/../day 0/a, 0.jpg",truth/1.png'), LIST, r"line 7 lists the image .* again, which .* line 2 has"),
    "list, in two splits": ("list", line("train.csv", '"day 1/a, 7.jpg",truth/1.png'), {}, r"val\.jsonl line 3 lists the image .* again"),
    "list, no json": ("list", line("val.jsonl", "{image: 3}"), {}, r"val\.jsonl line 4 is not valid JSON"),
    "list, no object": ("list", line("val.jsonl", "[1]"), {}, r"val\.jsonl line 4 is not a JSON object"),
    "list, a number": ("list", line("val.jsonl", '{"image": 1.5, "mask": "truth/0.png"}'), {}, r"val\.jsonl line 4: 'image' is 1\.5"),
    "list, a wrong split": ("list", line("all.csv", '"day 1/a, 7.jpg",truth/7.png,p3,tset', 8), ALL, r"all\.csv line 9 has the split 'tset'.*Did you mean 'test'"),
    "list, a leak": ("list", nothing, {"train": "all.csv"}, r"all\.csv line 8 has the split 'validation', but its list is data\.train"),
    "list, half grouped": ("list", line("all.csv", '"day 1/a, 7.jpg",truth/7.png,,val', 8), ALL, r"all\.csv line 9 has no 'group', but"),
    "list, latin": ("list", lambda r: (r / "train.csv").write_bytes("image,mask\nä,b".encode("latin1")), LIST, r"train\.csv cannot be read as UTF-8"),
    "list, empty": ("list", lambda r: (r / "train.csv").write_text("image,mask\n\n"), LIST, r"train\.csv lists no image"),
    "list, nothing": ("list", lambda r: (r / "train.csv").write_text(""), LIST, r"no column 'image' \(it has nothing\)"),
    "list, one name": ("list", lambda r: write_csv(r / "train.csv", [{"image": f"day {n}/a, {n}.jpg", "mask": "truth/0.png", "id": "x"} for n in (0, 1)]), LIST,
                       r"line 3 and .* line 2 both have an image named 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake, tmp_path):
    name, plant, more, message = MISTAKES[mistake]
    BUILD[name](tmp_path)
    plant(tmp_path)
    with pytest.raises(SeglabError, match=message) as error:
        source(name, tmp_path, **more)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith((".", "?"))


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILD)
def test_a_run(name, tmp_path, train):
    BUILD[name](tmp_path)
    named = [f"data.train={tmp_path}/train.csv", f"data.val={tmp_path}/val.jsonl"]
    given = [f"data={name}", *(named if name == "list" else [f"data.root={tmp_path}"])]
    small = ["model=tiny", "data.batch_size=2", "data.num_workers=0", "data.crop=[16,16]", "trainer.max_epochs=1", "logger=none",
             "trainer.accelerator=cpu", "trainer.precision=32-true", "pictures=1"]  # fmt: skip
    asked = ["data.test=val"] if name in ("voc", "cityscapes", "ade20k") else []
    found = train(*given, *small, *asked, tiny=False)
    assert (found["status"], found["choices"]["data"]) == ("finished", name)
    assert found["data"]["classes"] == list(source(name, tmp_path).spec.classes)
    split = "val" if name == "list" else "test"
    assert 0 <= found["metrics"][f"{split}/iou"] < 1
    assert len((found["run"] / "metrics.csv").read_text().splitlines()) == 2
