"""A cache gives what the data set gives, whoever filled it; what is torn, changed or too much is never given."""

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from seglab.data.cache import Cached, cached
from seglab.data.cells import Cells
from seglab.data.folder import Folder
from seglab.data.store import Store
from seglab.errors import ConfigError, DataError

kinds = st.sampled_from([np.uint8, np.int32, np.int64, np.float32, np.bool_])
values = st.one_of(kinds.flatmap(lambda kind: arrays(kind, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))),
                   st.text(st.characters(exclude_categories=["Cs"])), st.tuples(st.integers(0, 9), st.integers(0, 9)))  # fmt: skip


def same(one, other):
    assert list(one) == list(other)
    for key, value in one.items():
        if isinstance(value, np.ndarray):
            assert value.dtype == other[key].dtype
            assert np.array_equal(value, other[key], equal_nan=value.dtype.kind == "f")
            assert other[key].shape == value.shape
        else:
            assert value == other[key]


@settings(max_examples=40, deadline=None)
@given(contents=st.lists(st.dictionaries(st.sampled_from("abcd"), values), max_size=6))
def test_a_store_gives_back_what_was_put(tmp_path_factory, contents):
    store = Store(tmp_path_factory.mktemp("store"), len(contents) + 1, 10**9)
    for number, content in enumerate(contents):
        store.put(number, 7, content)
    store.flush()
    again = Store(store.folder, len(contents) + 1, 10**9)
    for number, content in enumerate(contents):
        for one in (store, again):
            same(content, one.get(number, 7))
            assert one.get(number, 8) is None
    assert again.get(len(contents), 7) is None


def test_the_last_put_counts_and_parts_can_be_asked_for(tmp_path):
    store = Store(tmp_path, 1, 10**9)
    store.put(0, 1, {"image": np.zeros(9), "mask": np.ones(3)})
    store.put(0, 2, {"image": np.ones(9), "mask": np.zeros(2)})
    store.flush()
    assert store.get(0, 1) is None
    assert store.get(0, 2, only=("mask",))["mask"].tolist() == [0, 0]
    assert list(store.get(0, 2, only=("mask",))) == ["mask"]


@pytest.mark.parametrize("cut", [1, 100, 4000])
def test_a_torn_or_damaged_record_is_not_given(tmp_path, cut):
    store = Store(tmp_path, 2, 10**9)
    store.put(0, 1, {"image": np.arange(1000)})
    store.put(1, 1, {"image": np.arange(1000)})
    store.flush()
    size = (tmp_path / "data").stat().st_size
    os.truncate(tmp_path / "data", size - cut)
    fresh = Store(tmp_path, 2, 10**9)
    assert fresh.get(1, 1) is None
    assert fresh.get(0, 1)["image"][-1] == 999
    with (tmp_path / "data").open("r+b") as file:
        file.seek(600)
        file.write(b"\xff")
    assert Store(tmp_path, 2, 10**9).get(0, 1) is None


def test_a_full_store_keeps_what_it_has(tmp_path):
    store = Store(tmp_path, 3, 2000)
    for number in range(3):
        store.put(number, 0, {"image": np.full(700, number, np.uint8)})
        store.flush()
    assert [store.get(n, 0) is not None for n in range(3)] == [True, True, False]
    assert store.full
    assert (tmp_path / "data").stat().st_size <= 2000


def test_what_is_changed_before_it_is_written_is_not_found(tmp_path, monkeypatch):
    store, go = Store(tmp_path, 2, 10**9), threading.Event()
    write = Store.write
    monkeypatch.setattr(Store, "write", lambda self, *record: go.wait(30) and write(self, *record))
    array = np.arange(1000)
    store.put(0, 1, {"image": array})
    store.put(1, 1, {"image": np.arange(1000)})
    array[7] = 0  # a transform may write into what it was given
    assert store.get(0, 1) is None
    go.set()
    store.flush()
    assert store.get(0, 1) is None
    assert store.get(1, 1)["image"].tolist() == list(range(1000))
    store.put(0, 1, {"image": np.arange(5)})
    store.flush()
    assert len(store.get(0, 1)["image"]) == 5


def test_a_forked_process_writes_by_itself(tmp_path):
    store = Store(tmp_path, 60, 10**9)
    store.put(59, 5, {"image": np.zeros(3)})
    store.flush()
    child = get_context("fork").Process(target=fill, args=(tmp_path, 0))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert [n for n in range(60) if store.get(n, 5)] == [n for n in range(60) if n % 3 or n == 59]


