"""The scores of objects against pycocotools, against loops over pixels, and against their own laws."""

import json
import os
import pickle
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from object_scenes import (
    IGNORE,
    add,
    cases,
    measure,
    quick,
    rectangles,
    scene,
    some,
    spec_of,
    tables_of,
    values_of,
)

from seglab import rle
from seglab.errors import ConfigError
from seglab.metrics import objects
from seglab.metrics.instances import InstanceScores, _line, _scene
from seglab.types import Instances


def matchings(allowed, row=0, taken=()):
    """Every one-to-one choice of allowed pairs, as a list of (row, column)."""
    if row == len(allowed):
        yield []
        return
    for rest in matchings(allowed, row + 1, taken):
        yield rest
    for column in np.flatnonzero(allowed[row]) if len(allowed) else []:
        if column not in taken:
            for rest in matchings(allowed, row + 1, (*taken, column)):
                yield [(row, column), *rest]


def loops(images, segments, k):
    """Headline and per class from decoded masks, by the words of objects.py and no code of it."""
    sums = {c: {"pq": [0, 0, 0, 0], "aji": [], **{t: [0, 0, 0] for t in (5, 6, 7, 8, 9)}} for c in range(1, k)}
    for (found, truth, target), parts in zip(images, segments, strict=True):
        parts = found if parts is None else parts
        void = target == IGNORE
        for true in rle.decode(truth.rles, truth.size):
            void &= ~true
        for c, total in sums.items():
            one = zip(rle.decode(truth.rles, truth.size), truth.labels, truth.crowd, strict=True)
            mine = [(mask, crowd) for mask, label, crowd in one if label == c]
            true = [mask for mask, crowd in mine if not crowd and mask.any()]
            forgiven = void.copy()
            for mask, crowd in mine:
                forgiven |= mask & crowd
            whole = [
                m for m, label in zip(rle.decode(parts.rles, parts.size), parts.labels, strict=True) if label == c and m.any()
            ]
            out = [(m & forgiven).sum() > m.sum() / 2 for m in whole]
            segs = [m & ~void for m in whole]
            iou = [[Fraction(int((s & t).sum()), int((s | t).sum())) for t in true] for s in segs]
            errors = lambda used: sum(not out[s] for s in range(len(segs)) if s not in used)  # noqa: E731, B023
            for t in (5, 6, 7, 8, 9):
                allowed = [[x >= Fraction(t, 10) for x in row] for row in iou]
                best = max(matchings(allowed), key=lambda m: (len(m), -errors({s for s, _ in m})))
                counts = len(best), errors({s for s, _ in best}), len(true) - len(best)
                total[t] = [a + b for a, b in zip(total[t], counts, strict=True)]
            allowed = [[x > Fraction(1, 2) for x in row] for row in iou]
            best = max(matchings(allowed), key=lambda m: sum(iou[s][t] for s, t in m))
            counts = float(sum(iou[s][t] for s, t in best)), len(best), errors({s for s, _ in best}), len(true) - len(best)
            total["pq"] = [a + b for a, b in zip(total["pq"], counts, strict=True)]
            total["aji"] += [loop_aji(segs, true, iou, out)]
    table = {}
    for c, total in sums.items():
        row = {f"f1_{t}0": 2 * a / (2 * a + b + m) if a + b + m else np.nan for t, (a, b, m) in list(total.items())[2:]}
        kept = [x for x in total["aji"] if x is not None]
        iou, tp, fp, fn = total["pq"]
        n = tp + fp / 2 + fn / 2
        quality = {"pq": iou / n, "sq": iou / tp if tp else 0, "rq": tp / n} if n else dict.fromkeys(("pq", "sq", "rq"), np.nan)
        table[f"c{c}"] = {**row, "aji": np.mean(kept) if kept else np.nan, **quality}
    columns = {name: [row[name] for row in table.values() if row[name] == row[name]] for name in objects.NAMES}
    return {name: np.mean(column) if column else np.nan for name, column in columns.items()}, table


