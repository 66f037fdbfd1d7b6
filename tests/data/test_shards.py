"""Samples in tar shards are those of the same files in a folder; a damaged shard is one sentence, never a lost sample."""

import functools
import http.server
import inspect
import io
import multiprocessing
import shutil
import subprocess
import tarfile
import threading
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from seglab.config import conf_dir
from seglab.data import shards_bytes, shards_index
from seglab.data.folder import Folder
from seglab.data.reading import read_header, read_image, read_mask
from seglab.data.shards import Shards
from seglab.data.shards_bytes import Part, part_of, read_range
from seglab.data.shards_index import index
from seglab.data.shards_names import shards
from seglab.data.shards_tar import LINK, members
from seglab.errors import ConfigError, DataError, SeglabError

RNG = np.random.default_rng(0)
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def coded(array, form="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, form)
    return file.getvalue()


def image(form="JPEG", size=(9, 12)):
    return coded(RNG.integers(0, 256, (*size, 3), np.uint8), form)


def mask(size=(9, 12), values=3):
    return coded(RNG.integers(0, values, size).astype(np.uint8))


def tar(path, entries, form="pax"):
    """A tar of (name, bytes); the bytes of it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=FORMATS[form]) as out:
        for name, data in entries:
            told = tarfile.TarInfo(name)
            told.size = len(data)
            out.addfile(told, io.BytesIO(data))
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())
    return file.getvalue()


def sample(key, mask_name="seg.png"):
    return [(f"{key}.jpg", image()), (f"{key}.{mask_name}", mask()), (f"{key}.json", b"{}")]


@pytest.fixture
def files():
    """{split: {key: (image, mask)}}: some keys in folders."""
    keys = {"train": ["000", "001", "002", "night/003", "night/004"], "val": ["005", "006"], "test": ["007"]}
    return {split: {key: (image(size=(9, 12 + n)), mask((9, 12 + n))) for n, key in enumerate(some)} for split, some in keys.items()}  # fmt: skip


def as_folder(root, files):
    for split, some in files.items():
        for key, (picture, labels) in some.items():
            for kind, data, suffix in (("images", picture, "jpg"), ("masks", labels, "png")):
                path = root / split / kind / f"{key}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    return Folder(root)


def by_tarfile(path, some):
    tar(path, [one for key, (a, b) in some.items() for one in ((f"./{key}.jpg", a), (f"./{key}.seg.png", b))])


def by_webdataset(path, some):
    writer = pytest.importorskip("webdataset", reason="the package webdataset is not installed").TarWriter
    path.parent.mkdir(parents=True, exist_ok=True)
    with writer(str(path)) as out:
        for key, (a, b) in some.items():
            out.write({"__key__": key, "jpg": a, "seg.png": b, "json": {"key": key}})


def alike(ours, theirs):
    assert ours.spec == theirs.spec
    for split in ("train", "val", "test"):
        assert ours.ids(split) == theirs.ids(split)
        assert ours.sizes(split) == theirs.sizes(split)
        for n in range(len(ours.ids(split))):
            a, b = ours.load(split, n), theirs.load(split, n)
            assert a.keys() == b.keys()
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])
            np.testing.assert_array_equal(ours.load_mask(split, n), b["mask"])


@pytest.mark.parametrize("write", [by_tarfile, pytest.param(by_webdataset, marks=pytest.mark.slow)])  # it imports torch
def test_samples_are_those_of_the_same_files_in_a_folder(write, tmp_path, files):
    for split, some in files.items():
        write(tmp_path / f"{split}-000000.tar", dict(list(some.items())[:2]))
        if len(some) > 2:
            write(tmp_path / f"{split}-000001.tar", dict(list(some.items())[2:]))
    ours = Shards(
        train=str(tmp_path / "train-{000000..000001}.tar"), val=str(tmp_path / "val-*.tar"), test=[str(tmp_path / "test-000000.tar")]
    )  # fmt: skip
    theirs = as_folder(tmp_path / "folder", files)
    alike(ours, theirs)
    assert ours.fingerprint() == theirs.fingerprint()


@pytest.mark.slow
def test_shards_of_webdatasets_shard_writer_and_a_split_by_hash(tmp_path, files, caplog):
    wds = pytest.importorskip("webdataset", reason="the package webdataset is not installed")
    some = {f"{n:06d}": (image(), mask()) for n in range(40)}
    with wds.ShardWriter(str(tmp_path / "a-%06d.tar"), maxcount=16, verbose=0) as out:
        for key, (a, b) in some.items():
            out.write({"__key__": key, "jpg": a, "cls.png": b})
    whole = Shards(train=str(tmp_path / "a-*.tar"))
    counts = {split: len(whole.ids(split)) for split in ("train", "val", "test")}
    assert sum(counts.values()) == 40
    assert min(counts.values()) > 0
    part = Shards(train=str(tmp_path / "a-{000000,000001}.tar"))  # a shard less: all other images stay in their splits
    for split in counts:
        assert set(part.ids(split)) == {key for key in whole.ids(split) if int(key) < 32}


FORKED = []


def load_forked(index):
    return FORKED[0].load("train", index)


def test_forked_workers_read_the_same(tmp_path, files):
    by_tarfile(tmp_path / "a.tar", files["train"])
    data = Shards(train=str(tmp_path / "a.tar"), split=(1, 0, 0))
    FORKED.append(data)  # is there when the workers begin, as the data set of a loader is
    with multiprocessing.get_context("fork").Pool(2) as pool:
        theirs = pool.map(load_forked, [n % 5 for n in range(20)])
    FORKED.clear()
    for n, one in enumerate(theirs):
        np.testing.assert_array_equal(one["image"], data.load("train", n % 5)["image"])
        np.testing.assert_array_equal(one["mask"], data.load_mask("train", n % 5))


@pytest.fixture
def remote():
    """A folder of fsspec's that lies in memory."""
    place = f"memory://{uuid.uuid4().hex}"
    yield place
    if fsspec.filesystem("memory").exists(place):
        fsspec.filesystem("memory").rm(place, recursive=True)


def test_an_object_store_is_read_by_ranges(tmp_path, files, remote, monkeypatch):
    places = fsspec.filesystem("memory")
    for split, some in files.items():
        by_tarfile(tmp_path / "one.tar", some)
        padded = (tmp_path / "one.tar").read_bytes()[:-1024] + tar(None, [("zz.bin", bytes(3_000_000))])
        places.pipe(f"{remote}/{split}-0.tar", padded)
    ours = Shards(**{split: f"{remote}/{split}-*.tar" for split in files})
    alike(ours, as_folder(tmp_path / "folder", files))
    asked = []
    real = type(places).cat_file
    monkeypatch.setattr(type(places), "cat_file", lambda self, path, start=None, end=None, **more: asked.append(end - start) or real(self, path, start, end, **more))  # fmt: skip
    again = Shards(**{split: f"{remote}/{split}-0.tar" for split in files})
    assert 0 < sum(asked) < 60_000 + 3 * 512  # headers of images and masks, not the 9 MB of the shards
    asked.clear()
    again.load("val", 1)
    assert sum(asked) == sum(map(len, files["val"]["006"]))
    assert len(asked) == 2
    places.pipe(f"{remote}/val-0.tar", tar(None, sample("009") + sample("008")))
    assert Shards(**{split: f"{remote}/{split}-0.tar" for split in files}).ids("val") == ["008", "009"]


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A server of files that sends the bytes asked for."""

    ranges = True

    def do_GET(self):
        place = Path(self.translate_path(self.path))
        if not place.exists():
            self.send_error(404)
            return
        data = place.read_bytes()
        first, last = self.wanted(len(data))
        part = data[first:last] if self.ranges else data
        self.send_response(206 if self.ranges else 200)
        self.send_header("Content-Length", str(len(part)))
        if self.ranges:
            self.send_header("Content-Range", f"bytes {first}-{last - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(part)

    def wanted(self, length):
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        return int(first), min(int(last) + 1 if last else length, length)

    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path):
    (tmp_path / "served").mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Ranges, directory=str(tmp_path / "served")))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield tmp_path / "served", f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.mark.slow
def test_addresses_of_the_web_are_read_by_forked_workers_too(tmp_path, files, served, monkeypatch):
    pytest.importorskip("aiohttp")
    place, address = served
    for split, some in files.items():
        by_tarfile(place / f"{split}.tar", some)
    ours = Shards(**{split: f"{address}/{split}.tar" for split in files})
    alike(ours, as_folder(tmp_path / "folder", files))
    FORKED.append(ours)  # the connections and the thread that serves them are the parent's; a child makes its own
    with multiprocessing.get_context("fork").Pool(2) as pool:
        theirs = pool.map_async(load_forked, [n % 5 for n in range(20)]).get(60)
    FORKED.clear()
    for n, one in enumerate(theirs):
        np.testing.assert_array_equal(one["image"], ours.load("train", n % 5)["image"])
    with pytest.raises(DataError, match="cannot be used"):
        Shards(train=f"{address}/none.tar")
    monkeypatch.setattr(Ranges, "ranges", False)
    with pytest.raises(
        DataError, match=r"train\.tar!\./000\.jpg cannot be read: the server of train\.tar sends whole files only"
    ):
        ours.load("train", 0)


# the index of a tar

NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=90)


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=6, unique=True),
    form=st.sampled_from(list(FORMATS)),
    data=st.data(),
)
def test_members_are_those_of_tarfile(names, form, data):
    sizes = [data.draw(st.sampled_from([0, 1, 511, 512, 513, 2000])) for _ in names]
    try:
        whole = tar(
            None, [(name, bytes([n + 1]) * size) for n, (name, size) in enumerate(zip(names, sizes, strict=True))], form
        )
    except ValueError:  # ustar holds no such name
        assume(False)
    with tarfile.open(fileobj=io.BytesIO(whole)) as theirs:
        expected = [(one.name, one.offset_data, one.size) for one in theirs.getmembers()]
    found = [tuple(one) for one in members(lambda at, count: whole[at : at + count], len(whole))]
    assert found == expected


def test_links_folders_and_binary_sizes_are_as_in_tarfile():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as out:
        for name, kind, size in (("d", tarfile.DIRTYPE, 0), ("a.png", tarfile.REGTYPE, 700), ("l.png", tarfile.LNKTYPE, 700), ("s", tarfile.SYMTYPE, 0), ("b.png", tarfile.REGTYPE, 3)):  # fmt: skip
            told = tarfile.TarInfo(name)
            told.type, told.linkname, told.size = kind, "a.png" * (30 if kind == tarfile.LNKTYPE else 1), size
            out.addfile(told, io.BytesIO(bytes(size)) if kind == tarfile.REGTYPE else None)
    whole = file.getvalue()
    with tarfile.open(fileobj=io.BytesIO(whole)) as theirs:
        expected = [(one.name, one.offset_data, one.size) for one in theirs.getmembers() if one.isreg()]
    found = list(members(lambda at, count: whole[at : at + count], len(whole)))
    assert [tuple(one) for one in found if one.size != LINK] == expected
    assert [one.name for one in found if one.size == LINK] == ["l.png", "s"]
    before, told = tarfile.TarInfo("pax"), tarfile.TarInfo("p.png")  # of files above 8 GB the ustar header may say 0
    before.type, before.size = b"x", 12
    whole = (
        before.tobuf(tarfile.USTAR_FORMAT) + b"12 size=700\n".ljust(512, b"\0") + told.tobuf(tarfile.USTAR_FORMAT) + bytes(2048)
    )
    assert [(one.name, one.size) for one in members(lambda at, count: whole[at : at + count], len(whole))] == [("p.png", 700)]
    big = tarfile.TarInfo("big.bin")
    big.size = 9 * 2**30
    block = big.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(ValueError, match=r"truncated: 'big\.bin' goes on"):
        list(members(lambda at, count: (block + bytes(1024))[at : at + count], 1536))
    huge = {0: block, 512 + big.size: bytes(512)}  # with such a length it is whole
    [one] = members(lambda at, count: huge[at], big.size + 1536)
    assert one.size == big.size


WHOLE = tar(None, sample("000") + sample("a" * 120) + sample("002"))


@settings(max_examples=80, deadline=None)
@given(cut=st.integers(0, len(WHOLE) - 1))
def test_a_shard_that_broke_off_is_never_read_as_a_shorter_one(cut, tmp_path_factory):
    place = tmp_path_factory.mktemp("cut") / "broken.tar"
    place.write_bytes(WHOLE[:cut])
    end = len(WHOLE.rstrip(b"\0")) // 512 * 512 + 512
    if cut >= end + 512:  # an empty block is left of those that end a tar
        assert len(index(str(place))) == 9
        return
    with pytest.raises(DataError, match=r"The shard .*broken\.tar cannot be used: it is (truncated|empty)") as error:
        index(str(place))
    assert "\n" not in str(error.value)


@settings(max_examples=80, deadline=None)
@given(which=st.integers(0, 8), byte=st.integers(0, 511), flip=st.integers(1, 255))
def test_a_damaged_header_is_found_or_harmless(which, byte, flip):
    good = list(members(lambda at, count: WHOLE[at : at + count], len(WHOLE)))
    bad = bytearray(WHOLE)
    bad[good[which].at - 512 + byte] ^= flip
    try:
        found = list(members(lambda at, count: bytes(bad[at : at + count]), len(bad)))
    except ValueError as error:
        assert f"damaged at byte {good[which].at - 512}" in str(error)
    else:
        assert found == good
        assert 148 <= byte < 156  # the checksum itself can be written in several ways


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=1500), st.booleans())
def test_noise_is_no_tar(noise, long_name):
    head = tarfile.TarInfo("x.jpg")
    head.size, head.type = len(noise), (b"x" if long_name else b"0")
    for data in (noise, head.tobuf(tarfile.USTAR_FORMAT) + noise):
        try:
            found = list(members(lambda at, count, data=data: data[at : at + count], len(data)))
        except ValueError as error:
            assert str(error)
        else:
            assert not data.strip(b"\0") or found is not None


def test_the_index_is_made_once_and_anew_when_the_shard_or_the_index_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shard = tmp_path / "a.tar"
    tar(shard, sample("000") + sample("001"))
    first = index(str(shard))
    [kept] = (tmp_path / "cache/seglab/shards").iterdir()
    assert kept.stat().st_size < 100 * len(first) + 300
    with monkeypatch.context() as patch:
        patch.setattr(shards_index, "members", None)  # not looked at again
        again = index(str(shard))
    assert list(again) == list(first)
    whole = kept.read_bytes()
    for broken in (
        b"",
        whole[:-1],
        whole.replace(b"001", b"002"),
        whole.replace(b'"version": ', b'"version": 9'),
        b"{}\n",
        b"[]\n",
    ):
        assert broken != whole
        kept.write_bytes(broken)
        assert list(index(str(shard))) == list(first)
        assert kept.read_bytes() == whole
    tar(shard, sample("000") + sample("002"))
    assert [one.name for one in index(str(shard))][3] == "002.jpg"
    (tmp_path / "none").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))  # no place to keep it: gone without
    assert len(index(str(shard))) == 6


def test_a_sample_says_when_its_shard_was_written_anew(tmp_path):
    tar(tmp_path / "a.tar", sample("000") + sample("001"))
    data = Shards(train=str(tmp_path / "a.tar"), split=(1, 0, 0))
    stamp = data.stamp("train", 0)
    assert stamp == data.stamp("train", 0) != 0
    tar(tmp_path / "a.tar", sample("000"))
    assert data.stamp("train", 0) != stamp
    with pytest.raises(DataError, match=r"a\.tar!001\.(jpg|seg\.png) cannot be read: "):
        data.load("train", 1)


# locators


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_characters="\0"), max_size=40), st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_locator_is_read_back(name, at, size):
    one = Part("some where/train-0.tar", name, at, size)
    assert part_of(str(one)) == one
    assert part_of("some where/train-0.tar") is None
    assert part_of(f"{name}.png") is None


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("place", ["file", "memory"])
def test_a_part_decodes_as_the_file_does(form, place, tmp_path, remote):
    data = coded(RNG.integers(0, 256, (40, 50, 3), np.uint8), form)
    (tmp_path / "whole").write_bytes(data)
    around = b"before" + data + b"after"
    if place == "file":
        (tmp_path / "a.tar").write_bytes(around)
        part = str(Part(str(tmp_path / "a.tar"), "x", 6, len(data)))
    else:
        fsspec.filesystem("memory").pipe(f"{remote}/a.tar", around)
        part = str(Part(f"{remote}/a.tar", "x", 6, len(data)))
    whole = str(tmp_path / "whole")
    assert read_header(part) == read_header(whole)
    np.testing.assert_array_equal(read_image(part), read_image(whole))
    if form in ("JPEG", "WEBP"):
        with pytest.raises(DataError, match=r"a\.tar!x is (JPEG|WebP), .*compression"):
            read_mask(part)
    else:
        np.testing.assert_array_equal(read_mask(part), read_mask(whole))
    short = str(part_of(part)._replace(size=len(data) // 2))
    for read in (read_header, read_image):
        with pytest.raises(DataError, match=r"a\.tar!x cannot be read"):
            read(short)


def test_a_header_takes_little_of_a_large_part(tmp_path, monkeypatch):
    big = coded(RNG.integers(0, 256, (700, 900, 3), np.uint8))
    (tmp_path / "a.tar").write_bytes(big)
    read = []
    monkeypatch.setattr(shards_bytes, "read_range", lambda path, at, size: read.append(size) or read_range(path, at, size))
    assert read_header(str(Part(str(tmp_path / "a.tar"), "x.png", 0, len(big))))[:2] == (700, 900)
    assert sum(read) < 10_000 < len(big)


# names


def test_braces_are_what_bash_makes_of_them():
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash to compare with")
    for text in (
        "a-{000000..000012}.tar",
        "{8..11}/b.tar",
        "x{a,b,}y-{0..2}.tar",
        "{08..11}.tar",
        "plain.tar",
        "{0..0}{a,b}.tar",
    ):
        told = subprocess.run([bash, "-c", f"echo {text}"], capture_output=True, text=True, check=True).stdout.split()
        assert shards(text, "data.train") == told


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({}, "Name the shards: data.train="),
        ({"train": "{0..3}.tar"}, r"The shard 0\.tar cannot be used: there is no such file"),
        ({"train": "none/*.tar"}, "data.train=none/.* matches no file"),
        ({"train": "a-{5..2}.tar"}, "write the lower number first"),
        ({"train": "{0..9999}{0..999}.tar"}, "more than 1000000"),
        ({"train": "good.tar", "val": "./good.tar"}, "data.train and data.val both name"),
        ({"train": ["good.tar", "good.tar"]}, r"names the shard good\.tar twice"),
        ({"train": "good.tar.gz"}, r"good\.tar\.gz is compressed"),
        ({"train": "good.zip"}, r"good\.zip; the name of a shard ends with \.tar"),
        ({"train": "nowhere://x/a.tar"}, "nowhere"),
        (
            {"train": "good.tar", "mask": "cls.png"},
            r"The sample '000' of good\.tar has no mask cls\.png \(it has jpg, json, seg\.png\)",
        ),
        ({"train": "good.tar", "image": "bmp"}, r"The sample '000' of good\.tar has no image bmp"),
    ],
)
def test_settings_that_cannot_be_meant(setting, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tar(tmp_path / "good.tar", sample("000"))
    with pytest.raises(SeglabError, match=words) as error:
        Shards(**setting)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("000.jpg", image())], r"'000' of bad\.tar has no mask \(it has jpg\)"),
        ([("000.seg.png", mask())], r"'000' of bad\.tar has no image \(it has seg\.png\)"),
        ([*sample("0"), ("0.jpg", image())], r"holds '0\.jpg' twice"),
        ([*sample("0"), *sample("1"), ("0.cls", b"1")], r"'0' of bad\.tar comes a second time"),
        ([("0.png", mask()), ("0.tif", mask())], "has no mask"),
        ([("0.jpg", image()), ("0.seg.png", mask()), ("0.mask.png", mask())], r"each of which may be the mask; name one by data\.mask="),
        ([("0.jpg", image()), ("0.webp", image()), ("0.mask.png", mask())], r"each of which may be the image; name one by data\.image="),
        ([("../../0.jpg", image()), ("../../0.png", mask())], "leads outside"),
        ([("/etc/0.jpg", image()), ("/etc/0.png", mask())], "leads outside"),
        ([("readme", b"hello"), (".hidden.jpg", image())], "holds no sample"),
        ([("0.jpg", image()), ("0.png", mask((3, 4)))], r"bad\.tar!0\.png.* is 3 x 4"),
        ([("0.jpg", image()), ("0.seg.png", b"no image")], r"bad\.tar!0\.seg\.png cannot be read: its content"),
        ([("0.jpg", image()), ("0.seg.png", mask()[:40])], r"bad\.tar!0\.seg\.png cannot be read: .*truncated"),
        ([("0.png", image("PNG")), ("0.mask.jpg", image())], r"bad\.tar!0\.mask\.jpg.* is JPEG"),
    ],
)  # fmt: skip
def test_shards_that_cannot_be_used(entries, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tar(tmp_path / "bad.tar", entries)
    with pytest.raises(DataError, match=words) as error:
        Shards(train="bad.tar")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("kind", "command"), [("gz", "gunzip"), ("bz2", "bunzip2"), ("xz", "unxz")])
def test_a_compressed_tar_by_any_name_is_refused(kind, command, tmp_path):
    with tarfile.open(tmp_path / "a.tar", f"w:{kind}") as out:
        out.addfile(tarfile.TarInfo("0.jpg"))
    with pytest.raises(DataError, match=rf"a\.tar cannot be used: it is compressed.*unpack it \({command}\)"):
        index(str(tmp_path / "a.tar"))


def test_a_key_that_two_shards_have(tmp_path):
    for name in "ab":
        tar(tmp_path / f"{name}.tar", sample("7"))
    with pytest.raises(DataError, match=r"The key '7' stands in .*a\.tar and in .*b\.tar"):
        Shards(train=str(tmp_path / "{a,b}.tar"))
    apart = Shards(train=str(tmp_path / "a.tar"), val=str(tmp_path / "b.tar"))  # as for folders, names are those of a split
    assert apart.ids("train") == apart.ids("val") == ["7"]


@pytest.mark.parametrize(
    ("there", "told", "expected"),
    [
        ("jpg seg.png json txt", {}, "jpg seg.png"),
        ("png mask.png", {}, "png mask.png"),
        ("JPG PNG", {}, "jpg png"),
        ("image.tif label.tif cls", {}, "image.tif label.tif"),
        ("rgb.png gt.png depth.png", {"image": "rgb.png"}, "rgb.png gt.png"),
        ("jpg left.png right.png", {"mask": "right.png", "image": "jpg"}, "jpg right.png"),
        ("jpg png", {"image": "png", "mask": "jpg"}, None),
        ("webp png", {"image": "jpg;webp"}, "webp png"),
    ],
)
def test_which_member_is_what(there, told, expected, tmp_path):
    forms = {"jpg": "JPEG", "tif": "TIFF", "webp": "WEBP"}
    kinds = there.split()
    tar(
        tmp_path / "a.tar",
        [(f"k.{e}", coded(RNG.integers(0, 3, (5, 6), np.uint8), forms.get(e.lower().split(".")[-1], "PNG"))) for e in kinds],
    )
    if expected is None:  # what was told is followed, and the reader refuses a JPEG
        with pytest.raises(DataError, match="is JPEG"):
            Shards(train=str(tmp_path / "a.tar"), split=(1, 0, 0), **told)
        return
    [pair] = Shards(train=str(tmp_path / "a.tar"), split=(1, 0, 0), **told).pairs["train"]
    names = [part_of(path).name.lower().removeprefix("k.") for path in (pair.image, pair.mask)]
    assert names == expected.split()


def test_the_yaml_has_the_arguments_with_their_defaults():
    node = yaml.safe_load((conf_dir() / "data/webdataset.yaml").read_text())
    assert node.pop("defaults") == [{"/loader@_here_": "default"}]
    assert node.pop("_target_") == f"{Shards.__module__}.{Shards.__name__}"
    expected = {k: p.default for k, p in inspect.signature(Shards).parameters.items()}
    assert node == {k: list(v) if isinstance(v, tuple) else v for k, v in expected.items()}


def test_classes_stand_beside_the_first_shard(tmp_path):
    tar(tmp_path / "a.tar", sample("0") + sample("1"))
    (tmp_path / "classes.json").write_text('{"classes": ["sky", "road", "tree"], "ignore_index": 9}')
    data = Shards(train=str(tmp_path / "a.tar"), split=(1, 0, 0))
    assert (data.spec.classes, data.spec.ignore_index) == (("sky", "road", "tree"), 9)
    with pytest.raises(ConfigError, match=r"data\.mean and data\.std"):
        Shards(train=str(tmp_path / "a.tar"), mean=(0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("kind", "which"), [(tarfile.SYMTYPE, "1.jpg"), (tarfile.LNKTYPE, "1.seg.png"), (tarfile.LNKTYPE, "both")]
)
def test_links_in_place_of_samples_are_refused_and_others_left_out(kind, which, tmp_path):
    def packed(linked):
        with tarfile.open(tmp_path / "a.tar", "w") as out:
            for name, data in [*sample("0"), *sample("1"), ("1.txt", b"one"), *sample("2")]:
                told = tarfile.TarInfo(name)
                if name in linked:
                    told.type, told.linkname = kind, "0" + name[1:]
                else:
                    told.size = len(data)
                out.addfile(told, io.BytesIO(data))

    packed(["1.jpg", "1.seg.png"] if which == "both" else [which])
    for _ in range(2):  # made, and recalled
        with pytest.raises(DataError, match=r"The sample '1' of .*a\.tar: '1\.\S+' is a link; .*dereference") as error:
            Shards(train=str(tmp_path / "a.tar"))
        assert "\n" not in str(error.value)
    packed(["1.txt"])
    assert sorted(id for s in ("train", "val", "test") for id in Shards(train=str(tmp_path / "a.tar")).ids(s)) == [
        "0",
        "1",
        "2",
    ]


def test_what_webdataset_takes_for_notes_is_left_out(tmp_path):
    notes = [("__meta__/0.jpg", image()), ("__meta__", b"{}"), ("__index__/a/b.png", mask()), ("__meta__.json", b"{}")]
    tar(tmp_path / "a.tar", [notes[0], *sample("__0/1"), *notes[1:], *sample("x/__meta__/2")])
    found = Shards(train=str(tmp_path / "a.tar"))
    assert sorted(id for s in ("train", "val", "test") for id in found.ids(s)) == ["__0/1", "x/__meta__/2"]


def test_messages_name_members_as_people_know_them(tmp_path):
    tar(tmp_path / "a.tar", [("0.jpg", image()), ("0.png", mask((3, 4)))])
    with pytest.raises(DataError, match=r"a\.tar!0\.png is 3 x 4 .* its image \S+a\.tar!0\.jpg is 9 x 12;"):
        Shards(train=str(tmp_path / "a.tar"))