def fill(folder, worker):
    store = Store(folder, 60, 10**9)
    for number in range(60):
        if number % 3 != worker:
            store.put(number, 5, {"image": np.full((number + 1, 11), number, np.int32)})
    store.flush()


def test_processes_that_fill_one_store_at_once_do_not_mix_their_records(tmp_path):
    context = get_context("fork")
    workers = [context.Process(target=fill, args=(tmp_path, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    store = Store(tmp_path, 60, 10**9)
    for number in range(60):
        same({"image": np.full((number + 1, 11), number, np.int32)}, store.get(number, 5))


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_cached_data_set_is_the_data_set(tmp_path, kind, monkeypatch):
    source = Cells(48, 3, 2, 2)
    held = cached(source, kind, str(tmp_path) if kind == "disk" else None)
    loaded = []
    monkeypatch.setattr(Cells, "load", lambda self, split, n, _real=Cells.load: loaded.append(n) or _real(self, split, n))
    for _ in range(3):
        for split in ("train", "val", "test"):
            for n in range(len(source.ids(split))):
                same(source.load(split, n), held.load(split, n))
                held._store.flush()
                assert np.array_equal(held.load_mask(split, n), source.load_mask(split, n))
                held.load(split, n)["image"][:] = 0  # a transform may write into what it was given
    assert held.fingerprint() == source.fingerprint()
    assert len(loaded) == 3 * 7 + 7 + 3 * 7  # asked here; once by the cache; by Cells.load_mask here


def test_a_file_that_changed_is_read_again(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / "d" / "train" / part).mkdir(parents=True)
        Image.new("RGB" if part == "images" else "L", (8, 8)).save(tmp_path / "d" / "train" / part / "a.bmp")
    told = {"classes": ["sky", "road"], "mean": (0.5,) * 3, "std": (0.5,) * 3}
    held = cached(Folder(tmp_path / "d", **told), "disk", str(tmp_path / "cache"))
    assert held.load("train", 0)["mask"].max() == 0
    Image.new("L", (8, 8), 1).save(tmp_path / "d" / "train" / "masks" / "a.bmp")
    os.utime(tmp_path / "d" / "train" / "masks" / "a.bmp", ns=(1, 1))
    assert held.load("train", 0)["mask"].min() == 1
    held._store.flush()
    later = cached(Folder(tmp_path / "d", **told), "disk", str(tmp_path / "cache"))
    assert isinstance(later, Cached)
    assert later._store.get(0, later.stamp("train", 0)) is not None  # a later run finds it


@pytest.mark.parametrize("ending", ["exit", "kill"])
def test_memory_is_given_back(ending):
    """At the end of the process; of a killed one by the next."""
    code = (
        "import sys, time; from seglab.data.cache import cached; from seglab.data.cells import Cells;"
        "held = cached(Cells(48, 2, 0, 0), 'ram'); held.load('train', 0); held._store.flush(); print(held._store.folder, flush=True);"
        f"{'time.sleep(60)' if ending == 'kill' else ''}"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    folder = child.stdout.readline().strip()
    if ending == "kill":
        assert os.path.getsize(f"{folder}/data") > 0
        child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    cached(Cells(48, 1, 0, 0), "ram")
    deadline = time.monotonic() + 5
    while os.path.exists(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(folder)


def test_impossible_settings_are_named(tmp_path):
    with pytest.raises(ConfigError, match="cache_gb is 0"):
        cached(Cells(48), "ram", cache_gb=0)
    with pytest.raises(ConfigError, match=r"cache_dir is for data\.cache=disk"):
        cached(Cells(48), "ram", "here")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be kept in"):
        cached(Cells(48), "disk", str(tmp_path / "file"))


@pytest.mark.slow
def test_a_run_is_the_same_with_every_cache(train, tmp_path):
    runs = [train("trainer.max_epochs=2", f"data.num_workers={n}", f"data.cache={kind}", *more, folder=f"{kind}{n}")
            for kind, more in (("none", []), ("ram", []), ("disk", [f"data.cache_dir={tmp_path / 'c'}"])) for n in (0, 2)]  # fmt: skip
    tables = {(run["run"] / "metrics.csv").read_text() for run in runs}
    assert len(tables) == 1
    assert len({str(run["metrics"]) for run in runs}) == 1