def loop_aji(segs, true, iou, out):
    intersection = union = 0
    taken = set()
    for t, mask in enumerate(true):
        ranked = [iou[s][t] for s in range(len(segs))]
        if ranked and max(ranked) > 0:
            s = ranked.index(max(ranked))
            taken.add(s)
            intersection += (segs[s] & mask).sum()
            union += (segs[s] | mask).sum()
        else:
            union += mask.sum()
    union += sum(m.sum() for s, m in enumerate(segs) if s not in taken and not out[s])
    return intersection / union if union else None


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [False, True])
def test_f1_aji_and_pq_equal_loops_over_pixels(overlap):
    seen = dict.fromkeys(objects.NAMES, 0)
    for seed in range(150):
        rng = np.random.default_rng(seed)
        k, size = 2 + seed % 3, tuple(rng.integers(6, 16, 2))
        images = [scene(rng, k, size, 5, 9, overlap=overlap, void=seed % 3 > 0) for _ in range(rng.integers(1, 4))]
        parts = [None] * len(images)
        if seed % 2:  # segments of their own, not the objects found
            parts = [scene(rng, k, size, 5, 9, overlap=overlap)[0] for _ in images]
            parts[0] = images[0][1]._replace(crowd=np.zeros(len(images[0][1].rles), bool))
        metric = measure(spec_of(k), images, [f if p is None else p for (f, _, _), p in zip(images, parts, strict=True)])
        total, table = loops(images, parts, k)
        mine, rows = values_of(metric), metric.per_class()
        np.testing.assert_allclose([mine[n] for n in total], list(total.values()), rtol=1e-12, err_msg=f"set {seed}")
        for name, row in table.items():
            shown = ("f1_50", "pq", "aji")
            np.testing.assert_allclose([rows[name][n] for n in shown], [row[n] for n in shown], rtol=1e-12)
            true = sum(int((t.labels[~t.crowd] == int(name[1:])).sum()) for _, t, _ in images)
            assert rows[name]["objects"] == true
        for name in seen:
            seen[name] += 0 < mine[name] < 1
    assert min(seen.values()) >= 20, seen


def line(*spans, length=12):
    """Masks in a strip of pixels, by first and end."""
    masks = np.zeros((len(spans), 1, length), bool)
    for mask, (first, end) in zip(masks, spans, strict=True):
        mask[0, first:end] = True
    return masks


def strip(found, truth, crowd=None, void=(0, 0), labels=None):
    target = np.where(line(void)[0], IGNORE, 0)
    ones = lambda masks: [1] * len(masks)  # noqa: E731
    return (
        some(line(*found), labels or ones(found), size=(1, 12)),
        some(line(*truth), ones(truth), crowd=crowd, size=(1, 12)),
        target,
    )


def test_values_known_by_hand():
    # Objects 0-4 and 4-8, segments 0-4 and 3-9: IoU 1 and 4/6.
    got = values_of(measure(spec_of(2), [strip([(0, 4), (3, 9)], [(0, 4), (4, 8)])]))
    assert [got[f"f1_{t}0"] for t in (5, 6, 7, 8, 9)] == [1, 1, 0.5, 0.5, 0.5]
    assert got["pq"] == pytest.approx((1 + 4 / 6) / 2)
    assert got["aji"] == pytest.approx((4 + 4) / (4 + 6))
    # One segment over two objects is taken twice: 2 * 3 shared pixels, 2 * 6 of unions.
    assert values_of(measure(spec_of(2), [strip([(0, 6)], [(0, 3), (3, 6)])]))["aji"] == 6 / 12
    # Three quarters in void, or in a crowd of the class: no false positive. (COCO asks anew at each IoU; 0.75 answers six.)
    found = [(0, 4), (8, 12)]
    for case in (strip(found, [(8, 12)], void=(1, 4)), strip(found, [(8, 12), (1, 4)], crowd=[False, True])):
        got = values_of(measure(spec_of(2), [case]))
        assert [got[n] for n in ("f1_90", "aji", "pq", "ap75")] == [1, 1, 1, 1]
        assert got["ap"] == pytest.approx((6 * 1 + 4 * 0.5) / 10)
    # Half in void is not more than half: its two other pixels count.
    half = strip([(0, 4), (8, 12)], [(8, 12)], void=(2, 4))
    assert [values_of(measure(spec_of(2), [half]))[n] for n in ("f1_50", "aji")] == [pytest.approx(2 / 3), 4 / 6]


