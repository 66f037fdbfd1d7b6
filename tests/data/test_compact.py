"""A compact sequence is the list of its items; batches and parts made of arrays are those that lists gave."""

import pickle
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seglab.data import compact
from seglab.data.compact import Joined, Sizes, Texts, array_of, even
from seglab.data.folder_scan import _SCAN, Scan, Scans
from seglab.data.layout import Pair, Pairs, hashed
from seglab.data.reading import Header
from seglab.data.sampling import EvalBatches
from seglab.data.selection import _ranks

texts = st.lists(st.text(st.characters(), max_size=8), max_size=12)  # halves of surrogate pairs among them


@settings(max_examples=60, deadline=None)
@given(texts, st.data())
def test_texts_are_the_list(items, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "_CHUNK", 3)
        made = Texts(items)
        assert made == items
        assert items == made
        assert list(made) == [made[n] for n in range(len(items))] == items
        assert made[1:-1] == items[1:-1]
        assert (repr(made), bool(made)) == (repr(items), bool(items))
        assert (made + items, items + made) == (items + items, items + items)
        assert [items[n] for n in made.order()] == sorted(items)
        places = data.draw(st.lists(st.integers(0, len(items) - 1), max_size=9)) if items else []
        assert made.take(np.array(places, np.int64)) == [items[n] for n in places]
        assert pickle.loads(pickle.dumps(made)) == items
        other = data.draw(texts)
        assert (made == Texts(other)) == (items == other)
        made.extend(other)
        assert made == [*items, *other]


def test_a_position_that_is_not_there_is_an_error():
    for at in (2, -3):
        with pytest.raises(IndexError):
            Texts(["a", "b"])[at]
    assert Texts(["a", "b"])[-1] == "b"
    assert Texts(["a"]) != "a"


def test_paths_are_joined_to_their_folder_as_os_path_does():
    made = Texts(["a/b.png", "/c.png", "../d.png"], folder="here")
    assert made == ["here/a/b.png", "/c.png", "here/../d.png"]
    assert made.take(np.array([1, 0])) == ["/c.png", "here/a/b.png"]


@given(st.lists(st.lists(st.integers(), max_size=4), max_size=5))
def test_joined_is_one_after_the_other(parts):
    flat = [item for part in parts for item in part]
    made = Joined(parts)
    assert (list(made), [made[n] for n in range(len(flat))], len(made)) == (flat, flat, len(flat))


def test_pairs_sizes_and_scans_give_back_what_they_were_made_of():
    pairs = [Pair(f"é{n}", f"i/{n}.png", f"m/{n}.png") for n in range(5)]
    assert Pairs.of(pairs) == pairs
    assert Pairs.of(pairs).take(np.array([3, 1])) == [pairs[3], pairs[1]]
    sizes = [(4, 6), (8, 2), (4, 6)]
    assert Sizes(sizes) == sizes
    assert Sizes(sizes).distinct() == set(sizes)
    assert Sizes([]) == []
    assert array_of(sizes).tolist() == array_of(Sizes(sizes)).tolist()
    found = [
        Scan(Header(4, 6, 3, 1, True, "uint16", "png"), Header(4, 6, 1, 1, False, "uint8", "tiff"), (12, n)) for n in (7, 2**40)
    ]
    assert repr(Scans(np.array(found, _SCAN))) == repr(found)  # fingerprints are made of it


@given(st.integers(0, 40), st.integers(2, 12))
def test_an_even_sample_has_both_ends(length, count):
    found = even(length, count).tolist()
    assert found == sorted(set(found))
    assert len(found) == min(length, count)
    assert found[:1] + found[-1:] == ([0, length - 1] if length else [])
    if len(found) > 2:
        assert max(np.diff(found)) - min(np.diff(found)) <= 1


@given(st.lists(st.sampled_from([(4, 4), (4, 6), (8, 8), (6, 4)]), max_size=40), st.integers(1, 7))
def test_batches_of_evaluation_are_those_of_lists(sizes, batch_size):
    by_size = defaultdict(list)
    for index, size in enumerate(sizes):
        by_size[size].append((0, index))
    expected = [some[at : at + batch_size] for some in by_size.values() for at in range(0, len(some), batch_size)]
    assert list(EvalBatches(Sizes(sizes), batch_size)) == list(EvalBatches(sizes, batch_size)) == expected


@pytest.mark.parametrize("collide", [False, True])
@given(labels=st.lists(st.sampled_from("abcdefghij"), max_size=30), seed=st.integers(0, 3))
def test_ranks_are_the_order_by_hash_and_label(collide, labels, seed):
    def of(name):
        return round(hashed(name), 1) if collide else hashed(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seglab.data.selection.hashed", of)
        ranks = _ranks(labels, seed).tolist()
    key = [(of(f"{seed}/{label}"), label) for label in labels]
    positions = range(len(labels))
    assert all((ranks[a] < ranks[b]) == (key[a] < key[b]) for a in positions for b in positions)