def test_most_pairs_not_the_best_one():
    # Segment 0 fits both objects, segment 1 only the first: who takes the largest IoU first finds one pair.
    case = strip([(1, 8), (0, 4)], [(0, 8), (3, 11)])
    pairing = objects.pair(measure(spec_of(2), [case])._scenes()[0], 1)
    np.testing.assert_array_equal(pairing.shared / pairing.unions, [[7 / 8, 5 / 10], [4 / 8, 1 / 11]])
    assert values_of(measure(spec_of(2), [case]))["f1_50"] == 1


def test_a_pair_is_not_spent_on_a_segment_that_is_excused():
    # Each segment is half of the object; the first, three quarters in a crowd, is no error where the second takes it.
    case = strip([(0, 4), (4, 8)], [(0, 8), (0, 3)], crowd=[False, True])
    assert values_of(measure(spec_of(2), [case]))["f1_50"] == 1


@quick
@given(st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_order_batches_repeats_and_replicas_do_not_matter(seed, random):
    images = cases(seed)
    segments = [f for f, _, _ in cases(seed + 1, overlap=False)]
    whole = tables_of(measure(spec_of(3), images, segments))
    order = [*range(4), random.randrange(4)]
    random.shuffle(order)
    one, two = InstanceScores(spec_of(3)), InstanceScores(spec_of(3))
    add(one, images, order[:2], segments)
    found, truth, target = zip(*(images[i] for i in order[2:]), strict=True)
    target = torch.from_numpy(np.stack(target))
    two.update(target, target, torch.tensor(order[2:]), list(found), list(truth), [segments[i] for i in order[2:]])
    one.merge_state(two)
    np.testing.assert_equal(tables_of(one), whole)


def test_of_two_answers_for_one_image_the_same_is_kept_in_any_order():
    answers = [strip([(0, 4)], [(0, 4)]), strip([(0, 3)], [(0, 4)])]
    scores = []
    for order in ([0, 1], [1, 0]):
        metric = InstanceScores(spec_of(2))
        for i in order:
            add(metric, [answers[i]], [0])
        scores.append(metric.compute()["aji"])
    assert scores[0] == scores[1]


def ranks(metric, other, first):
    """As if `metric` were one of two processes, the other holding `other`'s lines."""

    def gather(mine, group=None):
        assert mine.dtype == torch.uint8  # the others would read float32 as bytes
        theirs = torch.cat([torch.zeros(0, dtype=torch.uint8), *other.lines])
        return [mine, theirs] if first else [theirs, mine]

    metric.dist_sync_fn, metric.distributed_available_fn = gather, lambda: True
    return metric


@pytest.mark.parametrize("shares", [([0, 2, 4], [1, 3, 0]), ([0, 1, 2, 3, 4], []), ([], [4, 2, 3, 1, 0])])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_two_ranks_equal_one(shares, first):
    images = cases(7, 5)
    metric, other = InstanceScores(spec_of(3)), InstanceScores(spec_of(3))
    add(metric, images, shares[0])
    add(other, images, shares[1])
    before = sum(len(x) for x in metric.lines)
    np.testing.assert_equal(tables_of(ranks(metric, other, first)), tables_of(measure(spec_of(3), images)))
    assert sum(len(x) for x in metric.lines) == before, "the rank's own state is back after compute"


REPLICA = """
import os, sys, numpy as np, torch, torch.distributed as dist
sys.path[:0] = [os.environ["TESTS"]]
from object_scenes import InstanceScores, add, cases, measure, spec_of, tables_of
rank = int(os.environ["RANK"])
images = cases(7, 5)
alone = tables_of(measure(spec_of(3), images))
dist.init_process_group("gloo", init_method="file://" + os.environ["STORE"], rank=rank, world_size=2)
for shares in ([0, 2, 4], [1, 3, 0]), ([0, 1, 2, 3, 4], []):
    metric = InstanceScores(spec_of(3))
    add(metric, images, shares[rank])
    np.testing.assert_equal(tables_of(metric), alone)
print("same")
"""


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    env = {**os.environ, "STORE": str(tmp_path / "store"), "OMP_NUM_THREADS": "1", "TESTS": os.path.dirname(__file__)}
    run = lambda rank: subprocess.Popen(  # noqa: E731
        [sys.executable, "-W", "ignore", "-c", REPLICA],
        env={**env, "RANK": rank},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for process in [run("0"), run("1")]:
        out, err = process.communicate(timeout=120)
        assert out.strip() == "same", err


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_to_score_is_nan():
    empty = some([], [], size=(1, 12))
    found, truth, blank = strip([(0, 4)], [(0, 4)])
    for metric in (InstanceScores(spec_of(3)), measure(spec_of(3), [(empty, empty, blank)])):
        assert all(np.isnan(v) for v in values_of(metric).values())
        assert metric.per_class()["c2"].pop("objects") == 0
    wrong = values_of(measure(spec_of(3), [(found, empty, blank)]))  # found, but nothing is true: COCO has no AP then
    assert {n for n, v in wrong.items() if v == 0} == set(objects.NAMES)
    assert {n for n, v in wrong.items() if np.isnan(v)} == set(InstanceScores.names) - set(objects.NAMES)
    missed = values_of(measure(spec_of(3), [(empty, truth, blank)]))
    assert {n for n, v in missed.items() if np.isnan(v)} == {"ap_medium", "ap_large"}
    assert {v for v in missed.values() if v == v} == {0}
    table = measure(spec_of(3), [(found, truth, blank)]).per_class()
    assert list(table) == ["c1", "c2"]
    assert table["c1"] == {"ap": 1, "ap50": 1, "box_ap": 1, "f1_50": 1, "pq": 1, "aji": 1, "objects": 1}
    assert np.isnan(table["c2"]["pq"])


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_data_without_instances_and_batches_without_objects_score_nothing():
    image = strip([(0, 4)], [(0, 4)])
    for metric in (measure(spec_of(3, instances=False), [image]), InstanceScores(spec_of(3))):
        metric.update(torch.zeros(1, 1, 12), torch.zeros(1, 1, 12), torch.tensor([0]))
        assert not metric.lines
        assert tuple(values_of(metric)) == InstanceScores.names
        assert all(np.isnan(v) for v in values_of(metric).values())
    assert measure(spec_of(3, instances=False), [image]).per_class() == {}


def test_the_truth_scores_one_everywhere():
    rng = np.random.default_rng(3)
    images = []
    for _ in range(3):
        masks, labels = np.zeros((4, 130, 260), bool), np.array([1, 2, 1, 2])
        for mask, (y, x, side) in zip(masks, [(2, 0, 120), (0, 130, 50), (60, 130, 60), (80, 200, 9)], strict=True):
            mask[y : y + side, x : x + side] = rng.random((side, side)) < 0.95
        target = np.where(masks.any(0), 1, 0)
        target[:, 125:130] = IGNORE
        images.append((some(masks, labels, rng.random(4)), some(masks, labels), target))
    metric = measure(spec_of(3), images)
    assert values_of(metric) == dict.fromkeys(InstanceScores.names, 1.0)
    for row in metric.per_class().values():
        assert row.pop("objects") == 6
        assert set(row.values()) == {1.0}


@quick
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_what_is_found_in_void_alone_changes_nothing(seed, other):
    images, rng = cases(seed), np.random.default_rng(other)
    more = []
    for found, truth, target in images:
        void = (target == IGNORE) & ~objects.union(truth.rles, truth.size)
        masks = rectangles(rng, 3, target.shape, 9) & void
        masks = masks[masks.any((1, 2))]
        extra = some(masks, rng.integers(1, 3, len(masks)), rng.random(len(masks)), size=target.shape)
        joined = [np.concatenate([a, b]) for a, b in zip(found[2:], extra[2:], strict=True)]
        more.append((Instances(found.size, found.rles + extra.rles, *joined), truth, target))
    plain, changed = measure(spec_of(3), images), measure(spec_of(3), more)
    # Boxes of void are compared with those of objects, whose area may well be void: box AP is not among them.
    keep = [n for n in InstanceScores.names if "box" not in n]
    np.testing.assert_equal(*([values_of(m)[n] for n in keep] for m in (plain, changed)))


def test_a_line_gives_back_every_bit():
    rng = np.random.default_rng(0)
    found, truth, target = scene(rng, 4, (14, 17), 5, 9, many=5)
    found = found._replace(
        scores=np.nextafter(rng.random(len(found.rles)), 1), boxes=found.boxes + rng.random(found.boxes.shape)
    )
    segments = truth._replace(scores=rng.random(len(truth.rles)))
    void = rle.encode((target == 0)[None])[0]
    again = _scene(json.loads(_line(3, found, segments, truth, void)))
    for mine, theirs in zip((again.found, again.segments, again.truth), (found, segments, truth), strict=True):
        assert (mine.size, mine.rles) == (theirs.size, theirs.rles)
        for a, b in zip(mine[2:], theirs[2:], strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    assert again.void == void
    alone = _scene(json.loads(_line(3, found, found, truth, None)))
    assert alone.segments is alone.found
    assert alone.void is None


def test_void_ends_where_a_true_object_begins():
    # All is void but for what is true: the object still counts, and so does a crowd of its own class alone.
    found, truth, target = strip([(0, 4), (4, 8)], [(0, 4), (4, 8)], crowd=[False, True], void=(0, 12), labels=[1, 2])
    table = measure(spec_of(3), [(found, truth, target)]).per_class()
    assert table["c1"]["pq"] == 1
    assert table["c2"]["f1_50"] == 0  # a crowd of class 1 does not excuse class 2


def test_wrong_calls_are_refused_and_reset_and_pickle_work():
    with pytest.raises(ConfigError, match=r"metrics\.objects\.detections is 0; it must be at least 1"):
        InstanceScores(spec_of(3), detections=0)
    found, truth, target = strip([(0, 4)], [(0, 4)])
    metric, ids = InstanceScores(spec_of(2)), torch.from_numpy(target)[None]
    with pytest.raises(ValueError, match="true objects"):
        metric.update(ids, ids, torch.tensor([0]), [found])
    with pytest.raises(ValueError, match=r"Image 7 of the split.*\(1, 11\), \(1, 12\)"):
        metric.update(ids, ids[..., :11], torch.tensor([7]), [found], [truth])
    with pytest.raises(ValueError, match="zip"):
        metric.update(ids, ids, torch.tensor([0, 1]), [found], [truth])
    metric = measure(spec_of(2), [(found, truth, target)])
    assert pickle.loads(pickle.dumps(metric)).compute()["ap"] == 1
    metric.compute()
    metric.reset()
    add(metric, [strip([(5, 9)], [(0, 4)])], [0])
    assert metric.compute()["ap"] == 0
    assert metric.per_class()["c1"]["pq"] == 0
